package offsets

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Horizon says how much of the source a shard had copied when it was written: what a failover would lose. It needs no source, so it can be read when
// the source is gone. There is one in each journal partition, and it is rewritten every few seconds.
type Horizon struct {
	// At is a time up to which every partition of the shard that is not in Behind was copied: all records that the source had then are on the
	// target. It is zero if all partitions are in Behind.
	At time.Time
	// Behind are the other partitions, by topic and number, at most [MaxBehind].
	Behind []Behind
	// More sums up those that Behind has no room for; nil if there are none.
	More *MoreBehind
}

// Behind is a partition that lacks records, or whose source has not been seen lately. Offsets are exclusive ends.
type Behind struct {
	Topic     string
	Partition int32
	Acked     int64     // everything below is on the target
	SourceEnd int64     // the high watermark of the source when it was last seen, at least Acked
	Seen      time.Time // when that was
	Complete  time.Time // everything that the source had then is on the target; zero if that was never so
}

// MoreBehind sums up partitions.
type MoreBehind struct {
	Partitions int
	Records    int64     // that the target lacks
	Seen       time.Time // the earliest
	Complete   time.Time // the earliest, zero if one of them is
}

// MaxBehind is how many partitions a [Horizon] lists at most. Those that lack most are listed.
const MaxBehind = 8192

// A horizon lists no more partitions than fit into a record of the journal, whose batches have 512 KiB.
const (
	maxHorizonBytes = 400 << 10
	behindBytes     = 50 // more than a partition takes besides its topic
)

// Missing returns how many offsets of the source the target lacks, as far as the source was seen.
func (b *Behind) Missing() int64 { return b.SourceEnd - b.Acked }

// NewHorizon returns the horizon of a shard. It sorts the partitions that are behind, and may shorten the slice.
func NewHorizon(at time.Time, behind []Behind) *Horizon {
	h := &Horizon{At: at, Behind: behind}
	if countFitting(behind) < len(behind) {
		slices.SortFunc(behind, func(a, b Behind) int { return cmp.Compare(b.Missing(), a.Missing()) })
		n := countFitting(behind)
		h.Behind, h.More = behind[:n:n], sumBehind(behind[n:])
	}
	slices.SortFunc(h.Behind, compareBehind)
	return h
}

// countFitting returns how many of the first partitions fit into a horizon.
func countFitting(behind []Behind) int {
	bytes := 0
	for i, b := range behind {
		if bytes += behindBytes + len(b.Topic); i == MaxBehind || bytes > maxHorizonBytes {
			return i
		}
	}
	return len(behind)
}

func sumBehind(all []Behind) *MoreBehind {
	m := &MoreBehind{Partitions: len(all), Seen: all[0].Seen, Complete: all[0].Complete}
	for _, b := range all {
		m.Records += b.Missing()
		if b.Seen.Before(m.Seen) {
			m.Seen = b.Seen
		}
		if b.Complete.Before(m.Complete) {
			m.Complete = b.Complete
		}
	}
	return m
}

func compareBehind(a, b Behind) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return int(a.Partition - b.Partition)
}

// Of returns the partition if it is behind. If it is not, and the horizon lists all that are, it was complete at At. The listed result is false if
// the horizon does not say either.
func (h *Horizon) Of(topic string, partition int32) (b *Behind, listed bool) {
	i, found := slices.BinarySearchFunc(h.Behind, Behind{Topic: topic, Partition: partition}, compareBehind)
	if found {
		return &h.Behind[i], true
	}
	return nil, h.More == nil && !h.At.IsZero()
}

func (*Horizon) entry() {}

// AppendKey implements [Entry].
func (*Horizon) AppendKey(b []byte) []byte { return append(b, byte(KindHorizon)) }

// AppendValue implements [Entry].
func (h *Horizon) AppendValue(b []byte) []byte {
	b = appendTime(appendFormat(b, 1), h.At)
	b = appendUvarint(b, uint64(len(h.Behind)))
	for _, p := range h.Behind {
		b = appendPartition(b, p.Topic, p.Partition)
		b = appendUvarint(b, uint64(p.Acked))
		b = appendUvarint(b, uint64(p.Missing()))
		b = appendTime(appendTime(b, p.Seen), p.Complete)
	}
	if h.More == nil {
		return appendUvarint(b, 0)
	}
	b = appendUvarint(b, uint64(h.More.Partitions))
	b = appendUvarint(b, uint64(h.More.Records))
	return appendTime(appendTime(b, h.More.Seen), h.More.Complete)
}

func (r *decoder) horizon() *Horizon {
	h := &Horizon{At: r.time()}
	if n := r.count(23, MaxBehind); n > 0 { // the shortest: an empty topic, the partition, two uvarints, two times
		h.Behind = make([]Behind, n)
	}
	for i := range h.Behind {
		b := &h.Behind[i]
		b.Topic, b.Partition = r.name(), r.int32()
		b.Acked = r.offset()
		b.SourceEnd = b.Acked + r.offset()
		b.Seen, b.Complete = r.time(), r.time()
		switch {
		case b.Partition < 0:
			r.fail("partition %d", b.Partition)
		case b.SourceEnd < b.Acked:
			r.fail("the source end of partition %d overflows", b.Partition)
		case i > 0 && compareBehind(h.Behind[i-1], *b) >= 0:
			r.fail("the partitions are not in order")
		}
	}
	if n := r.offset(); n > 0 {
		h.More = &MoreBehind{Partitions: int(n), Records: r.offset(), Seen: r.time(), Complete: r.time()}
	}
	return h
}
