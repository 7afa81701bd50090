package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
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
	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/e2e/verify"
)

// lookOften makes a flow look at its groups often.
func lookOften(c daemon.Map) daemon.Map {
	for _, flow := range c["flows"].([]daemon.Map) {
		flow["groups_interval"] = "200ms"
	}
	return c
}

// contents are the committed records of a topic's partitions as identities and offsets. The same content that stands twice in a partition
// gets a number, so that an identity names one record.
type contents map[int32][]placed

type placed struct {
	id     string
	offset int64
}

func readContents(t *testing.T, cl *kgo.Client, topic string) contents {
	t.Helper()
	ends, err := verify.ReadEnds(t.Context(), cl, topic)
	check(t, err)
	read := contents{}
	for partition := range ends.End {
		seen := map[string]int{}
		check(t, verify.Sequence(t.Context(), cl, topic, partition, func(r *kgo.Record) error {
			id := fmt.Sprintf("%x|%x|%d", r.Key, r.Value[:min(len(r.Value), 40)], r.Timestamp.UnixMilli())
			seen[id]++
			read[partition] = append(read[partition], placed{fmt.Sprintf("%s#%d", id, seen[id]), r.Offset})
			return nil
		}))
	}
	return read
}

// groupOffsets are what groups committed: by group, topic and partition.
type groupOffsets map[string]kadm.OffsetResponses

func readGroups(t *testing.T, admin *kadm.Client, groups []string) groupOffsets {
	t.Helper()
	read := groupOffsets{}
	for group, fetched := range admin.FetchManyOffsets(t.Context(), groups...) {
		if fetched.Err == nil {
			read[group] = fetched.Fetched
		}
	}
	return read
}

func (g groupOffsets) at(group, topic string, partition int32) int64 {
	if o, ok := g[group].Lookup(topic, partition); ok && o.Err == nil {
		return o.At
	}
	return -1
}

// commitGroup puts a group without members somewhere.
func commitGroup(t *testing.T, admin *kadm.Client, group string, topic string, partition int32, at int64, metadata string) {
	t.Helper()
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: topic, Partition: partition, At: at, LeaderEpoch: -1, Metadata: metadata})
	check(t, admin.CommitAllOffsets(t.Context(), group, o))
}

// outcome is what a fail-over does to the consumers of all groups, counted record by record.
type outcome struct{ positions, unknown, skipped, again int64 }

func (o outcome) String() string {
	return fmt.Sprintf("%d positions, %d of them unknown there; %d records skipped, %d read again", o.positions, o.unknown, o.skipped, o.again)
}

// move is one topic from where the groups were to where they go on.
type move struct {
	from, to      string
	before, after contents
	were, are     groupOffsets
	groups        []string
}

// judge compares, for every group and partition, what its consumer had read with what it will read: each record of the copy exactly one of
// the two. A group without a position there begins at the beginning, as auto.offset.reset=earliest has it.
func (m move) judge() outcome {
	var o outcome
	for _, group := range m.groups {
		for partition, records := range m.before {
			at := m.were.at(group, m.from, partition)
			if at < 0 {
				continue
			}
			o.positions++
			there := m.are.at(group, m.to, partition)
			if there < 0 {
				o.unknown++
				there = 0
			}
			place := map[string]int64{}
			for _, r := range m.after[partition] {
				place[r.id] = r.offset
			}
			for _, r := range records {
				copied, ok := place[r.id]
				switch {
				case !ok:
				case r.offset < at && copied >= there:
					o.again++
				case r.offset >= at && copied < there:
					o.skipped++
				}
			}
		}
	}
	return o
}

func (o outcome) plus(other outcome) outcome {
	return outcome{o.positions + other.positions, o.unknown + other.unknown, o.skipped + other.skipped, o.again + other.again}
}

