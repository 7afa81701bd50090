package main

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
)

// A flow is paused and resumed by commands, from before it runs on. Status, log and exit codes say so.
func TestPauseAndResume(t *testing.T) {
	path := twoClusters(t)
	code, stdout, stderr := milena(t, "pause", "-c", path, "--reason", "not yet", "--until", "2h")
	if code != exitClean || !strings.Contains(stdout, "pause the flow until ") || !strings.Contains(stdout, "it holds from the next start on") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"run", "-c", path}, io.Discard, io.Discard, noEnv) }()
	defer func() {
		cancel()
		<-done
	}()
	within(t, "the instance says that it paused", func() bool {
		_, stdout, _ = milena(t, "log", "-c", path)
		return strings.Contains(stdout, ": paused ")
	})
	within(t, "status -c shows the pause", func() bool {
		_, stdout, _ = milena(t, "status", "-c", path)
		return strings.Contains(stdout, "paused: the flow, by ") && strings.Contains(stdout, ": not yet")
	})
	code, stdout, _ = milena(t, "resume", "-c", path, "--topic", "orders")
	if code != exitClean || !strings.Contains(stdout, "topic orders is not paused\nstill paused: the flow, by ") {
		t.Errorf("exit %d\n%s", code, stdout)
	}
	code, stdout, _ = milena(t, "resume", "-c", path, "--dry-run")
	if code != exitClean || !strings.Contains(stdout, "would resume the flow") {
		t.Errorf("exit %d\n%s", code, stdout)
	}
	code, stdout, _ = milena(t, "resume", "-c", path, "--all", "--json")
	var s control.Submission
	if err := json.Unmarshal([]byte(stdout), &s); err != nil || code != exitClean || len(s.Outcomes) != 1 || s.Outcomes[0].Result != control.Done || s.Decisions[0].Began.IsZero() {
		t.Errorf("exit %d, %v\n%s", code, err, stdout)
	}
	code, stdout, stderr = milena(t, "retry", "-c", path, "--partition", "nothing-7")
	if code != exitFailed || !strings.Contains(stdout, "refused: the flow does not copy partition nothing-7") || !strings.Contains(stderr, "retry: 1 answer of 1 not done") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = milena(t, "log", "-c", path, "--json", "--last", "2", "--kind", "decision")
	var list []fleet.HistoryEntry
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != exitClean || len(list) != 2 || list[1].Decision.What != control.Retry || len(list[0].Outcomes) != 1 {
		t.Errorf("exit %d, %v\n%s", code, err, stdout)
	}
}

func TestControlCommandLines(t *testing.T) {
	path := twoClusters(t)
	for _, test := range []struct {
		line string
		want string
	}{
		{"pause", "needs --reason"},
		{"pause --reason x --until yesterday", "neither a duration"},
		{"pause --reason x --until -2h", "neither a duration"},
		{"pause --reason x --partition orders", "not a partition such as orders-3"},
		{"pause --reason x --topic a/b", "not the name of a topic"},
		{"pause --reason x extra", "unexpected argument"},
		{"log --kind weather", "is none of decision, anomaly, recovery, start, stop, takeover, config"},
		{"log --since yesterday", "neither a duration"},
		{"resume --all --topic orders", "cannot be combined"},
		{"skip --reason x", "needs --partition"},
		{"skip --partition orders-0", "needs --reason"},
		{"skip --partition orders-0 --reason x --to 5 --records 5", "cannot be combined"},
		{"skip --partition orders-0 --reason x --records 0", "at least 1"},
		{"restart-copy --reason x", "needs a TOPIC"},
		{"restart-copy orders", "needs --reason"},
		{"throttle --reason x", "needs --rate"},
		{"throttle --reason x --rate much", "not a number of bytes"},
		{"throttle --reason x --rate 0 --until 1h", "remove --until"},
		{"groups", "needs adopt GROUP"},
		{"groups adopt", "needs adopt GROUP"},
		{"groups adopt billing", "needs --reason"},
	} {
		args := append(strings.Fields(test.line), "-c", path)
		if code, _, stderr := milena(t, args...); code != exitUsage || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit %d: %s", test.line, code, stderr)
		}
	}
	if code, _, stderr := milena(t, "skip", "-c", path, "--partition", "nothing-0", "--reason", "x"); code != exitFailed || !strings.Contains(stderr, "does not copy nothing-0") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// A skip names what halts the partition, so that nothing else is skipped.
