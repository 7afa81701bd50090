package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

func TestAnomalies_Decide(t *testing.T) {
	var zero policy.Anomalies
	for _, kind := range policy.Kinds() {
		if got := zero.Decide("orders", kind); got != policy.Halt {
			t.Errorf("without a choice, %s = %s", kind, got)
		}
	}
	chosen, err := policy.NewAnomalies(config.Flow{Anomalies: map[string]string{"retention_gap": "skip", "recreated": "restart", "shrunk": "halt"}})
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[policy.Kind]policy.Action{
		policy.RetentionGap: policy.Skip, policy.Recreated: policy.Restart, policy.Shrunk: policy.Halt, policy.Truncated: policy.Halt,
	} {
		if got := chosen.Decide("orders", kind); got != want {
			t.Errorf("%s = %s, want %s", kind, got, want)
		}
	}
}

func TestAnomalies_Decide_byTopic(t *testing.T) {
	chosen, err := policy.NewAnomalies(config.Flow{
		Anomalies: map[string]string{"record_refused": "skip"},
		AnomaliesByTopic: []config.TopicAnomalies{
			{Topics: []string{"logs-.*", "clicks"}, Anomalies: map[string]string{"retention_gap": "skip"}},
			{Topics: []string{".*-audit"}, Anomalies: map[string]string{"retention_gap": "halt", "record_refused": "halt"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		topic string
		kind  policy.Kind
		want  policy.Action
	}{
		{"logs-eu", policy.RetentionGap, policy.Skip},
		{"clicks", policy.RetentionGap, policy.Skip},
		{"clicks2", policy.RetentionGap, policy.Halt},       // a pattern matches the whole name
		{"logs-eu", policy.RecordRefused, policy.Skip},      // the flow's
		{"logs-audit", policy.RetentionGap, policy.Skip},    // the first item that matches
		{"logs-audit", policy.RecordRefused, policy.Halt},   // the first one that names the kind
		{"orders-audit", policy.RecordRefused, policy.Halt}, // stricter than the flow
		{"logs-eu", policy.Truncated, policy.Halt},
	} {
		if got := chosen.Decide(test.topic, test.kind); got != test.want {
			t.Errorf("%s of %s: %s, want %s", test.kind, test.topic, got, test.want)
		}
	}
}

func TestNewAnomalies_allowsExactly(t *testing.T) {
	allowed := map[string][]string{
		"recreated": {"halt", "restart", "skip"}, "retention_gap": {"halt", "skip"}, "truncated": {"halt", "skip"}, "foreign_write": {"halt", "skip"},
		"target_recreated": {"halt", "restart"}, "shrunk": {"halt", "skip"}, "record_too_large": {"halt", "skip"}, "record_refused": {"halt", "skip"},
		"target_not_empty": {"halt", "skip"}, "unmatched": {"halt", "skip"}, "tombstones_cleaned": {"halt", "skip"},
	}
	if len(allowed) != len(policy.Kinds()) {
		t.Errorf("%d kinds, want %d", len(policy.Kinds()), len(allowed))
	}
	for kind, actions := range allowed {
		for _, action := range []string{"halt", "skip", "restart", "", "ignore"} {
			_, err := policy.NewAnomalies(config.Flow{Anomalies: map[string]string{kind: action}})
			if want := slices.Contains(actions, action); (err == nil) != want {
				t.Errorf("%s: %q allowed is %v, want %v", kind, action, err == nil, want)
			}
			if err != nil && !strings.Contains(err.Error(), "anomalies."+kind) {
				t.Errorf("error does not name the key: %v", err)
			}
		}
	}
}

// The config package declares the same words, because it cannot import this one.
func TestKinds_matchConfig(t *testing.T) {
	var kinds []string
	for _, kind := range policy.Kinds() {
		kinds = append(kinds, string(kind))
		var actions []string
		for _, action := range kind.Actions() {
			actions = append(actions, string(action))
		}
		if want := config.AnomalyActions(string(kind)); !slices.Equal(actions, want) {
			t.Errorf("%s: actions %v, config says %v", kind, actions, want)
		}
	}
	if want := config.AnomalyKinds(); !slices.Equal(kinds, want) {
		t.Errorf("kinds %v, config says %v", kinds, want)
	}
}

func TestNewAnomalies_namesAllProblems(t *testing.T) {
	_, err := policy.NewAnomalies(config.Flow{
		Anomalies:        map[string]string{"nope": "halt", "shrunk": "restart", "truncated": "skip"},
		AnomaliesByTopic: []config.TopicAnomalies{{Topics: []string{"("}, Anomalies: map[string]string{"recreted": "halt"}}},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"anomalies.nope: unknown kind; the kinds are recreated, ", `anomalies.shrunk: action "restart" is not allowed for this kind; use one of halt, skip`,
		"anomalies_by_topic[0].anomalies.recreted: unknown kind", "anomalies_by_topic[0].topics[0]",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

// A hint proposes commands that name the partition, and no action that the kind does not have.
func TestKind_Hint(t *testing.T) {
	seen := map[string]policy.Kind{}
	at := policy.Place{Topic: "orders", Partition: 3, Target: "primary.orders"}
	for _, kind := range policy.Kinds() {
		hint := kind.Hint(at)
		if !strings.HasSuffix(hint, ".") || seen[hint] != "" {
			t.Errorf("%s: %q is not a unique sentence", kind, hint)
		}
		seen[hint] = kind
		if got := strings.Contains(hint, "`milena skip -c FILE --partition orders-3 --reason TEXT`"); got != slices.Contains(kind.Actions(), policy.Skip) {
			t.Errorf("%s: the hint proposes to skip: %v", kind, got)
		}
		if slices.Contains(kind.Actions(), policy.Restart) && !strings.Contains(hint, "`milena restart-copy orders -c FILE --reason TEXT`") {
			t.Errorf("%s: the hint does not propose restart-copy", kind)
		}
		if strings.Contains(hint, "%!") || strings.Contains(hint, "restart milena") {
			t.Errorf("%s: %s", kind, hint)
		}
	}
}
