package replicator_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
)

// mirror is a MirrorMaker 2 in miniature, which copies the topic orders record by record.
type mirror struct {
	*pair
	syncs   bool
	records []*kgo.Record // of partition 0 of the source, as they were when it began
	texts   []string      // the same
}

// newMirroredPair is two clusters, a topic of one partition with so many records, and a MirrorMaker 2 that has copied nothing yet.
func newMirroredPair(t *testing.T, records int) (*pair, *mirror) {
	t.Helper()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, records, "old")
	return p, p.newMirror()
}

const mirrorPositions = "mm2-offsets.a.internal"

func (p *pair) newMirror() *mirror {
	p.t.Helper()
	for name, n := range map[string]int32{mirrorPositions: 25, "mm2-offset-syncs.a.internal": 1, "a.orders": 1} {
		if _, err := p.targetAdm.CreateTopic(p.t.Context(), n, 1, nil, name); err != nil {
			p.t.Fatal(err)
		}
	}
	return &mirror{
		pair: p, syncs: true, records: p.records(p.sourceCl, p.source, "orders", 1)[0], texts: p.read(p.sourceCl, p.source, "orders", 1)[0],
	}
}

// copy copies source records [from, to) by their place in the log, and says where the first of them landed if it emits syncs.
func (m *mirror) copy(from, to int) {
	m.t.Helper()
	for i, r := range m.records[from:to] {
		landed, err := m.targetCl.ProduceSync(m.t.Context(), &kgo.Record{Topic: "a.orders", Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}).First()
		if err != nil {
			m.t.Fatal(err)
		}
		if i == 0 && m.syncs {
			s := offsets.OffsetSync{Topic: "orders", Source: r.Offset, Target: landed.Offset}
			m.note("mm2-offset-syncs.a.internal", s.AppendKey(nil), s.AppendValue(nil))
		}
	}
}

// store notes a position: the source offset of the last record that was acknowledged.
func (m *mirror) store(last int64) {
	m.t.Helper()
	p := offsets.ConnectPosition{Connector: "MirrorSourceConnector", Source: "a", TopicPartition: offsets.TopicPartition{Topic: "orders"}, Next: last + 1}
	m.note(mirrorPositions, p.Key(), p.Value())
}

func (m *mirror) note(topic string, key, value []byte) {
	m.t.Helper()
	if err := m.targetCl.ProduceSync(m.t.Context(), &kgo.Record{Topic: topic, Key: key, Value: value}).FirstErr(); err != nil {
		m.t.Fatal(err)
	}
}

func takeOver(f *config.Flow) { f.TakeOver, f.OffsetSyncs = mirrorPositions, "target" }

// Whatever MirrorMaker 2 noted, milena goes on behind what it copied.
func TestACopyOfMirrorMakerIsGoneOnWith(t *testing.T) {
	for _, tt := range []struct {
		name string
		left func(*mirror) // what it did to orders-0, which has 100 records
		// want are the numbers of the source's records on the target at the end.
		want [][2]int
	}{
		{"stopped cleanly", func(m *mirror) { m.copy(0, 60); m.store(59) }, [][2]int{{0, 100}}},
		{"killed, the position is behind", func(m *mirror) { m.copy(0, 60); m.store(20) }, [][2]int{{0, 100}}},
		{"killed before it noted anything", func(m *mirror) { m.copy(0, 60) }, [][2]int{{0, 100}}},
		{"no syncs either", func(m *mirror) { m.syncs = false; m.copy(0, 60) }, [][2]int{{0, 100}}},
		{"it had copied everything", func(m *mirror) { m.copy(0, 100); m.store(99) }, [][2]int{{0, 100}}},
		{"nothing was copied", func(*mirror) {}, [][2]int{{0, 100}}},
		{"killed twice, and behind its own copy", func(m *mirror) {
			m.copy(0, 60)
			m.store(29)
			m.copy(30, 45)
		}, [][2]int{{0, 60}, {30, 45}, {60, 100}}},
		{"the same without syncs", func(m *mirror) {
			m.syncs = false
			m.copy(0, 60)
			m.store(29)
			m.copy(30, 45)
		}, [][2]int{{0, 60}, {30, 45}, {60, 100}}},
		{"the copy's retention deleted what is old", func(m *mirror) {
			m.copy(0, 60)
			m.store(40)
			m.delete(m.target, "a.orders", 50)
		}, [][2]int{{50, 100}}},
		{"the copy's retention deleted everything", func(m *mirror) {
			m.copy(0, 60)
			m.store(59)
			m.delete(m.target, "a.orders", 60)
		}, [][2]int{{60, 100}}},
		{"the source's retention deleted what is old", func(m *mirror) {
			m.copy(0, 60)
			m.store(40)
			m.delete(m.source, "orders", 50)
		}, [][2]int{{0, 100}}},
		{"both did, up to where it stopped", func(m *mirror) {
			m.syncs = false
			m.copy(0, 60)
			m.store(59)
			m.delete(m.source, "orders", 60)
		}, [][2]int{{0, 100}}},
	} {
		for _, rebuild := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rebuild %v", tt.name, rebuild), func(t *testing.T) {
				t.Parallel()
				p, m := newMirroredPair(t, 100)
				tt.left(m)
				p.rebuildMap = rebuild
				r := p.start(takeOver)
				p.settled(r, "orders")
				var want []string
				for _, part := range tt.want {
					want = append(want, m.texts[part[0]:part[1]]...)
				}
				mustEqual(t, "the copy", want, p.read(p.targetCl, p.target, "a.orders", 1)[0])
				p.produce("orders", 1, 10, "new")
				p.settled(r, "orders")
				if err := r.stopped(); err != nil {
					t.Fatal(err)
				}
				r = p.start(takeOver) // the journal knows now
				p.produce("orders", 1, 10, "newer")
				p.settled(r, "orders")
				if got := p.read(p.targetCl, p.target, "a.orders", 1)[0]; len(got) != len(want)+20 {
					t.Errorf("%d records on the target, want %d", len(got), len(want)+20)
				}
			})
		}
	}
}

