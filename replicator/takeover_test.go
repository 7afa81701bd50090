package replicator_test

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator"
)

func TestSecondInstanceTakesOver(t *testing.T) {
	t.Parallel()
	p := newPair(t, 2)
	p.createTopic("orders", 6)
	stop := p.load("orders", 6)
	first := p.start(nil)
	first.until("the first instance owns everything", func(s replicator.Status) bool { return s.Ready })
	first.progress(100)
	second := p.start(nil)
	var fenced *replicator.FencedError
	if err := first.ended(); !errors.As(err, &fenced) {
		t.Fatalf("the first instance ended with %v, not with a FencedError", err)
	}
	if fenced.Flow != "a-b" {
		t.Errorf("the error names flow %q", fenced.Flow)
	}
	second.progress(100)
	stop()
	p.settled(second, "orders")
	if err := second.stopped(); err != nil {
		t.Fatal(err)
	}
	p.verify("orders", "a.orders", 6)
}

func TestStopAndStartUnderLoad(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 4)
	stop := p.load("orders", 4)
	for range 4 {
		r := p.start(nil)
		r.progress(100)
		if err := r.stopped(); err != nil {
			t.Fatalf("a clean stop returned %v", err)
		}
	}
	r := p.start(nil)
	stop()
	p.settled(r, "orders")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	p.verify("orders", "a.orders", 4)
}

// The answers stay away until the shutdown timeout: what became of the batches in flight is for the next start to find out.
func TestStopWithBatchesThatAreNeverAnswered(t *testing.T) {
	for name, how := range map[string]spoil{"written": neverAnswer, "lost": loseRequest} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, 1)
			p.shutdown = 100 * time.Millisecond
			p.createTopic("orders", 2)
			stop := p.load("orders", 2)
			r := p.start(nil)
			r.progress(50)
			id := p.target.TopicInfo("a.orders").TopicID
			await(t, "a produce request goes in", p.targetTrap.set(kmsg.Produce, id[:], how, 1))
			if err := r.stopped(); err != nil {
				t.Logf("the stop returned %v", err)
			}
			r = p.start(nil)
			r.progress(50)
			stop()
			p.settled(r, "orders")
			if err := r.stopped(); err != nil {
				t.Fatal(err)
			}
			p.verify("orders", "a.orders", 2)
		})
	}
}

// Nothing of a journal that was written is needed twice: the same flow, started again and again with nothing to do, changes nothing.
func TestIdleRestartsWriteNoRecord(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 3)
	p.produce("orders", 3, 20, "only")
	for range 3 {
		r := p.start(nil)
		p.settled(r, "orders")
		r.until("the flow is ready", func(s replicator.Status) bool { return s.Ready })
		if err := r.stopped(); err != nil {
			t.Fatal(err)
		}
	}
	p.verify("orders", "a.orders", 3)
}