// scatter commits groups all over the topics: at the beginning, at the end, far behind, and at random places, which are in the middle of
// batches, in transactions, at markers, and in holes that compaction left.
func scatter(t *testing.T, p *pair, random *rand.Rand, topics ...string) []string {
	t.Helper()
	groups := []string{"zero", "end", "tail", "behind", "random-0", "random-1", "random-2", "random-3"}
	for _, topic := range topics {
		ends, err := verify.ReadEnds(t.Context(), p.sourceClient, topic)
		check(t, err)
		for partition, end := range ends.End {
			start := ends.Start[partition]
			for _, group := range groups {
				at := start + random.Int64N(end-start+1)
				switch group {
				case "zero":
					at = start
				case "end":
					at = end
				case "tail":
					at = end - 1
				case "behind":
					at = start + (end-start)/10
				}
				commitGroup(t, p.sourceAdmin, group, topic, partition, at, group+" was here")
			}
		}
	}
	return groups
}

// awaitGroups waits until every position of the groups in the topics has one on the other side.
func awaitGroups(t *testing.T, from, to *kadm.Client, groups, topics []string, name func(string) string) {
	t.Helper()
	eventually(t, 30*time.Second, "all groups are on the other side", func() (bool, string) {
		were, are := readGroups(t, from, groups), readGroups(t, to, groups)
		for _, group := range groups {
			for _, topic := range topics {
				for partition := range were[group][topic] {
					if are.at(group, name(topic), partition) < 0 {
						return false, fmt.Sprintf("%s is nowhere in %s-%d", group, name(topic), partition)
					}
				}
			}
		}
		return true, ""
	})
}

// readOn lets a real consumer of a group go on at the target to where the topics end now, and counts what it reads by topic and partition.
func readOn(t *testing.T, c *kafka.Cluster, cl *kgo.Client, group string, topics []string) map[string]map[int32]int64 {
	t.Helper()
	ctx := within(t, time.Minute, group+" has read what is left")
	left := map[string]map[int32]int64{}
	read := map[string]map[int32]int64{}
	committed := readGroups(t, kadm.NewClient(cl), []string{group})
	for _, topic := range topics {
		ends, err := verify.ReadEnds(ctx, cl, topic)
		check(t, err)
		left[topic], read[topic] = map[int32]int64{}, map[int32]int64{}
		for partition, end := range ends.End {
			if committed.at(group, topic, partition) < end {
				left[topic][partition] = end
			}
		}
	}
	consumer, err := c.Client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	check(t, err)
	defer consumer.Close()
	open := func() (n int) {
		for _, partitions := range left {
			n += len(partitions)
		}
		return n
	}
	for open() > 0 {
		fetches := consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx), left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				read[r.Topic][r.Partition]++
			}
			if r.Offset+1 >= left[r.Topic][r.Partition] {
				delete(left[r.Topic], r.Partition)
			}
		})
	}
	check(t, consumer.CommitUncommittedOffsets(ctx))
	return read
}

