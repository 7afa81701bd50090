package match

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// at returns a batch as a broker holds it at an offset. The checksum does not cover offset and leader epoch.
func at(t *testing.T, batch []byte, offset int64, leaderEpoch int32) recordbatch.Batch {
	t.Helper()
	batch = slices.Clone(batch)
	binary.BigEndian.PutUint64(batch, uint64(offset))
	binary.BigEndian.PutUint32(batch[12:], uint32(leaderEpoch))
	h, err := recordbatch.Parse(batch)
	if err != nil {
		t.Fatal(err)
	}
	return recordbatch.Batch{Header: h, Bytes: batch}
}

// sourceOf returns source batches of some records each, from source offset 20 on. An offset between two is that of a marker.
func sourceOf(t *testing.T, codec recordbatch.Codec, sizes ...int) []recordbatch.Batch {
	t.Helper()
	var source []recordbatch.Batch
	offset := int64(20)
	for n, size := range sizes {
		records := make([]recordbatch.Record, size)
		for i := range records {
			records[i] = recordbatch.Record{Timestamp: 1000 + int64(n<<40) - int64(i), Key: fmt.Appendf(nil, "%d", i), Headers: []recordbatch.RecordHeader{{Key: "h"}}}
			if i%2 == 0 {
				records[i].Value = fmt.Appendf(nil, "%d-%d", n, i)
			}
		}
		batch, err := recordbatch.Encode(records, codec)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, at(t, batch, offset, int32(3+n)))
		offset = source[n].NextOffset() + 1
	}
	return source
}

// mergedTail returns the tail of a target to which groups of source batches were copied from offset 100 on: a group of one batch was forwarded,
// one of several was merged.
func mergedTail(t *testing.T, hashes, appendTimes bool, groups ...[]recordbatch.Batch) *Tail { //nolint:revive // not flags
	t.Helper()
	tail := NewTail(100, &offsets.Producer{ID: 7, Epoch: 4, Sequence: 50})
	if hashes {
		tail.Hash()
	}
	end, sequence := int64(100), int32(50)
	for _, group := range groups {
		var parts [][]byte
		for _, b := range group {
			parts = append(parts, b.Bytes)
		}
		sent := slices.Clone(parts[0])
		if len(parts) > 1 {
			var err error
			if sent, err = recordbatch.Merge(parts, 0); err != nil {
				t.Fatal(err)
			}
		}
		recordbatch.Rewrite(sent, 7, 4, sequence)
		if appendTimes {
			sent = stamp(sent, 9000+end)
		}
		b := at(t, sent, end, 12)
		if own, err := tail.Add(b); err != nil || !own {
			t.Fatalf("own %v, error %v", own, err)
		}
		end, sequence = b.NextOffset(), sequence+b.Count
	}
	if err := tail.Close(end, 7, 5, 1); err != nil {
		t.Fatal(err)
	}
	return tail
}

