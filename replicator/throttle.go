package replicator

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

// throttle limits how many bytes per second this process fetches of a topic, or of the flow, because somebody decided so. It spends time, not bytes: what
// was fetched takes as long as it takes at the rate, and until then nothing more is fetched. There is no burst after a pause.
type throttle struct {
	rate atomic.Int64 // bytes per second of all instances together, 0 if there is no limit

	mu   sync.Mutex
	free time.Time // when what was fetched is paid
}

// set sets the rate of all instances together. What was fetched at another rate is paid.
func (t *throttle) set(d *control.Decision) {
	rate := int64(0)
	if d != nil {
		rate = d.Rate
	}
	if t.rate.Swap(rate) == rate {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = time.Time{}
}

// take records that bytes were fetched, by an instance whose part of the rate is share.
func (t *throttle) take(bytes int, share float64, now time.Time) {
	rate := t.rate.Load()
	if rate == 0 || bytes == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free.Before(now) {
		t.free = now
	}
	seconds := min(float64(bytes)/(float64(rate)*share), maxThrottle.Seconds())
	t.free = t.free.Add(time.Duration(seconds * float64(time.Second)))
}

// maxThrottle bounds the wait after one response.
const maxThrottle = time.Hour

// wait returns how long nothing may be fetched.
func (t *throttle) wait(now time.Time) time.Duration {
	if t.rate.Load() == 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, t.free.Sub(now))
}

// A fetch of a throttled partition returns as much as the rate allows in throttledFor, and at least leastThrottled.
const (
	throttledFor   = 4 // per second
	leastThrottled = 16 << 10
)

// size limits the bytes of a partition in one response.
func (t *throttle) size(limit int32) int32 {
	rate := t.rate.Load()
	if rate == 0 {
		return limit
	}
	return int32(min(int64(limit), max(rate/throttledFor, leastThrottled)))
}

// throttleShare is the part of a throttle's rate that this instance may use: that of the shards that it holds.
func (f *Flow) throttleShare() float64 {
	return float64(max(1, len(f.held.all()))) / float64(f.config.Shards)
}

// throttleWait returns how long the partition may not be fetched because of throttles.
func (p *partition) throttleWait(now time.Time) time.Duration {
	return max(p.topic.throttle.wait(now), p.shard.flow.throttle.wait(now))
}

// takeThrottled records that bytes of the partition were fetched.
func (p *partition) takeThrottled(bytes int, now time.Time) {
	f := p.shard.flow
	if p.topic.throttle.rate.Load()|f.throttle.rate.Load() == 0 {
		return
	}
	share := f.throttleShare()
	p.topic.throttle.take(bytes, share, now)
	f.throttle.take(bytes, share, now)
}

// applyThrottles sets the rates of all topics and of the flow.
func (f *Flow) applyThrottles(now time.Time) {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &f.controls
	c.mu.Lock()
	defer c.mu.Unlock()
	f.throttle.set(c.state.Rate(control.Scope{Kind: control.Flow}, now))
	for _, link := range t.links {
		link.throttle.set(c.state.Rate(control.OfTopic(link.source), now))
	}
}

// rateOf returns the throttle of a topic, nil if it has none.
func (c *controls) rateOf(topic string) *control.Decision {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Rate(control.OfTopic(topic), time.Now())
}
