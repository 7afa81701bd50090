package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// recoveryReport is what milena failover and failback print as JSON, as far as these tests look at it.
type recoveryReport struct {
	State string `json:"state"`
	Loss  rpo    `json:"loss"`
	Lost  struct {
		Records  int64 `json:"records"`
		Exported int64 `json:"exported"`
		LeftOut  int64 `json:"left_out"`
	} `json:"diverged"`
	Clients struct {
		Cluster string `json:"cluster"`
	} `json:"clients"`
}

// recovers runs a command that carries out a recovery, and returns its report.
func (m *milena) recovers(t *testing.T, args ...string) (r recoveryReport) {
	t.Helper()
	ctx := within(t, 2*time.Minute, "milena "+args[0])
	out, err := exec.CommandContext(ctx, m.Binary(), append(args, "-c", m.Config(), "--flow", "source-target", "--reason", "test", "--output", "json")...).Output()
	if err != nil {
		t.Fatalf("milena %v: %v\n%s", args, err, out)
	}
	check(t, json.Unmarshal(out, &r))
	t.Logf("milena %v: %+v", args, r)
	return r
}

// The source is killed under load, and clients fail over. What the failover says is lost is true once the log of the old source is read. The source comes
// back, and gets records that nobody copies. Then clients go home: what only the old source had is in a file, to the last record, and all others are
// copied once, in order.
func TestFailoverAndFailback(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("orders", 3, 1, "message.timestamp.type=LogAppendTime") // by the clock of this host, as the times of milena are
	check(t, kafka.CreateTopic(ctx, p.targetAdmin, "orders", 3, 1))
	w := p.writer(load.Options{Topic: "orders", Partitions: 3})
	check(t, w.Write(ctx, 300))
	commitOffset(t, p.sourceAdmin, "billing", "orders", 0, 50, "")
	both := p.config("orders")
	both["flows"] = append(both["flows"].([]daemon.Map), daemon.Map{"source": "target", "target": "source", "topics": []string{"orders"}, "groups_back": []string{".*"}})
	m := p.startMilena(syncGroupsOften(both))
	waitNoLag(t, m, "orders")
	waitGroupsSynced(t, p.sourceAdmin, p.targetAdmin, []string{"billing"}, []string{"orders"}, remoteTopic)
	stream := w.Stream(ctx, 300)
	m.command(t, "pause", "--flow", "source-target", "--partition", "orders-1", "--reason", "test") // so that something is lost
	p.untilTargetTellsLoss(time.Now())
	p.source.Broker(1).Kill()
	_, _ = stream.Stop(within(t, time.Second, "the load ends")) // the source is gone
	w.Close()

	said := m.recovers(t, "failover")
	if said.State != "done" || said.Loss.MissingRecords == 0 || said.Loss.Unknown > 0 || said.Clients.Cluster != "target" {
		t.Errorf("%+v", said)
	}
	copied, err := verify.Contents(ctx, p.targetClient, "source.orders")
	check(t, err)
	check(t, p.source.Broker(1).Restart(ctx))
	check(t, p.source.WaitBrokers(within(t, 30*time.Second, "the source is back"), 1))
	p.checkLoss(said.Loss)
	m.command(t, "resume", "--flow", "source-target", "--partition", "orders-1", "--reason", "test")
	p.write(p.source, "orders", 500, "only the old source")
	p.write(p.target, "orders", 100, "meanwhile")
	waitCopies(t, p, 100, "target.orders")
	if now, err := verify.Contents(ctx, p.targetClient, "source.orders"); err != nil || !maps.Equal(now, copied) {
		t.Errorf("%v: after the failover, the copies changed from %+v to %+v", err, copied, now)
	}

	only := p.onlyOnSource()
	onTarget, onSource := readContents(t, p.targetClient, "source.orders")[0], readContents(t, p.sourceClient, "orders")[0]
	commitOffset(t, p.targetAdmin, "billing", "source.orders", 0, onTarget[80].offset, "")
	file := filepath.Join(p.dir, "diverged.jsonl")
	back := m.recovers(t, "failback", "--diverged", "export", "--export-to", file, "--freeze", "none")
	if n := int64(len(only)); back.State != "done" || back.Lost.Records != n || back.Lost.Exported != n || back.Lost.LeftOut != n || back.Clients.Cluster != "source" {
		t.Errorf("%d records are only on the source: %+v", n, back)
	}
	exported := readExport(t, file)
	if !slices.Equal(exported, only) {
		t.Errorf("the file has %d records, and %d are only on the old source", len(exported), len(only))
	}
	p.write(p.source, "orders", 200, "home again")
	waitNoLag(t, m, "orders")
	p.checkCopies(exported)
	eventually(t, 20*time.Second, "the group is at home where it was on the target", func() (bool, string) {
		at := readCommitted(t, p.sourceAdmin, []string{"billing"}).at("billing", "orders", 0)
		return at == onSource[80].offset, fmt.Sprintf("at %d, want %d", at, onSource[80].offset)
	})
	m.stop()
}

