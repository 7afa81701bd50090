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

// migration is a load on 50 partitions that MirrorMaker 2 copies first. MirrorMaker 2 and milena read the same mm2.properties.
type migration struct {
	*pair
	topics       []string
	streams      []*load.Stream
	transactions chan error
	properties   map[string]string // added to mm2.properties
}

// startMigration starts the load and a MirrorMaker 2 that copies it.
func startMigration(t *testing.T, properties map[string]string) (*migration, *proc.Process) {
	t.Helper()
	g := &migration{
		pair: startPair(t, kafka.Options{}, kafka.Options{}), topics: []string{"plain", "transactions", "compacted", "few", "empty"},
		transactions: make(chan error, 1), properties: properties,
	}
	g.createTopic("plain", 38, 1)
	g.createTopic("transactions", 6, 1)
	g.createTopic("few", 2, 1)
	g.createTopic("empty", 2, 1)
	compact(t, g.pair, "compacted")
	check(t, g.writer(load.Options{Topic: "few", Partitions: 2}).Write(t.Context(), 3))
	ctx := t.Context()
	plain := load.Options{Topic: "plain", Partitions: 38, Shapes: []load.Shape{load.Sized(200), load.Headers, load.Binary, load.NullKey, load.Tombstone}}
	g.streams = append(g.streams, g.writer(plain).Stream(ctx, 6000))
	keyed := load.Options{Topic: "compacted", Partitions: 2, Shapes: []load.Shape{load.Keyed("a", load.Sized(300)), load.Keyed("b", load.Sized(300))}}
	g.streams = append(g.streams, g.writer(keyed).Stream(ctx, 300))
	go func() {
		_, err := load.Transactions(ctx, g.source, load.Options{Topic: "transactions", Partitions: 6}, 500, 30)
		g.transactions <- err
	}()
	return g, g.startMirrorMaker(ctx)
}

func (g *migration) startMirrorMaker(ctx context.Context) *proc.Process {
	g.t.Helper()
	mirrorMaker, err := mm2.Start(ctx, g.source.Jars(), g.dir, mm2.Options{
		Primary: g.source.Addrs(), DR: g.target.Addrs(), Topics: strings.Join(g.topics, ","), Properties: g.properties,
	})
	check(g.t, err)
	return mirrorMaker
}

func stopMirrorMaker(t *testing.T, mirrorMaker *proc.Process) {
	t.Helper()
	check(t, mirrorMaker.Signal(syscall.SIGTERM))
	_, err := mirrorMaker.Wait(within(t, time.Minute, "MirrorMaker 2 ends"))
	check(t, err)
}

// newMilenaForMM2File is a milena that runs with MirrorMaker 2's file; args are added to its command line.
func (g *migration) newMilenaForMM2File(args ...string) *milena {
	g.t.Helper()
	return g.newMilenaFromFile("milena", filepath.Join(g.dir, "mm2.properties"), args...)
}

// waitMirrored waits until the copy of the plain topic has grown by this many records, whichever of the two writes it, and every partition
// that has records on the source has some on the target.
func (g *migration) waitMirrored(more int64) {
	g.t.Helper()
	before := int64(0)
	if ends, err := verify.ReadEnds(g.t.Context(), g.targetClient, mm2.RemoteTopic("plain")); err == nil {
		before = sum(ends.End)
	}
	eventually(g.t, 2*time.Minute, fmt.Sprintf("%d more records are copied", more), func() (bool, string) {
		var plain int64
		for _, topic := range g.topics {
			ends, err := verify.ReadEnds(g.t.Context(), g.targetClient, mm2.RemoteTopic(topic))
			if err != nil {
				return false, err.Error()
			}
			for partition, end := range ends.End {
				if end == 0 && topic != "empty" {
					return false, fmt.Sprintf("no records of %s-%d", topic, partition)
				}
			}
			if topic == "plain" {
				plain = sum(ends.End)
			}
		}
		return plain >= before+more, fmt.Sprintf("%d records, %d before", plain, before)
	})
}

func sum(ends map[int32]int64) (n int64) {
	for _, end := range ends {
		n += end
	}
	return n
}

// endLoad stops the producers and waits until all their records are acknowledged.
func (g *migration) endLoad() {
	g.t.Helper()
	for _, s := range g.streams {
		_, err := s.Stop(within(g.t, time.Minute, "the load ends"))
		check(g.t, err)
	}
	select {
	case err := <-g.transactions:
		check(g.t, err)
	case <-within(g.t, 2*time.Minute, "the transactions end").Done():
		g.t.Fatal("the transactions do not end")
	}
}

