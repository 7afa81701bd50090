package compare

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// LostAfter is how many target records in a row must be unknown to the window before the comparison looks for another place.
	lostAfter = 1000
	// SegmentsKept bounds the pairs that are remembered of a partition, to translate checkpoints by.
	segmentsKept = offsets.ChunkSegments
)

// followed is one partition whose two logs are read side by side as they grow.
type followed struct {
	offsets.TopicPartition
	target             string
	sourceID, targetID [16]byte
	committed          bool // the flow is read_committed
	compacted, absent  bool // absent: MirrorMaker 2 has not made the partition
	whole              bool // compare from the beginning of both logs
	withoutSyncs       bool // they do not hold, or the comparison has left them behind
	brokersClock       bool // timestamps are the broker's and say nothing

	placed      bool // it is known where to begin
	anchored    bool // at an offset-sync, which has to hold
	begun       bool // a pair was found
	ended       bool // the source has no more, at an end that is younger than all that waits
	position    int64
	sourceStart int64
	sourceNext  int64 // of the next fetch, -1: to be found by time
	sourceEnd   int64
	targetNext  int64
	targetEnd   int64

	matcher  *match.Matcher
	window   int // how many records of the source it looks ahead at most
	hasher   match.Hasher
	waiting  []targetRecord // read, and not paired yet
	lost     int            // records in a row that the window did not hold, while the source has more
	strange  int            // records in a row that are not on the source
	probe    bool           // the first that waits may be older than the window
	probed   int64          // target offset below which that was answered
	failed   int            // answers in a row that said no
	known    int64          // source offset below which transactions are counted: the window may have gone back
	segments *offsets.Map
	open     map[int64]*transaction // by producer id
	batches  []transactionBatch     // that were read and are not behind the pairs
	counts   ComparedRecords
	earlier  ComparedRecords // before the comparison began again

	sourceAt, mirroredAt int64 // timestamps of the newest record that was read on the source, and that is on the target; -1 unknown
	restarted            string
	problem              string
}

type targetRecord struct {
	offset, at int64
	hash       uint64
}

// transaction is one of the source; its outcome is known when its marker is read.
type transaction struct {
	first          int64
	ended, aborted bool
	on, off        int64 // records that are on the target and that are not, of batches that the pairs have passed
}

type transactionBatch struct {
	first, next, count int64
	on                 int64 // records that are on the target
	transaction        *transaction
}

func newFollowed(tp offsets.TopicPartition, pair topics.Pair, isolation string) *followed {
	return &followed{
		TopicPartition: tp, target: pair.TargetName, sourceID: pair.Source.ID, targetID: pair.Target.ID, committed: isolation == "read_committed",
		matcher: match.NewLoose(nil, true), position: -1, sourceNext: -1, sourceAt: -1, mirroredAt: -1,
	}
}

// place chooses where the comparison begins: at the newest offset-sync that can be relied on, else near the end of the copy.
func (p *followed) place(start, end offsets.Position, position int64, syncs []offsets.Position, h match.Hasher) {
	p.placed, p.begun, p.lost, p.waiting, p.batches = true, false, 0, nil, nil
	p.position, p.sourceStart, p.sourceEnd, p.hasher = position, start.Source, max(p.sourceEnd, end.Source), h
	p.open, p.segments = make(map[int64]*transaction), nil
	p.probe, p.known = false, 0
	var syncPoints []offsets.Position
	syncs = match.Ascending(syncs)
	anchor := match.Anchor(syncs, start, end)
	p.anchored = anchor >= 0 && !p.whole && !p.withoutSyncs && end.Target-syncs[anchor].Target <= comparedFurthest
	switch {
	case p.anchored:
		p.sourceNext, p.targetNext = syncs[anchor].Source, syncs[anchor].Target
		syncPoints = syncs[anchor:]
		for _, sync := range syncPoints {
			p.sourceNext = max(start.Source, min(p.sourceNext, sync.Source))
		}
	case p.whole:
		p.sourceNext, p.targetNext = start.Source, start.Target
	case start.Target == end.Target && position >= start.Source: // nothing to find the place by, and nothing to compare yet
		p.sourceNext, p.targetNext = min(position, end.Source), end.Target
	case start.Target == end.Target:
		p.sourceNext, p.targetNext = start.Source, end.Target
	default:
		p.sourceNext, p.targetNext = -1, max(start.Target, end.Target-comparedTail)
	}
	p.matcher = match.NewLoose(syncPoints, h.Timestamps)
}

// restart begins again with what is counted kept, near the end of the copy.
func (p *followed) restart(why string) {
	p.settleCounts()
	p.earlier, p.counts = p.total(), ComparedRecords{}
	p.restarted, p.withoutSyncs, p.whole, p.placed = why, true, false, false
}

// forget begins again as if nothing had been compared since the last place.
func (p *followed) forget() {
	p.counts, p.placed = ComparedRecords{}, false
}

