package match

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// randomLogs makes a source and its copy, kills milena before it journals, and lets both clusters delete what they like.
func randomLogs(seed uint64, contents int) *logs {
	b := &builder{Rand: rand.New(rand.NewPCG(seed, 1)), contents: contents}
	b.cleaned = -1
	b.appendTime = contents > 0
	b.begin = offsets.Pair{Source: int64(b.IntN(50)), Target: int64(b.IntN(50))}
	b.producer = offsets.Producer{ID: 7, Epoch: 4, Sequence: int32(b.IntN(20))}
	b.sourceEnd, b.sourceStart, b.targetStart = b.begin.Source, b.begin.Source, b.begin.Target
	b.addSource(5 + b.IntN(60))
	takeovers := 0
	if b.IntN(4) == 0 {
		takeovers = 1 + b.IntN(2)
	}
	b.copySome(b.IntN(40), takeovers)
	b.addSource(b.IntN(10))
	what := b.IntN(16)
	if what&1 != 0 {
		b.source = b.compact(b.source, func(logBatch) bool { return b.IntN(2) == 0 })
	}
	if what&2 != 0 {
		last := int64(-1)
		for _, batch := range b.target {
			last = batch.base
		}
		b.target = b.compact(b.target, func(batch logBatch) bool { return batch.base == last || b.IntN(2) == 0 }) // a cleaner keeps the last one
	}
	if what&4 != 0 {
		b.sourceStart += int64(b.IntN(int(b.sourceEnd-b.sourceStart) + 1))
	}
	if what&8 != 0 {
		b.targetStart += int64(b.IntN(int(b.marker-b.targetStart) + 1))
	}
	return &b.logs
}

// Whatever both clusters have deleted since, the records that were copied are found: nothing is lost, nothing is copied twice, the map is exact.
// Only if a marker was deleted, and a takeover lies between, the number of records is in doubt. And with nothing deleted on the target, there is
// never a doubt.
func TestReconcilerFindsTheEndByContent(t *testing.T) {
	counts := make(map[string]int)
	for seed := range uint64(5_000) {
		l := randomLogs(seed, 0)
		end, err := reconcile(t, l)
		var doubt *DoubtError
		switch {
		case errors.As(err, &doubt) && l.deletedOnTarget():
			counts["doubt"]++
			if problem := l.checkDoubt(doubt); problem != "" {
				t.Fatalf("seed %d: %s\n%s", seed, problem, l)
			}
		case err != nil:
			t.Fatalf("seed %d: %v\n%s", seed, err, l)
		default:
			counts["found"]++
			if problem := l.check(end); problem != "" {
				t.Fatalf("seed %d: %s\n%s", seed, problem, l)
			}
			if problem := l.missing(end); problem != "" {
				t.Fatalf("seed %d: %s\n%s", seed, problem, l)
			}
		}
	}
	t.Log(counts)
	if counts["found"] < 3_500 {
		t.Errorf("too many doubts: %v", counts)
	}
}

// A record was written twice within a millisecond, and the target's cleaner removed the first copy. What the source has before it is gone, so the
// second copy may be that of either.
func TestReconcilerDoubtsTheLastRecordIfAnEqualOneMayBeGone(t *testing.T) {
	record := func(offset int64, key string) recordbatch.Record {
		return recordbatch.Record{Offset: offset, Timestamp: 1000, Key: []byte(key), Value: []byte("v")}
	}
	l := &logs{
		begin: offsets.Pair{Source: 8, Target: 100}, producer: offsets.Producer{ID: 7, Epoch: 4}, sourceStart: 8, sourceEnd: 13, targetStart: 100,
		source: []logBatch{{base: 10, last: 12, producer: offsets.Producer{ID: -1, Epoch: -1, Sequence: -1}, records: []recordbatch.Record{record(10, "a"), record(11, "b"), record(12, "a")}}},
		target: []logBatch{{base: 100, last: 102, producer: offsets.Producer{ID: 7, Epoch: 4}, records: []recordbatch.Record{record(102, "a")}}},
		marker: 103, markerEpoch: 5, cleaned: -1,
	}
	var doubt *DoubtError
	if end, err := reconcile(t, l); !errors.As(err, &doubt) || doubt.From != 11 || doubt.To != 13 {
		t.Errorf("end %+v, error %v, want a doubt between 11 and 13", end, err)
	}
}

// Append times say nothing, so records may be equal in everything but their offset, and the end may be in doubt. It is never wrong.
func TestReconcilerNeverGuesses(t *testing.T) {
	for contents := 1; contents <= 3; contents++ {
		counts := make(map[string]int)
		for seed := range uint64(3_000) {
			l := randomLogs(seed, contents)
			end, err := reconcile(t, l)
			var doubt *DoubtError
			switch {
			case errors.As(err, &doubt) && doubt.From < doubt.To:
				counts["doubt"]++
				if problem := l.checkDoubt(doubt); problem != "" {
					t.Fatalf("%d contents, seed %d: %s\n%s", contents, seed, problem, l)
				}
			case err != nil:
				t.Fatalf("%d contents, seed %d: %v\n%s", contents, seed, err, l)
			default:
				counts["found"]++
				if problem := l.check(end); problem != "" {
					t.Fatalf("%d contents, seed %d: %s\n%s", contents, seed, problem, l)
				}
			}
		}
		t.Log(contents, counts)
	}
}
