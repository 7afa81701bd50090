package offsets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Options are the options of a [Client]. One of Client and Kafka must be set.
type Options struct {
	// Client is the caller's client of the cluster. It is not closed, and a consumer in it notices nothing.
	Client *kgo.Client
	// Kafka are options to make a client with, which Close closes.
	Kafka []kgo.Opt
	// Names are the separators that the flows to this cluster use.
	Names Names
	// Memory bounds the segments that are kept of each journal, in bytes; 0 is 32 MiB.
	Memory int64
	// MaxAge is how old an answer may be before the cluster is asked again; 0 is one second.
	MaxAge time.Duration
	// Log hears of records that cannot be read; nil is silence.
	Log *slog.Logger
}

// Client translates offsets on a cluster that one or more flows write to. It answers from the flows' journals, exactly,
// and where there is none from MirrorMaker 2's topics; every answer says which. Make it with [Open]. It is safe for
// concurrent use.
type Client struct {
	kafka      *kgo.Client
	owned      bool
	names      Names
	journal    JournalOptions
	log        *slog.Logger
	unreadable atomic.Int64

	mu       sync.Mutex
	listed   time.Time
	topics   []string
	journals map[string]*Journal    // by topic
	homes    map[partitionKey]*home // by target partition
	books    map[string]*bookReader // by topic
}

// home is the journal that describes a target partition, and the name on the source.
type home struct {
	journal *Journal
	topic   string
}

// Open lists the cluster's topics and reads nothing else until it is asked. It returns an error if the cluster cannot be
// reached before ctx ends.
func Open(ctx context.Context, o Options) (*Client, error) {
	c := &Client{
		kafka: o.Client, names: o.Names, log: o.Log,
		journal:  JournalOptions{Memory: o.Memory, MaxAge: cmp.Or(o.MaxAge, time.Second), Log: o.Log},
		journals: make(map[string]*Journal), homes: make(map[partitionKey]*home),
		books: make(map[string]*bookReader),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.kafka == nil {
		kafka, err := kgo.NewClient(o.Kafka...)
		if err != nil {
			return nil, err
		}
		c.kafka, c.owned = kafka, true
	}
	if err := c.list(ctx, 0); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close closes the client that Open made; one of the caller's stays open.
func (c *Client) Close() {
	if c.owned {
		c.kafka.Close()
	}
}

// Unreadable is how many records of journals and of MirrorMaker 2's topics could not be read and were left out.
func (c *Client) Unreadable() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.unreadable.Load()
	for _, j := range c.journals {
		n += j.Unreadable()
	}
	return n
}

// list asks for the topics, unless that was done less than maxAge ago.
func (c *Client) list(ctx context.Context, maxAge time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.listed) < maxAge {
		return nil
	}
	began := time.Now()
	details, err := kadm.NewClient(c.kafka).ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	c.topics, c.listed = details.Names(), began
	for _, topic := range c.topics {
		if _, ok := FlowOf(topic); ok && c.journals[topic] == nil {
			c.journals[topic] = NewJournal(c.kafka, topic, c.journal)
		}
	}
	return nil
}

// listAge is how long a list of topics is believed.
const listAge = 10 * time.Second

func (c *Client) topicNames(ctx context.Context) ([]string, error) {
	err := c.list(ctx, listAge)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topics, err
}

// Flows are the names of the flows that keep a journal on this cluster, sorted.
func (c *Client) Flows(ctx context.Context) ([]string, error) {
	topics, err := c.topicNames(ctx)
	var flows []string
	for _, topic := range topics {
		if flow, ok := FlowOf(topic); ok {
			flows = append(flows, flow)
		}
	}
	slices.Sort(flows)
	return flows, err
}

// Journal is the journal of one flow to this cluster.
func (c *Client) Journal(ctx context.Context, flow string) (*Journal, error) {
	if err := c.list(ctx, listAge); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	topic := JournalTopic(flow)
	if j := c.journals[topic]; j != nil {
		return j, nil
	}
	return nil, &NoJournalError{Topic: topic}
}

