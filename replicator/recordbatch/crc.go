package recordbatch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// polynomial is the polynomial of CRC32C, bit-reflected: the top bit is x^0.
const polynomial = 0x82F63B78

// shiftPowers[k] is x^(8*2^k): multiplying a CRC by it moves its input 2^k bytes to the left.
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

// shift returns the difference of two CRCs after n equal bytes are appended to both inputs, given the difference before.
func shift(crc uint32, n int) uint32 {
	for k := 0; n != 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			crc = multiply(shiftPowers[k], crc)
		}
	}
	return crc
}

// attributesOfSource are the attributes that a copy does not have, see [Rewrite].
const attributesOfSource = attributeLogAppendTime | attributeTransactional | attributeDeleteHorizon

// Rewrite prepares a fetched version 2 batch for a produce request, in place and without reading its records. It sets base offset 0, leader
// epoch -1, and the given producer id, epoch and base sequence, and it clears the LogAppendTime, transactional and delete-horizon bits.
// Brokers refuse the first two bits in a plain produce request. They keep the third, and the log cleaner of the target would delete
// tombstones at the time that the source has set. Rewrite may be called again on its result, for a new epoch or sequence.
//
// The new checksum is derived from the old one, so a damaged batch stays damaged.
//
// It panics unless the batch has passed [Parse] with magic 2.
func Rewrite(batch []byte, producerID int64, epoch int16, sequence int32) {
	mustBeV2(batch)
	before := headerCRC(batch)
	binary.BigEndian.PutUint64(batch, 0)
	binary.BigEndian.PutUint32(batch[offsetOfEpoch:], 0xffffffff)
	attributes := Attributes(binary.BigEndian.Uint16(batch[offsetOfAttributes:])) &^ attributesOfSource
	binary.BigEndian.PutUint16(batch[offsetOfAttributes:], uint16(attributes))
	binary.BigEndian.PutUint64(batch[offsetOfProducerID:], uint64(producerID))
	binary.BigEndian.PutUint16(batch[51:], uint16(epoch))
	binary.BigEndian.PutUint32(batch[53:], uint32(sequence))
	crc := binary.BigEndian.Uint32(batch[offsetOfCRC:]) ^ shift(before^headerCRC(batch), len(batch)-HeaderSize)
	binary.BigEndian.PutUint32(batch[offsetOfCRC:], crc)
}

// RecordsCRC returns the CRC32C of the records section, derived from the checksum of the batch without reading the records. It is the same
// for a batch and its forwarded copy, whatever their headers are, so it identifies the copy on the target. For a damaged batch it is the CRC
// of the original records, or meaningless if the header is damaged.
//
// It panics unless the batch has passed [Parse] with magic 2.
func RecordsCRC(batch []byte) uint32 {
	mustBeV2(batch)
	return binary.BigEndian.Uint32(batch[offsetOfCRC:]) ^ shift(headerCRC(batch), len(batch)-HeaderSize)
}

// verify returns a *CorruptError unless the checksum of a parsed batch of any format matches. It reads the whole batch, at about 15 GB/s.
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

// headerCRC returns the CRC32C of the part of the header that the checksum of the batch covers.
func headerCRC(batch []byte) uint32 {
	return crc32.Checksum(batch[offsetOfAttributes:HeaderSize], castagnoli)
}

func mustBeV2(batch []byte) {
	if len(batch) < HeaderSize || batch[offsetOfMagic] != 2 {
		panic(fmt.Sprintf("recordbatch: %d bytes are not a parsed version 2 batch", len(batch)))
	}
}
