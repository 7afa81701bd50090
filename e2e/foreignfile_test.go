package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// strimziBothWays is a KafkaMirrorMaker2 that keeps names both ways, with topics that are disjoint by lookaheads, and an item with a typo.
const strimziBothWays = `apiVersion: kafka.strimzi.io/v1beta2
kind: KafkaMirrorMaker2
metadata: {name: both-ways}
spec:
  replicas: 1
  connectCluster: target
  clusters:
    - {alias: source, bootstrapServers: "%s"}
    - {alias: target, bootstrapServers: "%s"}
  mirrors:
    - sourceCluster: source
      targetCluster: target
      topicsPattern: "^(?!east\\.tmp)east\\..*, paymnets"
      sourceConnector: &source
        config: {replication.factor: 1, sync.topic.acls.enabled: "false", replication.policy.class: org.apache.kafka.connect.mirror.IdentityReplicationPolicy}
      checkpointConnector: {}
    - sourceCluster: target
      targetCluster: source
      topicsPattern: "^(?!east\\.).*$"
      topicsExcludePattern: "heartbeats, paymnets, __.*, mm2.*"
      sourceConnector: *source
`

// A resource of an operator runs as it is: both directions keep names, while milena is killed, and no record goes round. What it leaves out stays
// out, and its typo is told. After a convert, the milena.yaml means the same.
func TestStrimziResourceWithIdentityBothWays(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	for _, topic := range []string{"east.orders", "east.tmp", "payments"} {
		p.createTopic(topic, 2, 1)
	}
	check(t, kafka.CreateTopic(ctx, p.targetAdmin, "west.orders", 2, 1))
	file := filepath.Join(p.dir, "mirror.yaml")
	check(t, os.WriteFile(file, fmt.Appendf(nil, strimziBothWays, strings.Join(p.source.Addrs(), ","), strings.Join(p.target.Addrs(), ",")), 0o600))

	east := p.writer(load.Options{Topic: "east.orders", Partitions: 2}).Stream(ctx, 500)
	check(t, p.writer(load.Options{Topic: "east.tmp", Partitions: 2}).Write(ctx, 10))
	back, err := load.New(p.target, load.Options{Topic: "west.orders", Partitions: 2})
	check(t, err)
	defer back.Close()
	west := back.Stream(ctx, 500)
	m := p.newMilenaFromFile("milena", file, "--beside-mirrormaker")
	m.start()
	m.waitReady(30 * time.Second)
	pause(t, 2*time.Second)
	m.Kill()
	m.start()
	m.waitReady(30 * time.Second)
	eastRecords, err := east.Stop(ctx)
	check(t, err)
	westRecords, err := west.Stop(ctx)
	check(t, err)

	same := func(topic string) string { return topic }
	eventually(t, time.Minute, "both topics are copied", func() (bool, string) {
		source, target := len(sortedValues(t, p.sourceClient, "west.orders", 2)), len(sortedValues(t, p.targetClient, "east.orders", 2))
		return int64(source) >= westRecords && int64(target) >= eastRecords, fmt.Sprintf("%d of %d, %d of %d", source, westRecords, target, eastRecords)
	})
	pause(t, 3*time.Second) // records that go round would show up now
	if n := p.verify(same, "east.orders"); n != eastRecords {
		t.Errorf("%d records of east.orders, want %d", n, eastRecords)
	}
	report, err := verify.Run(within(t, time.Minute, "the verifier ends"), p.targetClient, p.sourceClient, verify.Options{Topics: []string{"west.orders"}, Name: same})
	check(t, err)
	if report.Records != westRecords || len(report.Differences) > 0 {
		t.Errorf("west.orders: %+v, want %d records", report, westRecords)
	}
	topics, err := p.targetAdmin.ListTopics(ctx)
	check(t, err)
	if topics.Has("east.tmp") || topics.Has("payments") {
		t.Errorf("copied what is left out: %v", topics.Names())
	}
	bin, err := buildMilena()
	check(t, err)
	status, _ := exec.CommandContext(ctx, bin, "status", "-c", file).CombinedOutput()
	if want := `selects nothing: topics: "paymnets" is no topic that milena can see; did you mean "payments"?`; !strings.Contains(string(status), want) {
		t.Errorf("status does not say %s:\n%s", want, status)
	}
	converted, err := exec.CommandContext(ctx, bin, "convert", file).Output()
	check(t, err)
	again := filepath.Join(p.dir, "again.yaml")
	check(t, os.WriteFile(again, converted, 0o600))
	checked, err := exec.CommandContext(ctx, bin, "check", "-c", again, "--timeout", "30s").CombinedOutput()
	if err != nil || !strings.Contains(string(checked), "west.orders") {
		t.Errorf("check of the converted file: %v\n%s\n%s", err, checked, converted)
	}
	m.stop()
}