func (m *mirror) delete(cluster interface {
	DeleteRecords(topic string, partition int32, offset int64) error
}, topic string, before int64,
) {
	m.t.Helper()
	if err := cluster.DeleteRecords(topic, 0, before); err != nil {
		m.t.Fatal(err)
	}
}

// What does not fit together halts the partition that it concerns, with a sentence, and writes nothing.
func TestWhatDoesNotFitMirrorMakersNotesHalts(t *testing.T) {
	for _, tt := range []struct {
		name, kind, says string
		left             func(*mirror)
	}{
		{"the target topic was made again", "target_recreated", "copied orders-0 up to source offset 60, but target topic a.orders holds nothing", func(m *mirror) { m.store(59) }},
		{"the source topic was made again", "recreated", "stopped at source offset 501, but source orders-0 ends at 100", func(m *mirror) {
			m.store(500)
			m.write("somebody else's")
		}},
		{"somebody else's records", "target_not_empty", "none of them is among those that were read of the source", func(m *mirror) {
			m.store(59)
			m.write("somebody else's")
		}},
		{"somebody else's records, and no position", "target_not_empty", "none of them is among those that were read of the source", func(m *mirror) { m.write("somebody else's") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, m := newMirroredPair(t, 100)
			tt.left(m)
			before := p.read(p.targetCl, p.target, "a.orders", 1)[0]
			r := p.start(takeOver)
			a := r.mustHalt("orders", 0, tt.kind)
			if !strings.Contains(a.Detail, tt.says) {
				t.Errorf("it says %q, want %q", a.Detail, tt.says)
			}
			mustEqual(t, "the copy", before, p.read(p.targetCl, p.target, "a.orders", 1)[0])
		})
	}
}

func (m *mirror) write(value string) {
	m.t.Helper()
	for range 3 {
		if err := m.targetCl.ProduceSync(m.t.Context(), &kgo.Record{Topic: "a.orders", Value: []byte(value)}).FirstErr(); err != nil {
			m.t.Fatal(err)
		}
	}
}

// A topic whose brokers stamp the time themselves is paired by everything else. Its records look alike, but for their order.
func TestACopyWithTimesOfItsOwnIsGoneOnWith(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		r := &kgo.Record{Topic: "orders", Value: fmt.Appendf(nil, "state %d", random.IntN(3)), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i))}
		if err := p.sourceCl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	m := p.newMirror()
	stamp := "LogAppendTime"
	if _, err := p.targetAdm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "message.timestamp.type", Value: &stamp}}, "a.orders"); err != nil {
		t.Fatal(err)
	}
	m.copy(0, 120)
	m.store(80)
	m.copy(81, 200)
	r := p.start(takeOver)
	p.settled(r, "orders")
	got, want := p.records(p.targetCl, p.target, "a.orders", 1)[0], append(append(m.records[:120:120], m.records[81:200]...), m.records[200:]...)
	if len(got) != len(want) {
		t.Fatalf("%d records on the target, want %d", len(got), len(want))
	}
	for i := range got {
		if string(got[i].Value) != string(want[i].Value) {
			t.Fatalf("record %d is %q, want %q", i, got[i].Value, want[i].Value)
		}
	}
}

