package e2e_test

import (
	"encoding/json"
	"fmt"
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

// Every offset of every partition, not a sample, after take-overs at random moments of a load.
func TestEveryOffsetTranslatesAfterTakeovers(t *testing.T) {
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
	c := p.config(topics...)
	m := p.startMilena(c)
	const kills = 6
	for range kills {
		pause(t, time.Duration(300+random.IntN(1200))*time.Millisecond)
		if random.IntN(3) == 0 { // another one takes over, and is killed in its turn
			second := p.newMilena(fmt.Sprintf("milena-%d", time.Now().UnixMilli()), c)
			second.start()
			m.waitExit(30*time.Second, 1)
			m = second
			continue
		}
		m.Kill()
		m.start()
	}
	m.waitReady(30 * time.Second)
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
		from, to := readContents(t, p.sourceClient, topic), readContents(t, p.targetClient, remoteTopic(topic))
		ends, err := verify.ReadEnds(ctx, p.sourceClient, topic)
		check(t, err)
		asked, exact := 0, 0
		for partition, records := range from {
			there := to[partition]
			// The record at or behind each offset, walking both logs in step; behind the last one lies the end of the copy.
			end, err := client.Forward(ctx, remoteTopic(topic), partition, ends.End[partition])
			check(t, err)
			i := 0
			for o := int64(0); o < ends.End[partition]; o++ {
				for i < len(records) && records[i].offset < o {
					i++
				}
				want := end.Target
				if i < len(records) {
					want = there[i].offset
				}
				got, err := client.Forward(ctx, remoteTopic(topic), partition, o)
				hit := i < len(records) && records[i].offset == o
				if err != nil || got.Target != want || got.Exact != hit || got.Origin != offsets.FromJournal {
					t.Fatalf("%s-%d forward %d: %+v, %v; want %d, %v", topic, partition, o, got, err, want, hit)
				}
				asked++
				if hit {
					exact++
				}
			}
			i = 0
			for o := int64(0); o < end.Target; o++ {
				for i < len(there) && there[i].offset < o {
					i++
				}
				want := ends.End[partition]
				if i < len(there) {
					want = records[i].offset
				}
				got, err := client.Reverse(ctx, remoteTopic(topic), partition, o)
				if err != nil || got.Source != want || got.Exact != (i < len(there) && there[i].offset == o) {
					t.Fatalf("%s-%d reverse %d: %+v, %v; want %d", topic, partition, o, got, err, want)
				}
				asked++
			}
		}
		t.Logf("%s: %d offsets asked, %d of the source's are those of records; all right", topic, asked, exact)
	}
	if n := client.Unreadable(); n > 0 {
		t.Errorf("%d records of the journal could not be read", n)
	}
}

// translate runs the verb as a user does.
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

