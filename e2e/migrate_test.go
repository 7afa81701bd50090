package e2e_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/mm2"
	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/e2e/verify"
	"github.com/milena-kafka/milena/offsets"
)

// migration is a load on 50 partitions that MirrorMaker 2 copies.
type migration struct {
	*pair
	topics       []string
	streams      []*load.Stream
	transactions chan error
	properties   map[string]string
}

// startMigration starts the load and a MirrorMaker 2 that copies it.
func startMigration(t *testing.T, properties map[string]string) (*migration, *proc.Process) {
	t.Helper()
	i := &migration{
		pair: startPair(t, kafka.Options{}, kafka.Options{}), topics: []string{"plain", "transactions", "compacted", "few", "empty"},
		transactions: make(chan error, 1), properties: properties,
	}
	i.createTopic("plain", 38, 1)
	i.createTopic("transactions", 6, 1)
	i.createTopic("few", 2, 1)
	i.createTopic("empty", 2, 1)
	compact(t, i.pair, "compacted")
	check(t, i.writer(load.Options{Topic: "few", Partitions: 2}).Write(t.Context(), 3))
	ctx := t.Context()
	plain := load.Options{Topic: "plain", Partitions: 38, Shapes: []load.Shape{load.Sized(200), load.Headers, load.Binary, load.NullKey, load.Tombstone}}
	i.streams = append(i.streams, i.writer(plain).Stream(ctx, 6000))
	keyed := load.Options{Topic: "compacted", Partitions: 2, Shapes: []load.Shape{load.Keyed("a", load.Sized(300)), load.Keyed("b", load.Sized(300))}}
	i.streams = append(i.streams, i.writer(keyed).Stream(ctx, 300))
	go func() {
		_, err := load.Transactions(ctx, i.source, load.Options{Topic: "transactions", Partitions: 6}, 500, 30)
		i.transactions <- err
	}()
	return i, i.startMirrorMaker(ctx)
}

func (i *migration) startMirrorMaker(ctx context.Context) *proc.Process {
	i.t.Helper()
	other, err := mm2.Start(ctx, i.source.Jars(), i.dir, mm2.Options{
		Primary: i.source.Addrs(), DR: i.target.Addrs(), Topics: strings.Join(i.topics, ","), Properties: i.properties,
	})
	check(i.t, err)
	return other
}

// waitMirrored waits until the copies hold this many records of the plain topic more than now, and some of every partition that has any.
func (i *migration) waitMirrored(more int64) {
	i.t.Helper()
	begun := int64(0)
	if ends, err := verify.ReadEnds(i.t.Context(), i.targetClient, mm2.RemoteTopic("plain")); err == nil {
		begun = sum(ends.End)
	}
	eventually(i.t, 2*time.Minute, "more is copied", func() (bool, string) {
		var plain int64
		for _, topic := range i.topics {
			ends, err := verify.ReadEnds(i.t.Context(), i.targetClient, mm2.RemoteTopic(topic))
			if err != nil {
				return false, err.Error()
			}
			for partition, end := range ends.End {
				if end == 0 && topic != "empty" {
					return false, fmt.Sprintf("nothing of %s-%d", topic, partition)
				}
			}
			if topic == "plain" {
				plain = sum(ends.End)
			}
		}
		return plain >= begun+more, fmt.Sprintf("%d records, and %d before", plain, begun)
	})
}

func sum(ends map[int32]int64) (n int64) {
	for _, end := range ends {
		n += end
	}
	return n
}

// endLoad stops what writes and waits until it is acknowledged.
func (i *migration) endLoad() {
	i.t.Helper()
	for _, s := range i.streams {
		_, err := s.Stop(within(i.t, time.Minute, "the load ends"))
		check(i.t, err)
	}
	select {
	case err := <-i.transactions:
		check(i.t, err)
	case <-within(i.t, 2*time.Minute, "the transactions end").Done():
		i.t.Fatal("the transactions do not end")
	}
}

// verifyMirrored compares everything: aborted records too, unless the file says otherwise, for MirrorMaker 2 and for milena.
func (i *migration) verifyMirrored(m *milena, atLeast int64) {
	i.t.Helper()
	i.waitCopied(m, time.Minute, i.topics...)
	if n := i.report(verify.Options{Topics: i.topics, Name: mm2.RemoteTopic, Uncommitted: i.properties["primary.consumer.isolation.level"] == ""}); n < atLeast {
		i.t.Errorf("%d records are equal, want at least %d", n, atLeast)
	}
	for _, part := range m.partitions() {
		if part.State != "replicating" {
			i.t.Errorf("%s-%d is %s: %+v", part.Topic, part.Partition, part.State, part.Anomaly)
		}
	}
}

