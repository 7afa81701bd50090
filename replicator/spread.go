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
	full   int       // looks in a row at which a lane was full
	rate   float64   // bytes per second, the highest of these looks
	before float64   // rate with half as many lanes, during a trial; else 0
	tried  time.Time // when the last trial failed
}

const (
	// FullLooks is at how many looks in a row a lane must be full before there is a trial, and how many looks a trial takes: partitions that move
	// stand still for a round trip, and a connection starts slowly. LookTrips is how many round trips are between two looks at least.
	fullLooks, lookTrips = 3, 4
	// TrialGain is how much more twice as many lanes must carry.
	trialGain = 1.25
	// TrialPause is the time after a trial that failed.
	trialPause = 5 * time.Minute
)

// laneLoad is what lanes have carried and had to hold back since the start. What failed, all at once when a broker hangs, was not carried.
type laneLoad struct {
	trip   time.Duration // round-trip time, 0 if it is unknown
	bytes  int64         // of requests that were answered
	held   time.Duration // for how long there was something to send, and the lane did not take it
	shared bool          // the last request had batches of several partitions
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
	first := s.looked.IsZero()
	s.looked, s.last = now, load
	if first {
		return false
	}
	rate := float64(load.bytes-last.bytes) / took.Seconds()
	s.rate = max(s.rate, rate)
	isFull := load.trip >= longLine && load.shared && load.held-last.held >= took/2
	if s.before > 0 {
		return s.judge(isFull, now)
	}
	if !isFull {
		s.full, s.rate = 0, 0
		return false
	}
	if s.full++; s.full < fullLooks || now.Sub(s.tried) < trialPause || s.rate == 0 { // more than nothing shows nothing: the broker hangs
		return false
	}
	return s.try()
}

// try begins a trial of twice as many lanes. It returns false if there are no more.
func (s *spread) try() bool {
	if s.lanes == lanesOfGroup {
		return false
	}
	s.lanes, s.before, s.full, s.rate = 2*s.lanes, s.rate, 0, 0
	return true
}

// judge ends a trial when it has lasted long enough: it has failed if the lanes are full and carry no more than half as many did. If they carry more
// and are still full, the next one begins.
func (s *spread) judge(isFull bool, now time.Time) (changed bool) {
	if s.full++; s.full < fullLooks {
		return false
	}
	gained := s.rate >= trialGain*s.before
	s.before, s.full = 0, 0
	switch {
	case isFull && gained:
		return s.try()
	case isFull:
		s.lanes, s.tried = s.lanes/2, now
	}
	s.rate = 0
	return isFull
}
