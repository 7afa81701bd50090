package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// ownConfigs are the configs that are set on a topic itself.
func ownConfigs(t *testing.T, admin *kadm.Client, topic string) map[string]string {
	t.Helper()
	all, err := admin.DescribeTopicConfigs(t.Context(), topic)
	check(t, err)
	one, err := all.On(topic, nil)
	check(t, err)
	own := map[string]string{}
	for _, c := range one.Configs {
		if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
			own[c.Key] = c.MaybeValue()
		}
	}
	return own
}

func alterConfigs(t *testing.T, admin *kadm.Client, topic string, configs ...string) {
	t.Helper()
	var changes []kadm.AlterConfig
	for _, c := range configs {
		name, value, _ := strings.Cut(c, "=")
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	done, err := admin.AlterTopicConfigs(t.Context(), changes, topic)
	check(t, err)
	one, err := done.On(topic, nil)
	check(t, err)
	check(t, one.Err)
}

// saslClient logs in with SASL/PLAIN over TLS.
func saslClient(t *testing.T, c *kafka.Cluster, ca *kafka.Authority, name, password string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.SecureAddrs()...), kgo.DialTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}),
		kgo.SASL(plain.Auth{User: name, Pass: password}.AsMechanism()), kgo.DisableClientMetrics(),
		kgo.DisableIdempotentWrite())...) // idempotent writes would need a right on the cluster
	check(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// consume reads want records of a topic, or returns the error.
func consume(t *testing.T, cl *kgo.Client, topic string, want int) error {
	t.Helper()
	cl.AddConsumeTopics(topic)
	ctx := within(t, 20*time.Second, fmt.Sprintf("%d records of %s", want, topic))
	for got := 0; got < want; {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, e := range fetches.Errors() {
			return e.Err
		}
		got += fetches.NumRecords()
	}
	return nil
}

func produce(t *testing.T, cl *kgo.Client, topic string) error {
	t.Helper()
	return cl.ProduceSync(within(t, 20*time.Second, "the produce response"), &kgo.Record{Topic: topic, Value: []byte("of a user")}).FirstErr()
}

// aclSync is a source whose ACLs and topic configs are copied to a target that has ACLs of its own and refuses one config. The
// user milena has the rights that docs/security.md lists.
type aclSync struct {
	*pair
	m         *milena
	ca        *kafka.Authority
	settings  daemon.Map
	flow      daemon.Map // the only flow of settings
	before    []string   // the target's ACLs before milena starts
	byHand    []string   // ACLs among them that are on copies
	unrelated []string   // ACLs among them that are on nothing that milena writes, or are milena's own
	copies    []string   // ACLs that milena creates, or that it finds in place
}

const (
	aclPassword = "correct horse battery staple"
	aclInterval = 2 * time.Second             // how often ACLs and configs are synced
	aclLatency  = aclInterval + 2*time.Second // how long a change may take; a sync of two clusters on two cores takes time too
)

func TestACLAndConfigSync(t *testing.T) {
	a := startACLSync(t)
	a.createACLs()
	a.configure()
	t.Run("check shows the differences and changes nothing", a.checkChangesNothing)
	a.m = a.startMilena(a.settings)
	a.waitAndVerify(a.m, 30*time.Second, 100, "orders", "stock")
	t.Run("ACLs for readers are created, all others are unchanged", a.readersAreCreated)
	t.Run("a reader of the source reads the copy and cannot write to it", a.rightsAreInForce)
	t.Run("changes of ACLs arrive within the interval", a.aclChanges)
	t.Run("changes of configs arrive within the interval, and a refused one affects no other", a.configChanges)
	a.m.stop()
	t.Run("ACLs are deleted with acls_delete only, and on copies only", a.deletions)
	a.verify(remoteTopic, "orders", "stock")
}

// startACLSync starts both clusters with authorizers, and writes topics. Brokers of the target refuse to set file.delete.delay.ms.
func startACLSync(t *testing.T) *aclSync {
	t.Helper()
	ca, err := kafka.NewAuthority("the authority")
	check(t, err)
	users := map[string]string{}
	for _, name := range []string{"milena", "alice", "bob", "carol", "mallory", "erin"} {
		users[name] = aclPassword
	}
	security := &kafka.Security{CA: ca, Users: users}
	classes := t.TempDir()
	check(t, requireKafka(t).Policies(t.Context(), classes))
	authorized := map[string]string{"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS"}
	strict := maps.Clone(authorized)
	strict["alter.config.policy.class.name"] = kafka.Policy
	a := &aclSync{ca: ca, pair: startPair(t, kafka.Options{Security: security, Properties: authorized}, kafka.Options{Security: security, Properties: strict, Classes: classes})}
	a.createTopic("orders", 1, 1)
	a.createTopic("stock", 1, 1, "file.delete.delay.ms=3000", "retention.ms=7200000")
	a.createTopic("secret", 1, 1)
	for _, topic := range []string{"orders", "stock", "secret"} {
		check(t, a.writer(load.Options{Topic: topic, Partitions: 1}).Write(t.Context(), 50))
	}
	check(t, kafka.CreateTopic(t.Context(), a.targetAdmin, "local", 1, 1))
	return a
}

func (a *aclSync) createACLs() {
	a.t.Helper()
	createACLs(a.t, a.sourceClient,
		"ALLOW READ milena topic *", "ALLOW DESCRIBE_CONFIGS milena topic *", "ALLOW DESCRIBE milena cluster kafka-cluster", "ALLOW DESCRIBE milena group *",
		"ALLOW CREATE milena topic heartbeats", "ALLOW WRITE milena topic heartbeats",
		"ALLOW ALL alice topic orders", "ALLOW READ alice group alice-+",
		"ALLOW READ bob topic sto+", "ALLOW WRITE bob topic sto+", "ALLOW READ bob topic secret",
		"ALLOW READ carol topic *", "DENY READ carol topic orders",
		"ALLOW DELETE dave topic stock", "ALLOW ALTER dave cluster kafka-cluster",
	)
	// What milena needs, as docs/security.md lists it.
	createACLs(a.t, a.targetClient,
		"ALLOW READ milena topic source.+", "ALLOW WRITE milena topic source.+", "ALLOW CREATE milena topic source.+", "ALLOW ALTER milena topic source.+",
		"ALLOW ALTER_CONFIGS milena topic source.+", "ALLOW ALL milena topic milena.source-target.journal", "ALLOW ALL milena topic milena.source-target.control", "ALLOW WRITE milena txn milena.source-target.+",
		"ALLOW CREATE milena topic heartbeats", "ALLOW WRITE milena topic heartbeats", "ALLOW ALL milena topic mm2-offset-syncs.source.internal",
		"ALLOW READ milena group *", "ALLOW ALTER milena cluster kafka-cluster", "ALLOW DESCRIBE milena cluster kafka-cluster")
	// ACLs that milena must never touch.
	createACLs(a.t, a.targetClient,
		"ALLOW READ zoe topic local", "ALLOW ALL zoe topic loc+", "ALLOW READ zoe topic *", "DENY WRITE mallory topic *", "ALLOW READ zoe topic source.secret",
		"ALLOW READ alice group other", "ALLOW ALTER zoe cluster kafka-cluster", "ALLOW WRITE zoe txn source.+", "ALLOW WRITE fixer topic source.orders", "ALLOW READ fixer topic source.orders")
	a.unrelated = describeACLs(a.t, a.targetClient)
	// ACLs on copies that milena must not touch without acls_delete.
	a.byHand = []string{"ALLOW READ zoe topic source.orders", "DENY READ zoe topic source.stock"}
	createACLs(a.t, a.targetClient, a.byHand...)
	a.before = describeACLs(a.t, a.targetClient)
	a.copies = []string{
		"ALLOW READ milena topic source.+", "ALLOW DESCRIBE_CONFIGS milena topic source.+", "ALLOW CREATE milena topic source.heartbeats",
		"ALLOW READ alice topic source.orders", "ALLOW READ bob topic source.sto+", "ALLOW READ carol topic source.+", "DENY READ carol topic source.orders",
	}
}

// configure writes the configuration of a flow that logs in as milena.
func (a *aclSync) configure() {
	a.t.Helper()
	caFile := filepath.Join(a.dir, "ca.pem")
	check(a.t, os.WriteFile(caFile, a.ca.PEM, 0o600))
	a.settings = a.config(".*")
	for side, c := range map[string]*kafka.Cluster{"source": a.source, "target": a.target} {
		a.settings["clusters"].(daemon.Map)[side] = daemon.Map{
			"brokers": c.SecureAddrs(), "tls": daemon.Map{"ca_file": caFile}, "sasl": daemon.Map{"mechanism": "PLAIN", "username": "milena", "password": aclPassword},
		}
	}
	a.flow = a.settings["flows"].([]daemon.Map)[0]
	a.flow["topics_exclude"] = []string{"secret", "__.*"}
	a.flow["acls"], a.flow["acls_interval"], a.flow["configs_interval"] = true, aclInterval.String(), aclInterval.String()
}

// user is a client that logs in to a cluster.
func (a *aclSync) user(t *testing.T, c *kafka.Cluster, name string) *kgo.Client {
	t.Helper()
	return saslClient(t, c, a.ca, name, aclPassword)
}

// waitACLs waits until the target has these ACLs and no others.
func (a *aclSync) waitACLs(t *testing.T, d time.Duration, want []string) {
	t.Helper()
	start := time.Now()
	eventually(t, d, "the target's ACLs are as expected", func() (bool, string) {
		diff := cmp.Diff(want, describeACLs(t, a.targetClient))
		return diff == "", diff
	})
	t.Logf("all %d ACLs of the target are as expected after %.1f s", len(want), time.Since(start).Seconds())
}

// checkPrints runs milena check, which must print these lines and change no ACL, and returns its exit code and output.
func (a *aclSync) checkPrints(t *testing.T, want ...string) (int, string) {
	t.Helper()
	before := describeACLs(t, a.targetClient)
	code, out := a.in(t).runVerb(t, "check", a.settings)
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("check does not print %q:\n%s", w, out)
		}
	}
	if diff := cmp.Diff(before, describeACLs(t, a.targetClient)); diff != "" {
		t.Errorf("check changed the target:\n%s", diff)
	}
	return code, out
}

