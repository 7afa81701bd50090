package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/mm2"
	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/e2e/verify"
)

// comparison is the JSON that milena run --compare prints at its end.
type comparison struct {
	Records struct {
		Equal      int64 `json:"equal"`
		Duplicates int64 `json:"twice"`
	} `json:"records"`
	Partitions []struct {
		Topic       string `json:"topic"`
		Partition   int32  `json:"partition"`
		SourceEnd   int64  `json:"source_end"`
		Mirrored    int64  `json:"mirrored"`
		Milena      int64  `json:"milena"`
		LagRecords  int64  `json:"lag_records"`
		Equal       int64  `json:"equal"`
		Duplicates  int64  `json:"twice"`
		NotOnSource int64  `json:"not_on_source"`
		NotOnTarget int64  `json:"not_on_target"`
	} `json:"partitions"`
	Differences []string `json:"differences"`
	Notes       []string `json:"notes"`
}

// compareRun is a running milena run --compare beside a MirrorMaker 2.
type compareRun struct {
	t       *testing.T
	process *proc.Process
	log     string
}

func (p *pair) startCompare(name string, args ...string) *compareRun {
	p.t.Helper()
	bin, err := buildMilena()
	check(p.t, err)
	c := &compareRun{t: p.t, log: filepath.Join(p.dir, name+".log")}
	argv := append([]string{bin, "run", "--compare", "--json", "-c", filepath.Join(p.dir, "mm2.properties")}, args...)
	c.process, err = proc.Start(p.t.Context(), name, c.log, argv)
	check(p.t, err)
	return c
}

// wait waits for the end of the process and returns its exit code and what it printed.
func (c *compareRun) wait() (int, comparison) {
	c.t.Helper()
	code, err := c.process.Wait(within(c.t, 2*time.Minute, "the comparison ends"))
	check(c.t, err)
	data, err := os.ReadFile(c.log)
	check(c.t, err)
	var flows []comparison
	if err := json.NewDecoder(strings.NewReader(string(data))).Decode(&flows); err != nil || len(flows) != 1 {
		c.t.Fatalf("%v in the output:\n%.4000s", err, data)
	}
	return code, flows[0]
}

// interrupt does what Ctrl-C does.
func (c *compareRun) interrupt() (int, comparison) {
	c.t.Helper()
	check(c.t, c.process.Signal(syscall.SIGINT))
	return c.wait()
}

// topicsAndGroups are the names of all topics and groups of a cluster.
func topicsAndGroups(t *testing.T, admin *kadm.Client) []string {
	t.Helper()
	topics, err := admin.ListTopicsWithInternal(t.Context())
	check(t, err)
	groups, err := admin.ListGroups(t.Context())
	check(t, err)
	return slices.Concat(topics.Names(), groups.Groups())
}

// milena compares while MirrorMaker 2 copies. The first comparison finds no difference. During the second, MirrorMaker 2 is killed and copies
// some records again, and another producer writes to a copy: both are counted exactly. No topic and no group is
// created by milena.
func TestCompareBesideMirrorMaker(t *testing.T) {
	long(t)
	t.Parallel()
	g, mirrorMaker := startMigration(t, nil)
	g.waitMirrored(20_000)
	before := [][]string{topicsAndGroups(t, g.sourceAdmin), topicsAndGroups(t, g.targetAdmin)}
	code, first := g.startCompare("compare-1", "--for", "15s").wait()
	if code != 0 || len(first.Differences) > 0 || first.Records.Equal < 20_000 {
		t.Fatalf("exit code %d, %d records are equal, differences: %q", code, first.Records.Equal, first.Differences)
	}
	t.Logf("%d records are equal in %d partitions; notes: %q", first.Records.Equal, len(first.Partitions), first.Notes)

	second := g.startCompare("compare-2")
	g.waitMirrored(60_000)
	mirrorMaker.Kill()
	g.startMirrorMaker(t.Context())
	g.endLoad()
	g.waitMirroredToEnd("plain")
	g.writeForeignRecord()
	code, found := second.interrupt()
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	g.verifyDuplicates(found)
	want := "few-1: 1 record of primary.few-1 not on the source"
	if !slices.ContainsFunc(found.Differences, func(d string) bool { return strings.HasPrefix(d, want) }) {
		t.Errorf("differences: %q, none begins with %q", found.Differences, want)
	}
	for n, admin := range []*kadm.Client{g.sourceAdmin, g.targetAdmin} {
		if after := topicsAndGroups(t, admin); !slices.Equal(before[n], after) {
			t.Errorf("topics and groups were %q and are %q", before[n], after)
		}
	}
}

