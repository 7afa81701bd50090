package replicator

import (
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/control"
)

func skipOf(topic string, partition int32) *control.Decision {
	d := control.New(control.Skip, control.OfPartition(offsets.TopicPartition{Topic: topic, Partition: partition}), "alice", "a test")
	d.Halt = &control.Halt{Kind: string(policy.RetentionGap), From: 10, To: 20}
	return &d
}

// A permit lasts as long as this process acts on the decision. It does not come back with the shard, and is there once, however often a repair is tried.
func TestPermitEndsWithTheShard(t *testing.T) {
	f := testFlow(t)
	f.lease = newLease(time.Second, newClock(bootTime(), time.Now).now)
	f.controls = newControls(nil, config.Flow{})
	p := replicatingPartition(f, 10)
	d := skipOf("orders", 0)
	for range 3 {
		f.controls.permit(p.source(), permit{policy.RetentionGap, policy.Skip, 10})
	}
	if n := len(f.controls.permits[p.source()]); n != 1 {
		t.Errorf("%d permits of one decision", n)
	}
	f.controls.work[d.ID] = &work{Decision: d, began: time.Now(), planned: true, repairs: []*repair{{tp: p.source(), replaced: true, since: time.Now()}}}
	if action := f.decide(p, policy.RetentionGap, 10); action != policy.Skip {
		t.Errorf("while it is repaired: %s", action)
	}
	f.held.take([]int32{0})
	f.act(t.Context())
	if action := f.decide(p, policy.RetentionGap, 10); action != policy.Halt || len(f.controls.work) > 0 {
		t.Errorf("once another instance has the shard: %s, %d decisions", action, len(f.controls.work))
	}
}

// A partition that this process is only about to have is not one that the flow does not copy.
func TestRepairAwaitsAPartitionOfANewShard(t *testing.T) {
	f := testFlow(t)
	f.controls = newControls(nil, config.Flow{})
	w := &work{Decision: skipOf("orders", 0), began: time.Now()}
	if result, text := f.workOnRepairs(t.Context(), w); result != "" {
		t.Errorf("before the shard is taken over: %s: %s", result, text)
	}
	f.held.get(0).ownership.own()
	f.held.get(0).markInJournal(w.Scope.TopicPartition())
	if result, text := f.workOnRepairs(t.Context(), w); result != "" {
		t.Errorf("before the topic sync: %s: %s", result, text)
	}
	unknown := &work{Decision: skipOf("bills", 7), began: time.Now()}
	if result, _ := f.workOnRepairs(t.Context(), unknown); result != control.Refused {
		t.Errorf("what the flow does not copy: %q", result)
	}
}

// An outcome that others would ignore as nonsense answers nothing, and the decision would be acted on again.
func TestOutcomesAreOneLine(t *testing.T) {
	if text := clipped("two\nlines\u00a0and " + strings.Repeat("x", 1000)); !strings.HasPrefix(text, "two lines and x") || len([]rune(text)) != 250 {
		t.Errorf("%q", text)
	}
}

// A way back is stopped from the beginning, also before its control topic exists or can be read.
func TestWayBackIsStoppedBeforeAnythingIsRead(t *testing.T) {
	back := config.DefaultFlow("b", "a")
	back.ReverseOf = "a-b"
	c := newControls(nil, back)
	if d := c.stopped(); d == nil || d.ID != control.Standby {
		t.Errorf("%+v", d)
	}
	c = newControls(nil, config.DefaultFlow("a", "b"))
	if d := c.stopped(); d != nil {
		t.Errorf("%+v", d)
	}
}
