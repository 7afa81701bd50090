package groups

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/kafkatest"
	"github.com/milena-kafka/milena/replicator/topics"
)

// fakeCopy is a copy whose map is a shift.
type fakeCopy struct {
	tp             offsets.TopicPartition
	source, target [16]byte // topic ids
	shift          int64    // target offset - source offset
	end            int64    // source offset
	err            error    // of Forward
}

func (c *fakeCopy) TopicIDs() (source, target [16]byte) { return c.source, c.target }

func (c *fakeCopy) Forward(source int64) (int64, bool, error) {
	if c.err != nil {
		return 0, false, c.err
	}
	return min(source, c.end) + c.shift, source <= c.end, nil
}

func (c *fakeCopy) MapStart() (int64, bool) { return 20, true }

func (c *fakeCopy) LastSync() (offsets.OffsetSync, bool) {
	return offsets.OffsetSync{Topic: c.tp.Topic, Partition: c.tp.Partition, Source: c.end - 1, Target: c.end - 1 + c.shift}, c.end > 0
}

// fakeHost is a flow whose metadata is always current.
type fakeHost struct {
	t              testing.TB
	source, target *kgo.Client
	leads, writes  atomic.Bool
	refreshes      atomic.Int32
	journal        string
	views          map[offsets.Side]topics.View // if set: metadata that does not change
	noteErr        error                        // of Note
	afterNote      func()                       // called by Note before it returns

	mu        sync.Mutex
	copies    map[offsets.TopicPartition]*fakeCopy
	elsewhere map[offsets.TopicPartition]bool // fixed before the first sync
	noted     int                             // entries
}

// Note writes to the journal as a flow does, but without a fence.
func (h *fakeHost) Note(ctx context.Context, entries []offsets.Entry) error {
	if h.noteErr != nil {
		return h.noteErr
	}
	var records []*kgo.Record
	for _, e := range entries {
		records = append(records, &kgo.Record{Topic: h.journal, Partition: offsets.LineagePartition, Key: e.AppendKey(nil), Value: e.AppendValue(nil)})
	}
	h.mu.Lock()
	h.noted += len(entries)
	h.mu.Unlock()
	err := h.target.ProduceSync(ctx, records...).FirstErr()
	if h.afterNote != nil && len(entries) > 0 {
		h.afterNote()
	}
	return err
}

func (h *fakeHost) Leads() bool  { return h.leads.Load() }
func (h *fakeHost) Writes() bool { return h.writes.Load() }
func (h *fakeHost) RefreshSoon() { h.refreshes.Add(1) }

func (h *fakeHost) Copy(source offsets.TopicPartition) (Copy, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.copies[source]
	return c, ok
}

func (h *fakeHost) Elsewhere(source offsets.TopicPartition) bool { return h.elsewhere[source] }

func (h *fakeHost) Copies() []Copy {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []Copy
	for _, c := range h.copies {
		list = append(list, c)
	}
	return list
}

func (h *fakeHost) View(side offsets.Side) topics.View {
	if view, ok := h.views[side]; ok {
		return view
	}
	cl := h.target
	if side == offsets.Source {
		cl = h.source
	}
	view, err := topics.Read(h.t.Context(), cl)
	if err != nil && h.t.Context().Err() == nil {
		h.t.Error(err)
	}
	return view
}

// logged keeps log lines.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) count(msg string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), msg)
}