func (p *followed) askTarget() (wire.FetchPartition, bool) {
	copied := offsets.TopicPartition{Topic: p.target, Partition: p.Partition}
	return fetchFrom(copied, p.targetID, p.targetNext), p.placed && !p.absent && len(p.waiting) == 0 && p.problem == ""
}

func (p *followed) askSource() (wire.FetchPartition, bool) {
	return fetchFrom(p.TopicPartition, p.sourceID, p.sourceNext), p.placed && p.sourceNext >= 0 && !p.matcher.Full() && p.problem == ""
}

// takeTarget reads what MirrorMaker 2 wrote. It may have written in transactions (KIP-618), so only committed records count.
func (p *followed) takeTarget(rp *kmsg.FetchResponseTopicPartition) bool {
	before := p.targetNext
	err := p.readTarget(rp)
	p.targetEnd = max(rp.HighWatermark, p.targetNext)
	p.judge(err, p.target)
	return p.targetNext > before
}

func (p *followed) readTarget(rp *kmsg.FetchResponseTopicPartition) error {
	aborted := wire.AbortedOf(rp)
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return err
		}
		h := batch.Header
		if h.Magic == 2 && h.NextOffset() <= p.targetNext {
			continue
		}
		lane, _, err := recordbatch.Admit(batch.Bytes, h, &aborted, recordbatch.Rules{})
		if err == nil && lane != recordbatch.RouteDrop {
			err = p.takeTargetBatch(h, batch.Bytes)
		}
		p.targetNext = max(p.targetNext, h.NextOffset())
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *followed) takeTargetBatch(h recordbatch.Header, batch []byte) error {
	if h.Attributes.LogAppendTime() && p.hasher.Timestamps {
		return match.ErrBrokerTime
	}
	records, err := recordbatch.Decode(batch)
	for i := range records {
		if r := &records[i]; r.Offset >= p.targetNext {
			p.waiting = append(p.waiting, targetRecord{r.Offset, r.Timestamp, p.hasher.Hash(r)})
		}
	}
	return err
}

// judge obeys what the reading of a log ended with.
func (p *followed) judge(err error, topic string) {
	switch {
	case errors.Is(err, match.ErrBrokerTime):
		p.brokersClock = true
		p.forget()
	case err != nil:
		p.problem = fmt.Sprintf("%s-%d cannot be read on: %v", topic, p.Partition, err)
	}
}

// takeSource reads what milena would read.
func (p *followed) takeSource(rp *kmsg.FetchResponseTopicPartition) bool {
	before := p.sourceNext
	err := p.readSource(rp)
	p.sourceEnd = max(rp.HighWatermark, p.sourceNext)
	p.ended = p.sourceNext >= rp.HighWatermark
	p.judge(err, p.Topic)
	return p.sourceNext > before
}

func (p *followed) readSource(rp *kmsg.FetchResponseTopicPartition) error {
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return err
		}
		h := batch.Header
		if h.Magic == 2 && h.NextOffset() <= p.sourceNext {
			continue
		}
		if h.Attributes.Control() {
			err = p.takeMarker(h, batch.Bytes)
		} else {
			err = p.takeSourceBatch(h, batch.Bytes)
		}
		p.sourceNext = max(p.sourceNext, h.NextOffset())
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *followed) takeSourceBatch(h recordbatch.Header, batch []byte) error {
	records, err := recordbatch.Decode(batch)
	if err != nil {
		return err
	}
	transactional, first, count := h.Attributes.Transactional(), int64(-1), int64(0)
	for i := range records {
		r := &records[i]
		if r.Offset < p.sourceNext {
			continue
		}
		if r.Timestamp < 0 && p.hasher.Timestamps {
			return match.ErrBrokerTime // MirrorMaker 2's producer gave it the time of then
		}
		if count++; first < 0 {
			first = r.Offset
		}
		p.sourceAt = max(p.sourceAt, r.Timestamp)
		p.matcher.Add(match.SourceRecord{Offset: r.Offset, Hash: p.hasher.Hash(r), Optional: transactional})
	}
	if !transactional || count == 0 || first < p.known {
		return nil
	}
	t := p.open[h.ProducerID]
	if t == nil {
		t = &transaction{first: first}
		p.open[h.ProducerID] = t
	}
	p.batches = append(p.batches, transactionBatch{first: first, next: h.NextOffset(), count: count, transaction: t})
	return nil
}

// takeMarker ends a transaction. One whose marker the cleaner has emptied has no records left either.
func (p *followed) takeMarker(h recordbatch.Header, batch []byte) error {
	t := p.open[h.ProducerID]
	if t == nil || h.BaseOffset < p.known {
		return nil
	}
	commit := true
	if h.Count > 0 {
		var err error
		if commit, _, err = recordbatch.ParseMarker(batch); err != nil {
			return err
		}
	}
	delete(p.open, h.ProducerID)
	t.ended, t.aborted = true, !commit
	p.settle(t)
	return nil
}

// settle counts what is known of a transaction now.
func (p *followed) settle(t *transaction) {
	if !t.ended {
		return
	}
	if t.aborted {
		p.counts.AbortedOnTarget += t.on
		p.counts.AbortedNotOnTarget += t.off
	} else {
		p.counts.NotOnTarget += t.off
	}
	t.on, t.off = 0, 0
}

