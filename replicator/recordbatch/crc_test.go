package recordbatch_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

func randomBatch(random *rand.Rand, size int) []byte {
	batch := make([]byte, size)
	for i := range batch {
		batch[i] = byte(random.Uint32())
	}
	batch[16] = 2
	binary.BigEndian.PutUint32(batch[8:], uint32(size-12))
	seal(batch)
	return batch
}

func TestRewriteEqualsFullRecomputation(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for i := range 2000 {
		size := recordbatch.HeaderSize + random.IntN(1<<(i%17))
		if i%200 == 0 {
			size = 1<<20 + random.IntN(1000)
		}
		batch := randomBatch(random, size)
		if got, want := recordbatch.RecordsCRC(batch), crc32.Checksum(batch[61:], castagnoli); got != want {
			t.Fatalf("batch of %d bytes: records CRC %08x, want %08x", size, got, want)
		}
		records := bytes.Clone(batch[61:])
		producerID, epoch, sequence := random.Int64(), int16(random.Uint32()), int32(random.Uint32())
		recordbatch.Rewrite(batch, producerID, epoch, sequence)
		if !recordbatch.ValidCRC(batch) {
			t.Fatalf("batch of %d bytes: checksum is wrong after the rewrite", size)
		}
		if !bytes.Equal(records, batch[61:]) {
			t.Fatal("the rewrite touched the records")
		}
		recordbatch.Rewrite(batch, 1, 2, 3) // a rewrite of a rewrite
		if !recordbatch.ValidCRC(batch) {
			t.Fatal("checksum is wrong after the second rewrite")
		}
	}
}

func TestRewriteChangesOnlyDocumentedFields(t *testing.T) {
	all := bitLogAppendTime | bitTransactional | bitDeleteHorizon | 0x4080 // the last ones are unknown bits, which brokers keep
	batch := encodeSource(t, batchSpec{base: 100, codec: recordbatch.LZ4, attributes: all, producerID: 9, records: plainRecords(100, 3, 10)})
	want := mustParse(t, batch)
	recordbatch.Rewrite(batch, 1234, 5, 678)
	got := mustParse(t, batch)
	want.BaseOffset, want.LeaderEpoch, want.CRC = 0, -1, got.CRC
	want.ProducerID, want.ProducerEpoch, want.BaseSequence = 1234, 5, 678
	want.Attributes = 0x4080 | recordbatch.Attributes(recordbatch.LZ4)
	if d := diff(want, got); d != "" {
		t.Errorf("header differs (-want +got):\n%s", d)
	}
	if !recordbatch.ValidCRC(batch) {
		t.Error("checksum is wrong")
	}
}

func TestRewriteKeepsDamage(t *testing.T) {
	random := rand.New(rand.NewPCG(13, 14))
	for range 500 {
		batch := randomBatch(random, 61+random.IntN(5000))
		bit := random.IntN((len(batch) - 17) * 8)
		batch[17+bit/8] ^= 1 << (bit % 8) // in the checksum or in what it covers, including fields that are overwritten
		if recordbatch.ValidCRC(batch) {
			t.Fatal("a flipped bit is not detected")
		}
		recordbatch.Rewrite(batch, 7, 0, 0)
		if recordbatch.ValidCRC(batch) {
			t.Fatalf("the rewrite repaired bit %d", bit)
		}
	}
}

func TestRewritePanicsUnlessParsed(t *testing.T) {
	for name, batch := range map[string][]byte{"short": make([]byte, 60), "old": encodeMessage(messageSpec{magic: 1, value: make([]byte, 100)})} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			recordbatch.Rewrite(batch, 1, 1, 1)
		})
	}
}

func TestChecksumsOfOldFormatsAndInvalidBatches(t *testing.T) {
	old := encodeMessage(messageSpec{magic: 1, offset: 3, value: []byte("v")})
	if !recordbatch.ValidCRC(old) {
		t.Error("magic 1: a correct checksum is rejected")
	}
	old[len(old)-1] ^= 1
	if recordbatch.ValidCRC(old) {
		t.Error("magic 1: a wrong checksum is accepted")
	}
	for n := range 70 {
		b := bytes.Repeat([]byte{2}, n)
		if recordbatch.ValidCRC(b) {
			t.Errorf("%d bytes of nonsense have a valid checksum", n)
		}
	}
}
