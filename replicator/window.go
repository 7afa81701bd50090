package replicator

import "time"

// window limits the bytes in flight on a lane to what the way to the broker and back holds: the highest rate at which they were acknowledged lately
// times the round-trip time, twice, so that a rate that was too low doubles. More would only wait at the broker. What waits here instead is
// sent together, or merged. The lane's lock is held when its methods are called.
type window struct {
	inFlight  int64 // bytes
	full      bool  // it was full, and is not half empty yet
	delivered int64 // bytes of requests that were answered, since the start
	now, last float64
	since     time.Time // of now, the highest rate in bytes per second; last is that of the time before
}

const (
	// LeastWindow is the number of bytes that may be in flight on a short line, and leastFarWindow on a long one: a line that carries less takes seconds
	// for more, and a request has seconds to be answered.
	leastWindow, leastFarWindow = 1 << 20, 256 << 10
	// LeastRequest limits a request on a long line that carries little per round trip.
	leastRequest = 64 << 10
	// RateMemory is how long a rate counts, once or twice, or ten round trips if these take longer.
	rateMemory = time.Second
)

// flight is one request in flight.
type flight struct {
	bytes     int64
	sent      time.Time
	delivered int64 // at that time
}

// isOpen reports whether the next request may be sent over a line with a round-trip time. A window that was full opens when it is half empty: then
// several requests are sent at once, and their responses come at once, which wakes both sides less often. Half of it is what the line holds.
func (w *window) isOpen(trip time.Duration) bool {
	least := int64(leastWindow)
	if trip >= longLine {
		least = leastFarWindow
	}
	limit := max(least, 2*w.carries(trip))
	switch {
	case w.inFlight == 0:
		w.full = false
	case w.full:
		w.full = w.inFlight > limit/2
	default:
		w.full = w.inFlight >= limit
	}
	return !w.full
}

// carries returns how many bytes the line holds, as far as is known.
func (w *window) carries(trip time.Duration) int64 { return int64(max(w.now, w.last) * trip.Seconds()) }

// request returns how many bytes a request has at most: on a long line half of what it holds, so that responses come steadily.
func (w *window) request(trip time.Duration) int {
	if trip < longLine {
		return maxProduceBytes
	}
	return int(min(max(leastRequest, w.carries(trip)/2), maxProduceBytes))
}

// send records a request.
func (w *window) send(bytes int64, now time.Time) flight {
	w.inFlight += bytes
	return flight{bytes, now, w.delivered}
}

// lost records that a request has ended without a response: when a connection fails, all of them do at once.
func (w *window) lost(f flight) { w.inFlight -= f.bytes }

// end records that a request was answered. The rate is that of all requests that ended while it was in flight.
func (w *window) end(f flight, trip time.Duration, now time.Time) {
	w.inFlight -= f.bytes
	w.delivered += f.bytes
	if now.Sub(w.since) > max(rateMemory, 10*trip) {
		w.last, w.now, w.since = w.now, 0, now
	}
	if took := now.Sub(f.sent).Seconds(); took > 0 {
		w.now = max(w.now, float64(w.delivered-f.delivered)/took)
	}
}
