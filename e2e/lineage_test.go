package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
	"github.com/milena-kafka/milena/offsets"
)

// lineageTest is two regions that copy each other's orders, each with an authorizer that grants milena what docs/security.md lists and nothing
// more.
type lineageTest struct {
	*pair
	ca     *kafka.Authority
	copies []logRecord // of the source's orders on the target
}

// A group's position belongs to whoever put it there. Independent groups of the same name stay where they are in both regions for a minute, with
// both flows at defaults. A group that is reset at home is followed, unless somebody consumed on the other side. Only groups_back moves a group
// at home, and no forged journal does.
func TestGroupPositionsBelongToWhoeverPutThem(t *testing.T) {
	t.Parallel()
	l := startLineage(t)
	m := l.startMilena(l.bothFlows(nil))
	eventually(t, time.Minute, "both topics are copied", func() (bool, string) {
		for _, copied := range []struct {
			cl    *kgo.Client
			topic string
		}{{l.targetClient, remoteTopic("orders")}, {l.sourceClient, "target.orders"}} {
			ends, err := verify.ReadEnds(t.Context(), copied.cl, copied.topic)
			if err != nil || ends.End[0] < 200 {
				return false, fmt.Sprint(ends, err)
			}
		}
		return true, ""
	})
	l.copies = readContents(t, l.targetClient, remoteTopic("orders"))[0]

	independent := []groupAt{ // first those on the copies, so that no sync sees a home alone
		{l.targetAdmin, "billing", remoteTopic("orders"), 40},
		{l.sourceAdmin, "billing", "orders", 100},
		{l.targetAdmin, "audit", remoteTopic("orders"), 100},
		{l.sourceAdmin, "audit", "orders", 40},
		{l.targetAdmin, "same", remoteTopic("orders"), l.copies[50].offset},
		{l.sourceAdmin, "same", "orders", 50},
		{l.sourceAdmin, "report", "target.orders", 70},
		{l.targetAdmin, "report", "orders", 20},
	}
	for _, g := range independent {
		commitOffset(t, g.admin, g.group, g.topic, 0, g.at, "its own")
	}
	since := time.Now()
	for _, group := range []string{"moved", "stays", "reset"} {
		commitOffset(t, l.sourceAdmin, group, "orders", 0, 60, "")
		l.waitOnTarget(group, 60)
	}
	l.forgeJournals()
	t.Run("a group that is reset at home is followed", func(t *testing.T) {
		_, err := l.source.Jars().Tool(within(t, time.Minute, "Kafka's tool ends"), "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
			"--bootstrap-server", l.source.Addrs()[0], "--group", "reset", "--topic", "orders:0", "--reset-offsets", "--to-offset", "10", "--execute")
		check(t, err)
		l.in(t, func(l *lineageTest) { l.waitOnTarget("reset", 10) })
	})
	for _, group := range []string{"moved", "stays"} { // they fail over and consume there
		commitOffset(t, l.targetAdmin, group, remoteTopic("orders"), 0, l.copies[90].offset, "")
	}
	t.Run("with defaults nothing else moves for a minute", func(t *testing.T) {
		pause(t, time.Minute-time.Since(since))
		m.waitGroupSyncs("source-target", "target-source")
		unmoved(t, independent)
		unmoved(t, []groupAt{{l.sourceAdmin, "moved", "orders", 60}, {l.sourceAdmin, "stays", "orders", 60}})
		for group, want := range map[string]string{"billing": "own", "audit": "own", "same": "own", "report": "own", "moved": "own", "stays": "own"} {
			if got := refusals(t, m)[group]; got != want {
				t.Errorf("%s is refused as %q, want %q", group, got, want)
			}
		}
		m.waitMetric(10*time.Second, 1, "milena_group_positions_refused", `reason="own"`)
	})
	m.stop()

	m = l.startMilena(syncGroupsOften(l.bothFlows([]string{"moved", "bait"})))
	t.Run("a group of groups_back goes home and on from there", func(t *testing.T) {
		eventually(t, 30*time.Second, "the group is at home", func() (bool, string) {
			at := readCommitted(t, l.sourceAdmin, []string{"moved"}).at("moved", "orders", 0)
			return at == 90, fmt.Sprint(at)
		})
		commitOffset(t, l.sourceAdmin, "moved", "orders", 0, 95, "")
		l.in(t, func(l *lineageTest) { l.waitOnTarget("moved", 95) })
	})
	t.Run("no other group is moved, and none by a forged journal", func(t *testing.T) {
		m.waitGroupSyncs("source-target", "target-source")
		unmoved(t, independent)
		unmoved(t, []groupAt{{l.sourceAdmin, "stays", "orders", 60}, {l.sourceAdmin, "bait", "orders", 3}})
	})
	s, err := m.Status(t.Context())
	check(t, err)
	for _, flow := range s {
		if len(flow.Groups.Problems) > 0 {
			t.Errorf("%s: the documented rights do not suffice: %q", flow.Flow, flow.Groups.Problems)
		}
	}
	l.verify(remoteTopic, "orders")
	m.stop()
}

