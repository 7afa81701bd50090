package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/offsets"
)

// groupLimits is a flow of two topics: t is copied completely; of big only the first 100 records are, because the next one is too large for
// the target.
type groupLimits struct {
	*pair
	m      *milena
	config daemon.Map
	copies []logRecord // the copies of topic t
}

// What milena must not commit: offsets beyond the copy, offsets behind the group's own, and offsets that the target refuses.
func TestGroupsOnlyMoveForward(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{Properties: map[string]string{"offset.metadata.max.bytes": "100"}})
	g := &groupLimits{pair: p}
	g.writeTopics()
	c := syncGroupsOften(p.config("t", "big"))
	c["flows"].([]daemon.Map)[0]["configs_exclude"] = []string{`max\.message\.bytes`}
	g.config, g.m = c, p.startMilena(c)
	p.waitCopied(g.m, time.Minute, "t")
	g.waitHaltedAtLargeRecord()
	g.copies = readContents(t, p.targetClient, remoteTopic("t"))[0]

	t.Run("no further than the copy", g.notBeyondTheCopy)
	t.Run("not backwards when a group is reset on the source", g.notBackwards)
	t.Run("a group that is deleted on the source keeps its offsets on the target", g.deletedOnSource)
	t.Run("an offset that cannot be committed is reported with the reason", g.refusedByTarget)
	t.Run("members join and leave while the group on the source moves", g.membersJoinAndLeave)
	p.verify(remoteTopic, "t", "big")
	g.m.stop()
}

func (g *groupLimits) writeTopics() {
	g.t.Helper()
	ctx := g.t.Context()
	g.createTopic("t", 1, 1)
	g.createTopic("big", 1, 1, "max.message.bytes=4000000")
	check(g.t, g.writer(load.Options{Topic: "t", Partitions: 1, Shapes: []load.Shape{load.Sized(100)}}).Write(ctx, 20_000))
	big := g.writer(load.Options{Topic: "big", Partitions: 1, BatchBytes: 4_000_000, Shapes: []load.Shape{load.Sized(100)}})
	check(g.t, big.WriteShapes(ctx, 100, load.Sized(100)))
	check(g.t, big.WriteShapes(ctx, 1, load.Sized(2_000_000)))
	check(g.t, big.WriteShapes(ctx, 100, load.Sized(100)))
}

func (g *groupLimits) waitHaltedAtLargeRecord() {
	g.t.Helper()
	eventually(g.t, 30*time.Second, "the copy of big halts at the large record", func() (bool, string) {
		for _, part := range g.m.partitions() {
			if part.Topic == "big" {
				return part.Acked == 100 && part.Anomaly != nil, fmt.Sprintf("%+v", part)
			}
		}
		return false, "big is not in /status"
	})
}

// at is the offset that a group has committed in the copy of a topic, or -1.
func (g *groupLimits) at(group, topic string) int64 {
	return readCommitted(g.t, g.targetAdmin, []string{group}).at(group, remoteTopic(topic), 0)
}

func (g *groupLimits) waitAt(t *testing.T, group, topic string, want int64) {
	t.Helper()
	eventually(t, 30*time.Second, fmt.Sprintf("%s is at %d of %s", group, want, topic), func() (bool, string) {
		got := g.at(group, topic)
		return got == want, fmt.Sprint(got)
	})
}

func (g *groupLimits) waitRefusals(t *testing.T, want map[string]string) {
	t.Helper()
	eventually(t, 30*time.Second, fmt.Sprintf("the refusals are %v", want), func() (bool, string) {
		got := refusals(t, g.m)
		for group, reason := range want {
			if got[group] != reason {
				return false, fmt.Sprint(got)
			}
		}
		return true, ""
	})
}

func (g *groupLimits) notBeyondTheCopy(t *testing.T) {
	for group, offset := range map[string]int64{"before": 50, "at": 100, "past": 150, "end": 201} {
		commitOffset(t, g.sourceAdmin, group, "big", 0, offset, "")
	}
	g.m.waitGroupSyncs("source-target")
	copies, end := readContents(t, g.targetClient, remoteTopic("big"))[0], endOffsets(t, g.targetClient, remoteTopic("big"))[remoteTopic("big")][0]
	if len(copies) != 100 {
		t.Fatalf("%d records of big are copied", len(copies))
	}
	g.waitAt(t, "before", "big", copies[50].offset)
	behind := []string{"at", "past", "end"}
	for _, group := range behind { // a sync commits them one after the other
		eventually(t, time.Minute, group+" is behind the last copied record of big", func() (bool, string) {
			got := g.at(group, "big")
			return got > copies[99].offset, fmt.Sprint(got)
		})
	}
	g.m.waitGroupSyncs("source-target") // and stay there
	for _, group := range behind {
		if got := g.at(group, "big"); got <= copies[99].offset || got > end {
			t.Errorf("%s is at %d of big, where %d records end at %d", group, got, len(copies), end)
		}
	}
	large := "4000000"
	_, err := g.targetAdmin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &large}}, remoteTopic("big"))
	check(t, err)
	g.m.stop()
	g.m.start()
	g.m.waitReady(30 * time.Second)
	g.waitCopied(g.m, time.Minute, "big")
	copies = readContents(t, g.targetClient, remoteTopic("big"))[0]
	g.waitAt(t, "past", "big", copies[150].offset)
	g.waitAt(t, "end", "big", copies[200].offset+1)
	g.waitAt(t, "at", "big", copies[100].offset)
}

