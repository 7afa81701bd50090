package main

import (
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
)

// Where groups are put is read before a cluster is asked, and what is no place is named with its flag.
func TestFailoverPlaces(t *testing.T) {
	path := file(t, "clusters: {a: {brokers: [\"127.0.0.1:1\"]}, b: {brokers: [\"127.0.0.1:2\"]}}\nflows: [{source: a, target: b}]\n")
	for want, args := range map[string][]string{
		`--from-time "yesterday" is none of`:                     {"--from-time", "yesterday"},
		`--group-positions: group audit: "earliest" is none of`:  {"--group-positions", "audit=earliest"},
		`--group-positions: group audit: "earliest" is none of `: {"--from-time", "now-15m", "--group-positions", "audit=earliest"},
	} {
		code, _, stderr := milena(t, append([]string{"failover", "-c", path}, args...)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
	if code, _, stderr := milena(t, "failover", "-c", path, "--from-time", "now-15m", "--timeout", "10s"); code != exitFailed || !strings.Contains(stderr, "cluster b") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// What became of a recovery is said as it is: that a drill was carried out does not mean that it was passed, and what was broken off says how it ends.
func TestRecoveryText(t *testing.T) {
	for want, r := range map[string]control.RecoveryStatus{
		"done":                   {What: "failover", State: control.RecoveryDone},
		"passed":                 {What: "drill", State: control.RecoveryDone, Drilled: &control.Drilled{Passed: true}},
		"not passed, 4 findings": {What: "drill", State: control.RecoveryDone, Drilled: &control.Drilled{Findings: 4}},
		"running, at step drain": {What: "switchover", State: control.RecoveryRuns, Step: "drain", Held: true},
		"broken off at step drain, while it was running; milena switchover resumes it, or milena failover takes its place if the source is gone": {
			What: "switchover", State: control.RecoveryRuns, Step: "drain",
		},
		"broken off at step loss, while it was running; milena failover resumes it": {What: "failover", State: control.RecoveryRuns, Step: "loss"},
	} {
		if got := summary.RecoveryText(&r); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

// The status says whose producers are stopped and what ends that, and how the last drill came out.
func TestStatusOfRecoveries(t *testing.T) {
	at, rpo, rto := time.Date(2026, 11, 29, 5, 0, 0, 0, time.UTC), 2.5, 12.04
	for want, c := range map[string]replicator.ControlStatus{
		"producers may not write to cluster primary, by a switchover with --freeze quota since " + summary.LocalTime(at) + "; milena switchover --flow primary-dr --thaw lets them": {
			Frozen: []control.Frozen{{Cluster: "primary", How: "quota", Flow: "primary-dr", Since: at}},
		},
		"--freeze acl; milena switchover --flow dr-primary --thaw": {Frozen: []control.Frozen{{Cluster: "dr", How: "acl", Flow: "dr-primary"}}},
		"last drill: " + summary.LocalTime(at) + " by alice: passed, RPO 2.5 s, RTO 12.0 s": {
			Drill: &control.DrillStatus{Who: "alice", When: at, Passed: true, RPOSeconds: &rpo, RTOSeconds: &rto, LastPassed: at},
		},
		"by alice: not passed, 1 finding; the last that was passed: " + summary.LocalTime(at): {Drill: &control.DrillStatus{Who: "alice", When: at.Add(time.Hour), Findings: 1, LastPassed: at}},
		"by alice: not carried out; none was passed yet":                                      {Drill: &control.DrillStatus{Who: "alice", When: at}},
	} {
		if got := summary.ControlTexts(c); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
