package replicator

import (
	"errors"
	"hash/crc32"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/mm2"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// A long map is journaled in several batches, with its state in the last one. Chunks of a map that was not finished must not be mixed with
// those of the next map, which may begin elsewhere because of retention.
func TestChunksOfAnUnfinishedMapAreIgnored(t *testing.T) {
	var left offsets.Restorer
	for _, c := range []*offsets.Chunk{{Topic: "orders", Previous: -1}, {Topic: "orders", Generation: 2, First: 512, Previous: -1}} {
		if err := left.Add(c.AppendKey(nil), c.AppendValue(nil)); err != nil {
			t.Fatal(err)
		}
	}
	r := &recovery{flow: &Flow{}, shard: &shard{}, loaded: left.Partitions()}
	p := &partition{topic: &topicLink{source: "orders"}, state: recovering, recovery: r}
	if err := r.restore(p); err != nil {
		t.Fatal(err)
	}
	if p.record.Generation != 3 {
		t.Errorf("the map is generation %d, want 3", p.record.Generation)
	}
	for range 2 { // the journal could not be written, so the copy is read again
		found := &mm2.Findings{Result: match.Result{Segments: []offsets.Segment{{Count: 1}}}}
		if err := p.migrateMap(mm2.Verdict{}, found); err != nil {
			t.Fatal(err)
		}
	}
	if p.record.Generation != 4 {
		t.Errorf("the second map is generation %d, want 4", p.record.Generation)
	}
}

// Record batches before version 2 have no record count in their header, but they have records.
func TestTargetInAnOldFormatIsNotEmpty(t *testing.T) {
	m := kmsg.MessageV1{Offset: 7, Magic: 1, Timestamp: 1_700_000_000_000, Value: []byte("old")}
	m.MessageSize = int32(len(m.AppendTo(nil))) - 12
	m.CRC = int32(crc32.ChecksumIEEE(m.AppendTo(nil)[16:]))
	batch := m.AppendTo(nil)
	h, err := recordbatch.Parse(batch)
	if err != nil {
		t.Fatal(err)
	}
	r := &recovery{flow: &Flow{rules: rules{writers: soleWriter{}}}}
	if err := r.classify(&copyTail{logTail: &logTail{unknown: true}, own: match.NewTail(0, nil)}, recordbatch.Batch{Header: h, Bytes: batch}); !errors.Is(err, errTargetNotEmpty) {
		t.Errorf("classify returned %v, want errTargetNotEmpty", err)
	}
}
