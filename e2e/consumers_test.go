package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// places are offsets by topic and partition.
type places map[string]map[int32]int64

func (p places) set(topic string, partition int32, offset int64) {
	if p[topic] == nil {
		p[topic] = map[int32]int64{}
	}
	p[topic][partition] = offset
}

// tally counts records by topic, partition and identity. A record that stands twice in a log counts twice.
type tally map[string]map[int32]map[string]int

func (a tally) add(topic string, r *kgo.Record) {
	if a[topic] == nil {
		a[topic] = map[int32]map[string]int{}
	}
	if a[topic][r.Partition] == nil {
		a[topic][r.Partition] = map[string]int{}
	}
	a[topic][r.Partition][fmt.Sprintf("%x|%x|%d", r.Key, r.Value[:min(len(r.Value), 40)], r.Timestamp.UnixMilli())]++
}

func (a tally) size() (n int) {
	for _, partitions := range a {
		for _, ids := range partitions {
			for _, count := range ids {
				n += count
			}
		}
	}
	return n
}

// minus is what a holds beyond what the others hold together, and how many records the others hold beyond a.
func (a tally) minus(others ...tally) (missing, surplus int) {
	for topic, partitions := range a {
		for partition, ids := range partitions {
			sum := map[string]int{}
			for _, other := range others {
				for id, n := range other[topic][partition] {
					sum[id] += n
				}
			}
			for id, n := range ids {
				missing += max(0, n-sum[id])
			}
			for id, n := range sum {
				surplus += max(0, n-ids[id])
			}
		}
	}
	return missing, surplus
}

// tallyOf reads whole topics; name is what they are called on this cluster.
func tallyOf(t *testing.T, cl *kgo.Client, name func(string) string, topics ...string) tally {
	t.Helper()
	a := tally{}
	for _, topic := range topics {
		ends, err := verify.ReadEnds(t.Context(), cl, name(topic))
		check(t, err)
		for partition := range ends.End {
			check(t, verify.Sequence(t.Context(), cl, name(topic), partition, func(r *kgo.Record) error {
				a.add(topic, r)
				return nil
			}))
		}
	}
	return a
}

// endsOf are the committed ends of topics; the places are under the names that they have here.
func endsOf(t *testing.T, cl *kgo.Client, topics ...string) places {
	t.Helper()
	p := places{}
	for _, topic := range topics {
		ends, err := verify.ReadEnds(t.Context(), cl, topic)
		check(t, err)
		p[topic] = ends.End
	}
	return p
}

// visit is one life of a consumer group: a member joins, reads on from where the group stood, stops in each partition at a place, commits, and
// leaves.
type visit struct {
	group, protocol string // classic, or consumer as KIP-848 calls its own
	stop            places
	// position commits the place itself, as position() of a consumer says it; else it is the offset behind the last record that was
	// read, which may lie in a hole.
	position bool
	metadata string
	original func(string) string // the name by which records are counted
}

// on reads on a cluster and returns what was read.
func (v visit) on(t *testing.T, c *kafka.Cluster) tally {
	t.Helper()
	ctx := within(t, time.Minute, v.group+" has read")
	topics := slices.Sorted(maps.Keys(v.stop))
	var committed groupOffsets
	check(t, c.Admin(func(admin *kadm.Client) error {
		committed = readGroups(t, admin, []string{v.group})
		return nil
	}))
	left := map[string]bool{}
	for topic, partitions := range v.stop {
		for partition, stop := range partitions {
			if max(committed.at(v.group, topic, partition), 0) < stop {
				left[fmt.Sprint(topic, partition)] = true
			}
		}
	}
	opts := []kgo.Opt{
		kgo.ConsumerGroup(v.group), kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.FetchMaxWait(100 * time.Millisecond),
	}
	if v.protocol == "consumer" {
		opts = append(opts, kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer())
	}
	member, err := c.Client(opts...)
	check(t, err)
	defer member.Close()
	read, last := tally{}, map[string]map[int32]kgo.EpochOffset{}
	for len(left) > 0 {
		fetches := member.PollRecords(ctx, 37)
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx), slices.Sorted(maps.Keys(left)))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			tp, stop := fmt.Sprint(r.Topic, r.Partition), v.stop[r.Topic][r.Partition]
			if r.Offset < stop && left[tp] {
				if !r.Attrs.IsControl() {
					read.add(v.original(r.Topic), r)
				}
				if last[r.Topic] == nil {
					last[r.Topic] = map[int32]kgo.EpochOffset{}
				}
				last[r.Topic][r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
			}
			if r.Offset+1 < stop {
				return
			}
			delete(left, tp)
			if at, ok := last[r.Topic][r.Partition]; ok && v.position {
				last[r.Topic][r.Partition] = kgo.EpochOffset{Epoch: at.Epoch, Offset: stop}
			}
		})
	}
	v.commit(t, member, last)
	return read
}