// milena is killed when it has sent merged batches. Where the copy ends is found all the same, record by record.
func TestReconcilerFindsTheEndBehindMergedBatches(t *testing.T) {
	for _, codec := range []recordbatch.Codec{recordbatch.None, recordbatch.Gzip, recordbatch.Snappy, recordbatch.LZ4, recordbatch.Zstd} {
		for _, appendTimes := range []bool{false, true} {
			s := sourceOf(t, codec, 1, 3, 2, 1)
			if appendTimes {
				for i, b := range s {
					s[i] = at(t, stamp(b.Bytes, int64(5000+i)), b.BaseOffset, b.LeaderEpoch)
				}
			}
			segments := []offsets.Segment{{Source: 20, Target: 100, Count: 1}, {Source: 22, Target: 101, Count: 3}, {Source: 26, Target: 104, Count: 2}, {Source: 29, Target: 106, Count: 1}}
			tests := []struct {
				name   string
				groups [][]recordbatch.Batch
				copied int // source batches
				plain  bool
			}{
				{"all in one", [][]recordbatch.Batch{s}, 4, false},
				{"the third was not sent", [][]recordbatch.Batch{s[:2]}, 2, false},
				{"two and two", [][]recordbatch.Batch{s[:2], s[2:]}, 4, false},
				{"one is forwarded before", [][]recordbatch.Batch{s[:1], s[1:3]}, 3, false},
				{"one is forwarded behind", [][]recordbatch.Batch{s[:3], s[3:]}, 4, false},
				{"nothing is merged", [][]recordbatch.Batch{s[:1], s[1:2]}, 2, true},
			}
			for _, test := range tests {
				t.Run(fmt.Sprintf("%s/%s/append times %v", test.name, codec, appendTimes), func(t *testing.T) {
					end, err := reconcileBatches(t, mergedTail(t, false, appendTimes, test.groups...), s)
					if errors.Is(err, ErrHashes) == test.plain {
						t.Fatalf("without the records: %+v, %v", end, err)
					}
					if !test.plain {
						end, err = reconcileBatches(t, mergedTail(t, true, appendTimes, test.groups...), s)
					}
					if err != nil {
						t.Fatal(err)
					}
					last := s[test.copied-1]
					if end.Next != last.NextOffset() || end.LeaderEpoch != last.LeaderEpoch || !slices.Equal(end.Segments, segments[:test.copied]) {
						t.Errorf("end %+v, want %d of epoch %d and %v", end, last.NextOffset(), last.LeaderEpoch, segments[:test.copied])
					}
				})
			}
		}
	}
}

// stamp gives a batch the append time of a broker, in its header only.
func stamp(batch []byte, appended int64) []byte {
	batch = slices.Clone(batch)
	batch[22] |= byte(appendTime)
	binary.BigEndian.PutUint64(batch[35:], uint64(appended))
	reseal(batch)
	return batch
}

// marker returns a commit marker.
func marker(t *testing.T) []byte {
	t.Helper()
	batch, err := recordbatch.Encode([]recordbatch.Record{{Key: []byte{0, 0, 0, 1}, Value: make([]byte, 6)}}, recordbatch.None)
	if err != nil {
		t.Fatal(err)
	}
	batch[22] |= byte(control) | 0x10 // and transactional
	reseal(batch)
	return batch
}

func reconcileBatches(t *testing.T, tail *Tail, source []recordbatch.Batch) (*End, error) {
	t.Helper()
	r := NewReconciler(tail, 20, 3)
	for i, b := range source {
		if i > 0 { // a marker of a transaction is before it
			if err := r.Match(at(t, marker(t), b.BaseOffset-1, b.LeaderEpoch), recordbatch.RouteDrop, recordbatch.ReasonControl); err != nil {
				return nil, err
			}
		}
		if r.End() != nil {
			break
		}
		route, reason, err := recordbatch.Admit(b.Bytes, b.Header, nil, recordbatch.Rules{Wanted: r.Next, TargetLogAppendTime: true})
		if err != nil || route != recordbatch.RouteForward {
			t.Fatalf("route %s, %v", route, err)
		}
		if err := r.Match(b, route, reason); err != nil {
			return nil, err
		}
	}
	if r.End() == nil {
		t.Fatal("the end is not found")
	}
	return r.End(), nil
}

// A process that has sent a merged batch itself knows its runs: those of the source batches, one after the other.
func TestTailGivesTheSegmentsOfAMergedBatch(t *testing.T) {
	s := sourceOf(t, recordbatch.LZ4, 1, 3, 2)
	tail := mergedTail(t, false, false, s)
	segments, unknown := tail.Known([]recordbatch.Run{{Source: 20, Count: 1}, {Source: 22, Count: 3}, {Source: 26, Count: 2}})
	want := []offsets.Segment{{Source: 20, Target: 100, Count: 1}, {Source: 22, Target: 101, Count: 3}, {Source: 26, Target: 104, Count: 2}}
	if !slices.Equal(segments, want) || unknown != 0 || tail.Records() != 6 || tail.Batches() != 1 {
		t.Errorf("segments %v, %d unknown, %d records in %d batches", segments, unknown, tail.Records(), tail.Batches())
	}
}
