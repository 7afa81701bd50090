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

// kinds are the resources by their first words in the texts of this file.
var kinds = map[string]kmsg.ACLResourceType{
	"topic": kmsg.ACLResourceTypeTopic, "group": kmsg.ACLResourceTypeGroup, "cluster": kmsg.ACLResourceTypeCluster, "txn": kmsg.ACLResourceTypeTransactionalId,
}

// bind creates ACLs such as "ALLOW READ alice topic orders"; a + behind the name is a prefix.
func bind(t *testing.T, admin *kgo.Client, texts ...string) {
	t.Helper()
	request := kmsg.NewPtrCreateACLsRequest()
	for _, text := range texts {
		words := strings.Fields(text)
		operation, err := kmsg.ParseACLOperation(words[1])
		check(t, err)
		c := kmsg.NewCreateACLsRequestCreation()
		name, prefixed := strings.CutSuffix(words[4], "+")
		c.ResourceType, c.ResourceName, c.ResourcePatternType = kinds[words[3]], name, kmsg.ACLResourcePatternTypeLiteral
		if prefixed {
			c.ResourcePatternType = kmsg.ACLResourcePatternTypePrefixed
		}
		c.Principal, c.Host, c.Operation, c.PermissionType = "User:"+words[2], "*", operation, kmsg.ACLPermissionTypeAllow
		if words[0] == "DENY" {
			c.PermissionType = kmsg.ACLPermissionTypeDeny
		}
		request.Creations = append(request.Creations, c)
	}
	answer, err := request.RequestWith(t.Context(), admin)
	check(t, err)
	for i, r := range answer.Results {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			t.Fatalf("%s: %v", texts[i], err)
		}
	}
}

// bindings are all ACLs of a cluster, of whatever kind, in the words of bind.
func bindings(t *testing.T, admin *kgo.Client) []string {
	t.Helper()
	request := kmsg.NewPtrDescribeACLsRequest()
	request.ResourceType, request.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	request.Operation, request.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	answer, err := request.RequestWith(t.Context(), admin)
	check(t, err)
	check(t, kerr.ErrorForCode(answer.ErrorCode))
	var all []string
	for _, r := range answer.Resources {
		kind := strings.ToLower(r.ResourceType.String())
		for word, of := range kinds {
			if of == r.ResourceType {
				kind = word
			}
		}
		name := r.ResourceName
		if r.ResourcePatternType == kmsg.ACLResourcePatternTypePrefixed {
			name += "+"
		}
		for _, b := range r.ACLs {
			all = append(all, fmt.Sprintf("%s %s %s %s %s", b.PermissionType, b.Operation, strings.TrimPrefix(b.Principal, "User:"), kind, name))
		}
	}
	slices.Sort(all)
	return all
}

// unbind deletes all ACLs of a user on topics.
func unbind(t *testing.T, admin *kgo.Client, user string) {
	t.Helper()
	request := kmsg.NewPtrDeleteACLsRequest()
	f := kmsg.NewDeleteACLsRequestFilter()
	f.ResourceType, f.ResourcePatternType, f.Principal = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeAny, kmsg.StringPtr("User:"+user)
	f.Operation, f.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	request.Filters = append(request.Filters, f)
	answer, err := request.RequestWith(t.Context(), admin)
	check(t, err)
	check(t, kerr.ErrorForCode(answer.Results[0].ErrorCode))
}

// set is a sorted set of texts without and with some.
func set(base, without, with []string) []string {
	all := slices.Concat(base, with)
	all = slices.DeleteFunc(all, func(s string) bool { return slices.Contains(without, s) })
	slices.Sort(all)
	return slices.Compact(all)
}

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

