package recordbatch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// polynomial is that of CRC32C, bit-reflected: the top bit stands for x^0.
const polynomial = 0x82F63B78

// shiftPowers[k] is x^(8*2^k): multiplying a CRC by it moves the bytes it stands for 2^k bytes to the left.
var shiftPowers = buildShiftPowers() //nolint:gochecknoglobals // a constant table that Go cannot write as one

func buildShiftPowers() (powers [64]uint32) {
	powers[0] = 1 << 23 // x^8
	for k := 1; k < len(powers); k++ {
		powers[k] = multiply(powers[k-1], powers[k-1])
	}
	return powers
}

// multiply returns a*b modulo the polynomial.
func multiply(a, b uint32) uint32 {
	var product uint32
	for m := uint32(1) << 31; m != 0; m >>= 1 {
		if a&m != 0 {
			product ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ polynomial
		} else {
			b >>= 1
		}
	}
	return product
}

// shift returns what the difference crc becomes when n equal bytes follow the bytes it was taken over.
func shift(crc uint32, n int) uint32 {
	for k := 0; n != 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			crc = multiply(shiftPowers[k], crc)
		}
	}
	return crc
}

// Rewrite makes a fetched version 2 batch ready for a produce request of ours, in place and without touching its records: base offset 0
// and leader epoch -1, the given producer id, epoch and base sequence, and the LogAppendTime, transactional and delete-horizon bits
// cleared. Brokers refuse the first two bits outside their context and keep the third, by which the target's cleaner would drop
// tombstones on the source's schedule. It may be called again on its own result, for a new epoch or sequence.
//
// The checksum follows by algebra from the old one, so a damaged batch stays damaged.
// The batch must have passed [Parse] with magic 2; anything else is a bug of the caller and panics.
func Rewrite(batch []byte, producerID int64, epoch int16, sequence int32) {
	mustBeV2(batch)
	const cleared = attributeLogAppendTime | attributeTransactional | attributeDeleteHorizon
	before := headerCRC(batch)
	binary.BigEndian.PutUint64(batch, 0)
	binary.BigEndian.PutUint32(batch[offsetOfEpoch:], 0xffffffff)
	attributes := Attributes(binary.BigEndian.Uint16(batch[offsetOfAttributes:])) &^ cleared
	binary.BigEndian.PutUint16(batch[offsetOfAttributes:], uint16(attributes))
	binary.BigEndian.PutUint64(batch[offsetOfProducerID:], uint64(producerID))
	binary.BigEndian.PutUint16(batch[51:], uint16(epoch))
	binary.BigEndian.PutUint32(batch[53:], uint32(sequence))
	crc := binary.BigEndian.Uint32(batch[offsetOfCRC:]) ^ shift(before^headerCRC(batch), len(batch)-HeaderSize)
	binary.BigEndian.PutUint32(batch[offsetOfCRC:], crc)
}

// RecordsCRC returns the CRC32C of the records section as it follows from the batch's checksum, without reading a record. It is equal on
// both sides of a forwarded batch whatever the two headers say, which makes it a fingerprint for finding a batch again on the target.
// For a damaged batch it is the fingerprint of the bytes the producer sent, or of nothing at all.
//
// The batch must have passed [Parse] with magic 2; anything else is a bug of the caller and panics.
func RecordsCRC(batch []byte) uint32 {
	mustBeV2(batch)
	return binary.BigEndian.Uint32(batch[offsetOfCRC:]) ^ shift(headerCRC(batch), len(batch)-HeaderSize)
}

// ValidCRC reports whether the checksum of a batch of any format matches its bytes. It reads the whole batch, about 15 GB/s.
func ValidCRC(batch []byte) bool {
	if len(batch) < logOverhead+minLengthV0 || (batch[offsetOfMagic] >= 2 && len(batch) < HeaderSize) {
		return false
	}
	stored, computed := checksums(batch)
	return stored == computed
}

// verify returns a *CorruptError unless the checksum of a parsed batch matches.
func verify(batch []byte, h Header) error {
	if stored, computed := checksums(batch); stored != computed {
		return &CorruptError{Offset: h.BaseOffset, Stored: stored, Computed: computed}
	}
	return nil
}

func checksums(batch []byte) (stored, computed uint32) {
	if batch[offsetOfMagic] < 2 {
		return binary.BigEndian.Uint32(batch[offsetOfMessageCRC:]), crc32.ChecksumIEEE(batch[offsetOfMagic:])
	}
	return binary.BigEndian.Uint32(batch[offsetOfCRC:]), crc32.Checksum(batch[offsetOfAttributes:], castagnoli)
}

// headerCRC is the CRC32C of the part of the header that the batch's checksum covers.
func headerCRC(batch []byte) uint32 {
	return crc32.Checksum(batch[offsetOfAttributes:HeaderSize], castagnoli)
}

func mustBeV2(batch []byte) {
	if len(batch) < HeaderSize || batch[offsetOfMagic] != 2 {
		panic(fmt.Sprintf("recordbatch: %d bytes are no parsed version 2 batch", len(batch)))
	}
}
