package e2e_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/mm2"
)

// way is a question of Java: a cluster, and the one whose topics come there.
type way struct {
	on, of string // aliases
	topic  string // of the second cluster, with the groups
	copied string // its name on the first
}

// fixture is a pair of clusters, a and b, with the same records and groups each time it is made.
type fixture struct {
	*pair
	file    string // mm2.properties
	clients map[string]*kgo.Client
	admins  map[string]*kadm.Client
	on      map[string]*kafka.Cluster
}

const (
	fixtureRecords    = 2000
	fixturePartitions = 2
)

// fixtureGroups stand at the beginning, behind, and at the end of each partition.
func fixtureGroups() map[string]int64 {
	return map[string]int64{"start": 0, "behind": 700, "near": fixtureRecords - 3, "end": fixtureRecords}
}

func newFixture(t *testing.T, properties map[string]string) *fixture {
	t.Helper()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	w := &fixture{
		pair: p, file: filepath.Join(p.dir, "mm2.properties"),
		clients: map[string]*kgo.Client{"a": p.sourceClient, "b": p.targetClient},
		admins:  map[string]*kadm.Client{"a": p.sourceAdmin, "b": p.targetAdmin},
		on:      map[string]*kafka.Cluster{"a": p.source, "b": p.target},
	}
	all := map[string]string{
		"clusters": "a, b", "a.bootstrap.servers": strings.Join(p.source.Addrs(), ","), "b.bootstrap.servers": strings.Join(p.target.Addrs(), ","),
		"a->b.enabled": "true", "topics": "orders, payments", "groups": strings.Join(slices.Sorted(maps.Keys(fixtureGroups())), ", "),
		"replication.factor": "1", "refresh.topics.interval.seconds": "1", "refresh.groups.interval.seconds": "1",
		"emit.checkpoints.interval.seconds": "1", "emit.heartbeats.interval.seconds": "1", "offset.flush.interval.ms": "1000",
		"sync.group.offsets.enabled": "true", "sync.group.offsets.interval.seconds": "1", "sync.topic.acls.enabled": "false",
		"offset.lag.max": "0", // MirrorMaker 2 translates as well as it can
	}
	for _, topic := range []string{"checkpoints.topic", "heartbeats.topic", "offset-syncs.topic", "offset.storage", "status.storage", "config.storage"} {
		all[topic+".replication.factor"] = "1"
	}
	maps.Copy(all, properties)
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s = %s\n", key, all[key])
	}
	check(t, os.WriteFile(w.file, []byte(text.String()), 0o600))
	for alias, topic := range map[string]string{"a": "orders", "b": "payments"} {
		check(t, createTopic(t.Context(), w.admins[alias], topic, fixturePartitions, 1))
		writer, err := load.New(w.on[alias], load.Options{Topic: topic, Partitions: fixturePartitions, Shapes: []load.Shape{load.Sized(200)}})
		check(t, err)
		check(t, writer.Write(t.Context(), fixtureRecords))
		writer.Close()
	}
	return w
}

// commit puts the groups in place.
func (w *fixture) commit(ways []way) {
	for _, way := range ways {
		for group, at := range fixtureGroups() {
			for partition := range int32(fixturePartitions) {
				commitOffset(w.t, w.admins[way.of], group, way.topic, partition, at, "note of "+group)
			}
		}
	}
}

// ask has Java answer with the same file that the replicator was given.
func (w *fixture) ask(way way) string {
	w.t.Helper()
	args := append([]string{w.file, way.on, way.of}, slices.Sorted(maps.Keys(fixtureGroups()))...)
	out, err := w.source.Jars().Tool(within(w.t, time.Minute, "Java answers"), filepath.Join("testdata", "MirrorFile.java"), args...)
	check(w.t, err)
	return string(out)
}

