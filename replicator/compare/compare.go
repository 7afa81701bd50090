package compare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/mm2"
	"github.com/milena-kafka/milena/replicator/plan"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// LookEvery is how often topics, leaders and ends are asked for.
	lookEvery = 5 * time.Second
	// StudyEvery is how often the whole plan is made again, with the configs of all topics.
	studyEvery = time.Minute
	// PublishEvery is how often a new picture of the comparison is made.
	publishEvery = 250 * time.Millisecond
	// LookTimeout is how long that may take.
	lookTimeout = 15 * time.Second
	// FinalRounds is how long what stands on the target in the end may take to be compared.
	finalRounds = 30 * time.Second
	// RoundPause is the pause after a round in which nothing came, besides the wait of the fetches.
	roundPause = 100 * time.Millisecond

	// WindowTotal is how many source records are kept at most of all partitions, some 60 bytes each. WindowLeast is what a partition
	// may have of them in any case.
	windowTotal = 1 << 22
	windowLeast = 1 << 10
	// WindowFollowed is what it may have while there is room: of records that MirrorMaker 2 has copied, which a restart may let it copy again,
	// and of those that it has not.
	windowFollowed = 1 << 19
)

// Comparison is milena in shadow mode beside a running MirrorMaker 2: it reads both clusters, writes to neither, and says how far each is and
// what would differ if milena did the work. Make it with New, run it once with Run; Comparison may be called at any time.
//
// One loop reads the target's news, then the source's, then pairs them. A copy is read before the source, so a target record whose like is
// not on the source up to the end that is answered afterwards is none of the source's.
type Comparison struct {
	clusters       client.Clusters
	whole          bool // compare each copy from its beginning
	log            *slog.Logger
	source, target *kgo.Client
	sides          [2]side // target, source
	topics         *topics.Syncer
	books          *offsets.Client // of the target
	progress       *offsets.MirrorProgress
	seed           maphash.Seed

	sourceView, targetView topics.View
	pairs                  []topics.Pair
	plan                   *plan.Plan
	studied                time.Time
	compacted              map[string]bool // target topics
	followed               map[offsets.TopicPartition]*followed
	order                  []*followed // by topic and partition
	turn                   int         // where in the order the next round begins
	level                  int         // what one partition may have of the window
	groups                 []GroupComparison
	trouble                string // why the last look failed
	over                   bool   // no more is read

	began  time.Time
	stale  atomic.Bool // a fetch says that the metadata is old
	latest atomic.Pointer[Report]
}

// New makes the clients. It reaches no network. With whole, copies are compared from their beginning, not only
// from where they are now.
func New(o client.Clusters, whole bool) (*Comparison, error) {
	c := &Comparison{
		clusters: o, whole: whole, log: o.Log.With("flow", o.Flow.Name), seed: maphash.MakeSeed(),
		followed: make(map[offsets.TopicPartition]*followed), level: windowFollowed, began: time.Now(),
	}
	var err error
	if c.source, c.target, err = o.Open(); err != nil {
		return nil, err
	}
	if c.topics, err = topics.NewSyncer(c.source, c.target, o.Flow, o.Log); err != nil {
		c.close()
		return nil, err
	}
	unobserved := func(string, time.Duration, error) {}
	c.sides = [2]side{
		{wire: wire.Kgo{Client: c.target, Observe: unobserved}, alias: o.Flow.Target, cluster: o.Target, isolation: 1, view: &c.targetView, ask: (*followed).askTarget, take: (*followed).takeTarget},
		// Read uncommitted whatever the flow reads: MirrorMaker 2 may be ahead of an open transaction. Which ones were aborted, their markers say.
		{wire: wire.Kgo{Client: c.source, Observe: unobserved}, alias: o.Flow.Source, cluster: o.Source, view: &c.sourceView, ask: (*followed).askSource, take: (*followed).takeSource},
	}
	c.latest.Store(&Report{Flow: o.Flow.Name, Source: o.Flow.Source, Target: o.Flow.Target})
	return c, nil
}

func (c *Comparison) close() {
	c.source.Close()
	c.target.Close()
}

// Report is what is known now; the picture is renewed some times a second.
func (c *Comparison) Report() *Report { return c.latest.Load() }

