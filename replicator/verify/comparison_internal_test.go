package verify

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// Batches that passed through are compared as bytes; others record by record, however their records are divided into batches.
func TestEqualCopies(t *testing.T) {
	t.Parallel()
	for _, codec := range []recordbatch.Codec{recordbatch.None, recordbatch.Gzip, recordbatch.Snappy, recordbatch.LZ4, recordbatch.Zstd} {
		t.Run(codec.String(), func(t *testing.T) {
			t.Parallel()
			c := newCopied(t)
			c.codec = codec
			for i := range 40 {
				c.forward(records(100*i, 100)...)
			}
			c.hole(0, 1) // a marker of a fence
			c.rebuild(records(4000, 50), 20, 29, 1)
			c.hole(7, 0)
			for i := range 40 {
				c.forward(records(5000+100*i, 100)...)
			}
			c.wantEqual(8000, 50)
		})
	}
}

// Several source batches that became one are compared by content, and what follows by its bytes.
func TestMergedBatches(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	for i := range 30 {
		c.write(record(i))
	}
	c.target.add(0, c.encode(records(0, 30)))
	c.mapped(0, 0, 30)
	c.forward(records(30, 20)...)
	c.wantEqual(20, 30)
}

// What the fetch of a batch in its middle returns before the wanted offset is not judged.
func TestARangeBeginsAndEndsInsideBatches(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	for i := range 5 {
		c.forward(records(10*i, 10)...)
	}
	got := c.verifyPartition(offsets.Pair{Source: 13, Target: 13}, offsets.Pair{Source: 37, Target: 37})
	if got.Result != Equal || got.ByBytes != 10 || got.ByContent != 14 {
		t.Errorf("%+v", got)
	}
}

