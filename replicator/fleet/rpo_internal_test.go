package fleet

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// A source that answers shows what is missing. That a copy ends where its source does makes it complete, up to when the source was asked, unless the copy
// may be of another log, or the source may have more, or its leader may not be the leader any more.
func TestWhatASourceThatAnswersSaysOfTheRPO(t *testing.T) {
	seen := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	asked := seen.Add(30 * time.Second)
	tests := map[string]struct {
		end       int64
		halted    bool
		isolation int8
		lost      []int32
		missing   int64
		complete  time.Time
	}{
		"complete":         {end: 100, complete: asked},
		"behind":           {end: 110, missing: 10, complete: seen},
		"halted":           {end: 100, halted: true, complete: seen},
		"truncated":        {end: 90, complete: seen},
		"open transaction": {end: 100, isolation: readCommitted, complete: seen},
		"no controller":    {end: 100, lost: []int32{7}, complete: seen},
	}
	for name, test := range tests {
		r := &reading{journal: journal{{horizon: offsets.NewHorizon(seen, nil)}}, targetView: targetOf(topics.Topic{Partitions: make([]topics.Partition, 1)})}
		state := progress{end: 100}
		if test.halted {
			state.halted = &Halt{}
		}
		p := &Partition{Topic: "orders", TargetTopic: "a.orders", SourceEnd: &test.end}
		var rpo offsets.RPO
		r.addBehind(&rpo, p, state, &picked{asked: asked, isolation: test.isolation, leaders: []int32{7}, lost: test.lost}, 0)
		at := asked
		if test.lost != nil {
			at = seen
		}
		if rpo.MissingRecords != test.missing || !rpo.CompleteUpTo.Equal(test.complete) || !rpo.SeenAt.Equal(at) {
			t.Errorf("%s: %+v, want %d missing, complete up to %v", name, rpo, test.missing, test.complete)
		}
	}
}

func targetOf(copied topics.Topic) topics.View {
	return topics.View{ByName: map[string]topics.Topic{"a.orders": copied}}
}

// Of a copy that was deleted, or made again by somebody else, the journal does not say what it lacks.
func TestACopyThatIsGoneIsNotComplete(t *testing.T) {
	partition := make([]topics.Partition, 1)
	for name, copied := range map[string]topics.Topic{"deleted": {}, "made again": {ID: [16]byte{2}, Partitions: partition}} {
		r := &reading{journal: journal{{horizon: offsets.NewHorizon(time.Now(), nil)}}, targetView: targetOf(copied)}
		var rpo offsets.RPO
		r.addBehind(&rpo, &Partition{Topic: "orders", TargetTopic: "a.orders"}, progress{end: 100, targetTopic: [16]byte{1}}, &picked{}, 0)
		if rpo.Unknown != 1 || !rpo.CompleteUpTo.IsZero() {
			t.Errorf("%s: %+v", name, rpo)
		}
	}
}

// Brokers that do not answer lead many journals, and are named once.
func TestUnreadJournalsAreOneProblem(t *testing.T) {
	r := &reading{clusters: client.Clusters{Flow: config.Flow{Target: "dr"}}, journal: journal{{}, {err: errors.New("silence")}, {err: errors.New("silence")}}}
	got := r.problems(nil)
	if len(got) != 1 || !strings.HasPrefix(got[0], "the journals of 2 of 3 shards were not read, such as that of shard 1: ") {
		t.Errorf("%q", got)
	}
	r.journal[2].err = nil
	if got = r.problems(nil); len(got) != 1 || !strings.HasPrefix(got[0], "shard 1: its journal was not read: ") {
		t.Errorf("%q", got)
	}
}
