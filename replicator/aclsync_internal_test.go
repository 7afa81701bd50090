package replicator

import (
	"maps"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/kafkatest"
	"github.com/milena-kafka/milena/replicator/topics"
)

// A topic of which another instance has partitions is a name clash as long as the journal does not list all of them.
func TestTopicsThatTheJournalDoesNotListClash(t *testing.T) {
	cluster := kafkatest.New(t)
	client := kafkatest.Client(t, cluster)
	journal := offsets.JournalTopic("a-b")
	kafkatest.CreateTopic(t, cluster, journal, 1, nil)
	list := func(topic string, partition int32, target string) {
		t.Helper()
		state := &offsets.PartitionState{Topic: topic, Partition: partition, TargetTopic: target, LeaderEpoch: -1}
		record := &kgo.Record{Topic: journal, Key: state.AppendKey(nil), Value: state.AppendValue(nil)}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	pair := func(topic string, source, target int) topics.Pair {
		return topics.Pair{
			Source: topics.Topic{Name: topic, Partitions: make([]topics.Partition, source)}, TargetName: topic,
			Target: topics.Topic{Name: topic, Partitions: make([]topics.Partition, target)},
		}
	}
	pairs := []topics.Pair{pair("listed", 3, 2), pair("part", 2, 2), pair("renamed", 1, 1), pair("here", 2, 2), pair("missing", 1, 0)}
	list("listed", 0, "listed")
	list("listed", 1, "listed")
	list("part", 0, "part")
	list("renamed", 0, "a.renamed")
	reader := offsets.NewJournal(client, journal, offsets.JournalOptions{})
	unlisted := func(elsewhere func(offsets.TopicPartition) bool) map[string]bool {
		t.Helper()
		found, err := unlistedTopics(t.Context(), reader.Reading(), pairs, elsewhere)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	away := func(tp offsets.TopicPartition) bool { return tp.Topic != "here" }
	if found := unlisted(away); !maps.Equal(found, map[string]bool{"part": true, "renamed": true}) {
		t.Errorf("found %v", found)
	}
	list("part", 1, "part")
	if found := unlisted(away); !maps.Equal(found, map[string]bool{"renamed": true}) {
		t.Errorf("once all of a topic is listed: %v", found)
	}
	none := offsets.NewJournal(client, "none", offsets.JournalOptions{}).Reading()
	if _, err := unlistedTopics(t.Context(), none, pairs, away); err == nil {
		t.Error("a journal that cannot be read lists nothing, and that is no error")
	}
	here := func(offsets.TopicPartition) bool { return false }
	if found, err := unlistedTopics(t.Context(), none, pairs, here); len(found) > 0 || err != nil {
		t.Errorf("with nothing elsewhere the journal is not needed: %v, %v", found, err)
	}
}

func TestATopicThatHasJustAppearedIsNotAClashYet(t *testing.T) {
	since, now := make(map[string]time.Time), time.Now()
	for i, step := range []struct {
		unlisted map[string]bool
		at       time.Duration
		want     bool
	}{
		{nil, 0, true},
		{map[string]bool{"orders": true}, time.Second, false},
		{map[string]bool{"orders": true}, time.Second + settleBegin, true},
		{map[string]bool{"orders": true, "stock": true}, 2*time.Second + settleBegin, false},
		{map[string]bool{"stock": true}, 2*time.Second + 2*settleBegin, true},
		{map[string]bool{"orders": true}, 3*time.Second + 2*settleBegin, false}, // it was listed in between
	} {
		if got := areSettled(step.unlisted, since, now.Add(step.at)); got != step.want {
			t.Errorf("step %d: settled %v", i, got)
		}
	}
}
