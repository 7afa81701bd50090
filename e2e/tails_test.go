package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/verify"
	"github.com/milena-kafka/milena/offsets"
)

// tailTopic is a topic whose copy has a tail that is not journaled when milena is killed, and what happens to both logs before the next start.
type tailTopic struct {
	name    string
	configs []string
	batch   int // records per batch
	inTxns  bool

	cleanSource, cleanTarget   bool
	deleteSource, deleteTarget int // offsets at the end that are not deleted, -1 to delete none

	written []string // all committed values, in order
	deleted int      // of these, how many the target deleted
}

// Both clusters delete records that were copied and not journaled when milena was killed: retention, DeleteRecords, and both log cleaners.
// Nothing is lost, nothing is copied twice, and each record that both sides have is where the map says.
func TestTailsThatBothClustersDelete(t *testing.T) {
	t.Parallel()
	x := &tailTest{pair: startPair(t, kafka.Options{}, kafka.Options{Properties: map[string]string{"log.cleaner.min.compaction.lag.ms": "86400000"}})}
	x.addTopics()
	x.each(func(topic *tailTopic) error { return x.write(topic, "journaled", 10) })
	m := x.startMilena(x.tailConfig("2s", "10s"))
	x.waitCopied(m, time.Minute, x.names()...)
	m.stop()

	m = x.newMilena("killed", x.tailConfig("100s", "400s"))
	m.start()
	m.waitReady(30 * time.Second)
	x.each(func(topic *tailTopic) error { return x.write(topic, "burst", 200) })
	x.waitCopied(m, time.Minute, x.names()...)
	pause(t, 1100*time.Millisecond) // both logs begin new segments, because cleaners leave the last one alone
	x.each(func(topic *tailTopic) error { return x.write(topic, "end", 20) })
	x.waitCopied(m, time.Minute, x.names()...)
	m.Kill()

	pause(t, 1100*time.Millisecond)
	x.each(func(topic *tailTopic) error { return x.write(topic, "later", 20) })
	for _, topic := range x.topics {
		x.deleteTail(topic)
	}
	m = x.newMilena("restarted", x.tailConfig("2s", "10s"))
	m.start()
	m.waitReady(30 * time.Second)
	x.waitCopied(m, time.Minute, x.names()...)
	for _, part := range m.partitions() {
		if part.Anomaly != nil {
			t.Errorf("%s[%d]: %+v", part.Topic, part.Partition, *part.Anomaly)
		}
	}
	for _, kind := range []string{"retention_gap", "foreign_write", "truncated", "unmatched"} {
		if n, err := m.Metric(t.Context(), "milena_anomalies_total", `kind="`+kind+`"`); err == nil && n > 0 {
			t.Errorf("%v anomalies of kind %s", n, kind)
		}
	}
	m.stop()
	x.checkCopies()
}

// The target deletes all of a tail, and since the kill another process has fenced other partitions of the shard, but not this one. So the epoch of
// the next fence does not tell whether there are markers among what is deleted. The broker still knows the last sequence.
func TestTailIsGoneAndOthersWereFenced(t *testing.T) {
	x := &tailTest{pair: startPair(t, kafka.Options{}, kafka.Options{})}
	topic := &tailTopic{name: "tail.gone", batch: 10, deleteSource: -1, deleteTarget: 0}
	x.topics = []*tailTopic{topic}
	x.createTopic(topic.name, 1, 1)
	x.createTopic("other", 1, 1)
	config := func(topics, interval, lease string) daemon.Map {
		c := x.tailConfig(interval, lease)
		flow := c["flows"].([]daemon.Map)[0]
		flow["topics"], flow["shards"] = []string{topics}, 1
		return c
	}
	check(t, x.write(topic, "journaled", 10))
	m := x.startMilena(config("tail.*", "2s", "10s"))
	x.waitCopied(m, time.Minute, topic.name)
	m.stop()

	m = x.newMilena("killed", config("tail.*", "100s", "400s"))
	m.start()
	m.waitReady(30 * time.Second)
	check(t, x.write(topic, "burst", 200))
	x.waitCopied(m, time.Minute, topic.name)
	m.Kill()
	m = x.newMilena("other", config("other", "2s", "10s"))
	m.start()
	m.waitReady(30 * time.Second)
	m.stop()

	check(t, x.write(topic, "later", 20))
	x.deleteTail(topic)
	m = x.newMilena("restarted", config("tail.*", "2s", "10s"))
	m.start()
	x.waitCopied(m, time.Minute, topic.name)
	m.stop()
	x.checkCopies()
}

type tailTest struct {
	*pair
	topics []*tailTopic
}

func (x *tailTest) tailConfig(interval, lease string) daemon.Map {
	c := x.config("tail.*")
	flow := c["flows"].([]daemon.Map)[0]
	flow["journal_interval"], flow["lease"] = interval, lease
	flow["configs_exclude"] = []string{`min\.compaction\.lag\.ms`}
	return c
}

