package replicator

import (
	"context"
	"errors"
	"hash/crc32"
	"hash/maphash"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// Formats before version 2 have no count in their header, and hold records all the same.
func TestACopyInAnOldFormatIsSeen(t *testing.T) {
	m := kmsg.MessageV1{Offset: 7, Magic: 1, Timestamp: 1_700_000_000_000, Value: []byte("old")}
	m.MessageSize = int32(len(m.AppendTo(nil))) - 12
	m.CRC = int32(crc32.ChecksumIEEE(m.AppendTo(nil)[16:]))
	batch := m.AppendTo(nil)
	h, err := recordbatch.Parse(batch)
	if err != nil {
		t.Fatal(err)
	}
	seed := maphash.MakeSeed()
	s := &scan{matcher: match.New(nil, true), hasher: match.Hasher{Seed: seed, Timestamps: true}}
	source := match.Hasher{Seed: seed, Timestamps: true}
	s.matcher.Add(match.SourceRecord{Offset: 3, Hash: source.Hash(&recordbatch.Record{Timestamp: m.Timestamp, Value: m.Value})})
	s.matcher.Ended = true
	if err := s.takeTarget(t.Context(), h, batch); err != nil {
		t.Fatal(err)
	}
	if s.records != 1 || s.matcher.Next() != 4 {
		t.Errorf("%d records, next %d; want one, which is source offset 3", s.records, s.matcher.Next())
	}
	r := &recovery{flow: &Flow{config: config.Flow{}}}
	if err := r.sort(&partition{}, &tail{unknown: true}, h, batch); !errors.Is(err, errTargetNotEmpty) {
		t.Errorf("a target with it is said to be empty (%v)", err)
	}
}

// A long map is journalled in several batches, its state last. Chunks of one that was not finished must not mix with those of the next one,
// which may begin elsewhere, as retention goes on.
func TestChunksOfAnUnfinishedMapAreLeftOut(t *testing.T) {
	tp := offsets.TopicPartition{Topic: "orders", Partition: 0}
	left := &loadedState{chunks: map[int64]*offsets.Chunk{0: {Generation: 0}, 512: {First: 512, Generation: 2}}}
	r := &recovery{flow: &Flow{}, shard: &shard{loaded: map[offsets.TopicPartition]*loadedState{tp: left}}}
	p := &partition{topic: &topicLink{source: "orders"}, state: recovering}
	if err := r.adopt(p); err != nil {
		t.Fatal(err)
	}
	if p.record.Generation != 3 {
		t.Errorf("the map is generation %d, want 3", p.record.Generation)
	}
	for range 2 { // the journal could not be written, so the copy is read again
		s := &scan{matcher: match.New(nil, true)}
		if err := p.inheritMap(offsets.Position{}, []offsets.Segment{{Count: 1}}, s); err != nil {
			t.Fatal(err)
		}
	}
	if p.record.Generation != 4 {
		t.Errorf("the second map is generation %d, want 4", p.record.Generation)
	}
}

// A source that gives nothing keeps a scan only for a while, as others wait for their turn.
func TestAScanGivesUpOnASourceThatGivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &Flow{}
		f.topology.sourceAsked = time.Now().Add(time.Hour) // no metadata either
		s := &scan{flow: f, partition: &partition{topic: &topicLink{source: "orders"}, sourceLeader: -1}, matcher: match.New(nil, true), sourceEnd: 10}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := s.addSource(ctx); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "orders-0 has no leader") {
			t.Errorf("it ends with %v", err)
		}
	})
}
