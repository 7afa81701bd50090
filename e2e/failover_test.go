package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/mm2"
	"github.com/milena-kafka/milena/e2e/verify"
)

// failover is a source that fails while its groups are at many offsets, and what both sides held at that time.
type failover struct {
	*pair
	random        *rand.Rand
	topics        []string
	groups        []string
	sourceRecords map[string]contents // by source topic
	targetRecords map[string]contents // by source topic
	committed     committedOffsets    // on the source
	translated    committedOffsets    // on the target, by milena
	byMirrorMaker committedOffsets    // on the target, by MirrorMaker 2
}

// MirrorMaker 2 and milena copy the same topics and translate the same groups. The source fails, the groups fail over and later fail back.
func TestGroupsFailOverAndBack(t *testing.T) {
	t.Parallel()
	f := &failover{
		pair: startPair(t, kafka.Options{}, kafka.Options{}), random: seeded(t), topics: []string{"plain", "transactions", "compacted"},
		sourceRecords: map[string]contents{}, targetRecords: map[string]contents{},
	}
	f.writeTopics()
	m := f.startMilena(syncGroupsOften(f.config(f.topics...)))
	f.copyBesideMirrorMaker(m)
	f.failSource()
	t.Run("failover skips nothing and reads nothing again", f.failoverIsExact)
	t.Run("real consumers continue at their offsets", f.consumersContinue)

	f.useTarget()
	check(t, f.source.Broker(1).Restart(t.Context()))
	check(t, f.source.WaitBrokers(within(t, time.Minute, "the source is back"), 1))
	m.stop()
	both := f.config(f.topics...)
	both["flows"] = append(both["flows"].([]daemon.Map), daemon.Map{"source": "target", "target": "source", "topics": []string{"plain"}, "groups_back": []string{".*"}})
	m = f.startMilena(syncGroupsOften(both))
	t.Run("failback skips nothing and reads nothing again", f.failbackIsExact)
	t.Run("records produced on the target are copied to the source under a prefix", f.targetRecordsAreCopied)
	f.verify(remoteTopic, f.topics...)
	m.stop()
}

// writeTopics fills a plain topic, one with transactions, and one with the holes that compaction leaves.
func (f *failover) writeTopics() {
	f.t.Helper()
	ctx := f.t.Context()
	f.createTopic("plain", 3, 1)
	check(f.t, f.writer(load.Options{Topic: "plain", Partitions: 3, Shapes: []load.Shape{load.Sized(200)}}).Write(ctx, 3000))
	f.createTopic("transactions", 3, 1)
	_, err := load.Transactions(ctx, f.source, load.Options{Topic: "transactions", Partitions: 3}, 90, 30)
	check(f.t, err)
	compact(f.t, f.pair, "compacted")
}

// copyBesideMirrorMaker commits the groups and waits until both replicators have copied all records and translated what they can.
func (f *failover) copyBesideMirrorMaker(m *milena) {
	f.t.Helper()
	ctx := f.t.Context()
	mirrorMaker, err := mm2.Start(ctx, f.source.Jars(), f.dir, mm2.Options{
		Primary: f.source.Addrs(), DR: f.target.Addrs(), Topics: strings.Join(f.topics, ","),
		Properties: map[string]string{
			"sync.group.offsets.enabled": "true", "sync.group.offsets.interval.seconds": "1", "emit.checkpoints.interval.seconds": "1",
			"refresh.groups.interval.seconds": "1", "refresh.topics.interval.seconds": "1", "dr.offset.flush.interval.ms": "1000",
		},
	})
	check(f.t, err)
	f.waitCopied(m, time.Minute, f.topics...)
	f.waitMirrorMakerCopied()
	// A second write, so that neither copies everything in one go.
	check(f.t, f.writer(load.Options{Topic: "plain", Partitions: 3, Shapes: []load.Shape{load.Sized(150)}}).Write(ctx, 700))
	f.waitCopied(m, time.Minute, f.topics...)

	f.groups = commitScatteredGroups(f.t, f.pair, f.random, f.topics...)
	waitGroupsSynced(f.t, f.sourceAdmin, f.targetAdmin, f.groups, f.topics, remoteTopic)
	if metadata := readCommitted(f.t, f.targetAdmin, f.groups)["end"]["source.plain"][0].Metadata; metadata != "metadata of end" {
		f.t.Errorf("metadata is %q", metadata)
	}
	f.waitMirrorMakerTranslated()
	mirrorMaker.Kill()
}

func (f *failover) waitMirrorMakerCopied() {
	f.t.Helper()
	eventually(f.t, time.Minute, "MirrorMaker 2 has copied the topics", func() (bool, string) {
		for _, topic := range f.topics {
			ours, err := verify.ReadEnds(f.t.Context(), f.targetClient, remoteTopic(topic))
			check(f.t, err)
			theirs, err := verify.ReadEnds(f.t.Context(), f.targetClient, mm2.RemoteTopic(topic))
			if err != nil {
				return false, err.Error()
			}
			for partition := range ours.End {
				// It copies aborted records too, and has no holes.
				if theirs.End[partition] < int64(float64(ours.End[partition])*0.99) {
					return false, fmt.Sprintf("%s-%d is at %d of %d", topic, partition, theirs.End[partition], ours.End[partition])
				}
			}
		}
		return true, ""
	})
}

// waitMirrorMakerTranslated waits until MirrorMaker 2 has moved no group for 5 s. What it has not translated by then, it will not translate.
func (f *failover) waitMirrorMakerTranslated() {
	f.t.Helper()
	since, last := time.Now(), ""
	eventually(f.t, time.Minute, "MirrorMaker 2 moves no group any more", func() (bool, string) {
		f.byMirrorMaker = readCommitted(f.t, f.targetAdmin, f.groups)
		var n, sum int64
		for _, group := range f.groups {
			for _, topic := range f.topics {
				for partition := range f.byMirrorMaker[group][mm2.RemoteTopic(topic)] {
					n, sum = n+1, sum+f.byMirrorMaker.at(group, mm2.RemoteTopic(topic), partition)
				}
			}
		}
		if now := fmt.Sprint(n, sum); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 5*time.Second, last
	})
}