// addTopics creates the topics of the test.
func (x *tailTest) addTopics() {
	compacted := []string{"cleanup.policy=compact", "segment.ms=1000", "min.cleanable.dirty.ratio=0.01", "min.compaction.lag.ms=86400000"}
	kinds := []tailTopic{
		{name: "single", configs: compacted, batch: 1},
		{name: "batches", configs: compacted, batch: 10},
		{name: "append-single", configs: append(slices.Clone(compacted), "message.timestamp.type=LogAppendTime"), batch: 1},
		{name: "append-batches", configs: append(slices.Clone(compacted), "message.timestamp.type=LogAppendTime"), batch: 10},
		{name: "transactions", configs: compacted, batch: 5, inTxns: true},
	}
	for _, kind := range kinds {
		for _, sides := range []string{"source", "both"} {
			topic := kind
			topic.name = fmt.Sprintf("tail.%s.%s", kind.name, sides)
			topic.cleanSource, topic.cleanTarget, topic.deleteSource, topic.deleteTarget = true, sides == "both", -1, -1
			x.topics = append(x.topics, &topic)
		}
	}
	x.topics = append(x.topics,
		&tailTopic{name: "tail.target-gone", batch: 10, deleteSource: -1, deleteTarget: 0},
		&tailTopic{name: "tail.target-cut", batch: 10, deleteSource: -1, deleteTarget: 55},
		&tailTopic{name: "tail.source-gone", batch: 10, deleteSource: 20, deleteTarget: -1},
		&tailTopic{name: "tail.source-cut", batch: 10, deleteSource: 75, deleteTarget: -1},
		&tailTopic{name: "tail.both-cut", batch: 10, deleteSource: 130, deleteTarget: 33},
	)
	for _, topic := range x.topics {
		x.createTopic(topic.name, 1, 1, topic.configs...)
	}
}

func (x *tailTest) names() []string {
	var names []string
	for _, topic := range x.topics {
		names = append(names, topic.name)
	}
	return names
}

// each calls do for all topics at once.
func (x *tailTest) each(do func(*tailTopic) error) {
	x.t.Helper()
	var group errgroup.Group
	for _, topic := range x.topics {
		group.Go(func() error { return do(topic) })
	}
	check(x.t, group.Wait())
}

// write writes n committed records with equal timestamps. If they are many, their keys come twice: some at once, some after a while.
func (x *tailTest) write(topic *tailTopic, tag string, n int) error {
	now := time.Now()
	opts := []kgo.Opt{kgo.DefaultProduceTopic(topic.name)}
	if topic.inTxns {
		opts = append(opts, kgo.TransactionalID(topic.name+tag))
	}
	client, err := x.source.Client(opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := context.WithoutCancel(x.t.Context())
	for i := 0; i < n; i += topic.batch {
		var batch []*kgo.Record
		for k := i; k < min(i+topic.batch, n); k++ {
			key := k
			switch {
			case n < 100:
			case k < 100:
				key = k / 2
			default:
				key = 100 + k%50
			}
			batch = append(batch, &kgo.Record{Key: fmt.Appendf(nil, "%s-%d", tag, key), Value: fmt.Appendf(nil, "%s-%d", tag, k), Timestamp: now})
		}
		if err := writeBatch(ctx, client, topic, batch, i/topic.batch); err != nil {
			return err
		}
		for _, r := range batch {
			topic.written = append(topic.written, string(r.Value))
		}
	}
	return nil
}

// writeBatch writes a batch, perhaps in a transaction, and before every third one another that is aborted.
func writeBatch(ctx context.Context, client *kgo.Client, topic *tailTopic, batch []*kgo.Record, number int) error {
	if !topic.inTxns {
		return client.ProduceSync(ctx, batch...).FirstErr()
	}
	if number%3 == 1 {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		if err := client.ProduceSync(ctx, &kgo.Record{Key: batch[0].Key, Value: []byte("aborted"), Timestamp: batch[0].Timestamp}).FirstErr(); err != nil {
			return err
		}
		if err := client.EndTransaction(ctx, kgo.TryAbort); err != nil {
			return err
		}
	}
	if err := client.BeginTransaction(); err != nil {
		return err
	}
	if err := client.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		return err
	}
	return client.EndTransaction(ctx, kgo.TryCommit)
}