// Each fault that a copy may have is found at its offset, and nothing else is.
func TestPlantedFaults(t *testing.T) {
	t.Parallel()
	changed := func(change func(r *recordbatch.Record)) func(c *copied) {
		return func(c *copied) {
			list := records(100, 50)
			change(&list[20])
			c.write(records(100, 50)...)
			c.mapped(100, 100, 50)
			c.foreign(list...)
		}
	}
	faults := []struct {
		name  string
		plant func(c *copied) // source offsets [100, 150), and target offsets from 100
		want  []string
	}{
		{"none", func(c *copied) { c.forward(records(100, 50)...) }, nil},
		{"key", changed(func(r *recordbatch.Record) { r.Key = []byte("key-121") }), []string{"key 120 120 1"}},
		{"null key", changed(func(r *recordbatch.Record) { r.Key = nil }), []string{"key 120 120 1"}},
		{"value", changed(func(r *recordbatch.Record) { r.Value[3] ^= 1 }), []string{"value 120 120 1"}},
		{"empty instead of null value", changed(func(r *recordbatch.Record) { r.Value = []byte{} }), []string{"value 120 120 1"}},
		{"timestamp", changed(func(r *recordbatch.Record) { r.Timestamp++ }), []string{"timestamp 120 120 1"}},
		{"header value", changed(func(r *recordbatch.Record) { r.Headers[0].Value = []byte("x") }), []string{"headers 120 120 1"}},
		{"header key", changed(func(r *recordbatch.Record) { r.Headers[0].Key = "m" }), []string{"headers 120 120 1"}},
		{"order of headers", changed(func(r *recordbatch.Record) { slices.Reverse(r.Headers) }), []string{"headers 120 120 1"}},
		{"null header instead of empty", changed(func(r *recordbatch.Record) { r.Headers[2].Value = nil }), []string{"headers 120 120 1"}},
		{"one header less", changed(func(r *recordbatch.Record) { r.Headers = r.Headers[:2] }), []string{"headers 120 120 1"}},
		{"swapped", func(c *copied) {
			list := records(100, 50)
			list[20], list[21] = list[21], list[20]
			c.write(records(100, 50)...)
			c.mapped(100, 100, 50)
			c.foreign(list...)
		}, []string{"key 120 120 2"}},
		{"missing on the target", func(c *copied) {
			c.write(records(100, 50)...)
			c.mapped(100, 100, 50)
			c.foreign(records(100, 20)...)
			c.hole(0, 2)
			c.foreign(records(122, 28)...)
		}, []string{"missing_on_target 120 120 2"}},
		{"missing on the source", func(c *copied) {
			c.write(records(100, 20)...)
			c.hole(2, 0)
			c.write(records(122, 28)...)
			c.mapped(100, 100, 50)
			c.foreign(records(100, 50)...)
		}, []string{"missing_on_source 120 120 2"}},
		{"extra on the target", func(c *copied) {
			c.forward(records(100, 20)...)
			c.foreign(record(1), record(2))
			c.forward(records(120, 30)...)
		}, []string{"extra_on_target - 120 2"}},
		{"not copied", func(c *copied) {
			c.forward(records(100, 20)...)
			c.write(records(120, 2)...)
			c.forward(records(122, 28)...)
		}, []string{"not_copied 120 - 2"}},
		{"flipped byte on the target", func(c *copied) {
			c.forward(records(100, 50)...)
			c.target.batches[1][80] ^= 1
		}, []string{"damaged_on_target 100 100 50"}},
		{"flipped byte on the target with a checksum that fits", func(c *copied) {
			c.codec = recordbatch.None
			c.forward(records(100, 50)...)
			at := strings.Index(string(c.target.batches[1]), "value-120")
			c.target.batches[1][at] ^= 1
			sealed(c.target.batches[1])
		}, []string{"value 120 120 1"}},
		{"flipped byte in both logs", func(c *copied) {
			c.forward(records(100, 50)...)
			c.source.batches[1][80] ^= 1
			c.target.batches[1][80] ^= 1
		}, []string{"damaged_on_source 100 100 50"}},
		{"compressed bytes that cannot be read, with a checksum that fits", func(c *copied) {
			c.forward(records(100, 50)...)
			for i := 70; i < 90; i++ {
				c.target.batches[1][i] = 0xff
			}
			sealed(c.target.batches[1])
		}, []string{"damaged_on_target 100 100 50"}},
		{"flipped byte on the source", func(c *copied) {
			c.forward(records(100, 50)...)
			c.source.batches[1][80] ^= 1
		}, []string{"damaged_on_source 100 100 50"}},
		{"timestamps of a whole batch", func(c *copied) {
			c.forward(records(100, 50)...)
			b := c.target.batches[1]
			binary.BigEndian.PutUint64(b[27:], binary.BigEndian.Uint64(b[27:])+1)
			binary.BigEndian.PutUint64(b[35:], binary.BigEndian.Uint64(b[35:])+1)
			sealed(b)
		}, []string{"timestamp 100 100 50"}},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			c := newCopied(t)
			c.forward(records(0, 100)...)
			f.plant(c)
			c.forward(records(150, 100)...)
			if f.want == nil {
				c.wantEqual(250, 0)
				return
			}
			got := c.wantDifferences(f.want...)
			if got.Records+got.Differing < 248 || got.Records < 200 {
				t.Errorf("%d records are equal and %d differ", got.Records, got.Differing)
			}
		})
	}
}

// A byte that is damaged on its way only is no difference: the batch is read again.
func TestDamageOnTheWayIsNoDifference(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	c.forward(records(0, 50)...)
	c.target.batches[0][80] ^= 1
	c.target.before = func(fetch int) {
		if fetch == 2 {
			c.target.batches[0][80] ^= 1
		}
	}
	c.wantEqual(0, 50)
}

