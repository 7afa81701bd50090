package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
	"github.com/milena-kafka/milena/offsets"
)

// After takeovers at random times during a load, every offset of every partition translates to the right one, forward and reverse.
func TestEveryOffsetTranslatesAfterTakeovers(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	random := seeded(t)
	topics := []string{"plain", "transactions", "compacted"}
	compact(t, p, "compacted")
	p.createTopic("plain", 4, 1)
	p.createTopic("transactions", 2, 1)
	s := p.writer(load.Options{Topic: "plain", Partitions: 4, Shapes: []load.Shape{load.Sized(100)}}).Stream(ctx, 3000)
	transactions := make(chan error, 1)
	go func() {
		_, err := load.Transactions(ctx, p.source, load.Options{Topic: "transactions", Partitions: 2}, 400, 15)
		transactions <- err
	}()
	m := p.killAndReplace(p.config(topics...), random, 6)
	check(t, <-transactions)
	_, err := s.Stop(ctx)
	check(t, err)
	p.waitCopied(m, time.Minute, topics...)
	p.verify(remoteTopic, topics...)
	m.stop() // which journals everything

	client, err := offsets.Open(ctx, offsets.Options{Client: p.targetClient})
	check(t, err)
	defer client.Close()
	for _, topic := range topics {
		source, copies := readContents(t, p.sourceClient, topic), readContents(t, p.targetClient, remoteTopic(topic))
		translated := int64(0)
		for partition, end := range endOffsets(t, p.sourceClient, topic)[topic] {
			c := translation{
				t: t, client: client, topic: remoteTopic(topic), partition: partition, source: source[partition], sourceEnd: end, copies: copies[partition],
				journaled: true,
			}
			translated += c.verify(ctx)
		}
		t.Logf("%s: %d offsets translate exactly", topic, translated)
	}
	if n := client.Unreadable(); n > 0 {
		t.Errorf("%d records of the journal could not be read", n)
	}
}

// killAndReplace starts a milena and ends it n times at random times: it is killed and restarted, or replaced by another instance, which it may share
// the flow with for a while. It returns the last one when it is ready.
func (p *pair) killAndReplace(config daemon.Map, random *rand.Rand, n int) *milena {
	p.t.Helper()
	m := p.startMilena(config)
	for i := range n {
		pause(p.t, time.Duration(300+random.IntN(1200))*time.Millisecond)
		if random.IntN(3) == 0 {
			second := p.newMilena(fmt.Sprintf("milena-%d", i+2), config)
			second.start()
			pause(p.t, time.Duration(random.IntN(3000))*time.Millisecond)
			m.Kill()
			m = second
			continue
		}
		m.Kill()
		m.start()
	}
	m.waitReady(30 * time.Second)
	return m
}

// translation is one partition, its copy, and the library that translates between them.
type translation struct {
	t         *testing.T
	client    *offsets.Client
	topic     string // the remote topic
	partition int32
	source    []logRecord
	sourceEnd int64
	copies    []logRecord // of the source records, one each, in order
	// journaled: milena has written every copy itself. Then the journal answers every question, and reverse says which offsets are those of
	// records.
	journaled bool
}

// verify translates all offsets below the ends, forward and reverse, and returns how many. An offset translates to that of the first record
// at or after it; after the last record that is the end of the copy.
func (c *translation) verify(ctx context.Context) int64 {
	c.t.Helper()
	end, err := c.client.Forward(ctx, c.topic, c.partition, c.sourceEnd)
	check(c.t, err)
	c.forward(ctx, end.Target)
	c.reverse(ctx, end.Target)
	return c.sourceEnd + end.Target
}

func (c *translation) forward(ctx context.Context, end int64) {
	c.t.Helper()
	i := 0
	for o := int64(0); o < c.sourceEnd; o++ {
		for i < len(c.source) && c.source[i].offset < o {
			i++
		}
		want, exact := end, false
		if i < len(c.source) {
			want, exact = c.copies[i].offset, c.source[i].offset == o
		}
		got, err := c.client.Forward(ctx, c.topic, c.partition, o)
		if err != nil || got.Target != want || got.Exact != exact || c.journaled && got.Origin != offsets.FromJournal {
			c.t.Fatalf("%s-%d forward %d: %+v, %v; want %d, %v", c.topic, c.partition, o, got, err, want, exact)
		}
	}
}