// A MirrorMaker 2 in its exactly-once mode leaves markers and aborted records on the target. They stand for no record of the source, also
// where all records look alike.
func TestACopyInTransactionsIsGoneOnWith(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	for range 100 {
		r := &kgo.Record{Topic: "orders", Value: []byte("tick"), Timestamp: time.UnixMilli(1_700_000_000_000)}
		if err := p.sourceCl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	m := p.newMirror()
	m.copyInTransactions(0, 60, 10)
	r := p.start(takeOver)
	p.settled(r, "orders")
	if n := len(p.records(p.targetCl, p.target, "a.orders", 1)[0]); n != 100 {
		t.Errorf("%d committed records on the target, want 100", n)
	}
}

// Topics that are deleted while their copies are compared do not keep others from being taken over.
func TestDeletedTopicsHoldUpNoTakeOver(t *testing.T) {
	t.Parallel()
	p, m := newMirroredPair(t, 10)
	m.copy(0, 5)
	var gone []string
	var asked []*kfake.FaultHandle
	for i := range 4 { // as many as are compared at a time
		name := fmt.Sprintf("gone-%d", i)
		gone = append(gone, name)
		p.createTopic(name, 1)
		p.produce(name, 1, 10, "old")
		if _, err := p.targetAdm.CreateTopic(t.Context(), 1, 1, nil, "a."+name); err != nil {
			t.Fatal(err)
		}
		if err := m.targetCl.ProduceSync(t.Context(), &kgo.Record{Topic: "a." + name, Value: []byte("a copy")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		asked = append(asked, p.source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: name, Err: kerr.NotLeaderForPartition, Count: -1}))
	}
	r := p.start(takeOver)
	for i, name := range gone {
		if err := asked[i].Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if err := p.source.DeleteTopic(name); err != nil {
			t.Fatal(err)
		}
	}
	p.settled(r, "orders")
	p.createTopic("later", 1)
	p.produce("later", 1, 5, "new")
	p.settled(r, "later")
}

// A map begins with the pair at which the comparison began. What was copied before is unknown to it, also where it is there a second time.
func TestAMapOfACopyBeginsWhereItIsKnown(t *testing.T) {
	t.Parallel()
	p, m := newMirroredPair(t, 100)
	m.copy(0, 30)
	m.copy(30, 60)
	m.copy(20, 40) // after a kill
	r := p.start(takeOver)
	p.settled(r, "orders")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	states, err := offsets.NewJournal(p.targetCl, offsets.JournalTopic("a-b"), offsets.JournalOptions{}).States(t.Context())
	if err != nil || len(states) != 1 {
		t.Fatal(states, err)
	}
	if want := (offsets.Position{Source: 30, Target: 30}); states[0].Start != want {
		t.Errorf("the map begins at %+v, want %+v: source offset 25 stands at target offset 25, not at 30", states[0].Start, want)
	}
}

// A position says nothing of records that the copy doesn't hold and never lost: it was noted for an earlier topic of that name.
func TestAPositionThatTheCopyContradictsIsNotBelieved(t *testing.T) {
	t.Parallel()
	p, m := newMirroredPair(t, 100)
	m.copy(0, 60)
	m.store(79)
	m.write("somebody else's")
	r := p.start(takeOver)
	p.settled(r, "orders")
	got := p.read(p.targetCl, p.target, "a.orders", 1)[0]
	mustEqual(t, "the copy", m.texts, append(got[:60:60], got[63:]...))
}

// A writer that aborts writes the same again, with the same times if it passes on those of its input. MirrorMaker 2 copied what was committed.
func TestAnAbortedRecordIsNotTakenForTheOneThatWasCopied(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 10, "before")
	var input []*kgo.Record
	for i := range 5 {
		input = append(input, &kgo.Record{Value: fmt.Appendf(nil, "passed on %d", i), Timestamp: time.UnixMilli(1_700_000_000_000)})
	}
	writer := newWriter(t, p.source, "streams-app")
	writer.write("orders", input, kgo.TryAbort)
	writer.write("orders", input, kgo.TryCommit)
	m := p.newMirror()
	m.copy(0, 15)
	r := p.start(takeOver)
	p.settled(r, "orders")
	mustEqual(t, "the copy", m.texts, p.read(p.targetCl, p.target, "a.orders", 1)[0])
}

