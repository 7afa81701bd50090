package replicator

import "time"

// cursor is where the source of a partition is read. Its methods are called under the partition's lock, and nobody else assigns its fields.
type cursor struct {
	// generation counts how often next was set back. What was fetched under an earlier generation is discarded.
	generation int
	next       int64 // source offset to fetch next
	fromEpoch  int32 // leader epoch of the batch before next (KIP-320), -1 unknown
	sourceEnd  int64 // end of what may be read on the source, exclusive, -1 unknown

	fetching    bool      // a request that asks for the partition is under way
	fetchAfter  time.Time // no request asks for it before
	beyondSince time.Time // since when next is beyond the source's end by its own answers, zero: it is not
	unreadable  int       // answers in a row with bytes at next that are no batch
}

// advance moves next forward.
func (c *cursor) advance(next int64, epoch int32) {
	c.next, c.fromEpoch, c.unreadable = next, epoch, 0
}

// reset sets next back, or anywhere else: what is being fetched is of no use.
func (c *cursor) reset(next int64, epoch int32) {
	c.generation++
	c.next, c.fromEpoch = next, epoch
}

// ask notes that a request asks for the partition.
func (c *cursor) ask() { c.fetching = true }

// answered notes that the request has ended, in whatever way.
func (c *cursor) answered() { c.fetching = false }

// delay leaves the partition out of requests for a moment.
func (c *cursor) delay(d time.Duration) { c.fetchAfter = time.Now().Add(d) }

// sourceEnds notes the end of what may be read.
func (c *cursor) sourceEnds(end int64) { c.sourceEnd = end }

// within notes that next is within the source's log.
func (c *cursor) within() { c.beyondSince = time.Time{} }

// beyond notes that next is beyond the source's end, and says for how long it has been.
func (c *cursor) beyond() time.Duration {
	if c.beyondSince.IsZero() {
		c.beyondSince = time.Now()
	}
	return time.Since(c.beyondSince)
}

// corrupt notes that the bytes at next are no batch, and says how many times in a row.
func (c *cursor) corrupt() int {
	c.unreadable++
	return c.unreadable
}

// readAgain forgets how often the bytes at next were unreadable.
func (c *cursor) readAgain() { c.unreadable = 0 }