// Sources are the aliases of the clusters that are copied to this one, directly or over others, as far as heartbeats or
// checkpoints tell; MirrorClient.upstreamClusters.
func (c *Client) Sources(ctx context.Context) ([]string, error) {
	topics, err := c.topicNames(ctx)
	var sources []string
	for _, topic := range topics {
		if c.names.IsHeartbeats(topic) {
			sources = append(sources, c.names.Sources(topic)...)
		} else if source, ok := c.names.CheckpointsOf(topic); ok {
			sources = append(sources, source)
		}
	}
	slices.Sort(sources)
	return slices.Compact(sources), err
}

// Hops is how many flows lie between a source and this cluster by the shortest way, -1 if no heartbeat came from there;
// MirrorClient.replicationHops.
func (c *Client) Hops(ctx context.Context, source string) (int, error) {
	topics, err := c.topicNames(ctx)
	hops := -1
	for _, topic := range topics {
		if !c.names.IsHeartbeats(topic) {
			continue
		}
		if n := c.names.Hops(topic, source); n > 0 && (hops < 0 || n < hops) {
			hops = n
		}
	}
	return hops, err
}

// RemoteTopics are the topics whose names say that they were copied from a source directly, or from any if it is empty;
// MirrorClient.remoteTopics.
func (c *Client) RemoteTopics(ctx context.Context, source string) ([]string, error) {
	topics, err := c.topicNames(ctx)
	var remote []string
	for _, topic := range topics {
		from, _, ok := c.names.Split(topic)
		if ok && (source == "" || from == source) && !c.isInternal(topic) {
			remote = append(remote, topic)
		}
	}
	slices.Sort(remote)
	return remote, err
}

func (c *Client) isInternal(topic string) bool {
	_, journal := FlowOf(topic)
	_, checkpoints := c.names.CheckpointsOf(topic)
	return journal || checkpoints || len(topic) > 1 && topic[:2] == "__" || topic[0] == '.' || isMM2Internal(topic, c.names.internal())
}

// Forward translates an offset of a source partition, named by its copy: the place in a target topic that belongs to an
// offset of the topic that it is a copy of. Errors: *[NotReplicatedError] if nothing here knows the partition,
// *[NotCopiedError] with how far the copy is, *[BeforeStartError], *[VersionError], *[CorruptError], errors of the cluster.
func (c *Client) Forward(ctx context.Context, targetTopic string, partition int32, source int64) (Translation, error) {
	h, err := c.find(ctx, targetTopic, partition)
	if err == nil {
		return h.journal.Forward(ctx, h.topic, partition, source)
	}
	if t, ok := c.forwardBySyncs(ctx, targetTopic, partition, source); ok {
		return t, nil
	}
	return Translation{}, err
}

// Reverse translates an offset of a target partition back. Errors as for [Client.Forward]; MirrorMaker 2's topics do not
// lead back, so only a journal answers.
func (c *Client) Reverse(ctx context.Context, targetTopic string, partition int32, target int64) (Translation, error) {
	h, err := c.find(ctx, targetTopic, partition)
	if err != nil {
		return Translation{}, err
	}
	return h.journal.Reverse(ctx, h.topic, partition, target)
}

// At translates a moment: the first copied record with a timestamp at or after it, on both sides. Where there is none the
// answer is the end of the copy. It may block for reading a part of the topic. Errors as for [Client.Reverse].
func (c *Client) At(ctx context.Context, targetTopic string, partition int32, moment time.Time) (Translation, error) {
	log := logReader{topicLeaders: &topicLeaders{client: c.kafka, topic: targetTopic}, partition: partition}
	target, err := log.offset(ctx, moment.UnixMilli())
	if err != nil {
		return Translation{}, err
	}
	h, err := c.find(ctx, targetTopic, partition)
	if err != nil {
		return Translation{}, err
	}
	t, err := h.journal.Reverse(ctx, h.topic, partition, max(target, 0))
	if err == nil && target >= 0 && !t.Exact {
		// Brokers date markers too, and one of today stands before old records: the records behind it are looked at one by one.
		if target, err = firstSince(ctx, &log, t.Target, t.End.Target, moment); err != nil {
			return Translation{}, err
		}
		t, err = h.journal.Reverse(ctx, h.topic, partition, max(target, 0))
	}
	var late *NotCopiedError
	switch {
	case target < 0 && err == nil:
		t.Source, t.Target, t.Exact = t.End.Source, t.End.Target, true
	case errors.As(err, &late) && target >= 0:
		return t, fmt.Errorf("%w; the journal is a moment behind, ask again", err)
	}
	return t, err
}

