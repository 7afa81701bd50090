package page_test

import (
	"fmt"
	"math"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/membership"
)

// story is what a flow goes through while the page looks at it. The status of each moment comes of it.
type story struct {
	name       string
	partitions int
	topics     []string
	// change makes the status differ from that of a healthy flow.
	change func(s *replicator.Status, now time.Time)
}

// stories are the situations that the page must explain to a stranger.
func stories() []story {
	names := []string{"clicks", "orders", "payments", "refunds"}
	return []story{
		{"healthy", 24, names, func(*replicator.Status, time.Time) {}},
		{"halted", 24, names, halt},
		{"source-dark", 24, names, darken},
		{"failed-over", 24, names, failOver},
		{"10000-partitions", 10_000, manyNames(), func(*replicator.Status, time.Time) {}},
	}
}

func storyOf(name string) story {
	for _, s := range stories() {
		if s.name == name {
			return s
		}
	}
	panic("no story " + name)
}

func manyNames() (names []string) {
	for i := range 200 {
		names = append(names, fmt.Sprintf("shop.%s.v%d", []string{"orders", "payments", "clicks", "stock", "prices"}[i%5], i/5+1))
	}
	return names
}

// at is the status of a flow that has copied for so many seconds.
func (s story) at(now time.Time, seconds float64) replicator.Status {
	records := int64(20_000*seconds + 2_000*math.Sin(seconds/7))
	status := replicator.Status{
		Flow: "primary-dr", Source: "primary", Target: "dr", SourceClusterID: "qVx1uZ0nQ2G0nS8fD3wP5A", TargetClusterID: "h2Jb7Yt4RkWm6sLc9eXv1Q", Ready: true,
		Instance: replicator.InstanceStatus{ID: "milena-0", State: "assigned", Held: 64, Shards: 64, Syncs: true, Instances: []membership.Instance{
			{ID: "milena-0", Host: "/10.3.0.17", Version: "v0.9.0", Shards: shards(64)}, {ID: "milena-1", Host: "/10.3.0.18", Version: "v0.9.0", Shards: []int32{}},
		}},
		Shards: map[string]int{"owned": 64}, Records: records, Bytes: records * 104, Fence: "transactions",
		Control: replicator.ControlStatus{Drill: &replicator.DrillStatus{Who: "bea", When: now.Add(-26 * time.Hour).Truncate(time.Hour), Passed: true, RPOSeconds: new(1.4), RTOSeconds: new(38.0)}},
		Groups:  &groups.Status{Groups: 12, Positions: 96, LastPass: now.Add(-2 * time.Second), LagRecords: map[string]int64{"billing": 120, "search": 0}},
	}
	var behind int64
	objective := time.Minute
	for i := range s.partitions {
		topic := s.topics[i*len(s.topics)/s.partitions]
		partition := int32(i - (i*len(s.topics)/s.partitions)*s.partitions/len(s.topics))
		lag, age := int64((i*7+int(seconds))%23), float64((i*3+int(seconds))%5)/10
		end := records/int64(s.partitions) + lag
		status.Partitions = append(status.Partitions, replicator.PartitionStatus{
			Topic: topic, TargetTopic: "primary." + topic, Partition: partition, Shard: int32(i % 64), State: "replicating", Begun: true,
			SourceEnd: new(end), SourceSeen: now, Next: end, Acked: end - lag, Journaled: end - lag, TargetEnd: end - lag,
			LagRecords: new(lag), LagBytes: new(lag * 104), LagSeconds: new(age), LastProgress: now,
		})
		behind += lag
		status.RPO.Add(offsets.Behind{Topic: topic, Partition: partition, Acked: end - lag, SourceEnd: end, Seen: now, Complete: now.Add(-1200 * time.Millisecond)})
	}
	status.LagRecords = &behind
	status.RPO.Settle(&objective, now)
	s.change(&status, now)
	return status
}

func shards(n int32) (list []int32) {
	for i := range n {
		list = append(list, i)
	}
	return list
}

// halt is a source that deleted records before they were copied.
func halt(s *replicator.Status, now time.Time) {
	for i := range 3 {
		p := &s.Partitions[6+i]
		p.State, p.Anomaly = "halted", &replicator.AnomalyState{
			Kind: "truncated", Detail: "the source deleted offsets 812400 to 819900 before they were copied",
			Hint: "decide whether to go on without them: `milena skip -c FILE --partition " + fmt.Sprintf("%s-%d", p.Topic, p.Partition) + " --reason TEXT`",
			From: 812_400, To: 819_900, Since: now.Add(-14 * time.Minute),
		}
		p.LagRecords, p.LagSeconds = new(int64(17_078)), new(840.0)
	}
	*s.LagRecords += 51_234
	s.RPO.MissingRecords, s.RPO.CompleteUpTo, s.RPO.ObjectiveMissed = 51_234, now.Add(-14*time.Minute), true
}

// darkSince is when the source of a dark flow was last seen.
var darkSince = time.Now().Add(-3 * time.Minute).Truncate(time.Second)

// darken is a source that has not answered for a while.
func darken(s *replicator.Status, _ time.Time) {
	seen := darkSince
	s.Records, s.Bytes = 8_400_000, 8_400_000*104
	s.LagRecords, s.LagUnknown = nil, len(s.Partitions)
	for i := range s.Partitions {
		p := &s.Partitions[i]
		p.SourceSeen, p.LagRecords, p.LagBytes, p.LagSeconds, p.LastProgress = seen, nil, nil, nil, seen
	}
	s.RPO.SeenAt, s.RPO.CompleteUpTo, s.RPO.MissingRecords, s.RPO.ObjectiveMissed = seen, seen.Add(-time.Second), 307, true
	s.Ready, s.NotReady = false, []string{"cluster primary has not answered since " + seen.Format(time.TimeOnly)}
}

// failOver is a flow whose clients use the target.
func failOver(s *replicator.Status, now time.Time) {
	since := now.Truncate(time.Hour)
	s.Records, s.Bytes = 8_400_000, 8_400_000*104
	d := replicator.DecisionStatus{ID: "d1", What: control.FailOver, Scope: "flow", Who: "alice", Why: "the data centre of primary is down", Since: since}
	s.Control.InForce = []replicator.DecisionStatus{d}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		p.State, p.Paused, p.LagRecords, p.LagBytes, p.LagSeconds = "paused", &d, nil, nil, nil
	}
	s.LagRecords, s.LagUnknown = nil, len(s.Partitions)
	s.RPO.SeenAt, s.RPO.CompleteUpTo, s.RPO.MissingRecords = since, since, 0
}
