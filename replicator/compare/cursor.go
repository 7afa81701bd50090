package compare

import (
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// cursor is where one log of a partition is read.
type cursor struct {
	offsets.TopicPartition
	id [16]byte // of the topic

	start       int64 // first offset of the log when the comparison began
	next        int64 // offset of the next fetch, -1 if it is to be found by timestamp
	end         int64 // high watermark, as far as it is known
	rewoundFrom int64 // highest offset that next was moved back from, 0 if it was not
}

// place moves the cursor to where a comparison begins.
func (c *cursor) place(start, next int64) { c.start, c.next, c.rewoundFrom = start, next, 0 }

// advance moves the cursor behind a batch.
func (c *cursor) advance(h recordbatch.Header) { c.next = max(c.next, h.NextOffset()) }

// passed says that the cursor is behind a batch. Before message format 2 the header does not tell where a batch begins.
func (c *cursor) passed(h recordbatch.Header) bool { return h.Magic == 2 && h.NextOffset() <= c.next }

// rewind moves the cursor back. What is read again was already counted: see reread.
func (c *cursor) rewind(to int64) { c.rewoundFrom, c.next = max(c.rewoundFrom, c.next), to }

// reread says that an offset was read before the cursor was moved back.
func (c *cursor) reread(offset int64) bool { return offset < c.rewoundFrom }

// read is the offset below which everything was read.
func (c *cursor) read() int64 { return max(c.next, c.rewoundFrom) }

// setEnd takes the high watermark of a fetch response.
func (c *cursor) setEnd(highWatermark int64) { c.end = max(highWatermark, c.next) }

// fetch asks for the log from the cursor on.
func (c *cursor) fetch() wire.FetchPartition { return c.fetchFrom(c.next) }

func (c *cursor) fetchFrom(offset int64) wire.FetchPartition {
	return wire.FetchPartition{TopicPartition: c.TopicPartition, FetchOffset: wire.FetchOffset{TopicID: c.id, Offset: offset, LeaderEpoch: -1, LastEpoch: -1, MaxBytes: fetchBytes}}
}