func TestGroupsFailOverAndBack(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	random := seeded(t)
	p.createTopic("plain", 3, 1)
	check(t, p.writer(load.Options{Topic: "plain", Partitions: 3, Shapes: []load.Shape{load.Sized(200)}}).Write(ctx, 3000))
	p.createTopic("transactions", 3, 1)
	_, err := load.Transactions(ctx, p.source, load.Options{Topic: "transactions", Partitions: 3}, 90, 30)
	check(t, err)
	compact(t, p, "compacted")
	topics := []string{"plain", "transactions", "compacted"}

	m := p.startMilena(lookOften(p.config(topics...)))
	other, err := mm2.Start(ctx, p.source.Jars(), p.dir, mm2.Options{
		Primary: p.source.Addrs(), DR: p.target.Addrs(), Topics: strings.Join(topics, ","),
		Properties: map[string]string{
			"sync.group.offsets.enabled": "true", "sync.group.offsets.interval.seconds": "1", "emit.checkpoints.interval.seconds": "1",
			"refresh.groups.interval.seconds": "1", "refresh.topics.interval.seconds": "1", "dr.offset.flush.interval.ms": "1000",
		},
	})
	check(t, err)
	p.waitCopied(m, time.Minute, topics...)
	eventually(t, time.Minute, "MirrorMaker 2 has copied as well", func() (bool, string) {
		for _, topic := range topics {
			from, err := verify.ReadEnds(ctx, p.targetClient, copied(topic))
			check(t, err)
			to, err := verify.ReadEnds(ctx, p.targetClient, mm2.Copied(topic))
			if err != nil {
				return false, err.Error()
			}
			for partition := range from.End {
				// It copies aborted records too, and has no holes.
				if to.End[partition] < int64(float64(from.End[partition])*0.99) {
					return false, fmt.Sprintf("%s-%d is at %d of %d", topic, partition, to.End[partition], from.End[partition])
				}
			}
		}
		return true, ""
	})
	// The load goes on for a moment, so that neither has copied everything in one go.
	check(t, p.writer(load.Options{Topic: "plain", Partitions: 3, Shapes: []load.Shape{load.Sized(150)}}).Write(ctx, 700))
	p.waitCopied(m, time.Minute, topics...)

	groups := scatter(t, p, random, topics...)
	awaitGroups(t, p.sourceAdmin, p.targetAdmin, groups, topics, copied)
	if metadata := readGroups(t, p.targetAdmin, groups)["end"]["source.plain"][0].Metadata; metadata != "end was here" {
		t.Errorf("metadata is %q", metadata)
	}
	// What MirrorMaker 2 has not translated after this long it will not translate.
	var mm2Groups groupOffsets
	since, last := time.Now(), ""
	eventually(t, time.Minute, "MirrorMaker 2 has come to rest", func() (bool, string) {
		mm2Groups = readGroups(t, p.targetAdmin, groups)
		now := fmt.Sprint(func() (n, sum int64) {
			for _, group := range groups {
				for _, topic := range topics {
					for partition := range mm2Groups[group][mm2.Copied(topic)] {
						n, sum = n+1, sum+mm2Groups.at(group, mm2.Copied(topic), partition)
					}
				}
			}
			return n, sum
		}())
		if now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 5*time.Second, now
	})
	other.Kill()

	before, were := map[string]contents{}, readGroups(t, p.sourceAdmin, groups)
	for _, topic := range topics {
		before[topic] = readContents(t, p.sourceClient, topic)
	}
	p.source.Broker(1).Kill()
	are := readGroups(t, p.targetAdmin, groups)
	after := map[string]contents{}
	t.Run("failover skips nothing and reads nothing again", func(t *testing.T) {
		var ours, theirs outcome
		for _, topic := range topics {
			after[topic] = readContents(t, p.targetClient, copied(topic))
			ours = ours.plus(move{from: topic, to: copied(topic), before: before[topic], after: after[topic], were: were, are: are, groups: groups}.judge())
			theirs = theirs.plus(move{
				from: topic, to: mm2.Copied(topic), before: before[topic], after: readContents(t, p.targetClient, mm2.Copied(topic)), were: were, are: mm2Groups, groups: groups,
			}.judge())
		}
		t.Logf("milena:         %s", ours)
		t.Logf("MirrorMaker 2:  %s", theirs)
		if ours.skipped+ours.again+ours.unknown > 0 || ours.positions != int64(len(groups)*(3+3+2)) {
			t.Errorf("milena: %s", ours)
		}
	})
	t.Run("real consumers go on where they stood", func(t *testing.T) {
		for _, group := range []string{"end", "tail", "behind", "random-1"} {
			read := readOn(t, p.target, p.targetClient, group, []string{copied("plain"), copied("transactions"), copied("compacted")})
			for _, topic := range topics {
				for partition, records := range before[topic] {
					at, want := were.at(group, topic, partition), int64(0)
					for _, r := range records {
						if r.offset >= at {
							want++
						}
					}
					if got := read[copied(topic)][partition]; got != want {
						t.Errorf("%s read %d records of %s-%d, want %d", group, got, topic, partition, want)
					}
				}
			}
		}
	})

	// On the target life goes on: some groups moved to the end, others somewhere, and records are produced there.
	for _, topic := range topics {
		for partition, records := range after[topic] {
			commitGroup(t, p.targetAdmin, "random-2", copied(topic), partition, max(are.at("random-2", copied(topic), partition), records[random.IntN(len(records))].offset), "moved on")
		}
	}
	check(t, createTopic(ctx, p.targetAdmin, "plain", 3, 1))
	there, err := load.New(p.target, load.Options{Topic: "plain", Partitions: 3, Shapes: []load.Shape{load.Sized(100)}})
	check(t, err)
	defer there.Close()
	check(t, there.Write(ctx, 500))

	check(t, p.source.Broker(1).Restart(ctx))
	check(t, p.source.WaitBrokers(within(t, time.Minute, "the source is back"), 1))
	both := p.config(topics...)
	both["flows"] = append(both["flows"].([]daemon.Map), daemon.Map{"source": "target", "target": "source", "topics": []string{"plain"}})
	m.stop()
	m = p.startMilena(lookOften(both))
	t.Run("failback skips nothing and reads nothing again", func(t *testing.T) {
		moved := readGroups(t, p.targetAdmin, groups)
		judge := func() (o outcome) {
			back := readGroups(t, p.sourceAdmin, groups)
			for _, topic := range topics {
				o = o.plus(move{from: copied(topic), to: topic, before: after[topic], after: before[topic], were: moved, are: back, groups: groups}.judge())
			}
			return o
		}
		var o outcome
		eventually(t, 30*time.Second, "all groups are back", func() (bool, string) {
			o = judge()
			return o.again == 0, o.String()
		})
		t.Logf("milena: %s", o)
		if o.skipped+o.again+o.unknown > 0 || o.positions != int64(len(groups)*(3+3+2)) {
			t.Errorf("milena: %s", o)
		}
	})
	t.Run("what was produced there has come back, under its own name", func(t *testing.T) {
		name := func(topic string) string { return "target." + topic }
		eventually(t, 30*time.Second, "it is copied", func() (bool, string) {
			ends, err := verify.ReadEnds(ctx, p.sourceClient, "target.plain")
			if err != nil {
				return false, err.Error()
			}
			return ends.End[0]+ends.End[1]+ends.End[2] >= 1500, fmt.Sprint(ends)
		})
		report, err := verify.Run(within(t, time.Minute, "the verifier ends"), p.targetClient, p.sourceClient, verify.Options{Topics: []string{"plain"}, Name: name})
		check(t, err)
		if report.Records != 1500 || len(report.Differences) > 0 {
			t.Errorf("%+v", report)
		}
	})
	p.verify(copied, topics...)
	m.stop()
}

