package diverged

import (
	"context"
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// partitionsAtOnce is how many partitions are read at a time.
const partitionsAtOnce = 8

// listing is one pass over the partitions of a flow.
type listing struct {
	clusters       client.Clusters
	source, target *cluster
	anomalies      policy.Anomalies
	isolation      int8
	marks          *recordbatch.Provenance // nil if copies are not marked
	pairMu         sync.Mutex              // guards what is found of the other half of a pair while its journal is read
	journal        journal
	bounds         topics.Bounds
	stable         map[offsets.TopicPartition]int64 // last stable offsets, with read_committed
	unstable       map[offsets.TopicPartition]error // why they are not known
}

// partition is one partition of the source, and its copy.
type partition struct {
	offsets.TopicPartition
	pair  topics.Pair
	shard *shard
	state *offsets.PartitionState // nil if the journal does not list it

	sourceStart, sourceEnd int64 // of the log, end exclusive and readable
	sourceHigh             int64 // high watermark
	targetStart, targetEnd int64
	found                  *Partition
}

// List finds out which records of the source of a flow are not on its target. It blocks for reading the journal, the end of every copy from there on, and all
// records that it counts. It writes nothing. An error means that there is no report: a cluster does not answer, the flow has no journal, or the source is another cluster
// than the one that was copied. What concerns one partition only is in the report.
//
// While the flow copies, what it lists is old at once: then the partitions have a [Partition.Problem].
func List(ctx context.Context, c client.Clusters) (*Report, error) {
	l, err := open(c)
	if err != nil {
		return nil, err
	}
	defer l.close()
	r, moved, err := l.list(ctx)
	if r != nil {
		r.Moved = moved
	}
	return r, err
}

// list lists once. Moved means that the journal says something else of a partition than it did before.
func (l *listing) list(ctx context.Context) (_ *Report, moved bool, err error) {
	c := l.clusters
	r := &Report{Flow: c.Flow.Name, Source: c.Flow.Source, Target: c.Flow.Target, At: time.Now(), Partitions: []Partition{}}
	pairs, err := l.begin(ctx, r)
	if err != nil {
		return nil, false, err
	}
	partitions := l.partitions(pairs, r)
	var group errgroup.Group
	group.SetLimit(partitionsAtOnce)
	for _, p := range partitions {
		group.Go(func() error {
			l.examine(ctx, p)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, false, err
	}
	if moved, err = l.confirm(ctx, partitions); err != nil {
		return nil, false, err
	}
	r.conclude()
	return r, moved, nil
}

// open creates the clients. It does not connect yet.
func open(c client.Clusters) (*listing, error) {
	anomalies, err := policy.NewAnomalies(c.Flow)
	if err != nil {
		return nil, err
	}
	source, target, err := c.Open()
	if err != nil {
		return nil, err
	}
	l := &listing{
		clusters: c, anomalies: anomalies, isolation: wire.ReadUncommitted,
		source: &cluster{alias: c.Flow.Source, client: source, explain: c.SourceError},
		target: &cluster{alias: c.Flow.Target, client: target, explain: c.TargetError},
	}
	if c.Flow.Isolation == config.ReadCommitted {
		l.isolation = wire.ReadCommitted
	}
	return l, nil
}

func (l *listing) close() {
	l.source.client.Close()
	l.target.client.Close()
}

// connect reads the metadata of both clusters.
func (l *listing) connect(ctx context.Context) error {
	var group errgroup.Group
	for _, c := range []*cluster{l.source, l.target} {
		group.Go(func() error {
			_, err := c.refresh(ctx, time.Now())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := l.findBack(ctx); err != nil {
		return err
	}
	if l.clusters.Flow.Provenance {
		l.marks = &recordbatch.Provenance{From: l.source.view().ClusterID, To: l.target.view().ClusterID}
	}
	return nil
}

// begin reads the metadata, the journal, and then the bounds of the logs: what the journal says is in them.
func (l *listing) begin(ctx context.Context, r *Report) ([]topics.Pair, error) {
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	source, target := l.source.view(), l.target.view()
	r.SourceClusterID, r.TargetClusterID = source.ClusterID, target.ClusterID
	var err error
	if l.journal, err = readJournal(ctx, l.clusters, l.target); err != nil {
		return nil, err
	}
	r.JournaledAt = l.journal.writtenAt()
	if err := l.checkSource(source.ClusterID); err != nil {
		return nil, err
	}
	syncer, err := topics.NewSyncer(l.source.client, l.target.client, l.clusters.Flow, l.clusters.Log)
	if err != nil {
		return nil, err
	}
	pairs, refused := syncer.Select(source, target)
	for _, topic := range refused {
		if r.NotCopied == nil {
			r.NotCopied = make(map[string]string)
		}
		r.NotCopied[topic.Topic] = topic.Reason
	}
	pairs = l.withLost(withoutHeartbeats(pairs, l.clusters.InternalTopics()), syncer)
	all := func(offsets.TopicPartition) bool { return true }
	l.bounds = topics.ListBounds(ctx, l.source.client, l.target.client, pairs, all)
	if l.isolation == wire.ReadCommitted {
		l.listStable(ctx, pairs)
	}
	return pairs, nil
}

// checkSource returns an error if the journal is about another cluster than the source.
func (l *listing) checkSource(id string) error {
	for _, s := range l.journal {
		for tp, state := range s.partitions {
			if state.SourceClusterID != "" && id != "" && state.SourceClusterID != id {
				return fmt.Errorf("flow %s copied %s from cluster %s, and cluster %s is %s now: what it has was never copied by this flow; name the cluster that was copied as the source",
					l.clusters.Flow.Name, tp, state.SourceClusterID, l.clusters.Flow.Source, id)
			}
		}
	}
	return nil
}

// withoutHeartbeats leaves out the heartbeats, which say nothing later.
func withoutHeartbeats(pairs []topics.Pair, names offsets.Names) []topics.Pair {
	kept := pairs[:0]
	for _, p := range pairs {
		if !names.IsHeartbeats(p.Source.Name) {
			kept = append(kept, p)
		}
	}
	return kept
}

// withLost adds the topics that the journal lists, that the flow selects, and that the source does not have any more. They have no partitions there.
func (l *listing) withLost(pairs []topics.Pair, syncer *topics.Syncer) []topics.Pair {
	known := make(map[string]bool, len(pairs))
	for _, p := range pairs {
		known[p.Source.Name] = true
	}
	names := l.clusters.InternalTopics()
	for _, s := range l.journal {
		for tp := range s.partitions {
			target, reason := syncer.Rules.Target(tp.Topic)
			if known[tp.Topic] || reason != "" || names.IsHeartbeats(tp.Topic) {
				continue
			}
			known[tp.Topic] = true
			pairs = append(pairs, topics.Pair{Source: topics.Topic{Name: tp.Topic}, TargetName: target, Target: l.target.view().ByName[target]})
		}
	}
	return pairs
}

// listStable lists the last stable offsets of the source.
func (l *listing) listStable(ctx context.Context, pairs []topics.Pair) {
	byLeader := make(map[int32][]offsets.TopicPartition)
	for _, pair := range pairs {
		for n := range pair.Source.Partitions {
			tp := offsets.TopicPartition{Topic: pair.Source.Name, Partition: int32(n)} //nolint:gosec // a number of partitions
			leader := l.source.view().Leader(tp)
			byLeader[leader] = append(byLeader[leader], tp)
		}
	}
	l.stable, l.unstable = make(map[offsets.TopicPartition]int64), make(map[offsets.TopicPartition]error)
	for leader, list := range byLeader {
		if leader < 0 {
			continue // the bounds are not known either
		}
		ends, err := topics.ListEnds(ctx, l.source.client, leader, wire.ReadCommitted, list)
		for _, tp := range list {
			if end, ok := ends[tp]; ok {
				l.stable[tp] = end
			} else {
				l.unstable[tp] = err
			}
		}
	}
}

// partitions are those of the topics, by topic and number, also those that only the journal has any more. Each has its place in the report.
func (l *listing) partitions(pairs []topics.Pair, r *Report) (list []*partition) {
	for _, pair := range pairs {
		for n := range l.countOf(pair) {
			tp := offsets.TopicPartition{Topic: pair.Source.Name, Partition: n}
			p := &partition{TopicPartition: tp, pair: pair}
			p.shard, p.state = l.journal.of(tp)
			list = append(list, p)
		}
	}
	sortPartitions(list)
	r.Partitions = make([]Partition, len(list))
	for i, p := range list {
		p.found = &r.Partitions[i]
		*p.found = Partition{Topic: p.Topic, TargetTopic: p.pair.TargetName, Partition: p.Partition, TopicID: topicID(p.pair.Source.ID), Listed: p.state != nil}
		if p.state != nil {
			p.found.Gaps = gapsOf(p.state.Gaps)
		}
	}
	return list
}

// countOf is the number of partitions that a topic has on the source, or had according to the journal.
func (l *listing) countOf(pair topics.Pair) int32 {
	n := int32(len(pair.Source.Partitions)) //nolint:gosec // a number of partitions
	for _, s := range l.journal {
		for tp := range s.partitions {
			if tp.Topic == pair.Source.Name {
				n = max(n, tp.Partition+1)
			}
		}
	}
	return n
}

// topicID is an id as Kafka's tools write it, empty if there is none.
func topicID(id [16]byte) string {
	if id == [16]byte{} {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// confirm reads the journal again: what was found by an end that has moved since is old.
func (l *listing) confirm(ctx context.Context, partitions []*partition) (moved bool, err error) {
	again, err := readJournal(ctx, l.clusters, l.target)
	if err != nil {
		return false, err
	}
	for _, p := range partitions {
		if _, state := again.of(p.TopicPartition); !isSame(state, p.state) {
			moved = true
			p.found.Records, p.found.Bytes, p.found.Doubt = nil, 0, nil
			p.found.Problem = "the flow has copied the partition while it was read: stop the flow, or pause it, and try again"
		}
	}
	return moved, nil
}
