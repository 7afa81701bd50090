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

// Message formats before version 2 have no record count in their header.
func TestScanReadsOldMessageFormats(t *testing.T) {
	m := kmsg.MessageV1{Offset: 7, Magic: 1, Timestamp: 1_700_000_000_000, Value: []byte("old")}
	m.MessageSize = int32(len(m.AppendTo(nil))) - 12
	m.CRC = int32(crc32.ChecksumIEEE(m.AppendTo(nil)[16:]))
	batch := m.AppendTo(nil)
	h, err := recordbatch.Parse(batch)
	if err != nil {
		t.Fatal(err)
	}
	seed := maphash.MakeSeed()
	matcher, hasher := match.New(nil, true), match.Hasher{Seed: seed, Timestamps: true}
	s := &scan{timestamps: true, matcher: matcher, source: newSourceReader(Copy{}, hasher, matcher, 0, 4)}
	matcher.Add(match.SourceRecord{Offset: 3, Hash: hasher.Hash(&recordbatch.Record{Timestamp: m.Timestamp, Value: m.Value})})
	matcher.Ended = true
	if err := s.addTarget(t.Context(), recordbatch.Batch{Header: h, Bytes: batch}); err != nil {
		t.Fatal(err)
	}
	if s.found.Records != 1 || matcher.Next() != 4 {
		t.Errorf("%d records, next %d; want 1 record, next 4", s.found.Records, matcher.Next())
	}
}

// silentLog is a source without a leader.
type silentLog struct{}

var errNoLeader = errors.New("orders-0 has no leader")

func (silentLog) Bounds(context.Context) (start, end int64, err error) { return 0, 0, errNoLeader }

func (silentLog) Read(context.Context, int64, int8) (*kmsg.FetchResponseTopicPartition, error) {
	return nil, errNoLeader
}

// A scan does not wait forever for a source that returns nothing, because the scans of other partitions wait for it.
func TestScanGivesUpOnASilentSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Copy{Source: offsets.TopicPartition{Topic: "orders"}, SourceLog: silentLog{}}
		source := newSourceReader(c, match.Hasher{}, match.New(nil, true), 0, 10)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := source.extend(ctx); !errors.Is(err, errNoLeader) || ctx.Err() != nil || !strings.Contains(err.Error(), "copy of source orders-0") {
			t.Errorf("the scan ended with: %v", err)
		}
	})
}
