package groups

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

func TestASyncThatRunsOutOfTimeGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
	const groups = 3*groupsPerChunk + 50
	for i := range groups {
		w.commit(w.host.source, fmt.Sprintf("group-%03d", i), "orders", 40)
	}
	s := w.newSyncer()
	s.checkpoints = nil
	committed := func() (n int) {
		listed, err := kadm.NewClient(w.host.target).ListGroups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(listed)
	}
	began := time.Now()
	for i, want := range []int{groupsPerChunk, 2 * groupsPerChunk, 3 * groupsPerChunk} {
		if err := s.syncUntil(t.Context(), time.Now()); !errors.Is(err, errOutOfTime) || committed() != want {
			t.Errorf("sync %d: %v, %d groups committed, want %d", i, err, committed(), want)
		}
	}
	if !s.Status().LastPass.IsZero() {
		t.Error("a sync that did not reach all groups counts as complete")
	}
	if err := s.syncUntil(t.Context(), time.Now()); err != nil || committed() != groups {
		t.Errorf("the last sync: %v, %d groups committed", err, committed())
	}
	if last := s.Status().LastPass; last.IsZero() || last.Sub(began) > time.Minute {
		t.Errorf("the last complete sync began at %v", last)
	}
}

// Of three batches of checkpoints the second one is refused. The first one counts, and the groups in it are committed.
func TestCheckpointsThatWereWrittenCountWhateverFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
	kafkatest.CreateTopic(t, w.target, "a.checkpoints.internal", 1, nil)
	const groups = 60
	metadata := strings.Repeat("m", 20_000) // some 26 checkpoints per batch
	for i := range groups {
		var o kadm.Offsets
		o.Add(kadm.Offset{Topic: "orders", At: 40, LeaderEpoch: -1, Metadata: metadata})
		if err := kadm.NewClient(w.host.source).CommitAllOffsets(t.Context(), fmt.Sprintf("group-%02d", i), o); err != nil {
			t.Fatal(err)
		}
	}
	produced := 0
	w.target.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.target.KeepControl()
		request := r.(*kmsg.ProduceRequest)
		if info := w.target.TopicInfo("a.checkpoints.internal"); request.Topics[0].TopicID != info.TopicID && request.Topics[0].Topic != "a.checkpoints.internal" {
			return nil, nil, false
		}
		if produced++; produced != 2 {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.ProduceResponse)
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = request.Topics[0].Topic, request.Topics[0].TopicID
		rp := kmsg.NewProduceResponseTopicPartition()
		rp.ErrorCode = kerr.NotEnoughReplicas.Code
		rt.Partitions = append(rt.Partitions, rp)
		response.Topics = append(response.Topics, rt)
		return response, nil, true
	})
	s := w.newSyncer()
	if err := s.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := len(w.records("a.checkpoints.internal"))
	if first == 0 || first >= groups {
		t.Fatalf("%d checkpoints were written by the first sync", first)
	}
	for i := range groups {
		at := w.committed(w.host.target, fmt.Sprintf("group-%02d", i), "a.orders")
		if (at == 40) != (i < first) {
			t.Errorf("group %d is at %d, and %d checkpoints were written", i, at, first)
		}
	}
	if err := s.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(w.records("a.checkpoints.internal")); n != groups {
		t.Errorf("%d checkpoints in all, want %d: none is written twice", n, groups)
	}
	if at := w.committed(w.host.target, fmt.Sprintf("group-%02d", groups-1), "a.orders"); at != 40 {
		t.Errorf("the last group is at %d", at)
	}
}

// __consumer_offsets has max.message.bytes like any topic.
func TestLargeCommitsAreSplit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const partitions = 2*maxCommitPartitions + 1
	kafkatest.CreateTopic(t, w.target, "a.wide", partitions, nil)
	kafkatest.CreateTopic(t, w.target, "a.long", 300, nil)
	var mu sync.Mutex
	var sizes []int
	largest := 0
	w.target.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.target.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		request := r.(*kmsg.OffsetCommitRequest)
		n := 0
		for _, topic := range request.Topics {
			n += len(topic.Partitions)
		}
		sizes, largest = append(sizes, n), max(largest, len(request.AppendTo(nil)))
		return nil, nil, false
	})
	positions := func(topic string, n int32, metadata string) (list []*position) {
		for partition := range n {
			list = append(list, &position{group: "app", metadata: metadata, target: offsets.TopicPartition{Topic: topic, Partition: partition}, targetOffset: 7})
		}
		return list
	}
	if n := commitGroup(t.Context(), w.host.target, positions("a.wide", partitions, "")); n != partitions {
		t.Errorf("%d committed", n)
	}
	if len(sizes) != 3 || sizes[0] != maxCommitPartitions || sizes[2] != 1 {
		t.Errorf("requests with %v partitions", sizes)
	}
	if n := commitGroup(t.Context(), w.host.target, positions("a.long", 300, strings.Repeat("m", 4096))); n != 300 {
		t.Errorf("%d committed", n)
	}
	if largest > maxCommitBytes+8<<10 {
		t.Errorf("a request of %d bytes", largest)
	}
}
