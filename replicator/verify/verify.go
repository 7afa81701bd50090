package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// How many partitions are verified at a time. Each holds up to three responses of each side: one that is looked at, one that waits,
	// and one that is on its way.
	partitionsAtOnce = 8
	// How often progress is saved, and for how many times as long as saving it took it is not saved again.
	saveInterval = time.Second
	saveShare    = 20
	// How long reading the metadata of both clusters may take.
	metadataTimeout = 30 * time.Second
)

// Options are what a verification needs. Only Clusters is required.
type Options struct {
	client.Clusters
	Question Question
	// Rate limits what is read from each of the two clusters, in bytes per second of batches as they are in the log. 0 means no limit.
	Rate int64
	// Store keeps the progress, so that a later run goes on where this one was killed. nil keeps none.
	Store Store
	// Restart removes the progress of an earlier run and begins anew.
	Restart bool
	// Resumed is called, if it is set, when the verification goes on from the progress of an earlier run.
	Resumed func(Resumption)
	// Relative says that From is relative to when the verification began. A run that goes on keeps the time that the first one began with.
	Relative bool
	// Only says which partitions of the source are verified; nil means all.
	Only func(offsets.TopicPartition) bool
	// AtOnce is how many partitions are verified at a time. 0 means 8.
	AtOnce int
	// Turn is for how long one partition is verified. What is left then is not judged. 0 means to its end.
	Turn time.Duration
	// Wait is called, if it is set, before each request for records. It blocks for as long as there should be none, and returns only the error of ctx.
	Wait func(ctx context.Context) error
	// Patience is how long a log may be unreadable before it is given up. 0 means a minute.
	Patience time.Duration
}

// Question is what is verified.
type Question struct {
	// Topics are names of topics of the source; none means all that the flow selects.
	Topics []string `json:"topics,omitempty"`
	// From and To limit the records by timestamp: from the first one that is not older than From, to the first one that is not older than To,
	// exclusive. The zero time is no limit.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Sample is the part of the source offsets that is verified, above 0 and up to 1. 0 means all.
	Sample float64 `json:"sample,omitempty"`
}

// Verification proves that the copies of a flow are equal to their source, while the flow runs or not. It writes to neither cluster. Create it with
// [New], call [Verification.Run] once, and [Verification.Report] and [Verification.Progress] at any time.
type Verification struct {
	options        Options
	source, target *cluster
	lines          []*wire.Lines
	sourceID       string // cluster id
	targetID       string
	sample         sample
	began          time.Time
	first          time.Time // when the first of the runs began that this one goes on from

	mu         sync.Mutex
	partitions []*partition // set once, by topic and number
	notCopied  map[string]string
}

