package compare

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// logs reads the logs of all partitions on both sides and matches them.
type logs struct {
	topology   *topology
	sourceSide side
	targetSide side
	beginning  beginning            // of partitions that are new
	progress   *offsets.MM2Progress // where MirrorMaker 2 was when the comparison began
	seed       maphash.Seed

	partitions []*partition // by topic and partition
	syncs      int          // how often sync was called; each call begins with another partition
	stale      atomic.Bool  // the metadata must be read again
}

func (l *logs) init(o client.Clusters, t *topology, b beginning) {
	l.topology, l.beginning, l.seed = t, b, maphash.MakeSeed()
	unobserved := func(string, time.Duration, error) {}
	l.targetSide = side{
		wire: wire.Kgo{Client: t.target, Observe: unobserved}, alias: o.Flow.Target, cluster: o.Target, isolation: wire.ReadCommitted, view: &t.targetView,
		next: (*partition).nextOfCopy, add: (*partition).addCopy,
	}
	l.sourceSide = side{
		// Read uncommitted, whatever the flow reads: MirrorMaker 2 may be ahead of an open transaction. Markers show which ones were aborted.
		wire: wire.Kgo{Client: t.source, Observe: unobserved}, alias: o.Flow.Source, cluster: o.Source, isolation: wire.ReadUncommitted, view: &t.sourceView,
		next: (*partition).nextOfSource, add: (*partition).addSource,
	}
}

// sync reads what is new on both sides and matches it. It says whether it read anything.
func (l *logs) sync(ctx context.Context) (advanced bool) {
	l.placePartitions(ctx)
	for _, p := range l.partitions {
		p.sourceEnded = false
	}
	advanced = l.fetch(ctx, &l.targetSide)
	l.placeByTime(ctx)
	advanced = l.fetch(ctx, &l.sourceSide) || advanced
	for _, p := range l.partitions {
		p.matchWaiting()
	}
	l.lookBack(ctx)
	l.syncs++
	return advanced
}

// follow adds partitions that are new, and replaces those of a recreated topic. Deleted ones are no longer compared.
func (l *logs) follow() {
	known := make(map[offsets.TopicPartition]*partition, len(l.partitions))
	for _, p := range l.partitions {
		known[p.source.TopicPartition] = p
	}
	l.partitions = l.partitions[:0]
	for _, pair := range l.topology.pairs {
		for n := range pair.Source.Partitions {
			tp := offsets.TopicPartition{Topic: pair.Source.Name, Partition: int32(n)}
			p := known[tp]
			if p == nil || offsets.IsAnotherTopic(p.source.id, pair.Source.ID) || offsets.IsAnotherTopic(p.copied.id, pair.Target.ID) {
				p = newPartition(tp, pair, l.topology.clusters.Flow.Isolation, l.beginning)
			}
			p.source.id, p.copied.id = pair.Source.ID, pair.Target.ID // brokers may begin to use ids, or names
			p.absent = n >= len(pair.Target.Partitions)
			p.compacted = l.topology.compacted[pair.TargetName]
			l.partitions = append(l.partitions, p)
		}
	}
}

// syncEnds reads the end offsets of the source: a partition that is not fetched would not learn them.
func (l *logs) syncEnds(ctx context.Context) error {
	ends, err := kadm.NewClient(l.topology.source).ListEndOffsets(ctx, topics.SourceNames(l.topology.pairs)...)
	var shard *kadm.ShardErrors
	if err != nil && !errors.As(err, &shard) {
		return fmt.Errorf("list offsets of cluster %s: %w", l.topology.clusters.Flow.Source, err)
	}
	for _, p := range l.partitions {
		if end, ok := ends.Lookup(p.source.Topic, p.source.Partition); ok && end.Err == nil {
			p.source.end = max(p.source.end, end.Offset)
		}
	}
	return nil
}
