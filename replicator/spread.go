package replicator

import "time"

// spreads are the lanes of each broker of the target. The topology's lock is held when its methods are called.
type spreads map[int32]*spread

// of returns the lanes of a broker.
func (s spreads) of(broker int32) *spread {
	if s[broker] == nil {
		s[broker] = &spread{lanes: 1}
	}
	return s[broker]
}

// spread decides among how many lanes the partitions with the same replicas are divided. One is best as long as it carries all that there is to send,
// because a request with batches of many partitions costs a broker as much as one with a batch of one. But a connection over a long line carries no
// more than its socket buffers, or the network's windows, per round trip. Whether that or the broker is the limit shows a trial: twice as many lanes
// must carry more.
type spread struct {
	lanes  int32
	last   laneLoad  // at the last look
	looked time.Time // zero before the first look
	looks  int       // in a row at which a lane was full, or of a trial
	first  int64     // bytes that were acknowledged before these looks
	since  time.Time // when they began
	steady float64   // bytes per second in the looks before these, if a lane was full; else 0
	before float64   // bytes per second with half as many lanes, during a trial; else 0
	tried  time.Time // when the last trial failed
}

const (
	// FullLooks is at how many looks in a row a lane must be full before there is a trial, and how many looks a trial takes: partitions that move
	// stand still for a round trip, and a connection starts slowly. LookTrips is how many round trips are between two looks at least.
	fullLooks, lookTrips = 3, 4
	// TrialGain is how much more twice as many lanes must carry. Before a trial, they must not carry trialGrowth more by themselves, as when a broker has
	// just started.
	trialGain, trialGrowth = 1.5, 1.1
	// TrialPause is the time after a trial that failed.
	trialPause = 5 * time.Minute
)

// laneLoad is what lanes have carried and had to hold back since the start. What failed, all at once when a broker hangs, was not carried.
type laneLoad struct {
	trip   time.Duration // round-trip time, 0 if it is unknown
	bytes  int64         // of requests that were answered
	held   time.Duration // for how long there was something to send, and the lane did not take it
	shared bool          // several partitions had a batch to send
}

// add adds the load of another lane to the same broker.
func (l *laneLoad) add(o laneLoad) {
	l.trip, l.bytes, l.held, l.shared = max(l.trip, o.trip), l.bytes+o.bytes, l.held+o.held, l.shared || o.shared
}

// look considers the load of all lanes to the broker. It reports whether the number of lanes has changed.
func (s *spread) look(load laneLoad, now time.Time) (changed bool) {
	took, last := now.Sub(s.looked), s.last
	if took < lookTrips*load.trip {
		return false
	}
	began := s.looked
	s.looked, s.last = now, load
	if began.IsZero() {
		return false
	}
	isFull := load.trip >= longLine && load.shared && load.held-last.held >= took/2
	if s.looks == 0 {
		s.first, s.since = last.bytes, began
	}
	if s.looks++; !isFull && s.before == 0 {
		s.looks, s.steady = 0, 0
	}
	if s.looks < fullLooks {
		return false
	}
	rate := float64(load.bytes-s.first) / now.Sub(s.since).Seconds()
	s.looks = 0
	return s.decide(rate, isFull, now)
}

// decide considers what the lanes carried in the last looks, in bytes per second.
func (s *spread) decide(rate float64, isFull bool, now time.Time) (changed bool) {
	grows := s.before == 0 && (s.steady == 0 || rate > trialGrowth*s.steady)
	failed := s.before > 0 && rate < trialGain*s.before
	s.steady = rate
	switch {
	case !isFull: // so many carry all
		s.before, s.steady = 0, 0
		return false
	case failed:
		s.lanes, s.before, s.tried = s.lanes/2, 0, now
		return true
	case s.lanes == lanesOfGroup || now.Sub(s.tried) < trialPause || grows || rate == 0: // more than nothing shows nothing: the broker hangs
		s.before = 0
		return false
	}
	s.lanes, s.before = 2*s.lanes, rate
	return true
}