func (v visit) commit(t *testing.T, member *kgo.Client, places map[string]map[int32]kgo.EpochOffset) {
	t.Helper()
	ctx := kgo.PreCommitFnContext(within(t, 30*time.Second, v.group+" has committed"), func(r *kmsg.OffsetCommitRequest) error {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				r.Topics[i].Partitions[j].Metadata = kmsg.StringPtr(v.metadata)
			}
		}
		return nil
	})
	member.CommitOffsetsSync(ctx, places, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
		check(t, err)
		for _, topic := range answer.Topics {
			for _, partition := range topic.Partitions {
				if partition.ErrorCode != 0 {
					t.Errorf("%s commits %s-%d: error %d", v.group, topic.Topic, partition.Partition, partition.ErrorCode)
				}
			}
		}
	})
}

// somewhere is a random place in each partition, ends included.
func somewhere(t *testing.T, random *rand.Rand, cl *kgo.Client, topics ...string) places {
	t.Helper()
	p := places{}
	for _, topic := range topics {
		ends, err := verify.ReadEnds(t.Context(), cl, topic)
		check(t, err)
		for _, partition := range slices.Sorted(maps.Keys(ends.End)) {
			start, end := ends.Start[partition], ends.End[partition]
			p.set(topic, partition, start+random.Int64N(end-start+1))
		}
	}
	return p
}

// forward are random places between these and the ends.
func (p places) forward(t *testing.T, random *rand.Rand, cl *kgo.Client, from groupOffsets, group string) places {
	t.Helper()
	further := places{}
	for topic, partitions := range endsOf(t, cl, slices.Sorted(maps.Keys(p))...) {
		for _, partition := range slices.Sorted(maps.Keys(partitions)) {
			at := max(from.at(group, topic, partition), 0)
			further.set(topic, partition, at+random.Int64N(max(partitions[partition]-at, 0)+1))
		}
	}
	return further
}

// waitPasses waits until milena has looked at the groups of every flow from the beginning to the end since now.
func (m *milena) waitPasses(flows ...string) {
	m.t.Helper()
	const metric = "milena_passes_total"
	for _, flow := range flows {
		labels := []string{`flow="` + flow + `"`, `pass="groups"`, `result="done"`}
		before, err := m.Metric(m.t.Context(), metric, labels...)
		if err != nil {
			before = 0
		}
		m.waitMetric(30*time.Second, before+2, metric, labels...)
	}
}

