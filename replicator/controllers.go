package replicator

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

const (
	// AskControllersEvery is how often brokers are asked whether they reach the active controller.
	askControllersEvery = 5 * time.Second
	// ControllerLostAfter is how long a broker may not reach it before that counts. The election of another controller takes less.
	controllerLostAfter = 12 * time.Second
)

// controllerWatch knows which brokers of a cluster do not reach its active controller.
//
// Such a broker goes on with what it leads. But nobody elects leaders, creates topics or shrinks sets of replicas in sync as far as it can tell, and what
// a controller beyond its reach has decided it does not know: other brokers may lead its partitions by now and take records that it never gets. So what it
// says of the end of a log is true only up to the time when it reached the controller last.
type controllerWatch struct {
	alias string
	ask   func(ctx context.Context, broker int32) client.Reach
	log   *slog.Logger

	mu       sync.Mutex
	byBroker map[int32]reached
	wasLost  bool // in the last round
}

// watch says which cluster is watched, and by which client.
func (w *controllerWatch) watch(alias string, cl *kgo.Client, log *slog.Logger) {
	w.alias, w.log = alias, log
	w.ask = func(ctx context.Context, broker int32) client.Reach { return client.ReachesController(ctx, cl, broker) }
}

// reached is when a broker reached the active controller.
type reached struct {
	at   time.Time // the last time, or when it was first asked
	lost bool
}

// controllersLoop watches the brokers that lead partitions and copies of the flow.
func (f *Flow) controllersLoop(ctx context.Context) {
	client.Every(ctx, askControllersEvery, func(time.Time) {
		sources, targets := make(map[int32]bool), make(map[int32]bool)
		for _, p := range f.partitions() {
			p.mu.Lock()
			sources[p.sourceLeader], targets[p.targetLeader] = true, true
			p.mu.Unlock()
		}
		var wait sync.WaitGroup
		wait.Go(func() { f.sourceControllers.round(ctx, sources) })
		wait.Go(func() { f.targetControllers.round(ctx, targets) })
		wait.Wait()
	})
}

// round asks brokers, all at once, and forgets all others.
func (w *controllerWatch) round(ctx context.Context, brokers map[int32]bool) {
	delete(brokers, -1)
	w.keep(brokers)
	var wait sync.WaitGroup
	for broker := range brokers {
		wait.Go(func() {
			began := time.Now()
			answer := w.ask(ctx, broker)
			if ctx.Err() == nil {
				w.note(broker, answer, began, time.Now())
			}
		})
	}
	wait.Wait()
	w.report(time.Now())
}

// keep forgets all brokers but these.
func (w *controllerWatch) keep(brokers map[int32]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.byBroker, func(broker int32, _ reached) bool { return !brokers[broker] })
}

// note records what a broker that was asked at began answered by now. One that does not answer is as it was.
func (w *controllerWatch) note(broker int32, answer client.Reach, began, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byBroker == nil {
		w.byBroker = make(map[int32]reached)
	}
	r, known := w.byBroker[broker]
	switch answer {
	case client.Reaches:
		r = reached{at: began}
	case client.ReachesNot:
		if !known {
			r.at = began
		}
		r.lost = r.lost || now.Sub(r.at) > controllerLostAfter
	case client.ReachUnknown:
		return
	}
	w.byBroker[broker] = r
}

// lostSince returns since when a broker does not reach the active controller. The ok result is false if it does, or nothing is known.
func (w *controllerWatch) lostSince(broker int32) (since time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.byBroker[broker]
	return r.at, r.lost
}

// lost returns the brokers that do not reach the active controller, sorted, and since when the first of them does not.
func (w *controllerWatch) lost() (brokers []int32, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for broker, r := range w.byBroker {
		if !r.lost {
			continue
		}
		brokers = append(brokers, broker)
		if since.IsZero() || r.at.Before(since) {
			since = r.at
		}
	}
	slices.Sort(brokers)
	return brokers, since
}

// report logs that a cluster lost its controller, and that it has one again.
func (w *controllerWatch) report(now time.Time) {
	brokers, since := w.lost()
	w.mu.Lock()
	before := w.wasLost
	w.wasLost = len(brokers) > 0
	w.mu.Unlock()
	switch {
	case len(brokers) > 0 && !before:
		w.log.Warn("brokers do not reach the active controller", "cluster", w.alias, "brokers", brokers, "seconds", int(now.Sub(since).Seconds()))
	case len(brokers) == 0 && before:
		w.log.Info("brokers reach the active controller again", "cluster", w.alias)
	}
}

// sentence says which brokers do not reach the active controller, empty if all do.
func (w *controllerWatch) sentence(consequence string) string {
	brokers, since := w.lost()
	if len(brokers) == 0 {
		return ""
	}
	return client.WithoutController(w.alias, brokers, since) + ": " + consequence
}

// What follows for a target.
const targetWithoutController = "copies that have a leader and enough replicas in sync go on; no leader is elected and no topic is created until they do"

// controllerProblems are sentences about brokers that do not reach the active controller.
func (f *Flow) controllerProblems() (sentences []string) {
	for _, text := range []string{f.sourceControllers.sentence(client.SourceWithoutController), f.targetControllers.sentence(targetWithoutController)} {
		if text != "" {
			sentences = append(sentences, text)
		}
	}
	return sentences
}

// upTo returns what was known of a partition at a time.
func upTo(b offsets.Behind, at time.Time) offsets.Behind {
	if b.Seen.After(at) {
		b.Seen = at
	}
	if b.Complete.After(at) {
		b.Complete = at
	}
	return b
}