func (a *aclSync) checkChangesNothing(t *testing.T) {
	code, out := a.checkPrints(t, "file.delete.delay.ms is not yours to set",
		"create ACL: ALLOW READ to User:alice on topic source.orders", "create ACL: ALLOW READ to User:bob on topics with prefix source.sto",
		"create ACL: ALLOW READ to User:carol on topics with prefix source.", "create ACL: DENY READ to User:carol on topic source.orders",
		"topic source.stock is created without file.delete.delay.ms", "1 ACL in sync")
	if code != 0 {
		t.Errorf("exit code %d, although run copies the topic without the config that the target refuses:\n%s", code, out)
	}
	if strings.Contains(out, "DELETE to User:dave") {
		t.Errorf("check copies the right to delete a topic:\n%s", out)
	}
	if strings.Contains(out, "delete ACL") {
		t.Errorf("check deletes ACLs without acls_delete:\n%s", out)
	}
}

func (a *aclSync) readersAreCreated(t *testing.T) {
	a.waitACLs(t, 10*time.Second, withChanges(a.before, nil, a.copies))
	a.m.waitMetric(5*time.Second, 6, "milena_acl_changes_total", `change="created"`, `flow="source-target"`)
	if n := strings.Count(a.m.Output(), "ACL created, as on the source"); n != 6 {
		t.Errorf("%d log lines for 6 changes", n)
	}
}

