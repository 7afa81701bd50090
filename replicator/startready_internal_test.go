package replicator

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// journalWire answers writes to the journal with these codes, then with success.
type journalWire struct {
	wire.Transport
	codes  []int16
	writes int
}

func (w *journalWire) Produce(_ context.Context, _ int32, request *wire.ProduceRequest) (*kmsg.ProduceResponse, error) {
	w.writes++
	code := int16(0)
	if len(w.codes) > 0 {
		code, w.codes = w.codes[0], w.codes[1:]
	}
	response := kmsg.NewPtrProduceResponse()
	response.Version = 9
	for _, t := range request.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
	}
	return response, nil
}

// flowWithJournal returns a flow that owns its only shard and writes its journal to w.
func flowWithJournal(t *testing.T, w *journalWire) (*Flow, *shard) {
	t.Helper()
	const journal = "milena.f.journal"
	f := &Flow{
		config: config.Flow{Name: "f", Source: "a", Target: "b"}, journalTopic: journal, log: slog.New(slog.DiscardHandler),
		metrics: newFlowMetrics(prometheus.NewRegistry()), topology: newTopology(), takeovers: newTakeovers(1),
		connections: &connections{targetWire: w, journal: newJournalLines(time.Second, w, nil)}, lease: newLease(time.Hour, newClock(bootTime(), time.Now).now),
	}
	f.warnings.log, f.hard = f.log, t.Context()
	f.current.Store(&live{Flow: f.config})
	f.topology.targetRead = time.Now().Add(time.Hour) // no metadata request
	f.topology.setTarget(topics.View{ByName: map[string]topics.Topic{journal: {Name: journal, Partitions: []topics.Partition{{Leader: 1}}}}})
	s := newShard(f, 0)
	s.ownership.own()
	f.held = newShards(1)
	f.held.put(s)
	return f, s
}

// While the lease is expired, a broker that accepts a write may have forgotten the producer that fenced this one. So the journal is written
// only after a fence.
func TestJournalIsNotWrittenWithAnExpiredLease(t *testing.T) {
	w := &journalWire{}
	f, s := flowWithJournal(t, w)
	f.syncJournal(t.Context())
	if w.writes != 0 {
		t.Fatalf("%d writes with an expired lease", w.writes)
	}
	if s.ownership.isCertain() || len(f.takeovers.queue) != 1 {
		t.Fatal("nothing confirms the ownership again")
	}
	s.ownership.refenced()
	f.lease.confirm(f.lease.now())
	if f.syncJournal(t.Context()); w.writes != 1 {
		t.Fatalf("%d writes with a lease", w.writes)
	}
}

// A start that could not be journaled when its partition was ready is journaled by the next release of the takeover. The partition must not
// wait for the slowest partition of the takeover, whose marker may come hours later.
func TestReadyPartitionIsNotLostByAFailedJournalWrite(t *testing.T) {
	f, s := flowWithJournal(t, &journalWire{codes: []int16{kerr.NotEnoughReplicas.Code}})
	f.lease.confirm(f.lease.now())
	r := &recovery{flow: f, shard: s}
	ready := func(number int32) *partition {
		p := newPartition(&topicLink{source: "orders", target: "a.orders"}, number, s, listed{})
		p.progress.setRecord(offsets.PartitionState{Topic: "orders", Partition: number})
		p.beginMapLocked(originNew, 0, 0)
		p.state, p.recovery = recovering, r
		s.add(p)
		return p
	}
	first, second := ready(0), ready(1)

	if err := r.completeAt(first, 1); err != nil {
		t.Fatal(err)
	}
	if err := r.startReady(); err == nil {
		t.Fatal("the journal refused the start, release says nothing")
	}
	if err := r.completeAt(second, 1); err != nil {
		t.Fatal(err)
	}
	if err := r.startReady(); err != nil {
		t.Fatal(err)
	}
	if st := second.getState(); st != replicating {
		t.Errorf("the second partition is %s", st)
	}
	if !first.isDurable() {
		t.Fatal("the start of the first partition is not journaled")
	}
	if st := first.getState(); st != replicating {
		t.Errorf("the first partition is %s: its start is journaled, and nothing releases it before the takeover ends", st)
	}
}