// Aborted transactions and markers are not copied, and are no difference; a committed transaction is copied, and its batch has other attributes.
func TestTransactions(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	c.forward(records(0, 10)...)
	aborted := c.encode(records(10, 5))
	transactional(aborted, 9, 0x10)
	c.source.aborted = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 9, FirstOffset: 10}}
	c.source.add(10, aborted)
	c.source.add(15, marker(9, 0))
	c.target.add(10, marker(77, 0)) // of a fence
	c.forward(records(16, 10)...)
	transactional(c.source.batches[len(c.source.batches)-1], 9, 0x10)
	c.source.add(c.source.end, marker(9, 1))
	c.forward(records(30, 4)...)
	got := c.wantEqual(24, 0)
	if got.Aborted != 5 {
		t.Errorf("%d aborted records", got.Aborted)
	}
}

// A committed transaction that the map passes over is a difference.
func TestACommittedTransactionThatWasTakenForAborted(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	c.forward(records(0, 10)...)
	committed := c.encode(records(10, 5))
	transactional(committed, 9, 0x10)
	c.source.add(10, committed)
	c.source.add(15, marker(9, 1))
	c.forward(records(16, 10)...)
	c.wantDifferences("not_copied 10 - 5")
}

// Messages of an old format, single or in a compressed wrapper whose offset is that of its last message, are compared by content.
func TestOldFormats(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	plain := func(offset int64, r recordbatch.Record) []byte {
		return message(offset, 0, r.Timestamp, r.Key, r.Value)
	}
	list := records(0, 12)
	for i := range list {
		list[i].Headers = nil
	}
	for i, r := range list[:4] {
		c.source.addOld(plain(int64(i), r), int64(i)+1)
	}
	var inner []byte
	for i, r := range list[4:9] {
		inner = append(inner, plain(int64(i), r)...)
	}
	var wrapped bytes.Buffer
	w := gzip.NewWriter(&wrapped)
	_, _ = w.Write(inner)
	_ = w.Close()
	c.source.addOld(message(8, 1, list[8].Timestamp, nil, wrapped.Bytes()), 9)
	for i, r := range list[9:] {
		c.source.addOld(plain(int64(i)+9, r), int64(i)+10)
	}
	c.target.end = 3
	c.mapped(0, 3, 12)
	c.foreign(list[:5]...)
	c.foreign(list[5:]...)
	c.wantEqual(0, 12)
	got := c.verifyPartition(offsets.Pair{Source: 6, Target: 9}, offsets.Pair{Source: 11, Target: 14})
	if got.Result != Equal || got.Records != 5 {
		t.Errorf("from inside a wrapper: %+v, %s", got, texts(got.Differences))
	}
	list[6].Value = []byte("other")
	c.target.batches = c.target.batches[:1]
	c.target.end = 8
	c.foreign(list[5:]...)
	c.wantDifferences("value 6 9 1")
}

// The target's broker sets the timestamps of a topic with LogAppendTime: they are not compared, and counted.
func TestAppendTimesOfTheTarget(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	c.forward(records(0, 10)...)
	c.rebuild(records(10, 10), 5, 5)
	for _, b := range c.target.batches {
		transactional(b, 77, 0x08)
		binary.BigEndian.PutUint64(b[35:], 1_800_000_000_000)
		sealed(b)
	}
	if got := c.wantEqual(10, 10); got.WithoutTimestamp != 20 {
		t.Errorf("%d records without timestamp", got.WithoutTimestamp)
	}
}

// A copy has the append times of the source, as its consumers see them.
func TestAppendTimesOfTheSource(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	list := records(0, 10)
	c.write(list...)
	b := c.source.batches[0]
	binary.BigEndian.PutUint64(b[35:], 1_800_000_000_000)
	transactional(b, -1, 0x08)
	for i := range list {
		list[i].Timestamp = 1_800_000_000_000
	}
	c.foreign(list...)
	c.mapped(0, 0, 10)
	c.wantEqual(0, 10)
	transactional(c.target.batches[0], 77, 0)
	c.target.batches = nil
	c.target.end = 0
	c.foreign(records(0, 10)...)
	c.wantDifferences("timestamp 0 0 10")
}

