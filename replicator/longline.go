package replicator

import (
	"context"
	"math/bits"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
)

const (
	// LongLine is the round-trip time of a long line.
	longLine = 5 * time.Millisecond
	// LongAfter is how long a round-trip time must last before it counts.
	longAfter = time.Second
	// AheadPerSecond is how fast one partition is copied over a line with delay: the bytes that are on their way at any time are this rate times the
	// round-trip time.
	aheadPerSecond = 96 << 20
	// MaxAhead limits them.
	maxAhead = 32 << 20
)

// aheadOf returns how many bytes of one partition are requested at a time over a line with a round-trip time. It is a power of two, because a fetch
// session repeats only the partitions whose limit has changed.
func aheadOf(trip time.Duration) int64 {
	return max(partitionBytes, min(powerOfTwo(int64(trip.Seconds()*aheadPerSecond)), maxAhead))
}

// powerOfTwo returns the lowest power of two that is not below n.
func powerOfTwo(n int64) int64 {
	if n <= 1 {
		return 1
	}
	return 1 << bits.Len64(uint64(n-1))
}

// linesEvery is how often the lines to all brokers are measured.
const linesEvery = 500 * time.Millisecond

// linesLoop measures the lines, and divides the partitions of a broker among more connections when that is faster.
func (f *Flow) linesLoop(ctx context.Context) {
	client.Every(ctx, linesEvery, func(now time.Time) {
		if f.measureLines(now) {
			f.followLeaders()
		}
	})
}

// measureLines notes the round-trip times to all brokers, and how much their lanes carry. It reports whether partitions must be assigned to loops and
// lanes again.
func (f *Flow) measureLines(now time.Time) (changed bool) {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	for loop := range t.sourceBrokers {
		if loop.number == 0 && t.sourceLines.note(loop.broker, f.fetchLines[0].RoundTrip(loop.broker), now) {
			changed = true
		}
	}
	loads := make(map[int32]laneLoad)
	for lane, b := range t.targetBrokers {
		load := loads[lane.broker]
		load.add(b.load())
		loads[lane.broker] = load
	}
	for broker, load := range loads {
		if lanes := t.targetLanes.of(broker); lanes.look(load, now) {
			f.log.Info("number of connections to a broker over a long line changed", "cluster", f.config.Target, "broker", broker, "connections", lanes.lanes)
			changed = true
		}
	}
	return changed
}

// longLines are the brokers of the source behind a long line. They stay in it, because a partition that moves to another loop stands still for a round
// trip. The topology's lock is held when its methods are called.
type longLines map[int32]lineLength

// lineLength is since when the round-trip time to a broker has been long, and whether that counts.
type lineLength struct {
	since time.Time
	long  bool
}

// isLong reports whether the line to a broker is long.
func (l longLines) isLong(broker int32) bool { return l[broker].long }

// note records a round-trip time. It reports whether the line counts as long from now on.
func (l longLines) note(broker int32, trip time.Duration, now time.Time) (changed bool) {
	known := l[broker]
	switch {
	case known.long:
		return false
	case trip < longLine:
		delete(l, broker)
		return false
	case known.since.IsZero():
		known.since = now
	}
	known.long = now.Sub(known.since) >= longAfter
	l[broker] = known
	return known.long
}
