package replicator

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// journalLog is a target cluster as the journal sees it: it keeps what is written to the journal's partitions.
type journalLog struct {
	wire.Transport
	discard  bool                               // keep nothing
	maxBytes int                                // max.message.bytes
	refuse   func(partition int32, n int) int16 // the answer to the n-th batch of a partition, 0: written
	hung     map[int32]bool                     // brokers that do not answer
	throttle time.Duration                      // of each answer, by a quota
	permit   func() error                       // of a request whose bytes are sent

	lines   int // opened
	mu      sync.Mutex
	logs    map[int32][]recordbatch.Record
	largest int
	arrived map[int32]chan bool // a request, by broker
	batches map[int32]int       // by partition, refused ones too
}

// line opens a connection, which the broker does not read while it is muted.
func (l *journalLog) line() (*journalLine, error) {
	l.lines++
	return &journalLine{Producer: &journalConnection{journalLog: l}, close: func() {}}, nil
}

type journalConnection struct {
	*journalLog
	muted time.Time // until then, nothing is read
}

func (c *journalConnection) Produce(ctx context.Context, broker int32, request *wire.ProduceRequest) (*kmsg.ProduceResponse, error) {
	if c.throttle > 0 {
		time.Sleep(time.Until(c.muted)) // the client does
		if err := c.permit(); err != nil {
			return nil, err
		}
		c.muted = time.Now().Add(c.throttle)
	}
	return c.journalLog.Produce(ctx, broker, request)
}

func (l *journalLog) Produce(ctx context.Context, broker int32, request *wire.ProduceRequest) (*kmsg.ProduceResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.arrived[broker] <- true:
	default:
	}
	if l.hung[broker] {
		l.mu.Unlock()
		<-ctx.Done()
		l.mu.Lock()
		return nil, ctx.Err()
	}
	response := kmsg.NewPtrProduceResponse()
	response.Version, response.ThrottleMillis = 9, int32(l.throttle.Milliseconds()) //nolint:gosec // seconds
	for _, t := range request.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, l.append(p.Partition, p.Records)
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
	}
	return response, nil
}

func (l *journalLog) append(partition int32, batch []byte) int16 {
	l.batches[partition]++
	if l.refuse != nil {
		if code := l.refuse(partition, l.batches[partition]); code != 0 {
			return code
		}
	}
	if len(batch) > l.maxBytes {
		return kerr.MessageTooLarge.Code
	}
	records, err := recordbatch.Decode(batch)
	if err != nil {
		return kerr.CorruptMessage.Code
	}
	l.largest = max(l.largest, len(batch))
	if !l.discard {
		l.logs[partition] = append(l.logs[partition], records...)
	}
	return 0
}

// awaitRequest waits for the next request to a broker.
func (l *journalLog) awaitRequest(t *testing.T, broker int32) {
	t.Helper()
	select {
	case <-l.arrived[broker]:
	case <-time.After(time.Minute):
		t.Fatalf("no request to broker %d", broker)
	}
}

// restored is what a new owner finds in a journal partition.
func (l *journalLog) restored(t *testing.T, partition int32) map[offsets.TopicPartition]*offsets.Restored {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var r offsets.Restorer
	for _, record := range l.logs[partition] {
		if err := r.Add(record.Key, record.Value); err != nil {
			t.Fatal(err)
		}
	}
	return r.Partitions()
}

// written counts the records by their first letter: the kind of the entry.
func (l *journalLog) written(kind offsets.Kind) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, log := range l.logs {
		for _, r := range log {
			if offsets.Kind(r.Key[0]) == kind {
				n++
			}
		}
	}
	return n
}

// newJournalFlow returns a flow that owns shards whose journal is led by the given brokers, and its log.
func newJournalFlow(t testing.TB, leaders ...int32) (*Flow, *journalLog, *bytes.Buffer) {
	t.Helper()
	const journal = "milena.f.journal"
	l := &journalLog{
		maxBytes: 1 << 20, hung: make(map[int32]bool), logs: make(map[int32][]recordbatch.Record), arrived: map[int32]chan bool{1: make(chan bool, 100), 2: make(chan bool, 100)}, batches: make(map[int32]int),
	}
	said := &bytes.Buffer{}
	f := &Flow{
		config:       config.Flow{Name: "f", Source: "a", Target: "b", Lease: 10 * time.Second, JournalInterval: time.Millisecond},
		journalTopic: journal, log: slog.New(slog.NewTextHandler(said, nil)),
		metrics: newFlowMetrics(prometheus.NewRegistry()), topology: newTopology(), takeovers: newTakeovers(int32(len(leaders))), lease: newLease(time.Hour, newClock(bootTime(), time.Now).now),
		connections: &connections{targetWire: l, journal: newJournalLines(2500*time.Millisecond, &journalConnection{journalLog: l}, l.line)},
	}
	f.warnings.log = f.log
	f.current.Store(&live{Flow: f.config})
	f.held = newShards(int32(len(leaders)))
	f.lease.confirm(f.lease.now())
	f.topology.targetRead = time.Now().Add(time.Hour) // no metadata request
	view := topics.Topic{Name: journal}
	for n, leader := range leaders {
		view.Partitions = append(view.Partitions, topics.Partition{Leader: leader})
		s := newShard(f, int32(n))
		s.ownership.own()
		f.held.put(s)
	}
	f.topology.setTarget(topics.View{ByName: map[string]topics.Topic{journal: view}})
	return f, l, said
}

