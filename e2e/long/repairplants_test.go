package long_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/proxy"
	"github.com/milena-kafka/milena/e2e/verify"
)

// repairsOf are the repairs of topics.
func (x *repairs) repairsOf(topics []string) (list []*repair) {
	for _, r := range x.all {
		if slices.Contains(topics, r.topic) {
			list = append(list, r)
		}
	}
	return list
}

// refuseAndForget lets the target refuse a record of each topic, forget its producer, and write the records behind that one, which are sent already.
func (x *repairs) refuseAndForget(topics ...string) {
	x.t.Helper()
	const year = 365 * 24 * time.Hour
	list := x.repairsOf(topics)
	x.refuseOlderThan(3*year, topics...)
	for _, r := range list { // after a pause, a batch would be sent alone
		x.write(r, 1, x.age(r))
	}
	for _, r := range list {
		x.untilCopied(r)
	}
	must(x.t, x.clusters[1].Network(x.t.Context(), proxy.BlackHole))
	for _, r := range list {
		x.writeAndSend(r, 10*year)
	}
	for _, r := range list {
		x.writeAndSend(r, x.age(r))
		x.writeAndSend(r, x.age(r))
	}
	x.until("the target has forgotten the producers", func() (bool, string) {
		copies := kadm.TopicsSet{}
		for _, topic := range topics {
			copies.Add("source."+topic, 0)
		}
		described, err := x.onTarget.DescribeProducers(x.t.Context(), copies)
		known := 0
		described.EachProducer(func(kadm.DescribedProducer) { known++ })
		return err == nil && len(described) == len(topics) && known == 0, fmt.Sprintf("%d producers, %v", known, err)
	})
	must(x.t, x.clusters[1].Network(x.t.Context(), proxy.Pass))
	for _, r := range list {
		x.untilHalted(r)
	}
	x.refuseOlderThan(0, topics...)
}

// writeAndSend writes a record and waits until milena has sent it, whether or not the target answers.
func (x *repairs) writeAndSend(r *repair, age time.Duration) {
	x.t.Helper()
	sent := func() float64 {
		n, err := x.milena.Metric(x.t.Context(), "milena_batches_total", `lane="forward"`, fmt.Sprintf("topic=%q", r.topic))
		if err != nil {
			return 0
		}
		return n
	}
	before := sent()
	x.write(r, 1, age)
	x.until("milena sends it", func() (bool, string) { return sent() > before, fmt.Sprint(sent()) })
}

// truncate lets an unclean election remove records of topics that are copied, and writes others.
func (x *repairs) truncate(topics ...string) {
	x.t.Helper()
	ctx, source := x.t.Context(), x.clusters[0]
	list := x.repairsOf(topics)
	source.Broker(stale).Kill()
	must(x.t, source.WaitBrokers(ctx, 1))
	for _, r := range list {
		x.write(r, 5, 0)
		x.untilCopied(r)
	}
	source.Broker(leader).Kill()
	must(x.t, source.Broker(stale).Restart(ctx))
	for _, r := range list {
		x.until("the stale broker leads "+r.topic, func() (bool, string) {
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			ends, err := verify.ReadEnds(short, x.source, r.topic)
			return err == nil && ends.End[0] == 10, fmt.Sprint(ends, err)
		})
	}
	must(x.t, source.Broker(leader).Restart(ctx))
	must(x.t, kafka.WaitWhole(ctx, x.onSource, "source"))
	for _, r := range list {
		x.write(r, 3, 0)
	}
}

// recreate deletes a topic and creates it again with 20 records.
func (x *repairs) recreate(r *repair) {
	x.t.Helper()
	x.deleteTopic(x.onSource, r.topic)
	x.create(r, 1)
	x.write(r, 20, 0)
}

func (x *repairs) deleteTopic(admin *kadm.Client, topic string) {
	x.t.Helper()
	_, err := admin.DeleteTopic(x.t.Context(), topic)
	must(x.t, err)
	x.source.PurgeTopicsFromClient(topic) // it knows the id
	x.until(topic+" is deleted", func() (bool, string) {
		topics, err := admin.ListTopics(x.t.Context(), topic)
		return err == nil && !topics.Has(topic), fmt.Sprint(err)
	})
}

