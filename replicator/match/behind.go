package match

import (
	"encoding/binary"
	"hash/fnv"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// What the numbers of a tail can do behind a source record: pass over the hole that follows.
//
// A number takes one offset of a hole, and any number may, unless the order of a log cleaner forbids it. Kafka's cleaner works in passes. A pass
// knows the latest offset of each key from the first offset that no pass has seen up to some end, and works from the start of the log to there,
// segment by segment: it removes each record of which it knows a later one with the same key. So when a record with a key is gone, all
// earlier ones of that key are gone: it was removed because of a later one, by a pass that had worked on everything before, also if the
// pass ended in the middle, or its map was full. A tombstone that is old enough goes in a pass that has it as the latest of its key, or after
// one that had. So a number whose record has the key of a source record that is still there cannot be in a hole behind that one. That is
// not so
//
//   - at the start of the log, which retention and DeleteRecords delete: but nothing survives before that
//   - for records without a key, which a cleaner removes at once
//   - for records of aborted transactions, but they were not copied, if the source is read with read_committed
//   - if another replica had cleaned the later offsets: a follower that was behind has its own earlier ones, not cleaned yet, and becomes the
//     leader. What a leader has appended itself has its epoch, so records of the leader epoch that the source still has tell enough
//   - if the cleaner works while the source is read: if the source is read twice, and is the same, then that is how it was in between
//   - for brokers that are not Kafka: others clean each segment by itself, later ones first

// readLog is how much was read of a log, and a hash of where its batches are and what they are.
type readLog struct {
	batches int
	hash    uint64
}

func (l readLog) add(b recordbatch.Batch) readLog {
	h := fnv.New64a()
	var data [28]byte
	binary.BigEndian.PutUint64(data[:], l.hash)
	binary.BigEndian.PutUint64(data[8:], uint64(b.BaseOffset)) //nolint:gosec // any distinct bytes will do
	binary.BigEndian.PutUint32(data[16:], b.CRC)
	binary.BigEndian.PutUint32(data[20:], uint32(b.LeaderEpoch)) //nolint:gosec // see above
	binary.BigEndian.PutUint32(data[24:], uint32(b.Length))      //nolint:gosec // see above
	_, _ = h.Write(data[:])
	return readLog{l.batches + 1, h.Sum64()}
}

// survived notes that the source still has a record with a key, 0 for none.
func (r *Reconciler) survived(key uint64, source int64, leaderEpoch int32) {
	if key == 0 || r.Cleaned < 0 || leaderEpoch != r.Cleaned {
		return
	}
	if r.survivors == nil {
		r.survivors = make(map[uint64]int64)
	}
	if _, ok := r.survivors[key]; !ok {
		r.survivors[key] = source
	}
}

// mayBeIn reports whether a number may be in a hole.
func (r *Reconciler) mayBeIn(h hole, at place) bool {
	if !at.present {
		return true
	}
	first, survived := r.survivors[at.key]
	return !survived || first >= h.from
}

// through returns the counts that are possible behind a hole, if c are those in front of it. From fewer no other ones are possible than from
// the largest of a range.
func (r *Reconciler) through(c counts, h hole) counts {
	if h.size == 0 && len(r.tail.loose) == 0 {
		return c
	}
	var behind counts
	for _, one := range c {
		behind = behind.add(one.from, r.most(one.to, h))
	}
	return behind
}

// most returns the largest count behind a hole, if count is the one in front of it. Loose numbers may be none, and take no offset.
func (r *Reconciler) most(count int64, h hole) int64 {
	for left := h.size; count < r.tail.count; {
		loose := r.tail.looseAt(count)
		if loose.from <= count {
			count = loose.to
			continue
		}
		n := min(left, loose.from-count)
		if len(r.survivors) > 0 && n > 0 {
			at := r.tail.at(count)
			if !r.mayBeIn(h, at) {
				break
			}
			n = min(n, max(1, at.until-count))
		}
		if n == 0 {
			break
		}
		count, left = count+n, left-n
	}
	return count
}

// least returns the smallest count in front of a hole, if count is the one behind it.
func (r *Reconciler) least(count int64, h hole) int64 {
	for left := h.size; count > 0; count-- {
		if loose := r.tail.looseAt(count - 1); loose.from < count && count <= loose.to {
			continue
		}
		if left == 0 || len(r.survivors) > 0 && !r.mayBeIn(h, r.tail.at(count-1)) {
			break
		}
		left--
	}
	return count
}
