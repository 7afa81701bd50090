package neighbours

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// lag measures the lag of a topic as a reader of its copy has it: the time from a record's timestamp, which its producer sets before it writes to
// the source, to the arrival of its copy at a consumer on the target. So the way to the source is part of it, and nothing that milena says is. All
// clocks are that of this machine.
type lag struct {
	mu       sync.Mutex
	from, to time.Time // the window: only records whose timestamps are in it count
	largest  time.Duration
	records  int
	newest   map[int32]time.Time // timestamp of the newest record that has arrived, by partition
}

// measureLag reads a copy from its end on, until ctx ends.
func measureLag(ctx context.Context, target *kgo.Client, partitions int) *lag {
	l := &lag{newest: make(map[int32]time.Time, partitions)}
	for p := range int32(partitions) {
		l.newest[p] = time.Time{}
	}
	go func() {
		for ctx.Err() == nil {
			target.PollFetches(ctx).EachRecord(func(r *kgo.Record) { l.arrived(r, time.Now()) })
		}
	}()
	return l
}

func (l *lag) arrived(r *kgo.Record, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest[r.Partition] = r.Timestamp
	if !r.Timestamp.Before(l.from) && r.Timestamp.Before(l.to) {
		l.records++
		l.largest = max(l.largest, now.Sub(r.Timestamp))
	}
}

// start begins a window.
func (l *lag) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from, l.to = time.Now(), time.Now().Add(24*time.Hour)
	l.largest, l.records = 0, 0
}

// stop ends the window, and waits until all records that were written in it have arrived. It returns the largest lag of them and how many they were.
func (l *lag) stop(ctx context.Context) (largest time.Duration, records int, err error) {
	l.mu.Lock()
	l.to = time.Now()
	l.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("records of the busy topic did not arrive within two minutes"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !l.isOver() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, 0, context.Cause(ctx)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.largest, l.records, nil
}

// isOver reports whether every partition has a record that was written behind the window. The records of a partition arrive in the order in which
// they were written.
func (l *lag) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, newest := range l.newest {
		if newest.Before(l.to) {
			return false
		}
	}
	return true
}
