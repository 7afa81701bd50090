package e2e_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/offsets"
)

// unreadable is a flow whose journal and internal topics hold records that milena cannot read.
type unreadable struct {
	*pair
	random *rand.Rand
	m      *milena
	w      *load.Writer
	topics []string
	groups []string
}

// Other programs have written to the journal and to the internal topics: null records, noise, tombstones, and a version that milena does
// not know. Both milena and the library ignore and count them.
func TestUnreadableRecordsInInternalTopics(t *testing.T) {
	t.Parallel()
	u := &unreadable{pair: startPair(t, kafka.Options{}, kafka.Options{}), random: seeded(t), topics: []string{"plain", "transactions"}}
	u.copyTopics()
	u.writeUnreadable()
	t.Run("milena keeps replicating, and so does the next process", u.keepsReplicating)
	t.Run("the library counts the records and ignores them", u.libraryIgnoresThem)
	t.Run("translate answers", func(t *testing.T) {
		out, errs, code := translate(t, u.m, "--group", "random-0")
		if code != 0 || !strings.Contains(out, "source.transactions") || strings.Contains(errs, "goroutine") {
			t.Errorf("exit code %d\n%s%s", code, out, errs)
		}
	})
	t.Run("translate reports missing checkpoints when the source is down", u.reportsMissingCheckpoints)
	t.Run("deleted checkpoints are written again", u.rewritesCheckpoints)
	u.verify(remoteTopic, u.topics...)
	u.m.stop()
}

// copyTopics starts milena and waits until all topics, including the internal ones, have records.
func (u *unreadable) copyTopics() {
	u.t.Helper()
	ctx := u.t.Context()
	u.createTopic("plain", 2, 1)
	u.createTopic("transactions", 2, 1)
	u.w = u.writer(load.Options{Topic: "plain", Partitions: 2, Shapes: []load.Shape{load.Sized(100)}})
	check(u.t, u.w.Write(ctx, 1000))
	_, err := load.Transactions(ctx, u.source, load.Options{Topic: "transactions", Partitions: 2}, 40, 20)
	check(u.t, err)
	u.m = u.startMilena(syncGroupsOften(u.config(u.topics...)))
	u.waitCopied(u.m, time.Minute, u.topics...)
	u.groups = commitScatteredGroups(u.t, u.pair, u.random, u.topics...)
	waitGroupsSynced(u.t, u.sourceAdmin, u.targetAdmin, u.groups, u.topics, remoteTopic)
	eventually(u.t, 30*time.Second, "heartbeats and offset-syncs are written", func() (bool, string) {
		all, err := u.targetAdmin.ListTopics(ctx)
		return err == nil && all.Has("source.heartbeats") && all.Has("mm2-offset-syncs.source.internal"), fmt.Sprint(err, all.Names())
	})
}

// writeUnreadable writes to the three internal topics and, 128 records, to the journal.
func (u *unreadable) writeUnreadable() {
	u.t.Helper()
	noise := make([]byte, 200)
	for i := range noise {
		noise[i] = byte(u.random.Uint32())
	}
	checkpoint := offsets.Checkpoint{Group: "zero", Topic: remoteTopic("plain"), Partition: 0, Source: 5, Target: 999_999}
	newer := checkpoint.AppendValue(nil)
	binary.BigEndian.PutUint16(newer, 7) // a version that does not exist yet
	heartbeat := offsets.Heartbeat{Source: "nobody", Target: "nowhere", At: time.Now()}
	foreign := []*kgo.Record{
		{},
		{Key: []byte("foreign"), Value: []byte("foreign")},
		{Key: noise, Value: noise[:100]},
		{Key: noise[:3]},
		{Value: noise},
		{Key: checkpoint.AppendKey(nil), Value: newer[:5]},
	}
	written := 0
	write := func(topic string, records ...*kgo.Record) {
		u.t.Helper()
		for _, r := range records {
			one := *r
			one.Topic = topic
			if one.Key == nil {
				continue // a compacted topic refuses a record without a key
			}
			check(u.t, u.targetClient.ProduceSync(u.t.Context(), &one).FirstErr())
			written++
		}
	}
	write("heartbeats", foreign...)
	write("source.checkpoints.internal", foreign...)
	write("mm2-offset-syncs.source.internal", foreign...)
	write("source.checkpoints.internal", &kgo.Record{Key: checkpoint.AppendKey(nil), Value: newer})
	write("heartbeats", &kgo.Record{Key: heartbeat.AppendKey(nil)}) // a tombstone
	for range 64 {
		write("milena.source-target.journal", foreign[1], foreign[2])
	}
	u.t.Logf("%d unreadable records written", written)
}