func TestTranslateCommand(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("orders", 2, 1)
	check(t, p.writer(load.Options{Topic: "orders", Partitions: 2, Shapes: []load.Shape{load.Sized(100)}, From: in2023}).Write(ctx, 1000))
	commitOffset(t, p.sourceAdmin, "app", "orders", 0, 300, "here")
	commitOffset(t, p.sourceAdmin, "app", "orders", 1, 1000, "")
	c := syncGroupsOften(p.config("orders"))
	c["flows"].([]daemon.Map)[0]["groups_sync"] = false
	m := p.startMilena(c)
	p.waitCopied(m, time.Minute, "orders")
	eventually(t, 30*time.Second, "checkpoints are written and the journal is up to date", func() (bool, string) {
		for _, part := range m.partitions() {
			if part.Topic == "orders" && part.Journaled < 1000 {
				return false, fmt.Sprint(part)
			}
		}
		ends, err := verify.ReadEnds(ctx, p.targetClient, "source.checkpoints.internal")
		return err == nil && ends.End[0] >= 2, fmt.Sprint(ends, err)
	})
	to := readContents(t, p.targetClient, remoteTopic("orders"))
	place := func(partition int32, i int) int64 { return to[partition][i].offset }

	t.Run("a group, as JSON", func(t *testing.T) {
		out, errs, code := translate(t, m, "--group", "app", "--json")
		var rows []struct {
			Topic        string `json:"topic"`
			Partition    int32  `json:"partition"`
			SourceOffset int64  `json:"source_offset"`
			TargetOffset int64  `json:"target_offset"`
			Exact        bool   `json:"exact"`
			Lag          int64  `json:"lag"`
		}
		if err := json.Unmarshal([]byte(out), &rows); err != nil || code != 0 || len(rows) != 2 {
			t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
		}
		if r := rows[0]; r.SourceOffset != 300 || r.TargetOffset != place(0, 300) || !r.Exact || r.Lag != 700 {
			t.Errorf("%+v, want %d", r, place(0, 300))
		}
		if r := rows[1]; r.SourceOffset != 1000 || r.TargetOffset != place(1, 999)+1 || !r.Exact || r.Lag != 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("one offset there and back", func(t *testing.T) {
		out, errs, code := translate(t, m, "--topic", "orders", "--partition", "1", "--offset", "77")
		if code != 0 || !strings.Contains(out, fmt.Sprintf("source.orders  %d", place(1, 77))) {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
		out, errs, code = translate(t, m, "--reverse", "--topic", "source.orders", "--partition", "1", "--offset", fmt.Sprint(place(1, 77)), "--json")
		if code != 0 || !strings.Contains(out, `"source_offset": 77`) {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
	})
	t.Run("a moment", func(t *testing.T) {
		var at int64
		check(t, verify.Sequence(ctx, p.sourceClient, "orders", 0, func(r *kgo.Record) error {
			if r.Offset == 500 {
				at = r.Timestamp.UnixMilli()
			}
			return nil
		}))
		out, errs, code := translate(t, m, "--topic", "orders", "--partition", "0", "--at", fmt.Sprint(at))
		if code != 0 || !strings.Contains(out, fmt.Sprintf("  %d  ", place(0, 500))) {
			t.Errorf("exit %d, want %d\n%s%s", code, place(0, 500), out, errs)
		}
	})
	t.Run("the commands of Kafka's tool do what they say", func(t *testing.T) {
		out, errs, code := translate(t, m, "--group", "app", "--reset-script")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if code != 0 || len(lines) != 2 {
			t.Fatalf("exit %d\n%s%s", code, out, errs)
		}
		args := strings.Fields(strings.ReplaceAll(lines[0], "'", ""))
		_, err := p.target.Jars().Tool(within(t, time.Minute, "Kafka's tool ends"), "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", args[1:]...)
		check(t, err)
		if at := readCommitted(t, p.targetAdmin, []string{"app"}).at("app", remoteTopic("orders"), 0); at != place(0, 300) {
			t.Errorf("the group is at %d, want %d", at, place(0, 300))
		}
	})
	t.Run("a commit, and one that would go backwards", func(t *testing.T) {
		out, errs, code := translate(t, m, "--group", "app", "--commit")
		if code != 0 || !strings.Contains(out, "committed on target: 1 position") { // the other one is there already
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
		out, errs, code = translate(t, m, "--group", "app", "--commit")
		if code != 0 || !strings.Contains(out, "committed on target: 0 positions; the group stands there already") {
			t.Errorf("the same again: exit %d\n%s%s", code, out, errs)
		}
		commitOffset(t, p.targetAdmin, "app", remoteTopic("orders"), 0, place(0, 900), "")
		out, errs, code = translate(t, m, "--group", "app", "--commit")
		if code != 1 || !strings.Contains(errs, "is ahead there already") {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
	})
	t.Run("Java reads the same from the checkpoints", func(t *testing.T) {
		eventually(t, 30*time.Second, "the heartbeats are copied", func() (bool, string) {
			topics, err := p.targetAdmin.ListTopics(ctx)
			return err == nil && topics.Has("source.heartbeats"), fmt.Sprint(topics.Names())
		})
		out := askJava(t, p.target, "source", "app")
		for _, want := range []string{
			"upstreamClusters=[source]", "replicationHops=1", "heartbeatTopics=[heartbeats, source.heartbeats]", "checkpointTopics=[source.checkpoints.internal]",
			fmt.Sprintf("translateOffsets(app)={source.orders-0=%d/here/false, source.orders-1=%d//false}", place(0, 300), place(1, 999)+1),
		} {
			if !strings.Contains(out, want) {
				t.Errorf("Java says\n%s\nwant %s", out, want)
			}
		}
	})
	t.Run("Kafka's formatters print milena's records", func(t *testing.T) {
		for topic, want := range map[string][2]string{
			"heartbeats":                       {"HeartbeatFormatter", "Heartbeat{sourceClusterAlias=source, targetClusterAlias=target, timestamp="},
			"source.heartbeats":                {"HeartbeatFormatter", "Heartbeat{sourceClusterAlias=target, targetClusterAlias=source, timestamp="},
			"source.checkpoints.internal":      {"CheckpointFormatter", fmt.Sprintf("Checkpoint{consumerGroupId=app, topicPartition=source.orders-0, upstreamOffset=300, downstreamOffset=%d, metadata=here}", place(0, 300))},
			"mm2-offset-syncs.source.internal": {"OffsetSyncFormatter", fmt.Sprintf("OffsetSync{topicPartition=orders-0, upstreamOffset=999, downstreamOffset=%d}", place(0, 999))},
		} {
			ends, err := verify.ReadEnds(ctx, p.targetClient, topic)
			check(t, err)
			out, err := p.target.Jars().Tool(within(t, time.Minute, "the formatter ends"), "org.apache.kafka.tools.consumer.ConsoleConsumer",
				"--bootstrap-server", strings.Join(p.target.Addrs(), ","), "--topic", topic, "--from-beginning", "--timeout-ms", "20000", "--max-messages", fmt.Sprint(ends.End[0]),
				"--formatter", "org.apache.kafka.connect.mirror.formatters."+want[0])
			check(t, err)
			if !strings.Contains(string(out), want[1]) {
				t.Errorf("%s: %.600s\nwant %s", topic, out, want[1])
			}
		}
	})
	t.Run("strange records are passed over", func(t *testing.T) {
		for _, topic := range []string{"source.checkpoints.internal", "milena.source-target.journal"} {
			record := &kgo.Record{Topic: topic, Key: []byte("strange"), Value: []byte("strange")}
			check(t, p.targetClient.ProduceSync(ctx, record).FirstErr())
		}
		out, errs, code := translate(t, m, "--topic", "orders", "--partition", "0", "--offset", "77")
		if code != 0 || !strings.Contains(out, fmt.Sprint(place(0, 77))) {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
	})
	t.Run("without the source the checkpoints tell", func(t *testing.T) {
		p.source.Broker(1).Kill()
		out, errs, code := translate(t, m, "--group", "app")
		if code != 0 || !strings.Contains(out, "does not tell where the group is") || !strings.Contains(out, fmt.Sprint(place(0, 300))) {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
		t.Logf("\n%s", out)
		check(t, p.source.Broker(1).Restart(ctx))
		check(t, p.source.WaitBrokers(within(t, time.Minute, "the source is back"), 1))
	})
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"an unknown group":          {[]string{"--group", "nobody"}, "group \"nobody\" has no committed offsets in cluster source"},
		"an unknown group there":    {[]string{"--group", "nobody", "--reverse"}, "group \"nobody\" has no committed offsets in cluster target"},
		"a topic of nobody":         {[]string{"--topic", "nothing", "--partition", "0", "--offset", "1"}, "topic nothing"},
		"a topic that is not there": {[]string{"--reverse", "--topic", "source.nothing", "--partition", "0", "--offset", "1"}, "flow source-target does not copy it"},
		"a partition too far":       {[]string{"--topic", "orders", "--partition", "9", "--offset", "1"}, "orders-9"},
		"an offset too far":         {[]string{"--topic", "orders", "--partition", "0", "--offset", "1001"}, "copied up to 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := translate(t, m, c.args...)
			if code != 1 || !strings.Contains(errs, c.want) || strings.Contains(errs, "goroutine") {
				t.Errorf("exit %d\n%s%s", code, out, errs)
			}
			t.Logf("says: %s", strings.TrimSpace(errs))
		})
	}
	m.stop()
}
