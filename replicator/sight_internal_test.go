package replicator

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// sightAt drives a sight: one look at the source a second, with the end and what the target has acknowledged.
type sightAt struct {
	*sight
	began time.Time
}

func (s sightAt) look(second int, end, acked int64) {
	s.see(end, acked, 0, s.began.Add(time.Duration(second)*time.Second))
}

// complete is the second up to which the copy is complete, -1 if it never was.
func (s sightAt) complete(acked int64) int {
	if s.reach(acked); s.completeAt == 0 {
		return -1
	}
	return int((s.completeAt - s.began.UnixMilli()) / 1000)
}

func TestACopyIsCompleteUpToTheTimeWhoseEndItHasReached(t *testing.T) {
	s := sightAt{new(sight), time.Now().Truncate(time.Second)}
	s.look(0, 100, 0)
	s.look(1, 100, 50)
	if at := s.complete(99); at != -1 {
		t.Errorf("the copy was never complete, and counts as complete up to second %d", at)
	}
	if at := s.complete(100); at < 0 || at > 1 {
		t.Errorf("the copy has what the source had in second 0 or 1, and counts as complete up to %d", at)
	}
	s.look(2, 100, 100)
	if at := s.complete(100); at != 2 {
		t.Errorf("nothing is missing in second 2, and it counts as complete up to %d", at)
	}
	s.look(3, 130, 100)
	s.look(4, 160, 100)
	if at := s.complete(129); at != 2 {
		t.Errorf("the copy has 129 of what second 3 had, and counts as complete up to %d", at)
	}
	if at := s.complete(130); at != 3 {
		t.Errorf("the copy has what second 3 had, and counts as complete up to %d", at)
	}
}

// A copy that lags by a steady time is never said to be complete up to a later time than it is, and at most a third of its lag too early.
func TestACopyThatLagsIsCompleteUpToAboutItsLag(t *testing.T) {
	for _, lag := range []int{1, 7, 60, 600, 5000} {
		s := sightAt{new(sight), time.Now().Truncate(time.Second)}
		for now := range 10 * lag {
			acked := int64(max(0, now-lag)) * 10
			s.look(now, int64(now)*10, acked)
			complete := s.complete(acked)
			if complete > max(0, now-lag) {
				t.Fatalf("lag %d s, second %d: complete up to %d", lag, now, complete)
			}
			if now > 3*lag && now-complete > lag+lag/3+2 {
				t.Fatalf("lag %d s, second %d: complete up to %d only", lag, now, complete)
			}
			if len(s.marks) > maxMarks {
				t.Fatalf("%d marks", len(s.marks))
			}
		}
	}
}

// A copy that begins again lacks everything.
func TestAMapThatBeginsAgainIsNotComplete(t *testing.T) {
	s := new(sight)
	s.see(100, 100, 0, time.Now())
	s.see(100, 0, 1, time.Now())
	if s.completeAt != 0 {
		t.Error("it counts as complete")
	}
}

func TestSightIsRestoredFromTheHorizon(t *testing.T) {
	at, earlier := time.UnixMilli(2_000_000), time.UnixMilli(1_000_000)
	h := offsets.NewHorizon(at, []offsets.Behind{
		{Topic: "t", Partition: 2, Acked: 10, SourceEnd: 10, Seen: earlier}, {Topic: "t", Partition: 1, Acked: 10, SourceEnd: 30, Seen: at, Complete: earlier},
	})
	for _, test := range []struct {
		partition     int32
		end, complete int64
	}{{0, 20, 2_000_000}, {1, 30, 1_000_000}, {2, 10, 0}} {
		s := new(sight)
		s.restore(h, &offsets.PartitionState{Topic: "t", Partition: test.partition, End: offsets.Pair{Source: 20}})
		if s.seenEnd != test.end || s.completeAt != test.complete {
			t.Errorf("partition %d: seen up to %d, complete at %d; want %d and %d", test.partition, s.seenEnd, s.completeAt, test.end, test.complete)
		}
		s.see(40, 20, 0, at.Add(time.Minute))
		if s.seenEnd != 40 || s.completeAt != test.complete {
			t.Errorf("partition %d, seen again: up to %d, complete at %d", test.partition, s.seenEnd, s.completeAt)
		}
	}
	s := new(sight)
	s.restore(offsets.NewHorizon(time.Time{}, nil), &offsets.PartitionState{Topic: "t"})
	if s.known {
		t.Error("a horizon that says nothing made something known")
	}
}