// The console consumer is Kafka's own: one with the classic protocol and one with that of KIP-848.
func TestGroupsThatAreActiveOnTheTargetAreLeftAlone(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("t", 1, 1)
	check(t, p.writer(load.Options{Topic: "t", Partitions: 1, Shapes: []load.Shape{load.Sized(100)}}).Write(ctx, 1000))
	m := p.startMilena(lookOften(p.config("t")))
	p.waitCopied(m, time.Minute, "t")

	members := map[string]*proc.Process{}
	for _, protocol := range []string{"classic", "consumer"} {
		member, err := startConsumer(ctx, p, protocol, "active-"+protocol)
		check(t, err)
		members["active-"+protocol] = member
	}
	groups := slices.Sorted(maps.Keys(members))
	eventually(t, 30*time.Second, "both groups have members and a position", func() (bool, string) {
		listed, err := p.targetAdmin.ListGroups(ctx)
		check(t, err)
		at := readGroups(t, p.targetAdmin, groups)
		state := fmt.Sprint(listed, at)
		return listed["active-classic"].State == "Stable" && listed["active-consumer"].State == "Stable" &&
			at.at("active-classic", copied("t"), 0) >= 1000 && at.at("active-consumer", copied("t"), 0) >= 1000, state
	})
	// On the source they stand elsewhere, further and not as far.
	check(t, p.writer(load.Options{Topic: "t", Partitions: 1, Shapes: []load.Shape{load.Sized(90)}}).Write(ctx, 1))
	for _, group := range groups {
		commitGroup(t, p.sourceAdmin, group, "t", 0, 400, "")
	}
	commitGroup(t, p.sourceAdmin, "ahead", "t", 0, 400, "")
	commitGroup(t, p.targetAdmin, "ahead", copied("t"), 0, 900, "")
	eventually(t, 30*time.Second, "the refusals are told", func() (bool, string) {
		got := refusals(t, m)
		return got["active-classic"] == "active" && got["active-consumer"] == "active" && got["ahead"] == "ahead", fmt.Sprint(got)
	})
	m.waitMetric(10*time.Second, 2, "milena_group_positions_refused", `reason="active"`)
	at := readGroups(t, p.targetAdmin, append(groups, "ahead"))
	if at.at("active-classic", copied("t"), 0) < 1000 || at.at("active-consumer", copied("t"), 0) < 1000 || at.at("ahead", copied("t"), 0) != 900 {
		t.Errorf("a group was moved: %v", at)
	}
	for _, member := range members {
		member.Kill()
	}
	m.stop()
}

