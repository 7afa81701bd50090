package match

import (
	"encoding/binary"
	"errors"
	"hash/maphash"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// ErrBrokerTime says that a log has timestamps of its broker, which say nothing about those of the other log: hash without timestamps.
var ErrBrokerTime = errors.New("timestamps are those of the broker")

// Hasher gives records the same number if a reader could not tell them apart, their offsets aside.
type Hasher struct {
	Seed maphash.Seed
	// Timestamps count: neither log has timestamps of its broker.
	Timestamps bool
	buffer     []byte
}

// Hash is that of one record. The result is only comparable under the same seed.
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

// appendNullable tells null from empty.
func appendNullable(b, value []byte) []byte {
	if value == nil {
		return append(b, 1)
	}
	return append(binary.AppendVarint(b, int64(len(value))), value...)
}