// A disaster in the middle of a load. Consumers of both protocols go on at the target where they stood, and later go home again.
func TestConsumersMoveToTheTargetAndHome(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	random := seeded(t)
	topics := []string{"plain", "transactions", "compacted"}
	compact(t, p, "compacted")
	p.createTopic("plain", 4, 1)
	p.createTopic("transactions", 3, 1)
	check(t, createTopic(ctx, p.targetAdmin, "made-there", 2, 1))
	check(t, p.writer(load.Options{Topic: "plain", Partitions: 4, Shapes: []load.Shape{load.Sized(200)}}).Write(ctx, 2000))
	_, err := load.Transactions(ctx, p.source, load.Options{Topic: "transactions", Partitions: 3}, 90, 30)
	check(t, err)

	// Both directions from the beginning.
	both := p.config(topics...)
	both["flows"] = append(both["flows"].([]daemon.Map), daemon.Map{"source": "target", "target": "source", "topics": []string{"made-there"}})
	m := p.startMilena(lookOften(both))
	flows := []string{"source-target", "target-source"}
	disaster, strike := context.WithCancel(ctx)
	defer strike()
	later := p.writer(load.Options{Topic: "plain", Partitions: 4, Shapes: []load.Shape{load.Sized(201)}})
	s := later.Stream(disaster, 800)

	type life struct {
		visit
		source, target, home tally
	}
	var groups []*life
	names := func() (list []string) {
		for _, g := range groups {
			list = append(list, g.group)
		}
		return list
	}
	plain := func(topic string) string { return strings.TrimPrefix(topic, "source.") }
	for i, protocol := range []string{"classic", "consumer", "classic", "consumer", "classic", "consumer"} {
		g := &life{visit: visit{group: fmt.Sprintf("%s-%d", protocol, i), protocol: protocol, position: i%2 == i/2%2, original: plain}}
		g.metadata = g.group + " was here"
		switch i {
		case 0, 1:
			g.stop = endsOf(t, p.sourceClient, topics...)
		default:
			g.stop = somewhere(t, random, p.sourceClient, topics...)
		}
		groups = append(groups, g)
		g.source = g.on(t, p.source)
		if i == 2 {
			m.Kill()
			m.start()
		}
	}
	m.waitReady(30 * time.Second)
	p.waitCopied(m, time.Minute, topics...)
	m.waitPasses(flows...)

	p.source.Broker(1).Kill()
	strike()
	_, err = s.Stop(disaster)
	t.Logf("the load ended with: %v", err)
	later.Close() // or what it still holds would be written when the source is back
	var last places
	since := time.Now()
	eventually(t, 30*time.Second, "what was under way has arrived", func() (bool, string) {
		now := endsOf(t, p.targetClient, copied("plain"))
		if fmt.Sprint(now) != fmt.Sprint(last) {
			last, since = now, time.Now()
		}
		return time.Since(since) > time.Second, fmt.Sprint(now)
	})

	t.Run("on the target each record is read that was not read, and no other", func(t *testing.T) {
		copies := tallyOf(t, p.targetClient, copied, topics...)
		for _, list := range readGroups(t, p.targetAdmin, names()) {
			list.Each(func(o kadm.OffsetResponse) {
				if o.LeaderEpoch != -1 || !strings.HasSuffix(o.Metadata, " was here") {
					t.Errorf("%s-%d is committed with leader epoch %d and metadata %q", o.Topic, o.Partition, o.LeaderEpoch, o.Metadata)
				}
			})
		}
		for i, g := range groups {
			there := g.visit
			there.stop, there.metadata = endsOf(t, p.targetClient, copied("plain"), copied("transactions"), copied("compacted")), g.group+" was there"
			if i%3 == 2 { // this one does not get to the end
				there.stop = there.stop.forward(t, random, p.targetClient, readGroups(t, p.targetAdmin, names()), g.group)
			}
			g.target = there.on(t, p.target)
			missing, again := copies.minus(g.source, g.target)
			t.Logf("%s: %d records read on the source, %d on the target, %d left, %d read again", g.group, g.source.size(), g.target.size(), missing, again)
			if again > 0 || missing > 0 && i%3 != 2 {
				t.Errorf("%s: %d records skipped, %d read again", g.group, missing, again)
			}
		}
	})

	// Life goes on there, and the source comes back with records that were never copied.
	w, err := load.New(p.target, load.Options{Topic: "made-there", Partitions: 2, Shapes: []load.Shape{load.Sized(100)}})
	check(t, err)
	defer w.Close()
	check(t, w.Write(ctx, 400))
	madeThere := map[string]tally{}
	for _, g := range groups {
		there := g.visit
		there.stop, there.metadata = somewhere(t, random, p.targetClient, "made-there"), g.group+" was there"
		madeThere[g.group] = there.on(t, p.target)
	}
	check(t, p.source.Broker(1).Restart(ctx))
	check(t, p.source.WaitBrokers(within(t, time.Minute, "the source is back"), 1))
	check(t, p.writer(load.Options{Topic: "plain", Partitions: 4, Shapes: []load.Shape{load.Sized(202)}}).Write(ctx, 100))
	p.waitCopied(m, time.Minute, topics...)
	eventually(t, 30*time.Second, "what was made there has come", func() (bool, string) { return allAckedBeyond(m, "made-there", 2, 399) })
	m.waitPasses(flows...)

	t.Run("at home each record is read that was read nowhere, and no other", func(t *testing.T) {
		all := tallyOf(t, p.sourceClient, func(topic string) string { return topic }, topics...)
		foreign := tallyOf(t, p.sourceClient, func(topic string) string { return "target." + topic }, "made-there")
		for _, g := range groups {
			home := g.visit
			home.stop, home.metadata = endsOf(t, p.sourceClient, append([]string{"target.made-there"}, topics...)...), g.group+" is home"
			home.original = func(topic string) string { return strings.TrimPrefix(topic, "target.") }
			g.home = home.on(t, p.source)
			missing, again := all.minus(g.source, g.target, g.home)
			missingThere, againThere := foreign.minus(madeThere[g.group], g.home)
			t.Logf("%s: %d records read at home, skipped %d, read again %d", g.group, g.home.size(), missing+missingThere, again+againThere)
			if missing+again+missingThere+againThere > 0 {
				t.Errorf("%s: %d records skipped, %d read again; of what was made there %d and %d", g.group, missing, again, missingThere, againThere)
			}
		}
	})
	p.waitCopied(m, time.Minute, topics...)
	p.verify(copied, topics...)
	m.stop()
}
