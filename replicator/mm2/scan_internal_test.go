package mm2

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

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// Formats before version 2 have no count in their header, and hold records all the same.
func TestScanReadsACopyInAnOldFormat(t *testing.T) {
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
	if err := s.addTarget(t.Context(), recordbatch.Batch{Header: h, Bytes: batch}); err != nil {
		t.Fatal(err)
	}
	if s.Records != 1 || s.matcher.Next() != 4 {
		t.Errorf("%d records, next %d; want one, which is source offset 3", s.Records, s.matcher.Next())
	}
}

// silentLog is a source whose leader is gone.
type silentLog struct{}

var errNoLeader = errors.New("orders-0 has no leader")

func (silentLog) Bounds(context.Context) (start, end int64, err error) { return 0, 0, errNoLeader }

func (silentLog) Read(context.Context, int64, int8) (*kmsg.FetchResponseTopicPartition, error) {
	return nil, errNoLeader
}

// A source that returns nothing keeps a scan only for a while, as other partitions wait for theirs.
func TestScanGivesUpOnASourceThatReturnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scan{Copy: Copy{Source: offsets.TopicPartition{Topic: "orders"}, SourceLog: silentLog{}}, matcher: match.New(nil, true)}
		s.SourceEnd = 10
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := s.addSource(ctx); !errors.Is(err, errNoLeader) || ctx.Err() != nil || !strings.Contains(err.Error(), "copy of source orders-0") {
			t.Errorf("it ends with %v", err)
		}
	})
}
