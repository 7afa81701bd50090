package policy_test

import (
	"testing"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

func TestGroups_Selected(t *testing.T) {
	f := config.DefaultFlow("a", "b")
	f.Groups = []string{"app-.*", "batch|stream"}
	groups, err := policy.NewGroups(f)
	if err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]bool{
		"app-1": true, "app-": true, "my-app-1": false, "batch": true, "stream": true, "batches": false, "connect-x": false, "": false,
	} {
		if got := groups.Selected(group); got != want {
			t.Errorf("%q is selected: %v, want %v", group, got, want)
		}
	}
	f.Groups = []string{".*"}
	if groups, err = policy.NewGroups(f); err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]bool{"app": true, "connect-sink": false, "console-consumer-123": false, "__internal": false} {
		if got := groups.Selected(group); got != want {
			t.Errorf("%q is selected: %v, want %v", group, got, want)
		}
	}
	f.GroupsExclude = []string{"("}
	if _, err = policy.NewGroups(f); err == nil {
		t.Error("a pattern that does not compile is accepted")
	}
}

func TestTargetGroup_Commit(t *testing.T) {
	for _, c := range []struct {
		name       string
		group      policy.TargetGroup
		translated int64
		commit     bool
		refusal    policy.Refusal
	}{
		{"unknown on the target", policy.TargetGroup{Committed: -1}, 0, true, ""},
		{"empty without a committed offset", policy.TargetGroup{"consumer", "Empty", -1}, 7, true, ""},
		{"memberless", policy.TargetGroup{"", "Empty", 3}, 7, true, ""},
		{"dead", policy.TargetGroup{"consumer", "Dead", 3}, 7, true, ""},
		{"in sync", policy.TargetGroup{"consumer", "Empty", 7}, 7, false, ""},
		{"active and in sync", policy.TargetGroup{"consumer", "Stable", 7}, 7, false, ""},
		{"active behind", policy.TargetGroup{"consumer", "Stable", 3}, 7, false, policy.RefusedActive},
		{"active ahead", policy.TargetGroup{"consumer", "PreparingRebalance", 9}, 7, false, policy.RefusedActive},
		{"KIP-848 active", policy.TargetGroup{"consumer", "Reconciling", -1}, 7, false, policy.RefusedActive},
		{"ahead", policy.TargetGroup{"consumer", "Empty", 9}, 7, false, policy.RefusedAhead},
		{"a Connect cluster's", policy.TargetGroup{"connect", "Empty", -1}, 7, false, policy.RefusedKind},
		{"a share group", policy.TargetGroup{"share", "Empty", -1}, 7, false, policy.RefusedKind},
	} {
		t.Run(c.name, func(t *testing.T) {
			commit, refusal := c.group.Commit(c.translated)
			if commit != c.commit || refusal != c.refusal {
				t.Errorf("commit %v, refusal %q; want %v, %q", commit, refusal, c.commit, c.refusal)
			}
		})
	}
}
