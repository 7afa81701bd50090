package offsets_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/milena-kafka/milena/offsets"
)

// at is 0x018cc251f400 ms.
func at() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) }

type golden struct {
	name       string
	entry      offsets.Entry
	key, value string // hex, spaces between the fields
}

// goldens are encodings of formats 1 to 3. Existing journals have them, so a difference is a bug, or a new format number
// and new lines beside these.
func goldens() []golden {
	id := func(first byte) (id [16]byte) {
		for i := range id {
			id[i] = first + byte(i)
		}
		return id
	}
	return []golden{
		{"a shard", &offsets.ShardState{ProducerIDs: []int64{7, 1000}}, "01", "0001 02 07 e807"},
		{"a shard with a claim", &offsets.ShardState{ProducerIDs: []int64{7}, Claim: &offsets.Claim{ProducerID: 7, Epoch: 300}}, "01", "0002 01 07 07 ac02"},
		{"a shard at rest", &offsets.ShardState{ProducerIDs: []int64{7}, Rest: "standby"}, "01", "0003 01 07 00 077374616e646279"},
		{"a shard at rest with a claim", &offsets.ShardState{ProducerIDs: []int64{7}, Claim: &offsets.Claim{ProducerID: 7, Epoch: 300}, Rest: "x"}, "01", "0003 01 07 01 07 ac02 0178"},
		{"a shard that wrote nothing yet", &offsets.ShardState{}, "01", "0001 00"},
		{
			"an owner",
			&offsets.Owner{
				Instance: "a-1", Host: "h\u00f4te", PID: 300, Version: "1.2.3", Since: at(), Confirmed: at().Add(1500 * time.Millisecond),
			},
			"02", "0001 03612d31 0568c3b47465 ac02 05312e322e33 0000018cc251f400 0000018cc251f9dc",
		},
		{
			"an owner of whom nothing is known", &offsets.Owner{},
			"02", "0001 00 00 00 00 ffffc77cedd32800 ffffc77cedd32800",
		},
		{
			"a partition",
			&offsets.PartitionState{
				Topic: "orders", Partition: 258, Generation: 2,
				SourceClusterID: "src", SourceTopicID: id(0x10), TargetTopic: "p.orders", TargetTopicID: id(0x20),
				Start: offsets.Pair{Source: 0, Target: 5}, End: offsets.Pair{Source: 300, Target: 305},
				LeaderEpoch: 9, Chunk: 200,
				Gaps: []offsets.Gap{{
					Kind: "retention_gap", Action: "skip", From: 10, To: 20, At: at(), Detail: "x", Merged: 1,
				}},
			},
			"03 066f7264657273 00000102",
			"0001 02 03737263 101112131415161718191a1b1c1d1e1f 08702e6f7264657273 202122232425262728292a2b2c2d2e2f" +
				"00 05 ac02 b102 00000009 c801 01 0d726574656e74696f6e5f676170 04736b6970 14 28 0000018cc251f400 0178 01",
		},
		{
			"a new partition", &offsets.PartitionState{Topic: "t", LeaderEpoch: -1},
			"03 0174 00000000",
			"0001 00 00 00000000000000000000000000000000 00 00000000000000000000000000000000 00 00 00 00 ffffffff 00 00",
		},
		{
			"a partition whose producer is known",
			&offsets.PartitionState{Topic: "t", LeaderEpoch: -1, Producer: &offsets.Producer{ID: 300, Epoch: 7, Sequence: math.MaxInt32}},
			"03 0174 00000000",
			"0002 00 00 00000000000000000000000000000000 00 00000000000000000000000000000000 00 00 00 00 ffffffff 00 00 ac02 07 ffffffff07",
		},
		{
			"a partition with producer 0, the first of a cluster",
			&offsets.PartitionState{Topic: "t", LeaderEpoch: -1, Producer: &offsets.Producer{}},
			"03 0174 00000000",
			"0002 00 00 00000000000000000000000000000000 00 00000000000000000000000000000000 00 00 00 00 ffffffff 00 00 00 00 00",
		},
		{
			"a dense chunk",
			&offsets.Chunk{Topic: "orders", Partition: 1, Previous: -1, Segments: []offsets.Segment{{0, 0, 1_000_000_000}}},
			"04 066f7264657273 00000001 0000000000000000", "0001 00 00 01 00 00 8094ebdc03",
		},
		{
			"a chunk with holes",
			&offsets.Chunk{
				Topic: "orders", Partition: 1, Generation: 1, First: 100, Previous: 20,
				Segments: []offsets.Segment{{100, 40, 3}, {104, 43, 2}, {106, 46, 1}},
			},
			"04 066f7264657273 00000001 0000000000000064", "0001 01 50 03 00 77 03 01 00 02 00 01 01",
		},
		{
			"a map's first chunk, empty", &offsets.Chunk{Topic: "t", First: 9, Previous: -1},
			"04 0174 00000000 0000000000000009", "0001 00 00 00",
		},
		{"a lineage", &offsets.Lineage{Began: at()}, "06", "0001 0000018cc251f400"},
		{
			"a horizon",
			&offsets.Horizon{At: at(), Behind: []offsets.Behind{
				{Topic: "t", Partition: 0, Acked: 300, SourceEnd: 310, Seen: at(), Complete: at()}, {Topic: "t", Partition: 2, Acked: 5, SourceEnd: 5, Seen: at()},
			}},
			"07", "0001 0000018cc251f400 02 0174 00000000 ac02 0a 0000018cc251f400 0000018cc251f400" +
				"0174 00000002 05 00 0000018cc251f400 ffffc77cedd32800 00",
		},
		{
			"a horizon of many partitions", &offsets.Horizon{More: &offsets.MoreBehind{Partitions: 3, Records: 300, Seen: at()}},
			"07", "0001 ffffc77cedd32800 00 03 ac02 0000018cc251f400 ffffc77cedd32800",
		},
		{
			"a group",
			&offsets.GroupPositions{
				Group: "app", Topic: "p.orders", TopicID: id(0x20), Placed: []offsets.PlacedOffset{
					{Partition: 0, Source: 40, Put: 45, Before: -1}, {Partition: 1, Source: 300, Put: 290, Before: 290}, {Partition: 258},
				},
			},
			"05 03617070 08702e6f7264657273",
			"0001 202122232425262728292a2b2c2d2e2f 03 00 28 0a 5b 00 ac02 13 00 8002 00 00 00",
		},
		{"a group without positions", &offsets.GroupPositions{Group: "g", Topic: "t"}, "05 0167 0174", "0001 00000000000000000000000000000000 00"},
		{"a deleted lineage", &offsets.Tombstone{Kind: offsets.KindLineage}, "06", ""},
		{"a deleted group", &offsets.Tombstone{Kind: offsets.KindGroup, Group: "g", Topic: "t"}, "05 0167 0174", ""},
		{"a deleted shard", &offsets.Tombstone{Kind: offsets.KindShard}, "01", ""},
		{"a deleted owner", &offsets.Tombstone{Kind: offsets.KindOwner}, "02", ""},
		{
			"a deleted partition", &offsets.Tombstone{Kind: offsets.KindPartition, Topic: "t", Partition: 1},
			"03 0174 00000001", "",
		},
		{
			"a deleted chunk", &offsets.Tombstone{Kind: offsets.KindChunk, Topic: "t", Partition: 1, First: 2},
			"04 0174 00000001 0000000000000002", "",
		},
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	if s == "" {
		return nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestJournalFormatIsStable(t *testing.T) {
	for _, g := range goldens() {
		t.Run(g.name, func(t *testing.T) {
			key, value := unhex(t, g.key), unhex(t, g.value)
			if got := g.entry.AppendKey(nil); !bytes.Equal(got, key) {
				t.Errorf("key\n got %x\nwant %x", got, key)
			}
			if got := g.entry.AppendValue(nil); !bytes.Equal(got, value) {
				t.Errorf("value\n got %x\nwant %x", got, value)
			}
			if got := g.entry.AppendKey([]byte("before")); !bytes.Equal(got, append([]byte("before"), key...)) {
				t.Errorf("AppendKey does not append: %x", got)
			}
			got, err := offsets.DecodeJournal(key, value)
			if err != nil || !reflect.DeepEqual(got, g.entry) {
				t.Errorf("decoded %+v, %v, want %+v", got, err, g.entry)
			}
		})
	}
}

// Every entry that is truncated at any byte, or has an extra byte, is refused.
func TestDecodeJournalRefusesMissingAndExtraBytes(t *testing.T) {
	for _, g := range goldens() {
		key, value := unhex(t, g.key), unhex(t, g.value)
		var corrupt *offsets.CorruptError
		for n := range key {
			if _, err := offsets.DecodeJournal(key[:n], value); !errors.As(err, &corrupt) {
				t.Errorf("%s, %d bytes of the key: %v", g.name, n, err)
			}
		}
		if _, err := offsets.DecodeJournal(append(key, 0), value); !errors.As(err, &corrupt) {
			t.Errorf("%s, a longer key: %v", g.name, err)
		}
		if value == nil {
			continue
		}
		for n := range value {
			if _, err := offsets.DecodeJournal(key, append([]byte{}, value[:n]...)); !errors.As(err, &corrupt) {
				t.Errorf("%s, %d bytes of the value: %v", g.name, n, err)
			}
		}
		if _, err := offsets.DecodeJournal(key, append(value, 0)); !errors.As(err, &corrupt) {
			t.Errorf("%s, a longer value: %v", g.name, err)
		}
	}
}

func TestDecodeJournalRefuses(t *testing.T) {
	const chunk = "04 0174 00000001 0000000000000064"
	partition := func(numbers string) string {
		return "0001 00 00 00000000000000000000000000000000 00 00000000000000000000000000000000" + numbers
	}
	for _, test := range []struct {
		name, key, value, reason string
	}{
		{"a kind that does not exist", "1f", "0001", "no such kind"},
		{"a position below 0", "05 0167 0174", "0001 00000000000000000000000000000000 01 00 00 01 00", "is put at -1"},
		{"a position after one below -1", "05 0167 0174", "0001 00000000000000000000000000000000 01 00 00 00 03", "after -2"},
		{"a position in partition 2147483648", "05 0167 0174", "0001 00000000000000000000000000000000 01 8080808008 00 00 00", "partition 2147483648"},
		{"a tombstone of a kind that does not exist", "00", "", "no such kind"},
		{"format 0", "01", "0000 00", "format 0"},
		{"a number with a zero too many", "01", "0001 8000", "not in its shortest form"},
		{"a number of 65 bits", "01", "0001 01 ffffffffffffffffff02", "too long"},
		{"a negative producer id", "01", "0001 01 ffffffffffffffffff01", "negative"},
		{"a count beyond the value", "01", "0001 ffffffff7f", "does not fit"},
		{"a text that is not UTF-8", "03 02c328 00000001", partition("00 00 00 00 ffffffff 00 00"), "UTF-8"},
		{"a negative partition", "03 0174 ffffffff", "", "partition -1"},
		{"a negative chunk", "04 0174 00000001 ffffffffffffffff", "", "chunk -1"},
		{"an epoch of 16 bits", "03 0174 00000001", "0002" + partition("00 00 00 00 ffffffff 00 00 01 808002 01")[4:], "too large"},
		{"a sequence of 32 bits", "03 0174 00000001", "0002" + partition("00 00 00 00 ffffffff 00 00 01 01 8080808008")[4:], "too large"},
		{"a producer in format 1", "03 0174 00000001", partition("00 00 00 00 ffffffff 00 00 01 01 01"), "3 bytes too many"},
		{"an end before the start", "03 0174 00000001", partition("05 00 04 00 ffffffff 05 00"), "starts at"},
		{"an open chunk outside of the map", "03 0174 00000001", partition("05 00 06 00 ffffffff 07 00"), "outside"},
		{"a generation of 33 bits", "03 0174 00000001", "0001 8080808010", "too large"},
		{"a chunk before offset 0", chunk, "0001 00 65 00", "before this one"},
		{"an empty chunk in the middle", chunk, "0001 00 01 00", "not the first"},
		{"a chunk that begins elsewhere", chunk, "0001 00 01 01 01 00 01", "its first segment at 101"},
		{"a segment without records", chunk, "0001 00 00 01 00 00 00", "has 0 records"},
		{"a negative target", chunk, "0001 00 00 01 00 c901 01", ", after source"},
		{"two segments that are one", chunk, "0001 00 00 02 00 00 01 00 00 01", "should be one"},
		{"a count that overflows", chunk, "0001 00 00 01 00 00 ffffffffffffffff7f", ", after source"},
		{"a hole that overflows", chunk, "0001 00 00 02 00 00 01 ffffffffffffffff7f 00 01", ", after source"},
		{"513 segments", chunk, "0001 00 00 8104" + strings.Repeat("010101", 513), "list of 513"},
		{"65 gaps", "03 0174 00000001", partition("00 00 00 00 ffffffff 00 41" + strings.Repeat("00", 65*14)), "list of 65"},
		{
			"a detail that is too long", "03 0174 00000001",
			partition("00 00 00 00 ffffffff 00 01 00 00 00 00 0000000000000000 8102" + strings.Repeat("20", 257) + "00"),
			"257 bytes",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := offsets.DecodeJournal(unhex(t, test.key), unhex(t, test.value))
			var corrupt *offsets.CorruptError
			if !errors.As(err, &corrupt) {
				t.Fatalf("%v, want a CorruptError", err)
			}
			if !strings.Contains(corrupt.Reason, test.reason) {
				t.Errorf("the reason is %q, want %q in it", corrupt.Reason, test.reason)
			}
		})
	}
}

func TestNewerFormatOfAnyKindIsAVersionError(t *testing.T) {
	for key, supported := range map[string]uint16{"\x01": offsets.Version, "\x02": 1, "\x03": offsets.Version, "\x04 with other fields": 1, "\x19": 1} {
		_, err := offsets.DecodeJournal([]byte(key), []byte{0, byte(supported) + 1, 'n', 'e', 'w'})
		var version *offsets.VersionError
		if !errors.As(err, &version) || version.Version != supported+1 || version.Supported != supported {
			t.Errorf("%q: %v, want a VersionError", key, err)
		}
	}
}

func TestForeignRecordIsNotAVersionError(t *testing.T) {
	for key, value := range map[string]string{"foreign": "foreign", "\x03": "\x01\x00", " ": "\x00\x02"} {
		_, err := offsets.DecodeJournal([]byte(key), []byte(value))
		var corrupt *offsets.CorruptError
		if !errors.As(err, &corrupt) {
			t.Errorf("%q: %v, want a CorruptError", key, err)
		}
	}
}

func TestEmptyValueIsNotATombstone(t *testing.T) {
	var corrupt *offsets.CorruptError
	if _, err := offsets.DecodeJournal([]byte{1}, []byte{}); !errors.As(err, &corrupt) {
		t.Errorf("%v, want a CorruptError", err)
	}
}

func TestHoleTakesAtMostFourBytes(t *testing.T) {
	m := offsets.NewMap(5_000_000_000, 4_000_000_000)
	for range offsets.ChunkSegments {
		source, target := m.End()
		mustAppend(t, m, source+1, target, 5000)
	}
	c, _ := m.Changed()
	if got := float64(len(c.Chunks[0].AppendValue(nil))) / offsets.ChunkSegments; got > 4.1 {
		t.Errorf("%.2f bytes for each hole", got)
	}
}

func TestGapLedgerIsBoundedAndCounts(t *testing.T) {
	var s offsets.PartitionState
	const added = offsets.MaxGaps + 100
	for i := range int64(added) {
		g := offsets.Gap{Kind: "foreign_write", Action: "skip", From: 10 * i, To: 10*i + 5, At: at().Add(time.Duration(i) * time.Second)}
		if i == 30 {
			g.Kind = "truncated"
			g.From = -1
		}
		s.AddGap(g)
	}
	if len(s.Gaps) != offsets.MaxGaps {
		t.Fatalf("%d gaps, want %d", len(s.Gaps), offsets.MaxGaps)
	}
	total := 0
	for _, g := range s.Gaps {
		total += 1 + g.Merged
	}
	if total != added {
		t.Errorf("the ledger counts %d gaps, want %d", total, added)
	}
	oldest := s.Gaps[0]
	want := offsets.Gap{
		Kind: offsets.MixedGaps, Action: "skip", From: 0, To: 10*100 + 5, At: at().Add(100 * time.Second), Merged: 100,
	}
	if oldest != want {
		t.Errorf("the oldest is %+v, want %+v", oldest, want)
	}
	if newest := s.Gaps[offsets.MaxGaps-1]; newest.From != 10*(added-1) || newest.Merged != 0 {
		t.Errorf("the newest is %+v", newest)
	}
}

// Any field values must give readable entries: odd text must not stop a flow.
func TestEntriesRoundTrip(t *testing.T) {
	s := offsets.PartitionState{Topic: "t", TargetTopic: "bad \xff name", LeaderEpoch: math.MinInt32}
	for range offsets.MaxGaps + 9 {
		s.Gaps = append(s.Gaps, offsets.Gap{
			Kind: "\xff", From: -1, To: math.MinInt64, Detail: strings.Repeat("\xff\u00e9", 300),
		})
	}
	kept := len(s.Gaps)
	for _, e := range []offsets.Entry{
		&s, &offsets.Owner{Host: "\xfe\xff", PID: math.MaxInt},
		&offsets.ShardState{ProducerIDs: []int64{0, math.MaxInt64}, Claim: &offsets.Claim{ProducerID: math.MaxInt64, Epoch: math.MaxInt16}},
		&offsets.Chunk{First: math.MaxInt64 - 1, Previous: -1, Segments: []offsets.Segment{{math.MaxInt64 - 1, 0, 1}}},
		&offsets.Chunk{Previous: -1, Segments: []offsets.Segment{{0, math.MaxInt64 - 1, 1}}},
	} {
		if _, err := offsets.DecodeJournal(e.AppendKey(nil), e.AppendValue(nil)); err != nil {
			t.Errorf("%T: %v", e, err)
		}
	}
	if len(s.Gaps) != kept {
		t.Error("AppendValue changed the ledger")
	}
	var l offsets.PartitionState
	l.AddGap(offsets.Gap{Detail: strings.Repeat("\u00e9", 200) + "x"})
	if d := l.Gaps[0].Detail; len(d) != offsets.MaxGapDetail || !utf8.ValidString(d) {
		t.Errorf("a detail of %d bytes, UTF-8: %t", len(d), utf8.ValidString(d))
	}
}

// An accepted record must encode to the same bytes, and take no more memory than its length allows.
func FuzzDecodeJournal(f *testing.F) {
	for _, g := range goldens() {
		value := unhex(f, g.value)
		f.Add(unhex(f, g.key), value, value == nil)
	}
	f.Add([]byte{1}, binary.AppendUvarint([]byte{0, 1}, math.MaxUint64), false)
	f.Fuzz(func(t *testing.T, key, value []byte, tombstone bool) {
		if tombstone {
			value = nil
		} else if value == nil {
			value = []byte{}
		}
		entry, err := offsets.DecodeJournal(key, value)
		if err != nil {
			var corrupt *offsets.CorruptError
			var version *offsets.VersionError
			if !errors.As(err, &corrupt) && !errors.As(err, &version) {
				t.Fatalf("an untyped error: %v", err)
			}
			return
		}
		if got := entry.AppendKey(nil); !bytes.Equal(got, key) {
			t.Fatalf("key %x is written as %x", key, got)
		}
		if got := entry.AppendValue(nil); !bytes.Equal(got, value) {
			t.Fatalf("value %x is written as %x", value, got)
		}
		if c, ok := entry.(*offsets.Chunk); ok {
			if cap(c.Segments) > len(value) {
				t.Fatalf("%d segments in %d bytes", cap(c.Segments), len(value))
			}
			end := offsets.Pair{Source: c.First}
			if n := len(c.Segments); n > 0 {
				end = offsets.Pair{Source: c.Segments[n-1].SourceEnd(), Target: c.Segments[n-1].TargetEnd()}
			}
			state := &offsets.PartitionState{Generation: c.Generation, Chunk: c.First, End: end}
			if c.Previous < 0 {
				state.Start.Source = c.First
			}
			if _, err := offsets.RestoreMap(state, c); err != nil {
				t.Fatalf("an accepted chunk cannot be restored: %v", err)
			}
		}
	})
}
