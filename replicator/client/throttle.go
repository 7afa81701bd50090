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

// Throttles tracks which brokers throttle this flow because of a quota. Since 2.0 a broker answers at once, mutes the connection for the
// throttle time, and expects the client to pause for as long (KIP-219). The kgo client does so per connection and calls a hook. Throttling
// is not a failure: it is counted, shown in the status, and logged when it begins and when it ends. Throttles is safe for concurrent use.
type Throttles struct {
	log *slog.Logger

	mu      sync.Mutex
	brokers map[throttledBy]*throttle
}

// ThrottleStatus shows how the quota of one broker slows the flow down.
type ThrottleStatus struct {
	Side    string `json:"side"` // source or target
	Cluster string `json:"cluster"`
	Broker  int32  `json:"broker"`
	// LastMinute is how many seconds of the last minute at least one connection waited. Left is how many more seconds one has to wait.
	LastMinute float64 `json:"last_minute_seconds"`
	Left       float64 `json:"left_seconds"`
	// Text says the same in words.
	Text string `json:"text"`
}

// throttledBy identifies a broker of one side.
type throttledBy struct {
	side, alias string
	broker      int32
}

// throttle is the recent history of one broker. Connections that wait at the same time count once.
type throttle struct {
	waits  []wait        // of the last minute, in order, not overlapping
	total  time.Duration // since it began
	logged bool
}

type wait struct{ from, until time.Time }

const (
	throttleMemory = time.Minute     // how long a wait is remembered; a throttle has ended when no wait is remembered
	throttleLogged = time.Second     // how much waiting within throttleMemory is worth a log message
	throttleSync   = 5 * time.Second // how often Loop checks whether a throttle has ended
)

// NewThrottles creates a Throttles that logs when throttling begins and ends. The end is only noticed while Loop runs.
func NewThrottles(log *slog.Logger) *Throttles {
	return &Throttles{log: log, brokers: make(map[throttledBy]*throttle)}
}

// begin records that a broker demands a wait.
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
	if !b.logged && b.lately(until) >= throttleLogged {
		b.logged = true
		t.log.Info("a quota throttles the flow", "side", by.side, "cluster", by.alias, "broker", by.broker, "waited", b.total.Round(time.Millisecond))
	}
}

// forget drops the waits that ended more than throttleMemory ago.
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

// lately returns the time waited within the last throttleMemory.
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

// Left returns how much longer a broker throttles a connection, 0 if it does not.
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

// Active reports whether a broker of one side throttles a connection now.
func (t *Throttles) Active(side string) bool {
	now := time.Now()
	return slices.ContainsFunc(t.Status(now), func(s ThrottleStatus) bool { return s.Side == side && s.Left > 0 })
}

// Recent reports whether a broker of one side has throttled a connection within the last minute.
func (t *Throttles) Recent(side string) bool {
	return slices.ContainsFunc(t.Status(time.Now()), func(s ThrottleStatus) bool { return s.Side == side })
}

// Loop logs throttles that have ended. It blocks until ctx ends.
func (t *Throttles) Loop(ctx context.Context) {
	Every(ctx, throttleSync, t.sync)
}

// sync forgets the brokers that have not throttled for throttleMemory.
func (t *Throttles) sync(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for by, b := range t.brokers {
		if b.forget(now); len(b.waits) > 0 {
			continue
		}
		delete(t.brokers, by)
		if b.logged {
			t.log.Info("quota throttling has ended", "side", by.side, "cluster", by.alias, "broker", by.broker, "waited", b.total.Round(time.Millisecond))
		}
	}
}

// Status lists the brokers that have throttled within the last minute, sorted by side and broker id.
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
	if left > throttleLogged {
		s.Text += fmt.Sprintf(", %.0f s to go", s.Left)
	}
	return s
}

// Hook returns a kgo hook that records the throttling of one side, and adds the seconds to a counter.
func (t *Throttles) Hook(side, alias string, seconds prometheus.Counter) kgo.Hook {
	return throttleHook{t, seconds, side, alias}
}

// throttleHook records the throttling of one side.
type throttleHook struct {
	throttles   *Throttles
	seconds     prometheus.Counter
	side, alias string
}

// OnBrokerThrottle implements kgo.HookBrokerThrottle. Brokers before 2.0 delay the response itself, so the wait is already over.
func (h throttleHook) OnBrokerThrottle(meta kgo.BrokerMetadata, interval time.Duration, afterAnswer bool) { //nolint:revive // kgo's interface
	h.seconds.Add(interval.Seconds())
	if meta.NodeID < 0 {
		return // a bootstrap address: its broker id is unknown, and only metadata is requested from it
	}
	from := time.Now()
	if !afterAnswer {
		from = from.Add(-interval)
	}
	h.throttles.begin(throttledBy{h.side, h.alias, meta.NodeID}, from, from.Add(interval))
}

var _ kgo.HookBrokerThrottle = throttleHook{}
