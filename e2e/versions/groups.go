package versions

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/e2e/verify"
)

// partition is one partition of a topic, and the offsets of its committed records on both sides. The i-th record of the source is the i-th one
// of the target, as the verifier has found.
type partition struct {
	topic          string
	number         int32
	source, target []int64
	sourceEnd      int64
	targetEnd      int64
}

// checkGroups commits offsets for groups on the source: at the first record, at each of some in the middle, and at the end. When groups were
// synced, each position is at the copy of its record. It returns the number of positions.
func (s *scene) checkGroups() int {
	s.t.Helper()
	const groups = 7
	ctx, parts := s.t.Context(), s.partitions()
	on := func(i int, p partition) int64 { // where group i stands
		if at := i * len(p.source) / (groups - 1); at < len(p.source) {
			return p.source[at]
		}
		return p.sourceEnd
	}
	name := func(i int) string { return fmt.Sprint("group-", i) }
	var names []string
	for i := range groups {
		var o kadm.Offsets
		for _, p := range parts {
			o.Add(kadm.Offset{Topic: p.topic, Partition: p.number, At: on(i, p), LeaderEpoch: -1})
		}
		s.check(kadm.NewClient(s.sourceClient).CommitAllOffsets(ctx, name(i), o))
		names = append(names, name(i))
	}
	var right int
	s.until(30*time.Second, "groups are where they have to be", func() (bool, string) {
		fetched, wrong := kadm.NewClient(s.targetClient).FetchManyOffsets(ctx, names...), ""
		right = 0
		for i := range groups {
			for _, p := range parts {
				o, ok := fetched[name(i)].Fetched.Lookup(remote(p.topic), p.number)
				least, most := p.translated(on(i, p))
				if ok && o.Err == nil && o.At >= least && o.At <= most {
					right++
				} else {
					wrong = fmt.Sprintf("%s is at %d of %s[%d], want %d to %d for %d on the source", name(i), o.At, remote(p.topic), p.number, least, most, on(i, p))
				}
			}
		}
		return wrong == "", wrong
	})
	return right
}

// translated returns where an offset of the source has to be on the target: at the copy of the first record from it on, or behind the last one.
func (p partition) translated(offset int64) (least, most int64) {
	if i, _ := slices.BinarySearch(p.source, offset); i < len(p.source) {
		return p.target[i], p.target[i]
	}
	return p.target[len(p.target)-1] + 1, p.targetEnd
}

func (s *scene) partitions() (parts []partition) {
	s.t.Helper()
	ctx := s.t.Context()
	for _, topic := range s.topics {
		source := s.ends(topic)
		target, err := verify.ReadEnds(ctx, s.targetClient, remote(topic))
		s.check(err)
		for number := range source.End {
			p := partition{topic: topic, number: number, sourceEnd: source.End[number], targetEnd: target.End[number]}
			s.check(verify.Sequence(ctx, s.sourceClient, topic, number, func(r *kgo.Record) error {
				p.source = append(p.source, r.Offset)
				return nil
			}))
			s.check(verify.Sequence(ctx, s.targetClient, remote(topic), number, func(r *kgo.Record) error {
				p.target = append(p.target, r.Offset)
				return nil
			}))
			parts = append(parts, p)
		}
	}
	return parts
}

// The groups of the source that milena does not follow, and what it says about them.
const (
	shareGroup   = "a-share-group"
	streamsGroup = "a-streams-group"
)

func notFollowed() []string {
	return []string{"is a share group (KIP-932)", "is a Streams group (KIP-1071)"}
}

// joinNewGroups lets a member join a share group and another one a Streams group.
func (s *scene) joinNewGroups() {
	s.t.Helper()
	share := kmsg.NewPtrShareGroupHeartbeatRequest()
	share.GroupID, share.MemberID, share.SubscribedTopicNames = shareGroup, memberID(1), []string{plain}
	sub := kmsg.NewStreamsGroupHeartbeatRequestTopologySubtopology()
	sub.SubtopologyID, sub.SourceTopics = "0", []string{plain}
	topology := kmsg.NewStreamsGroupHeartbeatRequestTopology()
	topology.Epoch, topology.Subtopologies = 1, []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{sub}
	streams, process := kmsg.NewPtrStreamsGroupHeartbeatRequest(), memberID(3)
	streams.Group, streams.MemberID, streams.RebalanceTimeoutMillis, streams.Topology, streams.ProcessID = streamsGroup, memberID(2), 60_000, &topology, &process
	streams.ActiveTasks, streams.StandbyTasks, streams.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
	broker := s.client(s.source, kgo.MaxVersions(nil)).Broker(1) // the client itself knows of no coordinators of Streams groups
	s.until(30*time.Second, "members have joined", func() (bool, string) {
		kadm.NewClient(s.sourceClient).FindGroupCoordinators(s.t.Context(), shareGroup, streamsGroup) // creates __consumer_offsets
		one, err := share.RequestWith(s.t.Context(), broker)
		if err == nil {
			err = refusal(one.ErrorCode, one.ErrorMessage)
		}
		other, streamsErr := streams.RequestWith(s.t.Context(), broker)
		if streamsErr == nil {
			streamsErr = refusal(other.ErrorCode, other.ErrorMessage)
		}
		err = errors.Join(err, streamsErr)
		return err == nil, fmt.Sprint(err)
	})
}

func refusal(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err != nil && message != nil {
		return fmt.Errorf("%w: %s", err, *message)
	}
	return err
}

// memberID is a UUID in Kafka's text form.
func memberID(n int) string { return fmt.Sprintf("AAAAAAAAAAAAAAAAAAAA%dA", n) }

// checkNamesNewGroups runs milena check, which names the groups that are not followed.
func (s *scene) checkNamesNewGroups() {
	s.t.Helper()
	code, out := s.verb("check", "-c", s.milena.Config())
	if code != 0 {
		s.t.Errorf("check: exit code %d", code)
	}
	s.wantNamed("check", out, "warning: group %s on cluster source is not followed: it ")
}

// statusNamesNewGroups runs milena status, which names them too.
func (s *scene) statusNamesNewGroups() {
	s.t.Helper()
	code, out := s.verb("status", "--url", s.milena.URL())
	if code != 0 {
		s.t.Errorf("status: exit code %d", code)
	}
	s.wantNamed("status", out, "    group %s ")
}

func (s *scene) wantNamed(where, output, line string) {
	s.t.Helper()
	for i, group := range []string{shareGroup, streamsGroup} {
		s.wantText(where, output, fmt.Sprintf(line, group)+notFollowed()[i])
	}
}
