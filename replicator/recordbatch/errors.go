package recordbatch

import (
	"errors"
	"fmt"
)

// ErrTruncated says that the bytes end inside a batch. That is the normal end of a fetch response: brokers cut the last batch at the
// byte limit (KIP-74 promises one whole batch only). Fetch again from the end of the last whole one.
var ErrTruncated = errors.New("batch is truncated")

var errNoRecords = errors.New("encode batch: no records")

// FormatError says that bytes are no well-formed batch. Reading them again from the same broker gives the same answer.
type FormatError struct {
	// Offset is the batch's base offset, or -1 when the bytes ended before it could be read.
	Offset int64
	// Problem says what is wrong, in words.
	Problem string
	// Err is the codec's error, or nil.
	Err error
}

// Error implements error.
func (e *FormatError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("read batch at offset %d: %s: %v", e.Offset, e.Problem, e.Err)
	}
	return fmt.Sprintf("read batch at offset %d: %s", e.Offset, e.Problem)
}

// Unwrap returns the codec's error.
func (e *FormatError) Unwrap() error { return e.Err }

// CorruptError says that a batch's bytes do not match its checksum. Fetching again may help when the damage happened on the way; when it
// does not, the damage is in the source's log.
type CorruptError struct {
	// Offset is the batch's base offset.
	Offset int64
	// Stored is the checksum in the batch, Computed the one its bytes have.
	Stored, Computed uint32
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("verify batch at offset %d: stored CRC %08x, computed %08x", e.Offset, e.Stored, e.Computed)
}

// RecordTooLargeError says that one record cannot land on the target even in a batch of its own.
type RecordTooLargeError struct {
	// Offset is the record's source offset.
	Offset int64
	// Size is the size in bytes of a batch that holds this record alone, encoded with the source batch's codec; Max is the limit.
	Size, Max int
}

// Error implements error.
func (e *RecordTooLargeError) Error() string {
	return fmt.Sprintf("rebuild record at offset %d: %d bytes in a batch of its own, limit %d", e.Offset, e.Size, e.Max)
}
