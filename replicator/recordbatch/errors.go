package recordbatch

import (
	"errors"
	"fmt"
)

// ErrTruncated says that the bytes end inside a batch. That is the normal end of a fetch response: brokers truncate the last batch at the size
// limit (KIP-74 guarantees only one whole batch). Fetch again from the end of the last whole batch.
var ErrTruncated = errors.New("batch is truncated")

var errNoRecords = errors.New("encode batch: no records")

// FormatError says that bytes are not a well-formed batch. Fetching them again from the same broker returns the same bytes.
type FormatError struct {
	// Offset is the base offset of the batch, -1 if the bytes are too short to hold it.
	Offset int64
	// Problem says what is wrong.
	Problem string
	// Err is the cause, such as the error of a codec; may be nil.
	Err error
}

// Error implements error.
func (e *FormatError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("read batch at offset %d: %s: %v", e.Offset, e.Problem, e.Err)
	}
	return fmt.Sprintf("read batch at offset %d: %s", e.Offset, e.Problem)
}

// Unwrap returns the cause.
func (e *FormatError) Unwrap() error { return e.Err }

// CorruptError says that the bytes of a batch do not match its checksum. If the batch was damaged in transit, fetching it again helps; if that
// does not help, it is damaged in the log of the source.
type CorruptError struct {
	// Offset is the base offset of the batch.
	Offset int64
	// Stored is the checksum in the batch, Computed the one of its bytes.
	Stored, Computed uint32
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("verify batch at offset %d: stored CRC %08x, computed %08x", e.Offset, e.Stored, e.Computed)
}

// RecordTooLargeError says that a record is too large for the target even in a batch of its own.
type RecordTooLargeError struct {
	// Offset is the source offset of the record.
	Offset int64
	// Size is the size in bytes of a batch that holds only this record, encoded with the codec of the source batch. Max is the limit.
	Size, Max int
}

// Error implements error.
func (e *RecordTooLargeError) Error() string {
	return fmt.Sprintf("rebuild record at offset %d: %d bytes in a batch of its own, but the limit is %d", e.Offset, e.Size, e.Max)
}