// verifyMirrored verifies all copies and that no partition has an anomaly. Without isolation.level=read_committed in the file, MirrorMaker 2
// and milena copy aborted records too.
func (g *migration) verifyMirrored(m *milena, atLeast int64) {
	g.t.Helper()
	g.waitCopied(m, time.Minute, g.topics...)
	if n := g.runVerifier(verify.Options{Topics: g.topics, Name: mm2.RemoteTopic, Uncommitted: g.properties["primary.consumer.isolation.level"] == ""}); n < atLeast {
		g.t.Errorf("%d records are equal, want at least %d", n, atLeast)
	}
	for _, part := range m.partitions() {
		if part.State != "replicating" {
			g.t.Errorf("%s-%d is %s: %+v", part.Topic, part.Partition, part.State, part.Anomaly)
		}
	}
}

// MirrorMaker 2 copies the first half of a load and stops. With the same file, milena copies the rest: no record is missing or duplicated.
func TestMilenaContinuesMirrorMakersCopy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		properties map[string]string
		stop       func(*testing.T, *proc.Process) // SIGKILL if nil
		long       bool
	}{
		{name: "after kill -9"},
		// Its transactions are open then: their records count only when the coordinator has ended them.
		{name: "after kill -9 with exactly-once", long: true, properties: map[string]string{
			"dr.exactly.once.source.support": "enabled", "dedicated.mode.enable.internal.rest": "true", "listeners": "http://127.0.0.1:0",
			"primary.consumer.isolation.level": "read_committed", "dr.producer.transaction.timeout.ms": "15000",
		}},
		// Most files have both directions. Heartbeats are copied then too.
		{name: "after a clean stop with both directions", long: true, stop: stopMirrorMaker, properties: map[string]string{
			"dr->primary.enabled": "true", "dr->primary.topics": "local", "dr->primary.emit.heartbeats.enabled": "true",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.long {
				long(t)
			}
			g, mirrorMaker := startMigration(t, tt.properties)
			g.waitMirrored(40_000)
			m := g.newMilenaForMM2File()
			if tt.stop == nil {
				mirrorMaker.Kill()
			} else {
				refusesBesideMirrorMaker(t, m)
				tt.stop(t, mirrorMaker)
			}
			m.start()
			m.waitReady(time.Minute)
			g.waitMirrored(60_000)
			g.endLoad()
			g.verifyMirrored(m, 100_000)
			m.waitMetric(time.Second, 48, "milena_migrated_partitions_total")
			m.stop()
		})
	}
}

// refusesBesideMirrorMaker starts milena while MirrorMaker 2 runs. It must end and report why.
func refusesBesideMirrorMaker(t *testing.T, m *milena) {
	t.Helper()
	m.start()
	m.waitExit(time.Minute, 1)
	if out := m.Tail(5); !strings.Contains(out, "MirrorMaker 2 still runs (its group ") || !strings.Contains(out, " has 1 member); stop it first") {
		t.Errorf("milena does not report why it ended:\n%s", out)
	}
}

// milena copies for a while and MirrorMaker 2 takes its work back, during a load. No record is missing or duplicated.
func TestRollbackToMirrorMaker(t *testing.T) {
	long(t)
	t.Parallel()
	g, mirrorMaker := startMigration(t, map[string]string{"dr.offset.flush.interval.ms": "2000"})
	g.waitMirrored(20_000)
	stopMirrorMaker(t, mirrorMaker)
	m := g.newMilenaForMM2File()
	m.start()
	m.waitReady(time.Minute)
	g.waitMirrored(40_000)
	rollBack(t, m)

	mirrorMaker = g.startMirrorMaker(t.Context())
	g.waitMirrored(40_000)
	g.endLoad()
	eventually(t, time.Minute, "MirrorMaker 2 has copied everything", func() (bool, string) {
		for _, topic := range g.topics {
			for _, part := range g.behind(topic) {
				return false, part
			}
		}
		return true, ""
	})
	stopMirrorMaker(t, mirrorMaker)
	if n := g.runVerifier(verify.Options{Topics: g.topics, Name: mm2.RemoteTopic, Uncommitted: true}); n < 100_000 {
		t.Errorf("%d records are equal", n)
	}
}