// pairWaiting pairs the target records that wait, as far as the source is known.
func (p *followed) pairWaiting() {
	p.matcher.Ended = p.ended
	done := 0
	for _, w := range p.waiting {
		before, uncertain := p.matcher.Next(), p.matcher.Uncertain()
		got := p.matcher.Match(w.offset, w.hash)
		if got == match.Unmatched && p.mayBeOlder(w) {
			p.matcher.RetractUnmatched()
			p.probe = true
			break
		}
		if got == match.NeedMore {
			break
		}
		done++
		if got == match.Unmatched && p.anchored && !p.begun {
			p.withoutSyncs = true // the sync does not hold
			p.forget()
			return
		}
		if p.lost++; p.matcher.Uncertain() == uncertain {
			p.lost = 0
		}
		if p.strange++; got == match.Matched {
			p.strange = 0
		}
		if p.matcher.Next() > before && p.hasher.Timestamps {
			p.mirroredAt = w.at
		}
		if got == match.Matched && !p.begun {
			p.beginAt(w.offset)
		}
	}
	p.waiting = p.waiting[:copy(p.waiting, p.waiting[done:])]
	p.settleCounts()
	if p.lost >= lostAfter {
		p.counts.NotOnSource -= int64(p.lost) // they were not found, which is less
		p.restart(fmt.Sprintf("%d records of the copy in a row were not among the next %d of the source", p.lost, p.window))
	}
}

const (
	// ProbesFailed is how often in a row the search before the window may find nothing; from then on it is made for one record in some.
	probesFailed = 20
	probeOneIn   = 100
)

// mayBeOlder says whether a target record that the window does not hold is to be searched before it: a MirrorMaker 2 that was killed begins
// again up to a minute back, or where it had begun when it had never noted a position.
func (p *followed) mayBeOlder(w targetRecord) bool {
	return p.begun && p.hasher.Timestamps && w.at >= 0 && w.offset >= p.probed && (p.failed < probesFailed || p.strange%probeOneIn == 0)
}

// probedAt takes the answer: the source offset of the record, or -1. The window goes back to it.
func (p *followed) probedAt(source int64) {
	p.probe, p.probed = false, p.waiting[0].offset+1
	if source < 0 {
		p.failed++
		return
	}
	p.failed, p.known = 0, max(p.known, p.sourceNext)
	p.matcher, p.sourceNext = p.matcher.Restart(p.waiting[0].offset), source
}

// beginAt notes the first pair. What lies before it on either side was not compared: the two beginnings were guessed.
func (p *followed) beginAt(target int64) {
	p.begun = true
	p.matcher.ForgetMissing()
	if !p.whole {
		p.matcher.ForgetUnmatched()
		p.counts = ComparedRecords{}
	}
	source := p.matcher.Next() - 1
	p.segments = offsets.NewMap(source, target)
	for len(p.batches) > 0 && p.batches[0].next <= source {
		p.batches = p.batches[1:]
	}
	if len(p.batches) > 0 && p.batches[0].first < source {
		b := &p.batches[0]
		b.first, b.count = source, min(b.count, b.next-source)
	}
}

// settleCounts moves what the matcher has found into the counts, so that it keeps nothing but its window.
func (p *followed) settleCounts() {
	if !p.matcher.Proven() {
		return
	}
	found := p.matcher.TakeResult()
	for _, s := range found.Segments {
		p.counts.Equal += s.Count
		p.markTransactions(s)
		if p.segments.Len() > segmentsKept {
			p.segments = offsets.NewMap(s.Source, s.Target)
		}
		if err := p.segments.Append(s.Source, s.Target, s.Count); err != nil {
			p.segments = offsets.NewMap(s.SourceEnd(), s.TargetEnd())
		}
	}
	for len(p.batches) > 0 && p.batches[0].next <= p.matcher.Next() {
		b := p.batches[0]
		b.transaction.on += b.on
		b.transaction.off += b.count - b.on
		p.settle(b.transaction)
		p.batches = p.batches[1:]
	}
	p.counts.Twice += found.Duplicates
	p.counts.NotOnSource += found.Unmatched
	p.counts.NotOnTarget += found.Missing
}

// markTransactions notes which transactional records a run of copies holds.
func (p *followed) markTransactions(s offsets.Segment) {
	for i := range p.batches {
		b := &p.batches[i]
		if b.first >= s.SourceEnd() {
			return
		}
		b.on += max(0, min(b.next, s.SourceEnd())-max(b.first, s.Source))
	}
}

// translate is the exact target offset of a source offset in the part that was compared.
func (p *followed) translate(source int64) (int64, bool) {
	if p.segments == nil {
		return 0, false
	}
	target, _, err := p.segments.Forward(source)
	return target, err == nil
}

// limit bounds the records of the source that are kept, before and behind the newest match.
func (p *followed) limit(records int) {
	p.window = records
	p.matcher.Limit(records)
}
