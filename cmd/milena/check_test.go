package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/replicator/plan"
)

func TestCheckPrintsThePlan(t *testing.T) {
	path := twoClusters(t)
	code, stdout, stderr := milena(t, "check", "-c", path)
	if code != exitClean && !strings.Contains(stdout, "refused:") {
		t.Errorf("exit %d, stderr %s", code, stderr)
	}
	for _, want := range []string{"source cluster one, target cluster two", "seed-one", "a.seed-one", "create", "1 topic to copy"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	_, stdout, _ = milena(t, "check", "--json", "-c", path)
	var got []checked
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got) != 1 || len(got[0].Plan.Topics) != 1 {
		t.Errorf("%v in %s", err, stdout)
	}
}

func TestCheckFailsIfAFlowCannotRun(t *testing.T) {
	good, bad := checked{Plan: &plan.Plan{}}, checked{Plan: &plan.Plan{Refused: []string{"no"}}}
	if err := verdict([]checked{good}); err != nil {
		t.Error(err)
	}
	if err := verdict([]checked{good, bad, {Error: "unreachable"}}); err == nil || !strings.Contains(err.Error(), "2 of 3 flows") {
		t.Error(err)
	}
}