func (a *aclSync) rightsAreInForce(t *testing.T) {
	onSource := a.user(t, a.source, "alice")
	check(t, consume(t, onSource, "orders", 50))
	check(t, produce(t, onSource, "orders"))
	onTarget := a.user(t, a.target, "alice")
	check(t, consume(t, onTarget, "source.orders", 51))
	for _, forbidden := range []struct {
		what string
		err  error
	}{
		{"alice writes to a copy", produce(t, onTarget, "source.orders")},
		{"alice reads a copy that she has no right to", consume(t, a.user(t, a.target, "alice"), "source.stock", 1)},
		{"carol reads what is denied to her", consume(t, a.user(t, a.target, "carol"), "source.orders", 1)},
		{"mallory reads a copy", consume(t, a.user(t, a.target, "mallory"), "source.orders", 1)},
		{"bob writes to a copy", produce(t, a.user(t, a.target, "bob"), "source.stock")},
		{"carol reads a topic that is not a copy", consume(t, a.user(t, a.target, "carol"), "local", 1)},
	} {
		if !errors.Is(forbidden.err, kerr.TopicAuthorizationFailed) {
			t.Errorf("%s: %v", forbidden.what, forbidden.err)
		}
	}
	check(t, consume(t, a.user(t, a.target, "bob"), "source.stock", 50))
	check(t, consume(t, a.user(t, a.target, "carol"), "source.stock", 50))
}

