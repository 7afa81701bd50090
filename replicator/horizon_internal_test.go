package replicator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/topics"
)

// A response may be read long after the source has written it, because the line is long or the process was stopped. What it says was so when it was
// asked for, at least.
func TestACopyIsCompleteUpToWhenTheSourceWasAsked(t *testing.T) {
	f := testFlow(t)
	p := replicatingPartition(f, 1000)
	now := time.Now()
	b := &sourceBroker{flow: f, asked: now.Add(-time.Hour)}
	empty := fetched()
	empty.HighWatermark = 1000
	for what, rp := range map[string]func() bool{
		"an end":  func() bool { return b.handlePartition(p.ticketOfFetch(), empty, now, newSlab(f.budget, 0, nil)) },
		"no news": func() bool { return b.handlePartition(p.ticketOfFetch(), nil, now, newSlab(f.budget, 0, nil)) },
	} {
		*p.sight = sight{}
		p.cursor.setSourceEnd(1000, 0, now)
		rp()
		if at := time.UnixMilli(p.sight.completeAt); at.After(b.asked) || at.Before(b.asked.Add(-time.Second)) {
			t.Errorf("%s that was asked for at %v makes the copy complete up to %v", what, b.asked, at)
		}
	}
}

// That the source ends where the copy ends, or before, says nothing while the copy is of another log, or was lost: it was complete once, or never.
func TestAHaltedCopyIsNotComplete(t *testing.T) {
	before := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	tests := []struct {
		kind           policy.Kind
		end, missing   int64
		completeBefore bool // it stays complete up to what it was
	}{
		{policy.Recreated, 20, 20, false},
		{policy.Recreated, 1000, 1000, false},
		{policy.TargetRecreated, 1000, 1000, false},
		{policy.Truncated, 1000, 40, false},
		{policy.Truncated, 900, 0, false},
		{policy.Unmatched, 1000, 0, true},
		{policy.RecordTooLarge, 1005, 5, true},
	}
	for _, test := range tests {
		f := testFlow(t)
		p := replicatingPartition(f, 1000)
		p.sight.see(1000, 1000, p.record.Generation, before)
		f.halt(p, test.kind, "")
		p.anomaly.from = 960
		p.cursor.setSourceEnd(test.end, 0, time.Now())
		p.seeLocked(time.Now())
		b := p.sight.behind(p, p.acked)
		if b.Missing() != test.missing {
			t.Errorf("%s, with a source that ends at %d: %d records are missing, want %d", test.kind, test.end, b.Missing(), test.missing)
		}
		if test.completeBefore && !b.Complete.Equal(before) || !test.completeBefore && !b.Complete.IsZero() {
			t.Errorf("%s, with a source that ends at %d: complete up to %v, and it was up to %v", test.kind, test.end, b.Complete, before)
		}
	}
}

// A source that ends before the copy has lost what was copied, and may have other records there.
func TestACopyIsNotCompleteBeyondTheEndOfItsSource(t *testing.T) {
	s := sightAt{new(sight), time.Now().Truncate(time.Second)}
	s.look(0, 100, 100)
	s.look(1, 95, 100)
	if at := s.complete(100); at != 0 {
		t.Errorf("it counts as complete up to second %d", at)
	}
}

// What the journal refuses is written by the next pass, also if nothing has changed since, as when the source is gone.
func TestAHorizonThatWasNotWrittenIsWrittenAgain(t *testing.T) {
	f, log, _ := newJournalFlow(t, 1)
	s := f.held.get(0)
	p := addCopy(t, s, "orders", 10)
	p.cursor.setSourceEnd(100, 0, time.Now())
	p.seeLocked(time.Now())
	f.syncJournal(t.Context()) // with its horizon
	s.horizon.at = time.Time{}
	p.cursor.setSourceEnd(200, 0, time.Now())
	p.seeLocked(time.Now())
	log.refuse = func(int32, int) int16 { return kerr.InvalidRecord.Code }
	f.syncJournal(t.Context())
	log.refuse = nil
	f.syncJournal(t.Context()) // the pass after a failure writes no horizon
	s.horizon.at = time.Time{}
	f.syncJournal(t.Context())
	h := log.horizon(t, 0)
	if b, _ := h.Of("orders", 0); b == nil || b.SourceEnd != 200 {
		t.Errorf("the journal has the horizon %+v, and the source was seen up to 200", h)
	}
}

// horizon returns the newest horizon of a shard, nil if there is none.
func (l *journalLog) horizon(t *testing.T, shard int32) (newest *offsets.Horizon) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.logs[shard] {
		e, err := offsets.DecodeJournal(r.Key, r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := e.(*offsets.Horizon); ok {
			newest = h
		}
	}
	return newest
}

