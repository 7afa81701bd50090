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
	f.GroupsBack = []string{"app.*", "connect-.*"}
	if groups, err = policy.NewGroups(f); err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]bool{"app-1": true, "my-app": false, "connect-sink": false, "batch": false} {
		if got := groups.Back(group); got != want {
			t.Errorf("%q is moved back: %v, want %v", group, got, want)
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
		{"empty without a committed offset", policy.TargetGroup{Protocol: "consumer", State: "Empty", Committed: -1}, 7, true, ""},
		{"memberless", policy.TargetGroup{State: "Empty", Committed: 3}, 7, true, ""},
		{"dead", policy.TargetGroup{Protocol: "consumer", State: "Dead", Committed: 3}, 7, true, ""},
		{"in sync", policy.TargetGroup{Protocol: "consumer", State: "Empty", Committed: 7}, 7, false, ""},
		{"active and in sync", policy.TargetGroup{Protocol: "consumer", State: "Stable", Committed: 7}, 7, false, ""},
		{"active behind", policy.TargetGroup{Protocol: "consumer", State: "Stable", Committed: 3}, 7, false, policy.RefusedActive},
		{"active ahead", policy.TargetGroup{Protocol: "consumer", State: "PreparingRebalance", Committed: 9}, 7, false, policy.RefusedActive},
		{"KIP-848 active", policy.TargetGroup{Protocol: "consumer", State: "Reconciling", Committed: -1}, 7, false, policy.RefusedActive},
		{"ahead", policy.TargetGroup{Protocol: "consumer", State: "Empty", Committed: 9}, 7, false, policy.RefusedAhead},
		{"a Connect cluster's", policy.TargetGroup{Protocol: "connect", State: "Empty", Committed: -1}, 7, false, policy.RefusedKind},
		{"a share group", policy.TargetGroup{Protocol: "share", State: "Empty", Committed: -1}, 7, false, policy.RefusedKind},
	} {
		t.Run(c.name, func(t *testing.T) {
			commit, refusal := c.group.Commit(c.translated)
			if commit != c.commit || refusal != c.refusal {
				t.Errorf("commit %v, refusal %q; want %v, %q", commit, refusal, c.commit, c.refusal)
			}
		})
	}
}

func TestTargetGroup_Follow(t *testing.T) {
	for _, c := range []struct {
		name       string
		group      policy.TargetGroup
		translated int64
		commit     bool
		refusal    policy.Refusal
	}{
		{"unknown on the target", policy.TargetGroup{Committed: -1}, 0, true, ""},
		{"empty without a committed offset", policy.TargetGroup{Protocol: "consumer", State: "Empty", Committed: -1}, 7, true, ""},
		{"put, forward", policy.TargetGroup{State: "Empty", Committed: 3, Put: true}, 7, true, ""},
		{"put, backward", policy.TargetGroup{State: "Empty", Committed: 9, Put: true}, 7, true, ""},
		{"put, in sync", policy.TargetGroup{State: "Empty", Committed: 7, Put: true}, 7, false, ""},
		{"own, behind", policy.TargetGroup{State: "Empty", Committed: 3}, 7, false, policy.RefusedOwn},
		{"own, ahead", policy.TargetGroup{State: "Empty", Committed: 9}, 7, false, policy.RefusedOwn},
		{"own, at the same offset", policy.TargetGroup{State: "Empty", Committed: 7}, 7, false, policy.RefusedOwn},
		{"own, at 0", policy.TargetGroup{State: "Empty", Committed: 0}, 7, false, policy.RefusedOwn},
		{"put, but active", policy.TargetGroup{Protocol: "consumer", State: "Stable", Committed: 3, Put: true}, 7, false, policy.RefusedActive},
		{"active without a committed offset", policy.TargetGroup{Protocol: "consumer", State: "Stable", Committed: -1}, 7, false, policy.RefusedActive},
		{"active and in sync", policy.TargetGroup{Protocol: "consumer", State: "Stable", Committed: 7}, 7, false, ""},
		{"a Connect cluster's", policy.TargetGroup{Protocol: "connect", State: "Empty", Committed: -1}, 7, false, policy.RefusedKind},
	} {
		t.Run(c.name, func(t *testing.T) {
			commit, refusal := c.group.Follow(c.translated)
			if commit != c.commit || refusal != c.refusal {
				t.Errorf("commit %v, refusal %q; want %v, %q", commit, refusal, c.commit, c.refusal)
			}
		})
	}
}
