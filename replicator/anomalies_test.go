package replicator_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// choose sets what policy does about one kind of anomaly.
func choose(kind, action string) func(*config.Flow) {
	return func(f *config.Flow) { f.Anomalies[kind] = action }
}

// mustHalt waits until a partition is halted for the kind and checks that it is told everywhere.
func (r *running) mustHalt(topic string, partition int32, kind string) *replicator.AnomalyState {
	r.t.Helper()
	a := r.halted(topic, partition)
	if a.Kind != kind {
		r.t.Fatalf("the anomaly is %q (%s), want %q", a.Kind, a.Detail, kind)
	}
	if a.Hint == "" || a.Detail == "" {
		r.t.Errorf("an anomaly without detail or hint: %+v", a)
	}
	if n := r.metric("milena_anomalies_total", "topic", topic, "kind", kind, "action", "halt"); n == 0 {
		r.t.Errorf("milena_anomalies_total does not count %s", kind)
	}
	return a
}

// mustCopy checks that the rest goes on while something is halted.
func (p *pair) mustCopy(r *running, topic string) {
	p.t.Helper()
	p.createTopic(topic, 1)
	p.produce(topic, 1, 5, "still")
	p.settled(r, topic)
	p.verify(topic, "a."+topic, 1)
}

func mustEqual(t *testing.T, what string, want, got []string) {
	t.Helper()
	if !slices.Equal(want, got) {
		t.Fatalf("%s: want %d records %v, got %d records %v", what, len(want), want, len(got), got)
	}
}

func (p *pair) recreate(topic string, partitions int32) {
	p.t.Helper()
	if err := p.source.DeleteTopic(topic); err != nil {
		p.t.Fatal(err)
	}
	p.createTopic(topic, partitions)
	p.sourceCl.PurgeTopicsFromClient(topic) // it remembers the old id
}

func TestRecreatedTopicHalts(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 20, "old")
	r := p.start(nil)
	p.settled(r, "orders")
	old := p.read(p.targetCl, p.target, "a.orders", 1)[0]
	p.recreate("orders", 1)
	p.produce("orders", 1, 20, "new")
	r.mustHalt("orders", 0, "recreated")
	p.mustCopy(r, "bills")
	mustEqual(t, "the copy", old, p.read(p.targetCl, p.target, "a.orders", 1)[0])
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	r = p.start(nil) // a restart forgets nothing of it
	r.mustHalt("orders", 0, "recreated")
	mustEqual(t, "the copy", old, p.read(p.targetCl, p.target, "a.orders", 1)[0])
}

func TestRecreatedTopicIsCopiedBehindTheOldOne(t *testing.T) {
	for name, live := range map[string]bool{"while the flow runs": true, "while the flow is stopped": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, 1)
			p.createTopic("orders", 2)
			p.produce("orders", 2, 20, "old")
			r := p.start(choose("recreated", "restart"))
			p.settled(r, "orders")
			old := p.read(p.sourceCl, p.source, "orders", 2)
			if !live {
				if err := r.stopped(); err != nil {
					t.Fatal(err)
				}
			}
			p.recreate("orders", 2)
			p.produce("orders", 2, 30, "new")
			if !live {
				r = p.start(choose("recreated", "restart"))
			}
			r.until("the new topic is copied", func(s replicator.Status) bool {
				return s.Ready && len(s.Partitions) == 2 && s.Partitions[0].TargetEnd >= 50 && s.Partitions[1].TargetEnd >= 50
			})
			fresh, got := p.read(p.sourceCl, p.source, "orders", 2), p.read(p.targetCl, p.target, "a.orders", 2)
			for part := range int32(2) {
				mustEqual(t, fmt.Sprintf("the copy of partition %d", part), append(old[part], fresh[part]...), got[part])
			}
			if n := r.metric("milena_anomalies_total", "kind", "recreated", "action", "restart"); n == 0 {
				t.Error("the restart is not counted")
			}
			if err := r.stopped(); err != nil {
				t.Fatal(err)
			}
			r = p.start(nil) // the new generation is journalled: nothing to halt on, nothing to copy twice
			p.produce("orders", 2, 5, "later")
			p.settled(r, "orders")
			fresh, got = p.read(p.sourceCl, p.source, "orders", 2), p.read(p.targetCl, p.target, "a.orders", 2)
			for part := range int32(2) {
				mustEqual(t, fmt.Sprintf("the copy of partition %d after a restart", part), append(old[part], fresh[part]...), got[part])
			}
		})
	}
}

