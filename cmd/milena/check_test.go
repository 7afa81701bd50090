package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/config"
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

// A password or token that crosses the network in plain text, and names that are not verified, are warned of once, however many flows use the
// cluster.
func TestCheckWarnsOfWhatIsNotSecure(t *testing.T) {
	plain := config.Cluster{SASL: &config.SASL{Mechanism: config.MechanismPlain}}
	bearer := func(endpoint string) *config.SASL {
		return &config.SASL{Mechanism: config.MechanismOAuthBearer, OAuth: &config.OAuth{TokenEndpoint: endpoint}}
	}
	for name, test := range map[string]struct {
		cluster config.Cluster
		warning string
	}{
		"PLAIN":                        {plain, "cluster a has SASL PLAIN without TLS"},
		"PLAIN over TLS":               {config.Cluster{SASL: plain.SASL, TLS: &config.TLS{}}, ""},
		"SCRAM":                        {config.Cluster{SASL: &config.SASL{Mechanism: config.MechanismScramSHA256}}, ""},
		"any name":                     {config.Cluster{TLS: &config.TLS{Verify: config.VerifyChain, CAFile: "ca.pem"}}, "anybody with a certificate of its CA"},
		"any name of a public CA":      {config.Cluster{TLS: &config.TLS{Verify: config.VerifyChain}}, "anybody with a certificate of a public CA"},
		"OAUTHBEARER":                  {config.Cluster{SASL: bearer("https://login")}, "cluster a has SASL OAUTHBEARER without TLS"},
		"OAUTHBEARER over TLS":         {config.Cluster{SASL: bearer("https://login"), TLS: &config.TLS{}}, ""},
		"OAUTHBEARER with http tokens": {config.Cluster{SASL: bearer("http://login"), TLS: &config.TLS{}}, "the token endpoint of cluster a is not https"},
		"no login":                     {config.Cluster{}, ""},
	} {
		c := &config.Config{
			Clusters: map[string]config.Cluster{"a": test.cluster, "b": {}, "unused": plain},
			Flows:    []config.Flow{{Source: "a", Target: "b"}, {Source: "b", Target: "a"}},
		}
		got := insecure(c)
		if (len(got) == 1) != (test.warning != "") || len(got) == 1 && !strings.Contains(got[0], test.warning) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