func TestHaltOfASkip(t *testing.T) {
	t.Parallel()
	end := int64(40)
	gap := &fleet.Halt{Kind: "retention_gap", From: 20, To: 30}
	for name, test := range map[string]struct {
		at   fleet.Partition
		want *control.Halt
	}{
		"halted":               {fleet.Partition{Halted: gap, SourceEnd: &end}, &control.Halt{Kind: "retention_gap", From: 20, To: 30}},
		"not halted":           {fleet.Partition{SourceEnd: &end}, nil},
		"the source is dark":   {fleet.Partition{Halted: gap}, &control.Halt{Kind: "retention_gap", From: 20, To: 30}},
		"an unknown end":       {fleet.Partition{Halted: &fleet.Halt{Kind: "unmatched", From: 20, To: -1}, SourceEnd: &end}, &control.Halt{Kind: "unmatched", From: 20, To: 20}},
		"an unknown beginning": {fleet.Partition{Halted: &fleet.Halt{Kind: "unmatched", From: -1, To: -1}, SourceEnd: &end}, &control.Halt{Kind: "unmatched", From: -1, To: -1}},
	} {
		if got := haltOf(&test.at); (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestParseUntil(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"": {}, "90m": now.Add(90 * time.Minute), "2026-03-01T14:00:00+01:00": now.Add(time.Hour)} {
		if got, err := parseUntil(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

// The overview shows a pause once, with who and why, and not as partitions that need attention.
func TestOverviewOfAPausedTopic(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.Local)
	lag := int64(7)
	pause := replicator.DecisionStatus{What: control.Pause, Scope: "topic orders", Who: "alice@host", Why: "ticket 17", Since: since, Until: since.Add(time.Hour)}
	status := replicator.Status{
		Ready: true,
		Control: replicator.ControlStatus{
			InForce:     []replicator.DecisionStatus{pause, {What: control.Throttle, Scope: "the flow", Who: "bob@host", Since: since, BytesPerSecond: 5_000_000}},
			Problem:     "the flow does what the control topic says, and cannot answer",
			Ignored:     3,
			LastIgnored: []control.Ignored{{Offset: 9, Why: "the value is not UTF-8"}},
		},
		Partitions: []replicator.PartitionStatus{
			{Topic: "orders", State: "paused", Begun: true, LagRecords: &lag, Paused: &pause},
			{Topic: "orders", Partition: 1, State: "replicating", Begun: true, LagRecords: new(int64)},
		},
	}
	want := []string{
		"paused: topic orders, by alice@host since 2026-03-01 12:00:00 until 2026-03-01 13:00:00: ticket 17",
		"throttled to 5.0 MB/s: the flow, by bob@host since 2026-03-01 12:00:00",
		"the flow does what the control topic says, and cannot answer",
		"3 records of the control topic are not decisions and are ignored; the last one is at offset 9: the value is not UTF-8",
	}
	if texts := summary.ControlTexts(status.Control); !slices.Equal(texts, want) {
		t.Errorf("%q", texts)
	}
	o := newOverview(status)
	if len(o.Topics) != 1 || o.Topics[0].State != "paused" || o.AttentionCount != 0 {
		t.Errorf("%+v, %d need attention", o.Topics, o.AttentionCount)
	}
	if err := healthy([]replicator.Status{o.Status}); err != nil {
		t.Errorf("a paused flow needs attention: %v", err)
	}
}