// addCopy adds a partition whose copy has n segments that are not journaled.
func addCopy(t testing.TB, s *shard, topic string, n int) *partition {
	t.Helper()
	p := newPartition(&topicLink{source: topic, target: "a." + topic}, 0, s, listed{})
	p.progress.setRecord(offsets.PartitionState{Topic: topic, TargetTopic: "a." + topic})
	p.beginMapLocked(originNew, 0, 0)
	p.progress.decideStart(0)
	p.state = replicating
	s.add(p)
	copySegments(t, p, n)
	return p
}

// copySegments lets the target acknowledge n batches of one record, with a marker behind each on the source.
func copySegments(t testing.TB, p *partition, n int) {
	t.Helper()
	for range n {
		b := prepared{count: 1, runs: []recordbatch.Run{{Source: p.acked, Count: 1}}, next: p.acked + 2}
		if err := p.progress.acknowledge(b, p.targetEnd, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
}

// sameMap fails the test if a restored map differs from the one in memory.
func sameMap(t *testing.T, p *partition, found *offsets.Restored) {
	t.Helper()
	if found == nil {
		t.Fatalf("the journal does not have %s", p)
	}
	m, err := found.Map()
	if err != nil {
		t.Fatal(err)
	}
	gotSource, gotTarget := m.End()
	wantSource, wantTarget := p.offsets.End()
	if gotSource != wantSource || gotTarget != wantTarget || !slices.Equal(slices.Collect(m.Segments()), slices.Collect(p.offsets.Segments())) {
		t.Errorf("%s: the journal's map ends at %d, %d with %d segments, the one in memory at %d, %d with %d",
			p, gotSource, gotTarget, m.Len(), wantSource, wantTarget, p.offsets.Len())
	}
}

// A map of a million segments has 3 MB in the journal. It is written in batches that the topic accepts, also if it accepts small ones only, and
// then takes no memory.
func TestLongMapIsJournaledInBatchesThatFit(t *testing.T) {
	for _, maxBytes := range []int{1 << 20, 40_000, 4_000} {
		t.Run(fmt.Sprint(maxBytes), func(t *testing.T) {
			f, log, _ := newJournalFlow(t, 1)
			log.maxBytes = maxBytes
			p := addCopy(t, f.held.get(0), "orders", 1_000_000)
			f.syncJournal(t.Context())
			sameMap(t, p, log.restored(t, 0)[p.source()])
			if p.journaled != p.acked || p.offsets.Len() > offsets.ChunkSegments {
				t.Errorf("journaled %d of %d, %d segments in memory", p.journaled, p.acked, p.offsets.Len())
			}
			if log.largest > min(maxBytes, journalBatchBytes) {
				t.Errorf("the largest batch has %d bytes", log.largest)
			}
			if n := log.written(offsets.KindChunk); n != 1_000_000/offsets.ChunkSegments+1 {
				t.Errorf("%d chunks are written", n)
			}
		})
	}
}

// After a failure, what was written is not written again, whatever comes in the meantime.
func TestFailedJournalPassRepeatsOnlyWhatWasNotWritten(t *testing.T) {
	f, log, _ := newJournalFlow(t, 1)
	p := addCopy(t, f.held.get(0), "orders", 100_000)
	log.maxBytes = 50_000
	log.refuse = func(_ int32, n int) int16 {
		if n > 10 && n%2 == 0 {
			return kerr.NotEnoughReplicas.Code
		}
		return 0
	}
	for range 40 {
		f.syncJournal(t.Context())
		copySegments(t, p, 100)
	}
	log.refuse = nil
	f.syncJournal(t.Context())
	sameMap(t, p, log.restored(t, 0)[p.source()])
	names := make(map[string]int)
	for _, r := range log.logs[0] {
		if offsets.Kind(r.Key[0]) == offsets.KindChunk {
			names[string(r.Key)]++
		}
	}
	open := string((&offsets.Chunk{Topic: "orders", First: p.record.Chunk}).AppendKey(nil))
	again := 0
	for name, n := range names {
		if name != open && n > 1 {
			again++
		}
	}
	if sealed := 104_000 / offsets.ChunkSegments; again > 40 || len(names) < sealed {
		t.Errorf("%d of %d chunks were written more than once", again, len(names))
	}
}

// A record that the topic does not accept is named with the cure. Its partition is not journaled, all others of the shard are.
func TestJournalRecordThatDoesNotFitBlocksNoOther(t *testing.T) {
	f, log, said := newJournalFlow(t, 1)
	before, wide, behind := addCopy(t, f.held.get(0), "before", 2000), addCopy(t, f.held.get(0), "wide", 10), addCopy(t, f.held.get(0), "behind", 2000)
	for range offsets.MaxGaps {
		wide.progress.addGap(offsets.Gap{Kind: "foreign_write", Action: "skip", From: wide.acked, Detail: strings.Repeat("x", offsets.MaxGapDetail)})
		copySegments(t, wide, 1)
	}
	log.maxBytes = 5_000
	f.syncJournal(t.Context())
	found := log.restored(t, 0)
	sameMap(t, before, found[before.source()])
	sameMap(t, behind, found[behind.source()])
	if l := found[wide.source()]; l != nil && l.State != nil || wide.journaled != 0 {
		t.Error("the state that does not fit counts as journaled")
	}
	for _, words := range []string{"state of wide-0", "max.message.bytes of topic milena.f.journal on cluster b"} {
		if !strings.Contains(said.String(), words) {
			t.Errorf("the log does not say %q: %s", words, said)
		}
	}
	log.maxBytes = 1 << 20
	f.held.get(0).journalLimit = journalBatchBytes
	f.syncJournal(t.Context())
	sameMap(t, wide, log.restored(t, 0)[wide.source()])
}

// Each answer mutes its connection, up to ten leases long. The journal is written at least as often as the lease needs, and no request waits until
// its lease has expired.
func TestThrottledJournalIsNoDoubt(t *testing.T) {
	for throttle, lines := range map[time.Duration]int{2 * time.Second: 0, 7 * time.Second: 20, 100 * time.Second: 20} {
		t.Run(throttle.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, log, said := newJournalFlow(t, 1)
				began := time.Now()
				f.lease = newLease(10*time.Second, func() instant { return instant(time.Since(began) + 1) })
				f.lease.confirm(f.lease.now())
				log.throttle = throttle
				log.permit = func() error { return f.lease.permit(kmsg.Produce) }
				p := addCopy(t, f.held.get(0), "orders", 10)
				for range 21 {
					f.syncJournal(t.Context())
					copySegments(t, p, 10)
					time.Sleep(f.config.Lease / 4) // as journalLoop does
				}
				if !f.held.get(0).ownership.isCertain() || !f.lease.holds() || said.Len() > 0 {
					t.Errorf("shard certain %v, lease held %v: %s", f.held.get(0).ownership.isCertain(), f.lease.holds(), said)
				}
				if p.journaled != p.acked-20 {
					t.Errorf("journaled %d of %d", p.journaled, p.acked)
				}
				if log.lines != lines {
					t.Errorf("%d connections were opened, want %d", log.lines, lines)
				}
			})
		})
	}
}