// world is two clusters, a and b, and the flow a-b between them.
type world struct {
	t              testing.TB
	source, target *kfake.Cluster
	host           *fakeHost
	deps           Deps
	log            *logged
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, source: kafkatest.New(t), target: kafkatest.New(t), log: &logged{}}
	w.host = &fakeHost{
		t: t, source: kafkatest.Client(t, w.source), target: kafkatest.Client(t, w.target), copies: make(map[offsets.TopicPartition]*fakeCopy), elsewhere: make(map[offsets.TopicPartition]bool),
		journal: offsets.JournalTopic("a-b"),
	}
	kafkatest.CreateTopic(t, w.target, w.host.journal, 1, nil)
	w.host.leads.Store(true)
	w.host.writes.Store(true)
	flow := config.DefaultFlow("a", "b")
	flow.Topics, flow.Groups, flow.GroupsSync, flow.OffsetSyncs = []string{".*"}, []string{".*"}, true, config.OffsetSyncsTarget
	rules, err := policy.NewTopics(flow, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.deps = Deps{
		Clusters: client.Clusters{Flow: flow, Log: log}, Host: w.host, Topics: rules,
		SourceClient: kafkatest.Client(t, w.source), TargetClient: kafkatest.Client(t, w.target),
		SourceMetadata: new(topics.Reader), TargetMetadata: new(topics.Reader), Throttles: client.NewThrottles(log), Warn: log.Warn, Span: noSpan, Metrics: newMetrics(),
	}
	return w
}

func newMetrics() Metrics {
	counters := func(labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "test_total", Help: "A counter of a test."}, labels)
	}
	return Metrics{
		Syncs:             counters("result"),
		CheckpointLatency: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "test_seconds", Help: "A histogram of a test."}),
		Commits:           prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total", Help: "A counter of a test."}),
		Refusals:          counters("reason"), Records: counters("cluster", "topic"), RecordErrors: counters("cluster", "topic"),
	}
}

// copies creates a source topic of one partition, its remote topic and their copy.
func (w *world) copies(topic string, shift, end int64) *fakeCopy {
	w.t.Helper()
	kafkatest.CreateTopic(w.t, w.source, topic, 1, nil)
	kafkatest.CreateTopic(w.t, w.target, "a."+topic, 1, nil)
	w.fill("a."+topic, shift+end)
	c := &fakeCopy{
		tp: offsets.TopicPartition{Topic: topic}, shift: shift, end: end,
		source: w.host.View(offsets.Source).ByName[topic].ID, target: w.host.View(offsets.Target).ByName["a."+topic].ID,
	}
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	w.host.copies[c.tp] = c
	return c
}

// fill appends records to partition 0 of a topic on the target.
func (w *world) fill(topic string, n int64) {
	w.t.Helper()
	var records []*kgo.Record
	for range n {
		records = append(records, &kgo.Record{Topic: topic, Value: []byte("x")})
	}
	if err := w.host.target.ProduceSync(w.t.Context(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) commit(cl *kgo.Client, group, topic string, at int64) {
	w.t.Helper()
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: topic, At: at, LeaderEpoch: -1, Metadata: "m"})
	if err := kadm.NewClient(cl).CommitAllOffsets(w.t.Context(), group, o); err != nil {
		w.t.Fatal(err)
	}
}

// committed returns the committed offset of a group in partition 0, -1 if there is none.
func (w *world) committed(cl *kgo.Client, group, topic string) int64 {
	w.t.Helper()
	list, err := offsets.CommittedOffsets(w.t.Context(), cl, group, "the cluster")
	if err != nil {
		return -1
	}
	for _, o := range list {
		if o.Topic == topic {
			return o.At
		}
	}
	return -1
}

// records reads all records of partition 0 of a topic on the target.
func (w *world) records(topic string) []*kgo.Record {
	w.t.Helper()
	ends, err := kadm.NewClient(w.host.target).ListEndOffsets(w.t.Context(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	end, ok := ends.Lookup(topic, 0)
	if !ok || end.Err != nil {
		return nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.target.ListenAddrs()...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	var list []*kgo.Record
	for int64(len(list)) < end.Offset && ctx.Err() == nil {
		list = append(list, cl.PollFetches(ctx).Records()...)
	}
	return list
}

// sync runs syncs until the checkpoints topic was created and one sync is complete.
func (w *world) sync(s *Syncer) *Status {
	w.t.Helper()
	for range 2 { // the first one creates the internal topics
		if err := s.sync(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	return s.Status()
}

func (w *world) newSyncer() *Syncer {
	w.t.Helper()
	s, err := New(w.deps)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// counted returns the value of a counter.
func counted(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// noSpan traces nothing.
func noSpan(ctx context.Context, _ string, _ ...attribute.KeyValue) (context.Context, func(error)) {
	return ctx, func(error) {}
}
