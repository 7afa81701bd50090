package match

import (
	"encoding/binary"
	"errors"
	"hash/maphash"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// ErrBrokerTime says that the broker of a log set the timestamps. They say nothing about those of the other log: hash without timestamps.
var ErrBrokerTime = errors.New("timestamps are those of the broker")

// Hasher hashes records. Records that differ at most in their offsets have the same hash. It is not safe for concurrent use.
type Hasher struct {
	Seed maphash.Seed
	// Timestamps includes timestamps in the hash. It must be false if either log has append times of its broker.
	Timestamps bool
	buffer     []byte
}

// Hash returns the hash of one record. Only hashes with the same seed are comparable.
func (h *Hasher) Hash(r *recordbatch.Record) uint64 {
	b := h.buffer[:0]
	if h.Timestamps {
		b = binary.BigEndian.AppendUint64(b, uint64(r.Timestamp)) //nolint:gosec // any distinct bytes will do
	}
	b = appendNullable(appendNullable(b, r.Key), r.Value)
	for _, header := range r.Headers {
		b = appendNullable(append(binary.AppendVarint(b, int64(len(header.Key))), header.Key...), header.Value)
	}
	h.buffer = b
	return maphash.Bytes(h.Seed, b)
}

// key returns the hash of the key of a record; ok is false if it has none.
func (h *Hasher) key(r *recordbatch.Record) (hash uint64, ok bool) {
	if r.Key == nil {
		return 0, false
	}
	return maphash.Bytes(h.Seed, r.Key), true
}

// appendNullable encodes null and empty differently.
func appendNullable(b, value []byte) []byte {
	if value == nil {
		return append(b, 1)
	}
	return append(binary.AppendVarint(b, int64(len(value))), value...)
}
