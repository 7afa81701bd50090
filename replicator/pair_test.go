package replicator_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// halves are two flows with identity naming over the same topics, of which one at a time copies.
type halves struct {
	*replicatortest.Clusters
	t           *testing.T
	forth, back *replicatortest.Flow
	there, home client.Clusters
	changes     []func(*config.Flow)
}

func newHalves(t *testing.T) *halves {
	t.Helper()
	h := &halves{Clusters: replicatortest.NewClusters(t, 1), t: t}
	h.changes = []func(*config.Flow){replicatortest.FastJournal, replicatortest.FastTopics, func(f *config.Flow) { f.Heartbeats, f.Shards = false, 3 }}
	h.there, h.home = h.PairAsCommand(h.changes...)
	h.Source.CreateTopic("orders", 2)
	h.startForth()
	h.startBack()
	return h
}

func (h *halves) startForth() { h.forth = h.StartForth(h.changes...) }
func (h *halves) startBack()  { h.back = h.StartBack(h.changes...) }

// decide lets people stop or start a flow.
func (h *halves) decide(c client.Clusters, what control.Verb) {
	h.t.Helper()
	if _, err := control.Submit(h.t.Context(), c, 2*time.Second, control.New(what, control.Scope{Kind: control.Flow}, "alice", "a test")); err != nil {
		h.t.Fatal(err)
	}
}

// turn lets the other half copy.
func (h *halves) turn(from, to client.Clusters) {
	h.t.Helper()
	h.decide(from, control.StopFlow)
	h.decide(to, control.StartFlow)
}

// logs checks what both clusters have of each partition, in order: each record exactly once.
func (h *halves) logs(topic string, source, target map[int32][]string) {
	h.t.Helper()
	onA, onB := h.Source.Texts(topic, int32(len(source))), h.Target.Texts(topic, int32(len(target)))
	for part := range source {
		replicatortest.MustEqual(h.t, fmt.Sprintf("%s-%d on a", topic, part), source[part], onA[part])
		replicatortest.MustEqual(h.t, fmt.Sprintf("%s-%d on b", topic, part), target[part], onB[part])
	}
}

// exact checks that the map of a flow knows each record that both sides have.
func (h *halves) exact(from, to *replicatortest.Cluster, flow, topic string, partitions int32) {
	h.t.Helper()
	journal := offsets.NewJournal(to.Client, offsets.JournalTopic(flow), offsets.JournalOptions{})
	there := to.Records(topic, partitions)
	for part, list := range from.Records(topic, partitions) {
		at := make(map[string]int64)
		for _, r := range there[part] {
			at[string(r.Value)] = r.Offset
		}
		for _, r := range list {
			want, ok := at[string(r.Value)]
			if !ok {
				continue
			}
			if got, err := journal.Forward(h.t.Context(), topic, part, r.Offset); got.Target != want || !got.Exact || err != nil {
				h.t.Errorf("%s: %s-%d: offset %d is at %d there, the map says %+v, %v", flow, topic, part, r.Offset, want, got, err)
			}
		}
	}
}

// One half copies, then the other, then the first again. Nothing is copied back, and each map has what both have copied.
func TestHalvesCopyInTurn(t *testing.T) {
	t.Parallel()
	h := newHalves(t)
	h.Source.Produce("orders", 2, 50, "first")
	h.forth.UntilCopied("orders")
	h.back.UntilReady()
	for turn := range 3 {
		h.turn(h.there, h.home)
		h.Target.Produce("orders", 2, 40, fmt.Sprintf("there %d", turn))
		h.back.UntilCopied("orders")
		h.back.UntilJournaled("orders")
		want := h.Target.Texts("orders", 2)
		h.logs("orders", want, want)
		h.exact(h.Target, h.Source, "b-a", "orders", 2)
		h.turn(h.home, h.there)
		h.Source.Produce("orders", 2, 30, fmt.Sprintf("home %d", turn))
		h.forth.UntilCopied("orders")
		h.forth.UntilJournaled("orders")
		want = h.Source.Texts("orders", 2)
		h.logs("orders", want, want)
		h.exact(h.Source, h.Target, "a-b", "orders", 2)
	}
	if n := len(h.Source.Texts("orders", 2)[0]); n != 50+3*(40+30) {
		t.Errorf("%d records in the first partition", n)
	}
	for _, f := range []*replicatortest.Flow{h.forth, h.back} {
		if n := f.Metric("milena_anomalies_total"); n > 0 {
			t.Errorf("%v anomalies", n)
		}
	}
}

