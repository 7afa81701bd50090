package replicator

import (
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// sight is what was seen of a partition's source, and up to when its copy is complete: all that the source had at that time is on the target. It
// answers what a failover would lose, also when the source is gone, so it goes by the times of this process and not by the timestamps of records,
// which producers choose. Its methods are called with the partition's lock held, and nothing else assigns its fields.
type sight struct {
	known      bool
	generation uint32 // of the map
	seenEnd    int64  // the end of the source: its high watermark
	seenAt     int64  // when, in milliseconds, as all times here; it may be an earlier process that saw it
	completeAt int64  // 0 if the copy was never complete
	marks      []mark // ends that the copy has not reached, oldest first
}

// mark is an end of the source that was seen at a time.
type mark struct{ end, at int64 }

// maxMarks is how many ends a partition that lags keeps. The copy is then known to be complete up to a time that is at most a third of its lag too early.
const maxMarks = 8

// see records the end of the source, while the copy has everything below acked in a generation of its map.
func (s *sight) see(end, acked int64, generation uint32, now time.Time) {
	if !s.known || s.generation != generation { // another map: what was complete in the one before is copied again
		s.completeAt, s.marks = 0, nil
	}
	at := now.UnixMilli()
	s.known, s.generation, s.seenEnd, s.seenAt = true, generation, end, at
	switch {
	case end == acked:
		s.completeAt, s.marks = at, nil
		return
	case end < acked: // the source has lost what was copied, or a new leader does not know its end yet
		return
	}
	s.reach(acked)
	n := len(s.marks)
	if n > 0 && at-s.marks[n-1].at < (at-s.marks[0].at)/maxMarks {
		return
	}
	if n == maxMarks { // every other one is enough, as the lag is twice what it was
		for i := range maxMarks / 2 {
			s.marks[i] = s.marks[2*i]
		}
		s.marks = s.marks[:maxMarks/2]
	}
	s.marks = append(s.marks, mark{end, at})
}

// lack records that an end of the source was seen and that the copy lacks a number of records below it, whatever was copied before.
func (s *sight) lack(end, acked, records int64, now time.Time) {
	s.forget()
	s.known, s.seenEnd, s.seenAt = true, max(end, acked+records), now.UnixMilli()
}

// forget records that the copy is not complete: what was copied before is of another log, or gone.
func (s *sight) forget() { s.completeAt, s.marks = 0, nil }

// reach records that the copy has everything below acked.
func (s *sight) reach(acked int64) {
	n := 0
	for n < len(s.marks) && s.marks[n].end <= acked {
		s.completeAt = s.marks[n].at
		n++
	}
	s.marks = s.marks[n:]
}

// restore continues with what an earlier process saw. What this one has seen itself is newer.
func (s *sight) restore(h *offsets.Horizon, state *offsets.PartitionState) {
	s.generation = state.Generation
	if h == nil {
		return
	}
	behind, listed := h.Of(state.Topic, state.Partition)
	if behind == nil && listed {
		behind = &offsets.Behind{SourceEnd: state.End.Source, Seen: h.At, Complete: h.At}
	}
	if behind == nil || behind.Seen.IsZero() {
		return
	}
	if !s.known {
		s.known, s.seenEnd, s.seenAt = true, behind.SourceEnd, behind.Seen.UnixMilli()
	}
	if !behind.Complete.IsZero() {
		s.completeAt = max(s.completeAt, behind.Complete.UnixMilli())
	}
}

// behind returns what the partition lacks, with everything below acked on the target.
func (s *sight) behind(p *partition, acked int64) offsets.Behind {
	s.reach(acked)
	b := offsets.Behind{Topic: p.topic.source, Partition: p.number, Acked: acked, SourceEnd: acked}
	if s.known {
		b.SourceEnd, b.Seen = max(acked, s.seenEnd), time.UnixMilli(s.seenAt)
	}
	if s.completeAt > 0 {
		b.Complete = time.UnixMilli(s.completeAt)
	}
	return b
}

// seeLocked records the end of the source of a partition, as it was at a time. The partition's lock is held.
func (p *partition) seeLocked(now time.Time) {
	if p.sourceEnd < 0 || p.origin == originRewound { // whose map is about another log
		return
	}
	end := p.sourceEnd + p.sourceOpen // what is behind an open transaction may be committed already
	if p.state != halted || p.anomaly == nil {
		p.sight.see(end, p.acked, p.record.Generation, now)
		return
	}
	switch p.anomaly.kind {
	case policy.Recreated, policy.TargetRecreated: // nothing of the one log is in the other
		p.sight.lack(end, p.acked, end, now)
	case policy.Truncated:
		p.sight.lack(end, p.acked, max(0, end-p.anomaly.from), now)
	case policy.RetentionGap, policy.ForeignWrite, policy.Shrunk, policy.RecordTooLarge, policy.RecordRefused, policy.TargetNotEmpty, policy.Unmatched,
		policy.TombstonesCleaned, policy.CopyDeleted:
		if end > p.acked { // else it does not follow that the copy is complete
			p.sight.see(end, p.acked, p.record.Generation, now)
		}
	}
}

// behind returns what the copy of the partition lacks. The ok result is false if the source no longer has the partition, so that nothing of it can be
// lost.
func (p *partition) behind() (b offsets.Behind, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b = p.sight.behind(p, p.acked)
	if at, lost := p.shard.flow.sourceControllers.lostSince(p.sourceLeader); lost {
		b = upTo(b, at)
	}
	return b, !p.sourceGone && !p.sourceSeen.IsZero()
}
