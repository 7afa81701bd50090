package replicator

import (
	"encoding/binary"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// testFlow returns a flow without clients, for tests of a partition's transitions.
func testFlow(t *testing.T) *Flow {
	t.Helper()
	f := &Flow{
		config: config.Flow{Name: "a-b", Source: "a", Target: "b"}, journalTopic: "milena.a-b.journal", log: slog.New(slog.DiscardHandler),
		metrics: newFlowMetrics(prometheus.NewRegistry()), topology: newTopology(), takeovers: newTakeovers(1), refreshes: newRefreshes(),
		budget: newBudget(32 << 20), connections: &connections{},
	}
	f.warnings.log = f.log
	anomalies, err := policy.NewAnomalies(f.config)
	if err != nil {
		t.Fatal(err)
	}
	f.current.Store(&live{Flow: f.config, anomalies: anomalies})
	f.rules = rules{isolation: wire.ReadCommitted, writers: soleWriter{}}
	f.config.Shards, f.held = 1, newShards(1)
	f.holdAll()
	return f
}

// replicatingPartition returns a partition that continues at source offset next, led by broker 1 on both sides.
func replicatingPartition(f *Flow, next int64) *partition {
	link := &topicLink{source: "orders", target: "a.orders", ids: topicIDs{[16]byte{1}, [16]byte{2}}, metrics: f.metrics.forTopic("orders", &f.totals)}
	p := newPartition(link, 0, f.held.get(0), listed{sourceLast: next})
	p.sourceLeader, p.targetLeader = 1, 1
	p.progress.setRecord(offsets.PartitionState{Topic: "orders", TargetTopic: "a.orders", LeaderEpoch: -1})
	p.beginMapLocked(originJournal, next, next)
	p.state = replicating
	f.held.get(0).add(p)
	return p
}

// fetched is a response with the batches of a partition.
func fetched(batches ...[]byte) *kmsg.FetchResponseTopicPartition {
	rp := kmsg.NewFetchResponseTopicPartition()
	for _, b := range batches {
		rp.RecordBatches = append(rp.RecordBatches, b...)
	}
	return &rp
}

// batchOf returns a batch of count records from a source offset on.
func batchOf(t *testing.T, from int64, count int) []byte {
	t.Helper()
	records := make([]recordbatch.Record, count)
	for i := range records {
		records[i] = recordbatch.Record{Offset: from + int64(i), Timestamp: 1, Value: []byte("v")}
	}
	batch, err := recordbatch.Encode(records, recordbatch.None)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint64(batch, uint64(from))
	return batch
}

// droppedBatch returns a batch without records at a source offset, as the log cleaner leaves one. Nothing of it is copied.
func droppedBatch(t *testing.T, at int64) []byte {
	t.Helper()
	batch := batchOf(t, at, 1)[:61]
	binary.BigEndian.PutUint32(batch[8:], 61-12)
	binary.BigEndian.PutUint32(batch[57:], 0)
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
	return batch
}

func (p *partition) ticketOfFetch() fetchTicket {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fetchTicket{p.ticketLocked(), p.next}
}

// sent marks the next batch as in flight.
func (p *partition) sent() sentBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sentLocked()
}

func (p *partition) sentLocked() sentBatch {
	b := p.outbox.stampNext(p.targetLane, time.Now())
	return sentBatch{p.ticketLocked(), p.requestIDs.target, b.batch, b.slab, b.sequence}
}