// writeForeignRecord writes a record to a copy.
func (g *migration) writeForeignRecord() {
	g.t.Helper()
	client, err := g.target.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	check(g.t, err)
	defer client.Close()
	record := &kgo.Record{Topic: mm2.RemoteTopic("few"), Partition: 1, Value: []byte("of another producer")}
	check(g.t, client.ProduceSync(g.t.Context(), record).FirstErr())
}

// waitMirroredToEnd waits until the copy of a topic that is no longer written to ends with the same records as the source.
func (g *migration) waitMirroredToEnd(topic string) {
	g.t.Helper()
	want := lastRecords(g.t, g.source, g.sourceClient, topic)
	eventually(g.t, 2*time.Minute, "MirrorMaker 2 has copied "+topic+" to its end", func() (bool, string) {
		got := lastRecords(g.t, g.target, g.targetClient, mm2.RemoteTopic(topic))
		for partition, text := range want {
			if got[partition] != text {
				return false, fmt.Sprintf("%s-%d ends with %.80q, its copy with %.80q", topic, partition, text, got[partition])
			}
		}
		return true, ""
	})
}

// lastRecords is the last record of each partition of a topic without transactions.
func lastRecords(t *testing.T, c *kafka.Cluster, client *kgo.Client, topic string) map[int32]string {
	t.Helper()
	ends, err := verify.ReadEnds(t.Context(), client, topic)
	check(t, err)
	from := make(map[int32]kgo.Offset)
	for partition, end := range ends.End {
		if end > 0 {
			from[partition] = kgo.NewOffset().At(end - 1)
		}
	}
	reader, err := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	check(t, err)
	defer reader.Close()
	ctx := within(t, time.Minute, "the last records of "+topic+" are read")
	last := make(map[int32]string)
	for len(last) < len(from) {
		for _, r := range reader.PollFetches(ctx).Records() {
			if r.Offset == ends.End[r.Partition]-1 {
				last[r.Partition] = fmt.Sprintf("%s|%s|%d", r.Key, r.Value, r.Timestamp.UnixMilli())
			}
		}
		check(t, ctx.Err())
	}
	return last
}

// verifyDuplicates compares the counts with the logs: in plain, which has no transactions, the copy holds more records than the source by
// exactly the number of duplicates.
func (g *migration) verifyDuplicates(found comparison) {
	g.t.Helper()
	source, err := verify.ReadEnds(g.t.Context(), g.sourceClient, "plain")
	check(g.t, err)
	target, err := verify.ReadEnds(g.t.Context(), g.targetClient, mm2.RemoteTopic("plain"))
	check(g.t, err)
	var sum int64
	for _, p := range found.Partitions {
		if p.Topic != "plain" {
			continue
		}
		want := target.End[p.Partition] - source.End[p.Partition]
		sum += want
		if p.Duplicates != want || p.NotOnSource != 0 || p.NotOnTarget != 0 || p.LagRecords != 0 || p.Mirrored != source.End[p.Partition] || p.Milena != p.SourceEnd {
			g.t.Errorf("%+v; the copy has %d records more than the source", p, want)
		}
	}
	if sum == 0 {
		g.t.Error("MirrorMaker 2 copied nothing again: the test proves nothing")
	}
	g.t.Logf("%d duplicates in topic plain, %d in all", sum, found.Records.Duplicates)
}