func (g *groupLimits) notBackwards(t *testing.T) {
	commitOffset(t, g.sourceAdmin, "reset", "t", 0, 800, "")
	g.waitAt(t, "reset", "t", g.copies[800].offset)
	commitOffset(t, g.sourceAdmin, "reset", "t", 0, 200, "")
	g.waitAt(t, "reset", "t", g.copies[200].offset) // nobody has consumed there
	commitOffset(t, g.targetAdmin, "reset", remoteTopic("t"), 0, g.copies[900].offset, "")
	commitOffset(t, g.sourceAdmin, "reset", "t", 0, 250, "")
	g.waitRefusals(t, map[string]string{"reset": "own"})
	g.waitAt(t, "reset", "t", g.copies[900].offset)
	// The checkpoint follows the reset, as MirrorMaker 2's does: the library returns the offset of the source.
	client, err := offsets.Open(t.Context(), offsets.Options{Client: g.targetClient})
	check(t, err)
	defer client.Close()
	translated, err := client.Group(t.Context(), "source", "reset")
	if err != nil || len(translated) != 1 || translated[0].Target != g.copies[250].offset || !translated[0].Exact {
		t.Errorf("%+v, %v", translated, err)
	}
}

func (g *groupLimits) deletedOnSource(t *testing.T) {
	commitOffset(t, g.sourceAdmin, "deleted", "t", 0, 300, "")
	g.waitAt(t, "deleted", "t", g.copies[300].offset)
	_, err := g.sourceAdmin.DeleteGroup(t.Context(), "deleted")
	check(t, err)
	g.m.waitGroupSyncs("source-target")
	g.waitAt(t, "deleted", "t", g.copies[300].offset)
}

func (g *groupLimits) refusedByTarget(t *testing.T) {
	check(t, joinGroupAs(t.Context(), g.targetClient, "worker", "connect"))
	commitOffset(t, g.sourceAdmin, "worker", "t", 0, 10, "")
	commitOffset(t, g.sourceAdmin, "long", "t", 0, 10, strings.Repeat("x", 200)) // over the target's offset.metadata.max.bytes
	g.waitRefusals(t, map[string]string{"worker": "kind", "long": "metadata", "reset": "own"})
	for _, reason := range []string{"kind", "metadata", "own"} {
		g.m.waitMetric(10*time.Second, 1, "milena_group_positions_refused", `reason="`+reason+`"`)
		g.m.waitMetric(10*time.Second, 1, "milena_group_refusals_total", `reason="`+reason+`"`)
	}
	code, output := g.runVerb(t, "check", g.config)
	if code != 0 {
		t.Errorf("check: exit code %d", code)
	}
	wantOutput(t, output, "group long on cluster source has committed an offset with 200 bytes of metadata, and cluster target accepts 100")
	if g.at("worker", "t") >= 0 {
		t.Error("an offset was committed for a Connect worker")
	}
}

// joinGroupAs creates a group of a type other than consumer, with a member that never sends another request.
func joinGroupAs(ctx context.Context, cl *kgo.Client, group, protocolType string) error {
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType = group, protocolType
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 30_000, 30_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = "v0"
	join.Protocols = append(join.Protocols, protocol)
	for {
		answer, err := join.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		err = kerr.ErrorForCode(answer.ErrorCode)
		if !errors.Is(err, kerr.MemberIDRequired) {
			return err
		}
		join.MemberID = answer.MemberID
	}
}

// membersJoinAndLeave lets members of both protocols come and go on the target while the groups move forward and back on the source. The
// committed offsets on the target may only grow.
func (g *groupLimits) membersJoinAndLeave(t *testing.T) {
	groups := []string{"busy-classic", "busy-consumer"}
	running, stop := context.WithTimeout(t.Context(), 6*time.Second)
	defer stop()
	var work errgroup.Group
	for _, group := range groups {
		steps := seeded(t)
		work.Go(func() error { return commitRandomly(running, t.Context(), steps, g.sourceAdmin, group) })
	}
	var reads, moves int
	work.Go(func() (err error) {
		reads, moves, err = g.watchForward(running, t.Context(), groups)
		return err
	})
	random, runs := seeded(t), 0
	for running.Err() == nil {
		group := groups[runs%2]
		r := consumerRun{group: group, protocol: strings.TrimPrefix(group, "busy-"), until: topicOffsets{}, sourceName: remoteTopic}
		r.until.set(remoteTopic("t"), 0, max(g.at(group, "t"), 0)+1+random.Int64N(30))
		r.on(t, g.target)
		runs++
	}
	check(t, work.Wait())
	t.Logf("%d members came and went; %d reads of the committed offsets saw %d moves, all of them forward", runs, reads, moves)
	if runs < 4 || moves < 4 {
		t.Error("too few members or moves: the test proves nothing")
	}
}

