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

// topicOffsets are offsets by topic and partition.
type topicOffsets map[string]map[int32]int64

func (p topicOffsets) set(topic string, partition int32, offset int64) {
	if p[topic] == nil {
		p[topic] = map[int32]int64{}
	}
	p[topic][partition] = offset
}

// endOffsets are the committed ends of topics.
func endOffsets(t *testing.T, cl *kgo.Client, topics ...string) topicOffsets {
	t.Helper()
	p := topicOffsets{}
	for _, topic := range topics {
		ends, err := verify.ReadEnds(t.Context(), cl, topic)
		check(t, err)
		p[topic] = ends.End
	}
	return p
}

// randomOffsets is a random offset for each partition, from start to end, both inclusive.
func randomOffsets(t *testing.T, random *rand.Rand, cl *kgo.Client, topics ...string) topicOffsets {
	t.Helper()
	p := topicOffsets{}
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

// randomOffsetsAfter is a random offset for each partition, from what a group has committed to the end, both inclusive.
func randomOffsetsAfter(t *testing.T, random *rand.Rand, cl *kgo.Client, committed committedOffsets, group string, topics ...string) topicOffsets {
	t.Helper()
	p := topicOffsets{}
	for topic, partitions := range endOffsets(t, cl, topics...) {
		for _, partition := range slices.Sorted(maps.Keys(partitions)) {
			at := max(committed.at(group, topic, partition), 0)
			p.set(topic, partition, at+random.Int64N(max(partitions[partition]-at, 0)+1))
		}
	}
	return p
}

// tally counts records by topic, partition and record id. A record that is in a log twice counts twice.
type tally map[string]map[int32]map[string]int

func (a tally) add(topic string, r *kgo.Record) {
	if a[topic] == nil {
		a[topic] = map[int32]map[string]int{}
	}
	if a[topic][r.Partition] == nil {
		a[topic][r.Partition] = map[string]int{}
	}
	a[topic][r.Partition][recordID(r)]++
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

// minus compares a with the sum of the others in the topics of a: how many records of a the others lack, and how many they have more
// often than a.
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

// tallyTopics reads whole topics; name is what they are called on this cluster.
func tallyTopics(t *testing.T, cl *kgo.Client, name func(string) string, topics ...string) tally {
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

// consumerRun is one run of a consumer: a member joins the group, reads from the committed offsets up to an offset in each partition,
// commits, and leaves.
type consumerRun struct {
	group    string
	protocol string       // classic, or consumer (KIP-848)
	until    topicOffsets // exclusive
	// commitPosition commits until itself, as a consumer's position() returns it. Otherwise the offset after the last record that was
	// read is committed, after which there may be a hole.
	commitPosition bool
	metadata       string
	sourceName     func(string) string // the name under which the records of a topic are counted
}

// on reads on a cluster and returns what was read.
func (v consumerRun) on(t *testing.T, c *kafka.Cluster) tally {
	t.Helper()
	ctx := within(t, time.Minute, v.group+" has read")
	left := v.unread(t, c)
	member, err := c.Client(v.options()...)
	check(t, err)
	defer member.Close()
	read, next := tally{}, map[string]map[int32]kgo.EpochOffset{}
	for len(left) > 0 {
		fetches := member.PollRecords(ctx, 37)
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx), slices.Sorted(maps.Keys(left)))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			tp, until := fmt.Sprint(r.Topic, r.Partition), v.until[r.Topic][r.Partition]
			if r.Offset < until && left[tp] {
				if !r.Attrs.IsControl() {
					read.add(v.sourceName(r.Topic), r)
				}
				if next[r.Topic] == nil {
					next[r.Topic] = map[int32]kgo.EpochOffset{}
				}
				next[r.Topic][r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
			}
			if r.Offset+1 < until {
				return
			}
			delete(left, tp)
			if at, ok := next[r.Topic][r.Partition]; ok && v.commitPosition {
				next[r.Topic][r.Partition] = kgo.EpochOffset{Epoch: at.Epoch, Offset: until}
			}
		})
	}
	v.commit(t, member, next)
	return read
}

// unread are the partitions in which the group has not committed the run's end yet.
func (v consumerRun) unread(t *testing.T, c *kafka.Cluster) map[string]bool {
	t.Helper()
	var committed committedOffsets
	check(t, c.Admin(func(admin *kadm.Client) error {
		committed = readCommitted(t, admin, []string{v.group})
		return nil
	}))
	left := map[string]bool{}
	for topic, partitions := range v.until {
		for partition, until := range partitions {
			if max(committed.at(v.group, topic, partition), 0) < until {
				left[fmt.Sprint(topic, partition)] = true
			}
		}
	}
	return left
}

func (v consumerRun) options() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(v.group), kgo.ConsumeTopics(slices.Sorted(maps.Keys(v.until))...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.FetchMaxWait(100 * time.Millisecond),
	}
	if v.protocol == "consumer" {
		opts = append(opts, kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer())
	}
	return opts
}