// What an anomaly decided is counted, and is no difference.
func TestDecisionsOfAnomalies(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	c.forward(records(0, 10)...)
	c.write(records(10, 2)...) // too large
	c.forward(records(12, 10)...)
	c.foreign(records(90, 3)...)
	c.forward(records(22, 10)...)
	c.facts.ledger = []offsets.Gap{
		{Kind: "record_too_large", Action: "skip", From: 10, To: 12}, {Kind: "foreign_write", Action: "halt", From: 22, To: 22}, {Kind: "foreign_write", Action: "skip", From: 22, To: 22},
	}
	if got := c.wantEqual(30, 0); got.Skipped != 5 {
		t.Errorf("%d skipped", got.Skipped)
	}
	c.facts.ledger = c.facts.ledger[:2]
	c.wantDifferences("extra_on_target - 20 3")
}

// With provenance each copy has one more header, records that come from the target are not copied, and others write to the copy.
func TestProvenance(t *testing.T) {
	t.Parallel()
	hop := func(cluster string, list []recordbatch.Record) []recordbatch.Record {
		for i := range list {
			list[i].Headers = append(list[i].Headers, recordbatch.RecordHeader{Key: recordbatch.HopHeader, Value: []byte(cluster)})
		}
		return list
	}
	c := newCopied(t)
	c.facts.sourceID, c.facts.targetID = "A", "B"
	c.write(records(0, 10)...)
	c.mapped(0, 0, 10)
	c.foreign(hop("A", records(0, 10))...)
	c.write(hop("B", records(10, 5))...)
	c.foreign(records(50, 3)...)
	c.mapped(15, 13, 5)
	c.write(records(15, 5)...)
	c.foreign(hop("A", records(15, 5))...)
	if got := c.wantEqual(0, 15); got.Foreign != 8 {
		t.Errorf("%d foreign records", got.Foreign)
	}
	c.target.batches[0] = c.encode(records(0, 10))
	c.wantDifferences("headers 0 0 10")
}

// A log cleaner removes what a newer record with the same key replaces, tombstones, and records without a key.
func TestCompaction(t *testing.T) {
	t.Parallel()
	keyed := func(key string, n int) recordbatch.Record {
		r := record(n)
		r.Key = []byte(key)
		return r
	}
	tombstone := func(key string) recordbatch.Record { return recordbatch.Record{Timestamp: 1, Key: []byte(key)} }
	for _, side := range []string{"target", "source"} {
		t.Run("cleaned on the "+side, func(t *testing.T) {
			t.Parallel()
			all := []recordbatch.Record{
				keyed("a", 0), keyed("b", 1), keyed("c", 2), tombstone("d"), {Timestamp: 1, Value: []byte("no key")}, keyed("a", 3), keyed("b", 4), keyed("e", 5), tombstone("e"),
			}
			build := func(without ...int) *copied {
				c := newCopied(t)
				c.sourceCompacted, c.targetCompacted = side == "source", side == "target"
				whole, log := &c.source, &c.target
				if side == "source" {
					whole, log = log, whole
				}
				for i, r := range all {
					whole.add(int64(i), c.encode([]recordbatch.Record{r}))
					if slices.Contains(without, i) {
						log.end++
					} else {
						log.add(int64(i), c.encode([]recordbatch.Record{r}))
					}
				}
				c.mapped(0, 0, int64(len(all)))
				return c
			}
			missing := "missing_on_" + side
			c := build(0, 1, 3, 4, 7, 8)
			got := c.wantEqual(0, 3)
			if n := got.CleanedOnSource + got.CleanedOnTarget; n != 6 {
				t.Errorf("%d cleaned", n)
			}
			build(0, 5, 1).wantDifferences(fmt.Sprintf("%s 5 5 1", missing)) // the newest record of a is gone
			build(2).wantDifferences(fmt.Sprintf("%s 2 2 1", missing))
			// A newer record of c, behind what the map has, explains it.
			c = build(2)
			if side == "target" {
				c.foreign(keyed("x", 7), keyed("c", 8))
			} else {
				c.write(keyed("x", 7), keyed("c", 8))
			}
			if got := c.verify(); got.Result != Equal || got.CleanedOnSource+got.CleanedOnTarget != 1 {
				t.Errorf("%s: %s", got.Result, texts(got.Differences))
			}
			// What is not compacted is not cleaned.
			c = build(0)
			c.sourceCompacted, c.targetCompacted = false, false
			c.wantDifferences(fmt.Sprintf("%s 0 0 1", missing))
		})
	}
}