// A response that was requested behind a batch in flight must not move the end of the copy over that batch when its outcome is unknown.
func TestFetchResponseIsDiscardedAfterAReset(t *testing.T) {
	tests := map[string]func(f *Flow, p *partition, s sentBatch){
		"the connection was lost": func(f *Flow, _ *partition, s sentBatch) { f.doubtAll([]sentBatch{s}) },
		"the batch was too large": func(f *Flow, _ *partition, s sentBatch) { answerTo(t, f, s, kerr.MessageTooLarge) },
		"the batch was refused":   func(f *Flow, _ *partition, s sentBatch) { answerTo(t, f, s, kerr.InvalidRecord) },
		"the topic was deleted":   func(_ *Flow, p *partition, _ sentBatch) { p.retire() },
		"an anomaly halted it":    func(f *Flow, p *partition, _ sentBatch) { f.halt(p, policy.ForeignWrite, "another producer") },
	}
	responses := map[string]func() *kmsg.FetchResponseTopicPartition{
		"a batch":             func() *kmsg.FetchResponseTopicPartition { return fetched(batchOf(t, 1100, 10)) },
		"nothing to copy":     func() *kmsg.FetchResponseTopicPartition { return fetched(droppedBatch(t, 1100)) },
		"bytes without sense": func() *kmsg.FetchResponseTopicPartition { return fetched(make([]byte, 100)) },
		"a truncated log": func() *kmsg.FetchResponseTopicPartition {
			rp := fetched()
			rp.DivergingEpoch.EndOffset = 1050
			return rp
		},
	}
	for reset, doReset := range tests {
		for what, response := range responses {
			t.Run(reset+" before "+what, func(t *testing.T) {
				f := testFlow(t)
				p := replicatingPartition(f, 1000)
				b := &sourceBroker{flow: f}
				b.handlePartition(p.ticketOfFetch(), fetched(batchOf(t, 1000, 100)), time.Now(), newSlab(f.budget, 0, nil))
				if len(p.queue) != 1 {
					t.Fatalf("%d batches are queued, next %d, state %v, anomaly %+v", len(p.queue), p.next, p.state, p.anomaly)
				}
				s, late := p.sent(), p.ticketOfFetch()
				doReset(f, p, s)
				state, gaps, after := p.getState(), len(p.record.Gaps), p.fetchAfter
				b.handlePartition(late, response(), time.Now(), newSlab(f.budget, 0, nil))
				if p.acked != 1000 {
					t.Errorf("the end of the copy moved from 1000 to %d while the batch from 1000 to 1100 is not acknowledged", p.acked)
				}
				if p.next != 1000 && reset != "an anomaly halted it" {
					t.Errorf("the next fetch is from %d, want 1000", p.next)
				}
				if p.getState() != state || len(p.record.Gaps) != gaps || !p.fetchAfter.Equal(after) {
					t.Errorf("the late response changed the partition: %v, %d gaps, fetched after %v", p.getState(), len(p.record.Gaps), p.fetchAfter)
				}
			})
		}
	}
}