func (u *unreadable) keepsReplicating(t *testing.T) {
	ctx := t.Context()
	check(t, u.w.Write(ctx, 200))
	u.waitCopied(u.m, time.Minute, u.topics...)
	u.m.Kill()
	check(t, u.w.Write(ctx, 200))
	u.m.start()
	u.m.waitReady(30 * time.Second)
	u.m.waitMetric(10*time.Second, 128, "milena_journal_unreadable_records_total")
	u.waitCopied(u.m, time.Minute, u.topics...)
	u.verify(remoteTopic, u.topics...)
	for _, group := range u.groups {
		for partition, end := range endOffsets(t, u.sourceClient, "plain")["plain"] {
			commitOffset(t, u.sourceAdmin, group, "plain", partition, end-u.random.Int64N(100), "")
		}
	}
	u.m.waitGroupSyncs("source-target")
	if o := u.groupOutcome(u.groups, u.topics, remoteTopic, readCommitted(t, u.targetAdmin, u.groups)); !o.exact() {
		t.Errorf("%s", o)
	}
	if got := refusals(t, u.m); len(got) > 0 {
		t.Errorf("refused: %v", got)
	}
}

func (u *unreadable) libraryIgnoresThem(t *testing.T) {
	client, err := offsets.Open(t.Context(), offsets.Options{Client: u.targetClient})
	check(t, err)
	defer client.Close()
	byLibrary := committedOffsets{}
	for _, group := range u.groups {
		translated, err := client.Group(t.Context(), "source", group)
		check(t, err)
		found := kadm.OffsetResponses{}
		for _, one := range translated {
			check(t, one.Err)
			found.Add(kadm.OffsetResponse{Offset: kadm.Offset{Topic: one.TargetTopic, Partition: one.Partition, At: one.Target}})
		}
		byLibrary[group] = found
	}
	if o := u.groupOutcome(u.groups, u.topics, remoteTopic, byLibrary); !o.exact() {
		t.Errorf("%s", o)
	}
	_, err = client.Heartbeats(t.Context())
	check(t, err)
	if client.Unreadable() < 6 {
		t.Errorf("only %d records are unreadable", client.Unreadable())
	}
	t.Logf("%d records are unreadable", client.Unreadable())
}

func (u *unreadable) reportsMissingCheckpoints(t *testing.T) {
	u.m.stop()
	u.source.Broker(1).Kill()
	_, err := u.targetAdmin.DeleteTopic(t.Context(), "source.checkpoints.internal")
	check(t, err)
	eventually(t, 30*time.Second, "the topic is deleted", func() (bool, string) {
		all, err := u.targetAdmin.ListTopics(t.Context())
		return err == nil && !all.Has("source.checkpoints.internal"), fmt.Sprint(err)
	})
	out, errs, code := translate(t, u.m, "--group", "random-0")
	if code != 1 || !strings.Contains(errs, "source.checkpoints.internal does not exist") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	t.Logf("translate reports: %s", strings.TrimSpace(errs))
	out, errs, code = translate(t, u.m, "--topic", "plain", "--partition", "0", "--offset", "10") // needs the journal only
	if code != 0 {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	check(t, u.source.Broker(1).Restart(u.t.Context()))
	check(t, u.source.WaitBrokers(within(t, time.Minute, "the source is back"), 1))
}

func (u *unreadable) rewritesCheckpoints(t *testing.T) {
	u.m.start()
	u.m.waitReady(30 * time.Second)
	eventually(t, 30*time.Second, "all checkpoints are written", func() (bool, string) {
		client, err := offsets.Open(t.Context(), offsets.Options{Client: u.targetClient})
		check(t, err)
		defer client.Close()
		list, err := client.Checkpoints(t.Context(), "source")
		return len(list) == 4*len(u.groups), fmt.Sprintf("%d, %v", len(list), err)
	})
	u.waitCopied(u.m, time.Minute, u.topics...)
}