// Records that the target deleted while it is verified are left out, with a note, and what follows is verified.
func TestRetentionMovesOnWhileVerifying(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	for i := range 100 {
		c.forward(records(100*i, 100)...)
	}
	c.target.before = func(fetch int) {
		if fetch == 3 {
			c.target.start = 5000
		}
	}
	got := c.verify()
	if got.Result != Equal || got.Records >= 6000 || got.Records < 5000 || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "its offset 5000") {
		t.Errorf("%+v", got)
	}
}

// A log that ends before what the journal says it has cannot be verified.
func TestALogThatIsTooShort(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	c.forward(records(0, 10)...)
	c.mapped(10, 10, 5)
	got := c.verify()
	if got.Result != NotVerified || !strings.Contains(got.NotVerified, "up to offset 10 only") {
		t.Errorf("%s: %s", got.Result, got.NotVerified)
	}
}

// A sample verifies whole blocks, and finds a fault in them.
func TestSample(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	c.maxBytes = 1 << 20
	for i := range 200 {
		c.forward(records(1000*i, 1000)...)
	}
	c.part = 0.2
	got := c.verify()
	if got.Result != Equal || got.Records == 0 || got.Records%sampleBlock != 0 || got.Records > 100_000 {
		t.Fatalf("%d records, %+v", got.Records, got)
	}
	if again := c.verify(); again.Records != got.Records {
		t.Errorf("the same sample has %d records, then %d", got.Records, again.Records)
	}
	c.target.batches[5][80] ^= 1 // in the first block, which is always verified
	c.wantDifferences("damaged_on_target 5000 5000 1000")
}

// Partitions of any shape are equal, and one changed record anywhere is found, where it is.
func TestAnyShape(t *testing.T) {
	t.Parallel()
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := random(seed)
			c := newCopied(t)
			c.maxBytes = 200 + r.Int32N(4000)
			c.codec = recordbatch.Codec(r.IntN(5))
			for n := 0; n < 600; {
				list := records(n, 1+r.IntN(40))
				n += len(list)
				switch r.IntN(6) {
				case 0:
					c.hole(r.Int64N(3), r.Int64N(3))
					c.forward(list...)
				case 1:
					var parts []int
					for left := len(list); left > 0; {
						parts = append(parts, 1+r.IntN(left))
						left -= parts[len(parts)-1]
					}
					c.rebuild(list, parts...)
				case 2: // merged
					source, target := c.source.end, c.target.end
					for _, one := range list {
						c.write(one)
					}
					c.target.add(target, c.encode(list))
					c.mapped(source, target, int64(len(list)))
				default:
					c.forward(list...)
				}
			}
			if got := c.verify(); got.Result != Equal || got.Records < 600 {
				t.Fatalf("%s, %d records: %s %s", got.Result, got.Records, got.NotVerified, texts(got.Differences))
			}
			// One record of the target gets another value.
			at := r.IntN(len(c.target.batches))
			h, _ := recordbatch.Parse(c.target.batches[at])
			list, err := recordbatch.Decode(c.target.batches[at])
			if err != nil {
				t.Fatal(err)
			}
			wrong := r.IntN(len(list))
			list[wrong].Value = []byte("other")
			c.target.batches[at] = c.encode(list)
			binary.BigEndian.PutUint64(c.target.batches[at], uint64(h.BaseOffset))
			source, _, err := c.places.Reverse(list[wrong].Offset)
			if err != nil {
				t.Fatal(err)
			}
			c.wantDifferences(fmt.Sprintf("value %d %d 1", source, list[wrong].Offset))
		})
	}
}