// A slow line to the target makes a comparison slow, not endless.
func TestACopyIsComparedOverASlowLine(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 10, "old")
	p.newMirror().copy(0, 5)
	id := p.target.TopicInfo("a.orders").TopicID
	p.targetTrap.set(kmsg.Fetch, id[:], slowAnswer, 1000)
	r := p.start(takeOver)
	p.settled(r, "orders")
	p.targetTrap.set(kmsg.Fetch, id[:], slowAnswer, 0)
	p.verify("orders", "a.orders", 1)
}

// copyInTransactions copies in transactions of so many records, of which the first one notes a sync. It is killed in the last one, of which
// half is written.
func (m *mirror) copyInTransactions(from, to, each int) {
	m.t.Helper()
	w := newWriter(m.t, m.target, "a-mm2-MirrorSourceConnector-0")
	s := offsets.OffsetSync{Topic: "orders", Source: m.records[from].Offset}
	m.note("mm2-offset-syncs.a.internal", s.AppendKey(nil), s.AppendValue(nil))
	for ; from < to; from += each {
		w.write("a.orders", m.records[from:from+each], kgo.TryCommit)
	}
	w.write("a.orders", m.records[to:to+each/2], kgo.TryAbort)
}

// writer writes in transactions.
type writer struct {
	t  *testing.T
	cl *kgo.Client
}

func newWriter(t *testing.T, cluster *kfake.Cluster, id string) *writer {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &writer{t, cl}
}

// write makes one transaction of copies of the records.
func (w *writer) write(topic string, records []*kgo.Record, end kgo.TransactionEndTry) {
	w.t.Helper()
	if err := w.cl.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	var copies []*kgo.Record
	for _, r := range records {
		copies = append(copies, &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp})
	}
	if err := w.cl.ProduceSync(w.t.Context(), copies...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	if err := w.cl.EndTransaction(w.t.Context(), end); err != nil {
		w.t.Fatal(err)
	}
}

// A group that lags behind the take-over is followed by MirrorMaker 2's syncs: never too far, and exactly from the map's beginning on.
func TestAGroupThatLagsIsFollowedAfterTheTakeOver(t *testing.T) {
	t.Parallel()
	p, m := newMirroredPair(t, 100)
	m.copy(0, 20)
	m.copy(20, 40)
	m.copy(40, 60)
	for group, at := range map[string]int64{"at a sync": 20, "behind one": 25, "at the beginning": 0, "in the map": 50} {
		commit(t, p.sourceCl, group, "orders", 0, at, "")
	}
	r := p.start(func(f *config.Flow) {
		takeOver(f)
		f.Groups, f.GroupsSync, f.GroupsInterval = []string{".*"}, true, 50*time.Millisecond
	})
	p.settled(r, "orders")
	want := map[string]int64{"at a sync": 20, "behind one": 21, "at the beginning": 0, "in the map": 50}
	var got map[string]int64
	r.until("the groups are on the target", func(replicator.Status) bool {
		got = map[string]int64{}
		for group := range want {
			if o, ok := p.targetAdm.FetchManyOffsets(t.Context(), group)[group].Fetched.Lookup("a.orders", 0); ok {
				got[group] = o.At
			}
		}
		return len(got) == len(want)
	})
	if !maps.Equal(want, got) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A MirrorMaker 2 that a Connect cluster hosts shows by its heartbeats.
func TestHeartbeatsOfAnotherKeepAFlowFromBeginning(t *testing.T) {
	t.Parallel()
	p, m := newMirroredPair(t, 10)
	if _, err := p.targetAdm.CreateTopic(t.Context(), 1, 1, nil, offsets.HeartbeatsTopic); err != nil {
		t.Fatal(err)
	}
	beating, end := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(beating)
		for {
			select {
			case <-end:
				return
			case <-time.After(50 * time.Millisecond):
				h := offsets.Heartbeat{Source: "a", Target: "b", At: time.Now()}
				m.targetCl.Produce(t.Context(), &kgo.Record{Topic: offsets.HeartbeatsTopic, Key: h.AppendKey(nil), Value: h.AppendValue(nil)}, nil)
			}
		}
	}()
	r := p.start(func(f *config.Flow) {
		takeOver(f)
		f.HeartbeatsInterval = 100 * time.Millisecond
	})
	r.until("it waits and says why", func(s replicator.Status) bool {
		return len(s.NotReady) > 0 && strings.Contains(strings.Join(s.NotReady, " "), "heartbeats of a -> b arrive on cluster b")
	})
	close(end)
	<-beating
	p.settled(r, "orders")
}
