package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/replicator/plan"
)

func TestDoctorFindsNothing(t *testing.T) {
	path := twoClusters(t)
	code, stdout, stderr := milena(t, "doctor", "-c", path)
	if code != exitClean || !strings.Contains(stdout, "flow a-b\n  nothing found\n") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	code, stdout, _ = milena(t, "doctor", "-c", path, "--flow", "a-b", "--output", "json")
	var got []plan.Diagnosis
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitClean || len(got) != 1 || got[0].Flow != "a-b" || got[0].Findings == nil {
		t.Errorf("exit %d, %v in %s", code, err, stdout)
	}
}

func TestDoctorRefusesFlags(t *testing.T) {
	path := twoClusters(t)
	for _, c := range [][2]string{{"--output=xml", "--output=xml must be table, json or yaml"}, {"--flow=none", `unknown flow "none"`}, {"--timeout=0s", "--timeout must be longer than 0s"}} {
		if code, _, stderr := milena(t, "doctor", "-c", path, c[0]); code != exitUsage || !strings.Contains(stderr, c[1]) {
			t.Errorf("%s: exit %d, %s", c[0], code, stderr)
		}
	}
}

// A cluster that is down is a finding, in both formats, and the exit code says so.
func TestDoctorFindsAnError(t *testing.T) {
	path := file(t, `
clusters:
  a: {brokers: ["127.0.0.1:1"]}
  b: {brokers: ["127.0.0.1:2"]}
flows: [{source: a, target: b}]
`)
	code, stdout, stderr := milena(t, "doctor", "-c", path)
	if code != exitFailed || !strings.Contains(stderr, "doctor: 2 errors; the output says how to mend each") || !strings.Contains(stdout, "error cluster-unreachable: cluster a\n") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	code, stdout, _ = milena(t, "doctor", "-c", path, "--output", "json")
	var got []plan.Diagnosis
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitFailed || got[0].Errors() != 2 {
		t.Errorf("exit %d, %v in %s", code, err, stdout)
	}
}

// Of many findings that are alike, the table has some.
func TestDoctorShortensTheTable(t *testing.T) {
	d := &plan.Diagnosis{Flow: "f"}
	for i := range 8 {
		d.Findings = append(d.Findings, plan.Finding{ID: plan.Offline, Severity: plan.SeverityError, Cluster: "dr", Topic: fmt.Sprint("t", i), Meaning: "It is.", Command: "mend"})
	}
	d.Findings = append(d.Findings, plan.Finding{ID: plan.Quota, Severity: plan.SeverityNote, Cluster: "dr", Meaning: "There is.", Mend: "Do."})
	var out strings.Builder
	newProgram(&out, &out, nil).printDiagnoses([]*plan.Diagnosis{d})
	text := out.String()
	if n := strings.Count(text, "error offline: cluster dr, topic t"); n != 5 {
		t.Errorf("%d of 8 findings", n)
	}
	for _, want := range []string{"  and 3 more offline on cluster dr; --output json prints all\n", "  note quota: cluster dr\n    There is.\n    Do.\n", "    It is.\n      mend\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if err := judged([]*plan.Diagnosis{d}); err == nil || !strings.Contains(err.Error(), "8 errors") {
		t.Error(err)
	}
}
