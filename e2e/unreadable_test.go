package e2e_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/offsets"
)

// Somebody else's records lie in the topics that milena keeps its books in: nothing, noise, tombstones, and what a newer version might write.
func TestUnreadableRecordsInInternalTopics(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	random := seeded(t)
	topics := []string{"plain", "transactions"}
	p.createTopic("plain", 2, 1)
	p.createTopic("transactions", 2, 1)
	w := p.writer(load.Options{Topic: "plain", Partitions: 2, Shapes: []load.Shape{load.Sized(100)}})
	check(t, w.Write(ctx, 1000))
	_, err := load.Transactions(ctx, p.source, load.Options{Topic: "transactions", Partitions: 2}, 40, 20)
	check(t, err)
	m := p.startMilena(syncGroupsOften(p.config(topics...)))
	p.waitCopied(m, time.Minute, topics...)
	groups := commitScatteredGroups(t, p, random, topics...)
	waitGroupsSynced(t, p.sourceAdmin, p.targetAdmin, groups, topics, remoteTopic)
	eventually(t, 30*time.Second, "heartbeats have come", func() (bool, string) {
		all, err := p.targetAdmin.ListTopics(ctx)
		return err == nil && all.Has("source.heartbeats") && all.Has("mm2-offset-syncs.source.internal"), fmt.Sprint(err, all.Names())
	})

	noise := make([]byte, 200)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	checkpoint := offsets.Checkpoint{Group: "zero", Topic: remoteTopic("plain"), Partition: 0, Source: 5, Target: 999_999}
	newer := checkpoint.AppendValue(nil)
	binary.BigEndian.PutUint16(newer, 7)
	heartbeat := offsets.Heartbeat{Source: "nobody", Target: "nowhere", At: time.Now()}
	strange := []*kgo.Record{
		{},
		{Key: []byte("strange"), Value: []byte("strange")},
		{Key: noise, Value: noise[:100]},
		{Key: noise[:3]},
		{Value: noise},
		{Key: checkpoint.AppendKey(nil), Value: newer[:5]},
	}
	written := 0
	write := func(topic string, records ...*kgo.Record) {
		t.Helper()
		for _, r := range records {
			one := *r
			one.Topic = topic
			if one.Key == nil {
				continue // a compacted topic takes no record without a key
			}
			check(t, p.targetClient.ProduceSync(ctx, &one).FirstErr())
			written++
		}
	}
	write("heartbeats", strange...)
	write("source.checkpoints.internal", strange...)
	write("mm2-offset-syncs.source.internal", strange...)
	write("source.checkpoints.internal", &kgo.Record{Key: checkpoint.AppendKey(nil), Value: newer})
	write("heartbeats", &kgo.Record{Key: heartbeat.AppendKey(nil)}) // a tombstone
	for range 64 {
		write("milena.source-target.journal", strange[1], strange[2])
	}
	t.Logf("%d strange records written", written)

	judge := func(are committedOffsets) outcome {
		var o outcome
		were := readCommitted(t, p.sourceAdmin, groups)
		for _, topic := range topics {
			o = o.add(groupMove{
				from: topic, to: remoteTopic(topic), fromRecords: readContents(t, p.sourceClient, topic), toRecords: readContents(t, p.targetClient, remoteTopic(topic)),
				fromOffsets: were, toOffsets: are, groups: groups,
			}.outcome())
		}
		return o
	}
	t.Run("milena goes on, and starts again", func(t *testing.T) {
		check(t, w.Write(ctx, 200))
		p.waitCopied(m, time.Minute, topics...)
		m.Kill()
		check(t, w.Write(ctx, 200))
		m.start()
		m.waitReady(30 * time.Second)
		m.waitMetric(10*time.Second, 128, "milena_journal_unreadable_records_total")
		p.waitCopied(m, time.Minute, topics...)
		p.verify(remoteTopic, topics...)
		for _, group := range groups {
			for partition, end := range endOffsets(t, p.sourceClient, "plain")["plain"] {
				commitOffset(t, p.sourceAdmin, group, "plain", partition, end-random.Int64N(100), "")
			}
		}
		m.waitGroupSyncs("source-target")
		if o := judge(readCommitted(t, p.targetAdmin, groups)); o.skipped+o.reread+o.missing > 0 {
			t.Errorf("%s", o)
		}
		if got := refusals(t, m); len(got) > 0 {
			t.Errorf("refused: %v", got)
		}
	})
	t.Run("the library counts them and believes none", func(t *testing.T) {
		client, err := offsets.Open(ctx, offsets.Options{Client: p.targetClient})
		check(t, err)
		defer client.Close()
		are := committedOffsets{}
		for _, group := range groups {
			positions, err := client.Group(ctx, "source", group)
			check(t, err)
			found := kadm.OffsetResponses{}
			for _, one := range positions {
				check(t, one.Err)
				found.Add(kadm.OffsetResponse{Offset: kadm.Offset{Topic: one.TargetTopic, Partition: one.Partition, At: one.Target}})
			}
			are[group] = found
		}
		if o := judge(are); o.skipped+o.reread+o.missing > 0 {
			t.Errorf("%s", o)
		}
		_, err = client.Heartbeats(ctx)
		check(t, err)
		if client.Unreadable() < 6 {
			t.Errorf("only %d records are unreadable", client.Unreadable())
		}
		t.Logf("%d records are unreadable", client.Unreadable())
	})
	t.Run("translate answers", func(t *testing.T) {
		out, errs, code := translate(t, m, "--group", "random-0")
		if code != 0 || !strings.Contains(out, "source.transactions") || strings.Contains(errs, "goroutine") {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
	})
	t.Run("without source and without checkpoints it says what is missing", func(t *testing.T) {
		m.stop()
		p.source.Broker(1).Kill()
		_, err := p.targetAdmin.DeleteTopic(ctx, "source.checkpoints.internal")
		check(t, err)
		eventually(t, 30*time.Second, "the topic is gone", func() (bool, string) {
			all, err := p.targetAdmin.ListTopics(ctx)
			return err == nil && !all.Has("source.checkpoints.internal"), fmt.Sprint(err)
		})
		out, errs, code := translate(t, m, "--group", "random-0")
		if code != 1 || !strings.Contains(errs, "source.checkpoints.internal does not exist") {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
		t.Logf("says: %s", strings.TrimSpace(errs))
		out, errs, code = translate(t, m, "--topic", "plain", "--partition", "0", "--offset", "10") // the journal is there
		if code != 0 {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
		check(t, p.source.Broker(1).Restart(ctx))
		check(t, p.source.WaitBrokers(within(t, time.Minute, "the source is back"), 1))
	})
	t.Run("checkpoints that were deleted are written again", func(t *testing.T) {
		m.start()
		m.waitReady(30 * time.Second)
		eventually(t, 30*time.Second, "all checkpoints are there", func() (bool, string) {
			client, err := offsets.Open(ctx, offsets.Options{Client: p.targetClient})
			check(t, err)
			defer client.Close()
			list, err := client.Checkpoints(ctx, "source")
			return len(list) == 4*len(groups), fmt.Sprintf("%d, %v", len(list), err)
		})
		p.waitCopied(m, time.Minute, topics...)
		p.verify(remoteTopic, topics...)
		m.stop()
	})
}
