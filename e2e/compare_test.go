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

// comparison is what a milena in shadow mode prints in the end.
type comparison struct {
	Records struct {
		Equal int64 `json:"equal"`
		Twice int64 `json:"twice"`
	} `json:"records"`
	Partitions []struct {
		Topic       string `json:"topic"`
		Partition   int32  `json:"partition"`
		SourceEnd   int64  `json:"source_end"`
		Mirrored    int64  `json:"mirrored"`
		Milena      int64  `json:"milena"`
		LagRecords  int64  `json:"lag_records"`
		Equal       int64  `json:"equal"`
		Twice       int64  `json:"twice"`
		NotOnSource int64  `json:"not_on_source"`
		NotOnTarget int64  `json:"not_on_target"`
	} `json:"partitions"`
	Differences []string `json:"differences"`
	Notes       []string `json:"notes"`
}

// compareRun is a milena in shadow mode beside a MirrorMaker 2.
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

// ended waits for the end and gives exit code and outcome.
func (c *compareRun) ended() (int, comparison) {
	c.t.Helper()
	code, err := c.process.Wait(within(c.t, 2*time.Minute, "the comparison ends"))
	check(c.t, err)
	data, err := os.ReadFile(c.log)
	check(c.t, err)
	var flows []comparison
	if err := json.NewDecoder(strings.NewReader(string(data))).Decode(&flows); err != nil || len(flows) != 1 {
		c.t.Fatalf("%v in what it printed:\n%.4000s", err, data)
	}
	return code, flows[0]
}

// stop is what Ctrl-C does.
func (c *compareRun) stop() (int, comparison) {
	c.t.Helper()
	check(c.t, c.process.Signal(syscall.SIGINT))
	return c.ended()
}

// topicsAndGroups are the topics and groups of a cluster, without those that MirrorMaker 2 and the test make.
func topicsAndGroups(t *testing.T, admin *kadm.Client) []string {
	t.Helper()
	topics, err := admin.ListTopicsWithInternal(t.Context())
	check(t, err)
	groups, err := admin.ListGroups(t.Context())
	check(t, err)
	return slices.Concat(topics.Names(), groups.Groups())
}

// A milena looks on while MirrorMaker 2 copies: first all is well; then MirrorMaker 2 is killed and copies a stretch again, and somebody else
// writes into the copy. Both are counted exactly, and there is no trace of milena.
func TestCompareBesideMirrorMaker(t *testing.T) {
	i, other := startMigration(t, nil)
	i.waitMirrored(20_000)
	before := [][]string{topicsAndGroups(t, i.sourceAdmin), topicsAndGroups(t, i.targetAdmin)}
	code, twins := i.startCompare("twins", "--for", "15s").ended()
	if code != 0 || len(twins.Differences) > 0 || twins.Records.Equal < 20_000 {
		t.Fatalf("exit %d, %d records are equal, differences: %q", code, twins.Records.Equal, twins.Differences)
	}
	t.Logf("twins: %d records are equal in %d partitions; notes: %q", twins.Records.Equal, len(twins.Partitions), twins.Notes)

	shadow := i.startCompare("shadow")
	i.waitMirrored(60_000)
	other.Kill()
	i.startMirrorMaker(t.Context())
	i.endLoad()
	i.waitAllMirrored("plain")
	foreign := &kgo.Record{Topic: mm2.RemoteTopic("few"), Partition: 1, Value: []byte("somebody else's")}
	writer, err := i.target.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	check(t, err)
	defer writer.Close()
	check(t, writer.ProduceSync(t.Context(), foreign).FirstErr())
	code, seen := shadow.stop()
	if code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	i.verifyDuplicates(seen)
	want := "few-1: 1 record of primary.few-1 not on the source"
	if !slices.ContainsFunc(seen.Differences, func(d string) bool { return strings.HasPrefix(d, want) }) {
		t.Errorf("differences: %q, none begins with %q", seen.Differences, want)
	}
	for n, admin := range []*kadm.Client{i.sourceAdmin, i.targetAdmin} {
		if after := topicsAndGroups(t, admin); !slices.Equal(before[n], after) {
			t.Errorf("topics and groups were %q and are %q", before[n], after)
		}
	}
}

// waitAllMirrored waits until the copy of a topic that is no longer written ends with the records that the source ends with.
func (i *migration) waitAllMirrored(topic string) {
	i.t.Helper()
	want := lastRecords(i.t, i.source, i.sourceClient, topic)
	eventually(i.t, 2*time.Minute, "MirrorMaker 2 has copied all", func() (bool, string) {
		got := lastRecords(i.t, i.target, i.targetClient, mm2.RemoteTopic(topic))
		for partition, text := range want {
			if got[partition] != text {
				return false, fmt.Sprintf("%s-%d ends with %.80q, its copy with %.80q", topic, partition, text, got[partition])
			}
		}
		return true, ""
	})
}

// lastRecords are the last records of a topic's partitions, in which no transaction ends.
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

// verifyDuplicates holds the counts against the logs: what the copy of a plain topic has more than the source stands there twice.
func (i *migration) verifyDuplicates(seen comparison) {
	i.t.Helper()
	source, err := verify.ReadEnds(i.t.Context(), i.sourceClient, "plain")
	check(i.t, err)
	target, err := verify.ReadEnds(i.t.Context(), i.targetClient, mm2.RemoteTopic("plain"))
	check(i.t, err)
	var sum int64
	for _, p := range seen.Partitions {
		if p.Topic != "plain" {
			continue
		}
		want := target.End[p.Partition] - source.End[p.Partition]
		sum += want
		if p.Twice != want || p.NotOnSource != 0 || p.NotOnTarget != 0 || p.LagRecords != 0 || p.Mirrored != source.End[p.Partition] || p.Milena != p.SourceEnd {
			i.t.Errorf("%+v; the copy has %d records more than the source", p, want)
		}
	}
	if sum == 0 {
		i.t.Error("MirrorMaker 2 copied nothing again: the test shows nothing")
	}
	i.t.Logf("%d records of the plain topic are there twice, %d in all", sum, seen.Records.Twice)
}