// MirrorMaker 2 copies half of a load that goes on and is stopped. With the same file milena copies the rest: nothing is missing
// and nothing is there twice.
func TestMilenaContinuesMirrorMakersCopy(t *testing.T) {
	for _, tt := range []struct {
		name       string
		properties map[string]string
		stop       func(*testing.T, *proc.Process)
	}{
		{name: "after a kill -9"},
		// Its transactions are open then: what they hold counts only when the coordinator has ended them.
		{name: "after a kill -9 of one that copies exactly once", properties: map[string]string{
			"dr.exactly.once.source.support": "enabled", "dedicated.mode.enable.internal.rest": "true", "listeners": "http://127.0.0.1:0",
			"primary.consumer.isolation.level": "read_committed", "dr.producer.transaction.timeout.ms": "15000",
		}},
		// Both directions, as most files have them, with heartbeats that travel.
		{name: "after a clean stop with both directions", stop: stopMirrorMaker, properties: map[string]string{
			"dr->primary.enabled": "true", "dr->primary.topics": "local", "dr->primary.emit.heartbeats.enabled": "true",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, other := startMigration(t, tt.properties)
			i.waitMirrored(40_000)
			m := i.newMilenaFromFile("milena", filepath.Join(i.dir, "mm2.properties"))
			if tt.stop == nil {
				other.Kill()
			} else {
				m.start()
				m.waitExit(time.Minute, 1)
				if said := m.Tail(5); !strings.Contains(said, "MirrorMaker 2 still runs: its group ") || !strings.Contains(said, " has members (1); stop it first") {
					t.Error("milena does not say why it ended")
				}
				tt.stop(t, other)
			}
			m.start()
			m.waitReady(time.Minute)
			i.waitMirrored(60_000)
			i.endLoad()
			i.verifyMirrored(m, 100_000)
			m.waitMetric(time.Second, 48, "milena_inherited_partitions_total")
			m.stop()
		})
	}
}