func TestClustersInRingsComeToRest(t *testing.T) {
	jars := realKafka(t)
	d := dir(t)
	names := []string{"a", "b", "c"}
	var options []kafka.Options
	for _, name := range names {
		options = append(options, kafka.Options{Name: name, Dir: d})
	}
	clusters, err := kafka.StartAll(t.Context(), jars, options...)
	check(t, err)
	ctx := t.Context()
	const records = 300
	config := daemon.Map{"clusters": daemon.Map{}}
	var flows []daemon.Map
	clients := map[string]*kgo.Client{}
	for i, name := range names {
		next := names[(i+1)%3]
		config["clusters"].(daemon.Map)[name] = daemon.Map{"brokers": clusters[i].Addrs()}
		flows = append(flows, daemon.Map{"source": name, "target": next, "topics": []string{".*"}})
		clients[name] = client(t, clusters[i])
		check(t, createTopic(ctx, kadm.NewClient(clients[name]), "orders", 2, 1))
		w, err := load.New(clusters[i], load.Options{Topic: "orders", Partitions: 2, Shapes: []load.Shape{load.Sized(100)}})
		check(t, err)
		defer w.Close()
		check(t, w.Write(ctx, records))
	}
	config["flows"] = flows
	p := &pair{t: t, owner: t, dir: d}
	m := p.startMilena(lookOften(config))
	before := map[string]string{"a": "c", "b": "a", "c": "b"}
	for _, name := range names {
		near, far := before[name]+".orders", before[name]+"."+before[before[name]]+".orders"
		eventually(t, 30*time.Second, "records have come all the way to "+name, func() (bool, string) {
			counts := map[string]int64{}
			for _, topic := range []string{near, far} {
				ends, err := verify.ReadEnds(ctx, clients[name], topic)
				if err != nil {
					return false, err.Error()
				}
				counts[topic] = ends.End[0] + ends.End[1]
			}
			return counts[near] >= 2*records && counts[far] >= 2*records, fmt.Sprint(counts)
		})
		b, bb := before[name], before[before[name]]
		want := []string{b + ".heartbeats", b + ".orders", b + "." + bb + ".heartbeats", b + "." + bb + ".orders", "heartbeats", "orders"}
		slices.Sort(want)
		eventually(t, 30*time.Second, "the heartbeats have come as well", func() (bool, string) {
			topics, err := kadm.NewClient(clients[name]).ListTopics(ctx)
			check(t, err)
			var user []string
			for _, topic := range topics.Names() {
				if strings.HasSuffix(topic, "orders") || strings.HasSuffix(topic, "heartbeats") {
					user = append(user, topic)
				}
			}
			return slices.Equal(user, want), fmt.Sprintf("on %s there are %v, want %v", name, user, want)
		})
		for _, topic := range []string{"orders", near, far} {
			for partition, list := range readContents(t, clients[name], topic) {
				if len(list) != records {
					t.Errorf("%s-%d on %s has %d records, want %d", topic, partition, name, len(list), records)
				}
			}
		}
	}
	t.Run("nothing moves any more", func(t *testing.T) {
		pause(t, 3*time.Second) // longer than it takes a new topic to be found and copied
		for i, name := range names {
			topics, err := kadm.NewClient(clients[name]).ListTopics(ctx)
			check(t, err)
			for _, topic := range topics.Names() {
				if strings.Count(topic, ".") > 2 || strings.HasPrefix(topic, name+".") && !strings.HasSuffix(topic, ".internal") {
					t.Errorf("on %s there is %s", name, topic)
				}
			}
			b, bb := before[names[i]], before[before[names[i]]]
			for _, topic := range []string{"orders", b + ".orders", b + "." + bb + ".orders"} {
				for partition, list := range readContents(t, clients[name], topic) {
					if len(list) != records {
						t.Errorf("%s-%d on %s has %d records, want %d", topic, partition, name, len(list), records)
					}
				}
			}
		}
	})
	t.Run("Java finds its way around the ring", func(t *testing.T) {
		out := askJava(t, clusters[0], "b")
		for _, want := range []string{
			"upstreamClusters=[b, c]", "replicationHops=2", "heartbeatTopics=[c.b.heartbeats, c.heartbeats, heartbeats]",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("Java says\n%s\nwant %s", out, want)
			}
		}
	})
	m.stop()
}

