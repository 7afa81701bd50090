package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/topics"
)

func ptr[T any](v T) *T { return &v }

// sample is a flow with partitions in every state.
func sample() replicator.Status {
	return replicator.Status{
		Flow: "a-b", Source: "a", Target: "b", Ready: true, Shards: map[string]int{"owned": 4}, Records: 12, Bytes: 3456, LagRecords: ptr(int64(7)),
		Throttled:    []client.ThrottleStatus{{Side: "target", Cluster: "b", Broker: 1, LastMinute: 41, Text: "throttled by target broker 1: 41.0 s in the last minute"}},
		Certificates: []string{"cluster b: tls.ca_file: ca.pem holds no certificate"},
		Partitions: []replicator.PartitionStatus{
			{Topic: "orders", TargetTopic: "a.orders", State: "replicating", Begun: true, Acked: 5, LagRecords: ptr(int64(3)), LagSeconds: ptr(0.5)},
			{Topic: "orders", TargetTopic: "a.orders", Partition: 1, State: "replicating", Begun: true, LagRecords: ptr(int64(4)), LagSeconds: ptr(90.0)},
			{
				Topic: "orders", TargetTopic: "a.orders", Partition: 2, State: "halted",
				Anomaly: &replicator.AnomalyState{Kind: "truncated", Detail: "lost 3 records", Hint: "Skip them."},
			},
			{
				Topic: "clicks", TargetTopic: "a.clicks", State: "recovering",
				Wait: &replicator.WaitState{Reason: replicator.WaitRecovery, Detail: "finding the last copied record on the target"},
			},
			{
				Topic: "clicks", TargetTopic: "a.clicks", Partition: 1, State: "waiting",
				Wait: &replicator.WaitState{Reason: replicator.WaitTakeover, Detail: "waiting for the takeover of its shard"},
			},
		},
	}
}

func TestStatusShowsWhatNeedsAttention(t *testing.T) {
	a := newAdmin(newRegistry(), config.HTTP{})
	server := httptest.NewServer(a.server.Handler)
	defer server.Close()
	if code, stdout, _ := milena(t, "status", "--url", server.URL); code != exitFailed || stdout != "milena is starting: it has no flows yet\n" {
		t.Errorf("before the flows exist: exit %d\n%s", code, stdout)
	}
	flow := sample()
	a.serveStatuses(func() []replicator.Status { return []replicator.Status{flow} })
	code, stdout, stderr := milena(t, "status", "--url", server.URL)
	want := `flow a-b: a -> b, ready
  5 partitions in 2 topics, lag 7 records; copied since start: 12 records, 3.5 kB
  throttled by target broker 1: 41.0 s in the last minute
  cluster b: tls.ca_file: ca.pem holds no certificate

  TOPIC   PARTITIONS  STATE                          LAG      BEHIND
  orders  3           halted (truncated)             7+       1m30s
  clicks  2           waiting (recovery and others)  unknown  -

  TOPIC   PARTITION  STATE        REASON
  orders  2          halted       truncated: lost 3 records. Skip them.
  orders  1          replicating  1m30s behind the source
  clicks  0          recovering   finding the last copied record on the target
  clicks  1          waiting      waiting for the takeover of its shard

`
	if code != exitFailed || stdout != want || stderr != "milena: status: 1 of 1 flow needs attention; the output says why\n" {
		t.Errorf("exit %d %s\n%s", code, stderr, stdout)
	}
	flow.Unused = []policy.UnusedItem{{List: "topics", Item: "paymnets", Reason: "is no topic"}, {List: "groups", Item: "x-.*", Reason: "matches no group yet", Notice: true}}
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "\n  selects nothing: topics: \"paymnets\" is no topic\n  notice: groups: \"x-.*\" matches no group yet\n") {
		t.Errorf("with items that select nothing:\n%s", stdout)
	}
	flow.Groups = &groups.Status{}
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "\n  consumer groups: not synced yet\n") {
		t.Errorf("before the first group sync:\n%s", stdout)
	}
	flow.Groups = &groups.Status{Groups: 1, Positions: 2, LastPass: time.Unix(1, 0)}
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "\n  1 consumer group with 2 committed offsets\n") {
		t.Errorf("after the first group sync:\n%s", stdout)
	}
	flow.Groups = &groups.Status{LastPass: time.Unix(1, 0), NotFollowed: []groups.NotFollowed{{Group: "queue", Protocol: "share", Text: "group queue is a share group"}}}
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "\n  1 group not followed\n    group queue is a share group\n") {
		t.Errorf("with a share group:\n%s", stdout)
	}
	flow.ACLs = &topics.ACLsStatus{LastPass: time.Unix(1, 0), Problems: []string{"ACLs are not copied: cluster a has no authorizer"}}
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "no authorizer") || strings.Contains(stdout, "0 ACLs") {
		t.Errorf("without an authorizer:\n%s", stdout)
	}
	flow.ACLs = &topics.ACLsStatus{LastPass: time.Unix(1, 0), InStep: 3}
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "\n  3 ACLs in sync; last sync: 0 created") {
		t.Errorf("with ACLs:\n%s", stdout)
	}
	if code, stdout, _ := milena(t, "status", "--url", strings.TrimPrefix(server.URL, "http://")); code != exitFailed || !strings.HasPrefix(stdout, "flow a-b") {
		t.Errorf("host:port as the URL: exit %d\n%s", code, stdout)
	}
	code, stdout, _ = milena(t, "status", "--json", "--url", server.URL+"/")
	var got []replicator.Status
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitFailed || len(got) != 1 || len(got[0].Partitions) != 5 {
		t.Errorf("exit %d, %v: %s", code, err, stdout)
	}
}