// New creates a verification. It does not connect yet. An error means that an option is wrong.
func New(o Options) (*Verification, error) {
	if o.Question.Sample <= 0 || o.Question.Sample > 1 {
		o.Question.Sample = 1
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	if o.AtOnce <= 0 {
		o.AtOnce = partitionsAtOnce
	}
	if o.Only == nil {
		o.Only = func(offsets.TopicPartition) bool { return true }
	}
	v := &Verification{options: o, began: time.Now(), first: time.Now(), sample: sample{part: o.Question.Sample, seed: uint64(time.Now().UnixNano())}}
	source, target, err := o.Open()
	if err != nil {
		return nil, err
	}
	isolation := wire.ReadUncommitted
	if o.Flow.Isolation == config.ReadCommitted {
		isolation = wire.ReadCommitted
	}
	v.source = &cluster{side: offsets.Source, alias: o.Flow.Source, config: o.Source, client: source, isolation: isolation}
	v.target = &cluster{side: offsets.Target, alias: o.Flow.Target, config: o.Target, client: target, isolation: wire.ReadCommitted}
	buffers := &wire.Buffers{}
	for _, c := range []*cluster{v.source, v.target} {
		if err := v.connect(c, buffers); err != nil {
			v.close()
			return nil, err
		}
	}
	return v, nil
}

// connect prepares how the logs of a cluster are read.
func (v *Verification) connect(c *cluster, buffers *wire.Buffers) error {
	network, err := client.NewNetwork(c.config, &client.Dials{})
	if err != nil {
		return fmt.Errorf("clusters.%s.%w", c.alias, err)
	}
	lines := wire.NewLines(wire.Access{Network: network, Address: c.address, Observe: func(string, time.Duration, error) {}, Buffers: buffers})
	v.lines = append(v.lines, lines)
	c.fetcher, c.bounds, c.maxBytes, c.patience, c.wait = lines, c.listBounds, fetchBytes, v.options.Patience, v.options.Wait
	if limit := v.options.Rate; limit > 0 {
		c.limiter = rate.NewLimiter(rate.Limit(limit), int(min(limit, fetchBytes)))
		c.maxBytes = int32(min(limit, fetchBytes)) //nolint:gosec // at most fetchBytes
	}
	return nil
}

func (v *Verification) close() {
	for _, l := range v.lines {
		l.Close()
	}
	v.source.client.Close()
	v.target.client.Close()
}

// Run verifies until everything is judged or ctx ends, and blocks. What was found is in [Verification.Report]. An error means that nothing could be
// verified, that the progress cannot be kept, or that ctx ended.
func (v *Verification) Run(ctx context.Context) error {
	defer v.close()
	if err := v.begin(ctx); err != nil {
		return err
	}
	saving, stop := context.WithCancel(ctx)
	var saver errgroup.Group
	saver.Go(func() error { return v.keepSaving(saving) })
	err := v.verifyAll(ctx)
	stop()
	err = errors.Join(err, saver.Wait())
	if err == nil {
		v.confirm(ctx)
		return v.forget(ctx)
	}
	return errors.Join(err, v.save(context.WithoutCancel(ctx)))
}

func (v *Verification) verifyAll(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(v.options.AtOnce)
	for _, p := range v.partitions {
		group.Go(func() error { return p.verify(ctx, v) })
	}
	return group.Wait()
}

// begin reads the metadata, the journal and the saved progress, and chooses what to verify.
func (v *Verification) begin(ctx context.Context) error {
	saved, err := v.load(ctx)
	if err != nil {
		return err
	}
	pairs, err := v.selectTopics(ctx)
	if err != nil {
		return err
	}
	v.addPartitions(pairs)
	tps := make([]offsets.TopicPartition, 0, len(v.partitions))
	for _, p := range v.partitions {
		tps = append(tps, p.source.TopicPartition)
	}
	// The journal is read before the bounds of the logs, so that these have what it says.
	pl := &placing{reading: v.read(ctx, tps), question: v.options.Question, pairs: make(map[string]topics.Pair, len(pairs))}
	for _, pair := range pairs {
		pl.pairs[pair.Source.Name] = pair
	}
	limited, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	pl.compacted = v.readCompaction(limited, pairs)
	pl.bounds = topics.ListBounds(limited, v.source.client, v.target.client, pairs, v.options.Only)
	if err := v.place(ctx, pl); err != nil {
		return err
	}
	v.resume(saved)
	return nil
}

// read reads the journal.
func (v *Verification) read(ctx context.Context, tps []offsets.TopicPartition) *offsets.Reading {
	journal := offsets.NewJournal(v.target.client, offsets.JournalTopic(v.options.Flow.Name), offsets.JournalOptions{Log: v.options.Log})
	reading := journal.Reading()
	reading.Prepare(ctx, tps)
	return reading
}

// selectTopics reads the metadata of both clusters and returns the topics that are verified.
func (v *Verification) selectTopics(ctx context.Context) ([]topics.Pair, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	var views [2]topics.View
	var group errgroup.Group
	for i, c := range []*cluster{v.source, v.target} {
		group.Go(func() error {
			view, err := topics.Read(ctx, c.client)
			if err != nil {
				return c.explain(err)
			}
			views[i] = view
			c.setView(view)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	v.sourceID, v.targetID = views[0].ClusterID, views[1].ClusterID
	syncer, err := topics.NewSyncer(v.source.client, v.target.client, v.options.Flow, v.options.Log)
	if err != nil {
		return nil, err
	}
	pairs, refused := syncer.Select(views[0], views[1])
	wanted := v.options.Question.Topics
	notCopied := make(map[string]string)
	for _, r := range refused {
		if len(wanted) == 0 || slices.Contains(wanted, r.Topic) {
			notCopied[r.Topic] = r.Reason
		}
	}
	var unknown []string
	for _, name := range wanted {
		if notCopied[name] == "" && !slices.ContainsFunc(pairs, func(p topics.Pair) bool { return p.Source.Name == name }) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("flow %s copies no topic %s of cluster %s: name topics of the source that the config selects", v.options.Flow.Name, strings.Join(unknown, ", "), v.source.alias)
	}
	if len(wanted) > 0 {
		pairs = slices.DeleteFunc(pairs, func(p topics.Pair) bool { return !slices.Contains(wanted, p.Source.Name) })
	}
	pairs = slices.DeleteFunc(pairs, func(p topics.Pair) bool { return len(v.partitionsOf(p)) == 0 && len(p.Source.Partitions) > 0 })
	v.mu.Lock()
	defer v.mu.Unlock()
	v.notCopied = notCopied
	return pairs, nil
}

// partitionsOf returns the partitions of a topic that are verified.
func (v *Verification) partitionsOf(pair topics.Pair) (list []int32) {
	for n := range int32(len(pair.Source.Partitions)) {
		if v.options.Only(offsets.TopicPartition{Topic: pair.Source.Name, Partition: n}) {
			list = append(list, n)
		}
	}
	return list
}

// addPartitions creates the partitions of the topics.
func (v *Verification) addPartitions(pairs []topics.Pair) {
	var list []*partition
	for _, pair := range pairs {
		for _, n := range v.partitionsOf(pair) {
			p := &partition{
				source: logRange{TopicPartition: offsets.TopicPartition{Topic: pair.Source.Name, Partition: n}, id: pair.Source.ID},
				target: logRange{TopicPartition: offsets.TopicPartition{Topic: pair.TargetName, Partition: n}, id: pair.Target.ID},
				found:  Partition{Topic: pair.Source.Name, TargetTopic: pair.TargetName, Partition: n},
			}
			if v.options.Flow.Provenance {
				p.facts.sourceID, p.facts.targetID = v.sourceID, v.targetID
			}
			list = append(list, p)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.partitions = list
}

// confirm reads the journal again: what was verified by a map that is no longer valid was not.
func (v *Verification) confirm(ctx context.Context) {
	var tps []offsets.TopicPartition
	for _, p := range v.partitions {
		if p.pending {
			tps = append(tps, p.source.TopicPartition)
		}
	}
	reading := v.read(ctx, tps)
	for _, p := range v.partitions {
		if !p.pending {
			continue
		}
		state, err := reading.State(ctx, p.source.TopicPartition)
		switch {
		case err != nil:
			p.found.NotVerified = "the journal cannot be read again: " + v.target.explain(err).Error()
		case state.Generation != p.generation || offsets.IsAnotherTopic(state.SourceTopicID, p.source.id) || offsets.IsAnotherTopic(state.TargetTopicID, p.target.id):
			p.found.NotVerified, p.found.Counts, p.found.Differences = "the copy was begun anew while it was verified", Counts{}, nil
		default:
			continue
		}
		p.found.conclude()
		p.publish()
	}
}

// Report returns what was found up to now. It is complete once Run has returned nil.
func (v *Verification) Report() *Report {
	q := v.options.Question
	r := &Report{
		Flow: v.options.Flow.Name, Source: v.options.Flow.Source, Target: v.options.Flow.Target, Started: v.began, Seconds: time.Since(v.began).Seconds(),
		From: q.From, To: q.To, Sample: v.sample.part, Partitions: []Partition{},
	}
	v.mu.Lock()
	r.NotCopied = v.notCopied
	partitions := v.partitions
	v.mu.Unlock()
	for _, p := range partitions {
		r.Partitions = append(r.Partitions, p.report())
	}
	r.conclude()
	return r
}

// Progress is how far a verification is.
type Progress struct {
	Offsets, Total int64 // source offsets that are judged, and that are to be
	Bytes          int64 // of batches of the source
	Differing      int64 // records
}

// Progress returns how far the verification is.
func (v *Verification) Progress() (sum Progress) {
	v.mu.Lock()
	partitions := v.partitions
	v.mu.Unlock()
	for _, p := range partitions {
		p.mu.Lock()
		if p.published.Verified != nil {
			sum.Offsets += p.published.Verified.SourceTo - p.published.Verified.SourceFrom
			sum.Total += p.to.Source - p.from.Source
		}
		sum.Bytes += p.published.Bytes
		sum.Differing += p.published.Differing
		p.mu.Unlock()
	}
	return sum
}
