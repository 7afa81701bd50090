package replicator

import (
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// origin is how the map of a partition began.
type origin uint8

const (
	// OriginNew is a map of a partition that the journal does not have. Its target partition must be read first.
	originNew origin = iota
	// OriginJournal is a map from the journal.
	originJournal
	// OriginMigrated is a map of what MirrorMaker 2 copied.
	originMigrated
	// OriginAccepted is a map that begins behind existing records of the target, by a decision of policy.
	originAccepted
	// OriginReversed is a map that continues with what was copied in the other direction. The target has records behind it that stay where they are.
	originReversed
	// OriginRewound is a map that will begin where the source's log was truncated. The journal must be read again first.
	originRewound
)

// mapStage is how durable the start of a map is. The start must be in the journal before the first batch is produced.
type mapStage uint8

const (
	// MapOpen: the start is not decided until the target's log is read.
	mapOpen mapStage = iota
	// MapDecided: the start may be journaled.
	mapDecided
	// MapDurable: the journal has the start.
	mapDurable
)

// progress is the progress of a partition's copy: what the target acknowledged, what is journaled, and the map between both logs. Its
// methods are called with the partition's lock held, and nothing else assigns its fields.
//
// Invariant: journaled <= acked, both exclusive source offsets; targetEnd is the target offset of acked.
type progress struct {
	acked     int64
	journaled int64
	restored  time.Time // when an earlier process journaled what this one continued
	targetEnd int64
	doneEpoch int32 // leader epoch of the source batch before acked (KIP-320), -1 unknown
	origin    origin
	stage     mapStage
	noted     bool // the shard knows that there may be something to journal
	continued bool // this process has written the partition, so only unsettled can be behind acked

	offsets  *offsets.Map           // nil until the journal is read
	rewindTo int64                  // where a rewound map begins
	record   offsets.PartitionState // what is journaled besides the map: topics, generation, gap ledger
	producer producer               // what the first batch behind acked carries
	touched  uint64                 // counts changes of anything but offsets that must be journaled
	clean    uint64                 // the count that the journal has
	changed  func()                 // tells the shard; nil for a partition that is not journaled

	unsettled []sentRecords // sent without a known outcome, in order, each at the sequence behind the one before

	lastProgress  time.Time
	lastTimestamp int64   // ms, of the last acknowledged record
	meanBytes     float64 // moving average of bytes per acknowledged record
}

// producer is what the first batch behind acked carries: it is that of the last acknowledged batch, not of batches in flight. After a crash
// it tells which batches behind the journaled end are ours, and how many records they have.
type producer struct {
	known bool // false until the partition has been recovered
	offsets.Producer
}

// sentRecords are the records of a batch that was sent. Together with the producer they are its identity: the first batch behind acked has the
// sequence of the producer.
type sentRecords struct {
	runs        []recordbatch.Run
	count       int32
	next        int64 // source offset behind the batch
	leaderEpoch int32
}

// restore continues the map of the journal.
func (g *progress) restore(m *offsets.Map, state *offsets.PartitionState, written time.Time) {
	gaps := state.Gaps
	if g.origin == originRewound {
		gaps = g.record.Gaps // why it was rewound is not journaled yet
	}
	defer g.note()
	g.offsets, g.record, g.origin, g.stage = m, *state, originJournal, mapDurable
	g.record.Gaps, g.restored = gaps, written
	g.acked, g.journaled, g.targetEnd, g.doneEpoch = state.End.Source, state.End.Source, state.End.Target, state.LeaderEpoch
	g.producer, g.continued, g.unsettled = producer{}, false, nil
	if state.Producer != nil {
		g.producer = producer{known: true, Producer: *state.Producer}
	}
}

// setRecord sets the topics and the generation of a new map.
func (g *progress) setRecord(state offsets.PartitionState) { g.record = state }

// begin begins an empty map. It must be journaled before the first batch is produced.
func (g *progress) begin(from origin, source, target int64) {
	defer g.note()
	g.offsets, g.origin, g.stage = offsets.NewMap(source, target), from, mapOpen
	g.acked, g.journaled, g.targetEnd, g.doneEpoch = source, source, target, -1
	g.producer, g.continued, g.unsettled = producer{}, false, nil
	g.touched++
}

// learnIDs fills in the topic ids that were unknown when the map began.
func (g *progress) learnIDs(ids topicIDs) {
	known := topicIDs{g.record.SourceTopicID, g.record.TargetTopicID}
	before := known
	if known.learn(ids); known != before {
		defer g.note()
		g.record.SourceTopicID, g.record.TargetTopicID = known.source, known.target
		g.touched++
	}
}

// restart begins the map of the next generation, for topics with these ids. The records that the target has belong to the earlier generation
// and stay as they are.
func (g *progress) restart(ids topicIDs, source, target int64) {
	g.record.Generation++
	g.record.SourceTopicID, g.record.TargetTopicID = ids.source, ids.target
	g.begin(originAccepted, source, target)
}

// migrate begins a map with what MirrorMaker 2 copied, up to source offset next and target offset end.
func (g *progress) migrate(begin offsets.Pair, segments []offsets.Segment, next, end int64) error {
	if g.origin == originMigrated {
		g.record.Generation++ // the journal may have chunks of an earlier attempt
	}
	g.begin(originMigrated, begin.Source, begin.Target)
	for _, s := range segments {
		if err := g.offsets.Append(s.Source, s.Target, s.Count); err != nil {
			return err
		}
	}
	g.acked, g.journaled, g.targetEnd, g.stage = next, next, end, mapDecided
	g.note()
	return nil
}

// setAfter sets the rest of the shard after which the copy was begun.
func (g *progress) setAfter(after string) {
	defer g.note()
	g.record.After = &after
	g.touched++
}

// reverse continues the map with what was copied in the other direction since it ended, whose map is given. All that the target of that copy had below its
// end is known then, so this one continues there; and what the other source has behind its end was not copied, and stays.
func (g *progress) reverse(other *offsets.Map) error {
	defer g.note()
	known, _ := g.offsets.End()
	for s := range other.Segments() {
		seg := offsets.Segment{Source: s.Target, Target: s.Source, Count: s.Count}
		if seg.SourceEnd() <= known {
			continue
		}
		if below := known - seg.Source; below > 0 {
			seg = offsets.Segment{Source: known, Target: seg.Target + below, Count: seg.Count - below}
		}
		if err := g.offsets.Append(seg.Source, seg.Target, seg.Count); err != nil {
			return err
		}
	}
	target, source := other.End()
	g.acked, g.targetEnd, g.doneEpoch = max(g.acked, source), max(g.targetEnd, target), -1
	g.origin, g.stage = originReversed, mapOpen
	g.producer, g.continued, g.unsettled = producer{}, false, nil
	g.touched++
	return g.offsets.Advance(g.acked, g.targetEnd)
}

// acceptTarget accepts the records that the target already has. The map begins behind them.
func (g *progress) acceptTarget() { g.origin = originAccepted }

// rewind drops the map and lets the next one begin where the source's log was truncated, because a map cannot go back over offsets that hold
// other records now.
func (g *progress) rewind(source int64) {
	g.offsets, g.origin, g.rewindTo = nil, originRewound, source
	g.continued, g.unsettled = false, nil
}

// decideStart decides where a new map begins on the target, whose log was read to end. If the log has no records, the map begins at offset
// 0, which means that no record of the copy is before the first one of this map.
func (g *progress) decideStart(end int64) {
	defer g.note()
	start := int64(0)
	if g.origin == originAccepted {
		start = end
	}
	g.offsets, g.stage = offsets.NewMap(g.acked, start), mapDecided
	_ = g.offsets.Advance(g.acked, end) // start <= end
}

// moveEnd moves the end of the copy behind the marker of a fence, which leaves a hole of one offset in the map.
func (g *progress) moveEnd(end int64) error {
	defer g.note()
	if g.stage != mapDurable && g.origin != originMigrated && g.origin != originReversed {
		g.decideStart(end)
	} else if err := g.offsets.Advance(g.acked, end); err != nil {
		return err
	} else if g.stage == mapOpen {
		g.stage = mapDecided
	}
	g.targetEnd = end
	g.touched++
	return nil
}

// skipDropped moves acked over source offsets without anything to copy.
func (g *progress) skipDropped(next int64, epoch int32) error {
	defer g.note()
	g.acked, g.doneEpoch = next, epoch
	g.lastProgress = time.Now()
	return g.offsets.Advance(g.acked, g.targetEnd)
}

// acknowledge adds a batch that the target appended at offset base to the map.
func (g *progress) acknowledge(b prepared, base int64, now time.Time) error {
	defer g.note()
	target := base
	for _, run := range b.runs {
		if err := g.offsets.Append(run.Source, target, int64(run.Count)); err != nil {
			return err
		}
		target += int64(run.Count)
	}
	g.targetEnd, g.acked, g.doneEpoch = target, b.next, b.leaderEpoch
	g.producer.Sequence = nextSequence(g.producer.Sequence, int(b.count))
	g.lastProgress, g.lastTimestamp = now, b.maxTimestamp
	mean := float64(b.size) / float64(b.count)
	if g.meanBytes == 0 {
		g.meanBytes = mean
	}
	g.meanBytes += (mean - g.meanBytes) / 16
	return g.offsets.Advance(g.acked, g.targetEnd)
}

// continueWith sets the producer with which a recovered partition continues.
func (g *progress) continueWith(id int64, epoch int16) {
	defer g.note()
	g.producer = producer{known: true, Producer: offsets.Producer{ID: id, Epoch: epoch}}
	g.continued = true
	g.touched++
}

// tailKnowledge is what a takeover knows about the records behind the last acknowledged one.
type tailKnowledge struct {
	acked       int64
	leaderEpoch int32
	continued   bool
	unsettled   []sentRecords
	restored    time.Time // if not continued: nothing behind acked was written before
}

func (g *progress) tailKnowledge() tailKnowledge {
	return tailKnowledge{g.acked, g.doneEpoch, g.continued, g.unsettled, g.restored}
}

// firstProducer returns what the first batch behind acked carries, nil if that is unknown.
func (g *progress) firstProducer() *offsets.Producer {
	if !g.producer.known {
		return nil
	}
	first := g.producer.Producer
	return &first
}

// addUnsettled records that the outcome of a batch is unknown. The next takeover finds out whether the target has it.
func (g *progress) addUnsettled(b prepared) {
	if g.offsets != nil {
		g.unsettled = append(g.unsettled, sentRecords{b.runs, b.count, b.next, b.leaderEpoch})
	}
}

// settle adds what a takeover found in the log tail to the map. Nothing is unsettled then.
func (g *progress) settle(segments []offsets.Segment, next int64, epoch int32) error {
	defer g.note()
	for _, s := range segments {
		if err := g.offsets.Append(s.Source, s.Target, s.Count); err != nil {
			return err
		}
		g.targetEnd = s.TargetEnd()
	}
	g.acked, g.doneEpoch, g.unsettled = next, epoch, nil
	g.producer = producer{}
	g.touched++
	return g.offsets.Advance(g.acked, g.targetEnd)
}

// addGap adds an entry to the gap ledger. It does nothing if the entry repeats the last one, as after a restart, and extends the last one if the
// entry continues it.
func (g *progress) addGap(gap offsets.Gap) {
	defer g.note()
	if n := len(g.record.Gaps); n > 0 {
		last := &g.record.Gaps[n-1]
		same := last.Kind == gap.Kind && last.Action == gap.Action
		if same && last.From == gap.From {
			return
		}
		if same && gap.From < gap.To && last.To == gap.From {
			last.To = gap.To
			g.touched++
			return
		}
	}
	g.record.AddGap(gap)
	g.touched++
}

// addDecided adds an entry to the gap ledger for what a person decided. It is never a part of another one: each says who decided what.
func (g *progress) addDecided(gap offsets.Gap) {
	defer g.note()
	g.record.AddGap(gap)
	g.touched++
}

// gaps describes the gap ledger for the status.
func (g *progress) gaps() []GapState {
	var list []GapState
	for _, gap := range g.record.Gaps {
		list = append(list, GapState{Kind: gap.Kind, Action: gap.Action, From: gap.From, To: gap.To, At: gap.At, Detail: gap.Detail, Merged: gap.Merged})
	}
	return list
}

// note tells the shard that there may be something to journal, unless it knows. Every method does that changes what hasChanges reports.
func (g *progress) note() {
	if !g.noted && g.changed != nil {
		g.noted = true
		g.changed()
	}
}

// noteAgain does the same after a journal write that may have left something, if it has.
func (g *progress) noteAgain() {
	if g.hasChanges() {
		g.note()
	}
}

// beginWrite forgets that the shard knows, because what there is to journal now is written.
func (g *progress) beginWrite() { g.noted = false }

// hasChanges reports whether there is anything to journal.
func (g *progress) hasChanges() bool {
	return g.offsets != nil && g.stage != mapOpen && (g.acked > g.journaled || g.touched > g.clean)
}

// journaling is the part of a journal write that belongs to one partition.
type journaling struct {
	offsets *offsets.Map
	changes offsets.Changes
	moved   bool
	acked   int64
	touched uint64
}

// sealed returns up to n sealed chunks that the journal does not have, behind the one named after. They are written before the state.
func (g *progress) sealed(after int64, n int) []*offsets.Chunk {
	chunks := g.offsets.Sealed(after, n)
	g.record.NameChunks(chunks)
	return chunks
}

// changes returns the journal entries that changed since the last write, besides sealed chunks: the open chunk, if it has, and the state.
func (g *progress) changes() (open *offsets.Chunk, state *offsets.PartitionState, w journaling) {
	w = journaling{offsets: g.offsets, acked: g.acked, touched: g.touched}
	w.changes, w.moved = g.offsets.Changed()
	if w.moved {
		g.record.LeaderEpoch = g.doneEpoch
		for _, c := range g.record.Apply(w.changes) {
			if c.First == w.changes.Open {
				open = c
			}
		}
		w.changes.Chunks = nil
	}
	g.record.Producer = nil
	if g.producer.known {
		g.record.Producer = &offsets.Producer{ID: g.producer.ID, Epoch: g.producer.Epoch, Sequence: g.producer.Sequence}
	}
	return open, &g.record, w
}

// markJournaled records that a write succeeded, unless another map has begun since.
func (g *progress) markJournaled(w journaling) {
	if g.offsets != w.offsets {
		return
	}
	g.stage, g.journaled, g.clean = mapDurable, max(g.journaled, w.acked), max(g.clean, w.touched)
	if w.moved {
		w.offsets.MarkJournaled(w.changes)
		w.offsets.Forget(w.acked)
	}
}
