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
	// After this many target records in a row that the window does not hold, the comparison begins at another place.
	maxUnknown = 1000
	// How many segments of a partition are kept to translate checkpoints.
	maxSegments = offsets.ChunkSegments
)

// partition is one source partition and its copy, whose logs are read side by side as they grow.
type partition struct {
	source, copied cursor
	committed      bool // the flow is read_committed
	compacted      bool
	absent         bool // MirrorMaker 2 has not created the partition

	beginning
	progress
	matching
	transactions transactions
	matched      translation
	tally        tally
	newest       newest
	restarted    string // why the comparison continued at another place
	problem      string // why the partition is no longer compared
}

// progress is how far the comparison of a partition has come since it last began.
type progress struct {
	placed          bool  // a place to begin was chosen
	atSync          bool  // the place is an offset-sync, which has to hold
	begun           bool  // a match was found
	connectorOffset int64 // of MirrorMaker 2, -1 if unknown
}

// matching is what was read and waits to be matched.
type matching struct {
	matcher     *match.Matcher // its window is the source
	hasher      match.Hasher
	window      int            // how many source records it reads ahead at most
	sourceEnded bool           // the source was read to its end after the records that wait
	waiting     []targetRecord // read, but not matched yet
	runs        runs
	search      lookBack
}

type targetRecord struct {
	offset, timestamp int64
	hash              uint64
}

// runs are the lengths of the current runs of target records without a match.
type runs struct {
	unknown   int // not in the window, while the source has more
	unmatched int // not on the source
}

// add takes the verdict on the next target record. Uncertain says that the source has more than the window holds.
func (r *runs) add(verdict match.Verdict, uncertain bool) { //nolint:revive // not a flag: the second half of the verdict
	if r.unknown++; !uncertain {
		r.unknown = 0
	}
	if r.unmatched++; verdict == match.Matched {
		r.unmatched = 0
	}
}

// newest are the timestamps of the newest source record that was read and of the newest one that is on the target, in ms; -1 unknown.
type newest struct{ source, copied int64 }

// seconds is the time between the two; false if one is unknown.
func (n newest) seconds() (float64, bool) {
	return max(0, float64(n.source-n.copied)/1000), n.source >= 0 && n.copied >= 0
}

// tally counts records. A comparison that begins at another place keeps what it counted before.
type tally struct{ current, earlier Counts }

func (t *tally) total() Counts {
	sum := t.current
	sum.add(t.earlier)
	return sum
}

// keep protects the current counts from discard.
func (t *tally) keep() { t.earlier, t.current = t.total(), Counts{} }

// discard drops what was counted since the last keep.
func (t *tally) discard() { t.current = Counts{} }

// translation is the exact offset map of the newest part that was compared.
type translation struct{ segments *offsets.Map } // nil: nothing was compared

func (t *translation) begin(source, target int64) { t.segments = offsets.NewMap(source, target) }

// add appends a segment. It starts a new map if the current one is full or does not accept the segment.
func (t *translation) add(s offsets.Segment) {
	if t.segments.Len() > maxSegments {
		t.begin(s.Source, s.Target)
	}
	if err := t.segments.Append(s.Source, s.Target, s.Count); err != nil {
		t.begin(s.SourceEnd(), s.TargetEnd())
	}
}

// forward returns the target offset of a source offset; false if it is not in the part that was compared.
func (t *translation) forward(source int64) (int64, bool) {
	if t.segments == nil {
		return 0, false
	}
	target, _, err := t.segments.Forward(source)
	return target, err == nil
}

func newPartition(tp offsets.TopicPartition, pair topics.Pair, isolation string, b beginning) *partition {
	return &partition{
		source: cursor{TopicPartition: tp, id: pair.Source.ID}, copied: cursor{TopicPartition: offsets.TopicPartition{Topic: pair.TargetName, Partition: tp.Partition}, id: pair.Target.ID},
		committed: isolation == "read_committed", beginning: b, progress: progress{connectorOffset: -1},
		matching: matching{matcher: match.NewLoose(nil, true)}, newest: newest{-1, -1},
	}
}