// groupAt is where a group has committed an offset in partition 0.
type groupAt struct {
	admin        *kadm.Client
	group, topic string
	at           int64
}

func unmoved(t *testing.T, groups []groupAt) {
	t.Helper()
	for _, g := range groups {
		if at := readCommitted(t, g.admin, []string{g.group}).at(g.group, g.topic, 0); at != g.at {
			t.Errorf("%s was moved from %d to %d in %s", g.group, g.at, at, g.topic)
		}
	}
}

func startLineage(t *testing.T) *lineageTest {
	t.Helper()
	ca, err := kafka.NewAuthority("the authority")
	check(t, err)
	options := kafka.Options{
		Security:   &kafka.Security{CA: ca, Users: map[string]string{"milena": aclPassword}},
		Properties: map[string]string{"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS"},
	}
	target := options
	target.Properties = maps.Clone(options.Properties)
	l := &lineageTest{pair: startPair(t, options, target), ca: ca}
	l.createTopic("orders", 1, 1)
	check(t, kafka.CreateTopic(t.Context(), l.targetAdmin, "orders", 1, 1))
	for _, c := range []*kafka.Cluster{l.source, l.target} {
		w, err := load.New(c, load.Options{Topic: "orders", Partitions: 1})
		check(t, err)
		t.Cleanup(w.Close)
		check(t, w.Write(t.Context(), 200))
	}
	grantDocumented(t, l.sourceClient, "target", "target-source")
	grantDocumented(t, l.targetClient, "source", "source-target")
	return l
}

// grantDocumented grants milena what docs/security.md lists for a cluster that a flow from another one writes to, and the reverse flow reads from.
func grantDocumented(t *testing.T, admin *kgo.Client, other, flow string) {
	t.Helper()
	acls := []string{
		"ALLOW READ milena topic orders", "ALLOW DESCRIBE_CONFIGS milena topic orders",
		"ALLOW READ milena topic heartbeats", "ALLOW DESCRIBE_CONFIGS milena topic heartbeats",
		"ALLOW WRITE milena txn milena." + flow + ".+", "ALLOW READ milena group *", "ALLOW DESCRIBE milena group *",
		"ALLOW READ milena topic milena." + flow + ".journal", // the reverse flow reads it too, for groups_back
	}
	for _, operation := range []string{"CREATE", "WRITE", "READ", "DESCRIBE_CONFIGS"} {
		acls = append(acls, "ALLOW "+operation+" milena topic milena."+flow+".journal")
	}
	for _, operation := range []string{"WRITE", "READ", "CREATE", "ALTER", "ALTER_CONFIGS"} {
		acls = append(acls, "ALLOW "+operation+" milena topic "+other+".+")
	}
	for _, topic := range []string{"heartbeats", "mm2-offset-syncs." + other + ".internal"} {
		acls = append(acls, "ALLOW CREATE milena topic "+topic, "ALLOW WRITE milena topic "+topic)
	}
	createACLs(t, admin, acls...)
}

