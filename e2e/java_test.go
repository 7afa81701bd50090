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

// parseJava takes the positions of groups out of what Java said.
func parseJava(t *testing.T, out string) committedOffsets {
	t.Helper()
	groups := committedOffsets{}
	for _, line := range javaOffsets.FindAllStringSubmatch(out, -1) {
		positions := kadm.OffsetResponses{}
		for _, one := range strings.Split(line[2], ", ") {
			m := javaOffset.FindStringSubmatch(one)
			if m == nil {
				continue
			}
			partition, err := strconv.ParseInt(m[2], 10, 32)
			check(t, err)
			at, err := strconv.ParseInt(m[3], 10, 64)
			check(t, err)
			positions.Add(kadm.OffsetResponse{Offset: kadm.Offset{Topic: m[1], Partition: int32(partition), At: at, Metadata: m[4]}})
		}
		groups[line[1]] = positions
	}
	return groups
}

// What Java finds on a cluster that both copy to is the same, but that the one is exact.
func TestMirrorClientReadsBothReplicators(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	random := seeded(t)
	topics := []string{"plain", "transactions"}
	p.createTopic("plain", 3, 1)
	p.createTopic("transactions", 3, 1)
	write := func(n int) {
		check(t, p.writer(load.Options{Topic: "plain", Partitions: 3, Shapes: []load.Shape{load.Sized(100 + n)}}).Write(ctx, n))
		_, err := load.Transactions(ctx, p.source, load.Options{Topic: "transactions", Partitions: 3, Shapes: []load.Shape{load.Sized(100 + n)}}, n/30, 30)
		check(t, err)
	}
	m := p.startMilena(syncGroupsOften(p.config(topics...)))
	other, err := mm2.Start(ctx, p.source.Jars(), p.dir, mm2.Options{
		Primary: p.source.Addrs(), DR: p.target.Addrs(), Topics: strings.Join(topics, ","),
		Properties: map[string]string{
			"dr->primary.emit.heartbeats.enabled": "true", "offset-syncs.topic.location": "target", "emit.checkpoints.interval.seconds": "1",
			"refresh.groups.interval.seconds": "1", "refresh.topics.interval.seconds": "1", "dr.offset.flush.interval.ms": "1000",
		},
	})
	check(t, err)
	write(1500)
	p.waitCopied(m, time.Minute, topics...)
	arrived := func(least int) {
		eventually(t, time.Minute, "MirrorMaker 2 has copied as well", func() (bool, string) {
			n := 0
			for _, topic := range topics {
				ends, err := verify.ReadEnds(ctx, p.targetClient, mm2.RemoteTopic(topic))
				if err != nil {
					return false, err.Error()
				}
				n += int(ends.End[0] + ends.End[1] + ends.End[2])
			}
			return n >= least, fmt.Sprintf("%d of %d", n, least)
		})
	}
	arrived(3*1500 + 1500/30*30)
	write(600)
	p.waitCopied(m, time.Minute, topics...)
	arrived(3*2100 + 2100/30*30) // it copies what was aborted too
	groups := commitScatteredGroups(t, p, random, topics...)
	waitGroupsSynced(t, p.sourceAdmin, p.targetAdmin, groups, topics, remoteTopic)

	aliases := map[string]func(string) string{"source": remoteTopic, "primary": mm2.RemoteTopic}
	var said map[string]string
	eventually(t, time.Minute, "MirrorMaker 2 has written checkpoints of all groups, and heartbeats have come", func() (bool, string) {
		said = map[string]string{}
		for alias := range aliases {
			said[alias] = askJava(t, p.target, alias, groups...)
		}
		found := parseJava(t, said["primary"])
		n := 0
		for _, group := range groups {
			if len(found[group]) > 0 {
				n++
			}
		}
		// The group at the beginning is older than its oldest sync may be: it has no checkpoint then.
		return n >= len(groups)-1 && strings.Contains(said["primary"], "replicationHops=1"), said["primary"]
	})
	other.Kill() // what it wrote stays as it is
	for alias := range aliases {
		said[alias] = askJava(t, p.target, alias, groups...)
	}
	t.Run("names, hops and sources are the same", func(t *testing.T) {
		facts := func(alias string) string {
			text, _, _ := strings.Cut(said[alias], "translateOffsets")
			return text
		}
		t.Logf("\n%s", facts("source"))
		want := "upstreamClusters=[primary, source]\nreplicationHops=1\nheartbeatTopics=[heartbeats, primary.heartbeats, source.heartbeats]\n" +
			"checkpointTopics=[primary.checkpoints.internal, source.checkpoints.internal]\nremoteTopics="
		for alias, name := range aliases {
			remote := []string{name("heartbeats"), name("plain"), name("transactions")}
			if got, want := facts(alias), want+"["+strings.Join(remote, ", ")+"]\n"; got != want {
				t.Errorf("of %s Java says\n%s\nwant\n%s", alias, got, want)
			}
		}
	})
	t.Run("translated offsets skip nothing", func(t *testing.T) {
		were := readCommitted(t, p.sourceAdmin, groups)
		for alias, name := range aliases {
			var o outcome
			for _, topic := range topics {
				o = o.add(groupMove{
					from: topic, to: name(topic), fromRecords: readContents(t, p.sourceClient, topic), toRecords: readContents(t, p.targetClient, name(topic)),
					fromOffsets: were, toOffsets: parseJava(t, said[alias]), groups: groups,
				}.outcome())
			}
			t.Logf("%-8s %s", alias, o)
			if o.skipped > 0 || alias == "source" && o.reread+o.missing > 0 {
				t.Errorf("%s: %s\n%s", alias, o, said[alias])
			}
		}
	})
	t.Run("the library reads MirrorMaker 2's topics as Java does", func(t *testing.T) {
		client, err := offsets.Open(ctx, offsets.Options{Client: p.targetClient})
		check(t, err)
		defer client.Close()
		found := parseJava(t, said["primary"])
		for group, list := range found {
			if len(list) == 0 {
				continue
			}
			positions, err := client.Group(ctx, "primary", group)
			check(t, err)
			for _, one := range positions {
				if at := found.at(group, one.TargetTopic, one.Partition); one.Err != nil || one.Target != at || one.Origin != offsets.FromCheckpoint || one.Lag < 0 {
					t.Errorf("%s in %s-%d: %+v; Java says %d", group, one.TargetTopic, one.Partition, one, at)
				}
			}
		}
		for alias := range aliases {
			hops, err := client.Hops(ctx, alias)
			check(t, err)
			remote, err := client.RemoteTopics(ctx, alias)
			check(t, err)
			if !strings.Contains(said[alias], fmt.Sprintf("replicationHops=%d\n", hops)) ||
				!strings.Contains(said[alias], "remoteTopics=["+strings.Join(remote, ", ")+"]") {
				t.Errorf("%s is %d hops away, with %v; Java says\n%s", alias, hops, remote, said[alias])
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
			fresh[h.Topic+" "+h.Source+" "+h.Target] = time.Since(h.At) < 20*time.Second
		}
		for _, want := range []string{
			"heartbeats primary dr", "heartbeats source target", "primary.heartbeats dr primary", "source.heartbeats target source",
			"primary.heartbeats target source", "source.heartbeats dr primary",
		} {
			if !fresh[want] {
				t.Errorf("there is no fresh heartbeat %q among %v", want, heartbeats)
			}
		}
	})
	t.Run("every offset by MirrorMaker 2's offset-syncs alone", func(t *testing.T) {
		client, err := offsets.Open(ctx, offsets.Options{Client: p.targetClient})
		check(t, err)
		defer client.Close()
		for _, topic := range topics {
			from, to := readContents(t, p.sourceClient, topic), readContents(t, p.targetClient, mm2.RemoteTopic(topic))
			asked, unknown, again := 0, 0, int64(0)
			for partition, records := range from {
				place, origin := map[string]int64{}, map[string]int64{}
				for _, r := range to[partition] {
					place[r.id] = r.offset
				}
				for _, r := range records {
					origin[r.id] = r.offset
					asked++
					got, err := client.Forward(ctx, mm2.RemoteTopic(topic), partition, r.offset)
					var before *offsets.NotReplicatedError
					switch {
					case errors.As(err, &before):
						unknown++
					case err != nil || got.Target > place[r.id] || got.Exact && got.Target != place[r.id] || got.Origin != offsets.FromOffsetSyncs:
						t.Fatalf("%s-%d forward %d: %+v, %v; the record is at %d", topic, partition, r.offset, got, err, place[r.id])
					default:
						again += place[r.id] - got.Target
					}
				}
				for _, r := range to[partition] {
					want, committed := origin[r.id] // what was aborted is copied too
					got, err := client.Reverse(ctx, mm2.RemoteTopic(topic), partition, r.offset)
					if committed && err == nil && (got.Source > want || got.Exact && got.Source != want || got.Origin != offsets.FromOffsetSyncs) {
						t.Fatalf("%s-%d reverse %d: %+v; the record is at %d", topic, partition, r.offset, got, want)
					}
				}
			}
			t.Logf("%s: %d offsets asked, %d are not known, on average %.1f records would be read again", topic, asked, unknown, float64(again)/float64(max(asked-unknown, 1)))
		}
	})
	t.Run("Kafka's formatters print both alike", func(t *testing.T) {
		number, alias := regexp.MustCompile(`\d+`), regexp.MustCompile(`=(source|target|primary|dr)([.,])`)
		for formatter, name := range map[string]string{"HeartbeatFormatter": "%s.heartbeats", "CheckpointFormatter": "%s.checkpoints.internal", "OffsetSyncFormatter": "mm2-offset-syncs.%s.internal"} {
			there := int64(0)
			for alias := range aliases {
				ends, err := verify.ReadEnds(ctx, p.targetClient, fmt.Sprintf(name, alias))
				check(t, err)
				there += ends.End[0]
			}
			out, err := p.target.Jars().Tool(within(t, time.Minute, "the formatter ends"), "org.apache.kafka.tools.consumer.ConsoleConsumer",
				"--bootstrap-server", strings.Join(p.target.Addrs(), ","), "--include", fmt.Sprintf(regexp.QuoteMeta(name), "(source|primary)"), "--from-beginning",
				"--max-messages", fmt.Sprint(there), "--timeout-ms", "5000", "--formatter", "org.apache.kafka.connect.mirror.formatters."+formatter)
			check(t, err)
			shapes := map[string]map[string]bool{"source": {}, "primary": {}} // without numbers, by alias
			for line := range strings.Lines(string(out)) {
				if !strings.HasPrefix(line, strings.TrimSuffix(formatter, "Formatter")+"{") {
					t.Errorf("%s prints %q", formatter, line)
				}
				shape := alias.ReplaceAllString(number.ReplaceAllString(strings.TrimSpace(line), "N"), "=X$2")
				for alias := range aliases {
					if formatter != "CheckpointFormatter" || strings.Contains(line, "="+alias+".") {
						shapes[alias][shape] = true
					}
				}
			}
			if len(shapes["source"]) == 0 || !maps.Equal(shapes["source"], shapes["primary"]) {
				t.Errorf("%s prints of MirrorMaker 2's\n%v\nand of milena's\n%v", formatter, shapes["primary"], shapes["source"])
			}
			t.Logf("%s: %d shapes", formatter, len(shapes["source"]))
		}
	})
	p.verify(remoteTopic, topics...)
	m.stop()
}
