package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator/fleet"
)

// status -c finds the milena that runs by its clusters alone.
func TestFleetStatusFindsARunningMilena(t *testing.T) {
	path := twoClusters(t)
	if code, stdout, _ := milena(t, "status", "-c", path); code != exitFailed || !strings.Contains(stdout, "no instance runs") || !strings.Contains(stdout, "the flow has no journal yet") {
		t.Errorf("before it runs: exit %d\n%s", code, stdout)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"run", "-c", path}, io.Discard, io.Discard, noEnv) }()
	defer func() {
		cancel()
		<-done
	}()
	var code int
	var stdout string
	within(t, "all is well", func() bool {
		code, stdout, _ = milena(t, "status", "-c", path, "--flow", "a-b")
		return code == exitClean && strings.Contains(stdout, "RPO: complete up to") // which the journal has after the progress
	})
	want := regexp.MustCompile(`^flow a-b: a -> b, 1 instance, 4 of 4 shards owned

  INSTANCE +HOST +VERSION +SEEN +SHARDS +PARTITIONS +LAG
  \S+ +\S+ +\S+ +\d s ago +4 +\d+ +\d+ records?

  \d+ partitions in \d topics?, lag \d+ records?, by the journal as of \d s ago
  RPO: complete up to \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, \d s ago; (no seen record|at most \d+ records?) missing

  TOPIC +PARTITIONS +STATE +LAG +BEHIND
(  heartbeats +1 +\w+ +\d+ +-
)?  seed-one +2 +\w+ +\d+ +-

  no partition needs attention

$`)
	if !want.MatchString(stdout) {
		t.Errorf("%s", stdout)
	}
	code, stdout, _ = milena(t, "status", "-c", path, "--json")
	var results []fleetResult
	if err := json.Unmarshal([]byte(stdout), &results); err != nil || code != exitClean || len(results) != 1 || results[0].Report == nil || results[0].Flow != "a-b" {
		t.Fatalf("exit %d, %v: %s", code, err, stdout)
	}
	if r := results[0].Report; r.Mode != fleet.ModeGroup || len(r.Instances) != 1 || len(r.Instances[0].Shards) != 4 || len(r.Partitions) < 2 || r.Partitions[0].LagRecords == nil {
		t.Errorf("%s", stdout)
	}
}

// sampleFleet is a flow of two instances, with partitions in every state and shards that nobody owns.
func sampleFleet() *fleet.Report {
	at := time.Unix(1000, 0)
	return &fleet.Report{
		Flow: "a-b", Source: "a", Target: "b", At: at, JournaledAt: at.Add(-3 * time.Second), Mode: fleet.ModeGroup,
		Shards: 8, ShardsWithoutOwner: []int32{4, 5, 7}, LagRecords: ptr(int64(7)), LagUnknown: 4,
		Instances: []fleet.Instance{
			{ID: "one", Host: "host-1", Version: "v1.2.3", Confirmed: at.Add(-4 * time.Second), Shards: []int32{0, 1, 2}, Partitions: 3, LagRecords: ptr(int64(7))},
			{ID: "two", Host: "host-2", Shards: []int32{3, 6}, Partitions: 3, LagUnknown: 3},
		},
		NotCopied: map[string]string{"long": "has a name that is too long"},
		Partitions: []fleet.Partition{
			{Topic: "clicks", Partition: 0, Instance: "two", Why: "not begun: topic a.clicks does not exist on cluster b"},
			{Topic: "clicks", Partition: 1, Instance: "two", Why: "not begun: topic a.clicks does not exist on cluster b"},
			{Topic: "orders", Partition: 0, Instance: "one", Listed: true, LagRecords: ptr(int64(3))},
			{Topic: "orders", Partition: 1, Listed: true, Why: "its lag is not known: source broker 1 does not answer"},
			{
				Topic: "orders", Partition: 2, Instance: "one", Listed: true, LagRecords: ptr(int64(4)),
				Halted: &fleet.Halt{Kind: "truncated", Detail: "lost 3 records", Hint: "Skip them."},
			},
		},
	}
}

// printed is what status -c prints of a report.
func printed(r *fleet.Report) string {
	var out bytes.Buffer
	newProgram(&out, io.Discard, noEnv).printFleet(fleetResult{Flow: "a-b", Report: r})
	return out.String()
}

