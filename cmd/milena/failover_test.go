package main

import (
	"strings"
	"testing"
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
