package match

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// logBatch is a batch of either log, as its broker holds it.
type logBatch struct {
	base, last int64
	epoch      int32 // of the leader
	producer   offsets.Producer
	attributes recordbatch.Attributes
	maxTime    int64 // of a batch with append time
	records    []recordbatch.Record
	dropped    bool // a marker, or records of an aborted transaction: never copied
}

const (
	appendTime recordbatch.Attributes = 0x08
	control    recordbatch.Attributes = 0x20
)

// epochAt returns the leader epoch of a batch at a source offset: a new leader is elected every epochLength offsets.
func epochAt(base int64) int32 { return int32(base / epochLength) }

// An epoch ends with a batch, which has at most maxBatch offsets.
const (
	epochLength = 10
	maxBatch    = 4
)

func (b logBatch) encode() recordbatch.Batch {
	k := kmsg.RecordBatch{
		FirstOffset: b.base, PartitionLeaderEpoch: b.epoch, Magic: 2, Attributes: int16(b.attributes), FirstTimestamp: -1, MaxTimestamp: -1,
		ProducerID: b.producer.ID, ProducerEpoch: b.producer.Epoch, FirstSequence: b.producer.Sequence,
		NumRecords: int32(len(b.records)), LastOffsetDelta: int32(b.last - b.base),
	}
	if len(b.records) > 0 {
		k.FirstTimestamp = b.records[0].Timestamp
	}
	for _, r := range b.records {
		k.MaxTimestamp = max(k.MaxTimestamp, r.Timestamp)
		one := kmsg.Record{TimestampDelta64: r.Timestamp - k.FirstTimestamp, OffsetDelta: int32(r.Offset - b.base), Key: r.Key, Value: r.Value}
		one.Length = int32(len(one.AppendTo(nil)) - 1)
		k.Records = one.AppendTo(k.Records)
	}
	if b.attributes&appendTime != 0 {
		k.MaxTimestamp = b.maxTime
	}
	bytes := k.AppendTo(nil)
	binary.BigEndian.PutUint32(bytes[8:], uint32(len(bytes)-12))
	reseal(bytes)
	h, err := recordbatch.Parse(bytes)
	if err != nil {
		panic(err)
	}
	return recordbatch.Batch{Header: h, Bytes: bytes}
}

// reseal sets the checksum of a batch.
func reseal(batch []byte) {
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
}

// logs are a source partition and its copy, at a crash of milena: everything below the journaled end (begin, on both sides) is left out.
type logs struct {
	begin          offsets.Pair
	producer       offsets.Producer // what the first record behind the journaled end carries
	source, target []logBatch
	sourceStart    int64
	targetStart    int64
	sourceEnd      int64
	marker         int64            // target offset of the marker of the next fence
	markerEpoch    int16            // and its epoch
	copied         map[int64]int64  // target offset by source offset of everything that was copied
	content        map[int64]string // by target offset
	keepsNewest    bool             // the target has lost records at its start, and to its cleaner, and nothing else
	cleaned        int32            // if not -1, the leader epoch from which on only the leader's cleaner worked on the source
}

// builder makes random logs. Contents are the kinds of records; with few of them, many records are equal.
type builder struct {
	*rand.Rand
	logs
	contents   int
	keys       int // of records whose contents are all different; 0 is a key for each
	appendTime bool
	next       int
}

// epochAt returns the leader epoch of the next source batch.
func (b *builder) epochAt(base int64) int32 {
	if b.cleaned >= 0 {
		return b.cleaned
	}
	return epochAt(base)
}

func (b *builder) record(offset int64) recordbatch.Record {
	b.next++
	kind := b.next
	if b.contents > 0 {
		kind = b.IntN(b.contents)
	}
	r := recordbatch.Record{Offset: offset, Timestamp: 1000 + int64(min(b.contents, 1)*b.next), Key: fmt.Appendf(nil, "k%d", kind), Value: fmt.Appendf(nil, "v%d", kind)}
	if b.keys > 0 {
		if r.Key = fmt.Appendf(nil, "k%d", b.IntN(b.keys)); b.IntN(8) == 0 {
			r.Value, r.Timestamp = nil, 1000+int64(b.next)
		}
	}
	return r
}

// addSource adds source batches up to n offsets: records, markers, and what a cleaner removed before it was copied.
func (b *builder) addSource(n int) {
	for end := b.sourceEnd + int64(n); b.sourceEnd < end; {
		size := int64(1 + b.IntN(4))
		batch := logBatch{base: b.sourceEnd, last: b.sourceEnd + size - 1, epoch: b.epochAt(b.sourceEnd)}
		switch kind := b.IntN(10); kind {
		case 0: // a hole
			b.sourceEnd += size
			continue
		case 1:
			batch.last, batch.dropped, batch.attributes = batch.base, true, control
		default:
			batch.dropped = kind == 2
			for offset := batch.base; offset <= batch.last; offset++ {
				if kind != 3 || b.IntN(2) == 0 { // a hole within the batch
					batch.records = append(batch.records, b.record(offset))
				}
			}
			if b.appendTime {
				batch.attributes, batch.maxTime = appendTime, 5000+batch.base
			}
		}
		b.source = append(b.source, batch)
		b.sourceEnd = batch.last + 1
	}
}

