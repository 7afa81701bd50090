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

// Of the partitions that a horizon has no room for, the journal says what they lack together. The flow lacks at least that, and it says that its topics do not
// have all of it.
func TestPartitionsThatTheJournalDoesNotListAreLost(t *testing.T) {
	seen := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	before := seen.Add(-time.Hour)
	listed := offsets.Behind{Topic: "orders", Acked: 100, SourceEnd: 140, Seen: seen, Complete: seen}
	for name, test := range map[string]struct {
		horizon  offsets.Horizon
		complete time.Time
		missing  int64
	}{
		"all are listed":   {offsets.Horizon{At: seen, Behind: []offsets.Behind{listed}}, seen, 40},
		"some are not":     {offsets.Horizon{At: seen, Behind: []offsets.Behind{listed}, More: &offsets.MoreBehind{Partitions: 1, Records: 7, Seen: seen, Complete: before}}, before, 47},
		"one never was":    {offsets.Horizon{At: seen, Behind: []offsets.Behind{listed}, More: &offsets.MoreBehind{Partitions: 1, Records: 7, Seen: seen}}, time.Time{}, 47},
		"none is complete": {offsets.Horizon{Behind: []offsets.Behind{listed}, More: &offsets.MoreBehind{Partitions: 2, Records: 7, Seen: seen, Complete: before}}, before, 47},
	} {
		r := &reading{
			flow: config.DefaultFlow("a", "b"), dark: errors.New("no broker answers"),
			targetView: targetOf(topics.Topic{Partitions: make([]topics.Partition, 3)}),
			journal:    journal{{horizon: &test.horizon, partitions: make(map[offsets.TopicPartition]progress)}},
		}
		p := &picked{}
		for n := range int32(3) {
			r.journal[0].partitions[offsets.TopicPartition{Topic: "orders", Partition: n}] = progress{end: 100}
			p.partitions = append(p.partitions, Partition{Topic: "orders", TargetTopic: "a.orders", Partition: n})
		}
		report := r.join(p)
		rpo := report.RPO
		if rpo.MissingRecords != test.missing || !rpo.CompleteUpTo.Equal(test.complete) || rpo.Unknown != 0 || rpo.Partitions != 3 {
			t.Errorf("%s: %+v, want %d missing, complete up to %v", name, rpo.Loss, test.missing, test.complete)
		}
		if len(rpo.Topics) != 1 || rpo.Topics[0].MissingRecords != 40 || (rpo.Unlisted == nil) != (test.missing == 40) {
			t.Errorf("%s: topics %+v, and not listed %+v", name, rpo.Topics, rpo.Unlisted)
		}
		if alone := report.Partitions[1].MissingRecords; (alone == nil) != (rpo.Unlisted != nil) {
			t.Errorf("%s: of a partition that is not listed: %v", name, alone)
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
