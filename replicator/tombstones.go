package replicator

import (
	"fmt"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// defaultDeleteRetention is Kafka's default of delete.retention.ms, for sources whose configs may not be read.
const defaultDeleteRetention = 24 * time.Hour

// A log cleaner removes the tombstone of a deleted key delete.retention.ms after it has cleaned the key. A reader that pauses for longer may
// miss tombstones, and then keeps the key for ever. What it sees is a hole: offsets that are gone. Most holes are older values of keys, and
// nothing tells them from tombstones. So a hole among the offsets that were written during a pause is an anomaly, if the pause was longer than
// delete.retention.ms.

// notePauseLocked begins the watch for holes if the partition was not fetched for longer than its source keeps tombstones. All that was written
// until now, up to the high watermark, may have been cleaned. The partition's lock is held, here and in the next function.
func (p *partition) notePauseLocked(now time.Time, highWatermark int64) {
	limits := p.topic.getLimits()
	retention := limits.SourceDeleteRetention
	if retention <= 0 {
		retention = defaultDeleteRetention
	}
	if !limits.SourceNotCompacted && !p.fetchedAt.IsZero() && now.Sub(p.fetchedAt) > retention {
		p.cursor.watchHoles(highWatermark)
	}
	p.cursor.noteFetch(now)
}

// checkHoleLocked looks for a hole at the fetch offset, before or in the next batch, while the watch lasts. It reports whether the batch may be
// copied. One anomaly stands for a whole pause.
func (f *Flow) checkHoleLocked(p *partition, h recordbatch.Header) bool {
	if p.next >= p.holesUntil || h.NextOffset() <= p.next {
		return true
	}
	to := h.BaseOffset
	if to <= p.next { // no hole before the batch; the cleaner keeps the offsets of a batch from which it removes records
		if h.Magic < 2 || h.Attributes.Control() || int64(h.Count) == h.NextOffset()-h.BaseOffset {
			return true
		}
		to = h.NextOffset()
	}
	p.cursor.endWatch()
	detail := fmt.Sprintf("source %s was not read for longer than its delete.retention.ms, and offsets in %d to %d are gone: tombstones may have been cleaned before they were copied", p, p.next, to-1)
	return f.raiseLocked(p, policy.TombstonesCleaned, p.next, to, detail) != policy.Halt
}

// fetchedBefore is when a partition that this process continues was last fetched: by this process, or else, as far as the journal tells, by an
// earlier one: the partition's last halt, or else the newest record of the shard or of the flow's owner. A pause that policy has not decided on has no end.
func (f *Flow) fetchedBefore(state *offsets.PartitionState, journaled, own time.Time) time.Time {
	if n := len(state.Gaps); !own.IsZero() && (n == 0 || state.Gaps[n-1].Action != string(policy.Halt) || state.Gaps[n-1].Kind != string(policy.TombstonesCleaned)) {
		return own
	}
	alive := f.readBefore(state, journaled)
	tp := offsets.TopicPartition{Topic: state.Topic, Partition: state.Partition}
	if since := f.controls.pausedSince(tp, alive); !since.IsZero() && since.Before(alive) {
		return since
	}
	return alive
}

// readBefore is fetchedBefore without the pauses that people decided.
func (f *Flow) readBefore(state *offsets.PartitionState, journaled time.Time) time.Time {
	alive := journaled
	if owner := time.UnixMilli(f.predecessorAlive.Load()); owner.After(alive) {
		alive = owner
	}
	if n := len(state.Gaps); n > 0 {
		last := state.Gaps[n-1]
		switch {
		case last.Action != string(policy.Halt) || last.To < state.End.Source:
		case last.Kind == string(policy.TombstonesCleaned):
			return time.UnixMilli(1)
		case last.At.Before(alive):
			return last.At
		}
	}
	return alive
}
