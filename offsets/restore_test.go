package offsets_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/offsets"
)

// restorerOf reads entries in order.
func restorerOf(t *testing.T, entries ...entry) *offsets.Restorer {
	t.Helper()
	var r offsets.Restorer
	for _, e := range entries {
		if err := r.Add(e.AppendKey(nil), e.AppendValue(nil)); err != nil {
			t.Fatal(err)
		}
	}
	return &r
}

var orders = offsets.TopicPartition{Topic: "orders"}

// A chunk that was written ahead stays in the journal if its state never followed. It must not hide the open chunk of later states, of which
// only the newest survives compaction.
func TestRestorerFindsTheOpenChunkBehindOneThatWasWrittenAhead(t *testing.T) {
	m := offsets.NewMap(0, 0)
	holes(t, m, offsets.ChunkSegments)
	state := offsets.PartitionState{Topic: "orders", TargetTopic: "a.orders"}
	full, _ := m.Changed()
	open := state.Apply(full)[0]
	first := state
	m.MarkJournaled(full)
	holes(t, m, offsets.ChunkSegments+1)
	ahead := m.Sealed(0, 9)
	state.NameChunks(ahead)
	if len(ahead) != 1 {
		t.Fatalf("%d chunks are sealed", len(ahead))
	}

	restored, err := restorerOf(t, open, &first, ahead[0]).Partitions()[orders].Map()
	if err != nil {
		t.Fatal(err)
	}
	mustAdvance(t, restored, first.End.Source, first.End.Target+1) // the marker of the takeover
	changes, _ := restored.Changed()
	second := first
	entries := []entry{open, ahead[0]} // the first state was compacted away
	for _, c := range second.Apply(changes) {
		entries = append(entries, c)
	}
	again, err := restorerOf(t, append(entries, &second)...).Partitions()[orders].Map()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(slices.Collect(again.Segments()), slices.Collect(restored.Segments())) {
		t.Error("the map has changed")
	}
}

// Whatever the history, only one state and one chunk of a partition are kept, and a new map can tell its chunks from those that are left.
func TestRestorerKnowsGenerationsAndTombstones(t *testing.T) {
	chunk := func(generation uint32, first int64) *offsets.Chunk {
		return &offsets.Chunk{Topic: "orders", Generation: generation, First: first, Previous: -1}
	}
	state := &offsets.PartitionState{Topic: "orders", Generation: 4, Start: offsets.Pair{Source: 7}, End: offsets.Pair{Source: 7}, Chunk: 7}
	r := restorerOf(t, &offsets.ShardState{ProducerIDs: []int64{1}}, chunk(4, 7), state, chunk(6, 9), &offsets.ShardState{ProducerIDs: []int64{1, 2}})
	p := r.Partitions()[orders]
	if p.State == nil || p.Open == nil || p.Open.First != 7 || p.Generation != 7 || !slices.Equal(r.ProducerIDs, []int64{1, 2}) {
		t.Errorf("%+v, producers %v", p, r.ProducerIDs)
	}
	for _, deleted := range []*offsets.Tombstone{{Kind: offsets.KindChunk, Topic: "orders", First: 7}, {Kind: offsets.KindPartition, Topic: "orders"}} {
		p = restorerOf(t, chunk(4, 7), state, deleted).Partitions()[orders]
		if _, err := p.Map(); err == nil || p.Open != nil || p.Generation != 5 {
			t.Errorf("after %+v: %v, %+v", deleted, err, p)
		}
	}
}

// Only a journal in which a partition had chunks of several names has any that a pruner may find.
func TestRestorerKnowsWhetherThereAreSeveralChunks(t *testing.T) {
	chunk := func(topic string, generation uint32, first int64) *offsets.Chunk {
		return &offsets.Chunk{Topic: topic, Generation: generation, First: first, Previous: -1}
	}
	for name, c := range map[string]struct {
		entries    []entry
		partitions int
		several    bool
	}{
		"none":                       {[]entry{&offsets.PartitionState{Topic: "a"}}, 0, false},
		"one of each partition":      {[]entry{chunk("a", 0, 0), chunk("b", 3, 9)}, 2, false},
		"one that was written again": {[]entry{chunk("a", 0, 5), chunk("a", 0, 5), chunk("a", 1, 5)}, 1, false},
		"two of a partition":         {[]entry{chunk("a", 0, 0), chunk("b", 0, 0), chunk("b", 0, 7), chunk("b", 0, 0)}, 2, true},
	} {
		partitions, several := restorerOf(t, c.entries...).Chunks()
		if partitions != c.partitions || several != c.several {
			t.Errorf("%s: %d partitions, several %v; want %d, %v", name, partitions, several, c.partitions, c.several)
		}
	}
}

// An unreadable chunk must not be replaced by an older one, which lacks segments. A record of a newer milena is an error.
func TestRestorerRefusesUnreadableRecords(t *testing.T) {
	m := offsets.NewMap(0, 0)
	state := offsets.PartitionState{Topic: "orders"}
	c, _ := m.Changed()
	open := state.Apply(c)[0]
	r := restorerOf(t, open, &state)
	var corrupt *offsets.CorruptError
	if err := r.Add(open.AppendKey(nil), []byte{0, 1, 255}); !errors.As(err, &corrupt) {
		t.Errorf("an unreadable chunk: %v", err)
	}
	if _, err := r.Partitions()[orders].Map(); !errors.As(err, &corrupt) {
		t.Errorf("a map whose open chunk is unreadable: %v", err)
	}
	var newer *offsets.VersionError
	if err := r.Add(open.AppendKey(nil), []byte{0, 9}); !errors.As(err, &newer) {
		t.Errorf("a newer chunk: %v", err)
	}
}