// begin begins the comparison, between the bounds of both logs. It drops what was read before and keeps what was counted.
func (p *partition) begin(start, end offsets.Pair, connectorOffset int64, syncs []offsets.Pair, h match.Hasher) {
	at := p.choose(start, end, connectorOffset, syncs)
	p.progress = progress{placed: true, atSync: len(at.syncPoints) > 0, connectorOffset: connectorOffset}
	p.source.place(start.Source, at.source)
	p.source.end = max(p.source.end, end.Source)
	p.copied.place(start.Target, at.target)
	p.matcher, p.hasher = match.NewLoose(at.syncPoints, h.Timestamps), h
	p.waiting, p.runs.unknown, p.search.pending = nil, 0, false
	p.transactions, p.matched = newTransactions(), translation{}
}

// restart begins again near the end of the copy and keeps what was counted.
func (p *partition) restart(reason string) {
	p.collect()
	p.tally.keep()
	p.restarted, p.ignoreSyncs, p.whole, p.placed, p.runs.unknown = reason, true, false, false, 0
}

// startOver begins again as if nothing had been compared since the last begin.
func (p *partition) startOver() {
	p.tally.discard()
	p.placed = false
}

// nextOfCopy returns the next fetch of the copy; false if nothing is to be read, such as while records wait to be matched.
func (p *partition) nextOfCopy() (wire.FetchPartition, bool) {
	return p.copied.fetch(), p.placed && !p.absent && len(p.waiting) == 0 && p.problem == ""
}

// nextOfSource returns the next fetch of the source; false if nothing is to be read, such as while the window is full.
func (p *partition) nextOfSource() (wire.FetchPartition, bool) {
	return p.source.fetch(), p.placed && p.source.next >= 0 && !p.matcher.Full() && p.problem == ""
}

// addCopy adds records of the copy. MirrorMaker 2 may have written them in transactions (KIP-618), so only committed records count.
func (p *partition) addCopy(rp *kmsg.FetchResponseTopicPartition) (advanced bool) {
	before := p.copied.next
	aborted := wire.AbortedOf(rp)
	p.handle(&p.copied, readBatches(&p.copied, rp, func(b recordbatch.Batch) error {
		route, _, err := recordbatch.Admit(b.Bytes, b.Header, &aborted, recordbatch.Rules{})
		if err != nil || route == recordbatch.RouteDrop {
			return err
		}
		return p.addCopyBatch(b)
	}))
	p.copied.setEnd(rp.HighWatermark)
	return p.copied.next > before
}

func (p *partition) addCopyBatch(b recordbatch.Batch) error {
	if b.Attributes.LogAppendTime() && p.hasher.Timestamps {
		return match.ErrBrokerTime
	}
	records, err := recordbatch.Decode(b.Bytes)
	for i := range records {
		if r := &records[i]; r.Offset >= p.copied.next {
			p.waiting = append(p.waiting, targetRecord{r.Offset, r.Timestamp, p.hasher.Hash(r)})
		}
	}
	return err
}

// addSource adds records of the source to the window.
func (p *partition) addSource(rp *kmsg.FetchResponseTopicPartition) (advanced bool) {
	before := p.source.next
	p.handle(&p.source, readBatches(&p.source, rp, func(b recordbatch.Batch) error {
		if b.Attributes.Control() {
			return p.addMarker(b)
		}
		return p.addSourceBatch(b)
	}))
	p.source.setEnd(rp.HighWatermark)
	p.sourceEnded = p.source.next >= rp.HighWatermark
	return p.source.next > before
}

// readBatches calls add with each batch of a fetch response that the cursor has not passed, and advances it.
func readBatches(c *cursor, rp *kmsg.FetchResponseTopicPartition, add func(recordbatch.Batch) error) error {
	for b, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return err
		}
		if c.passed(b.Header) {
			continue
		}
		err := add(b)
		c.advance(b.Header)
		if err != nil {
			return err
		}
	}
	return nil
}

// handle acts on the error of reading a log.
func (p *partition) handle(c *cursor, err error) {
	switch {
	case errors.Is(err, match.ErrBrokerTime):
		p.brokerTime = true
		p.startOver()
	case err != nil:
		p.problem = fmt.Sprintf("reading %s failed, it is no longer compared: %v", c.TopicPartition, err)
	}
}

