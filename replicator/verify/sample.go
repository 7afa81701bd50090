package verify

import (
	"encoding/binary"
	"hash/fnv"
	"math"

	"github.com/milena-kafka/milena/offsets"
)

// sampleBlock is how many source offsets are verified in a row with a sample.
const sampleBlock = 10_000

// sample chooses blocks of source offsets: the same ones whenever it is asked with the same seed.
type sample struct {
	part float64 // of the blocks; 1 is all
	seed uint64
}

// after returns the first chosen offsets of [from, to); they are empty if there are none. The first block of begin is chosen in any case, so that
// something of each partition is verified.
func (s sample) after(tp offsets.TopicPartition, begin, from, to int64) (first, end int64) {
	if s.part >= 1 || from >= to {
		return from, to
	}
	for block := from / sampleBlock; block*sampleBlock < to; block++ {
		if block == begin/sampleBlock || s.chooses(tp, block) {
			return max(from, block*sampleBlock), min(to, (block+1)*sampleBlock)
		}
	}
	return to, to
}

func (s sample) chooses(tp offsets.TopicPartition, block int64) bool {
	h := fnv.New64a()
	b := binary.BigEndian.AppendUint64(nil, s.seed)
	b = binary.BigEndian.AppendUint32(append(b, tp.Topic...), uint32(tp.Partition))
	_, _ = h.Write(binary.BigEndian.AppendUint64(b, uint64(block))) // never fails
	return float64(mix(h.Sum64())) < s.part*math.MaxUint64
}

// mix spreads the bits of a hash whose upper bits depend little on the last bytes.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
