package replicator

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// A broker that does not reach the active controller for longer than an election takes is named, and what it said of its logs since then proves nothing. One
// that does not answer at all is another matter.
func TestControllerWatch(t *testing.T) {
	w := controllerWatch{alias: "primary", log: slog.New(slog.DiscardHandler)}
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	for _, broker := range []int32{1, 2, 3} {
		w.note(broker, client.Reaches, at(0), at(1))
	}
	for _, s := range []int{5, 10} {
		w.note(1, client.ReachesNot, at(s), at(s+1))
	}
	if brokers, _ := w.lost(); len(brokers) > 0 {
		t.Fatalf("%v during an election", brokers)
	}
	w.note(1, client.ReachesNot, at(15), at(16))
	w.note(2, client.ReachesNot, at(15), at(16))
	w.note(3, client.ReachUnknown, at(15), at(16))
	if since, ok := w.lostSince(1); !ok || !since.Equal(at(0)) {
		t.Fatalf("%v %v", since, ok)
	}
	if got := w.sentence("so be it"); got != "cluster primary: brokers 1, 2 do not reach the active controller since 2026-01-01 12:00:00: so be it" {
		t.Fatal(got)
	}
	w.note(1, client.ReachUnknown, at(20), at(21))
	if _, ok := w.lostSince(1); !ok {
		t.Fatal("a broker that does not answer has found its controller")
	}
	w.note(1, client.Reaches, at(25), at(26))
	w.keep(map[int32]bool{1: true})
	if got := w.sentence(""); got != "" {
		t.Fatal(got)
	}
}

// What brokers without a controller say does not make a copy complete: other brokers may have taken records that they never get.
func TestBrokersWithoutControllerProveNothing(t *testing.T) {
	start := time.Now().Truncate(time.Millisecond)
	f := &Flow{log: slog.New(slog.DiscardHandler)}
	s := &shard{flow: f}
	p := newPartition(&topicLink{source: "orders", target: "a.orders"}, 0, s, listed{sourceLast: 100})
	p.acked, p.sourceLeader = 100, 1
	p.seeLocked(start)
	p.seeLocked(start.Add(time.Minute))
	complete := func() time.Time {
		var rpo offsets.RPO
		if b, ok := p.behind(); ok {
			rpo.Add(b)
		}
		if !rpo.SeenAt.Equal(rpo.CompleteUpTo) {
			t.Errorf("seen at %v, complete up to %v", rpo.SeenAt, rpo.CompleteUpTo)
		}
		return rpo.CompleteUpTo
	}
	f.sourceControllers.note(1, client.Reaches, start, start)
	f.sourceControllers.note(1, client.ReachesNot, start.Add(50*time.Second), start.Add(time.Minute))
	if got := complete(); !got.Equal(start) {
		t.Errorf("complete up to %v, and the leader reached its controller last at %v", got, start)
	}
	if h := horizonOf(s.behind([]*partition{p})); !h.At.Equal(start) {
		t.Errorf("the journal gets %v", h.At)
	}
	f.sourceControllers.note(1, client.Reaches, start.Add(time.Minute), start.Add(time.Minute))
	if got := complete(); !got.Equal(start.Add(time.Minute)) {
		t.Errorf("complete up to %v", got)
	}
}

// All brokers that lead something are asked at once, and no others are remembered.
func TestControllerWatch_round(t *testing.T) {
	var log strings.Builder
	w := controllerWatch{alias: "primary", log: slog.New(slog.NewTextHandler(&log, nil))}
	answers := map[int32]client.Reach{1: client.ReachesNot, 2: client.Reaches}
	w.ask = func(_ context.Context, broker int32) client.Reach { return answers[broker] }
	w.byBroker = map[int32]reached{1: {at: time.Now().Add(-time.Minute)}, 7: {lost: true}}
	w.round(t.Context(), map[int32]bool{-1: true, 1: true, 2: true})
	if brokers, _ := w.lost(); len(brokers) != 1 || brokers[0] != 1 || len(w.byBroker) != 2 {
		t.Fatalf("%v %v", brokers, w.byBroker)
	}
	answers[1] = client.Reaches
	for range 2 {
		w.round(t.Context(), map[int32]bool{1: true, 2: true})
	}
	if got := log.String(); strings.Count(got, "do not reach") != 1 || strings.Count(got, "again") != 1 {
		t.Fatal(got)
	}
}

// A takeover that waits for a leader says for which partition, and of which cluster.
func TestNotReadyNamesTheLeaderlessCopy(t *testing.T) {
	f := &Flow{}
	f.config.Target = "dr"
	p := newPartition(&topicLink{source: "orders", target: "a.orders"}, 3, &shard{flow: f}, listed{})
	if got := f.leaderless([]*partition{p}); got != ", such as orders-3: no broker of the target, cluster dr, leads the copy" {
		t.Error(got)
	}
	p.targetLeader = 1
	if got := f.leaderless([]*partition{p}); got != "" {
		t.Error(got)
	}
}
