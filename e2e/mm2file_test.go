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

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/mm2"
)

// direction is one direction of replication: topics and groups of cluster source are copied to cluster target.
type direction struct {
	source, target string // aliases
	topic          string // on the source
	remote         string // its copy on the target
}

// fixture is two clusters, a and b, with the same records and groups in every fixture, and one mm2.properties.
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

// fixtureGroups are committed offsets, the same in every partition: at the start, behind, and at the end.
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
		"offset.lag.max": "0", // so that MirrorMaker 2 translates as exactly as it can
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
		check(t, kafka.CreateTopic(t.Context(), w.admins[alias], topic, fixturePartitions, 1))
		writer, err := load.New(w.on[alias], load.Options{Topic: topic, Partitions: fixturePartitions, Shapes: []load.Shape{load.Sized(200)}})
		check(t, err)
		check(t, writer.Write(t.Context(), fixtureRecords))
		writer.Close()
	}
	return w
}

// commit commits the groups on the source of each direction.
func (w *fixture) commit(directions []direction) {
	for _, d := range directions {
		for group, at := range fixtureGroups() {
			for partition := range int32(fixturePartitions) {
				commitOffset(w.t, w.admins[d.source], group, d.topic, partition, at, "metadata of "+group)
			}
		}
	}
}

// askJava runs MirrorFile.java, with the same file that the replicator runs with.
func (w *fixture) askJava(d direction) string {
	w.t.Helper()
	args := append([]string{w.file, d.target, d.source}, slices.Sorted(maps.Keys(fixtureGroups()))...)
	out, err := w.source.Jars().Tool(within(w.t, time.Minute, "Java answers"), filepath.Join("testdata", "MirrorFile.java"), args...)
	check(w.t, err)
	return string(out)
}

// waitJava commits the groups, waits until Java finds them all translated, and returns what Java reports, by direction.
func (w *fixture) waitJava(directions []direction) map[direction]string {
	w.t.Helper()
	w.waitRecords(directions)
	w.commit(directions)
	output := map[direction]string{}
	for _, d := range directions {
		eventually(w.t, 2*time.Minute, "the groups are translated and the heartbeats are copied", func() (bool, string) {
			output[d] = w.askJava(d)
			found := parseJava(w.t, output[d])
			for partition := range int32(fixturePartitions) {
				if found.at("end", d.remote, partition) < fixtureRecords {
					return false, output[d]
				}
			}
			return strings.Contains(output[d], "replicationHops=1 "), output[d]
		})
	}
	return output
}

// waitRecords waits until all records are on the other side.
func (w *fixture) waitRecords(directions []direction) {
	w.t.Helper()
	for _, d := range directions {
		eventually(w.t, 2*time.Minute, d.topic+" is copied", func() (bool, string) {
			ends, err := kadm.NewClient(w.clients[d.target]).ListEndOffsets(w.t.Context(), d.remote)
			n := int64(0)
			ends.Each(func(o kadm.ListedOffset) { n += max(0, o.Offset) })
			return err == nil && n >= fixtureRecords*fixturePartitions, fmt.Sprintf("%d, %v", n, err)
		})
	}
}

// outcome compares the offsets that Java translates with those of the source.
func (w *fixture) outcome(d direction, output string) outcome {
	w.t.Helper()
	groups := slices.Sorted(maps.Keys(fixtureGroups()))
	return groupMove{
		from: d.topic, to: d.remote, fromRecords: readContents(w.t, w.clients[d.source], d.topic), toRecords: readContents(w.t, w.clients[d.target], d.remote),
		fromOffsets: readCommitted(w.t, w.admins[d.source], groups), toOffsets: parseJava(w.t, output), groups: groups,
	}.outcome()
}

// recordsBefore expresses the offsets that Java translates as the number of records before them, by group and partition. Control records, such
// as the marker of a fence, do not count, so that both replicators can be compared.
func (w *fixture) recordsBefore(d direction, output string) map[string]int {
	w.t.Helper()
	found, copies := parseJava(w.t, output), readContents(w.t, w.clients[d.target], d.remote)
	before := map[string]int{}
	for group := range fixtureGroups() {
		for partition, records := range copies {
			n := -1
			if at := found.at(group, d.remote, partition); at >= 0 {
				n, _ = slices.BinarySearchFunc(records, at, func(r logRecord, at int64) int { return cmp.Compare(r.offset, at) })
			}
			before[fmt.Sprintf("%s %s-%d", group, d.remote, partition)] = n
		}
	}
	return before
}

// ownTopics exist with one of the two replicators only: Connect's topics, the journal and the control topic.
var ownTopics = regexp.MustCompile(`^(mm2-(configs|offsets|status)\.[ab]\.internal|milena\.[ab]-[ab]\.(journal|control))$`)

// journal is the one deliberate difference. Java takes what precedes the first separator for a cluster alias, and with identity naming every
// topic for one of the source. So it counts the journal and the control topic among remote topics, with the separator "." as one of cluster milena.
var journal = regexp.MustCompile(`(, )?milena\.[ab]-[ab]\.(journal|control)`)

