package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/e2e/kafka"
)

// TestFreeze runs the tests of package replicator/freeze, which tell their stories of a fake cluster, on real brokers: one cluster allows nothing
// without an ACL, the other allows everyone everything on topics without an ACL.
func TestFreeze(t *testing.T) {
	t.Parallel()
	jars := requireKafka(t)
	ca, err := kafka.NewAuthority("the authority")
	check(t, err)
	users := map[string]string{}
	for _, name := range []string{"root", "milena", "alice", "bob", "carol", "erin", "frank"} {
		users[name] = "correct horse battery staple"
	}
	d := dir(t)
	closed := map[string]string{"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS;User:root"}
	open := maps.Clone(closed)
	open["allow.everyone.if.no.acl.found"] = "true"
	security := &kafka.Security{CA: ca, Users: users}
	clusters, err := kafka.StartAll(t.Context(), jars, kafka.Options{Name: "closed", Dir: d, Brokers: 2, Security: security, Properties: closed},
		kafka.Options{Name: "open", Dir: d, Security: security, Properties: open})
	check(t, err)
	caFile := filepath.Join(d, "ca.pem")
	check(t, os.WriteFile(caFile, ca.PEM, 0o600))

	test := exec.CommandContext(t.Context(), "go", "test", "./replicator/freeze", "-count=1", "-v", "-run", "^TestReal")
	test.Dir = ".."
	test.Env = append(os.Environ(), "MILENA_FREEZE_CA="+caFile,
		"MILENA_FREEZE_BROKERS="+strings.Join(clusters[0].SecureAddrs(), ","), "MILENA_FREEZE_OPEN="+strings.Join(clusters[1].SecureAddrs(), ","))
	out, err := test.CombinedOutput()
	t.Log(string(out))
	check(t, err)
	for _, name := range []string{"TestReal", "TestRealOpen"} {
		if !strings.Contains(string(out), fmt.Sprintf("--- PASS: %s (", name)) {
			t.Errorf("%s did not run", name)
		}
	}
}
