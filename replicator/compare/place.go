package compare

import (
	"context"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// How many records at the end of a copy are read if no offset-sync shows where to begin.
	lastRecords = 1000
	// How far before the end of a copy an offset-sync may be, in offsets, to begin at it.
	maxDistance = windowMax
)

// beginning is how the place is chosen where a comparison begins.
type beginning struct {
	whole       bool // at the beginning of both logs
	ignoreSyncs bool // not at an offset-sync: they do not hold, or the comparison has left them behind
	brokerTime  bool // timestamps were set by a broker, so they are not compared
}

// place is where a comparison begins.
type place struct {
	source, target int64 // first offsets to read. Source -1 means: to be found by the timestamps of the first target records
	// syncPoints are the offset-syncs from this place on, if it is at one. Then the record there has to match.
	syncPoints []offsets.Pair
}

// choose returns where to begin between the bounds of both logs: at the newest reliable offset-sync, else near the end of the copy. A connector
// offset of -1 is unknown. It is pure.
func (b beginning) choose(start, end offsets.Pair, connectorOffset int64, syncs []offsets.Pair) place {
	syncs = match.Ascending(syncs)
	anchor := match.Anchor(syncs, start, end)
	switch {
	case anchor >= 0 && !b.whole && !b.ignoreSyncs && end.Target-syncs[anchor].Target <= maxDistance:
		at := place{source: syncs[anchor].Source, target: syncs[anchor].Target, syncPoints: syncs[anchor:]}
		for _, sync := range at.syncPoints { // later ones may be lower on the source, if MirrorMaker 2 was restarted
			at.source = max(start.Source, min(at.source, sync.Source))
		}
		return at
	case b.whole:
		return place{source: start.Source, target: start.Target}
	case start.Target == end.Target && connectorOffset >= start.Source: // nothing to compare yet, and no record to find the place by
		return place{source: min(connectorOffset, end.Source), target: end.Target}
	case start.Target == end.Target:
		return place{source: start.Source, target: end.Target}
	default:
		return place{source: -1, target: max(start.Target, end.Target-lastRecords)}
	}
}

// placePartitions chooses where to begin for the partitions that have no place.
func (l *logs) placePartitions(ctx context.Context) {
	unplaced := make(map[string]bool)
	for _, p := range l.partitions {
		if !p.placed && !p.absent {
			unplaced[p.source.Topic] = true
		}
	}
	if len(unplaced) == 0 {
		return
	}
	byName := make(map[string]topics.Pair)
	var pairs []topics.Pair
	for _, pair := range l.topology.pairs {
		if unplaced[pair.Source.Name] {
			pairs, byName[pair.Source.Name] = append(pairs, pair), pair
		}
	}
	bounds := topics.ListBounds(ctx, l.topology.source, l.topology.target, pairs, func(offsets.TopicPartition) bool { return true })
	for _, p := range l.partitions {
		if p.placed || p.absent {
			continue
		}
		source, target, err := bounds.Of(byName[p.source.Topic], p.source.Partition)
		if err != nil {
			l.stale.Store(true)
			continue
		}
		connectorOffset, ok := l.progress.ConnectorOffsets[p.source.TopicPartition]
		if !ok {
			connectorOffset = -1
		}
		start, end := offsets.Pair{Source: source.Start, Target: target.Start}, offsets.Pair{Source: source.End, Target: target.End}
		p.begin(start, end, connectorOffset, l.progress.OffsetSyncs[p.source.TopicPartition], match.Hasher{Seed: l.seed, Timestamps: !p.brokerTime})
	}
}

// placeByTime finds the place on the source by the timestamps of the first target records, for copies without an offset-sync: MirrorMaker 2
// keeps timestamps.
func (l *logs) placeByTime(ctx context.Context) {
	for _, p := range l.partitions {
		if !p.placed || p.source.next >= 0 || len(p.waiting) == 0 || ctx.Err() != nil {
			continue
		}
		oldest := p.waiting[0].timestamp
		for _, r := range p.waiting {
			oldest = min(oldest, r.timestamp)
		}
		at := int64(-1)
		if oldest >= 0 && p.hasher.Timestamps {
			var err error
			if at, err = wire.ListOffset(ctx, l.topology.source, l.topology.sourceView.Leader(p.source.TopicPartition), p.source.TopicPartition, oldest); err != nil {
				l.stale.Store(true)
				continue
			}
		}
		if at < 0 { // all source records are older, or timestamps do not help
			at = p.source.end - 2*lastRecords
			if p.connectorOffset >= 0 {
				at = p.connectorOffset - 2*lastRecords
			}
		}
		p.source.next = min(max(at, p.source.start), p.source.end)
	}
}