// bothFlows is a configuration with a flow in each direction, at defaults but for groups_back of the way home to the source.
func (l *lineageTest) bothFlows(groupsBack []string) daemon.Map {
	l.t.Helper()
	caFile := filepath.Join(l.dir, "ca.pem")
	check(l.t, os.WriteFile(caFile, l.ca.PEM, 0o600))
	c := l.config("orders")
	for side, cluster := range map[string]*kafka.Cluster{"source": l.source, "target": l.target} {
		c["clusters"].(daemon.Map)[side] = daemon.Map{
			"brokers": cluster.SecureAddrs(), "tls": daemon.Map{"ca_file": caFile}, "sasl": daemon.Map{"mechanism": "PLAIN", "username": "milena", "password": aclPassword},
		}
	}
	back := daemon.Map{"source": "target", "target": "source", "topics": []string{"orders"}}
	if groupsBack != nil {
		back["groups_back"] = groupsBack
	}
	c["flows"] = append(c["flows"].([]daemon.Map), back)
	return c
}

// waitOnTarget waits until a group is on the target where it stands at an offset of the source's orders.
func (l *lineageTest) waitOnTarget(group string, source int) {
	l.t.Helper()
	eventually(l.t, 30*time.Second, fmt.Sprintf("%s is on the target at the copy of %d", group, source), func() (bool, string) {
		at := readCommitted(l.t, l.targetAdmin, []string{group}).at(group, remoteTopic("orders"), 0)
		return at == l.copies[source].offset, fmt.Sprint(at)
	})
}

// in runs do with another test, for a subtest.
func (l *lineageTest) in(t *testing.T, do func(*lineageTest)) {
	t.Helper()
	p := *l.pair
	p.t = t
	do(&lineageTest{pair: &p, ca: l.ca, copies: l.copies})
}

// forgeJournals writes a journal to the target that claims that topic bait was copied from orders of the source, and lets group bait stand far
// in it.
func (l *lineageTest) forgeJournals() {
	l.t.Helper()
	ctx := l.t.Context()
	commitOffset(l.t, l.sourceAdmin, "bait", "orders", 0, 3, "")
	const journal = "milena.aaa.journal"
	check(l.t, kafka.CreateTopic(ctx, l.targetAdmin, journal, 1, 1))
	check(l.t, kafka.CreateTopic(ctx, l.targetAdmin, "target.bait", 1, 1))
	w, err := load.New(l.target, load.Options{Topic: "target.bait", Partitions: 1})
	check(l.t, err)
	defer w.Close()
	check(l.t, w.Write(ctx, 10))
	commitOffset(l.t, l.targetAdmin, "bait", "target.bait", 0, 10, "")
	source, err := l.sourceAdmin.ListTopics(ctx, "orders")
	check(l.t, err)
	target, err := l.targetAdmin.ListTopics(ctx, "target.bait")
	check(l.t, err)
	metadata, err := l.sourceAdmin.BrokerMetadata(ctx)
	check(l.t, err)
	for _, e := range []offsets.Entry{
		&offsets.PartitionState{
			Topic: "orders", SourceClusterID: metadata.Cluster, SourceTopicID: source["orders"].ID, TargetTopic: "target.bait",
			TargetTopicID: target["target.bait"].ID, End: offsets.Pair{Source: 999_999, Target: 10}, LeaderEpoch: -1,
		},
		&offsets.Chunk{Topic: "orders", Previous: -1, Segments: []offsets.Segment{{Source: 999_989, Target: 0, Count: 10}}},
		&offsets.GroupPositions{Group: "bait", Topic: "target.bait", Placed: []offsets.PlacedOffset{{Source: 3, Put: 1, Before: 1}}},
	} {
		check(l.t, l.targetClient.ProduceSync(ctx, &kgo.Record{Topic: journal, Key: e.AppendKey(nil), Value: e.AppendValue(nil)}).FirstErr())
	}
}
