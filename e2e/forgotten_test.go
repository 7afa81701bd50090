package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/proxy"
	"github.com/milena-kafka/milena/e2e/verify"
)

// A broker dates a producer by the records that it wrote, and forgets it at the next check if they are old. A producer that it has forgotten may
// write with any sequence. So if the target refuses one of several batches in flight, it refuses those behind it if it knows the producer, and
// writes them if it does not: then the copy has a gap. Milena must see it, halt, and name what is missing, also after it was killed. The operator
// decides: one topic goes on without the record, the other one is copied again.
func TestForgottenProducerLeavesAGap(t *testing.T) {
	x := startForgotten(t, "known", "continued", "repeated")
	m := x.newMilena("milena", x.proxied())
	m.start()
	m.waitReady(30 * time.Second)
	x.refuseBefore(2010)
	x.writeAll("first")
	x.waitCopied(m, 30*time.Second, x.topics...)

	// All of these are in flight before the target answers the first one. There is no pause before them, else the first one would be sent alone.
	check(t, x.target.Network(t.Context(), proxy.BlackHole))
	for _, topic := range x.topics {
		x.writeAndSend(m, topic, "refused", in2001)
	}
	for _, topic := range x.topics {
		x.writeAndSend(m, topic, "third", x.timeOf(topic))
		x.writeAndSend(m, topic, "fourth", x.timeOf(topic))
	}
	x.waitForgotten("continued", "repeated")
	check(t, x.target.Network(t.Context(), proxy.Pass))

	x.waitHalted(m, "known", "record_refused")
	x.waitHalted(m, "continued", "unmatched")
	x.waitHalted(m, "repeated", "unmatched")
	m.waitMetric(5*time.Second, 2, "milena_anomalies_total", `kind="unmatched"`, `action="halt"`)
	m.waitMetric(5*time.Second, 2, "milena_produce_errors_total", `outcome="unordered"`)
	m.waitSignals(10*time.Second, "milena status names all", func(s signals) bool {
		return s.statusCode == 1 && strings.Count(s.status, "halted  unmatched") == 2 && strings.Count(s.status, "halted  record_refused") == 1
	})
	x.writeAll("fifth") // and nobody copies it
	x.holds("known", "first")
	x.holds("continued", "first", "third", "fourth")
	x.holds("repeated", "first", "third", "fourth")
	m.Kill()
	m.start()
	x.waitHalted(m, "continued", "unmatched")
	x.waitHalted(m, "repeated", "unmatched")
	x.holds("continued", "first", "third", "fourth")
	x.holds("repeated", "first", "third", "fourth")
	m.stop()

	// The operator lifts the limit, and decides.
	x.refuseBefore(0)
	_, err := x.targetAdmin.DeleteTopic(t.Context(), remoteTopic("repeated"))
	check(t, err)
	config := x.proxied()
	config["flows"].([]daemon.Map)[0]["anomalies"] = daemon.Map{"unmatched": "skip", "target_recreated": "restart"}
	m = x.newMilena("decided", config)
	m.start()
	m.waitReady(30 * time.Second)
	x.waitAndVerify(m, 30*time.Second, 2*5, "known", "repeated")
	x.waitCopied(m, 30*time.Second, "continued")
	x.holds("continued", "first", "third", "fourth", "fifth")
	left := func(g daemon.Gap) bool {
		return g.Kind == "unmatched" && g.Action == "skip" && g.From == 1 && g.To == 2
	}
	if gaps := x.partition(m, "continued").Gaps; !slices.ContainsFunc(gaps, left) {
		t.Errorf("the ledger says %+v", gaps)
	}
	m.stop()
}

// The same after a pause, in which the target forgot the producer of the last record: the first batch is sent alone, so that those behind it cannot
// be written without it. The record is refused as any other, and nothing is missing when the limit is lifted.
func TestForgottenProducerWritesNothingOutOfOrder(t *testing.T) {
	x := startForgotten(t, "quiet")
	m := x.newMilena("milena", x.proxied())
	m.start()
	m.waitReady(30 * time.Second)
	x.refuseBefore(2010)
	x.write("quiet", "first", in2023)
	x.waitCopied(m, 30*time.Second, "quiet")
	x.waitForgotten("quiet")
	pause(t, 6*time.Second) // no load: this is the pause

	check(t, x.target.Network(t.Context(), proxy.BlackHole))
	x.writeAndSend(m, "quiet", "refused", in2001)
	x.write("quiet", "third", in2023)
	x.write("quiet", "fourth", in2023)
	eventually(t, 10*time.Second, "milena has fetched all of them", func() (bool, string) {
		part := x.partition(m, "quiet")
		return part.Next == 4, fmt.Sprintf("%+v", part)
	})
	check(t, x.target.Network(t.Context(), proxy.Pass))
	x.waitHalted(m, "quiet", "record_refused")
	x.holds("quiet", "first")
	m.stop()

	x.refuseBefore(0)
	m.start()
	m.waitReady(30 * time.Second)
	x.waitAndVerify(m, 30*time.Second, 4, "quiet")
	m.stop()
}

// in2001 is before in2023 and a limit in between.
var in2001 = time.Date(2001, 5, 1, 12, 0, 0, 0, time.UTC)

// forgotten is a pair whose target forgets the producers of old records within milliseconds. Its topics have one partition each, and the records
// of all but one are old.
type forgotten struct {
	*pair
	topics []string
}