// copySome copies the source, and is killed after a number of records.
func (b *builder) copySome(n, takeovers int) {
	at, producer := b.begin.Target, b.producer
	b.copied, b.content = make(map[int64]int64), make(map[int64]string)
	put := func(batch logBatch) {
		batch.base, batch.last = at, at+int64(len(batch.records))-1
		records := slices.Clone(batch.records)
		for i := range records {
			b.copied[records[i].Offset] = at
			b.content[at] = string(records[i].Key) + string(records[i].Value)
			records[i].Offset = at
			at++
		}
		batch.records, batch.producer = records, producer
		if b.appendTime {
			batch.attributes, batch.maxTime = appendTime, 9000+at
		}
		b.target = append(b.target, batch)
		producer.Sequence += int32(len(records))
	}
	var merged []recordbatch.Record // of several source batches, not written yet
	flush := func() {
		if len(merged) > 0 {
			put(logBatch{records: merged})
			merged = nil
		}
	}
	for _, batch := range b.source {
		for records := batch.records; len(records) > 0 && !batch.dropped && len(b.copied)+len(merged) < n; {
			part := len(records)
			if b.IntN(4) == 0 { // a batch that is split
				part = 1 + b.IntN(part)
			}
			merged = append(merged, records[:part]...)
			records = records[part:]
			if b.IntN(4) > 0 {
				flush()
			}
			if takeovers > 0 && b.IntN(6) == 0 {
				flush()
				takeovers--
				producer.Epoch, producer.Sequence = producer.Epoch+1, 0
				b.target = append(b.target, logBatch{base: at, last: at, attributes: control, producer: producer})
				at++
			}
		}
	}
	flush()
	b.marker, b.markerEpoch = at, producer.Epoch+1
}

// rewrite leaves only some records in the batch. A cleaner does not keep the timestamps of the producer if the topic has append times.
func (b *logBatch) rewrite(records []recordbatch.Record) {
	if len(records) < len(b.records) && b.attributes&appendTime != 0 {
		for i := range records {
			records[i].Timestamp = b.maxTime
		}
	}
	b.records = records
}

// compact removes random records of a log, as its cleaner does.
func (b *builder) compact(log []logBatch, keep func(logBatch) bool) []logBatch {
	var left []logBatch
	for _, batch := range log {
		records := slices.DeleteFunc(slices.Clone(batch.records), func(recordbatch.Record) bool { return b.IntN(2) == 0 })
		if batch.attributes&control != 0 {
			records = nil
		}
		batch.rewrite(records)
		if len(records) > 0 || batch.attributes&control != 0 || keep(batch) {
			left = append(left, batch)
		}
	}
	return left
}

func tailOf(t testing.TB, l *logs, hashes bool) *Tail { //nolint:revive // not a flag
	t.Helper()
	tail := NewTail(l.begin.Target, &l.producer)
	tail.KeepsNewest, tail.LogStart = l.keepsNewest, l.targetStart
	if hashes {
		tail.Hash()
	}
	for _, batch := range l.target {
		switch {
		case batch.last < l.targetStart:
		case batch.attributes&control != 0:
			tail.Pass(batch.base, batch.last+1)
		default:
			if own, err := tail.Add(batch.encode()); err != nil || !own {
				t.Fatalf("batch at target offset %d: own %v, error %v", batch.base, own, err)
			}
		}
	}
	var count *CountError // the content decides
	if err := tail.Close(l.marker, l.producer.ID, l.markerEpoch, 1); err != nil && !errors.As(err, &count) {
		t.Fatal(err)
	}
	return tail
}

// reconcile runs a Reconciler over the logs as the engine does.
func reconcile(t testing.TB, l *logs) (*End, error) {
	t.Helper()
	end, err := reconcileWith(t, l, false)
	if err == ErrHashes { //nolint:errorlint // a test
		return reconcileWith(t, l, true)
	}
	return end, err
}

