package replicator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// scriptedSource is a source that begins and ends at any offset, and may say that it was truncated.
type scriptedSource struct {
	simSource
	start, last int64
	truncated   *sourceLostError
}

func (s scriptedSource) fetch(ctx context.Context, offset int64, epoch int32) (*kmsg.FetchResponseTopicPartition, error) {
	switch {
	case s.truncated != nil && offset > s.truncated.from:
		return nil, s.truncated
	case offset < s.start:
		return nil, &sourceLostError{kind: policy.RetentionGap, from: offset, to: s.start}
	}
	rp, err := s.simSource.fetch(ctx, offset, epoch)
	rp.HighWatermark = s.last
	return rp, err
}

// batchesOf returns batches of one record each, from source offset 10 on.
func batchesOf(leaderEpoch int32, values ...string) []recordbatch.Batch {
	var batches []recordbatch.Batch
	for i, value := range values {
		encoded, err := recordbatch.Encode([]recordbatch.Record{{Timestamp: 1000, Value: []byte(value)}}, recordbatch.None)
		if err != nil {
			panic(err)
		}
		b := parseAt(encoded, 10+int64(i))
		binary.BigEndian.PutUint32(b.Bytes[12:], uint32(leaderEpoch))
		batches = append(batches, b)
	}
	return batches
}

// tailOfBatches returns the tail of a copy of these values, from target offset 100 on.
func tailOfBatches(t *testing.T, values ...string) *match.Tail {
	t.Helper()
	tail := match.NewTail(100, &offsets.Producer{ID: modelProducer, Epoch: 4})
	tail.Hash()
	for i, b := range batchesOf(-1, values...) {
		recordbatch.Rewrite(b.Bytes, modelProducer, 4, int32(i))
		if own, err := tail.Add(parseAt(b.Bytes, 100+int64(i))); !own || err != nil {
			t.Fatalf("own %v, error %v", own, err)
		}
	}
	return tail
}

// After a crash the source has something else than what was copied: that is an anomaly, and with skip the copy continues where both sides part.
func TestSettleHaltsIfTheSourceDiffers(t *testing.T) {
	tests := []struct {
		name    string
		source  scriptedSource
		kind    policy.Kind
		from    int64
		next    int64 // with skip
		rewinds bool
	}{
		{
			name: "other records, of a newer leader epoch: the log was truncated and has grown again", kind: policy.Truncated, from: 12, next: 12,
			source: scriptedSource{simSource: simSource{slices.Concat(batchesOf(3, "a", "b"), batchesOf(4, "a", "b", "x", "y", "z")[2:])}, last: 15},
		},
		{
			name: "other records of the same leader epoch", kind: policy.Unmatched, from: 12, next: 12,
			source: scriptedSource{simSource: simSource{batchesOf(3, "a", "b", "x", "y", "z")}, last: 15},
		},
		{
			name: "fewer records", kind: policy.Truncated, from: 12, next: 12,
			source: scriptedSource{simSource: simSource{batchesOf(3, "a", "b")}, last: 12},
		},
		{
			name: "a log that was truncated below what is journaled", kind: policy.Truncated, from: 7, rewinds: true,
			source: scriptedSource{simSource: simSource{batchesOf(3, "a", "b", "c", "d")}, last: 14, truncated: &sourceLostError{kind: policy.Truncated, from: 7, to: 10}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			known := tailKnowledge{acked: 10, leaderEpoch: 3}
			_, err := settle(t.Context(), test.source, tailOfBatches(t, "a", "b", "c", "d"), 104, fenced{marker{modelProducer, 5}, 1}, known)
			var doubt *unsettledError
			if !errors.As(err, &doubt) {
				t.Fatalf("the error is %v", err)
			}
			if doubt.kind != test.kind || doubt.from != test.from || doubt.rewind != test.rewinds || !test.rewinds && doubt.fallback.next != test.next {
				t.Errorf("%s from %d, continues at %d, rewinds %v; want %s from %d, %d, %v (%v)",
					doubt.kind, doubt.from, doubt.fallback.next, doubt.rewind, test.kind, test.from, test.next, test.rewinds, doubt)
			}
		})
	}
}

// The source deleted what was copied, and more.
func TestSettleBehindRetentionOfTheSource(t *testing.T) {
	for start, next := range map[int64]int64{11: 14, 13: 14, 14: 14, 17: 14} {
		source := scriptedSource{simSource: simSource{batchesOf(3, "a", "b", "c", "d", "e", "f", "g", "h", "i")[start-10:]}, start: start, last: 19}
		found, err := settle(t.Context(), source, tailOfBatches(t, "a", "b", "c", "d"), 104, fenced{marker{modelProducer, 5}, 1}, tailKnowledge{acked: 10, leaderEpoch: 3})
		if err != nil || found.next != next {
			t.Errorf("from %d: continues at %d (%v), want %d: what is missing between is told by the next fetch", start, found.next, err, next)
		}
	}
}