// commitRandomly moves a group in topic t forward and back, more forward than back, until running ends.
func commitRandomly(running, ctx context.Context, random *rand.Rand, admin *kadm.Client, group string) error {
	offset := int64(0)
	for running.Err() == nil {
		offset = max(0, offset+random.Int64N(60)-20)
		var list kadm.Offsets
		list.AddOffset("t", 0, min(offset, 15_000), -1)
		if err := admin.CommitAllOffsets(ctx, group, list); err != nil {
			return err
		}
		select {
		case <-running.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// watchForward reads the committed offsets of groups on the target until running ends. One that goes back is an error.
func (g *groupLimits) watchForward(running, ctx context.Context, groups []string) (reads, moves int, err error) {
	last := map[string]int64{}
	for running.Err() == nil {
		for group, fetched := range g.targetAdmin.FetchManyOffsets(ctx, groups...) {
			o, ok := fetched.Fetched.Lookup(remoteTopic("t"), 0)
			if fetched.Err != nil || !ok || o.Err != nil {
				continue
			}
			reads++
			if o.At < last[group] {
				return reads, moves, fmt.Errorf("%s went back from %d to %d", group, last[group], o.At)
			}
			if o.At > last[group] {
				moves++
			}
			last[group] = o.At
		}
	}
	return reads, moves, nil
}

// Groups with members on the target, of the classic protocol and of KIP-848, are not changed, and neither is a group that is ahead there.
func TestGroupsActiveOnTheTargetAreNotChanged(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("t", 1, 1)
	check(t, p.writer(load.Options{Topic: "t", Partitions: 1, Shapes: []load.Shape{load.Sized(100)}}).Write(ctx, 1000))
	m := p.startMilena(syncGroupsOften(p.config("t")))
	p.waitCopied(m, time.Minute, "t")

	members := map[string]*proc.Process{}
	for _, protocol := range []string{"classic", "consumer"} {
		member, err := p.startConsumer(protocol, "active-"+protocol)
		check(t, err)
		members["active-"+protocol] = member
	}
	groups := slices.Sorted(maps.Keys(members))
	eventually(t, 30*time.Second, "both groups have members and committed offsets", func() (bool, string) {
		listed, err := p.targetAdmin.ListGroups(ctx)
		check(t, err)
		committed := readCommitted(t, p.targetAdmin, groups)
		for _, group := range groups {
			if listed[group].State != "Stable" || committed.at(group, remoteTopic("t"), 0) < 1000 {
				return false, fmt.Sprint(listed, committed)
			}
		}
		return true, ""
	})
	check(t, p.writer(load.Options{Topic: "t", Partitions: 1, Shapes: []load.Shape{load.Sized(90)}}).Write(ctx, 1))
	commitOffset(t, p.targetAdmin, "ahead", remoteTopic("t"), 0, 900, "")
	for _, group := range append(groups, "ahead") {
		commitOffset(t, p.sourceAdmin, group, "t", 0, 400, "")
	}
	eventually(t, 30*time.Second, "the refusals are reported", func() (bool, string) {
		got := refusals(t, m)
		return got["active-classic"] == "active" && got["active-consumer"] == "active" && got["ahead"] == "own", fmt.Sprint(got)
	})
	m.waitMetric(10*time.Second, 2, "milena_group_positions_refused", `reason="active"`)
	at := readCommitted(t, p.targetAdmin, append(groups, "ahead"))
	if at.at("active-classic", remoteTopic("t"), 0) < 1000 || at.at("active-consumer", remoteTopic("t"), 0) < 1000 || at.at("ahead", remoteTopic("t"), 0) != 900 {
		t.Errorf("a group was moved: %v", at)
	}
	for _, member := range members {
		member.Kill()
	}
	p.waitAndVerify(m, time.Minute, 1001, "t")
	m.stop()
}

// startConsumer runs Kafka's console consumer as a member of a group on the target. The protocol is classic or consumer (KIP-848).
func (p *pair) startConsumer(protocol, group string) (*proc.Process, error) {
	argv := p.target.Jars().Class([]string{"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}, "org.apache.kafka.tools.consumer.ConsoleConsumer",
		"--bootstrap-server", strings.Join(p.target.Addrs(), ","), "--topic", remoteTopic("t"), "--group", group, "--from-beginning",
		"--command-property", "group.protocol="+protocol, "--command-property", "auto.commit.interval.ms=200")
	return proc.Start(p.t.Context(), group, filepath.Join(p.dir, group+".log"), argv)
}