// The way back: milena tells MirrorMaker 2 where to go on, while the load goes on. Nothing is missing and nothing is there twice.
func TestRollbackToMirrorMaker(t *testing.T) {
	i, other := startMigration(t, map[string]string{"dr.offset.flush.interval.ms": "2000"})
	i.waitMirrored(20_000)
	stopMirrorMaker(t, other)
	m := i.newMilenaFromFile("milena", filepath.Join(i.dir, "mm2.properties"))
	m.start()
	m.waitReady(time.Minute)
	i.waitMirrored(40_000)
	handback := func(args ...string) (string, error) {
		bin, err := buildMilena()
		check(t, err)
		out, err := exec.CommandContext(within(t, time.Minute, "handback ends"), bin, append([]string{"handback", "-c", m.Config()}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := handback(); err == nil || !strings.Contains(out, "still runs") {
		t.Errorf("handback beside milena: %v\n%s", err, out)
	}
	m.Kill()
	if out, err := handback(); err == nil || !strings.Contains(out, "hold more than the journal knows of") {
		t.Errorf("handback after a kill: %v\n%s", err, out)
	}
	m.start()
	m.waitReady(time.Minute)
	m.stop()
	out, err := handback("--write")
	if err != nil || !strings.Contains(out, "written to topic mm2-offsets.primary.internal") {
		t.Fatalf("handback: %v\n%s", err, out)
	}
	if out, err := handback(); err != nil || !strings.Contains(out, "are right already") {
		t.Errorf("handback once more: %v\n%s", err, out)
	}
	other = i.startMirrorMaker(t.Context())
	i.waitMirrored(40_000)
	i.endLoad()
	eventually(t, time.Minute, "MirrorMaker 2 has copied everything", func() (bool, string) {
		for _, topic := range i.topics {
			for _, part := range i.behind(topic) {
				return false, part
			}
		}
		return true, ""
	})
	stopMirrorMaker(t, other)
	if n := i.report(verify.Options{Topics: i.topics, Name: mm2.RemoteTopic, Uncommitted: true}); n < 100_000 {
		t.Errorf("%d records are equal", n)
	}
}

// behind names the partitions of which the target holds fewer records than the source.
func (i *migration) behind(topic string) (parts []string) {
	i.t.Helper()
	source, err := verify.Contents(i.t.Context(), i.sourceClient, topic)
	check(i.t, err)
	target, err := verify.Contents(i.t.Context(), i.targetClient, mm2.RemoteTopic(topic))
	check(i.t, err)
	for partition, c := range source {
		if n := target[partition].Records; n < c.Records {
			parts = append(parts, fmt.Sprintf("%s-%d has %d of %d records", topic, partition, n, c.Records))
		}
	}
	return parts
}

func stopMirrorMaker(t *testing.T, other *proc.Process) {
	t.Helper()
	check(t, other.Signal(syscall.SIGTERM))
	_, err := other.Wait(within(t, time.Minute, "MirrorMaker 2 ends"))
	check(t, err)
}

// MirrorMaker 2 is killed twice within the minute in which it notes no position, so that records are on the target twice, and it passes over
// aborted records. What it left is compared from the beginning: milena adds nothing twice, and every offset translates, old ones too.
func TestEveryOffsetTranslatesAfterMigration(t *testing.T) {
	i, other := startMigration(t, map[string]string{"primary.consumer.isolation.level": "read_committed"})
	ctx := t.Context()
	i.waitMirrored(30_000)
	other.Kill()
	other = i.startMirrorMaker(ctx)
	i.waitMirrored(40_000)
	other.Kill()
	before := map[string]verify.Ends{}
	for _, topic := range i.topics {
		ends, err := verify.ReadEnds(ctx, i.targetClient, mm2.RemoteTopic(topic))
		check(t, err)
		before[topic] = ends
	}
	m := i.newMilenaFromFile("milena", filepath.Join(i.dir, "mm2.properties"), "--rebuild-map")
	m.start()
	m.waitReady(2 * time.Minute)
	i.endLoad()
	i.waitCopied(m, time.Minute, i.topics...)
	m.stop()

	client, err := offsets.Open(ctx, offsets.Options{Client: i.targetClient})
	check(t, err)
	defer client.Close()
	twice := 0
	for _, topic := range i.topics {
		ends, err := verify.ReadEnds(ctx, i.sourceClient, topic)
		check(t, err)
		from, to := readContents(t, i.sourceClient, topic), readContents(t, i.targetClient, mm2.RemoteTopic(topic))
		for partition := range ends.End {
			c := mirroredPartition{t: t, client: client, topic: topic, partition: partition, source: from[partition], sourceEnd: ends.End[partition]}
			twice += c.firstCopies(to[partition], before[topic].End[partition])
			c.translateAll(ctx)
		}
	}
	t.Logf("%d records are there twice, as MirrorMaker 2 left them", twice)
	if twice == 0 {
		t.Error("MirrorMaker 2 left nothing twice: the test shows less than it says")
	}
}

// mirroredPartition is one partition that MirrorMaker 2 and milena have copied.
type mirroredPartition struct {
	t         *testing.T
	client    *offsets.Client
	topic     string
	partition int32
	source    []logRecord
	sourceEnd int64
	first     []logRecord // the copies: of each source record the first one, in order
}

// firstCopies finds the first copy of each record and says how many others there are, all of which must lie below what MirrorMaker 2 wrote.
func (c *mirroredPartition) firstCopies(target []logRecord, mirrorEnd int64) (twice int) {
	c.t.Helper()
	for _, r := range target {
		id, _, _ := strings.Cut(r.id, "#") // the verifier numbers records that are alike
		n := len(c.first)
		if n < len(c.source) {
			if want, _, _ := strings.Cut(c.source[n].id, "#"); want == id {
				c.first = append(c.first, r)
				continue
			}
		}
		twice++
		if r.offset >= mirrorEnd {
			c.t.Fatalf("%s-%d: milena wrote %s at %d, which is out of its turn", c.topic, c.partition, r.id, r.offset)
		}
	}
	if len(c.first) != len(c.source) {
		c.t.Fatalf("%s-%d: %d of %d records are on the target", c.topic, c.partition, len(c.first), len(c.source))
	}
	return twice
}

func (c *mirroredPartition) translateAll(ctx context.Context) {
	c.t.Helper()
	end, err := c.client.Forward(ctx, mm2.RemoteTopic(c.topic), c.partition, c.sourceEnd)
	check(c.t, err)
	i := 0
	for o := int64(0); o < c.sourceEnd; o++ {
		for i < len(c.source) && c.source[i].offset < o {
			i++
		}
		want, hit := end.Target, false
		if i < len(c.source) {
			want, hit = c.first[i].offset, c.source[i].offset == o
		}
		got, err := c.client.Forward(ctx, mm2.RemoteTopic(c.topic), c.partition, o)
		if err != nil || got.Target != want || got.Exact != hit {
			c.t.Fatalf("%s-%d forward %d: %+v, %v; want %d, %v", c.topic, c.partition, o, got, err, want, hit)
		}
	}
	i = 0
	for o := int64(0); o < end.Target; o++ {
		for i < len(c.first) && c.first[i].offset < o {
			i++
		}
		want := c.sourceEnd
		if i < len(c.first) {
			want = c.source[i].offset
		}
		got, err := c.client.Reverse(ctx, mm2.RemoteTopic(c.topic), c.partition, o)
		if err != nil || got.Source != want {
			c.t.Fatalf("%s-%d reverse %d: %+v, %v; want %d", c.topic, c.partition, o, got, err, want)
		}
	}
}
