package replicator

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator/wire"
)

// silentLine is a broker that answers no request.
type silentLine struct{ asked chan struct{} }

func (l silentLine) Fetch(ctx context.Context, _ int32, _ *wire.FetchRequest) (*wire.FetchResponse, error) {
	l.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (silentLine) RoundTrip(int32) time.Duration { return 0 }

// until waits for something that a loop does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not after a minute: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// A loop that waits for a lock which nobody lets go is stuck, and one that waits for a broker is not, however long that takes.
func TestALoopThatWaitsForABrokerIsNotStuck(t *testing.T) {
	f := testFlow(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.hard = ctx
	p := replicatingPartition(f, 1000)
	p.sourceLeader, p.sourceLoop = 7, sourceLoop{broker: 7}
	line := silentLine{make(chan struct{}, 1)}
	b := &sourceBroker{flow: f, sourceLoop: p.sourceLoop, lines: line, wake: make(chan struct{}, 1)}
	b.setPartitions([]*partition{p})

	p.mu.Lock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.loop(ctx)
	}()
	until(t, "the loop is stuck at the lock", func() bool { return f.pulses.stuck(20*time.Millisecond) != "" })
	if got := f.Stalled(20 * time.Millisecond); !strings.HasPrefix(got, "the loop that fetches from source broker 7 is stuck for ") {
		t.Errorf("it says %q", got)
	}
	p.mu.Unlock()
	<-line.asked
	if got := f.pulses.stuck(0); got != "" {
		t.Errorf("while the broker does not answer: %s", got)
	}
	cancel()
	<-ended
	if len(f.pulses.all) > 0 {
		t.Errorf("a loop that has ended is watched: %v", f.pulses.all)
	}
}

// A loop that has nothing to send waits, and one that cannot look for that is stuck.
func TestALaneWithoutBatchesIsNotStuck(t *testing.T) {
	f := testFlow(t)
	ctx, cancel := context.WithCancel(t.Context())
	b := &targetBroker{flow: f, account: &account{}, targetLane: targetLane{broker: 3}, trip: func(int32) time.Duration { return 0 }, wake: make(chan struct{}, 1)}
	b.mu.Lock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.send(ctx, nil) // without a batch it needs no connection
	}()
	until(t, "the loop is stuck at the lock", func() bool {
		return strings.HasPrefix(f.pulses.stuck(20*time.Millisecond), "the loop that sends to target broker 3 is stuck for ")
	})
	b.mu.Unlock()
	until(t, "it waits", func() bool { return f.pulses.stuck(0) == "" })
	cancel()
	<-ended
}
