package replicator

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/policy"
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
