package replicator

import (
	"errors"
	"hash/crc32"
	"hash/maphash"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
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
	s := &scan{pairer: newPairer(nil, true), hasher: hasher{seed: seed, timestamps: true}}
	source := hasher{seed: seed, timestamps: true}
	s.pairer.add(sourceRecord{offset: 3, hash: source.hash(&recordbatch.Record{Timestamp: m.Timestamp, Value: m.Value})})
	s.pairer.ended = true
	if err := s.takeTarget(t.Context(), h, batch); err != nil {
		t.Fatal(err)
	}
	if s.records != 1 || s.pairer.next != 4 {
		t.Errorf("%d records, next %d; want one, which is source offset 3", s.records, s.pairer.next)
	}
	r := &recovery{flow: &Flow{config: config.Flow{}}}
	if err := r.sort(&partition{}, &tail{unknown: true}, h, batch); !errors.Is(err, errTargetNotEmpty) {
		t.Errorf("a target with it is said to be empty (%v)", err)
	}
}