func (v consumerRun) commit(t *testing.T, member *kgo.Client, next map[string]map[int32]kgo.EpochOffset) {
	t.Helper()
	ctx := kgo.PreCommitFnContext(within(t, 30*time.Second, v.group+" has committed"), func(r *kmsg.OffsetCommitRequest) error {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				r.Topics[i].Partitions[j].Metadata = kmsg.StringPtr(v.metadata)
			}
		}
		return nil
	})
	member.CommitOffsetsSync(ctx, next, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
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

// movingGroup is a group that consumes on the source, then on the target, then on the source again, and what it reads there.
type movingGroup struct {
	consumerRun
	onSource, onTarget, afterFailback tally
	targetOnly                        tally // of the topic that the target's own producers write to
}

// consumerFailover is the state of TestConsumersFailOverAndBack: three topics that are copied to the target, and local, a topic of the target
// that is copied to the source.
type consumerFailover struct {
	*pair
	random *rand.Rand
	m      *milena
	topics []string
	groups []*movingGroup
}

// The source fails while it is written to. Consumers of both protocols continue on the target, and later return to the source. Each reads
// every record once.
func TestConsumersFailOverAndBack(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	f := &consumerFailover{pair: p, random: seeded(t), topics: []string{"plain", "transactions", "compacted"}}
	f.writeTopics()
	both := p.config(f.topics...)
	both["flows"] = append(both["flows"].([]daemon.Map), daemon.Map{"source": "target", "target": "source", "topics": []string{"local"}, "groups_back": []string{".*"}})
	f.m = p.startMilena(syncGroupsOften(both))
	interruptLoad := f.startLoad()
	f.consumeOnSource()
	f.waitSynced()
	f.failSource(interruptLoad)
	t.Run("on the target each group reads the records that it has not read, and no others", f.consumeOnTarget)
	f.useTarget()
	f.restartSource()
	t.Run("after failback each group reads the records that it has read nowhere, and no others", f.consumeAfterFailback)
	p.waitCopied(f.m, time.Minute, f.topics...)
	p.verify(remoteTopic, f.topics...)
	f.m.stop()
}

func (f *consumerFailover) writeTopics() {
	f.t.Helper()
	ctx := f.t.Context()
	compact(f.t, f.pair, "compacted")
	f.createTopic("plain", 4, 1)
	f.createTopic("transactions", 3, 1)
	check(f.t, kafka.CreateTopic(ctx, f.targetAdmin, "local", 2, 1))
	check(f.t, f.writer(load.Options{Topic: "plain", Partitions: 4, Shapes: []load.Shape{load.Sized(200)}}).Write(ctx, 2000))
	_, err := load.Transactions(ctx, f.source, load.Options{Topic: "transactions", Partitions: 3}, 90, 30)
	check(f.t, err)
}

// startLoad writes to topic plain and returns what ends it, in the middle of its writes.
func (f *consumerFailover) startLoad() (interrupt func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	f.t.Cleanup(cancel)
	w := f.writer(load.Options{Topic: "plain", Partitions: 4, Shapes: []load.Shape{load.Sized(201)}})
	s := w.Stream(ctx, 800)
	return func() {
		cancel()
		_, err := s.Stop(ctx)
		f.t.Logf("the load ended with: %v", err)
		w.Close() // otherwise it would write its buffer when the source is back
	}
}

func (f *consumerFailover) names() (names []string) {
	for _, g := range f.groups {
		names = append(names, g.group)
	}
	return names
}

// consumeOnSource runs six groups of both protocols: two read to the end, four to random offsets. Meanwhile milena is
// killed.
func (f *consumerFailover) consumeOnSource() {
	f.t.Helper()
	sourceName := func(topic string) string { return strings.TrimPrefix(topic, "source.") }
	for i, protocol := range []string{"classic", "consumer", "classic", "consumer", "classic", "consumer"} {
		g := &movingGroup{consumerRun: consumerRun{group: fmt.Sprintf("%s-%d", protocol, i), protocol: protocol, commitPosition: i%2 == i/2%2, sourceName: sourceName}}
		g.metadata = g.group + " on the source"
		if i < 2 {
			g.until = endOffsets(f.t, f.sourceClient, f.topics...)
		} else {
			g.until = randomOffsets(f.t, f.random, f.sourceClient, f.topics...)
		}
		f.groups = append(f.groups, g)
		g.onSource = g.on(f.t, f.source)
		if i == 2 {
			f.m.Kill()
			f.m.start()
		}
	}
	f.m.waitReady(30 * time.Second)
}

// waitSynced waits until both flows have copied all records and synced all groups.
func (f *consumerFailover) waitSynced() {
	f.t.Helper()
	f.waitCopied(f.m, time.Minute, f.topics...)
	f.m.waitGroupSyncs("source-target", "target-source")
}

// failSource kills the source, interrupts the load, and waits until the target has not grown for a second.
func (f *consumerFailover) failSource(interruptLoad func()) {
	f.t.Helper()
	f.source.Broker(1).Kill()
	interruptLoad()
	var last topicOffsets
	since := time.Now()
	eventually(f.t, 30*time.Second, "records in flight have arrived", func() (bool, string) {
		now := endOffsets(f.t, f.targetClient, remoteTopic("plain"))
		if fmt.Sprint(now) != fmt.Sprint(last) {
			last, since = now, time.Now()
		}
		return time.Since(since) > time.Second, fmt.Sprint(now)
	})
}

// consumeOnTarget runs every group on the target. Every third one does not read to the end.
func (f *consumerFailover) consumeOnTarget(t *testing.T) {
	for _, list := range readCommitted(t, f.targetAdmin, f.names()) {
		list.Each(func(o kadm.OffsetResponse) {
			if o.LeaderEpoch != -1 || !strings.HasSuffix(o.Metadata, " on the source") {
				t.Errorf("%s-%d is committed with leader epoch %d and metadata %q", o.Topic, o.Partition, o.LeaderEpoch, o.Metadata)
			}
		})
	}
	copies := tallyTopics(t, f.targetClient, remoteTopic, f.topics...)
	remote := []string{remoteTopic("plain"), remoteTopic("transactions"), remoteTopic("compacted")}
	for i, g := range f.groups {
		partial := i%3 == 2
		run := g.consumerRun
		run.until, run.metadata = endOffsets(t, f.targetClient, remote...), g.group+" on the target"
		if partial {
			run.until = randomOffsetsAfter(t, f.random, f.targetClient, readCommitted(t, f.targetAdmin, f.names()), g.group, remote...)
		}
		g.onTarget = run.on(t, f.target)
		missing, reread := copies.minus(g.onSource, g.onTarget)
		t.Logf("%s: %d records read on the source, %d on the target, %d left, %d read again", g.group, g.onSource.size(), g.onTarget.size(), missing, reread)
		if reread > 0 || missing > 0 && !partial {
			t.Errorf("%s: %d records skipped, %d read again", g.group, missing, reread)
		}
	}
}

// useTarget produces to local, the target's own topic, and lets every group read some of it.
func (f *consumerFailover) useTarget() {
	f.t.Helper()
	w, err := load.New(f.target, load.Options{Topic: "local", Partitions: 2, Shapes: []load.Shape{load.Sized(100)}})
	check(f.t, err)
	defer w.Close()
	check(f.t, w.Write(f.t.Context(), 400))
	for _, g := range f.groups {
		run := g.consumerRun
		run.until, run.metadata = randomOffsets(f.t, f.random, f.targetClient, "local"), g.group+" on the target"
		g.targetOnly = run.on(f.t, f.target)
	}
}

// restartSource brings the source back, writes records that were never copied, and waits until both flows are done.
func (f *consumerFailover) restartSource() {
	f.t.Helper()
	ctx := f.t.Context()
	check(f.t, f.source.Broker(1).Restart(ctx))
	check(f.t, f.source.WaitBrokers(within(f.t, time.Minute, "the source is back"), 1))
	check(f.t, f.writer(load.Options{Topic: "plain", Partitions: 4, Shapes: []load.Shape{load.Sized(202)}}).Write(ctx, 100))
	f.waitCopied(f.m, time.Minute, f.topics...)
	eventually(f.t, 30*time.Second, "topic local is copied", func() (bool, string) { return allAckedBeyond(f.m, "local", 2, 399) })
	f.m.waitGroupSyncs("source-target", "target-source")
}

func (f *consumerFailover) consumeAfterFailback(t *testing.T) {
	all := tallyTopics(t, f.sourceClient, func(topic string) string { return topic }, f.topics...)
	local := tallyTopics(t, f.sourceClient, func(topic string) string { return "target." + topic }, "local")
	for _, g := range f.groups {
		run := g.consumerRun
		run.until, run.metadata = endOffsets(t, f.sourceClient, append([]string{"target.local"}, f.topics...)...), g.group+" after failback"
		run.sourceName = func(topic string) string { return strings.TrimPrefix(topic, "target.") }
		g.afterFailback = run.on(t, f.source)
		missing, reread := all.minus(g.onSource, g.onTarget, g.afterFailback)
		missingLocal, rereadLocal := local.minus(g.targetOnly, g.afterFailback)
		t.Logf("%s: %d records read after failback, %d skipped, %d read again", g.group, g.afterFailback.size(), missing+missingLocal, reread+rereadLocal)
		if missing+reread+missingLocal+rereadLocal > 0 {
			t.Errorf("%s: %d records skipped, %d read again; of topic local %d and %d", g.group, missing, reread, missingLocal, rereadLocal)
		}
	}
}
