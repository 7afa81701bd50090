package e2e_test

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/mm2"
	"github.com/milena-kafka/milena/e2e/verify"
	"github.com/milena-kafka/milena/offsets"
)

var (
	javaOffsets = regexp.MustCompile(`(?m)^translateOffsets\((.*?)\)=\{(.*)\}$`)
	javaOffset  = regexp.MustCompile(`^(.*)-(\d+)=(\d+)/(.*)/(true|false)$`)
)

// parseJava extracts the translated offsets of groups from the output of Mirror.java or MirrorFile.java.
func parseJava(t *testing.T, out string) committedOffsets {
	t.Helper()
	groups := committedOffsets{}
	for _, line := range javaOffsets.FindAllStringSubmatch(out, -1) {
		translated := kadm.OffsetResponses{}
		for _, one := range strings.Split(line[2], ", ") {
			m := javaOffset.FindStringSubmatch(one)
			if m == nil {
				continue
			}
			partition, err := strconv.ParseInt(m[2], 10, 32)
			check(t, err)
			at, err := strconv.ParseInt(m[3], 10, 64)
			check(t, err)
			translated.Add(kadm.OffsetResponse{Offset: kadm.Offset{Topic: m[1], Partition: int32(partition), At: at, Metadata: m[4]}})
		}
		groups[line[1]] = translated
	}
	return groups
}

// mirrorClient is a target to which milena and MirrorMaker 2 copy the same topics, and what Kafka's MirrorClient reports about each: milena's
// source alias is source, MirrorMaker 2's is primary.
type mirrorClient struct {
	*pair
	m      *milena
	topics []string
	groups []string
	output map[string]string // of Mirror.java, by source alias
}

// remoteNames are the names that each replicator gives to a topic, by source alias.
func remoteNames() map[string]func(string) string {
	return map[string]func(string) string{"source": remoteTopic, "primary": mm2.RemoteTopic}
}

// Java's MirrorClient and RemoteClusterUtils find the same about milena's copies as about MirrorMaker 2's, except that milena's offsets are
// exact.
func TestMirrorClientReadsBothReplicators(t *testing.T) {
	t.Parallel()
	c := &mirrorClient{pair: startPair(t, kafka.Options{}, kafka.Options{}), topics: []string{"plain", "transactions"}}
	random := seeded(t)
	c.createTopic("plain", 3, 1)
	c.createTopic("transactions", 3, 1)
	c.m = c.startMilena(syncGroupsOften(c.config(c.topics...)))
	mirrorMaker, err := mm2.Start(t.Context(), c.source.Jars(), c.dir, mm2.Options{
		Primary: c.source.Addrs(), DR: c.target.Addrs(), Topics: strings.Join(c.topics, ","),
		Properties: map[string]string{
			"dr->primary.emit.heartbeats.enabled": "true", "offset-syncs.topic.location": "target", "emit.checkpoints.interval.seconds": "1",
			"refresh.groups.interval.seconds": "1", "refresh.topics.interval.seconds": "1", "dr.offset.flush.interval.ms": "1000",
		},
	})
	check(t, err)
	c.writeAndWait(1500, 3*1500+1500/30*30)
	c.writeAndWait(600, 3*2100+2100/30*30)
	c.groups = commitScatteredGroups(t, c.pair, random, c.topics...)
	waitGroupsSynced(t, c.sourceAdmin, c.targetAdmin, c.groups, c.topics, remoteTopic)
	c.waitMirrorMakerCheckpoints()
	mirrorMaker.Kill() // its topics do not change any more
	c.askJava()

	t.Run("names, hops and sources are the same", c.sameNames)
	t.Run("translated offsets skip nothing", c.offsetsSkipNothing)
	t.Run("the library reads MirrorMaker 2's checkpoints as Java does", c.libraryReadsCheckpoints)
	t.Run("the library finds the same sources, hops and heartbeats", c.libraryFindsSources)
	t.Run("the library translates every offset by MirrorMaker 2's offset-syncs alone", c.libraryTranslatesByOffsetSyncs)
	t.Run("Kafka's formatters print the same for both", c.formattersPrintTheSame)
	c.verify(remoteTopic, c.topics...)
	c.m.stop()
}

// writeAndWait writes n records to each partition of plain, n more in transactions, and waits until milena has copied all and MirrorMaker 2
// has copied mirrored records in all, aborted ones included.
func (c *mirrorClient) writeAndWait(n, mirrored int) {
	c.t.Helper()
	ctx := c.t.Context()
	shapes := []load.Shape{load.Sized(100 + n)}
	check(c.t, c.writer(load.Options{Topic: "plain", Partitions: 3, Shapes: shapes}).Write(ctx, n))
	_, err := load.Transactions(ctx, c.source, load.Options{Topic: "transactions", Partitions: 3, Shapes: shapes}, n/30, 30)
	check(c.t, err)
	c.waitCopied(c.m, time.Minute, c.topics...)
	eventually(c.t, time.Minute, "MirrorMaker 2 has copied the topics", func() (bool, string) {
		n := 0
		for _, topic := range c.topics {
			ends, err := verify.ReadEnds(ctx, c.targetClient, mm2.RemoteTopic(topic))
			if err != nil {
				return false, err.Error()
			}
			n += int(ends.End[0] + ends.End[1] + ends.End[2])
		}
		return n >= mirrored, fmt.Sprintf("%d of %d", n, mirrored)
	})
}