func TestBothSidesAreActive(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	const partitions, during = 4, 20 * time.Second
	p.createTopic("orders", partitions, 1)
	check(t, createTopic(ctx, p.targetAdmin, "orders", partitions, 1))
	both := p.config("orders")
	both["flows"] = append(both["flows"].([]daemon.Map), daemon.Map{"source": "target", "target": "source", "topics": []string{"orders"}})
	m := p.startMilena(lookOften(both))
	here := p.writer(load.Options{Topic: "orders", Partitions: partitions, Shapes: []load.Shape{load.Sized(500)}}).Stream(ctx, 1000)
	w, err := load.New(p.target, load.Options{Topic: "orders", Partitions: partitions, Shapes: []load.Shape{load.Sized(500)}})
	check(t, err)
	defer w.Close()
	there := w.Stream(ctx, 1000)
	pause(t, during/2)
	m.Kill()
	m.start()
	m.waitReady(30 * time.Second)
	pause(t, during/2)
	ackedHere, err := here.Stop(ctx)
	check(t, err)
	ackedThere, err := there.Stop(ctx)
	check(t, err)
	// A group of each side, in topics of its own and in those that came.
	sideways := func(topic string) string { return "target." + topic }
	check(t, m.Until(within(t, time.Minute, "both directions are copied"), 50*time.Millisecond, func() (bool, string) {
		all, err := m.Status(ctx)
		if err != nil {
			return false, err.Error()
		}
		for _, s := range all {
			for _, part := range s.Partitions {
				if part.Topic == "orders" && (part.LagRecords == nil || *part.LagRecords > 0) {
					return false, fmt.Sprintf("%s %s-%d", s.Flow, part.Topic, part.Partition)
				}
			}
		}
		return true, ""
	}))
	for partition := range int32(partitions) {
		commitGroup(t, p.sourceAdmin, "west", "orders", partition, int64(100+partition), "")
		commitGroup(t, p.sourceAdmin, "west", "target.orders", partition, int64(200+partition), "")
	}
	p.copiedAndEqual(m, time.Minute, ackedHere, "orders")
	report, err := verify.Run(within(t, time.Minute, "the verifier ends"), p.targetClient, p.sourceClient, verify.Options{Topics: []string{"orders"}, Name: sideways})
	check(t, err)
	if report.Records < ackedThere || len(report.Differences) > 0 {
		t.Errorf("the other direction: %+v, want %d records", report, ackedThere)
	}
	t.Logf("%d records one way, %d the other", ackedHere, report.Records)
	awaitGroups(t, p.sourceAdmin, p.targetAdmin, []string{"west"}, []string{"orders"}, copied)
	own := func(string) string { return "orders" }
	awaitGroups(t, p.sourceAdmin, p.targetAdmin, []string{"west"}, []string{"target.orders"}, own)
	were, are := readGroups(t, p.sourceAdmin, []string{"west"}), readGroups(t, p.targetAdmin, []string{"west"})
	o := move{from: "orders", to: "source.orders", before: readContents(t, p.sourceClient, "orders"), after: readContents(t, p.targetClient, "source.orders"), were: were, are: are, groups: []string{"west"}}.judge()
	o = o.plus(move{from: "target.orders", to: "orders", before: readContents(t, p.sourceClient, "target.orders"), after: readContents(t, p.targetClient, "orders"), were: were, are: are, groups: []string{"west"}}.judge())
	if o.skipped+o.again+o.unknown > 0 || o.positions != 2*partitions {
		t.Errorf("groups: %s", o)
	}
	topics, err := p.targetAdmin.ListTopics(ctx)
	check(t, err)
	if topics.Has("source.target.orders") {
		t.Error("records circulate: there is source.target.orders")
	}
	m.stop()
}

