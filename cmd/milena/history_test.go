package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/replicator/fleet"
)

// The history of a flow has more than decisions, and outlives the process.
func TestLogOfAFlow(t *testing.T) {
	path := twoClusters(t)
	if code, stdout, stderr := milena(t, "log", "-c", path); code != exitClean || !strings.Contains(stdout, "nothing has happened") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"run", "-c", path}, io.Discard, io.Discard, noEnv) }()
	within(t, "the start is noted", func() bool {
		_, stdout, _ := milena(t, "log", "-c", path)
		return strings.Contains(stdout, " process ")
	})
	cancel()
	<-done
	code, stdout, stderr := milena(t, "log", "-c", path, "--since", "1h")
	if code != exitClean || !strings.Contains(stdout, "; because the group assigned the shards") || !strings.Contains(stdout, "batches in flight") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = milena(t, "log", "-c", path, "--kind", "stop", "--json")
	var list []fleet.HistoryEntry
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != exitClean || len(list) != 1 || list[0].Event == nil || list[0].Event.Count != 1 {
		t.Errorf("exit %d, %v\n%s", code, err, stdout)
	}
}