// user is a client that logs in.
func user(t *testing.T, c *kafka.Cluster, ca *kafka.Authority, name, password string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.SecureAddrs()...), kgo.DialTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}),
		kgo.SASL(plain.Auth{User: name, Pass: password}.AsMechanism()), kgo.DisableClientMetrics(),
		kgo.DisableIdempotentWrite())...) // which needs a right of its own, and it is the topics that these users are asked about
	check(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// reads says how many records a user gets from a topic, or the error.
func reads(t *testing.T, cl *kgo.Client, topic string, want int) error {
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

func writes(t *testing.T, cl *kgo.Client, topic string) error {
	t.Helper()
	return cl.ProduceSync(within(t, 20*time.Second, "an answer"), &kgo.Record{Topic: topic, Value: []byte("mine")}).FirstErr()
}

func TestACLsAndConfigsFollow(t *testing.T) {
	ca, err := kafka.NewAuthority("the authority")
	check(t, err)
	const secret = "correct horse battery staple"
	users := map[string]string{}
	for _, name := range []string{"milena", "alice", "bob", "carol", "mallory", "erin"} {
		users[name] = secret
	}
	security := &kafka.Security{CA: ca, Users: users}
	classes := t.TempDir()
	check(t, realKafka(t).Compile(t.Context(), filepath.Join("testdata", "Policy.java"), classes))
	authorized := map[string]string{"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS"}
	strict := maps.Clone(authorized)
	strict["alter.config.policy.class.name"] = "Policy" // refuses file.delete.delay.ms
	p := startPair(t, kafka.Options{Security: security, Properties: authorized}, kafka.Options{Security: security, Properties: strict, Classes: classes})
	ctx := t.Context()
	p.createTopic("orders", 1, 1)
	p.createTopic("stock", 1, 1, "file.delete.delay.ms=3000", "retention.ms=7200000")
	p.createTopic("secret", 1, 1)
	for _, topic := range []string{"orders", "stock", "secret"} {
		check(t, p.writer(load.Options{Topic: topic, Partitions: 1}).Write(ctx, 50))
	}
	check(t, createTopic(ctx, p.targetAdmin, "local", 1, 1))
	bind(t, p.sourceClient,
		"ALLOW READ milena topic *", "ALLOW DESCRIBE_CONFIGS milena topic *", "ALLOW DESCRIBE milena cluster kafka-cluster", "ALLOW DESCRIBE milena group *",
		"ALLOW CREATE milena topic heartbeats", "ALLOW WRITE milena topic heartbeats",
		"ALLOW ALL alice topic orders", "ALLOW READ alice group alice-+",
		"ALLOW READ bob topic sto+", "ALLOW WRITE bob topic sto+", "ALLOW READ bob topic secret",
		"ALLOW READ carol topic *", "DENY READ carol topic orders",
		"ALLOW DELETE dave topic stock", "ALLOW ALTER dave cluster kafka-cluster",
	)
	bind(t, p.targetClient, // what milena needs, as docs/security.md says
		"ALLOW READ milena topic source.+", "ALLOW WRITE milena topic source.+", "ALLOW CREATE milena topic source.+", "ALLOW ALTER milena topic source.+",
		"ALLOW ALTER_CONFIGS milena topic source.+", "ALLOW ALL milena topic milena.source-target.journal", "ALLOW WRITE milena txn milena.source-target.+",
		"ALLOW CREATE milena topic heartbeats", "ALLOW WRITE milena topic heartbeats", "ALLOW ALL milena topic mm2-offset-syncs.source.internal",
		"ALLOW READ milena group *", "ALLOW ALTER milena cluster kafka-cluster", "ALLOW DESCRIBE milena cluster kafka-cluster")
	bind(t, p.targetClient, // what is none of its business
		"ALLOW READ zoe topic local", "ALLOW ALL zoe topic loc+", "ALLOW READ zoe topic *", "DENY WRITE mallory topic *", "ALLOW READ zoe topic source.secret",
		"ALLOW READ alice group other", "ALLOW ALTER zoe cluster kafka-cluster", "ALLOW WRITE zoe txn source.+", "ALLOW WRITE fixer topic source.orders", "ALLOW READ fixer topic source.orders")
	untouched := bindings(t, p.targetClient)
	bind(t, p.targetClient, "ALLOW READ zoe topic source.orders", "DENY READ zoe topic source.stock") // on copies, by hand: theirs until deletions are asked for
	byHand := []string{"ALLOW READ zoe topic source.orders", "DENY READ zoe topic source.stock"}
	before := bindings(t, p.targetClient)

	caFile := filepath.Join(p.dir, "ca.pem")
	check(t, os.WriteFile(caFile, ca.PEM, 0o600))
	config := p.config(".*")
	for side, c := range map[string]*kafka.Cluster{"source": p.source, "target": p.target} {
		config["clusters"].(daemon.Map)[side] = daemon.Map{
			"brokers": c.SecureAddrs(), "tls": daemon.Map{"ca_file": caFile}, "sasl": daemon.Map{"mechanism": "PLAIN", "username": "milena", "password": secret},
		}
	}
	flow := config["flows"].([]daemon.Map)[0]
	flow["topics_exclude"] = []string{"secret", "__.*"}
	flow["acls"], flow["acls_interval"], flow["configs_interval"] = true, "2s", "2s"
	interval := 2*time.Second + 2*time.Second // and what a look takes beside two clusters on two cores
	copies := []string{
		"ALLOW READ milena topic source.+", "ALLOW DESCRIBE_CONFIGS milena topic source.+", "ALLOW CREATE milena topic source.heartbeats",
		"ALLOW READ alice topic source.orders", "ALLOW READ bob topic source.sto+", "ALLOW READ carol topic source.+", "DENY READ carol topic source.orders",
		"ALLOW DELETE dave topic source.stock",
	}

	t.Run("check shows the difference first and changes nothing", func(t *testing.T) {
		code, out := p.in(t).runToEnd(t, "check", config)
		if code != 1 || !strings.Contains(out, "file.delete.delay.ms is not yours to set") {
			t.Errorf("exit code %d, want 1 for the config that the target refuses:\n%s", code, out)
		}
		for _, want := range []string{
			"ACL to create: ALLOW READ to User:alice on topic source.orders", "ACL to create: ALLOW READ to User:bob on topics that begin with source.sto",
			"ACL to create: ALLOW READ to User:carol on topics that begin with source.", "ACL to create: DENY READ to User:carol on topic source.orders",
			"ACL to create: ALLOW DELETE to User:dave on topic source.stock", "ACLs that are as on the source: 1",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("check does not say %q:\n%s", want, out)
			}
		}
		if strings.Contains(out, "ACL to delete") {
			t.Errorf("nobody asked for deletions:\n%s", out)
		}
		if diff := cmp.Diff(before, bindings(t, p.targetClient)); diff != "" {
			t.Errorf("check changed the target:\n%s", diff)
		}
	})
	same := func(t *testing.T, d time.Duration, want []string) {
		t.Helper()
		start := time.Now()
		eventually(t, d, "the target's ACLs are as expected", func() (bool, string) {
			diff := cmp.Diff(want, bindings(t, p.targetClient))
			return diff == "", diff
		})
		t.Logf("all %d ACLs of the target are as expected after %.1f s", len(want), time.Since(start).Seconds())
	}
	m := p.startMilena(config)
	p.copiedAndEqual(m, 30*time.Second, 100, "orders", "stock")
	t.Run("readers come along and everything else is as it was", func(t *testing.T) {
		same(t, 10*time.Second, set(before, nil, copies))
		m.waitMetric(5*time.Second, 7, "milena_acl_changes_total", `change="created"`, `flow="source-target"`)
		if n := strings.Count(m.Output(), "ACL created, as on the source"); n != 7 {
			t.Errorf("%d lines for 7 changes", n)
		}
	})
	t.Run("a reader of the source reads the copy and cannot write it", func(t *testing.T) {
		alice := user(t, p.source, ca, "alice", secret)
		check(t, reads(t, alice, "orders", 50))
		check(t, writes(t, alice, "orders"))
		there := user(t, p.target, ca, "alice", secret)
		check(t, reads(t, there, "source.orders", 51))
		for _, forbidden := range []struct {
			what string
			err  error
		}{
			{"alice writes a copy", writes(t, there, "source.orders")},
			{"alice reads what is not hers", reads(t, user(t, p.target, ca, "alice", secret), "source.stock", 1)},
			{"carol reads what she is denied", reads(t, user(t, p.target, ca, "carol", secret), "source.orders", 1)},
			{"mallory reads a copy", reads(t, user(t, p.target, ca, "mallory", secret), "source.orders", 1)},
			{"bob writes a copy", writes(t, user(t, p.target, ca, "bob", secret), "source.stock")},
			{"carol reads a topic of the target's own", reads(t, user(t, p.target, ca, "carol", secret), "local", 1)},
		} {
			if !errors.Is(forbidden.err, kerr.TopicAuthorizationFailed) {
				t.Errorf("%s: %v", forbidden.what, forbidden.err)
			}
		}
		check(t, reads(t, user(t, p.target, ca, "bob", secret), "source.stock", 50))
		check(t, reads(t, user(t, p.target, ca, "carol", secret), "source.stock", 50))
	})
	t.Run("changes of ACLs arrive within the interval", func(t *testing.T) {
		bind(t, p.sourceClient, "ALLOW READ erin topic stock", "DENY ALL mallory topic orders")
		unbind(t, p.sourceClient, "bob")
		copies = append(copies, "ALLOW READ erin topic source.stock", "DENY ALL mallory topic source.orders")
		same(t, interval, set(before, nil, copies))
		check(t, reads(t, user(t, p.target, ca, "erin", secret), "source.stock", 50))
		// Two more looks, and bob has his rights on the copy still.
		eventually(t, 10*time.Second, "two more looks", looks(t, m, 2))
		same(t, time.Second, set(before, nil, copies))
	})
	t.Run("changes of configs arrive within the interval, each for itself", func(t *testing.T) {
		alterConfigs(t, p.targetAdmin, "source.orders", "min.insync.replicas=1") // is in configs_exclude
		alterConfigs(t, p.targetAdmin, "local", "retention.ms=77")
		other := ownConfigs(t, p.targetAdmin, "source.stock")
		if diff := cmp.Diff(map[string]string{"retention.ms": "7200000"}, other); diff != "" {
			t.Errorf("a copy is born with what the target allows:\n%s", diff)
		}
		alterConfigs(t, p.sourceAdmin, "orders", "retention.ms=3600000", "min.insync.replicas=2", "file.delete.delay.ms=3000", "segment.bytes=2097152")
		want := map[string]string{"retention.ms": "3600000", "segment.bytes": "2097152", "min.insync.replicas": "1"}
		eventually(t, interval, "the copy has the configs that the target allows", func() (bool, string) {
			diff := cmp.Diff(want, ownConfigs(t, p.targetAdmin, "source.orders"))
			return diff == "", diff
		})
		if diff := cmp.Diff(other, ownConfigs(t, p.targetAdmin, "source.stock")); diff != "" {
			t.Errorf("another copy changed:\n%s", diff)
		}
		if diff := cmp.Diff(map[string]string{"retention.ms": "77"}, ownConfigs(t, p.targetAdmin, "local")); diff != "" {
			t.Errorf("a topic of the target's own changed:\n%s", diff)
		}
		for _, key := range []string{"retention.ms", "segment.bytes"} {
			says(t, m.Output(), "topic config set, as on the source.*source.orders.*"+key)
		}
		eventually(t, 10*time.Second, "/status names the config that is refused", func() (bool, string) {
			s, err := m.Status(ctx)
			if err != nil || s[0].Configs == nil {
				return false, fmt.Sprint(err)
			}
			return len(s[0].Configs.Problems) == 2 && strings.Contains(s[0].Configs.Problems[0], "file.delete.delay.ms"), fmt.Sprint(s[0].Configs.Problems)
		})
		m.waitMetric(5*time.Second, 2, "milena_topic_config_changes_total")
		code, out := p.in(t).runToEnd(t, "check", config)
		if code == 0 || !strings.Contains(out, "file.delete.delay.ms: 60000 -> 3000") {
			t.Errorf("check: exit code %d, want 1 and the pending config:\n%s", code, out)
		}
	})
	m.stop()
	t.Run("deletions only when asked for, and only on copies", func(t *testing.T) {
		p := p.in(t)
		flow["acls_delete"] = true
		pending := bindings(t, p.targetClient)
		_, out := p.runToEnd(t, "check", config)
		for _, want := range []string{
			"ACL to delete: ALLOW READ to User:bob on topics that begin with source.sto", "ACL to delete: ALLOW READ to User:zoe on topic source.orders",
			"ACL to delete: DENY READ to User:zoe on topic source.stock",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("check does not say %q:\n%s", want, out)
			}
		}
		if n := strings.Count(out, "ACL to delete"); n != 3 {
			t.Errorf("check shows %d deletions, want 3:\n%s", n, out)
		}
		if diff := cmp.Diff(pending, bindings(t, p.targetClient)); diff != "" {
			t.Errorf("check changed the target:\n%s", diff)
		}
		m := p.startMilena(config)
		want := set(before, slices.Concat(byHand, []string{"ALLOW READ bob topic source.sto+"}), copies)
		same(t, 10*time.Second, want)
		eventually(t, 10*time.Second, "two more looks", looks(t, m, 2))
		same(t, time.Second, want)
		for _, text := range untouched {
			if !slices.Contains(want, text) {
				t.Errorf("%s was none of milena's business and is gone", text)
			}
		}
		m.waitMetric(5*time.Second, 3, "milena_acl_changes_total", `change="deleted"`)
		p.waitCopied(m, 20*time.Second, "orders", "stock") // with its rights still in place
		m.stop()
	})
}

