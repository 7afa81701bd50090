package recovery_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/recovery"
)

// The three forms of a report say the same. The page needs no other file, and what a group is called breaks neither it nor a table.
func TestDrillReport(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	age, took := 2.5, 4.25
	r := &recovery.Report{
		ID: "1", Verb: recovery.Drill, Flow: "a-b", Source: "a", Target: "b", Who: "alice", Began: began, Ended: began.Add(9 * time.Second), State: control.RecoveryDone,
		Checks: []recovery.Row{{Name: "lag", Result: recovery.OK, Detail: "0 records"}},
		Steps: []recovery.Step{
			{Name: recovery.StepRPO, Result: recovery.OK, Began: began, Ended: began.Add(4 * time.Second)},
			{Name: recovery.StepTranslate, Result: recovery.OK, Began: began, Ended: began.Add(1250 * time.Millisecond), Detail: "1 group"},
		},
		Drilled: &recovery.Drilled{
			RPO: []recovery.Sample{{At: began, AgeSeconds: &age, MissingRecords: 7}, {At: began}}, RPOSeconds: &age, RTOSeconds: &took, RTOObjectiveSeconds: 300,
			Findings:  []recovery.Finding{{Kind: recovery.FindingCommitted, Group: "<b>|x", Detail: "is at 8"}},
			Notes:     []string{},
			Groups:    []recovery.DrilledGroup{{Group: "<b>|x", Positions: 3, Checked: 2, Same: 1, End: 1, Committed: 1}},
			Positions: 3, Checked: 2,
		},
	}
	page, err := r.DrillHTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"failed: 1 finding", "&lt;b&gt;|x", "2.5 s", "4.2 s", "300 s", "1.250 s", "<svg", `width="131.25"`, "not known"} {
		if !strings.Contains(string(page), text) {
			t.Errorf("the page lacks %q:\n%s", text, page)
		}
	}
	if found := regexp.MustCompile(`<script|<link|<img|<b>|src=|href=`).FindString(string(page)); found != "" {
		t.Errorf("the page has %s", found)
	}
	text := string(r.DrillMarkdown())
	for _, row := range []string{"| RTO | 4.2 s | 300 s |", `| &lt;b>\|x | 3 | 2 | 1 | 1 | 0 | 0 | 1 |`, "| translate | 1.250 s | yes | 1 group |", "| rpo | 4.000 s |  |", "- committed: group &lt;b>"} {
		if !strings.Contains(text, row) {
			t.Errorf("the text lacks %q:\n%s", row, text)
		}
	}
	fields, err := json.Marshal(r)
	var again recovery.Report
	if err == nil {
		err = json.Unmarshal(fields, &again)
	}
	if err != nil || again.Drilled.Groups[0] != r.Drilled.Groups[0] || *again.Drilled.RTOSeconds != took {
		t.Errorf("%v: %s", err, fields)
	}
}
