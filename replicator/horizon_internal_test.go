package replicator

import (
	"testing"
	"time"
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