// A shard whose journal partition refuses writes costs the other shards of the broker nothing, wherever it is in the request.
func TestStuckJournalPartitionStopsNoOther(t *testing.T) {
	f, log, _ := newJournalFlow(t, 1, 1, 1)
	var copies []*partition
	for n, s := range f.held.all() {
		copies = append(copies, addCopy(t, s, fmt.Sprint("topic", n), 2000))
	}
	log.refuse = func(partition int32, _ int) int16 {
		if partition == 0 {
			return kerr.NotEnoughReplicas.Code
		}
		return 0
	}
	for range 2 {
		before := f.lease.confirmed
		f.syncJournal(t.Context())
		if f.lease.confirmed <= before {
			t.Error("the other shards do not confirm the lease")
		}
	}
	for n, p := range copies[1:] {
		sameMap(t, p, log.restored(t, int32(n+1))[p.source()])
	}
	if log.written(offsets.KindOwner) == 0 {
		t.Error("the owner is not written by another shard")
	}
}

// A broker that does not answer delays only the shards whose journal it leads, and gets one request, whatever their number.
func TestHungBrokerDelaysOnlyItsShards(t *testing.T) {
	f, log, _ := newJournalFlow(t, 1, 2, 2, 2, 1)
	var copies []*partition
	for n, s := range f.held.all() {
		copies = append(copies, addCopy(t, s, fmt.Sprint("topic", n), 10))
	}
	log.hung[2] = true
	hard, cut := context.WithCancel(t.Context())
	f.hard = hard
	soft, stop := context.WithCancel(t.Context())
	f.background.Go(func() { f.journalLoop(soft) })
	for range 20 {
		log.awaitRequest(t, 1)
	}
	log.awaitRequest(t, 2)
	stop()
	cut()
	f.background.Wait()
	if n := len(log.arrived[2]); n > 0 {
		t.Errorf("the hung broker got %d more requests", n)
	}
	for _, n := range []int32{0, 4} {
		sameMap(t, copies[n], log.restored(t, n)[copies[n].source()])
	}
}

// 10 million segments in passes of 200,000, as when a long history is copied.
func BenchmarkJournal10M(b *testing.B) {
	for b.Loop() {
		f, log, _ := newJournalFlow(b, 1)
		log.discard = true
		p := addCopy(b, f.held.get(0), "orders", 0)
		var writing time.Duration
		for range 50 {
			copySegments(b, p, 200_000)
			began := time.Now()
			f.syncJournal(b.Context())
			writing += time.Since(began)
		}
		if p.journaled != p.acked {
			b.Fatal("not everything is journaled")
		}
		var after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(writing.Seconds(), "s/10M-segments")
		b.ReportMetric(float64(after.HeapAlloc)/(1<<20), "heap-MiB")
	}
}