// What this process has sent is settled by identity: the batches that were written are the first ones, all of each.
func TestSettleKnowsWhatWasSent(t *testing.T) {
	sent := func(runs ...recordbatch.Run) []sentRecords {
		var list []sentRecords
		for _, run := range runs {
			list = append(list, sentRecords{runs: []recordbatch.Run{run}, count: run.Count, next: run.Source + int64(run.Count) + 1, leaderEpoch: 3})
		}
		return list
	}
	three := sent(recordbatch.Run{Source: 10, Count: 2}, recordbatch.Run{Source: 13, Count: 2}, recordbatch.Run{Source: 16, Count: 3})
	for n, next := range map[int]int64{0: 10, 2: 13, 4: 16, 7: 20} {
		values := make([]string, n)
		for i := range values {
			values[i] = fmt.Sprint(i)
		}
		known := tailKnowledge{acked: 10, continued: true, unsettled: three}
		found, err := settle(t.Context(), nil, tailOfBatches(t, values...), 100+int64(n), fenced{marker{modelProducer, 5}, 1}, known)
		records := int64(0)
		for _, s := range found.segments {
			records += s.Count
		}
		if err != nil || found.next != next || records != int64(n) {
			t.Errorf("%d records: continues at %d with %v (%v), want %d", n, found.next, found.segments, err, next)
		}
	}
	var doubt *unsettledError
	if _, err := settle(t.Context(), nil, tailOfBatches(t, "1", "2", "3"), 103, fenced{marker{modelProducer, 5}, 1}, tailKnowledge{acked: 10, continued: true, unsettled: three}); !errors.As(err, &doubt) {
		t.Errorf("half a batch: %v", err)
	}
}

// The target refused a batch, forgot the producer, and accepted those behind it, perhaps several times: that halts, and says which records are
// missing. With skip, the copy continues behind the records that are there.
func TestSettleHaltsAtAGapOfSequences(t *testing.T) {
	values := []string{"a", "b", "c", "d", "e", "f"}
	var sent []sentRecords
	for n := range int64(len(values)) {
		sent = append(sent, sentRecords{runs: []recordbatch.Run{{Source: 10 + n, Count: 1}}, count: 1, next: 11 + n, leaderEpoch: 3})
	}
	for _, test := range []struct {
		name     string
		known    tailKnowledge
		refused  []int
		from, to int64
	}{
		{"in the same process", tailKnowledge{acked: 10, continued: true, unsettled: sent}, []int{1}, 11, 12},
		{"after a crash", tailKnowledge{acked: 10}, []int{1}, 11, 12},
		{"the first one behind what was acknowledged", tailKnowledge{acked: 10, continued: true, unsettled: sent}, []int{0, 1}, 10, 12},
		{"the first one behind what was journaled", tailKnowledge{acked: 10}, []int{0, 1}, 10, 12},
		{"twice", tailKnowledge{acked: 10, continued: true, unsettled: sent}, []int{1, 3, 4}, 11, 15},
		{"twice before a crash", tailKnowledge{acked: 10}, []int{1, 3, 4}, 11, 15},
	} {
		t.Run(test.name, func(t *testing.T) {
			tail := match.NewTail(100, &offsets.Producer{ID: modelProducer, Epoch: 4})
			tail.Hash()
			landed := int64(0)
			for n, b := range batchesOf(-1, values...) {
				if slices.Contains(test.refused, n) {
					continue
				}
				recordbatch.Rewrite(b.Bytes, modelProducer, 4, int32(n))
				if own, err := tail.Add(parseAt(b.Bytes, 100+landed)); !own || err != nil {
					t.Fatalf("own %v, error %v", own, err)
				}
				landed++
			}
			source := scriptedSource{simSource: simSource{batchesOf(-1, values...)}, start: 10, last: 16}
			found, err := settle(t.Context(), source, tail, 100+landed, fenced{marker{modelProducer, 5}, 1}, test.known)
			var doubt *unsettledError
			if !errors.As(err, &doubt) {
				t.Fatalf("settled up to %d with %v (%v)", found.next, found.segments, err)
			}
			if doubt.kind != policy.Unmatched || !strings.Contains(doubt.detail, fmt.Sprintf("missing: %d;", len(test.refused))) {
				t.Errorf("anomaly %s: %s", doubt.kind, doubt.detail)
			}
			if doubt.from != test.from || doubt.to != test.to || doubt.fallback.next != 16 {
				t.Errorf("offsets %d to %d, want %d to %d; with skip the copy continues at %d", doubt.from, doubt.to, test.from, test.to, doubt.fallback.next)
			}
		})
	}
}