func reconcileWith(t testing.TB, l *logs, hashes bool) (*End, error) {
	t.Helper()
	tail := tailOf(t, l, hashes)
	r := NewReconciler(tail, l.begin.Source, epochAt(l.begin.Source-1))
	r.Cleaned = l.cleaned
	if r.End() == nil {
		r.Lost(l.sourceStart)
	}
	for _, batch := range l.source {
		if r.End() != nil {
			break
		}
		if batch.last < r.Next {
			continue
		}
		encoded := batch.encode()
		route, reason, err := recordbatch.Admit(encoded.Bytes, encoded.Header, nil, recordbatch.Rules{Wanted: r.Next, TargetLogAppendTime: true})
		if err != nil && batch.attributes&control == 0 {
			t.Fatal(err)
		}
		if batch.dropped {
			route, reason = recordbatch.RouteDrop, recordbatch.ReasonAborted
		}
		if err := r.Match(encoded, route, reason); err != nil {
			return nil, err
		}
	}
	if ok, err := r.EndOfSource(l.sourceEnd); err != nil || !ok {
		return nil, fmt.Errorf("at the end of the source: %v, %w", ok, err)
	}
	return r.End(), nil
}

// check reports what is wrong with an end that was found: a record that would be lost or copied twice, a wrong segment, or a leader epoch that
// ends before it, by which the source would say that it was truncated.
func (l *logs) check(end *End) string {
	if epoch := int64(end.LeaderEpoch); epoch >= 0 && epoch != int64(l.cleaned) && end.Next > (epoch+1)*epochLength+maxBatch-1 {
		return fmt.Sprintf("the copy continues at source offset %d, but leader epoch %d ends before", end.Next, epoch)
	}
	for _, batch := range l.source {
		for _, r := range batch.records {
			_, copied := l.copied[r.Offset]
			switch {
			case batch.dropped || r.Offset < l.sourceStart:
			case r.Offset < end.Next && !copied:
				return fmt.Sprintf("source offset %d is lost: the copy continues at %d", r.Offset, end.Next)
			case r.Offset >= end.Next && copied:
				return fmt.Sprintf("source offset %d is copied twice: the copy continues at %d", r.Offset, end.Next)
			}
		}
	}
	for _, s := range end.Segments {
		for i := range s.Count {
			if l.content[s.Target+i] != l.content[l.copied[s.Source+i]] {
				return fmt.Sprintf("the map says that source offset %d is at target offset %d", s.Source+i, s.Target+i)
			}
		}
	}
	return ""
}

// checkDoubt checks that the copy ends between the two offsets of a doubt: whoever continues at the last one copies nothing twice.
func (l *logs) checkDoubt(doubt *DoubtError) string {
	if doubt.From == doubt.To {
		return ""
	}
	for _, batch := range l.source {
		for _, r := range batch.records {
			_, copied := l.copied[r.Offset]
			switch {
			case batch.dropped || r.Offset < l.sourceStart:
			case r.Offset < doubt.From && !copied:
				return fmt.Sprintf("source offset %d is lost: %v", r.Offset, doubt)
			case r.Offset >= doubt.To && copied:
				return fmt.Sprintf("source offset %d is copied twice: %v", r.Offset, doubt)
			}
		}
	}
	return ""
}

// missing returns a record that both sides have and the map does not, if their contents are all different.
func (l *logs) missing(end *End) string {
	pairs := make(map[int64]int64)
	for _, s := range end.Segments {
		for i := range s.Count {
			pairs[s.Source+i] = s.Target + i
		}
	}
	left := make(map[int64]bool)
	for _, batch := range l.target {
		for _, r := range batch.records {
			left[r.Offset] = batch.last >= l.targetStart
		}
	}
	for _, batch := range l.source {
		for _, r := range batch.records {
			if target, ok := l.copied[r.Offset]; ok && left[target] && r.Offset >= l.sourceStart {
				if at, mapped := pairs[r.Offset]; !mapped || at != target {
					return fmt.Sprintf("source offset %d is at target offset %d, the map says %d (%v)", r.Offset, target, at, mapped)
				}
			}
		}
	}
	return ""
}

// deletedOnTarget reports whether the target lacks records of the tail.
func (l *logs) deletedOnTarget() bool {
	left := 0
	for _, batch := range l.target {
		if batch.last >= l.targetStart {
			left += len(batch.records)
		}
	}
	return left < len(l.copied)
}

// String shows both logs.
func (l *logs) String() string {
	text := fmt.Sprintf("source from %d, starts at %d, ends at %d; target from %d, starts at %d, marker at %d\n",
		l.begin.Source, l.sourceStart, l.sourceEnd, l.begin.Target, l.targetStart, l.marker)
	for name, log := range map[string][]logBatch{"source": l.source, "target": l.target} {
		for _, b := range log {
			text += fmt.Sprintf("%s %d-%d dropped %v %v %+v", name, b.base, b.last, b.dropped, b.attributes, b.producer)
			for _, r := range b.records {
				text += fmt.Sprintf(" %d:%s=%s", r.Offset, r.Key, r.Value)
			}
			text += "\n"
		}
	}
	return text
}
