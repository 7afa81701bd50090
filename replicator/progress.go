package replicator

import (
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// origin is where the map of a partition comes from.
type origin uint8

const (
	// OriginNew is a map of a partition that the journal does not know: its copy must be looked at first.
	originNew origin = iota
	// OriginJournal is a map that the journal has.
	originJournal
	// OriginMigrated is a map of what MirrorMaker 2 copied.
	originMigrated
	// OriginAccepted is a new map behind what the target holds, by a decision of policy.
	originAccepted
	// OriginRewound is a new map that will begin where the source's log was cut; the journal is read again first.
	originRewound
)

// mapStage is how durable the start of a map is. It must be in the journal before the first batch is produced.
type mapStage uint8

const (
	// MapOpen: where the map begins is not decided before the target's log was read.
	mapOpen mapStage = iota
	// MapDecided: it may be journaled.
	mapDecided
	// MapDurable: the journal has it.
	mapDurable
)

// progress is how far the copy of a partition is: what the target acknowledged, what the journal knows, and the map between both logs. Its
// methods are called under the partition's lock, and nobody else assigns its fields.
//
// Invariant: journaled <= acked, both exclusive source offsets; targetEnd is the target offset that belongs to acked.
type progress struct {
	acked     int64
	journaled int64
	targetEnd int64
	doneEpoch int32 // leader epoch of the source batch before acked (KIP-320), -1 unknown

	offsets  *offsets.Map // nil until the journal was read
	origin   origin
	stage    mapStage
	rewindTo int64                  // where a rewound map begins
	record   offsets.PartitionState // what the journal says besides the map: whose it is, its generation, the gap ledger
	dirty    bool                   // there is something to journal that is not an offset

	lastProgress  time.Time
	lastTimestamp int64   // ms, of the last acknowledged record
	meanBytes     float64 // per record, of what was acknowledged lately
}

// restore continues the map that the journal has.
func (g *progress) restore(m *offsets.Map, state *offsets.PartitionState) {
	g.offsets, g.record, g.origin, g.stage = m, *state, originJournal, mapDurable
	g.acked, g.journaled, g.targetEnd, g.doneEpoch = state.End.Source, state.End.Source, state.End.Target, state.LeaderEpoch
}

// identify sets whose copy this is, in generation.
func (g *progress) identify(state offsets.PartitionState) { g.record = state }

// begin begins an empty map. It must be journaled before the first batch is produced.
func (g *progress) begin(from origin, source, target int64) {
	g.offsets, g.origin, g.stage = offsets.NewMap(source, target), from, mapOpen
	g.acked, g.journaled, g.targetEnd, g.doneEpoch = source, source, target, -1
	g.dirty = true
}

// restart begins the map of another generation, of topics with these ids: what the target holds belongs to the earlier one and is left as
// it is.
func (g *progress) restart(sourceID, targetID [16]byte, source, target int64) {
	g.record.Generation++
	g.record.SourceTopicID, g.record.TargetTopicID = sourceID, targetID
	g.begin(originAccepted, source, target)
}

// migrate begins a map with what MirrorMaker 2 copied, up to source offset next and target offset end.
func (g *progress) migrate(begin offsets.Pair, segments []offsets.Segment, next, end int64) error {
	if g.origin == originMigrated {
		g.record.Generation++ // the journal may have chunks of the one before
	}
	g.begin(originMigrated, begin.Source, begin.Target)
	for _, s := range segments {
		if err := g.offsets.Append(s.Source, s.Target, s.Count); err != nil {
			return err
		}
	}
	g.acked, g.journaled, g.targetEnd, g.stage = next, next, end, mapDecided
	return nil
}

// accept takes what the target holds as given.
func (g *progress) accept() { g.origin = originAccepted }

// rewind lets the next map begin where the source's log was cut: a map cannot go back over offsets that now hold other records.
func (g *progress) rewind(source int64) {
	g.offsets, g.origin, g.rewindTo = nil, originRewound, source
}

// decideStart decides where a new map begins, with the target's log read to end. Where that log held no record the map begins at its very
// beginning, which says that no copy is before the first one of this map.
func (g *progress) decideStart(end int64) {
	start := int64(0)
	if g.origin == originAccepted {
		start = end
	}
	g.offsets, g.stage = offsets.NewMap(g.acked, start), mapDecided
	_ = g.offsets.Advance(g.acked, end) // start <= end
}

// reach moves the end of the copy behind the marker of a fence: it leaves a hole of one offset in the map.
func (g *progress) reach(end int64) error {
	if g.stage != mapDurable && g.origin != originMigrated {
		g.decideStart(end)
	} else if err := g.offsets.Advance(g.acked, end); err != nil {
		return err
	}
	g.targetEnd, g.dirty = end, true
	return nil
}

// pass moves over source offsets that have nothing to copy.
func (g *progress) pass(next int64, epoch int32) error {
	g.acked, g.doneEpoch = next, epoch
	g.lastProgress = time.Now()
	return g.offsets.Advance(g.acked, g.targetEnd)
}

// skipTo continues at a source offset whatever lies between; it stays out of the map.
func (g *progress) skipTo(next int64) { g.acked, g.doneEpoch = next, -1 }

// acknowledge extends the map by a batch that the target put at base.
func (g *progress) acknowledge(b prepared, base int64, now time.Time) error {
	target := base
	for _, run := range b.runs {
		if err := g.offsets.Append(run.Source, target, int64(run.Count)); err != nil {
			return err
		}
		target += int64(run.Count)
	}
	g.targetEnd, g.acked, g.doneEpoch = target, b.next, b.leaderEpoch
	g.lastProgress, g.lastTimestamp = now, b.maxTimestamp
	mean := float64(len(b.batch)) / float64(b.count)
	if g.meanBytes == 0 {
		g.meanBytes = mean
	}
	g.meanBytes += (mean - g.meanBytes) / 16
	return g.offsets.Advance(g.acked, g.targetEnd)
}

// reconcile extends the map by what a takeover found in the target's log tail.
func (g *progress) reconcile(segments []offsets.Segment, next int64, epoch int32) error {
	for _, s := range segments {
		if err := g.offsets.Append(s.Source, s.Target, s.Count); err != nil {
			return err
		}
		g.targetEnd = s.TargetEnd()
	}
	g.acked, g.doneEpoch = next, epoch
	return g.offsets.Advance(g.acked, g.targetEnd)
}

// addGap adds an entry to the gap ledger, unless it is the last one again, as after a restart.
func (g *progress) addGap(gap offsets.Gap) {
	if n := len(g.record.Gaps); n > 0 {
		if last := g.record.Gaps[n-1]; last.Kind == gap.Kind && last.From == gap.From && last.Action == gap.Action {
			return
		}
	}
	g.record.AddGap(gap)
	g.dirty = true
}

// unjournaled says whether there is anything to journal.
func (g *progress) unjournaled() bool {
	return g.offsets != nil && g.stage != mapOpen && (g.acked > g.journaled || g.dirty)
}

// journaling is what one write to the journal holds of a partition.
type journaling struct {
	offsets *offsets.Map
	changes offsets.Changes
	moved   bool
	acked   int64
}

// journal gives the entries that changed since the last write: chunks of the map first, then the state.
func (g *progress) journal() (chunks []*offsets.Chunk, state *offsets.PartitionState, w journaling) {
	w = journaling{offsets: g.offsets, acked: g.acked}
	w.changes, w.moved = g.offsets.Changed()
	if w.moved {
		g.record.LeaderEpoch = g.doneEpoch
		chunks = g.record.Apply(w.changes)
	}
	g.dirty = false
	return chunks, &g.record, w
}

// written notes that the journal has a write, unless another map has begun since.
func (g *progress) written(w journaling) {
	if g.offsets != w.offsets {
		return
	}
	g.stage, g.journaled = mapDurable, max(g.journaled, w.acked)
	if w.moved {
		w.offsets.MarkJournaled(w.changes)
		w.offsets.Forget(w.acked)
	}
}

// unwritten notes that a write failed: all of it is written again.
func (g *progress) unwritten() { g.dirty = true }