// overtake deletes records before they are copied.
func (x *repairs) overtake(r *repair) {
	x.t.Helper()
	x.command("pause", "--partition", r.topic+"-0", "--reason", "a test")
	x.write(r, 10, 0)
	gone := kadm.Offsets{}
	gone.Add(kadm.Offset{Topic: r.topic, At: 15})
	done, err := x.onSource.DeleteRecords(x.t.Context(), gone)
	must(x.t, err)
	must(x.t, done.Error())
	x.command("resume", "--partition", r.topic+"-0")
}

// writeForeign writes a record to the copy, and then one to the source.
func (x *repairs) writeForeign(r *repair) {
	x.t.Helper()
	r.foreign = []string{"a foreign record"}
	x.produce(x.target, "source."+r.topic, 0, r.foreign[0], 0)
	x.write(r, 5, 0)
}

// deleteCopy deletes the copy, and then writes to the source.
func (x *repairs) deleteCopy(r *repair) {
	x.t.Helper()
	x.deleteTopic(x.onTarget, "source."+r.topic)
	x.write(r, 5, 0)
}

// shrink creates the topic again with one partition fewer.
func (x *repairs) shrink(r *repair) {
	x.t.Helper()
	x.deleteTopic(x.onSource, r.topic)
	x.create(r, 1)
}

// writeLarge writes a record that is larger than what the target accepts, between others.
func (x *repairs) writeLarge(r *repair) {
	x.t.Helper()
	x.write(r, 1, 0)
	x.produce(x.source, r.topic, 0, rand.Text()+strings.Repeat("x", 3_000_000), 0)
	x.write(r, 1, 0)
}

// writeOld writes a record that is older than what the target accepts, between others.
func (x *repairs) writeOld(r *repair) {
	x.t.Helper()
	x.refuseOlderThan(time.Hour, r.topic)
	x.write(r, 1, 0)
	x.write(r, 1, 2*time.Hour)
	x.write(r, 1, 0)
}

// refuseOlderThan sets which records the target accepts; 0 is no limit.
func (x *repairs) refuseOlderThan(age time.Duration, topics ...string) {
	x.t.Helper()
	limit := fmt.Sprint(int64(1<<63 - 1))
	if age > 0 {
		limit = fmt.Sprint(age.Milliseconds())
	}
	const name = "message.timestamp.before.max.ms"
	for _, topic := range topics {
		altered, err := x.onTarget.AlterTopicConfigs(x.t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &limit}}, "source."+topic)
		must(x.t, err)
		must(x.t, altered[0].Err)
		x.until("the broker knows the limit", func() (bool, string) {
			configs, err := x.onTarget.DescribeTopicConfigs(x.t.Context(), "source."+topic)
			if err != nil || configs[0].Err != nil {
				return false, fmt.Sprint(err, configs)
			}
			i := slices.IndexFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == name })
			return configs[0].Configs[i].MaybeValue() == limit, configs[0].Configs[i].MaybeValue()
		})
	}
}

// occupy creates the target topic with a record before the source topic.
func (x *repairs) occupy(r *repair) {
	x.t.Helper()
	must(x.t, kafka.CreateTopic(x.t.Context(), x.onTarget, "source."+r.topic, 1, 1))
	r.foreign = []string{"of another tool"}
	x.produce(x.target, "source."+r.topic, 0, r.foreign[0], 0)
	x.create(r, 1)
	x.write(r, 10, 0)
}

// cleanTombstone deletes a key and lets the cleaner remove the tombstone while the partition is paused.
func (x *repairs) cleanTombstone(r *repair) {
	x.t.Helper()
	x.command("pause", "--partition", r.topic+"-0", "--reason", "a test")
	key := r.before[0][:8]
	must(x.t, x.source.ProduceSync(x.t.Context(), &kgo.Record{Topic: r.topic, Key: []byte(key)}).FirstErr())
	x.untilBrokerHas("cleaned the tombstone", func() (bool, string) {
		x.produce(x.source, r.topic, 0, "filler, which begins a segment", 0)
		has, records := false, 0
		must(x.t, verify.Sequence(x.t.Context(), x.source, r.topic, 0, func(r *kgo.Record) error {
			has, records = has || string(r.Key) == key, records+1
			return nil
		}))
		return !has, fmt.Sprintf("the source has %d records", records)
	})
	x.command("resume", "--partition", r.topic+"-0")
}
