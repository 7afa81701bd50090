package replicator

import "time"

// cursor is where a partition is read on the source. Its methods are called with the partition's lock held, and nothing else assigns its
// fields.
type cursor struct {
	// generation counts the resets of next. What was requested in an earlier generation is discarded.
	generation int
	next       int64 // the fetch offset
	fromEpoch  int32 // leader epoch of the batch before next (KIP-320), -1 unknown
	// EpochRefused means that the source does not know fromEpoch. It keeps no epochs while message.format.version is below 0.11.
	epochRefused bool
	fetching     bool // a fetch request with this partition is in flight

	sourceEnd  int64     // end of the readable source log, exclusive, -1 unknown
	sourceOpen int64     // records behind sourceEnd that are not readable yet: the high watermark less the last stable offset
	sourceSeen time.Time // when the source last confirmed both

	fetchedAt  time.Time // when it was last fetched, by this process or an earlier one; zero if never
	holesUntil int64     // holes below this offset are an anomaly, because of a long pause

	fetchAfter   time.Time // the partition is not fetched before
	beyondSince  time.Time // since when next has been beyond the end of the source, zero if it is not
	refusedSince time.Time // since when the source has refused next without an epoch, although its log has it; zero if it has not
	unreadable   int       // responses in a row whose bytes at next are not a batch
}

// advance moves next forward.
func (c *cursor) advance(next int64, epoch int32) {
	c.next, c.fromEpoch, c.unreadable = next, epoch, 0
	c.epochRefused = false
}

// lastEpoch returns the epoch that a fetch names as that of the batch before next, -1 if it names none.
func (c *cursor) lastEpoch() int32 {
	if c.epochRefused {
		return -1
	}
	return c.fromEpoch
}

// reset sets next to any offset and discards what is being fetched.
func (c *cursor) reset(next int64, epoch int32) {
	c.generation++
	c.next, c.fromEpoch = next, epoch
	c.epochRefused = false
}

// moveBack sets next to an offset below it, behind what is in flight. What was requested about that still counts, and what is being fetched does not,
// because it is not at next.
func (c *cursor) moveBack(next int64, epoch int32) {
	c.next, c.fromEpoch, c.epochRefused = next, epoch, false
}

// beginFetch marks the partition as part of a request in flight.
func (c *cursor) beginFetch() { c.fetching = true }

// endFetch marks that the request has ended, with or without a response.
func (c *cursor) endFetch() { c.fetching = false }

// delay keeps the partition out of fetch requests for a duration.
func (c *cursor) delay(d time.Duration) { c.fetchAfter = time.Now().Add(d) }

// setSourceEnd sets the end of the readable source log, exclusive, and how many records behind it are not readable yet.
func (c *cursor) setSourceEnd(end, open int64, now time.Time) {
	c.sourceEnd, c.sourceOpen, c.sourceSeen = end, max(0, open), now
}

// confirmFetched records that a fetch had no news: the source still has the end that is known.
func (c *cursor) confirmFetched(now time.Time) { c.sourceSeen, c.fetchedAt = now, now }

// noteFetch records a fetch, or the last one of an earlier process.
func (c *cursor) noteFetch(at time.Time) { c.fetchedAt = at }

// watchHoles makes holes below an offset an anomaly.
func (c *cursor) watchHoles(until int64) { c.holesUntil = until }

// endWatch ends the watch for holes.
func (c *cursor) endWatch() { c.holesUntil = 0 }

// markWithin records that next is within the source's log.
func (c *cursor) markWithin() { c.beyondSince, c.refusedSince = time.Time{}, time.Time{} }

// refuseEpoch records that the source refused next, although its log has it, and lets the next fetch name no epoch. It returns false if the
// last one did not either.
func (c *cursor) refuseEpoch() bool {
	if c.epochRefused {
		return false
	}
	c.epochRefused = true
	return true
}

// markRefused records that the source refused next without an epoch, and returns for how long it has.
func (c *cursor) markRefused() time.Duration {
	if c.refusedSince.IsZero() {
		c.refusedSince = time.Now()
	}
	return time.Since(c.refusedSince)
}

// markBeyond records that next is beyond the end of the source, and returns for how long it has been.
func (c *cursor) markBeyond() time.Duration {
	if c.beyondSince.IsZero() {
		c.beyondSince = time.Now()
	}
	return time.Since(c.beyondSince)
}

// countUnreadable records that the bytes at next are not a batch, and returns how many times in a row they were not.
func (c *cursor) countUnreadable() int {
	c.unreadable++
	return c.unreadable
}

// resetUnreadable forgets how many times the bytes at next were unreadable.
func (c *cursor) resetUnreadable() { c.unreadable = 0 }