func (c *translation) reverse(ctx context.Context, end int64) {
	c.t.Helper()
	i := 0
	for o := int64(0); o < end; o++ {
		for i < len(c.copies) && c.copies[i].offset < o {
			i++
		}
		want, exact := c.sourceEnd, false
		if i < len(c.copies) {
			want, exact = c.source[i].offset, c.copies[i].offset == o
		}
		got, err := c.client.Reverse(ctx, c.topic, c.partition, o)
		if err != nil || got.Source != want || c.journaled && got.Exact != exact {
			c.t.Fatalf("%s-%d reverse %d: %+v, %v; want %d, %v", c.topic, c.partition, o, got, err, want, exact)
		}
	}
}

// translate runs milena translate with a daemon's configuration.
func translate(t *testing.T, m *milena, args ...string) (out, errs string, code int) {
	t.Helper()
	bin, err := buildMilena()
	check(t, err)
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(within(t, time.Minute, "translate answers"), bin, append([]string{"translate", "-c", m.Config()}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// translateCommand is a flow that does not commit groups on the target, so that only the verb does. Group app is at 300 of orders-0 and at
// the end, 1000, of orders-1.
type translateCommand struct {
	*pair
	m      *milena
	copies contents
}

func TestTranslateCommand(t *testing.T) {
	t.Parallel()
	c := &translateCommand{pair: startPair(t, kafka.Options{}, kafka.Options{})}
	c.copyOrders()
	t.Run("a group, as JSON", c.groupAsJSON)
	t.Run("one offset, forward and reverse", c.oneOffset)
	t.Run("a timestamp", c.timestamp)
	t.Run("the reset script resets the group", c.resetScript)
	t.Run("a commit, and one that would go backwards", c.commit)
	t.Run("Java reads the same from the checkpoints", c.javaReadsTheSame)
	t.Run("Kafka's formatters print milena's records", c.formatters)
	t.Run("unreadable records are ignored", c.unreadableRecords)
	t.Run("without the source the checkpoints are used", c.withoutSource)
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"an unknown group":                {[]string{"--group", "nobody"}, "group \"nobody\" has no committed offsets in cluster source"},
		"an unknown group, reverse":       {[]string{"--group", "nobody", "--reverse"}, "group \"nobody\" has no committed offsets in cluster target"},
		"a topic that does not exist":     {[]string{"--topic", "nothing", "--partition", "0", "--offset", "1"}, "topic nothing"},
		"a remote topic that no flow has": {[]string{"--reverse", "--topic", "source.nothing", "--partition", "0", "--offset", "1"}, "flow source-target does not copy it"},
		"a partition that does not exist": {[]string{"--topic", "orders", "--partition", "9", "--offset", "1"}, "orders-9"},
		"an offset beyond the copy's end": {[]string{"--topic", "orders", "--partition", "0", "--offset", "1001"}, "copied only up to 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := translate(t, c.m, tt.args...)
			if code != 1 || !strings.Contains(errs, tt.want) || strings.Contains(errs, "goroutine") {
				t.Errorf("exit code %d\n%s%s", code, out, errs)
			}
			t.Logf("translate reports: %s", strings.TrimSpace(errs))
		})
	}
	c.verify(remoteTopic, "orders")
	c.m.stop()
}

// copyOrders waits until the records are copied and journaled and the checkpoints are written.
func (c *translateCommand) copyOrders() {
	c.t.Helper()
	ctx := c.t.Context()
	c.createTopic("orders", 2, 1)
	check(c.t, c.writer(load.Options{Topic: "orders", Partitions: 2, Shapes: []load.Shape{load.Sized(100)}, From: in2023}).Write(ctx, 1000))
	commitOffset(c.t, c.sourceAdmin, "app", "orders", 0, 300, "here")
	commitOffset(c.t, c.sourceAdmin, "app", "orders", 1, 1000, "")
	config := syncGroupsOften(c.config("orders"))
	config["flows"].([]daemon.Map)[0]["groups_sync"] = false
	c.m = c.startMilena(config)
	c.waitCopied(c.m, time.Minute, "orders")
	eventually(c.t, 30*time.Second, "checkpoints are written and the journal is up to date", func() (bool, string) {
		for _, part := range c.m.partitions() {
			if part.Topic == "orders" && part.Journaled < 1000 {
				return false, fmt.Sprint(part)
			}
		}
		ends, err := verify.ReadEnds(ctx, c.targetClient, "source.checkpoints.internal")
		return err == nil && ends.End[0] >= 2, fmt.Sprint(ends, err)
	})
	c.copies = readContents(c.t, c.targetClient, remoteTopic("orders"))
}

// at is the target offset of the n-th record of a partition, from 0.
func (c *translateCommand) at(partition int32, n int) int64 { return c.copies[partition][n].offset }

// prints runs translate and checks that its standard output contains want.
func (c *translateCommand) prints(t *testing.T, want string, args ...string) {
	t.Helper()
	out, errs, code := translate(t, c.m, args...)
	if code != 0 || !strings.Contains(out, want) {
		t.Errorf("translate %v: exit code %d, want %q in\n%s%s", args, code, want, out, errs)
	}
}

func (c *translateCommand) groupAsJSON(t *testing.T) {
	out, errs, code := translate(t, c.m, "--group", "app", "--json")
	var rows []struct {
		Topic        string `json:"topic"`
		Partition    int32  `json:"partition"`
		SourceOffset int64  `json:"source_offset"`
		TargetOffset int64  `json:"target_offset"`
		Exact        bool   `json:"exact"`
		Lag          int64  `json:"lag"`
	}
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != 0 || len(rows) != 2 {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, out, errs)
	}
	if r := rows[0]; r.SourceOffset != 300 || r.TargetOffset != c.at(0, 300) || !r.Exact || r.Lag != 700 {
		t.Errorf("%+v, want %d", r, c.at(0, 300))
	}
	if r := rows[1]; r.SourceOffset != 1000 || r.TargetOffset != c.at(1, 999)+1 || !r.Exact || r.Lag != 0 {
		t.Errorf("%+v", r)
	}
}

