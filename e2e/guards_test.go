package e2e_test

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/milena-kafka/milena/offsets"
)

// joinAs makes a group of another kind than consumers' on a cluster, with a member that never comes back.
func joinAs(ctx context.Context, cl *kgo.Client, group, protocolType string) error {
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

func TestGroupsAreMovedForwardOnlyAndNotTooFar(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{Properties: map[string]string{"offset.metadata.max.bytes": "100"}})
	ctx := t.Context()
	random := seeded(t)
	p.createTopic("t", 1, 1)
	p.createTopic("big", 1, 1, "max.message.bytes=4000000")
	check(t, p.writer(load.Options{Topic: "t", Partitions: 1, Shapes: []load.Shape{load.Sized(100)}}).Write(ctx, 20_000))
	big := p.writer(load.Options{Topic: "big", Partitions: 1, BatchBytes: 4_000_000, Shapes: []load.Shape{load.Sized(100)}})
	check(t, big.WriteShapes(ctx, 100, load.Sized(100)))
	check(t, big.WriteShapes(ctx, 1, load.Sized(2_000_000)))
	check(t, big.WriteShapes(ctx, 100, load.Sized(100)))

	// The record in the middle of big does not fit into the target, so that its copy ends there.
	c := lookOften(p.config("t", "big"))
	c["flows"].([]daemon.Map)[0]["configs_exclude"] = []string{`max\.message\.bytes`}
	m := p.startMilena(c)
	p.waitCopied(m, time.Minute, "t")
	eventually(t, 30*time.Second, "the copy has come to the large record", func() (bool, string) {
		for _, part := range m.partitions() {
			if part.Topic == "big" {
				return part.Acked == 100 && part.Anomaly != nil, fmt.Sprintf("%+v", part)
			}
		}
		return false, "big is not in /status"
	})
	at := func(group, topic string) int64 {
		return readGroups(t, p.targetAdmin, []string{group}).at(group, copied(topic), 0)
	}
	is := func(t *testing.T, group, topic string, want int64) {
		t.Helper()
		eventually(t, 30*time.Second, fmt.Sprintf("%s is at %d of %s", group, want, topic), func() (bool, string) {
			got := at(group, topic)
			return got == want, fmt.Sprint(got)
		})
	}

	place := readContents(t, p.targetClient, copied("t"))[0]

	t.Run("no further than the copy", func(t *testing.T) {
		for group, offset := range map[string]int64{"before": 50, "at": 100, "past": 150, "end": 201} {
			commitGroup(t, p.sourceAdmin, group, "big", 0, offset, "")
		}
		m.waitPasses("source-target")
		to, end := readContents(t, p.targetClient, copied("big"))[0], endsOf(t, p.targetClient, copied("big"))[copied("big")][0]
		is(t, "before", "big", to[50].offset)
		for _, group := range []string{"at", "past", "end"} {
			if got := at(group, "big"); got <= to[99].offset || got > end || len(to) != 100 {
				t.Errorf("%s is at %d of big, where %d records end at %d", group, got, len(to), end)
			}
		}
		large := "4000000"
		_, err := p.targetAdmin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: &large}}, copied("big"))
		check(t, err)
		m.stop()
		m.start()
		m.waitReady(30 * time.Second)
		p.waitCopied(m, time.Minute, "big")
		to = readContents(t, p.targetClient, copied("big"))[0]
		is(t, "past", "big", to[150].offset)
		is(t, "end", "big", to[200].offset+1)
		is(t, "at", "big", to[100].offset)
	})
	t.Run("not back when somebody resets the group on the source", func(t *testing.T) {
		commitGroup(t, p.sourceAdmin, "reset", "t", 0, 800, "")
		is(t, "reset", "t", place[800].offset)
		commitGroup(t, p.sourceAdmin, "reset", "t", 0, 200, "")
		eventually(t, 30*time.Second, "that is told", func() (bool, string) {
			got := refusals(t, m)
			return got["reset"] == "ahead", fmt.Sprint(got)
		})
		is(t, "reset", "t", place[800].offset)
		// The checkpoint says where the group is, as MirrorMaker 2's does: who asks for it gets what the source has.
		client, err := offsets.Open(ctx, offsets.Options{Client: p.targetClient})
		check(t, err)
		defer client.Close()
		positions, err := client.Group(ctx, "source", "reset")
		if err != nil || len(positions) != 1 || positions[0].Target != place[200].offset || !positions[0].Exact {
			t.Errorf("%+v, %v", positions, err)
		}
	})
	t.Run("a group that is deleted on the source stays", func(t *testing.T) {
		commitGroup(t, p.sourceAdmin, "deleted", "t", 0, 300, "")
		is(t, "deleted", "t", place[300].offset)
		_, err := p.sourceAdmin.DeleteGroup(ctx, "deleted")
		check(t, err)
		m.waitPasses("source-target")
		is(t, "deleted", "t", place[300].offset)
	})
	t.Run("what cannot be committed is told with the reason", func(t *testing.T) {
		check(t, joinAs(ctx, p.targetClient, "worker", "connect"))
		commitGroup(t, p.sourceAdmin, "worker", "t", 0, 10, "")
		commitGroup(t, p.sourceAdmin, "long", "t", 0, 10, strings.Repeat("x", 200)) // longer than the target takes
		eventually(t, 30*time.Second, "that is told", func() (bool, string) {
			got := refusals(t, m)
			return got["worker"] == "kind" && got["long"] == "failed" && got["reset"] == "ahead", fmt.Sprint(got)
		})
		for _, reason := range []string{"kind", "failed", "ahead"} {
			m.waitMetric(10*time.Second, 1, "milena_group_positions_refused", `reason="`+reason+`"`)
			m.waitMetric(10*time.Second, 1, "milena_group_refusals_total", `reason="`+reason+`"`)
		}
		if at("worker", "t") >= 0 {
			t.Error("a position was committed for a Connect worker")
		}
	})
	t.Run("members come and go while the source's group runs ahead", func(t *testing.T) {
		groups := []string{"busy-classic", "busy-consumer"}
		running, stop := context.WithTimeout(ctx, 6*time.Second)
		defer stop()
		var work errgroup.Group
		var looks, moves int
		for _, group := range groups {
			// The group of the source jumps forward and back.
			steps := seeded(t)
			work.Go(func() error {
				o := int64(0)
				for running.Err() == nil {
					o = max(0, o+steps.Int64N(60)-20)
					var list kadm.Offsets
					list.AddOffset("t", 0, min(o, 15_000), -1)
					if err := p.sourceAdmin.CommitAllOffsets(ctx, group, list); err != nil {
						return err
					}
					select {
					case <-running.Done():
					case <-time.After(5 * time.Millisecond):
					}
				}
				return nil
			})
		}
		work.Go(func() error {
			last := map[string]int64{}
			for running.Err() == nil {
				for group, fetched := range p.targetAdmin.FetchManyOffsets(ctx, groups...) {
					o, ok := fetched.Fetched.Lookup(copied("t"), 0)
					if fetched.Err != nil || !ok || o.Err != nil {
						continue
					}
					looks++
					if o.At < last[group] {
						return fmt.Errorf("%s went back from %d to %d", group, last[group], o.At)
					}
					if o.At > last[group] {
						moves++
					}
					last[group] = o.At
				}
			}
			return nil
		})
		visits := 0
		for i := 0; running.Err() == nil; i++ {
			group := groups[i%2]
			v := visit{group: group, protocol: strings.TrimPrefix(group, "busy-"), stop: places{}, original: copied}
			v.stop.set(copied("t"), 0, max(at(group, "t"), 0)+1+random.Int64N(30))
			v.on(t, p.target)
			visits++
		}
		check(t, work.Wait())
		t.Logf("%d visits of members, %d looks at the positions saw %d moves, all of them forward", visits, looks, moves)
		if visits < 4 || moves < 4 {
			t.Error("too little has happened")
		}
	})
	p.verify(copied, "t", "big")
	m.stop()
}