func TestFleetStatusShowsWhatNeedsAttention(t *testing.T) {
	want := `flow a-b: a -> b, 2 instances, 5 of 8 shards owned

  INSTANCE  HOST    VERSION  SEEN     SHARDS  PARTITIONS  LAG
  one       host-1  v1.2.3   4 s ago  3*      3           7 records
  two       host-2  -        -        2       3           unknown
  * also syncs topics, configs, ACLs and groups

  5 partitions in 2 topics, lag 7 records and unknown for 4 partitions, by the journal as of 3 s ago
  nobody owns 3 shards (4-5, 7) with 1 partition

  TOPIC   PARTITIONS  STATE                LAG      BEHIND
  orders  3           halted (truncated)   7+       -
  clicks  2           waiting (not begun)  unknown  -

  TOPIC   PARTITION  STATE    REASON
  orders  2          halted   truncated: lost 3 records. Skip them.
  clicks  0-1        waiting  not begun: topic a.clicks does not exist on cluster b
  orders  1          unknown  its lag is not known: source broker 1 does not answer
  long    -          waiting  has a name that is too long

`
	if got := printed(sampleFleet()); got != want {
		t.Errorf("%s", got)
	}

	r := &fleet.Report{Source: "a", Target: "b", Mode: fleet.ModeUnknown, Shards: 8, Problems: []string{"it is not known which instances run: first\nsecond"}}
	if got := printed(r); !strings.Contains(got, "instances not known\n") || !strings.Contains(got, "lag unknown\n") || !strings.Contains(got, "first\n    second\n") || strings.Contains(got, "no partition needs") {
		t.Errorf("%s", got)
	}
	r.Mode, r.Instances = fleet.ModeGroup, []fleet.Instance{{ID: "one"}}
	if got := printed(r); !strings.Contains(got, "1 instance, owners of 8 shards not known\n") || !strings.Contains(got, "  one       -     -        -     -       -           -\n") {
		t.Errorf("%s", got)
	}
	r = sampleFleet()
	r.Partitions = nil
	for n := range int32(2 * (maxShown + 5)) {
		r.Partitions = append(r.Partitions, fleet.Partition{Topic: "orders", Partition: n, Why: fmt.Sprintf("reason %d", n/2)})
	}
	if got := printed(r); strings.Count(got, "\n  orders ") != 1+maxShown || !strings.Contains(got, "and 11 more; --output json prints all\n") { // 5 pairs, and the topic that is not copied
		t.Errorf("%s", got)
	}
}

// The exit code is 0 only if nothing needs attention.
func TestFleetIsHealthy(t *testing.T) {
	good := func() *fleet.Report {
		return &fleet.Report{Mode: fleet.ModeGroup, Shards: 8, ShardsWithoutOwner: []int32{}, Partitions: []fleet.Partition{{Listed: true, LagRecords: ptr(int64(70))}}}
	}
	if !good().IsHealthy() {
		t.Error("nothing needs attention")
	}
	for name, change := range map[string]func(*fleet.Report){
		"no journal":       func(r *fleet.Report) { r.Shards = 0 },
		"unknown owners":   func(r *fleet.Report) { r.ShardsWithoutOwner = nil },
		"no owner":         func(r *fleet.Report) { r.ShardsWithoutOwner = []int32{3} },
		"a problem":        func(r *fleet.Report) { r.Problems = []string{"the source does not answer"} },
		"a refused topic":  func(r *fleet.Report) { r.NotCopied = map[string]string{"long": "has a name that is too long"} },
		"not begun":        func(r *fleet.Report) { r.Partitions[0].Listed = false },
		"halted":           func(r *fleet.Report) { r.Partitions[0].Halted = &fleet.Halt{} },
		"RPO too large":    func(r *fleet.Report) { r.RPO.ObjectiveMissed = true },
		"no leader":        func(r *fleet.Report) { r.Partitions[0].TargetNoLeader = true },
		"lag is not known": func(r *fleet.Report) { r.Partitions[0].LagRecords = nil },
	} {
		r := good()
		change(r)
		if r.IsHealthy() {
			t.Errorf("%s: healthy", name)
		}
	}
}

func TestRanges(t *testing.T) {
	many := make([]int32, 0, maxRanges+1)
	for k := range int32(maxRanges + 1) {
		many = append(many, 2*k)
	}
	for want, numbers := range map[string][]int32{"": nil, "7": {7}, "0-3, 5, 8-9": {0, 1, 2, 3, 5, 8, 9}} {
		if got := ranges(numbers); got != want {
			t.Errorf("%v: %q", numbers, got)
		}
	}
	if got := ranges(many); !strings.HasSuffix(got, ", 38 and more") {
		t.Errorf("%q", got)
	}
}