func (c *translateCommand) oneOffset(t *testing.T) {
	c.prints(t, fmt.Sprintf("source.orders  %d", c.at(1, 77)), "--topic", "orders", "--partition", "1", "--offset", "77")
	c.prints(t, `"source_offset": 77`, "--reverse", "--topic", "source.orders", "--partition", "1", "--offset", fmt.Sprint(c.at(1, 77)), "--json")
}

func (c *translateCommand) timestamp(t *testing.T) {
	var at int64
	check(t, verify.Sequence(t.Context(), c.sourceClient, "orders", 0, func(r *kgo.Record) error {
		if r.Offset == 500 {
			at = r.Timestamp.UnixMilli()
		}
		return nil
	}))
	c.prints(t, fmt.Sprintf("  %d  ", c.at(0, 500)), "--topic", "orders", "--partition", "0", "--at", fmt.Sprint(at))
}

// resetScript runs the printed command with Kafka's own tool.
func (c *translateCommand) resetScript(t *testing.T) {
	out, errs, code := translate(t, c.m, "--group", "app", "--reset-script")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 2 {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	args := strings.Fields(strings.ReplaceAll(lines[0], "'", ""))
	_, err := c.target.Jars().Tool(within(t, time.Minute, "Kafka's tool ends"), "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", args[1:]...)
	check(t, err)
	if at := readCommitted(t, c.targetAdmin, []string{"app"}).at("app", remoteTopic("orders"), 0); at != c.at(0, 300) {
		t.Errorf("the group is at %d, want %d", at, c.at(0, 300))
	}
}

func (c *translateCommand) commit(t *testing.T) {
	c.prints(t, "committed on target: 1 offset", "--group", "app", "--commit") // the reset script has committed the other partition
	c.prints(t, "committed on target: 0 offsets; the group has these offsets already", "--group", "app", "--commit")
	commitOffset(t, c.targetAdmin, "app", remoteTopic("orders"), 0, c.at(0, 900), "")
	out, errs, code := translate(t, c.m, "--group", "app", "--commit")
	if code != 1 || !strings.Contains(errs, "is ahead there already") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func (c *translateCommand) javaReadsTheSame(t *testing.T) {
	eventually(t, 30*time.Second, "the heartbeats are copied", func() (bool, string) {
		topics, err := c.targetAdmin.ListTopics(t.Context())
		return err == nil && topics.Has("source.heartbeats"), fmt.Sprint(topics.Names())
	})
	out := askJava(t, c.target, "source", "app")
	for _, want := range []string{
		"upstreamClusters=[source]", "replicationHops=1", "heartbeatTopics=[heartbeats, source.heartbeats]", "checkpointTopics=[source.checkpoints.internal]",
		fmt.Sprintf("translateOffsets(app)={source.orders-0=%d/here/false, source.orders-1=%d//false}", c.at(0, 300), c.at(1, 999)+1),
	} {
		if !strings.Contains(out, want) {
			t.Errorf("Java reports\n%s\nwant %s", out, want)
		}
	}
}

func (c *translateCommand) formatters(t *testing.T) {
	for topic, want := range map[string][2]string{
		"heartbeats":                       {"HeartbeatFormatter", "Heartbeat{sourceClusterAlias=source, targetClusterAlias=target, timestamp="},
		"source.heartbeats":                {"HeartbeatFormatter", "Heartbeat{sourceClusterAlias=target, targetClusterAlias=source, timestamp="},
		"source.checkpoints.internal":      {"CheckpointFormatter", fmt.Sprintf("Checkpoint{consumerGroupId=app, topicPartition=source.orders-0, upstreamOffset=300, downstreamOffset=%d, metadata=here}", c.at(0, 300))},
		"mm2-offset-syncs.source.internal": {"OffsetSyncFormatter", fmt.Sprintf("OffsetSync{topicPartition=orders-0, upstreamOffset=999, downstreamOffset=%d}", c.at(0, 999))},
	} {
		ends, err := verify.ReadEnds(t.Context(), c.targetClient, topic)
		check(t, err)
		out, err := c.target.Jars().Tool(within(t, time.Minute, "the formatter ends"), "org.apache.kafka.tools.consumer.ConsoleConsumer",
			"--bootstrap-server", strings.Join(c.target.Addrs(), ","), "--topic", topic, "--from-beginning", "--timeout-ms", "20000", "--max-messages", fmt.Sprint(ends.End[0]),
			"--formatter", "org.apache.kafka.connect.mirror.formatters."+want[0])
		check(t, err)
		if !strings.Contains(string(out), want[1]) {
			t.Errorf("%s: %.600s\nwant %s", topic, out, want[1])
		}
	}
}

func (c *translateCommand) unreadableRecords(t *testing.T) {
	for _, topic := range []string{"source.checkpoints.internal", "milena.source-target.journal"} {
		record := &kgo.Record{Topic: topic, Key: []byte("foreign"), Value: []byte("foreign")}
		check(t, c.targetClient.ProduceSync(t.Context(), record).FirstErr())
	}
	c.prints(t, fmt.Sprint(c.at(0, 77)), "--topic", "orders", "--partition", "0", "--offset", "77")
}

func (c *translateCommand) withoutSource(t *testing.T) {
	c.source.Broker(1).Kill()
	out, errs, code := translate(t, c.m, "--group", "app")
	if code != 0 || !strings.Contains(out, "cannot read the group on the source") || !strings.Contains(out, fmt.Sprint(c.at(0, 300))) {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	t.Logf("\n%s", out)
	check(t, c.source.Broker(1).Restart(c.t.Context()))
	check(t, c.source.WaitBrokers(within(t, time.Minute, "the source is back"), 1))
}
