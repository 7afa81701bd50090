package verify

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// maxUnexplained is how many records of a partition may wait for their explanation, some 100 bytes each.
const maxUnexplained = 1 << 17

// cleaned finds out which records that one log of a partition lacks were removed by its log cleaner. The cleaner removes a record if the log has a newer
// one with the same key, and also tombstones and records without a key. So a record that is missing waits until a newer one with its key is found, in
// this log or in the other one, where it is judged itself.
type cleaned struct {
	compacted bool // the cleaner works on this log
	explained int64
	waiting   map[keyHash]offsets.Pair
}

// keyHash identifies a key.
type keyHash [16]byte

func hashOf(key []byte) keyHash {
	sum := sha256.Sum256(key)
	return keyHash(sum[:16])
}

// missing takes a record that the log lacks, as the other log has it. It reports whether the cleaner may be the reason.
func (c *cleaned) missing(r *recordbatch.Record, at offsets.Pair) (bool, error) {
	if !c.compacted {
		return false, nil
	}
	if r.Key == nil {
		c.explained++
		return true, nil
	}
	hash := hashOf(r.Key)
	if _, older := c.waiting[hash]; older {
		delete(c.waiting, hash)
		c.explained++
	}
	if r.Value == nil {
		c.explained++
		return true, nil
	}
	if len(c.waiting) >= maxUnexplained {
		return false, unreadable("a log cleaner has removed more than %d records with no newer record of their keys so far, which is more than is kept in memory", maxUnexplained)
	}
	if c.waiting == nil {
		c.waiting = make(map[keyHash]offsets.Pair)
	}
	c.waiting[hash] = at
	return true, nil
}

// seen takes the key of a record that the log has: it explains an older one that is missing.
func (c *cleaned) seen(key []byte) {
	if len(c.waiting) == 0 || key == nil {
		return
	}
	hash := hashOf(key)
	if _, ok := c.waiting[hash]; ok {
		delete(c.waiting, hash)
		c.explained++
	}
}

// unexplained says how many records wait, in a sentence.
func (c *cleaned) unexplained(side offsets.Side) string {
	return fmt.Sprintf("%d records that a log cleaner may have removed on the %s are not explained by what was read: verify the topic without a sample", len(c.waiting), side)
}
