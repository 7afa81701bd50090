package replicator

import (
	"sync/atomic"
	"time"
)

// shardLoad is how many bytes per second the partitions of a shard copy. The group balances the shards by it when an instance comes or goes.
type shardLoad struct {
	copied atomic.Int64 // bytes that the target acknowledged
	rate   atomic.Int64 // bytes per second, smoothed over about a minute
	known  atomic.Bool  // there were enough samples: a copy that catches up after a move tells too much, one that stood still too little

	samples int // by one goroutine, as the next ones
	sampled time.Time
	before  int64 // copied at that time
}

// loadShare is the share of the newest sample, which is taken every describeEvery.
const loadShare = 0.1

// knownAfter is after how many samples the load of a shard is known.
const knownAfter = 6

// sample takes the next sample.
func (l *shardLoad) sample(now time.Time) {
	copied := l.copied.Load()
	if took := now.Sub(l.sampled).Seconds(); !l.sampled.IsZero() && took > 0 {
		rate := float64(copied-l.before) / took
		if l.samples++; l.samples > knownAfter {
			rate = (1-loadShare)*float64(l.rate.Load()) + loadShare*rate
		}
		l.rate.Store(int64(rate))
		l.known.Store(l.samples > knownAfter)
	}
	l.sampled, l.before = now, copied
}

// sampleLoads takes the next sample of all shards that are held.
func (f *Flow) sampleLoads(now time.Time) {
	for _, s := range f.held.all() {
		s.load.sample(now)
	}
}

// loads returns the bytes per second of each shard that is held and has been for long enough to know it. A shard without load has 1: 0 would mean
// that it is not known.
func (f *Flow) loads() map[int32]int64 {
	loads := make(map[int32]int64)
	for _, s := range f.held.all() {
		if s.load.known.Load() {
			loads[s.number] = max(1, s.load.rate.Load())
		}
	}
	return loads
}
