package fleet

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// A source that answers shows what is missing. That a copy ends where its source does makes it complete, up to when the source was asked, unless the copy
// may be of another log, or the source may have more.
func TestWhatASourceThatAnswersSaysOfTheRPO(t *testing.T) {
	seen := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	asked := seen.Add(30 * time.Second)
	tests := map[string]struct {
		end       int64
		halted    bool
		isolation int8
		missing   int64
		complete  time.Time
	}{
		"complete":         {end: 100, complete: asked},
		"behind":           {end: 110, missing: 10, complete: seen},
		"halted":           {end: 100, halted: true, complete: seen},
		"truncated":        {end: 90, complete: seen},
		"open transaction": {end: 100, isolation: readCommitted, complete: seen},
	}
	for name, test := range tests {
		r := &reading{journal: journal{{horizon: offsets.NewHorizon(seen, nil)}}}
		state := progress{end: 100}
		if test.halted {
			state.halted = &Halt{}
		}
		p := &Partition{Topic: "orders", SourceEnd: &test.end}
		var rpo offsets.RPO
		r.addBehind(&rpo, p, state, &picked{asked: asked, isolation: test.isolation})
		if rpo.MissingRecords != test.missing || !rpo.CompleteUpTo.Equal(test.complete) || !rpo.SeenAt.Equal(asked) {
			t.Errorf("%s: %+v, want %d missing, complete up to %v", name, rpo, test.missing, test.complete)
		}
	}
}