// The source deletes records while nobody copies: a gap, halted at first, then skipped as configured.
func TestRetentionGapHaltsAndIsSkipped(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 2)
	p.produce("orders", 2, 20, "copied")
	r := p.start(nil)
	p.settled(r, "orders")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	p.produce("orders", 2, 20, "later")
	source := p.read(p.sourceCl, p.source, "orders", 2)
	if err := p.source.DeleteRecords("orders", 0, 30); err != nil {
		t.Fatal(err)
	}
	r = p.start(nil)
	a := r.mustHalt("orders", 0, "retention_gap")
	if a.From != 20 || a.To != 30 {
		t.Errorf("the gap is said to be %d to %d, it is 20 to 30", a.From, a.To)
	}
	r.until("partition 1 goes on", func(s replicator.Status) bool { return s.Partitions[1].Acked == 40 })
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	r = p.start(choose("retention_gap", "skip"))
	p.settled(r, "orders")
	got := p.read(p.targetCl, p.target, "a.orders", 2)
	mustEqual(t, "partition 0 without its gap", append(source[0][:20:20], source[0][30:]...), got[0])
	mustEqual(t, "partition 1", source[1], got[1])
	if n := r.metric("milena_anomalies_total", "kind", "retention_gap", "action", "skip"); n != 1 {
		t.Errorf("%v skipped gaps are counted", n)
	}
}

func TestTargetTopicThatHoldsRecordsHalts(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 10, "ours")
	if err := p.target.CreateTopic("a.orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	p.foreign("a.orders")
	r := p.start(nil)
	r.mustHalt("orders", 0, "target_not_empty")
	p.mustCopy(r, "bills")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	before := p.read(p.targetCl, p.target, "a.orders", 1)[0]
	r = p.start(choose("target_not_empty", "skip"))
	p.settled(r, "orders")
	mustEqual(t, "the copy behind what was there", append(before, p.read(p.sourceCl, p.source, "orders", 1)[0]...), p.read(p.targetCl, p.target, "a.orders", 1)[0])
}

// Who restarts milena after such a halt has not decided anything: it halts again, and nothing is written behind those records.
func TestTargetTopicThatHoldsRecordsHaltsAgainAfterARestart(t *testing.T) {
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 10, "ours")
	if err := p.target.CreateTopic("a.orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	p.foreign("a.orders")
	before := p.read(p.targetCl, p.target, "a.orders", 1)[0]
	for range 2 {
		r := p.start(nil)
		r.mustHalt("orders", 0, "target_not_empty")
		p.mustCopy(r, fmt.Sprintf("bills-%d", time.Now().UnixNano()))
		if err := r.stopped(); err != nil {
			t.Fatal(err)
		}
	}
	mustEqual(t, "the target topic", before, p.read(p.targetCl, p.target, "a.orders", 1)[0])
}

// foreign writes a record of somebody else into a copy.
func (p *pair) foreign(topic string) {
	p.t.Helper()
	if err := p.targetCl.ProduceSync(p.t.Context(), &kgo.Record{Topic: topic, Value: []byte("foreign")}).FirstErr(); err != nil {
		p.t.Fatal(err)
	}
}