// firstSince is the offset of the first record in [from, to) with a timestamp at or after a moment, -1 if there is none.
func firstSince(ctx context.Context, log *logReader, from, to int64, moment time.Time) (int64, error) {
	found := int64(-1)
	err := log.read(ctx, from, to, fetchBytes, func(records []*kgo.Record, _ int64) error {
		for _, r := range records {
			if r.Offset < to && r.Timestamp.UnixMilli() >= moment.UnixMilli() {
				found = r.Offset
				return errFound
			}
		}
		return nil
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return found, err
}

// errFound ends a search.
var errFound = errors.New("found")

// find is the journal that describes a target partition.
func (c *Client) find(ctx context.Context, targetTopic string, partition int32) (*home, error) {
	key := partitionKey{targetTopic, partition}
	c.mu.Lock()
	h := c.homes[key]
	c.mu.Unlock()
	if h != nil {
		return h, nil
	}
	if err := c.list(ctx, listAge); err != nil {
		return nil, err
	}
	c.mu.Lock()
	journals := make([]*Journal, 0, len(c.journals))
	for _, j := range c.journals {
		journals = append(journals, j)
	}
	c.mu.Unlock()
	slices.SortFunc(journals, func(a, b *Journal) int { return cmp.Compare(a.leaders.topic, b.leaders.topic) })
	for _, j := range journals {
		state, err := j.Lookup(ctx, targetTopic, partition)
		var unknown *NotReplicatedError
		if errors.As(err, &unknown) {
			continue
		}
		if err != nil {
			return nil, err
		}
		h = &home{journal: j, topic: state.Topic}
		c.mu.Lock()
		c.homes[key] = h
		c.mu.Unlock()
		return h, nil
	}
	return nil, &NotReplicatedError{Topic: targetTopic, Partition: partition}
}

// GroupPosition is where a group has to go on in one partition.
type GroupPosition struct {
	Translation
	Group    string
	Metadata string // of the commit that was translated
	// Lag is how many offsets lie between the position and the end of the partition on this cluster; -1 if that is not known.
	Lag int64
	// Err is why there is no translation; then only the partition, and the side it was asked for, are set.
	Err error
}

// Group is where a group of a source, named by its alias, has to go on here, by topic and partition. Where the group was
// on the source is taken from the newest checkpoints, so that the source need not be there. Errors: *[NoCheckpointsError],
// *[UnknownGroupError]; those of single partitions are in the positions.
func (c *Client) Group(ctx context.Context, source, group string) ([]GroupPosition, error) {
	checkpoints, err := c.Checkpoints(ctx, source)
	if err != nil {
		return nil, err
	}
	var positions []GroupPosition
	for _, checkpoint := range checkpoints {
		if checkpoint.Group == group {
			positions = append(positions, c.groupPosition(ctx, checkpoint))
		}
	}
	if len(positions) == 0 {
		return nil, &UnknownGroupError{Group: group, Where: "the checkpoints of " + source}
	}
	return positions, c.Complete(ctx, positions)
}

// Complete adds the lag to positions that were translated one by one, and moves those whose records this cluster has
// deleted to the oldest that is left, as [Client.Group] does.
func (c *Client) Complete(ctx context.Context, positions []GroupPosition) error {
	return errors.Join(c.clamp(ctx, positions), c.addLag(ctx, positions))
}

// groupPosition translates a checkpoint by the journal, or takes its word for it.
func (c *Client) groupPosition(ctx context.Context, checkpoint WrittenCheckpoint) GroupPosition {
	p := GroupPosition{Group: checkpoint.Group, Metadata: checkpoint.Metadata, Lag: -1}
	p.Translation = Translation{
		TargetTopic: checkpoint.Topic, Partition: checkpoint.Partition, Source: checkpoint.Source, Target: checkpoint.Target,
		Origin: FromCheckpoint, AsOf: checkpoint.At,
	}
	h, err := c.find(ctx, checkpoint.Topic, checkpoint.Partition)
	if err != nil {
		return p
	}
	t, err := h.journal.Forward(ctx, h.topic, checkpoint.Partition, checkpoint.Source)
	var late *NotCopiedError
	switch {
	case errors.As(err, &late): // the group is ahead of the copy, or the journal a moment behind: never past what is copied
		p.Topic, p.Flow, p.End = t.Topic, t.Flow, t.End
		p.Target = max(p.Target, t.End.Target)
	case err == nil:
		p.Translation = t
	}
	return p
}

// GroupBack is where a group of this cluster has to go on in the topics that it was copied from, by topic and partition:
// what it committed here for copied topics, translated back by their journals. Topics that are no copies are left out.
// It returns an *[UnknownGroupError] if the group committed nothing here.
func (c *Client) GroupBack(ctx context.Context, group string) ([]GroupPosition, error) {
	fetched, err := kadm.NewClient(c.kafka).FetchOffsets(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("read the offsets of group %s: %w", group, err)
	}
	var positions []GroupPosition
	committed := 0
	for _, o := range fetched.Sorted() {
		if o.Err != nil || o.At < 0 {
			continue
		}
		committed++
		t, err := c.Reverse(ctx, o.Topic, o.Partition, o.At)
		var unknown *NotReplicatedError
		var late *NotCopiedError
		switch {
		case errors.As(err, &unknown):
			continue
		case errors.As(err, &late): // written by somebody else, or the journal is a moment behind
			t.Source, t.Target, t.Exact, err = t.End.Source, o.At, false, nil
		}
		t.TargetTopic, t.Partition, t.Target = o.Topic, o.Partition, o.At
		positions = append(positions, GroupPosition{Translation: t, Group: group, Metadata: o.Metadata, Lag: -1, Err: err})
	}
	if committed == 0 {
		return nil, &UnknownGroupError{Group: group, Where: "this cluster"}
	}
	if len(positions) == 0 {
		return nil, nil
	}
	return positions, c.addLag(ctx, positions)
}

// clamp moves a place whose record this cluster has deleted to the oldest that is left: out of range a consumer would go
// wherever its auto.offset.reset says.
func (c *Client) clamp(ctx context.Context, positions []GroupPosition) error {
	starts, err := kadm.NewClient(c.kafka).ListStartOffsets(ctx, topicsOf(positions)...)
	for i := range positions {
		p := &positions[i]
		if start, ok := starts.Lookup(p.TargetTopic, p.Partition); ok && p.Err == nil && start.Err == nil && start.Offset > p.Target {
			p.Target, p.Exact = start.Offset, false
		}
	}
	return err
}

// addLag asks where the positions' partitions end here.
func (c *Client) addLag(ctx context.Context, positions []GroupPosition) error {
	ends, err := kadm.NewClient(c.kafka).ListEndOffsets(ctx, topicsOf(positions)...)
	for i := range positions {
		p := &positions[i]
		if end, ok := ends.Lookup(p.TargetTopic, p.Partition); ok && p.Err == nil && end.Err == nil {
			p.Lag = max(0, end.Offset-p.Target)
		}
	}
	return err
}

// topicsOf are the target topics of positions, of which there is one at least: kadm takes none for all.
func topicsOf(positions []GroupPosition) []string {
	var topics []string
	for _, p := range positions {
		topics = append(topics, p.TargetTopic)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// Watch yields where a group has to go on here, as [Client.Group] does, whenever it changes, until ctx ends or the loop is
// left. An error is yielded too, and does not end it: a cluster comes back.
func (c *Client) Watch(ctx context.Context, source, group string) iter.Seq2[[]GroupPosition, error] {
	return func(yield func([]GroupPosition, error) bool) {
		tick := time.NewTicker(c.journal.MaxAge)
		defer tick.Stop()
		var last []place
		failed := false
		for {
			positions, err := c.Group(ctx, source, group)
			if ctx.Err() != nil {
				return
			}
			places := placesOf(positions)
			if err != nil || failed || last == nil || !slices.Equal(places, last) {
				if !yield(positions, err) {
					return
				}
			}
			last, failed = places, err != nil
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// place is what makes one position differ from another.
type place struct {
	topic     string
	partition int32
	Position
}

func placesOf(positions []GroupPosition) []place {
	places := make([]place, 0, len(positions))
	for _, p := range positions {
		places = append(places, place{p.TargetTopic, p.Partition, Position{p.Source, p.Target}})
	}
	return places
}
