package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// wantOutput fails the test unless output has each of the texts.
func wantOutput(t *testing.T, output string, want ...string) {
	t.Helper()
	for _, text := range want {
		if !strings.Contains(output, text) {
			t.Errorf("no %q in:\n%s", text, output)
		}
	}
}

// A target whose policies refuse small segments, one topic, and more than a few topics per request gets the rest. What check says is what run does.
func TestTargetWithCreatePolicy(t *testing.T) {
	t.Parallel()
	classes := t.TempDir()
	check(t, requireKafka(t).Policies(t.Context(), classes))
	p := startPair(t, kafka.Options{}, kafka.Options{Classes: classes, Properties: map[string]string{
		"create.topic.policy.class.name": kafka.Policy, "authorizer.class.name": kafka.Requests,
	}})
	p.createTopic("small", 2, 1, "segment.bytes=16777216", "retention.ms=7200000")
	check(t, p.writer(load.Options{Topic: "small", Partitions: 2}).Write(t.Context(), 100))

	all := []string{"small"}
	for i := range kafka.MostTopics + 1 {
		topic := fmt.Sprint("many-", i)
		p.createTopic(topic, 1, 1)
		check(t, p.writer(load.Options{Topic: topic, Partitions: 1}).Write(t.Context(), 10))
		all = append(all, topic)
	}
	settings := p.config("small", "many-.*")
	code, output := p.runVerb(t, "check", settings)
	if code != 0 {
		t.Errorf("check: exit code %d", code)
	}
	wantOutput(t, output, "topic source.small is created without segment.bytes", "Config property 'segment.bytes' must be at least 52428800",
		"topic milena.source-target.journal is created without segment.ms", "Config property 'segment.ms' is not allowed")
	m := p.startMilena(settings)
	p.waitAndVerify(m, 30*time.Second, 200+10*(kafka.MostTopics+1), all...)
	if own := ownConfigs(t, p.targetAdmin, "milena.source-target.journal"); !maps.Equal(own, map[string]string{"cleanup.policy": "compact"}) {
		t.Errorf("the journal has %v", own)
	}
	wantOutput(t, m.Output(), "Config property 'segment.ms' is not allowed", "Config property 'segment.bytes' must be at least 52428800")
	m.stop()

	// One topic that is refused does not keep the others from being copied, and check, run and status say why.
	p.createTopic("never", 1, 1)
	p.createTopic("later", 1, 1)
	check(t, p.writer(load.Options{Topic: "later", Partitions: 1}).Write(t.Context(), 100))
	settings = p.config("small", "never", "later")
	code, output = p.runVerb(t, "check", settings)
	if code != 1 {
		t.Errorf("check: exit code %d", code)
	}
	wantOutput(t, output, "a topic named never is not allowed")
	m = p.newMilena("again", settings)
	m.start()
	p.waitAndVerify(m, 30*time.Second, 100, "later")
	wantOutput(t, m.Output(), "a topic named never is not allowed")
	m.stop()
}

// A journal that retention shortens is refused by check and run, and the command that they print mends it.
func TestJournalMustBeCompacted(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	p.createTopic("orders", 1, 1)
	check(t, p.writer(load.Options{Topic: "orders", Partitions: 1}).Write(t.Context(), 100))
	const journal = "milena.source-target.journal"
	check(t, kafka.CreateTopic(t.Context(), p.targetAdmin, journal, 64, 1, "cleanup.policy=delete", "retention.ms=60000"))
	settings := p.config("orders")
	for _, verb := range []string{"check", "run"} {
		code, output := p.runVerb(t, verb, settings)
		if code != 1 {
			t.Errorf("%s: exit code %d", verb, code)
		}
		wantOutput(t, output, "topic "+journal+" on cluster target has cleanup.policy=delete",
			"kafka-configs.sh --bootstrap-server "+p.target.Addrs()[0]+" --alter --entity-type topics --entity-name "+journal+" --add-config cleanup.policy=compact")
	}
	alterConfigs(t, p.targetAdmin, journal, "cleanup.policy=compact")
	eventually(t, 10*time.Second, "the brokers have the config", func() (bool, string) {
		own := ownConfigs(t, p.targetAdmin, journal)
		return own["cleanup.policy"] == "compact", fmt.Sprint(own)
	})
	m := p.startMilena(settings)
	p.waitAndVerify(m, 30*time.Second, 100, "orders")
	m.stop()
}