// askJava asks MirrorClient about both sources.
func (c *mirrorClient) askJava() {
	c.t.Helper()
	c.output = map[string]string{}
	for alias := range remoteNames() {
		c.output[alias] = askJava(c.t, c.target, alias, c.groups...)
	}
}

func (c *mirrorClient) waitMirrorMakerCheckpoints() {
	c.t.Helper()
	eventually(c.t, time.Minute, "MirrorMaker 2 has written checkpoints of all groups, and heartbeats", func() (bool, string) {
		c.askJava()
		found := parseJava(c.t, c.output["primary"])
		n := 0
		for _, group := range c.groups {
			if len(found[group]) > 0 {
				n++
			}
		}
		// The group at the beginning is before MirrorMaker 2's oldest sync point, so it may have no checkpoint.
		return n >= len(c.groups)-1 && strings.Contains(c.output["primary"], "replicationHops=1"), c.output["primary"]
	})
}

func (c *mirrorClient) sameNames(t *testing.T) {
	facts := func(alias string) string {
		text, _, _ := strings.Cut(c.output[alias], "translateOffsets")
		return text
	}
	t.Logf("\n%s", facts("source"))
	want := "upstreamClusters=[primary, source]\nreplicationHops=1\nheartbeatTopics=[heartbeats, primary.heartbeats, source.heartbeats]\n" +
		"checkpointTopics=[primary.checkpoints.internal, source.checkpoints.internal]\nremoteTopics="
	for alias, name := range remoteNames() {
		remote := []string{name("heartbeats"), name("plain"), name("transactions")}
		if got, want := facts(alias), want+"["+strings.Join(remote, ", ")+"]\n"; got != want {
			t.Errorf("of %s Java reports\n%s\nwant\n%s", alias, got, want)
		}
	}
}

func (c *mirrorClient) offsetsSkipNothing(t *testing.T) {
	for alias, name := range remoteNames() {
		o := c.groupOutcome(c.groups, c.topics, name, parseJava(t, c.output[alias]))
		t.Logf("%-8s %s", alias, o)
		if o.skipped > 0 || alias == "source" && !o.exact() {
			t.Errorf("%s: %s\n%s", alias, o, c.output[alias])
		}
	}
}

func (c *mirrorClient) openLibrary(t *testing.T) *offsets.Client {
	t.Helper()
	client, err := offsets.Open(t.Context(), offsets.Options{Client: c.targetClient})
	check(t, err)
	t.Cleanup(client.Close)
	return client
}

func (c *mirrorClient) libraryReadsCheckpoints(t *testing.T) {
	client := c.openLibrary(t)
	found := parseJava(t, c.output["primary"])
	for group, list := range found {
		if len(list) == 0 {
			continue
		}
		translated, err := client.Group(t.Context(), "primary", group)
		check(t, err)
		for _, one := range translated {
			if at := found.at(group, one.TargetTopic, one.Partition); one.Err != nil || one.Target != at || one.Origin != offsets.FromCheckpoint || one.Lag < 0 {
				t.Errorf("%s in %s-%d: %+v; Java reports %d", group, one.TargetTopic, one.Partition, one, at)
			}
		}
	}
}

func (c *mirrorClient) libraryFindsSources(t *testing.T) {
	ctx, client := t.Context(), c.openLibrary(t)
	for alias := range remoteNames() {
		hops, err := client.Hops(ctx, alias)
		check(t, err)
		remote, err := client.RemoteTopics(ctx, alias)
		check(t, err)
		if !strings.Contains(c.output[alias], fmt.Sprintf("replicationHops=%d\n", hops)) ||
			!strings.Contains(c.output[alias], "remoteTopics=["+strings.Join(remote, ", ")+"]") {
			t.Errorf("%s is %d hops away, with %v; Java reports\n%s", alias, hops, remote, c.output[alias])
		}
	}
	sources, err := client.Sources(ctx)
	check(t, err)
	if !slices.Equal(sources, []string{"primary", "source"}) {
		t.Errorf("sources are %v", sources)
	}
	heartbeats, err := client.Heartbeats(ctx)
	check(t, err)
	fresh := map[string]bool{}
	for _, h := range heartbeats {
		fresh[h.Topic+" "+h.Source+" "+h.Target] = time.Since(h.At) < 2*time.Minute // MirrorMaker 2 may be late on a busy machine
	}
	for _, want := range []string{
		"heartbeats primary dr", "heartbeats source target", "primary.heartbeats dr primary", "source.heartbeats target source",
		"primary.heartbeats target source", "source.heartbeats dr primary",
	} {
		if !fresh[want] {
			t.Errorf("there is no fresh heartbeat %q among %v", want, heartbeats)
		}
	}
}