// deleteTail lets both clusters delete what the topic says, and waits until they have.
func (x *tailTest) deleteTail(topic *tailTopic) {
	x.t.Helper()
	if topic.cleanSource {
		x.clean(x.sourceClient, topic.name)
	}
	if topic.cleanTarget {
		x.clean(x.targetClient, remoteTopic(topic.name))
	}
	if topic.deleteSource >= 0 {
		x.deleteAllBut(x.sourceAdmin, topic.name, topic.deleteSource)
	}
	if topic.deleteTarget >= 0 {
		topic.deleted = len(topic.written) - 20 - topic.deleteTarget // the last 20 are not copied yet
		x.deleteAllBut(x.targetAdmin, remoteTopic(topic.name), topic.deleteTarget)
	}
}

// clean lets the log cleaner of a cluster work on a topic until it has removed many records.
func (x *tailTest) clean(client *kgo.Client, topic string) {
	x.t.Helper()
	records := func() int64 {
		c, err := verify.Contents(x.t.Context(), client, topic)
		check(x.t, err)
		return c[0].Records
	}
	before, none := records(), "0"
	altered, err := kadm.NewClient(client).AlterTopicConfigs(x.t.Context(), []kadm.AlterConfig{{Name: "min.compaction.lag.ms", Value: &none}}, topic)
	check(x.t, err)
	_, err = altered.On(topic, nil)
	check(x.t, err)
	eventually(x.t, 30*time.Second, "the cleaner has run on "+topic, func() (bool, string) {
		n := records()
		return n <= before-90, fmt.Sprintf("%d of %d records", n, before)
	})
}

func (x *tailTest) deleteAllBut(admin *kadm.Client, topic string, left int) {
	x.t.Helper()
	ends, err := admin.ListEndOffsets(x.t.Context(), topic)
	check(x.t, err)
	end, _ := ends.Lookup(topic, 0)
	deleted := kadm.Offsets{}
	deleted.Add(kadm.Offset{Topic: topic, Partition: 0, At: end.Offset - int64(left)})
	done, err := admin.DeleteRecords(x.t.Context(), deleted)
	check(x.t, err)
	check(x.t, done.Error())
}

// log reads the values of a topic and their offsets.
func (x *tailTest) log(client *kgo.Client, topic string) (values []string, at map[string]int64) {
	x.t.Helper()
	at = make(map[string]int64)
	check(x.t, verify.Sequence(x.t.Context(), client, topic, 0, func(r *kgo.Record) error {
		values = append(values, string(r.Value))
		at[string(r.Value)] = r.Offset
		return nil
	}))
	return values, at
}

// checkCopies checks all copies, and the map.
func (x *tailTest) checkCopies() {
	x.t.Helper()
	client, err := offsets.Open(x.t.Context(), offsets.Options{Client: x.targetClient})
	check(x.t, err)
	defer client.Close()
	states, err := offsets.NewJournal(x.targetClient, offsets.JournalTopic("source-target"), offsets.JournalOptions{}).States(x.t.Context())
	check(x.t, err)
	for _, topic := range x.topics {
		got, target := x.log(x.targetClient, remoteTopic(topic.name))
		if problem := topic.differs(got); problem != "" {
			x.t.Errorf("%s: %s", topic.name, problem)
		}
		_, source := x.log(x.sourceClient, topic.name)
		mapped := 0
		for value, offset := range source {
			want, ok := target[value]
			if !ok {
				continue
			}
			mapped++
			if found, err := client.Forward(x.t.Context(), remoteTopic(topic.name), 0, offset); err != nil || found.Target != want || !found.Exact {
				x.t.Errorf("%s: %s is at source offset %d and target offset %d, the map says %+v, %v", topic.name, value, offset, want, found, err)
				break
			}
		}
		x.t.Logf("%s: %d written, %d on the target, %d on both sides", topic.name, len(topic.written), len(got), mapped)
		i := slices.IndexFunc(states, func(s *offsets.PartitionState) bool { return s.Topic == topic.name })
		ledger := slices.ContainsFunc(states[i].Gaps, func(g offsets.Gap) bool { return g.Kind == "copy_deleted" })
		if ledger != (topic.deleted > 0) {
			x.t.Errorf("%s: the ledger says %+v", topic.name, states[i].Gaps)
		}
	}
}

// differs says how the copy differs from what was written. If the target's cleaner removed records, only their order is checked, and that the
// newest of each key are there.
func (topic *tailTopic) differs(got []string) string {
	want := topic.written[topic.deleted:]
	if !topic.cleanTarget {
		if !slices.Equal(got, want) {
			return fmt.Sprintf("%d records, want %d\ngot  %s\nwant %s", len(got), len(want), strings.Join(got, " "), strings.Join(want, " "))
		}
		return ""
	}
	next := 0
	for _, value := range got {
		i := slices.Index(want[next:], value)
		if i < 0 {
			return fmt.Sprintf("%s is out of order, or there twice", value)
		}
		next += i + 1
	}
	for _, value := range want[len(want)-40:] {
		if !slices.Contains(got, value) {
			return value + " is lost"
		}
	}
	return ""
}
