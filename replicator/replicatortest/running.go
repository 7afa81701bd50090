package replicatortest

import (
	"context"
	"testing"
	"time"
)

// Running is something with a status that runs in the background of a test.
type Running[S any] struct {
	t      testing.TB
	cancel context.CancelFunc
	status func() S
	done   chan struct{} // closed when run returned
	err    error         // what it returned
}

// Run calls run in the background. Its context ends with Stop, Cancel or the test.
func Run[S any](t testing.TB, run func(context.Context) error, status func() S) *Running[S] {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &Running[S]{t: t, cancel: cancel, status: status, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		if <-r.done; r.err != nil {
			t.Logf("the run ended with: %v", r.err)
		}
	})
	return r
}

// Status is the current status.
func (r *Running[S]) Status() S { return r.status() }

// Until waits until ok accepts a status, and returns that one. The test fails if it does not happen within Patience, or if the run ends before.
func (r *Running[S]) Until(what string, ok func(S) bool) S {
	r.t.Helper()
	deadline := time.Now().Add(Patience)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		status := r.status()
		if ok(status) {
			return status
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not within %v: %s; status: %+v", Patience, what, status)
		}
		select {
		case <-r.done:
			r.t.Fatalf("the run ended while waiting for: %s; it returned: %v", what, r.err)
		case <-tick.C:
		}
	}
}

// Stop ends the run, waits for it and fails the test if it returns an error.
func (r *Running[S]) Stop() {
	r.t.Helper()
	r.Cancel()
	if err := r.Wait(); err != nil {
		r.t.Fatalf("a clean stop returned: %v", err)
	}
}

// Cancel ends the context of the run and does not wait.
func (r *Running[S]) Cancel() { r.cancel() }

// Wait waits until the run ends, and returns its error.
func (r *Running[S]) Wait() error {
	r.t.Helper()
	Await(r.t, "the run ends", r.done)
	return r.err
}