// facts are the lines about names, without the topics that only one replicator has.
func facts(output string) string {
	output, _, _ = strings.Cut(output, "translateOffsets")
	var lines []string
	for line := range strings.Lines(output) {
		name, isTopic := strings.CutPrefix(line, "topic ")
		name, _, _ = strings.Cut(name, " ")
		if isTopic && ownTopics.MatchString(name) {
			continue
		}
		if strings.HasPrefix(line, "remoteTopics=") || strings.HasPrefix(line, "allRemoteTopics=") {
			line = journal.ReplaceAllString(line, "")
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return strings.Join(lines, "\n")
}

// javaReport is what Java finds with one replicator, by direction.
type javaReport struct {
	output  map[direction]string
	offsets map[direction]map[string]int // as recordsBefore has them
}

// MirrorMaker 2, milena and the programs that fail over share one mm2.properties. With either replicator, Java's MirrorClient and
// RemoteClusterUtils find the same topics, hops and clusters, and milena's translated offsets are at least as far.
func TestMirrorClientConfiguredByMM2File(t *testing.T) {
	long(t)
	t.Parallel()
	requireKafka(t)
	both := map[string]string{"b->a.enabled": "true"}
	for name, c := range map[string]struct {
		properties map[string]string
		separator  string
		identity   bool
	}{
		"both directions": {both, ".", false},
		"another separator and offset-syncs on the target": {map[string]string{
			"b->a.enabled": "true", "replication.policy.separator": "_", "offset-syncs.topic.location": "target",
		}, "_", false},
		"another separator but not for internal topics": {map[string]string{
			"b->a.enabled": "true", "replication.policy.separator": "--", "replication.policy.internal.topic.separator.enabled": "false",
		}, "--", false},
		"identity": {map[string]string{
			"replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy", "offset-syncs.topic.location": "target",
		}, ".", true},
	} {
		t.Run(name, func(t *testing.T) {
			directions := []direction{{"a", "b", "orders", "a" + c.separator + "orders"}, {"b", "a", "payments", "b" + c.separator + "payments"}}
			if c.identity {
				directions = []direction{{"a", "b", "orders", "orders"}}
			}
			var theirs, ours javaReport
			t.Run("MirrorMaker 2", func(t *testing.T) { theirs = reportOfMirrorMaker(t, c.properties, directions) })
			t.Run("milena", func(t *testing.T) { ours = reportOfMilena(t, c.properties, directions) })
			if t.Failed() {
				return // nothing to compare
			}
			for _, d := range directions {
				compareReports(t, d, ours, theirs)
			}
		})
	}
}

func reportOfMirrorMaker(t *testing.T, properties map[string]string, directions []direction) javaReport {
	t.Helper()
	w := newFixture(t, properties)
	p, err := mm2.StartFile(t.Context(), w.source.Jars(), w.dir, w.file)
	check(t, err)
	defer p.Kill()
	r := javaReport{w.waitJava(directions), map[direction]map[string]int{}}
	for _, d := range directions {
		r.offsets[d] = w.recordsBefore(d, r.output[d])
		t.Logf("%s to %s: %s", d.source, d.target, w.outcome(d, r.output[d]))
	}
	return r
}

// reportOfMilena also checks that every offset is translated exactly, and verifies the copies.
func reportOfMilena(t *testing.T, properties map[string]string, directions []direction) javaReport {
	t.Helper()
	w := newFixture(t, properties)
	m := w.newMilenaFromFile("milena", w.file)
	m.start()
	m.waitReady(30 * time.Second)
	r := javaReport{w.waitJava(directions), map[direction]map[string]int{}}
	for _, d := range directions {
		r.offsets[d] = w.recordsBefore(d, r.output[d])
		o := w.outcome(d, r.output[d])
		t.Logf("%s to %s: %s", d.source, d.target, o)
		if !o.exact() {
			t.Errorf("%s to %s: %s\n%s", d.source, d.target, o, r.output[d])
		}
	}
	p := *w.pair
	for _, d := range directions {
		p.sourceClient, p.targetClient = w.clients[d.source], w.clients[d.target]
		p.verify(func(string) string { return d.remote }, d.topic)
	}
	m.stop()
	return r
}

// compareReports checks that Java finds the same names with both, and that milena's offsets are right and at least as far. A group at the end
// is at the same record with both.
func compareReports(t *testing.T, d direction, ours, theirs javaReport) {
	t.Helper()
	t.Logf("on %s Java reports of milena\n%s\nand of MirrorMaker 2\n%s", d.target, ours.output[d], theirs.output[d])
	if got, want := facts(ours.output[d]), facts(theirs.output[d]); got != want {
		t.Errorf("on %s about %s Java reports of milena\n%s\nand of MirrorMaker 2\n%s", d.target, d.source, got, want)
	}
	for name, got := range ours.offsets[d] {
		group, _, _ := strings.Cut(name, " ")
		mirrorMaker, want := theirs.offsets[d][name], int(fixtureGroups()[group])
		if got != want || got < mirrorMaker || group == "end" && got != mirrorMaker {
			t.Errorf("%s is translated to before record %d by milena and before %d by MirrorMaker 2; want %d", name, got, mirrorMaker, want)
		}
	}
	if strings.Contains(ours.output[d], "the methods disagree") {
		t.Errorf("Java reports of milena\n%s", ours.output[d])
	}
}
