package main

import (
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
)

// The status shows what was verified in the background, what was not for longest first. A difference needs attention, and is no success.
func TestStatusShowsWhatIsVerified(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, time.March, 1, 14, 0, 0, 0, time.UTC)
	s := replicator.Status{Flow: "a-b", Source: "a", Target: "b", Ready: true, Verify: &replicator.VerifyStatus{BytesPerSecond: 10 << 20}}
	for n := range int32(30) {
		s.Partitions = append(s.Partitions, replicator.PartitionStatus{
			Topic: "orders", Partition: n, State: "replicating", Begun: true, LagRecords: new(int64), Verified: &control.VerifiedStatus{Upto: int64(n) * 100, Checked: at.Add(-time.Duration(n) * time.Minute)},
		})
	}
	shown := func() string {
		var out strings.Builder
		o := newOverview(s)
		(&program{stdout: &out}).printStatus(&o)
		return out.String()
	}
	text := shown()
	for _, want := range []string{"copies are verified in the background with 10.5 MB/s at most", "TOPIC   PARTITION  VERIFIED\n  orders  29         equal up to 2900, checked at 2026-03-01T13:31:00Z\n", "and 10 more", "no partition needs attention"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if err := healthy([]replicator.Status{s}); err != nil {
		t.Error(err)
	}
	v := s.Partitions[7].Verified
	v.Differing, v.Differences, s.Verify.Differing = 2, []string{"1 record from source offset 5, target offset 5 on: value: x"}, 1
	want := "orders  7          replicating  the copy differs from the source (2 of its records), first: 1 record from source offset 5, target offset 5 on: value: x"
	if text := shown(); !strings.Contains(text, want) || strings.Contains(text, "no partition needs attention") {
		t.Errorf("no %q in\n%s", want, text)
	}
	if err := healthy([]replicator.Status{s}); err == nil {
		t.Error("a copy that differs is healthy")
	}
}