// looks says whether so many more looks at the ACLs have begun since it was made.
func looks(t *testing.T, m *milena, n int) func() (bool, string) {
	t.Helper()
	seen := map[time.Time]bool{}
	return func() (bool, string) {
		s, err := m.Status(t.Context())
		if err == nil && s[0].ACLs != nil {
			seen[s[0].ACLs.LastPass] = true
		}
		return len(seen) > n, fmt.Sprintf("%d looks, %v", len(seen), err)
	}
}

func TestClustersWithoutAuthorizerAndDefaultsOfTheSource(t *testing.T) {
	p := startPair(t, kafka.Options{Properties: map[string]string{"log.retention.ms": "123456789", "log.segment.bytes": "5242880"}}, kafka.Options{})
	p.createTopic("plain", 1, 1, "cleanup.policy=compact,delete")
	check(t, p.writer(load.Options{Topic: "plain", Partitions: 1}).Write(t.Context(), 10))
	config := p.config("plain")
	flow := config["flows"].([]daemon.Map)[0]
	flow["acls"], flow["acls_interval"], flow["use_defaults_from"], flow["configs_interval"] = true, "1s", "source", "1s"
	_, out := p.runToEnd(t, "check", config)
	says(t, out, "ACLs are not copied: cluster source has no authorizer")
	m := p.startMilena(config)
	p.copiedAndEqual(m, 20*time.Second, 10, "plain")
	t.Run("no authorizer is said once", func(t *testing.T) {
		eventually(t, 20*time.Second, "three looks", looks(t, m, 3))
		if n := strings.Count(m.Output(), "ACLs are not copied: cluster source has no authorizer"); n != 1 {
			t.Errorf("said %d times", n)
		}
		s, err := m.Status(t.Context())
		check(t, err)
		if len(s[0].ACLs.Problems) != 1 || !s[0].Ready {
			t.Errorf("status %+v", s[0].ACLs)
		}
	})
	t.Run("the copy has the values in force on the source", func(t *testing.T) {
		got := ownConfigs(t, p.targetAdmin, copied("plain"))
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
		// A day is what the target would do by itself.
		alterConfigs(t, p.targetAdmin, copied("plain"), "retention.ms=86400000")
		eventually(t, 10*time.Second, "retention is the source's again", func() (bool, string) {
			now := ownConfigs(t, p.targetAdmin, copied("plain"))["retention.ms"]
			return now == "123456789", now
		})
		s, err := m.Status(t.Context())
		check(t, err)
		if s[0].Configs == nil || len(s[0].Configs.Problems) > 0 {
			t.Errorf("the target refuses configs: %+v", s[0].Configs)
		}
	})
	m.stop()
}