// startConsumer runs Kafka's console consumer as a member of a group on the target.
func startConsumer(ctx context.Context, p *pair, protocol, group string) (*proc.Process, error) {
	argv := p.target.Jars().Class([]string{"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}, "org.apache.kafka.tools.consumer.ConsoleConsumer",
		"--bootstrap-server", strings.Join(p.target.Addrs(), ","), "--topic", copied("t"), "--group", group, "--from-beginning",
		"--command-property", "group.protocol="+protocol, "--command-property", "auto.commit.interval.ms=200")
	return proc.Start(ctx, group, filepath.Join(p.dir, group+".log"), argv)
}

// Identity naming in both directions, with producers on both sides and a process that is killed: each side ends with all records, once each.
func TestOneNameOnBothSides(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	const partitions = 2
	p.createTopic("orders", partitions, 1)
	check(t, createTopic(ctx, p.targetAdmin, "orders", partitions, 1))
	c := p.config("orders")
	flows := c["flows"].([]daemon.Map)
	flows[0]["naming"], flows[0]["provenance"] = "identity", true
	c["flows"] = append(flows, daemon.Map{"source": "target", "target": "source", "topics": []string{"orders"}, "naming": "identity", "provenance": true})
	m := p.startMilena(c)
	streams := map[string]*load.Stream{}
	for name, cluster := range map[string]*kafka.Cluster{"source": p.source, "target": p.target} {
		shape := func(_ *rand.Rand, mark string) kgo.Record { return kgo.Record{Value: []byte(name + " " + mark)} }
		w, err := load.New(cluster, load.Options{Topic: "orders", Partitions: partitions, Shapes: []load.Shape{shape}})
		check(t, err)
		defer w.Close()
		streams[name] = w.Stream(ctx, 500)
	}
	for range 3 {
		pause(t, 2*time.Second)
		m.Kill()
		m.start()
	}
	m.waitReady(30 * time.Second)
	var written int64
	for _, s := range streams {
		acked, err := s.Stop(ctx)
		check(t, err)
		written += acked
	}
	read := func(cl *kgo.Client) (values []string) {
		for partition := range int32(partitions) {
			check(t, verify.Sequence(ctx, cl, "orders", partition, func(r *kgo.Record) error {
				values = append(values, fmt.Sprintf("%d %s", partition, r.Value))
				return nil
			}))
		}
		slices.Sort(values)
		return values
	}
	eventually(t, time.Minute, "both sides have everything", func() (bool, string) {
		here, there := int64(len(read(p.sourceClient))), int64(len(read(p.targetClient)))
		return here >= written && there >= written, fmt.Sprintf("%d and %d of %d", here, there, written)
	})
	pause(t, 3*time.Second) // what circulated would go on
	here, there := read(p.sourceClient), read(p.targetClient)
	if int64(len(here)) != written || !slices.Equal(here, there) || len(slices.Compact(slices.Clone(here))) != len(here) {
		t.Errorf("%d and %d records, want %d, the same ones, once each", len(here), len(there), written)
	}
	t.Logf("%d records on both sides", written)
	m.stop()
}
