package offsets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Options are the options of a [Client]. Client or Kafka must be set.
type Options struct {
	// Client is the caller's client of the cluster. It is not closed, and a consumer in it is not affected.
	Client *kgo.Client
	// Kafka are the options of a new client, which Close closes.
	Kafka []kgo.Opt
	// Names are the separators of the flows to this cluster.
	Names Names
	// Memory bounds the segments in memory of each journal, in bytes. 0 means 32 MiB.
	Memory int64
	// MaxAge is the maximum age of an answer before the cluster is asked again. 0 means one second.
	MaxAge time.Duration
	// OffsetSyncsHere says that MirrorMaker 2's flows to this cluster keep their offset-syncs here
	// (offset-syncs.topic.location=target). If it is not set, offset-syncs are used only if they can have no other
	// meaning: by default the flows away from this cluster keep theirs here, under the same names.
	OffsetSyncsHere bool
	// OnlyFlow is a flow whose journal alone answers: neither those of other flows, which may describe topics of the same
	// names, nor offset-syncs, which are not exact. Empty means all.
	OnlyFlow string
	// Log receives warnings about records that cannot be decoded. nil discards them.
	Log *slog.Logger
}

// Client translates offsets on a cluster that flows write to. It answers from the flows' journals, exactly, and
// otherwise from MirrorMaker 2's internal topics. Each answer says which. Create it with [Open]. It is safe for
// concurrent use.
type Client struct {
	kafka      *kgo.Client
	owned      bool
	names      Names
	journal    JournalOptions
	log        *slog.Logger
	unreadable atomic.Int64

	offsetSyncsHere bool
	onlyFlow        string

	listing        chan struct{} // holds one token while topics are listed
	mu             sync.Mutex    // never held during I/O
	listed         time.Time
	topics         []string                        // sorted
	flows          []*Journal                      // sorted by flow
	journalOf      map[partitionKey]*Journal       // by target partition, the journal that last described it
	internalTopics map[string]*internalTopicReader // by topic
}

// Open lists the cluster's topics and reads nothing else until it is asked. Topics that are created later are found
// within ten seconds. It blocks until the cluster answers, and returns an error if ctx ends before that.
func Open(ctx context.Context, o Options) (*Client, error) {
	if o.Client == nil && len(o.Kafka) == 0 {
		return nil, errors.New("open a cluster: Options.Client or Options.Kafka must be set")
	}
	c := &Client{
		kafka: o.Client, names: o.Names, log: o.Log, offsetSyncsHere: o.OffsetSyncsHere, onlyFlow: o.OnlyFlow,
		journal:   JournalOptions{Memory: o.Memory, MaxAge: cmp.Or(o.MaxAge, defaultMaxAge), Log: o.Log},
		journalOf: make(map[partitionKey]*Journal), internalTopics: make(map[string]*internalTopicReader), listing: make(chan struct{}, 1),
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

// Close closes the client that Open created. A client of the caller stays open.
func (c *Client) Close() {
	if c.owned {
		c.kafka.Close()
	}
}

// Unreadable returns how many records of journals and of MirrorMaker 2's topics could not be decoded and were left
// out.
func (c *Client) Unreadable() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.unreadable.Load()
	for _, j := range c.flows {
		n += j.Unreadable()
	}
	return n
}

// list lists the topics, unless that was done less than maxAge ago.
func (c *Client) list(ctx context.Context, maxAge time.Duration) error {
	select {
	case c.listing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.listing }()
	if time.Since(c.listed) < maxAge {
		return nil
	}
	began := time.Now()
	details, err := kadm.NewClient(c.kafka).ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topics, c.listed = details.Names(), began
	slices.Sort(c.topics)
	var flows []*Journal
	for _, topic := range c.topics {
		if flow, ok := FlowOf(topic); !ok || c.onlyFlow != "" && flow != c.onlyFlow {
			continue
		}
		i := slices.IndexFunc(c.flows, func(j *Journal) bool { return j.leaders.topic == topic })
		if i >= 0 {
			flows = append(flows, c.flows[i])
		} else {
			flows = append(flows, NewJournal(c.kafka, topic, c.journal))
		}
	}
	c.flows = flows
	return nil
}

// listAge is how long the list of topics is used.
const listAge = 10 * time.Second

func (c *Client) topicNames(ctx context.Context) ([]string, error) {
	err := c.list(ctx, listAge)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topics, err
}

// journals returns the journals on this cluster, in the order of the flows' names. The slice must not be modified.
func (c *Client) journals(ctx context.Context) ([]*Journal, error) {
	err := c.list(ctx, listAge)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flows, err
}

// Flows returns the names of the flows that have a journal on this cluster, sorted.
func (c *Client) Flows(ctx context.Context) ([]string, error) {
	journals, err := c.journals(ctx)
	var flows []string
	for _, j := range journals {
		flows = append(flows, j.flow)
	}
	slices.Sort(flows)
	return flows, err
}

// Journal returns the journal of one flow to this cluster, or a *[NoJournalError].
func (c *Client) Journal(ctx context.Context, flow string) (*Journal, error) {
	journals, err := c.journals(ctx)
	if err != nil {
		return nil, err
	}
	for _, j := range journals {
		if j.flow == flow {
			return j, nil
		}
	}
	return nil, &NoJournalError{Topic: JournalTopic(flow)}
}

// Sources returns the aliases of the clusters that are copied to this one, directly or through others, as far as
// heartbeats or checkpoints show, as MirrorClient.upstreamClusters does.
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

// Hops returns the smallest number of flows between a source and this cluster, -1 if there are no heartbeats from the
// source, as MirrorClient.replicationHops does.
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

// RemoteTopics returns the topics whose names say that they were copied directly from a source, or from any source if
// it is empty, as MirrorClient.remoteTopics does.
func (c *Client) RemoteTopics(ctx context.Context, source string) ([]string, error) {
	topics, err := c.topicNames(ctx)
	var remote []string
	for _, topic := range topics {
		from, _, ok := c.names.Split(topic)
		if ok && (source == "" || from == source) && !c.names.IsInternal(topic) {
			remote = append(remote, topic)
		}
	}
	slices.Sort(remote)
	return remote, err
}