// answers waits until the replicator is done, as far as Java sees, and gives what it sees.
func (w *fixture) answers(ways []way) map[way]string {
	w.t.Helper()
	w.eachCopied(ways)
	w.commit(ways)
	said := map[way]string{}
	for _, way := range ways {
		eventually(w.t, 2*time.Minute, "the groups are translated and the heartbeats have come", func() (bool, string) {
			said[way] = w.ask(way)
			found := parseJava(w.t, said[way])
			for partition := range int32(fixturePartitions) {
				if found.at("end", way.copied, partition) < fixtureRecords {
					return false, said[way]
				}
			}
			return strings.Contains(said[way], "replicationHops=1 "), said[way]
		})
	}
	return said
}

// eachCopied waits until all records are on the other side.
func (w *fixture) eachCopied(ways []way) {
	w.t.Helper()
	for _, way := range ways {
		eventually(w.t, 2*time.Minute, way.topic+" is copied", func() (bool, string) {
			ends, err := kadm.NewClient(w.clients[way.on]).ListEndOffsets(w.t.Context(), way.copied)
			n := int64(0)
			ends.Each(func(o kadm.ListedOffset) { n += max(0, o.Offset) })
			return err == nil && n >= fixtureRecords*fixturePartitions, fmt.Sprintf("%d, %v", n, err)
		})
	}
}

// judge says what Java's positions would do to the consumers.
func (w *fixture) judge(way way, said string) outcome {
	w.t.Helper()
	groups := slices.Sorted(maps.Keys(fixtureGroups()))
	return groupMove{
		from: way.topic, to: way.copied, fromRecords: readContents(w.t, w.clients[way.of], way.topic), toRecords: readContents(w.t, w.clients[way.on], way.copied),
		fromOffsets: readCommitted(w.t, w.admins[way.of], groups), toOffsets: parseJava(w.t, said), groups: groups,
	}.outcome()
}

// topicOffsets are positions as numbers of records before them: what stands between the records, such as the marker of a fence, does not count.
func (w *fixture) recordsBefore(way way, said string) map[string]int {
	w.t.Helper()
	found, copies := parseJava(w.t, said), readContents(w.t, w.clients[way.on], way.copied)
	topicOffsets := map[string]int{}
	for group := range fixtureGroups() {
		for partition, records := range copies {
			place := -1
			if at := found.at(group, way.copied, partition); at >= 0 {
				place, _ = slices.BinarySearchFunc(records, at, func(r logRecord, at int64) int { return cmp.Compare(r.offset, at) })
			}
			topicOffsets[fmt.Sprintf("%s %s-%d", group, way.copied, partition)] = place
		}
	}
	return topicOffsets
}

var (
	// Bookkeeping are the topics that only one of the two has: Connect's, and the journal.
	bookkeeping = regexp.MustCompile(`^(mm2-(configs|offsets|status)\.[ab]\.internal|milena\.[ab]-[ab]\.journal)$`)
	// Journal is the one deliberate difference. Java takes what is before the first separator for a cluster, and with identity every topic for one
	// of the source: so it finds the journal among remote topics, of a cluster called milena with the separator ".".
	journal = regexp.MustCompile(`(, )?milena\.[ab]-[ab]\.journal`)
)