// rollBack stops milena and writes MirrorMaker 2's connector offsets. The verb refuses while milena runs, and after a kill, when the target
// has records that are not journaled.
func rollBack(t *testing.T, m *milena) {
	t.Helper()
	verb := func(args ...string) (string, error) {
		bin, err := buildMilena()
		check(t, err)
		out, err := exec.CommandContext(within(t, time.Minute, "the rollback ends"), bin, append([]string{"rollback", "-c", m.Config()}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := verb(); err == nil || !strings.Contains(out, "still runs") {
		t.Errorf("rollback while milena runs: %v\n%s", err, out)
	}
	m.Kill()
	if out, err := verb(); err == nil || !strings.Contains(out, "has records that the journal does not list") {
		t.Errorf("rollback after a kill: %v\n%s", err, out)
	}
	m.start()
	m.waitReady(time.Minute)
	m.stop()
	out, err := verb("--write")
	if err != nil || !strings.Contains(out, "written to topic mm2-offsets.primary.internal") {
		t.Fatalf("rollback: %v\n%s", err, out)
	}
	if out, err := verb(); err != nil || !strings.Contains(out, "are already correct") {
		t.Errorf("a second rollback: %v\n%s", err, out)
	}
}

// behind lists the partitions of which the target holds fewer records than the source.
func (g *migration) behind(topic string) (parts []string) {
	g.t.Helper()
	source, err := verify.Contents(g.t.Context(), g.sourceClient, topic)
	check(g.t, err)
	target, err := verify.Contents(g.t.Context(), g.targetClient, mm2.RemoteTopic(topic))
	check(g.t, err)
	for partition, c := range source {
		if n := target[partition].Records; n < c.Records {
			parts = append(parts, fmt.Sprintf("%s-%d has %d of %d records", topic, partition, n, c.Records))
		}
	}
	return parts
}

// MirrorMaker 2 is killed twice within the minute between two commits of its offsets, so it leaves duplicates; it also skips aborted records.
// With --rebuild-map, milena compares its copies from the beginning, adds no duplicate, and every offset translates, old ones too.
func TestEveryOffsetTranslatesAfterMigration(t *testing.T) {
	t.Parallel()
	g, mirrorMaker := startMigration(t, map[string]string{"primary.consumer.isolation.level": "read_committed"})
	ctx := t.Context()
	g.waitMirrored(30_000)
	mirrorMaker.Kill()
	mirrorMaker = g.startMirrorMaker(ctx)
	g.waitMirrored(40_000)
	mirrorMaker.Kill()
	mirrored := map[string]verify.Ends{}
	for _, topic := range g.topics {
		ends, err := verify.ReadEnds(ctx, g.targetClient, mm2.RemoteTopic(topic))
		check(t, err)
		mirrored[topic] = ends
	}
	m := g.newMilenaForMM2File("--rebuild-map")
	m.start()
	m.waitReady(2 * time.Minute)
	g.endLoad()
	g.waitCopied(m, time.Minute, g.topics...)
	m.stop()

	client, err := offsets.Open(ctx, offsets.Options{Client: g.targetClient})
	check(t, err)
	defer client.Close()
	duplicates := 0
	for _, topic := range g.topics {
		source, target := readContents(t, g.sourceClient, topic), readContents(t, g.targetClient, mm2.RemoteTopic(topic))
		for partition, end := range endOffsets(t, g.sourceClient, topic)[topic] {
			c := translation{t: t, client: client, topic: mm2.RemoteTopic(topic), partition: partition, source: source[partition], sourceEnd: end}
			duplicates += c.findCopies(target[partition], mirrored[topic].End[partition])
			c.verify(ctx)
		}
	}
	t.Logf("%d records are duplicates of MirrorMaker 2", duplicates)
	if duplicates == 0 {
		t.Error("MirrorMaker 2 left no duplicate: the test proves too little")
	}
}

// findCopies sets copies to the first copy of each source record and returns how many other records the target holds. These are duplicates,
// which must be below mirrorEnd, the end of what MirrorMaker 2 wrote.
func (c *translation) findCopies(target []logRecord, mirrorEnd int64) (duplicates int) {
	c.t.Helper()
	for _, r := range target {
		id, _, _ := strings.Cut(r.id, "#") // without the number that tells records of the same content apart
		n := len(c.copies)
		if n < len(c.source) {
			if want, _, _ := strings.Cut(c.source[n].id, "#"); want == id {
				c.copies = append(c.copies, r)
				continue
			}
		}
		duplicates++
		if r.offset >= mirrorEnd {
			c.t.Fatalf("%s-%d: milena wrote %s at %d, out of order", c.topic, c.partition, r.id, r.offset)
		}
	}
	if len(c.copies) != len(c.source) {
		c.t.Fatalf("%s-%d: %d of %d records are on the target", c.topic, c.partition, len(c.copies), len(c.source))
	}
	return duplicates
}