// libraryTranslatesByOffsetSyncs translates the offset of every record of MirrorMaker 2's copies, forward and reverse: the result is never
// after the record, and at it where the library reports exact.
func (c *mirrorClient) libraryTranslatesByOffsetSyncs(t *testing.T) {
	ctx, client := t.Context(), c.openLibrary(t)
	for _, topic := range c.topics {
		source, target := readContents(t, c.sourceClient, topic), readContents(t, c.targetClient, mm2.RemoteTopic(topic))
		translated, unknown, reread := 0, 0, int64(0)
		for partition, records := range source {
			copyOffset, sourceOffset := map[string]int64{}, map[string]int64{}
			for _, r := range target[partition] {
				copyOffset[r.id] = r.offset
			}
			for _, r := range records {
				sourceOffset[r.id] = r.offset
				translated++
				got, err := client.Forward(ctx, mm2.RemoteTopic(topic), partition, r.offset)
				want := copyOffset[r.id]
				var before *offsets.NotReplicatedError
				switch {
				case errors.As(err, &before):
					unknown++
				case err != nil || got.Target > want || got.Exact && got.Target != want || got.Origin != offsets.FromOffsetSyncs:
					t.Fatalf("%s-%d forward %d: %+v, %v; the record is at %d", topic, partition, r.offset, got, err, want)
				default:
					reread += want - got.Target
				}
			}
			for _, r := range target[partition] {
				want, committed := sourceOffset[r.id] // MirrorMaker 2 copies aborted records too
				got, err := client.Reverse(ctx, mm2.RemoteTopic(topic), partition, r.offset)
				if committed && err == nil && (got.Source > want || got.Exact && got.Source != want || got.Origin != offsets.FromOffsetSyncs) {
					t.Fatalf("%s-%d reverse %d: %+v; the record is at %d", topic, partition, r.offset, got, want)
				}
			}
		}
		t.Logf("%s: %d offsets translated, %d unknown, on average %.1f records would be read again", topic, translated, unknown, float64(reread)/float64(max(translated-unknown, 1)))
	}
}

// formattersPrintTheSame compares what Kafka's formatters print of both replicators' internal topics, with all numbers and aliases masked.
func (c *mirrorClient) formattersPrintTheSame(t *testing.T) {
	number, alias := regexp.MustCompile(`\d+`), regexp.MustCompile(`=(source|target|primary|dr)([.,])`)
	for formatter, name := range map[string]string{"HeartbeatFormatter": "%s.heartbeats", "CheckpointFormatter": "%s.checkpoints.internal", "OffsetSyncFormatter": "mm2-offset-syncs.%s.internal"} {
		lines := c.format(t, formatter, name)
		masked := map[string]map[string]bool{"source": {}, "primary": {}} // by source alias
		for line := range strings.Lines(lines) {
			if !strings.HasPrefix(line, strings.TrimSuffix(formatter, "Formatter")+"{") {
				t.Errorf("%s prints %q", formatter, line)
			}
			text := alias.ReplaceAllString(number.ReplaceAllString(strings.TrimSpace(line), "N"), "=X$2")
			for alias := range remoteNames() {
				if formatter != "CheckpointFormatter" || strings.Contains(line, "="+alias+".") {
					masked[alias][text] = true
				}
			}
		}
		if len(masked["source"]) == 0 || !maps.Equal(masked["source"], masked["primary"]) {
			t.Errorf("%s prints of MirrorMaker 2's records\n%v\nand of milena's\n%v", formatter, masked["primary"], masked["source"])
		}
		t.Logf("%s: %d different lines, numbers and aliases masked", formatter, len(masked["source"]))
	}
}

// format prints the topics of both replicators with one of Kafka's formatters; name has %s for the source alias.
func (c *mirrorClient) format(t *testing.T, formatter, name string) string {
	t.Helper()
	records := int64(0)
	for alias := range remoteNames() {
		ends, err := verify.ReadEnds(t.Context(), c.targetClient, fmt.Sprintf(name, alias))
		check(t, err)
		records += ends.End[0]
	}
	out, err := c.target.Jars().Tool(within(t, time.Minute, "the formatter ends"), "org.apache.kafka.tools.consumer.ConsoleConsumer",
		"--bootstrap-server", strings.Join(c.target.Addrs(), ","), "--include", fmt.Sprintf(regexp.QuoteMeta(name), "(source|primary)"), "--from-beginning",
		"--max-messages", fmt.Sprint(records), "--timeout-ms", "5000", "--formatter", "org.apache.kafka.connect.mirror.formatters."+formatter)
	check(t, err)
	return string(out)
}