// Of two halves that are started, one copies.
func TestHalvesThatAreBothStarted(t *testing.T) {
	t.Parallel()
	h := newHalves(t)
	h.Source.Produce("orders", 2, 50, "first")
	h.forth.UntilCopied("orders")
	h.decide(h.home, control.StartFlow)
	h.back.Until("the way back says why it copies nothing", func(s replicator.Status) bool {
		return len(s.NotReady) > 0
	})
	h.Source.Produce("orders", 2, 10, "second")
	h.forth.UntilCopied("orders")
	want := h.Source.Texts("orders", 2)
	h.logs("orders", want, want)
	h.decide(h.there, control.StopFlow)
	h.Target.Produce("orders", 2, 10, "third")
	h.back.UntilCopied("orders")
	want = h.Target.Texts("orders", 2)
	h.logs("orders", want, want)
}

// kill ends a half as if it were killed: what it has copied since is not journaled.
func (h *halves) kill(f *replicatortest.Flow, on *replicatortest.Cluster) {
	h.t.Helper()
	fault := on.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: offsets.JournalTopic(f.Config.Name), Err: kerr.TopicAuthorizationFailed, Count: -1})
	f.Cancel()
	_ = f.Wait() // it could not journal
	fault.Remove()
}

// A half is killed with records that its journal does not know, and clients of the target write behind them. Once an instance of it runs again, it finds out
// how far it came, and the other half begins exactly there. What was written on the source meanwhile stays there.
func TestHalfThatWasKilledBeforeItJournaled(t *testing.T) {
	t.Parallel()
	h := newHalves(t)
	h.ShutdownTimeout = time.Second
	h.Source.Produce("orders", 2, 10, "journaled")
	h.forth.UntilCopied("orders")
	h.forth.UntilJournaled("orders")
	fault := h.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: offsets.JournalTopic("a-b"), Err: kerr.TopicAuthorizationFailed, Count: -1})
	h.Source.Produce("orders", 2, 20, "tail")
	h.forth.UntilCopied("orders")
	h.forth.Cancel()
	_ = h.forth.Wait()
	fault.Remove()
	h.decide(h.there, control.FailOver)
	h.Target.Produce("orders", 2, 15, "there")
	h.Source.Produce("orders", 2, 5, "only here")
	h.decide(h.home, control.StartFlow)
	h.startForth()
	h.back.UntilCopied("orders")
	h.back.UntilJournaled("orders")
	h.haveThese(h.Source, "journaled 10", "tail 20", "only here 5", "there 15")
	h.haveThese(h.Target, "journaled 10", "tail 20", "there 15")

	fault = h.Source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: offsets.JournalTopic("b-a"), Err: kerr.TopicAuthorizationFailed, Count: -1})
	h.Target.Produce("orders", 2, 25, "there, not journaled")
	h.back.UntilCopied("orders")
	h.back.Cancel()
	_ = h.back.Wait()
	fault.Remove()
	h.decide(h.home, control.StopFlow)
	h.Source.Produce("orders", 2, 8, "home")
	h.decide(h.there, control.StartFlow)
	h.startBack()
	h.forth.UntilCopied("orders")
	h.forth.UntilJournaled("orders")
	h.haveThese(h.Source, "journaled 10", "tail 20", "only here 5", "there 15", "there, not journaled 25", "home 8")
	h.haveThese(h.Target, "journaled 10", "tail 20", "there 15", "there, not journaled 25", "home 8")
	h.exact(h.Source, h.Target, "a-b", "orders", 2)
}

// haveThese checks what each partition of orders has: so many records of each tag, in order.
func (h *halves) haveThese(c *replicatortest.Cluster, runs ...string) {
	h.t.Helper()
	for part, list := range c.Records("orders", 2) {
		var want []string
		for _, run := range runs {
			at := strings.LastIndexByte(run, ' ')
			n, _ := strconv.Atoi(run[at+1:])
			for i := range n {
				want = append(want, fmt.Sprintf("%s-%d-%d", run[:at], part, i))
			}
		}
		var texts []string
		for _, r := range list {
			texts = append(texts, string(r.Value))
		}
		replicatortest.MustEqual(h.t, fmt.Sprintf("orders-%d", part), want, texts)
	}
}

