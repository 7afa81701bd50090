package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/replicator/diverged"
	"github.com/milena-kafka/milena/replicator/recovery"
)

// What contradicts itself is refused before a cluster is asked.
func TestFailbackFlags(t *testing.T) {
	path := file(t, "clusters: {a: {brokers: [\"127.0.0.1:1\"]}, b: {brokers: [\"127.0.0.1:2\"]}}\nflows: [{source: a, target: b}]\n")
	for want, args := range map[string][]string{
		`--diverged "drop" must be refuse, keep or export`:                  {"--diverged", "drop"},
		"--diverged export needs --export-to FILE, --export-topics or both": {"--diverged", "export"},
		"--export-to and --export-topics need --diverged export":            {"--diverged", "keep", "--export-to", "x"},
		"--export-to and --export-topics need --diverged export ":           {"--export-topics"},
		`--freeze "hard" must be acl, quota or none`:                        {"--freeze", "hard"},
	} {
		code, _, stderr := milena(t, append([]string{"failback", "-c", path}, args...)...)
		if code != exitUsage || !strings.Contains(stderr, strings.TrimSpace(want)) {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
}

// A flow that runs has nothing to bring back, and the command says what moves clients instead.
func TestFailbackOfAFlowThatRuns(t *testing.T) {
	code, stdout, stderr := milena(t, "failback", "-c", twoClusters(t), "--dry-run")
	if code != exitFailed || !strings.Contains(stdout, "it has not failed over") || !strings.Contains(stderr, "nothing was begun") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

// Of many partitions, those with the most records are printed.
func TestDivergedPartitionsArePrinted(t *testing.T) {
	d := &recovery.Diverged{}
	for n := range int32(25) {
		records := int64(n)
		d.Partitions = append(d.Partitions, diverged.Partition{Topic: "orders", Partition: n, From: 10, To: 10 + records, Records: &records, Bytes: 7})
	}
	d.Partitions[3].Records, d.Partitions[3].Problem = nil, "a broker does not answer"
	var out bytes.Buffer
	newProgram(&out, &out, noEnv).printDiverged(d)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 22 || lines[21] != "and 5 more" || !strings.Contains(lines[1], "a broker does not answer") || !strings.HasPrefix(lines[2], "orders-24 ") {
		t.Errorf("%d lines\n%s", len(lines), out.String())
	}
	if want := fmt.Sprint(24); !strings.Contains(lines[2], want) || !strings.Contains(lines[2], "10 to 33") {
		t.Errorf("%s", lines[2])
	}
}