func (p *partition) addSourceBatch(b recordbatch.Batch) error {
	records, err := recordbatch.Decode(b.Bytes)
	if err != nil {
		return err
	}
	transactional, first, count := b.Attributes.Transactional(), int64(-1), int64(0)
	for i := range records {
		r := &records[i]
		if r.Offset < p.source.next {
			continue
		}
		if r.Timestamp < 0 && p.hasher.Timestamps {
			return match.ErrBrokerTime // it has none, so MirrorMaker 2's producer set the time of copying
		}
		if count++; first < 0 {
			first = r.Offset
		}
		p.newest.source = max(p.newest.source, r.Timestamp)
		p.matcher.Add(match.SourceRecord{Offset: r.Offset, Hash: p.hasher.Hash(r), Optional: transactional})
	}
	if transactional && count > 0 && !p.source.reread(first) {
		p.transactions.add(b.ProducerID, first, b.NextOffset(), count)
	}
	return nil
}

// addMarker ends a transaction. If the log cleaner has emptied the marker's batch, the transaction has no records left either.
func (p *partition) addMarker(b recordbatch.Batch) error {
	if !p.transactions.has(b.ProducerID) || p.source.reread(b.BaseOffset) {
		return nil
	}
	how := transactionCommitted
	if b.Count > 0 {
		marker, err := recordbatch.ParseMarker(b.Bytes)
		switch {
		case err != nil:
			return err
		case marker == recordbatch.MarkerOther:
			return nil
		case marker == recordbatch.MarkerAbort:
			how = transactionAborted
		}
	}
	p.tally.current.add(p.transactions.end(b.ProducerID, how))
	return nil
}

// matchWaiting matches the records that wait, as far as the source was read.
func (p *partition) matchWaiting() {
	p.matcher.Ended = p.sourceEnded
	done := 0
	for _, r := range p.waiting {
		next, uncertain := p.matcher.Next(), p.matcher.Uncertain()
		verdict := p.matcher.Match(r.offset, r.hash)
		if verdict == match.Unmatched && p.maySearch(r) {
			p.matcher.RetractUnmatched()
			p.search.pending = true
			break
		}
		if verdict == match.NeedMore {
			break
		}
		done++
		if verdict == match.Unmatched && p.atSync && !p.begun { // the offset-sync does not hold
			p.ignoreSyncs = true
			p.startOver()
			return
		}
		p.runs.add(verdict, p.matcher.Uncertain() > uncertain)
		if p.matcher.Next() > next && p.hasher.Timestamps {
			p.newest.copied = r.timestamp
		}
		if verdict == match.Matched && !p.begun {
			p.firstMatch(r.offset)
		}
	}
	p.waiting = p.waiting[:copy(p.waiting, p.waiting[done:])]
	p.collect()
	if unknown := p.runs.unknown; unknown >= maxUnknown {
		p.tally.current.NotOnSource -= int64(unknown) // they may be further on
		p.restart(fmt.Sprintf("%d records of the copy in a row were not among the next %d of the source", unknown, p.window))
	}
}

// maySearch says that a target record without a match should be searched for in the source before the window.
func (p *partition) maySearch(r targetRecord) bool {
	return p.begun && p.hasher.Timestamps && r.timestamp >= 0 && p.search.worthwhile(r.offset, p.runs.unmatched)
}

// rewindTo takes the result of a search for the first waiting record: its source offset, from which the source is read again, or -1.
func (p *partition) rewindTo(source int64) {
	target := p.waiting[0].offset
	p.search.finished(target, source)
	if source < 0 {
		return
	}
	p.matcher = p.matcher.Restart(target)
	p.source.rewind(source)
}

// firstMatch makes the first match the beginning of what is compared. The places where reading began were guessed, so what is before the match
// on either side does not count.
func (p *partition) firstMatch(target int64) {
	p.begun = true
	p.matcher.ForgetMissing()
	if !p.whole {
		p.matcher.ForgetUnmatched()
		p.tally.discard()
	}
	source := p.matcher.Next() - 1
	p.matched.begin(source, target)
	p.transactions.startAt(source)
}

// collect moves the results of the matcher into the counts, so that it keeps no more than its window.
func (p *partition) collect() {
	if !p.matcher.Proven() {
		return
	}
	counts, found := &p.tally.current, p.matcher.TakeResult()
	for _, s := range found.Segments {
		counts.Equal += s.Count
		p.transactions.markCopied(s)
		p.matched.add(s)
	}
	counts.add(p.transactions.dropBelow(p.matcher.Next()))
	counts.Duplicates += found.Duplicates
	counts.NotOnSource += found.Unmatched
	counts.NotOnTarget += found.Missing
}

// limitWindow bounds the source records that are kept on each side of the newest match.
func (p *partition) limitWindow(records int) {
	p.window = records
	p.matcher.Limit(records)
}
