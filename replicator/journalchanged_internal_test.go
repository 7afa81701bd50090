package replicator

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// written and lost are how a write ends: it succeeds, or its outcome is unknown.
func written(w *journalWriter) {
	answer := kmsg.NewProduceResponseTopicPartition()
	w.settle(&answer)
}

func lost(w *journalWriter) { w.failInDoubt(context.DeadlineExceeded) }

// journaled writes what has changed, and returns how many entries that are.
func journaled(s *shard, ends func(*journalWriter)) (n int) {
	w := newJournalWriter(s, s.takeChanged())
	for w.err == nil && len(w.next()) > 0 {
		n += len(w.sent)
		ends(w)
	}
	w.end()
	return n
}

// A journal pass visits the partitions that have something to journal, and no others. What is not written is visited again.
func TestJournalPassVisitsWhatChanged(t *testing.T) {
	f := testFlow(t)
	p := replicatingPartition(f, 10)
	p.progress.decideStart(10)
	s := p.shard
	if journaled(s, written) == 0 {
		t.Fatal("the start of a partition is not journaled")
	}
	if len(s.changed) > 0 || journaled(s, written) > 0 {
		t.Fatal("a partition without changes is visited")
	}
	change := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if err := p.progress.skipDropped(p.acked+1, -1); err != nil {
			t.Fatal(err)
		}
	}
	change()
	change()
	if len(s.changed) != 1 {
		t.Fatalf("a partition with changes is noted %d times, want once", len(s.changed))
	}
	if journaled(s, lost) == 0 || journaled(s, written) == 0 {
		t.Error("a change is not written again after a write without an answer")
	}
	w := newJournalWriter(s, s.takeChanged())
	change()
	if w.end(); len(s.takeChanged()) != 1 {
		t.Error("a change during a pass is left to nobody")
	}
}

// Whoever begins to copy a topic that was recreated writes its entries. Those of the topic before must not follow.
func TestRetiredPartitionIsNotJournaled(t *testing.T) {
	f := testFlow(t)
	p := replicatingPartition(f, 10)
	p.progress.decideStart(10)
	p.shard.remove(p)
	if n := journaled(p.shard, written); n > 0 || len(p.shard.changed) > 0 {
		t.Errorf("%d entries of a retired partition are written", n)
	}
}

func BenchmarkIdleJournalPass(b *testing.B) {
	f := manyPartitions(b, 100_000)
	for b.Loop() {
		for _, s := range f.held.all() {
			journaled(s, written)
		}
	}
}