func startForgotten(t *testing.T, topics ...string) *forgotten {
	t.Helper()
	target := kafka.Options{Proxied: true, Properties: map[string]string{"producer.id.expiration.check.interval.ms": "50"}}
	x := &forgotten{startPair(t, kafka.Options{}, target), topics}
	for _, topic := range topics {
		x.createTopic(topic, 1, 1, "retention.ms=-1")
	}
	return x
}

// timeOf is the timestamp of the next record of a topic.
func (x *forgotten) timeOf(topic string) time.Time {
	if topic == "known" {
		return time.Now()
	}
	return in2023
}

// writeAll writes one record to each topic.
func (x *forgotten) writeAll(value string) {
	x.t.Helper()
	for _, topic := range x.topics {
		x.write(topic, value, x.timeOf(topic))
	}
}

// proxied is a configuration that reaches the target through its proxy.
func (x *forgotten) proxied() daemon.Map {
	c := x.config(x.topics...)
	c["clusters"].(daemon.Map)["target"] = daemon.Map{"brokers": x.target.ProxyAddrs()}
	return c
}

// refuseBefore lets the target refuse records from before a year; 0 is no limit.
func (x *forgotten) refuseBefore(year int) {
	x.t.Helper()
	limit := fmt.Sprint(int64(1<<63 - 1))
	if year > 0 {
		limit = fmt.Sprint(time.Since(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)).Milliseconds())
	}
	for _, topic := range x.topics {
		const name = "message.timestamp.before.max.ms"
		altered, err := x.targetAdmin.AlterTopicConfigs(x.t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &limit}}, remoteTopic(topic))
		check(x.t, err)
		check(x.t, altered[0].Err)
		eventually(x.t, 10*time.Second, "the broker knows the limit", func() (bool, string) {
			configs, err := x.targetAdmin.DescribeTopicConfigs(x.t.Context(), remoteTopic(topic))
			if err != nil || configs[0].Err != nil {
				return false, fmt.Sprint(err, configs)
			}
			i := slices.IndexFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == name })
			return configs[0].Configs[i].MaybeValue() == limit, configs[0].Configs[i].MaybeValue()
		})
	}
}

// write writes one record, as a batch of its own.
func (x *forgotten) write(topic, value string, at time.Time) {
	x.t.Helper()
	check(x.t, x.sourceClient.ProduceSync(x.t.Context(), &kgo.Record{Topic: topic, Key: []byte("key"), Value: []byte(value), Timestamp: at}).FirstErr())
}

// writeAndSend writes one record, and waits until milena has sent it, whether or not the target answers.
func (x *forgotten) writeAndSend(m *milena, topic, value string, at time.Time) {
	x.t.Helper()
	lane, of := `lane="forward"`, fmt.Sprintf("topic=%q", topic)
	sent := m.metric("milena_batches_total", lane, of)
	x.write(topic, value, at)
	m.waitMetric(10*time.Second, sent+1, "milena_batches_total", lane, of)
}

// waitForgotten waits until the target's broker knows no producer of these topics' copies.
func (x *forgotten) waitForgotten(topics ...string) {
	x.t.Helper()
	eventually(x.t, 10*time.Second, "the target has forgotten the producers", func() (bool, string) {
		copies := kadm.TopicsSet{}
		for _, topic := range topics {
			copies.Add(remoteTopic(topic), 0)
		}
		described, err := x.targetAdmin.DescribeProducers(x.t.Context(), copies)
		known := 0
		described.EachProducer(func(kadm.DescribedProducer) { known++ })
		return err == nil && len(described) == len(topics) && known == 0, fmt.Sprintf("%d producers, %v", known, err)
	})
}

// partition is that of a topic in /status, the zero value if it is not there.
func (x *forgotten) partition(m *milena, topic string) daemon.Partition {
	x.t.Helper()
	parts := m.partitions()
	i := slices.IndexFunc(parts, func(p daemon.Partition) bool { return p.Topic == topic })
	if i < 0 {
		return daemon.Partition{}
	}
	return parts[i]
}

// waitHalted waits until a topic is halted by its second record.
func (x *forgotten) waitHalted(m *milena, topic, kind string) {
	x.t.Helper()
	eventually(x.t, 30*time.Second, topic+" is halted", func() (bool, string) {
		part := x.partition(m, topic)
		return part.State == "halted" && part.Anomaly != nil, fmt.Sprintf("%+v", part)
	})
	part := x.partition(m, topic)
	a := part.Anomaly
	if a.Kind != kind || a.From != 1 || a.To != 2 || a.Detail == "" || a.Hint == "" {
		x.t.Errorf("%s: the anomaly is %+v, want %s", topic, *a, kind)
	}
	if part.Acked > 1 {
		x.t.Errorf("%s: what follows the record counts as copied: at %d", topic, part.Acked)
	}
}

// holds checks which records a copy has, in order.
func (x *forgotten) holds(topic string, want ...string) {
	x.t.Helper()
	var got []string
	check(x.t, verify.Sequence(x.t.Context(), x.targetClient, remoteTopic(topic), 0, func(r *kgo.Record) error {
		got = append(got, string(r.Value))
		return nil
	}))
	if !slices.Equal(got, want) {
		x.t.Errorf("the copy of %s has %q, want %q", topic, got, want)
	}
}
