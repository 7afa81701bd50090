package match

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// replica is what a broker has of a partition, and how far its log cleaner has come.
type replica struct {
	log   []logBatch
	dirty int64 // offset of the first record that no finished pass has seen
	old   bool  // tombstones may be older than delete.retention.ms
}

func (r *replica) clone() *replica {
	return &replica{slices.Clone(r.log), r.dirty, r.old} // passes replace batches, and do not change their records
}

// pass lets the cleaner work as Kafka's does. It notes the latest offset of each key from the first dirty record on, up to a batch: what follows
// is active, or does not fit into its map. Then it works on the log from its start to there, and removes the records of which it has noted a
// later one, tombstones that are old enough, and aborted records. It may end in the middle, as when its broker is stopped. The last batch with a
// producer stays, perhaps without records.
func (b *builder) pass(r *replica) {
	noted, latest, last := b.IntN(len(r.log)+1), make(map[string]int64), int64(-1)
	end := noted
	if b.IntN(3) == 0 {
		end = b.IntN(noted + 1)
	}
	for i, batch := range r.log {
		for _, record := range batch.records {
			if i < noted && record.Offset >= r.dirty && !batch.dropped {
				latest[string(record.Key)] = record.Offset
			}
		}
		if batch.attributes&control == 0 {
			last = batch.base
		}
	}
	var left []logBatch
	for i, batch := range r.log {
		if i < end && batch.attributes&control == 0 {
			batch.rewrite(slices.DeleteFunc(slices.Clone(batch.records), func(record recordbatch.Record) bool {
				return batch.dropped || record.Offset < latest[string(record.Key)] || r.old && record.Value == nil && b.IntN(2) == 0
			}))
		}
		if i >= end || len(batch.records) > 0 || batch.attributes&control != 0 || batch.base == last {
			left = append(left, batch)
		}
	}
	if end == noted && noted > 0 {
		r.dirty = max(r.dirty, r.log[noted-1].last+1)
	}
	r.log = left
}

// cleanedLogs makes a source and its copy, and lets both cleaners work. Rough logs have takeovers in the copy, a source that may get its last
// leader while it is copied, and cuts at the start.
func cleanedLogs(seed uint64, contents int, appendTime, rough bool) *builder { //nolint:revive // not flags
	b := &builder{Rand: rand.New(rand.NewPCG(seed, 2)), contents: contents, keys: 6, appendTime: appendTime}
	b.begin = offsets.Pair{Source: int64(b.IntN(50)), Target: int64(b.IntN(50))}
	b.producer = offsets.Producer{ID: 7, Epoch: 4, Sequence: int32(b.IntN(20))}
	b.sourceEnd, b.sourceStart, b.targetStart, b.cleaned = b.begin.Source, b.begin.Source, b.begin.Target, -1
	if rough && b.IntN(2) == 0 {
		b.addSource(b.IntN(40))
	}
	change, takeovers := len(b.source), 0
	b.cleaned = lastLeader
	b.addSource(5 + b.IntN(60))
	if rough {
		takeovers = max(0, b.IntN(4)-2)
	}
	b.copySome(b.IntN(40), takeovers)
	target := &replica{log: b.target}
	b.cleanSome(target)
	b.target = target.log
	b.cleanSource(change)
	if rough && b.IntN(4) == 0 {
		b.sourceStart += int64(b.IntN(int(b.sourceEnd-b.sourceStart) + 1))
	}
	if rough && b.IntN(4) == 0 {
		b.targetStart += int64(b.IntN(int(b.marker-b.targetStart) + 1))
	}
	return b
}

// lastLeader is the epoch of the last leader of the source.
const lastLeader = 1000

// cleanSource lets the cleaners of the source's leaders work while its log grows. The last leader was behind when it became the leader: it has
// what it had before the one before it cleaned, and what follows as that one had cleaned it.
func (b *builder) cleanSource(change int) {
	written := b.source
	last := &replica{log: written[:change:change]}
	if change > 0 {
		before := last.clone()
		b.cleanSome(last)
		behind := written[b.IntN(change)].base
		after := before.clone()
		b.cleanSome(before)
		after.log = slices.DeleteFunc(after.log, func(batch logBatch) bool { return batch.base >= behind })
		for _, batch := range before.log {
			if batch.base >= behind {
				after.log = append(after.log, batch)
			}
		}
		after.dirty, last = min(last.dirty, behind), after
	}
	last.log = append(last.log, written[change:]...)
	last.old = b.IntN(2) == 0
	b.cleanSome(last)
	b.source = last.log
	b.addSource(b.IntN(20))
	last.log = b.source
	b.cleanSome(last)
	b.source = last.log
}

// cleanSome lets a cleaner make a few passes.
func (b *builder) cleanSome(r *replica) {
	for range b.IntN(3) {
		b.pass(r)
	}
}

// Both cleaners keep the newest record of each key, and remove the older ones in order. That is nearly always sufficient to find the end, if
// records are different, and the end is never wrong: also with takeovers in between, with tombstones that are gone, with another leader of the
// source, and with logs that were cut at their start. Records that are equal, as without the timestamps of producers, remain in doubt.
func TestReconcilerBehindTwoCleaners(t *testing.T) {
	tests := []struct {
		name          string
		kept, ordered bool // the target keeps the newest records, the source was cleaned in order
		rough         bool // takeovers, another leader, cuts
		contents      int
		appendTime    bool
		doubts        int // at most
	}{
		{name: "nothing is known", doubts: 100},
		{name: "what the target keeps", kept: true, doubts: 65},
		{name: "the order of the source", ordered: true, doubts: 65},
		{name: "both", kept: true, ordered: true, doubts: 25},
		{name: "both after more trouble", kept: true, ordered: true, rough: true, doubts: 110},
		{name: "append times", kept: true, ordered: true, rough: true, appendTime: true, doubts: 290},
		{name: "equal records", kept: true, ordered: true, rough: true, appendTime: true, contents: 3, doubts: 380},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			doubts := 0
			for seed := range uint64(2_000) {
				b := cleanedLogs(seed, test.contents, test.appendTime, test.rough)
				b.keepsNewest = test.kept
				if !test.ordered {
					b.cleaned = -1
				}
				end, err := reconcile(t, &b.logs)
				var doubt *DoubtError
				switch {
				case errors.As(err, &doubt) && doubt.From < doubt.To:
					doubts++
					if problem := b.checkDoubt(doubt); problem != "" {
						t.Fatalf("seed %d: %s\n%s", seed, problem, &b.logs)
					}
					continue
				case err != nil:
					t.Fatalf("seed %d: %v\n%s", seed, err, &b.logs)
				}
				if problem := b.check(end); problem != "" {
					t.Fatalf("seed %d: %s\n%s", seed, problem, &b.logs)
				}
				if problem := b.missing(end); problem != "" && !test.appendTime {
					t.Fatalf("seed %d: %s\n%s", seed, problem, &b.logs)
				}
			}
			if t.Logf("%d doubts", doubts); doubts > test.doubts {
				t.Errorf("%d doubts, want at most %d", doubts, test.doubts)
			}
		})
	}
}
