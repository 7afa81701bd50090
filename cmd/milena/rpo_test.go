package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
)

// The status says what a failover would lose, whether that is more than the objective, and of which topics.
func TestStatusSaysWhatAFailoverWouldLose(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) time.Time { return now.Add(-ago) }
	lacking := func(topic string, partition int32, missing int64, ago time.Duration) offsets.Behind {
		return offsets.Behind{Topic: topic, Partition: partition, SourceEnd: missing, Seen: now, Complete: at(ago)}
	}
	busy := []offsets.Behind{lacking("orders", 0, 800, 2*time.Second), lacking("orders", 1, 81, 3*time.Second)}
	worse := append([]offsets.Behind{
		lacking("clicks", 0, 1, time.Minute), lacking("bills", 0, 2, time.Minute), lacking("bills", 1, 2, 90*time.Second), lacking("idle", 0, 0, time.Second),
		lacking("users", 0, 3, time.Hour), lacking("young", 0, 9, now.Sub(time.Time{})),
	}, busy...)
	worse[5].Complete = time.Time{}
	for name, test := range map[string]struct {
		behind    []offsets.Behind
		more      *offsets.MoreBehind
		unknown   int
		objective time.Duration
		want      string
	}{
		"nothing is copied": {objective: time.Minute, want: ""},
		"no objective":      {behind: busy, want: "complete up to 2026-11-28 11:59:57, 3 s ago; at most 881 records missing"},
		"met":               {behind: busy, objective: 30 * time.Second, want: "complete up to 2026-11-28 11:59:57, 3 s ago (objective 30 s); at most 881 records missing"},
		"missed": {behind: busy, objective: 2500 * time.Millisecond, want: `complete up to 2026-11-28 11:59:57, 3 s ago (objective 2.5 s: MISSED); at most 881 records missing
orders: 881 records of 2 partitions missing, complete up to 2026-11-28 11:59:57, 3 s ago`},
		"not known": {behind: busy[:1], unknown: 2, objective: time.Hour, want: "not known for 2 partitions (objective 1h0m0s: MISSED); at most 800 records missing\n" +
			"orders: 800 records of 1 partition missing, complete up to 2026-11-28 11:59:58, 2 s ago"},
		"several topics": {behind: worse, want: `not complete yet; at most 898 records missing
young: 9 records of 1 partition missing, not complete yet
bills: 4 records of 2 partitions missing, complete up to 2026-11-28 11:58:30, 90 s ago
users: 3 records of 1 partition missing, complete up to 2026-11-28 11:00:00, 1h0m0s ago
fewer in 1 topic more; --output json has the rest in rpo`},
		"some are not listed": {
			behind: busy, more: &offsets.MoreBehind{Partitions: 7, Records: 19, Seen: now, Complete: at(20 * time.Second)},
			want: `complete up to 2026-11-28 11:59:40, 20 s ago; at most 900 records missing
the journal has no room to list 7 partitions, which lack 19 records: the figures of topics are lower bounds`,
		},
	} {
		var r offsets.RPO
		for _, b := range test.behind {
			r.Add(b)
		}
		for range test.unknown {
			r.AddUnknown("refused")
		}
		if test.more != nil {
			r.AddMore(test.more)
		}
		var objective *time.Duration
		if test.objective > 0 {
			objective = &test.objective
		}
		r.Settle(objective, now)
		l := newLossOverview(r, 0, now)
		got := strings.Join(append([]string{l.Loss}, l.Losses...), "\n")
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s, -want +got\n%s", name, diff)
		}
	}
}

// An objective that is missed needs attention, and an objective for the duration is shown.
func TestAMissedObjectiveNeedsAttention(t *testing.T) {
	t.Parallel()
	s := replicator.Status{Flow: "a-b", Ready: true, RTOObjectiveSeconds: 300}
	s.RPO.Partitions, s.RPO.ObjectiveSeconds = 1, 30
	if o := newOverview(s); !o.AllIsWell || healthy([]replicator.Status{s}) != nil || o.RTO != "objective 5m0s" {
		t.Errorf("met: %v, %q", o.AllIsWell, o.RTO)
	}
	s.RPO.ObjectiveMissed = true
	if o := newOverview(s); o.AllIsWell || healthy([]replicator.Status{s}) == nil {
		t.Errorf("missed: %q", o.Loss)
	}
}