// The exit code is for scripts: 0 only if nothing that is wanted is left out.
func TestStatusExitCode(t *testing.T) {
	good := replicator.PartitionStatus{Topic: "orders", State: "replicating", Begun: true, LagRecords: ptr(int64(0))}
	for _, test := range []struct {
		name  string
		flows []replicator.Status
		code  int
	}{
		{"all is well", []replicator.Status{{Flow: "a-b", Ready: true, Partitions: []replicator.PartitionStatus{good}}}, exitClean},
		{"not ready", []replicator.Status{{Flow: "a-b", NotReady: []string{"64 of 64 shards are not owned yet"}}}, exitFailed},
		{"one of two is not ready", []replicator.Status{{Flow: "a-b", Ready: true}, {Flow: "c-b"}}, exitFailed},
		{"halted", []replicator.Status{{Flow: "a-b", Ready: true, Partitions: []replicator.PartitionStatus{good, {State: "halted", Anomaly: &replicator.AnomalyState{}}}}}, exitFailed},
		{"a topic is not copied", []replicator.Status{{Flow: "a-b", Ready: true, NotCopied: map[string]string{"secret": "create topic a.secret: POLICY_VIOLATION"}}}, exitFailed},
		{"an instance cannot join the group", []replicator.Status{{Flow: "a-b", Ready: true, Instance: replicator.InstanceStatus{ID: "i", Problem: "not in group milena.a-b"}}}, exitFailed},
		{"the target refuses a group", []replicator.Status{{Flow: "a-b", Ready: true, Groups: &groups.Status{Refusals: []groups.Refusal{{Group: "g", Reason: "metadata"}}}}}, exitFailed},
		{"a group consumes on the target", []replicator.Status{{Flow: "a-b", Ready: true, Groups: &groups.Status{Refusals: []groups.Refusal{{Group: "g", Reason: "own"}}}}}, exitClean},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAdmin(newRegistry(), config.HTTP{})
			a.serveStatuses(func() []replicator.Status { return test.flows })
			server := httptest.NewServer(a.server.Handler)
			defer server.Close()
			code, stdout, stderr := milena(t, "status", "--url", server.URL)
			if code != test.code {
				t.Errorf("exit %d, want %d\n%s%s", code, test.code, stdout, stderr)
			}
			if code != exitClean && len(test.flows) == 1 && strings.Contains(stdout, "no partition needs attention") {
				t.Errorf("says that all is well:\n%s", stdout)
			}
		})
	}
}

// Names and messages come from outside: what a terminal would act on never reaches it, and a message of several lines stays in its place.
func TestStatusPrintsNoControlCharacters(t *testing.T) {
	const evil = "\x1b]0;owned\a\x1b[2J\u009b31m\u202e"
	flow := replicator.Status{
		Flow: "a-b" + evil, NotReady: []string{"create topic " + evil + ":\nPOLICY_VIOLATION"},
		NotCopied:  map[string]string{evil: "first\nsecond" + evil},
		Partitions: []replicator.PartitionStatus{{Topic: evil, State: "halted", Anomaly: &replicator.AnomalyState{Kind: "truncated", Detail: evil}}},
		Groups: &groups.Status{
			LastPass: time.Unix(1, 0), Groups: 1, Positions: 1, Refused: 1, Refusals: []groups.Refusal{{Group: evil, Text: "group " + evil, Detail: evil}},
			NotFollowed: []groups.NotFollowed{{Group: evil, Text: "group " + evil}},
		},
	}
	a := newAdmin(newRegistry(), config.HTTP{})
	a.serveStatuses(func() []replicator.Status { return []replicator.Status{flow} })
	server := httptest.NewServer(a.server.Handler)
	defer server.Close()
	for _, args := range [][]string{{"status", "--url", server.URL}, {"status", "--json", "--url", server.URL}, {"status", "--url", "http://" + evil}} {
		_, stdout, stderr := milena(t, args...)
		for _, r := range stdout + stderr {
			if isControl(r) {
				t.Errorf("%v prints %U:\n%q", args, r, stdout+stderr)
				break
			}
		}
		if args[1] == "--json" && !json.Valid([]byte(stdout)) {
			t.Errorf("not JSON: %s", stdout)
		}
	}
	_, stdout, _ := milena(t, "status", "--url", server.URL)
	if !strings.Contains(stdout, ":\n    POLICY_VIOLATION\n") {
		t.Errorf("the second line of a reason is not indented:\n%s", stdout)
	}
}

// A process that is paused accepts connections and does not answer.
func TestStatusOfAProcessThatIsPaused(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := getStatus(ctx, &remote{url: "http://" + l.Addr().String(), client: newClient(nil)}); err == nil || !strings.Contains(err.Error(), "the process is paused") {
		t.Errorf("error is %v", err)
	}
}

// Whoever loses patience with clusters that do not answer learns what was waited for.
func TestStatusThatIsInterruptedSaysWhatItWaitedFor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr strings.Builder
	code := run(ctx, []string{"status", "-c", twoClusters(t)}, &stdout, &stderr, func(string) (string, bool) { return "", false })
	if want := "milena: status: interrupted while it waited for the clusters of flow a-b: "; code != exitFailed || !strings.HasPrefix(stderr.String(), want) {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}
