package replicatortest

import (
	"context"
	"slices"
	"testing"
	"time"
)

// Patience is how long a test waits for an event before it fails. It is long because tests run in parallel, also under the race detector
// and on slow machines.
const Patience = 3 * time.Minute

const pollInterval = 5 * time.Millisecond

// Await waits until event is closed or has a value, and fails the test if it does not happen within Patience.
func Await(t testing.TB, what string, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(Patience):
		t.Fatalf("not within %v: %s", Patience, what)
	}
}

// Eventually polls ok until it returns true, and fails the test if that does not happen within Patience. The string describes the current state
// and is printed on failure.
func Eventually(t testing.TB, what string, ok func() (done bool, state string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		done, state := ok()
		if done {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s; %s", Patience, what, state)
		case <-tick.C:
		}
	}
}

// MustEqual fails the test at once unless both lists are equal.
func MustEqual(t testing.TB, what string, want, got []string) {
	t.Helper()
	if !slices.Equal(want, got) {
		t.Fatalf("%s: want %d records %v, got %d records %v", what, len(want), want, len(got), got)
	}
}