// facts are the lines about names, without the topics that the other replicator does not need.
func facts(said string) string {
	said, _, _ = strings.Cut(said, "translateOffsets")
	var lines []string
	for line := range strings.Lines(said) {
		name, isTopic := strings.CutPrefix(line, "topic ")
		name, _, _ = strings.Cut(name, " ")
		if isTopic && bookkeeping.MatchString(name) {
			continue
		}
		if strings.HasPrefix(line, "remoteTopics=") || strings.HasPrefix(line, "allRemoteTopics=") {
			line = journal.ReplaceAllString(line, "")
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return strings.Join(lines, "\n")
}

// One mm2.properties is all that MirrorMaker 2, milena and the programs that fail over have. Whoever of the two has copied, Java's
// MirrorClient and RemoteClusterUtils find the same topics, hops and clusters, and milena's positions are at least as far.
func TestMirrorClientConfiguredByMM2File(t *testing.T) {
	requireKafka(t)
	both := map[string]string{"b->a.enabled": "true"}
	for name, c := range map[string]struct {
		properties map[string]string
		separator  string
		identity   bool
	}{
		"both directions": {both, ".", false},
		"own separator and syncs on the target": {map[string]string{
			"b->a.enabled": "true", "replication.policy.separator": "_", "offset-syncs.topic.location": "target",
		}, "_", false},
		"own separator but not for internal topics": {map[string]string{
			"b->a.enabled": "true", "replication.policy.separator": "--", "replication.policy.internal.topic.separator.enabled": "false",
		}, "--", false},
		"identity": {map[string]string{
			"replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy", "offset-syncs.topic.location": "target",
		}, ".", true},
	} {
		t.Run(name, func(t *testing.T) {
			ways := []way{{"b", "a", "orders", "a" + c.separator + "orders"}, {"a", "b", "payments", "b" + c.separator + "payments"}}
			if c.identity {
				ways = []way{{"b", "a", "orders", "orders"}}
			}
			theirs, ours := map[way]string{}, map[way]string{}
			theirPlaces, ourPlaces := map[way]map[string]int{}, map[way]map[string]int{}
			t.Run("MirrorMaker 2", func(t *testing.T) {
				w := newFixture(t, c.properties)
				p, err := mm2.StartFile(t.Context(), w.source.Jars(), w.dir, w.file)
				check(t, err)
				theirs = w.answers(ways)
				for _, way := range ways {
					theirPlaces[way] = w.recordsBefore(way, theirs[way])
					t.Logf("%s of %s: %s", way.on, way.of, w.judge(way, theirs[way]))
				}
				p.Kill()
			})
			t.Run("milena", func(t *testing.T) {
				w := newFixture(t, c.properties)
				bin, err := buildMilena()
				check(t, err)
				d, err := daemon.NewFromFile(t.Context(), bin, w.dir, w.file)
				check(t, err)
				m := &milena{d, t}
				m.start()
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("milena:\n%s", m.Tail(40))
					}
				})
				m.waitReady(30 * time.Second)
				ours = w.answers(ways)
				for _, way := range ways {
					ourPlaces[way] = w.recordsBefore(way, ours[way])
					o := w.judge(way, ours[way])
					t.Logf("%s of %s: %s", way.on, way.of, o)
					if o.missing+o.skipped+o.reread > 0 {
						t.Errorf("%s of %s: %s\n%s", way.on, way.of, o, ours[way])
					}
				}
				p := *w.pair
				for _, way := range ways {
					p.sourceClient, p.targetClient = w.clients[way.of], w.clients[way.on]
					p.verify(func(string) string { return way.copied }, way.topic)
				}
				m.stop()
			})
			if t.Failed() {
				return // nothing to compare
			}
			for _, way := range ways {
				t.Logf("on %s Java says of milena\n%s\nand of MirrorMaker 2\n%s", way.on, ours[way], theirs[way])
				if got, want := facts(ours[way]), facts(theirs[way]); got != want {
					t.Errorf("on %s of %s Java says of milena\n%s\nand of MirrorMaker 2\n%s", way.on, way.of, got, want)
				}
				for place, at := range ourPlaces[way] {
					group, _, _ := strings.Cut(place, " ")
					old, truth := theirPlaces[way][place], int(fixtureGroups()[group])
					if at != truth || at < old || group == "end" && at != old {
						t.Errorf("%s is before record %d by milena's checkpoint, before %d by MirrorMaker 2's; it is before %d", place, at, old, truth)
					}
				}
				if strings.Contains(ours[way], "the ways to ask differ") {
					t.Errorf("Java says of milena\n%s", ours[way])
				}
			}
		})
	}
}