// failSource reads what the source holds, kills it, and reads what the target holds.
func (f *failover) failSource() {
	f.t.Helper()
	f.committed = readCommitted(f.t, f.sourceAdmin, f.groups)
	for _, topic := range f.topics {
		f.sourceRecords[topic] = readContents(f.t, f.sourceClient, topic)
	}
	f.source.Broker(1).Kill()
	f.translated = readCommitted(f.t, f.targetAdmin, f.groups)
	for _, topic := range f.topics {
		f.targetRecords[topic] = readContents(f.t, f.targetClient, remoteTopic(topic))
	}
}

func (f *failover) failoverIsExact(t *testing.T) {
	var ours, theirs outcome
	for _, topic := range f.topics {
		move := groupMove{
			from: topic, fromRecords: f.sourceRecords[topic], fromOffsets: f.committed,
			to: remoteTopic(topic), toRecords: f.targetRecords[topic], toOffsets: f.translated, groups: f.groups,
		}
		ours = ours.add(move.outcome())
		move.to, move.toRecords, move.toOffsets = mm2.RemoteTopic(topic), readContents(t, f.targetClient, mm2.RemoteTopic(topic)), f.byMirrorMaker
		theirs = theirs.add(move.outcome())
	}
	t.Logf("milena:         %s", ours)
	t.Logf("MirrorMaker 2:  %s", theirs)
	if !ours.exact() || ours.offsets != f.offsets() {
		t.Errorf("milena: %s", ours)
	}
}

// offsets is how many committed offsets there are: one per group and partition.
func (f *failover) offsets() int64 { return int64(len(f.groups) * (3 + 3 + 2)) }

func (f *failover) consumersContinue(t *testing.T) {
	for _, group := range []string{"end", "tail", "behind", "random-1"} {
		read := consumeToEnds(t, f.target, f.targetClient, group, []string{remoteTopic("plain"), remoteTopic("transactions"), remoteTopic("compacted")})
		for _, topic := range f.topics {
			for partition, records := range f.sourceRecords[topic] {
				at, want := f.committed.at(group, topic, partition), int64(0)
				for _, r := range records {
					if r.offset >= at {
						want++
					}
				}
				if got := read[remoteTopic(topic)][partition]; got != want {
					t.Errorf("%s read %d records of %s-%d, want %d", group, got, topic, partition, want)
				}
			}
		}
	}
}

// useTarget moves another group forward in the copies, and produces to a topic of the target.
func (f *failover) useTarget() {
	f.t.Helper()
	ctx := f.t.Context()
	for _, topic := range f.topics {
		for partition, records := range f.targetRecords[topic] {
			at := max(f.translated.at("random-2", remoteTopic(topic), partition), records[f.random.IntN(len(records))].offset)
			commitOffset(f.t, f.targetAdmin, "random-2", remoteTopic(topic), partition, at, "moved on the target")
		}
	}
	check(f.t, kafka.CreateTopic(ctx, f.targetAdmin, "plain", 3, 1))
	w, err := load.New(f.target, load.Options{Topic: "plain", Partitions: 3, Shapes: []load.Shape{load.Sized(100)}})
	check(f.t, err)
	defer w.Close()
	check(f.t, w.Write(ctx, 500))
}

func (f *failover) failbackIsExact(t *testing.T) {
	moved := readCommitted(t, f.targetAdmin, f.groups)
	var o outcome
	eventually(t, 30*time.Second, "all groups are back", func() (bool, string) {
		o = outcome{}
		back := readCommitted(t, f.sourceAdmin, f.groups)
		for _, topic := range f.topics {
			o = o.add(groupMove{
				from: remoteTopic(topic), fromRecords: f.targetRecords[topic], fromOffsets: moved,
				to: topic, toRecords: f.sourceRecords[topic], toOffsets: back, groups: f.groups,
			}.outcome())
		}
		return o.reread == 0, o.String()
	})
	t.Logf("milena: %s", o)
	if !o.exact() || o.offsets != f.offsets() {
		t.Errorf("milena: %s", o)
	}
}

func (f *failover) targetRecordsAreCopied(t *testing.T) {
	name := func(topic string) string { return "target." + topic }
	eventually(t, 30*time.Second, "target.plain is copied", func() (bool, string) {
		ends, err := verify.ReadEnds(t.Context(), f.sourceClient, "target.plain")
		if err != nil {
			return false, err.Error()
		}
		return ends.End[0]+ends.End[1]+ends.End[2] >= 1500, fmt.Sprint(ends)
	})
	report, err := verify.Run(within(t, time.Minute, "the verifier ends"), f.targetClient, f.sourceClient, verify.Options{Topics: []string{"plain"}, Name: name})
	check(t, err)
	if report.Records != 1500 || len(report.Differences) > 0 {
		t.Errorf("%+v", report)
	}
}

// consumeToEnds lets a real consumer of a group read from its committed offsets to the current ends of the topics, commits, and returns how
// many records it read by topic and partition.
func consumeToEnds(t *testing.T, c *kafka.Cluster, cl *kgo.Client, group string, topics []string) map[string]map[int32]int64 {
	t.Helper()
	ctx := within(t, time.Minute, group+" has read to the end")
	left := map[string]map[int32]int64{}
	read := map[string]map[int32]int64{}
	committed := readCommitted(t, kadm.NewClient(cl), []string{group})
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
