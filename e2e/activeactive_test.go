package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// Both clusters are written to and copied to each other, while milena is killed once. A group with offsets in a local topic is translated
// exactly, and its offsets in a copy move no group at home.
func TestActiveActive(t *testing.T) {
	t.Parallel()
	const partitions, half = 4, 10 * time.Second
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("orders", partitions, 1)
	check(t, kafka.CreateTopic(ctx, p.targetAdmin, "orders", partitions, 1))
	both := p.config("orders")
	both["flows"] = append(both["flows"].([]daemon.Map), daemon.Map{"source": "target", "target": "source", "topics": []string{"orders"}})
	m := p.startMilena(syncGroupsOften(both))
	onSource, onTarget := p.streamOrders(p.source, partitions), p.streamOrders(p.target, partitions)
	pause(t, half)
	m.Kill()
	m.start()
	m.waitReady(30 * time.Second)
	pause(t, half)
	sourceRecords, err := onSource.Stop(ctx)
	check(t, err)
	targetRecords, err := onTarget.Stop(ctx)
	check(t, err)
	waitNoLag(t, m, "orders")
	p.waitAndVerify(m, time.Minute, sourceRecords, "orders")
	reverse := func(topic string) string { return "target." + topic }
	report, err := verify.Run(within(t, time.Minute, "the verifier ends"), p.targetClient, p.sourceClient, verify.Options{Topics: []string{"orders"}, Name: reverse})
	check(t, err)
	if report.Records < targetRecords || len(report.Differences) > 0 {
		t.Errorf("target to source: %+v, want %d records", report, targetRecords)
	}
	t.Logf("%d records from source to target, %d from target to source", sourceRecords, targetRecords)
	p.verifyGroupInBothTopics(t, partitions)

	topics, err := p.targetAdmin.ListTopics(ctx)
	check(t, err)
	if topics.Has("source.target.orders") {
		t.Error("records circulate: topic source.target.orders exists")
	}
	m.stop()
}

// streamOrders writes 1000 records/s to topic orders of a cluster.
func (p *pair) streamOrders(c *kafka.Cluster, partitions int) *load.Stream {
	p.t.Helper()
	w, err := load.New(c, load.Options{Topic: "orders", Partitions: partitions, Shapes: []load.Shape{load.Sized(500)}})
	check(p.t, err)
	p.t.Cleanup(w.Close)
	return w.Stream(p.t.Context(), 1000)
}

// waitNoLag waits until no flow has lag in a topic.
func waitNoLag(t *testing.T, m *milena, topic string) {
	t.Helper()
	check(t, m.Until(within(t, time.Minute, "no flow has lag"), 50*time.Millisecond, func() (bool, string) {
		all, err := m.Status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		for _, s := range all {
			for _, part := range s.Partitions {
				if part.Topic == topic && (part.LagRecords == nil || *part.LagRecords > 0) {
					return false, fmt.Sprintf("%s has lag in %s-%d", s.Flow, part.Topic, part.Partition)
				}
			}
		}
		return true, ""
	}))
}

// verifyGroupInBothTopics commits a group of the source in its own topic and in the copy of the target's topic. The first is translated to
// the copy on the target. The second is nowhere committed in the topic that the copy comes from.
func (p *pair) verifyGroupInBothTopics(t *testing.T, partitions int32) {
	t.Helper()
	groups := []string{"west"}
	for partition := range partitions {
		commitOffset(t, p.sourceAdmin, "west", "orders", partition, int64(100+partition), "")
		commitOffset(t, p.sourceAdmin, "west", "target.orders", partition, int64(200+partition), "")
	}
	waitGroupsSynced(t, p.sourceAdmin, p.targetAdmin, groups, []string{"orders"}, remoteTopic)
	translated := readCommitted(t, p.targetAdmin, groups)
	if o := p.groupOutcome(groups, []string{"orders"}, remoteTopic, translated); !o.exact() || o.offsets != int64(partitions) {
		t.Errorf("groups: %s", o)
	}
	for partition := range partitions {
		if at := translated.at("west", "orders", partition); at >= 0 {
			t.Errorf("the group is at %d of orders-%d, where it never was", at, partition)
		}
	}
}

// Identity naming in both directions, with producers on both sides and a milena that is killed three times: both sides end with the same
// records, each of them once.
func TestActiveActiveWithIdentityNaming(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	const partitions = 2
	p.createTopic("orders", partitions, 1)
	check(t, kafka.CreateTopic(ctx, p.targetAdmin, "orders", partitions, 1))
	c := p.config("orders")
	flows := c["flows"].([]daemon.Map)
	flows[0]["naming"], flows[0]["provenance"] = "identity", true
	c["flows"] = append(flows, daemon.Map{"source": "target", "target": "source", "topics": []string{"orders"}, "naming": "identity", "provenance": true})
	m := p.startMilena(c)
	streams := map[string]*load.Stream{}
	for name, cluster := range map[string]*kafka.Cluster{"source": p.source, "target": p.target} {
		shape := func(_ *rand.Rand, mark string) kgo.Record { return kgo.Record{Value: []byte(name + " " + mark)} }
		w, err := load.New(cluster, load.Options{Topic: "orders", Partitions: partitions, Shapes: []load.Shape{shape}})
		check(t, err)
		defer w.Close()
		streams[name] = w.Stream(ctx, 500)
	}
	for range 3 {
		pause(t, 2*time.Second)
		m.Kill()
		m.start()
	}
	m.waitReady(30 * time.Second)
	var written int64
	for _, s := range streams {
		acked, err := s.Stop(ctx)
		check(t, err)
		written += acked
	}
	read := func(cl *kgo.Client) []string { return sortedValues(t, cl, "orders", partitions) }
	eventually(t, time.Minute, "both sides have all records", func() (bool, string) {
		source, target := int64(len(read(p.sourceClient))), int64(len(read(p.targetClient)))
		return source >= written && target >= written, fmt.Sprintf("%d and %d of %d", source, target, written)
	})
	pause(t, 3*time.Second) // circulating records would show up now
	source, target := read(p.sourceClient), read(p.targetClient)
	if int64(len(source)) != written || !slices.Equal(source, target) || len(slices.Compact(slices.Clone(source))) != len(source) {
		t.Errorf("%d and %d records, want the same %d on both sides, each of them once", len(source), len(target), written)
	}
	t.Logf("%d records on both sides", written)
	m.stop()
}

// sortedValues are the values of a topic's records, each with its partition. The two sides hold them in different orders, so the verifier
// cannot compare them.
func sortedValues(t *testing.T, cl *kgo.Client, topic string, partitions int32) (values []string) {
	t.Helper()
	for partition := range partitions {
		check(t, verify.Sequence(t.Context(), cl, topic, partition, func(r *kgo.Record) error {
			values = append(values, fmt.Sprintf("%d %s", partition, r.Value))
			return nil
		}))
	}
	slices.Sort(values)
	return values
}
