package replicator

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

// throttles knows which brokers make this flow wait because of quotas. Since 2.0 a broker answers at once, says for how long it reads
// nothing more from the connection, and expects the client to hold off for as long (KIP-219): kgo does, connection by connection, and
// tells it here. What is waited for is no failure: it is counted, shown, and logged when it begins and when it ends.
type throttles struct {
	log *slog.Logger

	mu      sync.Mutex
	brokers map[throttledBy]*throttle
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

func newThrottles(log *slog.Logger) *throttles {
	return &throttles{log: log, brokers: make(map[throttledBy]*throttle)}
}

// begin notes that a broker asks for a wait.
func (t *throttles) begin(by throttledBy, from, until time.Time) {
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

// left is for how long a broker still asks to wait.
func (t *throttles) left(side string, broker int32) time.Duration {
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

// holding says whether a broker of one side still asks to wait.
func (t *throttles) holding(side string) bool {
	now := time.Now()
	return slices.ContainsFunc(t.status(now), func(s ThrottleStatus) bool { return s.Side == side && s.Left > 0 })
}

// lately says whether a broker of one side has asked to wait within the last minute.
func (t *throttles) lately(side string) bool {
	return slices.ContainsFunc(t.status(time.Now()), func(s ThrottleStatus) bool { return s.Side == side })
}

// loop says in the log when a throttle has ended.
func (t *throttles) loop(ctx context.Context) {
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
func (t *throttles) end(now time.Time) {
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

// status lists the brokers that have throttled within the last minute.
func (t *throttles) status(now time.Time) []ThrottleStatus {
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

// pace makes requests small while a quota asks for long waits. A broker averages over many seconds (quota.window.num), and lets a client
// wait for as long as it takes to work off all that exceeds the quota: one large request brings about a long wait on every connection, also
// on that of the journal, on which the lease hangs. The zero pace is full speed.
type pace struct{ slower int } // 1/64 that is left out; 0 to 63

// paceWait is the longest wait that one request should bring about.
const paceWait = time.Second

// of is how many of the most bytes the next request should have.
func (p *pace) of(most int) int { return most * (64 - p.slower) / 64 }

// answered learns from the wait that an answer asks for: it halves after a long one, and grows by little after a short one.
func (p *pace) answered(throttleMillis int32) {
	switch wait := time.Duration(throttleMillis) * time.Millisecond; {
	case wait > paceWait:
		p.slower = 64 - max(1, (64-p.slower)/2)
	case wait < paceWait/4:
		p.slower = max(0, p.slower-1)
	}
}

// throttleHook tells what the brokers of one side ask for.
type throttleHook struct {
	throttles   *throttles
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