// With thousands of long names that are behind, a horizon still fits into a record of the journal.
func TestAHorizonOfLongNamesFits(t *testing.T) {
	behind := make([]offsets.Behind, 2*offsets.MaxBehind)
	for i := range behind {
		behind[i] = offsets.Behind{Topic: fmt.Sprintf("%0249d", i), Partition: 100_000, Acked: 1 << 40, SourceEnd: 1<<40 + int64(i), Seen: time.Now()}
	}
	h := offsets.NewHorizon(time.Now(), behind)
	entry := newJournalEntry(h)
	if entry.size() > journalBatchBytes {
		t.Errorf("%d bytes", entry.size())
	}
	if h.More == nil || len(h.Behind)+h.More.Partitions != 2*offsets.MaxBehind || len(h.Behind) < 1000 {
		t.Errorf("%d are listed, and %+v are summed up", len(h.Behind), h.More)
	}
	if b, _ := h.Of(fmt.Sprintf("%0249d", 2*offsets.MaxBehind-1), 100_000); b == nil {
		t.Error("the one that lacks most is not listed")
	}
}

// A topic whose max.message.bytes is too low for the horizon gets everything else.
func TestAHorizonThatDoesNotFitBlocksNothing(t *testing.T) {
	f, log, said := newJournalFlow(t, 1)
	for n := range 50 {
		addCopy(t, f.held.get(0), fmt.Sprintf("orders-%0200d", n), 1)
	}
	log.maxBytes = 5_000
	f.syncJournal(t.Context())
	if n := len(log.restored(t, 0)); n != 50 {
		t.Errorf("%d of 50 partitions are journaled: %s", n, said)
	}
	if !strings.Contains(said.String(), "max.message.bytes of topic milena.f.journal on cluster b") {
		t.Errorf("the log does not name the cure: %s", said)
	}
}

// What is behind an open transaction cannot be read yet, and may have been committed by others: the target lacks it.
func TestACopyLacksWhatIsBehindAnOpenTransaction(t *testing.T) {
	f := testFlow(t)
	p := replicatingPartition(f, 1000)
	opened, now := time.Now().Add(-time.Minute).Truncate(time.Millisecond), time.Now()
	p.cursor.setSourceEnd(1000, 0, opened)
	p.seeLocked(opened)
	p.cursor.setSourceEnd(1000, 50, now)
	p.seeLocked(now)
	if b := p.sight.behind(p, p.acked); b.Missing() != 50 || !b.Complete.Equal(opened) {
		t.Errorf("%d records are missing, want 50; complete up to %v, and the transaction was opened after %v", b.Missing(), b.Complete, opened)
	}
	if b := p.sight.behind(p, 1050); !b.Complete.Equal(now.Truncate(time.Millisecond)) {
		t.Errorf("with everything, it is complete up to %v, want %v", b.Complete, now)
	}
}

// A horizon does not say that a partition lacks nothing because the flow does not have it: one that cannot be begun, or that is not restored yet after a
// restart.
func TestAHorizonKnowsWhatTheFlowDoesNotHave(t *testing.T) {
	f, log, _ := newJournalFlow(t, 1)
	s := f.held.get(0)
	seen := time.UnixMilli(1_000_000)
	s.horizon.found = offsets.NewHorizon(seen, []offsets.Behind{{Topic: "waits", Acked: 5, SourceEnd: 9, Seen: seen}})
	view := topics.View{ByName: make(map[string]topics.Topic)}
	for _, name := range []string{"copied", "waits", "left", "dark", "new"} {
		view.ByName[name] = topics.Topic{Name: name, Partitions: make([]topics.Partition, 1)}
	}
	f.topology.setSource(view)
	for _, name := range []string{"waits", "left", "deleted", "dark"} {
		s.markInJournal(offsets.TopicPartition{Topic: name})
	}
	f.config.Shards = 1
	f.topology.unbegun = map[offsets.TopicPartition]unbegun{{Topic: "dark"}: {}, {Topic: "new"}: {}}
	copied := addCopy(t, s, "copied", 10)
	copied.cursor.setSourceEnd(copied.acked, 0, time.Now())
	copied.seeLocked(time.Now())
	s.add(newPartition(&topicLink{source: "waits"}, 0, s, listed{}))
	f.syncJournal(t.Context())
	h := log.horizon(t, 0)
	if b, listed := h.Of("copied", 0); b != nil || !listed {
		t.Errorf("what is complete: %+v", h)
	}
	if b, listed := h.Of("deleted", 0); b != nil || !listed {
		t.Errorf("what the source does not have: %+v", b)
	}
	for _, name := range []string{"dark", "left"} {
		if b, _ := h.Of(name, 0); b == nil || !b.Complete.Equal(seen) || !b.Seen.Equal(seen) {
			t.Errorf("%s was complete when it was seen last: %+v", name, b)
		}
	}
	if b, _ := h.Of("waits", 0); b == nil || b.Missing() != 4 {
		t.Errorf("what waits for its takeover lacks what it did before: %+v", b)
	}
	if b, _ := h.Of("new", 0); b == nil || !b.Complete.IsZero() {
		t.Errorf("what was never copied: %+v", b)
	}
}