// A new copy on a broker of Kafka 4 has this config, so that it accepts records of any time.
const (
	anyTime = "message.timestamp.after.max.ms"
	widest  = "9223372036854775807"
)

// writeAt writes n records with these timestamps to partition 0.
func writeAt(t *testing.T, client *kgo.Client, topic string, n int, timestamp func(i int) time.Time) {
	t.Helper()
	for i := range n {
		r := &kgo.Record{Topic: topic, Key: []byte("k"), Value: fmt.Appendf(nil, "%s/%d", topic, i), Timestamp: timestamp(i)}
		check(t, client.ProduceSync(t.Context(), r).FirstErr())
	}
}

// A copy accepts records of every time that the source holds: a limit that came after them, and records with microseconds as milliseconds.
func TestTimestampLimits(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	producer, err := p.source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	check(t, err)
	defer producer.Close()
	p.createTopic("ts", 1, 1)
	writeAt(t, producer, "ts", 50, func(i int) time.Time { return time.Date(2019, 1, 1, 0, 0, i, 0, time.UTC) })
	alterConfigs(t, p.sourceAdmin, "ts", "message.timestamp.before.max.ms=604800000")
	writeAt(t, producer, "ts", 50, func(int) time.Time { return time.Now() })
	p.createTopic("us", 1, 1, anyTime+"="+widest)
	writeAt(t, producer, "us", 25, func(i int) time.Time {
		if i%5 == 2 {
			return time.UnixMilli(time.Now().UnixMicro())
		}
		return time.Now()
	})
	settings := p.config("ts", "us")
	code, output := p.runVerb(t, "check", settings)
	if code != 0 {
		t.Errorf("check: exit code %d\n%s", code, output)
	}
	m := p.startMilena(settings)
	p.waitAndVerify(m, 30*time.Second, 125, "ts", "us")
	for _, topic := range []string{"ts", "us"} {
		if own := ownConfigs(t, p.targetAdmin, remoteTopic(topic)); own[anyTime] != widest || own["message.timestamp.before.max.ms"] == "604800000" {
			t.Errorf("the copy of %s has %v", topic, own)
		}
	}
	m.stop()

	// A copy that somebody made narrower: check foretells what halts, the hint mends it, and the sync of configs leaves it alone.
	for topic, config := range map[string]string{"old": "message.timestamp.before.max.ms=604800000", "new": anyTime + "=3600000"} {
		p.createTopic(topic, 1, 1, anyTime+"="+widest)
		check(t, kafka.CreateTopic(t.Context(), p.targetAdmin, remoteTopic(topic), 1, 1, config))
	}
	writeAt(t, producer, "old", 10, func(i int) time.Time { return time.Date(2019, 1, 1, 0, 0, i, 0, time.UTC) })
	writeAt(t, producer, "new", 10, func(int) time.Time { return time.UnixMilli(time.Now().UnixMicro()) })
	settings = p.config("old", "new")
	code, output = p.runVerb(t, "check", settings)
	if code != 0 {
		t.Errorf("check: exit code %d\n%s", code, output)
	}
	wantOutput(t, output, "topic old has records in partition 0, such as that at offset 0, whose timestamps are beyond message.timestamp.before.max.ms of topic source.old",
		"topic new has records in partition 0", "beyond "+anyTime+" of topic source.new")
	m = p.newMilena("narrow", settings)
	m.start()
	eventually(t, 30*time.Second, "both partitions halt with a hint", func() (bool, string) {
		halted, text := 0, ""
		for _, part := range m.partitions() {
			if part.Anomaly != nil && strings.Contains(part.Anomaly.Hint, "message.timestamp.before.max.ms="+widest+","+anyTime+"="+widest) {
				halted++
				text += part.Anomaly.Detail + "\n"
			}
		}
		return halted == 2, text
	})
	for _, part := range m.partitions() {
		t.Logf("%s: %s", part.Topic, part.Anomaly.Detail)
	}
	for _, topic := range []string{"old", "new"} {
		alterConfigs(t, p.targetAdmin, remoteTopic(topic), "message.timestamp.before.max.ms="+widest, anyTime+"="+widest)
	}
	m.stop()
	m = p.newMilena("wide", settings)
	m.start()
	p.waitAndVerify(m, 30*time.Second, 20, "old", "new")
	m.stop()
}