func TestForeignWriteHalts(t *testing.T) {
	for name, live := range map[string]bool{"while the flow runs": true, "while the flow is stopped": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, 1)
			p.createTopic("orders", 1)
			p.produce("orders", 1, 10, "before")
			r := p.start(nil)
			p.settled(r, "orders")
			if !live {
				if err := r.stopped(); err != nil {
					t.Fatal(err)
				}
			}
			p.foreign("a.orders")
			p.produce("orders", 1, 10, "after")
			if !live {
				r = p.start(nil)
			}
			r.mustHalt("orders", 0, "foreign_write")
			p.mustCopy(r, "bills")
			if err := r.stopped(); err != nil {
				t.Fatal(err)
			}
			r = p.start(nil) // a restart forgets nothing of it
			r.mustHalt("orders", 0, "foreign_write")
			if err := r.stopped(); err != nil {
				t.Fatal(err)
			}
			r = p.start(choose("foreign_write", "skip"))
			p.settled(r, "orders")
			got := p.read(p.targetCl, p.target, "a.orders", 1)[0]
			ours := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return bytes.Contains([]byte(s), []byte("foreign")) })
			if len(got) != len(ours)+1 {
				t.Errorf("%d foreign records in the copy, one was written", len(got)-len(ours))
			}
			mustEqual(t, "the copy around the foreign record", p.read(p.sourceCl, p.source, "orders", 1)[0], ours)
		})
	}
}

func TestTargetTopicIsRecreated(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 10, "before")
	r := p.start(nil)
	p.settled(r, "orders")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	if err := p.target.DeleteTopic("a.orders"); err != nil {
		t.Fatal(err)
	}
	r = p.start(nil)
	r.mustHalt("orders", 0, "target_recreated")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	r = p.start(choose("target_recreated", "restart"))
	p.settled(r, "orders")
	p.targetCl.PurgeTopicsFromClient("a.orders")
	p.verify("orders", "a.orders", 1)
}

// A record that is larger than the target takes: its batch is taken apart, the others land, it alone is the anomaly.
func TestRecordLargerThanTheTargetTakes(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	small := "2000"
	if err := p.target.CreateTopic("a.orders", 1, map[string]string{"max.message.bytes": small}); err != nil {
		t.Fatal(err)
	}
	exclude := func(f *config.Flow) { f.ConfigsExclude = []string{"max.message.bytes"} }
	var records []*kgo.Record
	for i := range 30 {
		value := make([]byte, 200)
		if i == 20 {
			value = make([]byte, 5000)
		}
		rand.Read(value) // nothing that compresses
		records = append(records, &kgo.Record{Topic: "orders", Key: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil, "%x", value)})
	}
	if err := p.sourceCl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	source := p.read(p.sourceCl, p.source, "orders", 1)[0]
	r := p.start(exclude)
	if a := r.mustHalt("orders", 0, "record_too_large"); a.From != 20 || a.To != 21 {
		t.Errorf("the record is said to be at %d to %d, it is at 20", a.From, a.To)
	}
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	r = p.start(func(f *config.Flow) { exclude(f); f.Anomalies["record_too_large"] = "skip" })
	p.settled(r, "orders")
	mustEqual(t, "the copy without the large record", append(source[:20:20], source[21:]...), p.read(p.targetCl, p.target, "a.orders", 1)[0])
}

// The limit that was learned shrinks behind our back: the refusal teaches the new one.
func TestLimitOfTheTargetShrinks(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	r := p.start(func(f *config.Flow) { f.ConfigsInterval = time.Hour; f.ConfigsExclude = []string{"max.message.bytes"} })
	p.produce("orders", 1, 10, "before")
	p.settled(r, "orders")
	limit := "1500"
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, "a.orders"
	resource.Configs = append(resource.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: "max.message.bytes", Value: &limit})
	request.Resources = append(request.Resources, resource)
	if _, err := request.RequestWith(t.Context(), p.targetCl); err != nil {
		t.Fatal(err)
	}
	p.produce("orders", 1, 400, "after") // one batch
	p.settled(r, "orders")
	p.verify("orders", "a.orders", 1)
}

// A batch that the target refuses for good is an anomaly; the partition beside it goes on.
func TestRefusedBatchHalts(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 2)
	p.produce("orders", 2, 10, "before")
	p.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a.orders", Partitions: []int32{1}, Err: kerr.InvalidRecord, Count: -1})
	r := p.start(nil)
	r.mustHalt("orders", 1, "record_refused")
	r.until("partition 0 goes on", func(s replicator.Status) bool { return s.Partitions[0].Acked == 10 })
	p.mustCopy(r, "bills")
}