// Run compares until ctx ends, which gives nil, or returns why it did not begin. A cluster that is lost later is waited for, and said in
// the comparison.
func (c *Comparison) Run(ctx context.Context) error {
	defer c.close()
	if err := c.begin(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("flow %s: nothing was compared, it ended before both clusters had answered: %w", c.clusters.Flow.Name, err)
		}
		return err
	}
	looked, published := time.Now(), time.Time{}
	for ctx.Err() == nil {
		if c.stale.Swap(false) || time.Since(looked) > lookEvery {
			c.look(ctx)
			looked = time.Now()
		}
		moved := c.round(ctx)
		c.spread()
		if time.Since(published) > publishEvery {
			c.publish()
			published = time.Now()
		}
		if !moved && client.Sleep(ctx, roundPause) != nil {
			break
		}
	}
	c.conclude(context.WithoutCancel(ctx))
	return nil
}

// conclude makes the picture complete: what stands on the target when the comparison ends is compared, and what MirrorMaker 2 did meanwhile
// with topics and groups counts.
func (c *Comparison) conclude(ctx context.Context) {
	rest, cancel := context.WithTimeout(ctx, finalRounds)
	defer cancel()
	ends, err := kadm.NewClient(c.target).ListCommittedOffsets(rest, topics.TargetNames(c.pairs)...)
	unread := func(p *followed) bool {
		end, ok := ends.Lookup(p.target, p.Partition)
		return ok && end.Err == nil && p.problem == "" && (p.targetNext < end.Offset || len(p.waiting) > 0 && p.waiting[0].offset < end.Offset)
	}
	for err == nil && rest.Err() == nil && slices.ContainsFunc(c.order, unread) {
		if c.stale.Swap(false) {
			c.look(rest)
		}
		if !c.round(rest) {
			err = client.Sleep(rest, roundPause)
		}
		c.spread()
	}
	c.studied, c.over = time.Time{}, true
	c.look(ctx)
	c.publish()
}

// begin reaches both clusters and reads what MirrorMaker 2 noted of its progress.
func (c *Comparison) begin(ctx context.Context) error {
	if err := c.study(ctx); err != nil {
		return err
	}
	clusters := c.clusters
	flow := &clusters.Flow
	flow.TakeOver = cmp.Or(flow.TakeOver, "mm2-offsets."+flow.Source+".internal") // a milena.yaml need not name it
	var err error
	if c.progress, err = mm2.ReadProgress(ctx, clusters, c.source, c.target); err != nil {
		return err
	}
	if c.books, err = offsets.Open(ctx, offsets.Options{Client: c.target, Names: c.clusters.InternalTopics()}); err != nil {
		return c.clusters.TargetError(err)
	}
	return c.readGroups(ctx)
}

// look asks for what changes beside the records: topics, leaders, ends, checkpoints.
func (c *Comparison) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := c.lookAtTopics(ctx)
	if err == nil {
		err = errors.Join(c.lookAtEnds(ctx), c.readGroups(ctx))
	}
	switch {
	case err == nil:
		c.trouble = ""
	case !errors.Is(err, context.Canceled): // else it is the end that cut it short
		c.trouble = err.Error()
	}
}

// lookAtTopics reads the metadata, and makes the plan anew when MirrorMaker 2 or anybody else has changed topics, or some time has passed.
func (c *Comparison) lookAtTopics(ctx context.Context) error {
	if time.Since(c.studied) > studyEvery {
		return c.study(ctx)
	}
	source, err := topics.Read(ctx, c.source)
	if err != nil {
		return c.clusters.SourceError(err)
	}
	target, err := topics.Read(ctx, c.target)
	if err != nil {
		return c.clusters.TargetError(err)
	}
	pairs, _ := c.topics.Select(source, target)
	same := func(a, b topics.Pair) bool {
		return a.Source.ID == b.Source.ID && a.Target.ID == b.Target.ID && a.TargetName == b.TargetName && a.Action() == b.Action()
	}
	if !slices.EqualFunc(pairs, c.pairs, same) {
		return c.study(ctx)
	}
	c.sourceView, c.targetView = source, target
	c.follow(pairs)
	return nil
}

