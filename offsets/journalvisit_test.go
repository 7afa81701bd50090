package offsets_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
)

// A visitor sees owners, states and their tombstones in order, and no chunks. One shard that a newer milena wrote costs only that one.
func TestVisitJournal(t *testing.T) {
	const journalTopic = "milena.a-z.journal"
	t.Parallel()
	c := newCluster(t)
	c.create(journalTopic, shards)
	state := func(topic string, end int64) *offsets.PartitionState {
		return &offsets.PartitionState{Topic: topic, Partition: 1, TargetTopic: "a." + topic, End: offsets.Pair{Source: end, Target: end}, LeaderEpoch: -1}
	}
	chunk := &offsets.Chunk{Topic: "orders", Partition: 1, Previous: -1}
	c.write(journalTopic, 1, state("orders", 5), chunk, &offsets.ShardState{ProducerIDs: []int64{7}}, &offsets.Owner{Instance: "one"}, state("orders", 9))
	c.write(journalTopic, 2, state("gone", 3), &offsets.Tombstone{Kind: offsets.KindPartition, Topic: "gone", Partition: 1}, &offsets.Tombstone{Kind: offsets.KindChunk, Topic: "gone", Partition: 1})
	newer := &kgo.Record{Topic: journalTopic, Partition: 3, Key: state("orders", 1).AppendKey(nil), Value: []byte{0, 9, 1}}
	foreign := &kgo.Record{Topic: journalTopic, Partition: 0, Key: []byte{byte(offsets.KindPartition), 1}, Value: []byte("?")}
	if err := c.client.ProduceSync(t.Context(), newer, foreign).FirstErr(); err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	seen := make(map[int32][]string)
	began := time.Now().Add(-time.Minute)
	errs, err := offsets.VisitJournal(t.Context(), c.client, journalTopic, slog.New(slog.DiscardHandler), offsets.JournalVisitor{
		Start: func(shard int32) {
			mu.Lock()
			defer mu.Unlock()
			seen[shard] = []string{"start"}
		},
		Visit: func(shard int32, e offsets.Entry, at time.Time) {
			mu.Lock()
			defer mu.Unlock()
			text := fmt.Sprintf("%T", e)
			if s, ok := e.(*offsets.PartitionState); ok {
				text = fmt.Sprintf("%s ends at %d", s.Topic, s.End.Source)
			}
			seen[shard] = append(seen[shard], text)
			if at.Before(began) || at.After(time.Now()) {
				t.Errorf("%s was written at %v", text, at)
			}
		},
	})
	if err != nil || len(errs) != shards {
		t.Fatalf("%v, %v", errs, err)
	}
	for k, want := range [][]string{
		{"start"}, {"start", "orders ends at 5", "*offsets.ShardState", "*offsets.Owner", "orders ends at 9"}, {"start", "gone ends at 3", "*offsets.Tombstone"}, {"start"},
	} {
		if got := seen[int32(k)]; !slices.Equal(got, want) {
			t.Errorf("shard %d: %q, want %q", k, got, want)
		}
		var newer *offsets.VersionError
		if errors.As(errs[k], &newer) != (k == 3) || k != 3 && errs[k] != nil {
			t.Errorf("shard %d: %v", k, errs[k])
		}
	}
	var none *offsets.NoJournalError
	if _, err := offsets.VisitJournal(t.Context(), c.client, "milena.no.journal", slog.New(slog.DiscardHandler), offsets.JournalVisitor{}); !errors.As(err, &none) {
		t.Errorf("without a journal: %v", err)
	}
}