// mm2File writes an mm2.properties with a flow from source to target and these lines.
func (p *pair) mm2File(name string, lines ...string) string {
	p.t.Helper()
	file := filepath.Join(p.dir, name+".properties")
	text := append([]string{
		"clusters = source, target",
		"source.bootstrap.servers = " + strings.Join(p.source.Addrs(), ","),
		"target.bootstrap.servers = " + strings.Join(p.target.Addrs(), ","),
		"source->target.enabled = true", "topics = .*", "replication.factor = 1", "sync.topic.acls.enabled = false", "",
	}, lines...)
	check(p.t, os.WriteFile(file, []byte(strings.Join(text, "\n")), 0o600))
	return file
}

// With an mm2.properties that sets no interval, topics, partitions and configs arrive within 5 s. With sync.topic.configs.enabled = false, the
// standby's own retention outlives a restart and a new topic.
func TestMM2FileWithoutIntervalsAndWithoutConfigSync(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	p.createTopic("first", 1, 1)
	check(t, p.writer(load.Options{Topic: "first", Partitions: 1}).Write(t.Context(), 100))
	m := p.newMilenaFromFile("milena", p.mm2File("silent"), "--beside-mirrormaker")
	m.start()
	m.waitReady(30 * time.Second)
	s := &topicSync{pair: p, m: m}
	p.waitAndVerify(m, 20*time.Second, 100, "first")
	t.Run("a new topic", s.newTopics)
	t.Run("new partitions", s.newPartitions)
	t.Run("a config", func(t *testing.T) {
		alterConfigs(t, p.sourceAdmin, "first", "retention.ms=3600000")
		s.hasConfigs(t, 4*time.Second, map[string]string{"retention.ms": "3600000"})
	})
	m.stop()

	const year = "31536000000"
	alterConfigs(t, p.targetAdmin, remoteTopic("first"), "retention.ms="+year)
	m = p.newMilenaFromFile("off", p.mm2File("off", "sync.topic.configs.enabled = false"), "--beside-mirrormaker")
	m.start()
	m.waitReady(30 * time.Second)
	p.createTopic("another", 1, 1, "retention.ms=7200000")
	check(t, p.writer(load.Options{Topic: "another", Partitions: 1}).Write(t.Context(), 100))
	p.waitAndVerify(m, 20*time.Second, 100, "another")
	alterConfigs(t, p.sourceAdmin, "another", "retention.ms=10800000")
	eventually(t, 20*time.Second, "two syncs of configs have ended", func() (bool, string) {
		n, err := m.Metric(t.Context(), "milena_passes_total", "pass", "configs", "result", "done")
		return n >= 2, fmt.Sprint(n, err)
	})
	for topic, want := range map[string]string{"first": year, "another": "7200000"} {
		if got := ownConfigs(t, p.targetAdmin, remoteTopic(topic))["retention.ms"]; got != want {
			t.Errorf("the copy of %s has retention.ms %q, want %s", topic, got, want)
		}
	}
	p.verify(remoteTopic, "first", "another")
	m.stop()
}

// Brokers that can never create their transaction log: check refuses, and run says within 30 s which config is wrong.
func TestTargetWithoutTransactions(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{Properties: map[string]string{"transaction.state.log.replication.factor": "3"}})
	p.createTopic("orders", 1, 1)
	check(t, p.writer(load.Options{Topic: "orders", Partitions: 1}).Write(t.Context(), 100))
	settings := p.config("orders")
	const key = "set transaction.state.log.replication.factor to at most 1"
	code, output := p.runVerb(t, "check", settings)
	if code != 1 {
		t.Errorf("check: exit code %d", code)
	}
	wantOutput(t, output, "refused: ", key)
	m := p.newMilena("milena", settings)
	m.start()
	eventually(t, 30*time.Second, "the log and /readyz name the broker's config", func() (bool, string) {
		notReady, _ := m.Diagnose(t.Context())
		return strings.Contains(notReady, key) && strings.Contains(m.Output(), key), notReady
	})
	m.stop()
}

// A shorter timeout of transactions is learned from the refusal of brokers with a low transaction.max.timeout.ms.
func TestTargetWithShortTransactions(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{Properties: map[string]string{"transaction.max.timeout.ms": "60000"}})
	p.createTopic("orders", 1, 1)
	check(t, p.writer(load.Options{Topic: "orders", Partitions: 1}).Write(t.Context(), 100))
	settings := p.config("orders")
	m := p.startMilena(settings)
	p.waitAndVerify(m, 30*time.Second, 100, "orders")
	m.stop()
}
