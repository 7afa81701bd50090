package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// rpo is what a failover would lose, as milena status -c says it.
type rpo struct {
	CompleteUpTo   time.Time `json:"complete_up_to"`
	MissingRecords int64     `json:"missing_records"`
	SeenAt         time.Time `json:"seen_at"`
	Unknown        int       `json:"unknown_partitions"`
	Topics         []struct {
		Topic          string `json:"topic"`
		MissingRecords int64  `json:"missing_records"`
		Behind         []struct {
			Partition      int32 `json:"partition"`
			MissingRecords int64 `json:"missing_records"`
		} `json:"behind"`
	} `json:"topics"`
}

func (m *milena) rpo(t *testing.T) rpo {
	t.Helper()
	out, _ := exec.CommandContext(t.Context(), m.Binary(), "status", "-c", m.Config(), "-o", "json", "--timeout", "20s").Output() // exit code 1: nothing runs
	var flows []struct {
		RPO rpo `json:"rpo"`
	}
	if err := json.Unmarshal(out, &flows); err != nil || len(flows) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	return flows[0].RPO
}

// untilTargetTellsLoss waits until the target alone tells what is missing since a partition was paused: what an instance knows, the journal has seconds later.
func (p *pair) untilTargetTellsLoss(paused time.Time) {
	p.t.Helper()
	config := p.config("orders")
	config["clusters"].(daemon.Map)["source"] = daemon.Map{"brokers": []string{"127.0.0.1:1"}} // nothing listens there
	withoutSource := p.newMilena("without-source", config)
	eventually(p.t, time.Minute, "the target alone tells what is missing", func() (bool, string) {
		said := withoutSource.rpo(p.t)
		isOfPause := said.CompleteUpTo.Before(paused.Add(time.Second)) && said.SeenAt.After(paused.Add(3*time.Second))
		return isOfPause && said.MissingRecords > 0 && said.Unknown == 0, fmt.Sprintf("%+v", said)
	})
}

// The source is killed under load, and so is milena. What the target alone says then is true when the source's log is read again: everything that the source
// had when the copy was complete is copied, and of what was seen no more is missing than it says. One partition is paused, so that something is.
func TestRPOWithoutTheSource(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("orders", 3, 1, "message.timestamp.type=LogAppendTime") // by the clock of this host, as the times of milena are
	w := p.writer(load.Options{Topic: "orders", Partitions: 3})
	check(t, w.Write(ctx, 300))
	m := p.startMilena(p.config("orders"))
	p.waitCopied(m, time.Minute, "orders")
	stream := w.Stream(ctx, 300)
	out, err := exec.CommandContext(ctx, m.Binary(), "pause", "-c", m.Config(), "--partition", "orders-1", "--reason", "test").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	paused := time.Now()
	p.untilTargetTellsLoss(paused)
	p.source.Broker(1).Kill()
	pause(t, 3*time.Second)
	m.Kill()
	unsent, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, _ = stream.Stop(unsent) // the source is gone
	said := m.rpo(t)
	t.Logf("%+v; paused at %v", said, paused)
	if said.Unknown > 0 || said.CompleteUpTo.IsZero() || said.CompleteUpTo.After(paused.Add(time.Second)) || said.SeenAt.Before(paused) || said.MissingRecords == 0 {
		t.Errorf("with a partition that is paused since %v: %+v", paused, said)
	}

	if len(said.Topics) != 1 || said.Topics[0].Topic != "orders" || said.Topics[0].MissingRecords != said.MissingRecords || said.Topics[0].Behind[0].Partition != 1 {
		t.Errorf("by topic and partition: %+v", said.Topics)
	}
	worst := regexp.MustCompile(`(?m)^    orders: \d+ records of \d partitions? missing, complete up to `)
	eventually(t, 30*time.Second, "the table names the topic, once that is longer ago than in a busy flow", func() (bool, string) {
		table, _ := m.tryCommand(t, "status") // exit code 1: nothing runs
		return worst.MatchString(table), table
	})

	check(t, p.source.Broker(1).Restart(ctx))
	check(t, p.source.WaitBrokers(within(t, 30*time.Second, "the source is back"), 1))
	have := appendTimes(t, p.source, "orders")
	copied := appendTimes(t, p.target, "source.orders")
	lost := int64(0)
	for partition, times := range have {
		n := len(copied[partition])
		for i, at := range times {
			switch {
			case i < n:
			case at.Before(said.CompleteUpTo):
				t.Errorf("record %d of partition %d was on the source at %v, and is not copied", i, partition, at)
			case at.Before(said.SeenAt):
				lost++
			}
		}
	}
	if lost > said.MissingRecords || lost == 0 {
		t.Errorf("%d records that were seen are not copied, and the status said at most %d", lost, said.MissingRecords)
	}
}

// appendTimes are the timestamps of all records of a topic, by partition and offset.
func appendTimes(t *testing.T, c *kafka.Cluster, topic string) map[int32][]time.Time {
	t.Helper()
	cl := client(t, c)
	ctx := within(t, 30*time.Second, "all records of "+topic+" are read")
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	check(t, err)
	from, next := make(map[int32]kgo.Offset), make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) { from[o.Partition] = kgo.NewOffset().AtStart() })
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.KeepControlRecords())
	check(t, err)
	defer reader.Close()
	found := make(map[int32][]time.Time)
	for left := true; left; {
		fetches := reader.PollFetches(ctx)
		check(t, ctx.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			if next[r.Partition] = r.Offset + 1; !r.Attrs.IsControl() {
				found[r.Partition] = append(found[r.Partition], r.Timestamp)
			}
		})
		left = false
		ends.Each(func(o kadm.ListedOffset) { left = left || next[o.Partition] < o.Offset })
	}
	return found
}