// answerTo handles a response with an error code, or with the base offset of an acknowledged batch.
func answerTo(t *testing.T, f *Flow, s sentBatch, code *kerr.Error) {
	t.Helper()
	rp := kmsg.NewProduceResponseTopicPartition()
	rp.ErrorCode = code.Code
	if err := f.handleAnswer(s, &rp, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// Whatever the order of fetch responses, produce responses, doubts, halts and takeovers: what counts as copied is acknowledged, without a hole.
func TestNoInterleavingLosesABatch(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f := testFlow(t)
	p := replicatingPartition(f, 0)
	b := &sourceBroker{flow: f}
	var mu sync.Mutex
	landed := make(map[int64]bool) // source offsets of records on the target
	const enough = 500
	var done atomic.Bool
	fetches := func() {
		draw := rand.New(rand.NewPCG(seed, 1))
		for !done.Load() {
			ticket := p.ticketOfFetch()
			runtime.Gosched() // between request and response
			var batches [][]byte
			for at := range 1 + draw.Int64N(4) {
				if at += ticket.offset; at%5 == 4 {
					batches = append(batches, droppedBatch(t, at))
				} else {
					batches = append(batches, batchOf(t, at, 1))
				}
			}
			b.handlePartition(ticket, fetched(batches...), time.Now(), newSlab(f.budget, 0, nil))
		}
	}
	produces := func() {
		draw := rand.New(rand.NewPCG(seed, 2))
		defer done.Store(true)
		for {
			p.mu.Lock()
			if p.acked >= enough || t.Failed() {
				p.mu.Unlock()
				return
			}
			if p.state == halted && p.anomaly.kind != policy.RecordTooLarge {
				t.Errorf("an anomaly that nothing here causes halted it: %+v", p.anomaly)
			}
			if p.state == halted && len(p.queue) == 0 { // the target's limit was raised
				p.outbox.forgetLimit()
				p.anomaly, p.state = nil, waiting
			}
			if p.state == waiting { // the takeover: what landed is known, and the rest is fetched again
				end := p.acked
				mu.Lock()
				for landed[end] || end%5 == 4 {
					end++
				}
				mu.Unlock()
				_ = p.progress.settle(nil, end, -1)
				p.state = replicating
				p.resetLocked()
			}
			if p.state != replicating || len(p.queue) == 0 {
				p.mu.Unlock()
				runtime.Gosched()
				continue
			}
			head := p.queue[0]
			s := p.sentLocked()
			base := p.targetEnd
			p.mu.Unlock()
			written := draw.IntN(4) > 0
			mu.Lock()
			for o := head.runs[0].Source; written && o < head.runs[0].Source+int64(head.count); o++ {
				if landed[o] {
					t.Errorf("record %d is on the target twice", o)
				}
				landed[o] = true
			}
			mu.Unlock()
			switch draw.IntN(4) {
			case 0:
				f.doubtAll([]sentBatch{s})
				continue
			case 1:
				if !written {
					answerTo(t, f, s, kerr.MessageTooLarge)
					continue
				}
			}
			if !written {
				answerTo(t, f, s, kerr.RequestTimedOut)
				continue
			}
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.BaseOffset = base
			if err := f.handleAnswer(s, &rp, time.Now()); err != nil {
				t.Error(err)
				return
			}
		}
	}
	checks := func() {
		for !done.Load() {
			p.mu.Lock()
			acked := p.acked
			p.mu.Unlock()
			mu.Lock()
			for o := max(0, acked-20); o < acked; o++ {
				if !landed[o] && o%5 != 4 {
					t.Errorf("record %d counts as copied and is not on the target", o)
				}
			}
			mu.Unlock()
		}
	}
	var group sync.WaitGroup
	for _, work := range []func(){fetches, produces, checks} {
		group.Go(work)
	}
	group.Wait()
}

// A source that refuses an offset of its own log may have a new leader. It is an anomaly when that lasts.
func TestRefusedOffsetBecomesAnAnomaly(t *testing.T) {
	p := &partition{topic: &topicLink{source: "orders"}, cursor: cursor{next: 5, fromEpoch: 0}}
	f := &Flow{log: slog.New(slog.DiscardHandler), warnings: warnings{log: slog.New(slog.DiscardHandler)}}
	for what := range 2 {
		if lost, err := f.outOfBoundsLocked(p, 5, 0, 10); lost != nil || err == nil {
			t.Fatalf("the %d. time: %v, %v", what+1, lost, err)
		}
		if p.cursor.lastEpoch() != -1 {
			t.Fatal("the next fetch names the refused epoch again")
		}
	}
	p.refusedSince = time.Now().Add(-refusedTime)
	lost, err := f.outOfBoundsLocked(p, 5, 0, 10)
	if err != nil || lost == nil || lost.kind != policy.Truncated || lost.to != 5 {
		t.Fatalf("after %v: %v, %v", refusedTime, lost, err)
	}
	p.cursor.advance(10, 0)
	if p.cursor.lastEpoch() != 0 {
		t.Fatal("an epoch that the source has not refused is not named")
	}
}

// A log that has only older leader epochs up to an offset is another one (KIP-320), even if it is longer: a broker that is asked for what follows
// has nothing but this to say, for ever.
func TestDivergenceOfALongerLog(t *testing.T) {
	p := &partition{topic: &topicLink{source: "orders"}}
	for _, test := range []struct {
		epoch    int32 // of what the broker says
		end      int64
		from, to int64
		lost     bool
	}{
		{epoch: -1, end: -1},
		{epoch: 5, end: 50},
		{epoch: 5, end: 80},
		{epoch: 5, end: 30, from: 30, to: 50, lost: true},
		{epoch: 4, end: 30, from: 30, to: 50, lost: true},
		{epoch: 4, end: 50, from: 50, to: 50, lost: true},
		{epoch: 0, end: 100, from: 50, to: 50, lost: true},
	} {
		rp := fetched()
		rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = test.epoch, test.end
		lost := divergence(p, rp, 50, 5)
		if (lost != nil) != test.lost || lost != nil && (lost.kind != policy.Truncated || lost.from != test.from || lost.to != test.to) {
			t.Errorf("epoch %d ends at %d: %+v", test.epoch, test.end, lost)
		}
	}
}
