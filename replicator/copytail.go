package replicator

import (
	"context"
	"errors"
	"time"

	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// copyTail is the log tail of a copy, and whose batches are in it.
type copyTail struct {
	*logTail
	copy    *partition
	former  *formerCopy // if the tail begins with the copy of a topic that the source has deleted
	own     *match.Tail
	foreign []int64 // target offsets of batches of other producers
	stale   []int64 // and of batches of an earlier owner that appended them after it was replaced
}

// newCopyTail returns a log tail that remembers whose batches it has. The partition's lock is held.
func (r *recovery) newCopyTail(p *partition, t *logTail) *copyTail {
	c := &copyTail{logTail: t, copy: p, former: p.formerLocked()}
	producer := p.progress.firstProducer()
	if c.former != nil {
		t.from, producer = c.former.end, c.former.producer
	}
	c.own = match.NewTail(t.from, producer)
	t.abandoned = func() bool { return !r.recovers(p) }
	if t.until == toMarker {
		t.late = func(ctx context.Context, since time.Time) {
			if r.late.isLost(ctx, t, since) {
				p.cancelRecovery(r)
				r.flow.requestTakeover(r.shard)
			}
		}
	}
	if !r.flow.migrates() { // else what MirrorMaker 2 writes counts as well
		t.disturbs = func(h recordbatch.Header) bool { return r.shard.ownsProducer(h.ProducerID) }
	}
	c.own.SetProducerStates(p.targetLast, r.states[t.partition])
	c.own.Owners = r.shard.owners()
	c.own.Shared = !r.flow.writers.forbidsOthers()
	t.visit = func(h recordbatch.Header, batch []byte) error {
		return r.classify(c, recordbatch.Batch{Header: h, Bytes: batch})
	}
	return c
}

// classify records whether a batch of the log tail is ours or foreign.
func (r *recovery) classify(t *copyTail, b recordbatch.Batch) error {
	empty := b.Magic == 2 && b.Count == 0 // a log cleaner removed its records
	switch {
	case b.Attributes.Control() && r.shard.ownsProducer(b.ProducerID):
		t.own.Marker(b.BaseOffset, b.ProducerID, b.ProducerEpoch)
	case b.Attributes.Control(), empty && t.unknown:
	case t.unknown:
		return r.flow.writers.checkUnknown(b.Bytes)
	case b.Magic == 2 && r.shard.ownsProducer(b.ProducerID):
		own, err := t.own.Add(b)
		if own || err != nil {
			return err
		}
		t.stale = append(t.stale, b.BaseOffset)
	case !empty:
		t.foreign = append(t.foreign, b.BaseOffset)
	}
	t.own.Pass(b.BaseOffset, b.NextOffset())
	return nil
}

// errTargetNotEmpty means that the target partition has records, and the journal does not list the partition.
var errTargetNotEmpty = errors.New("the target partition has records that the journal does not list")

// markerOffset is the target offset of the marker that ends the tail, or where it would be.
func (t *copyTail) markerOffset() int64 {
	if t.until == toQuiet {
		return max(t.end, t.from)
	}
	return max(t.end, t.from+1) - 1
}
