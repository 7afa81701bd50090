package match

import (
	"testing"

	"github.com/milena-kafka/milena/offsets"
)

// FuzzMatcher checks invariants for any two logs: segments ascend on both sides, the records of a segment have equal hashes on both sides,
// and every target record is counted once.
func FuzzMatcher(f *testing.F) {
	f.Add([]byte("abcabcabc"), []byte("abcabcabcabc"), uint8(3), true, false)
	f.Add([]byte("abcdef"), []byte("abdeabcdef"), uint8(0), false, false)
	f.Add([]byte("aaaaaaaa"), []byte("aaaa..aaaa"), uint8(1), false, true)
	f.Fuzz(func(t *testing.T, source, target []byte, sync uint8, timestamps, loose bool) {
		var points []offsets.Pair
		for at := int(sync); sync > 0 && at < min(len(source), len(target)); at += int(sync) {
			points = append(points, offsets.Pair{Source: int64(at), Target: int64(at)})
		}
		m := New(points, timestamps)
		m.loose = loose
		added, records := 0, int64(0)
		for at, hash := range target {
			if hash == '.' {
				m.Skip(int64(at), int64(at)+1)
				continue
			}
			records++
			for m.Match(int64(at), uint64(hash)) == NeedMore {
				if added == len(source) {
					m.Ended = true
					continue
				}
				m.Add(SourceRecord{Offset: int64(added), Hash: uint64(source[added])})
				added++
			}
		}
		matched, next := int64(0), offsets.Pair{}
		for _, s := range m.Result().Segments {
			if s.Source < next.Source || s.Target < next.Target {
				t.Fatalf("segment %+v is not after %+v", s, next)
			}
			for i := range s.Count {
				if source[s.Source+i] != target[s.Target+i] {
					t.Fatalf("source %d does not match target %d", s.Source+i, s.Target+i)
				}
			}
			matched += s.Count
			next = offsets.Pair{Source: s.SourceEnd(), Target: s.TargetEnd()}
		}
		if r := m.Result(); matched+r.Duplicates+r.Unmatched != records {
			t.Fatalf("%d matched, %d duplicates, %d unmatched of %d records", matched, r.Duplicates, r.Unmatched, records)
		}
		if matched > 0 && m.Next() != next.Source {
			t.Fatalf("next is %d, the segments end at %d", m.Next(), next.Source)
		}
	})
}