// checkLoss compares what a failover said with the logs.
func (p *pair) checkLoss(said rpo) {
	p.t.Helper()
	have, copied := appendTimes(p.t, p.source, "orders"), appendTimes(p.t, p.target, "source.orders")
	lost := int64(0)
	for partition, times := range have {
		for i, at := range times {
			switch {
			case i < len(copied[partition]):
			case at.Before(said.CompleteUpTo):
				p.t.Errorf("record %d of partition %d was on the source at %v, and is not copied; complete up to %v", i, partition, at, said.CompleteUpTo)
			case at.Before(said.SeenAt):
				lost++
			}
		}
	}
	if lost > said.MissingRecords || lost == 0 {
		p.t.Errorf("%d records that were seen are not copied, and the failover said %d", lost, said.MissingRecords)
	}
}

// write writes n records to the three partitions of a topic.
func (p *pair) write(c *kafka.Cluster, topic string, n int, text string) {
	p.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	check(p.t, err)
	defer cl.Close()
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Partition: int32(i % 3), Value: fmt.Appendf(nil, "%s %d", text, i)} //nolint:gosec // 0 to 2
	}
	check(p.t, cl.ProduceSync(within(p.t, 30*time.Second, "records are written"), records...).FirstErr())
}

// waitCopies waits until a topic of the source has n records.
func waitCopies(t *testing.T, p *pair, n int64, topic string) {
	t.Helper()
	eventually(t, time.Minute, topic+" has what was written meanwhile", func() (bool, string) {
		found, err := verify.Contents(t.Context(), p.sourceClient, topic)
		sum := int64(0)
		for _, c := range found {
			sum += c.Records
		}
		return err == nil && sum >= n, fmt.Sprint(sum, err)
	})
}

// onlyOnSource are the records of the source behind what is copied, by partition and offset. The copies must be the beginning of the source.
func (p *pair) onlyOnSource() (list []string) {
	p.t.Helper()
	have, copied := readContents(p.t, p.sourceClient, "orders"), readContents(p.t, p.targetClient, "source.orders")
	for partition := range int32(3) {
		n := len(copied[partition])
		for i, r := range have[partition] {
			switch {
			case i >= n:
				list = append(list, fmt.Sprintf("%d %d", partition, r.offset))
			case r.id != copied[partition][i].id:
				p.t.Fatalf("record %d of partition %d differs", i, partition)
			}
		}
	}
	return list
}

// readExport reads which records an export has.
func readExport(t *testing.T, file string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var line struct {
			Partition int32 `json:"partition"`
			Offset    int64 `json:"offset"`
		}
		check(t, json.Unmarshal(lines.Bytes(), &line))
		list = append(list, fmt.Sprintf("%d %d", line.Partition, line.Offset))
	}
	check(t, lines.Err())
	return list
}

// checkCopies checks that the target has every record of the source once, in order, but for those that were exported.
func (p *pair) checkCopies(exported []string) {
	p.t.Helper()
	have, copied := readContents(p.t, p.sourceClient, "orders"), readContents(p.t, p.targetClient, "source.orders")
	for partition := range int32(3) {
		want := slices.DeleteFunc(have[partition], func(r logRecord) bool {
			return slices.Contains(exported, fmt.Sprintf("%d %d", partition, r.offset))
		})
		got := copied[partition]
		if len(want) != len(got) {
			p.t.Errorf("partition %d: %d records are copied, want %d", partition, len(got), len(want))
		}
		for i := range min(len(want), len(got)) {
			if want[i].id != got[i].id {
				p.t.Fatalf("partition %d: record %d of the copy is not that of source offset %d", partition, i, want[i].offset)
			}
		}
	}
}