// study makes the whole plan.
func (c *Comparison) study(ctx context.Context) error {
	inspected, err := plan.Inspect(ctx, c.clusters, c.source, c.target)
	if err != nil {
		return err
	}
	c.plan, c.compacted, c.sourceView, c.targetView, c.studied = inspected.Plan, inspected.Compacted, inspected.Source, inspected.Target, time.Now()
	c.follow(inspected.Pairs)
	return nil
}

// follow begins with partitions that are new, and again with those of a topic that was made again. What is gone is no longer compared.
func (c *Comparison) follow(pairs []topics.Pair) {
	c.pairs = pairs
	wanted := make(map[offsets.TopicPartition]*followed, len(c.followed))
	c.order = c.order[:0]
	for _, pair := range pairs {
		for n := range pair.Source.Partitions {
			tp := offsets.TopicPartition{Topic: pair.Source.Name, Partition: int32(n)}
			p := c.followed[tp]
			if p == nil || p.sourceID != pair.Source.ID || p.targetID != pair.Target.ID {
				p = newFollowed(tp, pair, c.clusters.Flow.Isolation)
				p.whole = c.whole
			}
			p.absent = n >= len(pair.Target.Partitions)
			p.compacted = c.compacted[pair.TargetName]
			wanted[tp] = p
			c.order = append(c.order, p)
		}
	}
	c.followed = wanted
}

// lookAtEnds learns the ends of the source where no fetch tells them.
func (c *Comparison) lookAtEnds(ctx context.Context) error {
	ends, err := kadm.NewClient(c.source).ListEndOffsets(ctx, topics.SourceNames(c.pairs)...)
	var shard *kadm.ShardErrors
	if err != nil && !errors.As(err, &shard) {
		return fmt.Errorf("list offsets of cluster %s: %w", c.clusters.Flow.Source, err)
	}
	for tp, p := range c.followed {
		if end, ok := ends.Lookup(tp.Topic, tp.Partition); ok && end.Err == nil {
			p.sourceEnd = max(p.sourceEnd, end.Offset)
		}
	}
	return nil
}

// readGroups holds MirrorMaker 2's checkpoints against the pairs that were found.
func (c *Comparison) readGroups(ctx context.Context) error {
	c.groups = nil
	list, err := c.books.Checkpoints(ctx, c.clusters.Flow.Source)
	if errors.As(err, new(*offsets.NoCheckpointsError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read MirrorMaker 2's checkpoints on cluster %s: %w", c.clusters.Flow.Target, err)
	}
	byTarget := make(map[offsets.TopicPartition]*followed, len(c.order))
	for _, p := range c.order {
		byTarget[offsets.TopicPartition{Topic: p.target, Partition: p.Partition}] = p
	}
	for _, checkpoint := range list {
		p := byTarget[offsets.TopicPartition{Topic: checkpoint.Topic, Partition: checkpoint.Partition}]
		if p == nil {
			continue
		}
		if exact, ok := p.translate(checkpoint.Source); ok {
			c.groups = append(c.groups, GroupComparison{
				Group: checkpoint.Group, Topic: p.Topic, Partition: p.Partition, Committed: checkpoint.Source,
				Mirrored: checkpoint.Target, Exact: exact, ReadAgain: exact - checkpoint.Target,
			})
		}
	}
	return nil
}

// windowSize is how many source records a partition keeps before and behind its newest match.
type windowSize struct{ behind, ahead int }

// spread gives each partition its part of the window.
func (c *Comparison) spread() {
	sizes := make([]windowSize, len(c.order))
	for i, p := range c.order {
		sizes[i].behind, sizes[i].ahead = p.matcher.Size()
	}
	c.level = levelOf(sizes)
	for _, p := range c.order {
		p.limit(c.level)
	}
}

// levelOf is what one partition may have of the window: as much as there is room for, and the same for all that want more.
func levelOf(sizes []windowSize) int {
	level := windowFollowed
	for ; level > windowLeast; level /= 2 {
		total := 0
		for _, s := range sizes {
			total += min(s.behind, 2*level) + min(s.ahead, level) // a matcher trims in steps of its limit
		}
		if total <= windowTotal {
			break
		}
	}
	return level
}