// aclChanges adds ACLs on the source, which are copied, and deletes some, which are not deleted on the target without acls_delete.
func (a *aclSync) aclChanges(t *testing.T) {
	createACLs(t, a.sourceClient, "ALLOW READ erin topic stock", "DENY ALL mallory topic orders")
	deleteACLs(t, a.sourceClient, "bob")
	a.copies = append(a.copies, "ALLOW READ erin topic source.stock", "DENY ALL mallory topic source.orders")
	a.waitACLs(t, aclLatency, withChanges(a.before, nil, a.copies))
	check(t, consume(t, a.user(t, a.target, "erin"), "source.stock", 50))
	eventually(t, 10*time.Second, "two more syncs", aclSyncs(t, a.m, 2))
	a.waitACLs(t, time.Second, withChanges(a.before, nil, a.copies))
}

func (a *aclSync) configChanges(t *testing.T) {
	alterConfigs(t, a.targetAdmin, "source.orders", "min.insync.replicas=1") // is in configs_exclude
	alterConfigs(t, a.targetAdmin, "local", "retention.ms=77")
	stock := ownConfigs(t, a.targetAdmin, "source.stock")
	if diff := cmp.Diff(map[string]string{"retention.ms": "7200000", anyTime: widest}, stock); diff != "" {
		t.Errorf("the copy was created with other configs than the target allows:\n%s", diff)
	}
	alterConfigs(t, a.sourceAdmin, "orders", "retention.ms=3600000", "min.insync.replicas=2", "file.delete.delay.ms=3000", "segment.bytes=2097152")
	want := map[string]string{"retention.ms": "3600000", "segment.bytes": "2097152", "min.insync.replicas": "1", anyTime: widest}
	eventually(t, aclLatency, "the copy has the configs that the target allows", func() (bool, string) {
		diff := cmp.Diff(want, ownConfigs(t, a.targetAdmin, "source.orders"))
		return diff == "", diff
	})
	if diff := cmp.Diff(stock, ownConfigs(t, a.targetAdmin, "source.stock")); diff != "" {
		t.Errorf("another copy changed:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"retention.ms": "77"}, ownConfigs(t, a.targetAdmin, "local")); diff != "" {
		t.Errorf("a topic that is not a copy changed:\n%s", diff)
	}
	for _, key := range []string{"retention.ms", "segment.bytes"} {
		matchLine(t, a.m.Output(), "topic config set, as on the source.*source.orders.*"+key)
	}
	eventually(t, 10*time.Second, "/status names the config that is refused", func() (bool, string) {
		s, err := a.m.Status(t.Context())
		if err != nil || s[0].Configs == nil {
			return false, fmt.Sprint(err)
		}
		return len(s[0].Configs.Problems) == 2 && strings.Contains(s[0].Configs.Problems[0], "file.delete.delay.ms"), fmt.Sprint(s[0].Configs.Problems)
	})
	a.m.waitMetric(5*time.Second, 2, "milena_topic_config_changes_total")
	if code, out := a.checkPrints(t, "file.delete.delay.ms: 60000 -> 3000"); code != 0 {
		t.Errorf("check: exit code %d, although run copies the topic:\n%s", code, out)
	}
}

func (a *aclSync) deletions(t *testing.T) {
	p := a.in(t)
	a.flow["acls_delete"] = true
	_, out := a.checkPrints(t, "delete ACL: ALLOW READ to User:bob on topics with prefix source.sto",
		"delete ACL: ALLOW READ to User:zoe on topic source.orders", "delete ACL: DENY READ to User:zoe on topic source.stock")
	if n := strings.Count(out, "delete ACL"); n != 3 {
		t.Errorf("check shows %d deletions, want 3:\n%s", n, out)
	}
	m := p.startMilena(a.settings)
	want := withChanges(a.before, slices.Concat(a.byHand, []string{"ALLOW READ bob topic source.sto+"}), a.copies)
	a.waitACLs(t, 10*time.Second, want)
	eventually(t, 10*time.Second, "two more syncs", aclSyncs(t, m, 2))
	a.waitACLs(t, time.Second, want)
	for _, acl := range a.unrelated {
		if !slices.Contains(want, acl) {
			t.Errorf("%s has nothing to do with copies and is deleted", acl)
		}
	}
	m.waitMetric(5*time.Second, 3, "milena_acl_changes_total", `change="deleted"`)
	p.waitCopied(m, 20*time.Second, "orders", "stock") // milena's own rights are still there
	m.stop()
}

// aclSyncs reports whether more than n syncs of ACLs have begun since the first call.
func aclSyncs(t *testing.T, m *milena, n int) func() (bool, string) {
	t.Helper()
	seen := map[time.Time]bool{}
	return func() (bool, string) {
		s, err := m.Status(t.Context())
		if err == nil && s[0].ACLs != nil {
			seen[s[0].ACLs.LastPass] = true
		}
		return len(seen) > n, fmt.Sprintf("%d syncs, %v", len(seen), err)
	}
}

// Clusters without an authorizer have no ACLs to copy. With use_defaults_from: source the copy has the values in force on the source.
func TestNoAuthorizerAndSourceDefaults(t *testing.T) {
	p := startPair(t, kafka.Options{Properties: map[string]string{"log.retention.ms": "123456789", "log.segment.bytes": "5242880"}}, kafka.Options{})
	p.createTopic("plain", 1, 1, "cleanup.policy=compact,delete")
	check(t, p.writer(load.Options{Topic: "plain", Partitions: 1}).Write(t.Context(), 10))
	config := p.config("plain")
	flow := config["flows"].([]daemon.Map)[0]
	flow["acls"], flow["acls_interval"], flow["use_defaults_from"], flow["configs_interval"] = true, "1s", "source", "1s"
	_, out := p.runVerb(t, "check", config)
	matchLine(t, out, "ACLs are not copied: cluster source has no authorizer")
	m := p.startMilena(config)
	p.waitAndVerify(m, 20*time.Second, 10, "plain")
	t.Run("the missing authorizer is logged once", func(t *testing.T) {
		eventually(t, 20*time.Second, "three syncs", aclSyncs(t, m, 3))
		if n := strings.Count(m.Output(), "ACLs are not copied: cluster source has no authorizer"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		s, err := m.Status(t.Context())
		check(t, err)
		if len(s[0].ACLs.Problems) != 1 || !s[0].Ready {
			t.Errorf("status %+v", s[0].ACLs)
		}
	})
	t.Run("the copy has the values in force on the source", func(t *testing.T) { hasSourceDefaults(t, p, m) })
	m.stop()
}

func hasSourceDefaults(t *testing.T, p *pair, m *milena) {
	got := ownConfigs(t, p.targetAdmin, remoteTopic("plain"))
	for key, want := range map[string]string{"retention.ms": "123456789", "segment.bytes": "5242880", "cleanup.policy": "compact,delete", "max.message.bytes": "1048588"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	for _, excluded := range []string{"min.insync.replicas", "compression.type", "unclean.leader.election.enable"} {
		if value, ok := got[excluded]; ok {
			t.Errorf("%s is set to %s", excluded, value)
		}
	}
	t.Logf("%d configs are set on the copy", len(got))
	// milena corrects a value that is changed on the target.
	alterConfigs(t, p.targetAdmin, remoteTopic("plain"), "retention.ms=86400000")
	eventually(t, 10*time.Second, "retention.ms is the source's again", func() (bool, string) {
		now := ownConfigs(t, p.targetAdmin, remoteTopic("plain"))["retention.ms"]
		return now == "123456789", now
	})
	s, err := m.Status(t.Context())
	check(t, err)
	if s[0].Configs == nil || len(s[0].Configs.Problems) > 0 {
		t.Errorf("the target refuses configs: %+v", s[0].Configs)
	}
}
