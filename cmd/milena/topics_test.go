package main

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
)

// A topic has the worst state of its partitions, and a note that says who or why.
func TestStatesOfTopics(t *testing.T) {
	t.Parallel()
	ok := replicator.PartitionStatus{State: "replicating", Begun: true, LagRecords: ptr(int64(0)), LagSeconds: ptr(0.0)}
	busy := replicator.PartitionStatus{State: "replicating", Begun: true, LagRecords: ptr(int64(9)), LagSeconds: ptr(1.0)}
	behind := replicator.PartitionStatus{State: "replicating", Begun: true, LagRecords: ptr(int64(900)), LagSeconds: ptr(60.0)}
	paused := replicator.PartitionStatus{State: "paused", Begun: true, LagRecords: ptr(int64(900)), Paused: &replicator.DecisionStatus{Who: "alice@host"}}
	waiting := replicator.PartitionStatus{State: "waiting", Wait: &replicator.WaitState{Reason: replicator.WaitTargetUnreachable}}
	halted := replicator.PartitionStatus{State: "halted", Begun: true, Anomaly: &replicator.AnomalyState{Kind: "truncated"}}
	other := replicator.PartitionStatus{State: "halted", Begun: true, Anomaly: &replicator.AnomalyState{Kind: "retention_gap"}}
	unseen := replicator.PartitionStatus{State: "replicating", Begun: true}
	for _, test := range []struct {
		name        string
		partitions  []replicator.PartitionStatus
		throttled   string // a scope
		state, note string
	}{
		{"in step", []replicator.PartitionStatus{ok, ok}, "", "in_step", ""},
		{"copying", []replicator.PartitionStatus{ok, busy, ok}, "", "copying", ""},
		{"catching up", []replicator.PartitionStatus{busy, behind}, "", "catching_up", ""},
		{"throttled", []replicator.PartitionStatus{behind, ok}, "topic orders", "throttled", "bob@host"},
		{"throttled with the flow", []replicator.PartitionStatus{busy}, "the flow", "throttled", "bob@host"},
		{"a throttle of another topic", []replicator.PartitionStatus{behind}, "topic bills", "catching_up", ""},
		{"a throttle that it keeps", []replicator.PartitionStatus{ok}, "topic orders", "in_step", ""},
		{"paused", []replicator.PartitionStatus{behind, paused}, "topic orders", "paused", "alice@host"},
		{"waiting", []replicator.PartitionStatus{waiting, paused}, "", "waiting", "target_unreachable"},
		{"unknown lag", []replicator.PartitionStatus{ok, unseen}, "", "waiting", "lag unknown"},
		{"halted", []replicator.PartitionStatus{waiting, halted, halted}, "", "halted", "truncated"},
		{"halted twice", []replicator.PartitionStatus{halted, other, halted}, "", "halted", "truncated and others"},
	} {
		for i := range test.partitions {
			test.partitions[i].Topic = "orders"
		}
		o := newOverview(replicator.Status{
			Partitions: test.partitions,
			Control:    replicator.ControlStatus{InForce: []replicator.DecisionStatus{{What: control.Throttle, Scope: test.throttled, Who: "bob@host"}}},
		})
		if got := o.Topics[0]; got.State != test.state || got.Note != test.note {
			t.Errorf("%s: %s (%s)", test.name, got.State, got.Note)
		}
	}
}

// The journal tells the same states, and which topics nobody copies.
func TestStatesOfTopicsByTheJournal(t *testing.T) {
	t.Parallel()
	pause := control.New(control.Pause, control.OfTopic("paused"), "alice@host", "ticket 17")
	throttle := control.New(control.Throttle, control.OfTopic("slow"), "bob@host", "ticket 18")
	report := func() *fleet.Report {
		return &fleet.Report{
			Mode: fleet.ModeGroup, Shards: 2, ShardsWithoutOwner: []int32{1}, InForce: []*control.Decision{&pause, &throttle},
			Partitions: []fleet.Partition{
				{Topic: "copied", Listed: true, LagRecords: ptr(int64(0))},
				{Topic: "halted", Listed: true, LagRecords: ptr(int64(5)), Halted: &fleet.Halt{Kind: "truncated"}},
				{Topic: "leaderless", Listed: true, LagRecords: ptr(int64(5)), TargetNoLeader: true},
				{Topic: "left", Shard: 1, Listed: true, LagRecords: ptr(int64(5))},
				{Topic: "new", Why: "not begun: there is no such topic"},
				{Topic: "paused", Listed: true, LagRecords: ptr(int64(5)), Paused: pause.ID},
				{Topic: "slow", Listed: true, LagRecords: ptr(int64(5))},
				{Topic: "unseen", Listed: true, Why: "no answer"},
			},
		}
	}
	states := func(r *fleet.Report) string {
		var list []string
		for _, topic := range fleetTopics(r) {
			list = append(list, topic.Topic+" "+topic.State+" "+topic.Note)
		}
		return strings.Join(list, "; ")
	}
	want := "copied in_step ; halted halted truncated; leaderless waiting target_no_leader; left stopped no instance owns its shard; new waiting not begun; paused paused alice@host; slow throttled bob@host; unseen waiting lag unknown"
	if got := states(report()); got != want {
		t.Errorf("%s", got)
	}
	stopped := report()
	stopped.Mode = fleet.ModeStopped
	if got := states(stopped); strings.Count(got, "stopped no instance runs") != len(stopped.Partitions)-1 || !strings.Contains(got, "halted halted truncated") {
		t.Errorf("%s", got)
	}
}

// A milena that stops says so: what it still copies drains, and what is halted stays halted.
func TestStatusOfAMilenaThatStops(t *testing.T) {
	a := newAdmin(newRegistry(), config.HTTP{})
	server := httptest.NewServer(a.server.Handler)
	defer server.Close()
	flow := sample()
	flow.Partitions = append(flow.Partitions, replicator.PartitionStatus{Topic: "bills", State: "replicating", Begun: true, LagRecords: ptr(int64(4))})
	a.serveStatuses(func() []replicator.Status { return []replicator.Status{flow} })
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "a -> b, ready\n") || !strings.Contains(stdout, "  copying ") {
		t.Errorf("before:\n%s", stdout)
	}
	a.stopping()
	_, stdout, _ := milena(t, "status", "--url", server.URL)
	for _, want := range []string{"a -> b, stopping\n", "  bills   1           draining ", "  orders  3           halted (truncated) "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q:\n%s", want, stdout)
		}
	}
}

// A long list is cut, and says so.
func TestManyTopics(t *testing.T) {
	t.Parallel()
	var topics []summary.Topic
	for i := range 30 {
		topics = append(topics, summary.Topic{Topic: strings.Repeat("x", i+1), State: summary.InStep, Partitions: 1, LagRecords: ptr(int64(i))})
	}
	topics[2].State = summary.Halted
	var out strings.Builder
	newProgram(&out, &out, noEnv).printTopics(topics, 31, nil)
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3+maxTopicRows+1 || !strings.HasPrefix(lines[2], "  xxx ") || lines[2+maxTopicRows] != "  and 11 more topics; --output json prints all" {
		t.Errorf("%s", &out)
	}
}

func TestRoundedText(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		300 * time.Millisecond: "0s", 1500 * time.Millisecond: "2s", 90 * time.Second: "1m30s", 61*time.Minute + 40*time.Second: "1h2m", 2 * time.Hour: "2h0m", 100 * time.Hour: "4 days",
	} {
		if got := roundedText(d); got != want {
			t.Errorf("%v is %s", d, got)
		}
	}
}