// The journal does not have the last takeover, and the target deleted its marker: one of the offsets that are gone held no record. Which, the
// records tell that both sides still have, also if the source deleted the beginning too.
func TestSettleFindsADeletedMarker(t *testing.T) {
	values := []string{"a", "b", "c", "d", "e", "f"}
	for start := int64(10); start <= 14; start++ {
		tail := match.NewTail(100, &offsets.Producer{ID: modelProducer, Epoch: 4, Sequence: 7})
		tail.Hash()
		tail.LogStart = 105 // 100 was the marker, 101 to 104 were a to d
		for i, b := range batchesOf(-1, values...)[4:] {
			recordbatch.Rewrite(b.Bytes, modelProducer, 5, int32(4+i))
			if own, err := tail.Add(parseAt(b.Bytes, 105+int64(i))); !own || err != nil {
				t.Fatalf("own %v, error %v", own, err)
			}
		}
		source := scriptedSource{simSource: simSource{batchesOf(3, append(values, "g", "h")...)[start-10:]}, start: start, last: 18}
		found, err := settle(t.Context(), source, tail, 107, fenced{marker{modelProducer, 6}, 1}, tailKnowledge{acked: 10, leaderEpoch: 3})
		want := []offsets.Segment{{Source: 14, Target: 105, Count: 2}}
		if err != nil || found.next != 16 || !slices.Equal(found.segments, want) {
			t.Errorf("the source starts at %d: continues at %d with %v (%v), want 16 with %v", start, found.next, found.segments, err, want)
		}
	}
}

// cleanedSource is a source that a log cleaner of Kafka has worked on, and that may change with each reading.
type cleanedSource struct {
	simSource
	readings *[][]recordbatch.Batch // the last one stays
	moves    bool
}

func (s cleanedSource) fetch(ctx context.Context, offset int64, epoch int32) (*kmsg.FetchResponseTopicPartition, error) {
	if s.batches = (*s.readings)[0]; offset == 10 && len(*s.readings) > 1 {
		*s.readings = (*s.readings)[1:]
	}
	return s.simSource.fetch(ctx, offset, epoch)
}

func (s cleanedSource) cleaned(context.Context) (replaySource, int32) {
	if s.moves {
		return movedSource{s}, 3
	}
	return s, 3
}

type movedSource struct{ cleanedSource }

func (movedSource) fetch(context.Context, int64, int32) (*kmsg.FetchResponseTopicPartition, error) {
	return nil, errLeaderMoved
}

// What was copied ends with k=2, which the source has removed. The record before the last hole has the key k too, so k=2 is not behind it. That
// counts if two readings in a row find the same.
func TestSettleKnowsTheOrderOfTheCleaner(t *testing.T) {
	keyed := func(kept ...int) []recordbatch.Batch {
		var batches []recordbatch.Batch
		for _, i := range kept {
			record := recordbatch.Record{Timestamp: 1000, Key: []byte("k"), Value: fmt.Append(nil, i)}
			encoded, err := recordbatch.Encode([]recordbatch.Record{record}, recordbatch.None)
			if err != nil {
				t.Fatal(err)
			}
			b := parseAt(encoded, 10+int64(i))
			binary.BigEndian.PutUint32(b.Bytes[12:], 3)
			batches = append(batches, parseAt(b.Bytes, b.BaseOffset))
		}
		return batches
	}
	tests := []struct {
		name     string
		readings [][]recordbatch.Batch
		moves    bool
		next     int64 // 0 for a doubt
	}{
		{name: "the same", readings: [][]recordbatch.Batch{keyed(3, 5)}, next: 13},
		{name: "the cleaner works in between", readings: [][]recordbatch.Batch{keyed(3, 5), keyed(3, 5), keyed(3, 6), keyed(3, 6)}, next: 13},
		{name: "it always works", readings: [][]recordbatch.Batch{keyed(3, 5), keyed(3, 6), keyed(3, 7), keyed(3, 8), keyed(3, 9)}},
		{name: "the leader moves", readings: [][]recordbatch.Batch{keyed(3, 5)}, moves: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tail := match.NewTail(100, &offsets.Producer{ID: modelProducer, Epoch: 4})
			tail.Hash()
			for i, b := range keyed(2) { // 0 and 1 are gone
				recordbatch.Rewrite(b.Bytes, modelProducer, 4, int32(2+i))
				if own, err := tail.Add(parseAt(b.Bytes, 102)); !own || err != nil {
					t.Fatalf("own %v, error %v", own, err)
				}
			}
			source := cleanedSource{readings: &test.readings, moves: test.moves}
			found, err := settle(t.Context(), source, tail, 103, fenced{marker{modelProducer, 5}, 1}, tailKnowledge{acked: 10, leaderEpoch: 3})
			var doubt *unsettledError
			if errors.As(err, &doubt) != (test.next == 0) || found.next != test.next {
				t.Errorf("continues at %d (%v), want %d", found.next, err, test.next)
			}
		})
	}
}
