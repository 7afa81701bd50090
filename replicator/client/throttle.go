package client

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Throttles knows which brokers make this flow wait because of quotas. Since 2.0 a broker answers at once, says for how long it reads
// nothing more from the connection, and expects the client to hold off for as long (KIP-219): kgo does, connection by connection, and
// tells it here. What is waited for is no failure: it is counted, shown, and logged when it begins and when it ends.
type Throttles struct {
	log *slog.Logger

	mu      sync.Mutex
	brokers map[throttledBy]*throttle
}

// ThrottleStatus is how a broker's quota slows the flow down.
type ThrottleStatus struct {
	Side    string `json:"side"` // source or target
	Cluster string `json:"cluster"`
	Broker  int32  `json:"broker"`
	// LastMinute is for how many seconds of the last minute at least one connection had to wait, Left for how many more one has to.
	LastMinute float64 `json:"last_minute_seconds"`
	Left       float64 `json:"left_seconds"`
	// Text is all of this as a sentence.
	Text string `json:"text"`
}

// throttledBy names a broker of one side.
type throttledBy struct {
	side, alias string
	broker      int32
}

// throttle is one broker's story. Several connections that wait at one time count once.
type throttle struct {
	waits  []wait        // of the last minute, in order, apart from each other
	total  time.Duration // since it began
	logged bool
}

type wait struct{ from, until time.Time }

const (
	// ThrottleMemory is how long a wait is remembered; a throttle has ended when nothing is.
	throttleMemory = time.Minute
	// ThrottleNews is from how much waiting within that time it is worth a line in the log.
	throttleNews = time.Second
	// ThrottleLook is how often the log finds out that it has ended.
	throttleLook = 5 * time.Second
)

// NewThrottles logs when a quota begins and ceases to throttle. Its Loop must run for the latter.
func NewThrottles(log *slog.Logger) *Throttles {
	return &Throttles{log: log, brokers: make(map[throttledBy]*throttle)}
}

// begin notes that a broker asks for a wait.
func (t *Throttles) begin(by throttledBy, from, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.brokers[by]
	if b == nil {
		b = &throttle{}
		t.brokers[by] = b
	}
	b.forget(from)
	if n := len(b.waits); n > 0 && !b.waits[n-1].until.Before(from) {
		from = b.waits[n-1].until
	}
	if until.After(from) {
		b.total += until.Sub(from)
		if n := len(b.waits); n > 0 && from.Sub(b.waits[n-1].until) < 10*time.Millisecond { // bounds their number
			b.waits[n-1].until = until
		} else {
			b.waits = append(b.waits, wait{from, until})
		}
	}
	if !b.logged && b.lately(until) >= throttleNews {
		b.logged = true
		t.log.Info("a quota throttles the flow", "side", by.side, "cluster", by.alias, "broker", by.broker, "waited", b.total.Round(time.Millisecond))
	}
}

// forget drops what is older than the memory.
func (b *throttle) forget(now time.Time) {
	gone := slices.IndexFunc(b.waits, func(w wait) bool { return w.until.After(now.Add(-throttleMemory)) })
	if gone < 0 {
		gone = len(b.waits)
	}
	b.waits = slices.Delete(b.waits, 0, gone)
	if len(b.waits) == 0 && !b.logged {
		b.total = 0
	}
}

// lately is how long was waited within the memory.
func (b *throttle) lately(now time.Time) time.Duration {
	var sum time.Duration
	for _, w := range b.waits {
		from, until := w.from, w.until
		if oldest := now.Add(-throttleMemory); from.Before(oldest) {
			from = oldest
		}
		if until.After(now) {
			until = now
		}
		sum += max(0, until.Sub(from))
	}
	return sum
}

// Left is for how long a broker still asks to wait.
func (t *Throttles) Left(side string, broker int32) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	var left time.Duration
	for by, b := range t.brokers {
		if n := len(b.waits); n > 0 && by.side == side && by.broker == broker {
			left = max(left, time.Until(b.waits[n-1].until))
		}
	}
	return left
}

// Holding says whether a broker of one side still asks to wait.
func (t *Throttles) Holding(side string) bool {
	now := time.Now()
	return slices.ContainsFunc(t.Status(now), func(s ThrottleStatus) bool { return s.Side == side && s.Left > 0 })
}

// Lately says whether a broker of one side has asked to wait within the last minute.
func (t *Throttles) Lately(side string) bool {
	return slices.ContainsFunc(t.Status(time.Now()), func(s ThrottleStatus) bool { return s.Side == side })
}

// Loop says in the log when a throttle has ended.
func (t *Throttles) Loop(ctx context.Context) {
	tick := time.NewTicker(throttleLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			t.end(now)
		}
	}
}

// end forgets the brokers that have not throttled for as long as is remembered.
func (t *Throttles) end(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for by, b := range t.brokers {
		if b.forget(now); len(b.waits) > 0 {
			continue
		}
		delete(t.brokers, by)
		if b.logged {
			t.log.Info("no quota throttles the flow any more", "side", by.side, "cluster", by.alias, "broker", by.broker, "waited", b.total.Round(time.Millisecond))
		}
	}
}

// Status lists the brokers that have throttled within the last minute.
func (t *Throttles) Status(now time.Time) []ThrottleStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []ThrottleStatus
	for by, b := range t.brokers {
		b.forget(now)
		if n := len(b.waits); n > 0 {
			list = append(list, newThrottleStatus(by, b.lately(now), b.waits[n-1].until.Sub(now)))
		}
	}
	slices.SortFunc(list, func(a, b ThrottleStatus) int {
		return cmp.Or(cmp.Compare(a.Side, b.Side), cmp.Compare(a.Broker, b.Broker))
	})
	return list
}

func newThrottleStatus(by throttledBy, lately, left time.Duration) ThrottleStatus {
	s := ThrottleStatus{Side: by.side, Cluster: by.alias, Broker: by.broker, LastMinute: lately.Seconds(), Left: max(0, left.Seconds())}
	s.Text = fmt.Sprintf("throttled by %s broker %d: %.1f s in the last minute", s.Side, s.Broker, s.LastMinute)
	if left > throttleNews {
		s.Text += fmt.Sprintf(", %.0f s to go", s.Left)
	}
	return s
}

// Hook counts what the brokers of one side ask for, in seconds too.
func (t *Throttles) Hook(side, alias string, seconds prometheus.Counter) kgo.Hook {
	return throttleHook{t, seconds, side, alias}
}

// throttleHook tells what the brokers of one side ask for.
type throttleHook struct {
	throttles   *Throttles
	seconds     prometheus.Counter
	side, alias string
}

// OnBrokerThrottle implements kgo.HookBrokerThrottle. Brokers before 2.0 have waited already when they answer.
func (h throttleHook) OnBrokerThrottle(meta kgo.BrokerMetadata, interval time.Duration, afterAnswer bool) { //nolint:revive // kgo's interface
	h.seconds.Add(interval.Seconds())
	if meta.NodeID < 0 {
		return // an address of the config: which broker it is is not known, and it is asked for metadata only
	}
	from := time.Now()
	if !afterAnswer {
		from = from.Add(-interval)
	}
	h.throttles.begin(throttledBy{h.side, h.alias, meta.NodeID}, from, from.Add(interval))
}

var _ kgo.HookBrokerThrottle = throttleHook{}