// Halves are killed before, between and behind the two decisions of each turn, and while the next one copies. Each record is on both sides once, in order.
func TestHalvesThatAreKilledAtAnyTime(t *testing.T) {
	t.Parallel()
	for point := range 4 {
		t.Run(fmt.Sprint(point), func(t *testing.T) {
			t.Parallel()
			h := newHalves(t)
			h.ShutdownTimeout = time.Second
			h.Source.Produce("orders", 2, 10, "first")
			h.forth.UntilCopied("orders")
			killed := func(now int) {
				if now != point {
					return
				}
				h.kill(h.forth, h.Target)
				h.kill(h.back, h.Source)
				h.startForth()
				h.startBack()
			}
			runs := []string{"first 10"}
			for turn := range 2 {
				for _, half := range []struct {
					from, to client.Clusters
					writes   *replicatortest.Cluster
					copies   func() *replicatortest.Flow
				}{
					{h.there, h.home, h.Target, func() *replicatortest.Flow { return h.back }},
					{h.home, h.there, h.Source, func() *replicatortest.Flow { return h.forth }},
				} {
					killed(0)
					h.decide(half.from, control.StopFlow)
					killed(1)
					h.decide(half.to, control.StartFlow)
					killed(2)
					tag := fmt.Sprintf("%s %d", half.to.Flow.Name, turn)
					half.writes.Produce("orders", 2, 20, tag)
					killed(3)
					half.copies().UntilCopied("orders")
					runs = append(runs, tag+" 20")
					h.haveThese(h.Source, runs...)
					h.haveThese(h.Target, runs...)
				}
			}
		})
	}
}

// A half that does not copy writes nothing into the topics of clients, no marker either: whether nobody has started it yet, it was stopped, or it waits for
// the other one, and also when it is begun again.
func TestHalfThatDoesNotCopyWritesNothing(t *testing.T) {
	t.Parallel()
	h := &halves{Clusters: replicatortest.NewClusters(t, 1), t: t}
	h.changes = []func(*config.Flow){replicatortest.FastJournal, replicatortest.FastTopics, func(f *config.Flow) { f.Heartbeats, f.Shards = false, 3 }}
	h.there, h.home = h.PairAsCommand(h.changes...)
	h.Source.CreateTopic("orders", 2)
	h.Source.Produce("orders", 2, 50, "first")
	ends := func(when string, want map[int32]int64) {
		t.Helper()
		if diff := cmp.Diff(want, h.Source.EndOffsets("orders")); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	again := func(what string) {
		t.Helper()
		before := h.Source.EndOffsets("orders")
		h.back.Cancel()
		if err := h.back.Wait(); err != nil {
			t.Fatal(err)
		}
		h.startBack()
		h.back.Until("its shards are taken over", func(replicator.Status) bool { return h.back.Metric("milena_takeovers_total", "result", "done") >= 3 })
		h.back.UntilTopicSyncs(2)
		ends(what, before)
	}

	h.startForth()
	h.startBack()
	h.back.UntilReady()
	ends("nobody has started it", map[int32]int64{0: 50, 1: 50})
	if text, err := json.Marshal(h.back.Status()); err != nil || strings.Contains(string(text), "0001-01-01") {
		t.Errorf("%v: %s", err, text)
	}
	h.forth.UntilCopied("orders")
	again("nobody has started it, and it was begun again")

	h.turn(h.there, h.home)
	h.Target.Produce("orders", 2, 20, "there")
	h.back.UntilCopied("orders")
	h.turn(h.home, h.there)
	h.Source.Produce("orders", 2, 10, "home")
	h.forth.UntilCopied("orders") // so the way back is at rest
	again("it was stopped")

	h.decide(h.home, control.StartFlow)
	h.back.Until("the way back says why it copies nothing", func(s replicator.Status) bool { return len(s.NotReady) > 0 })
	again("it waits for the other one")
	h.Source.Produce("orders", 2, 10, "home again")
	h.forth.UntilCopied("orders")
	again("it still waits")
}
