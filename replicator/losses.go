package replicator

import (
	"context"
	"sync"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// Time to loss: the source deletes records by retention.ms whether they are copied or not. How long that takes follows from the age of the first record
// that is not copied. While a partition is copied, the last copied record is hardly older. Where nothing was copied for long, or since the process
// began, the age of that record itself is looked for in the source's index of timestamps.

const (
	// ListAgesEvery is how often ages are looked for.
	listAgesEvery = 5 * time.Second
	// AgeSteps is how often the interval that has the age is halved: to a thousandth of the retention.
	ageSteps = 10
)

// firstRecord is the first record that is not copied: its offset, and a time before its timestamp.
type firstRecord struct {
	offset int64
	after  time.Time
}

// firstRecords are those whose age was looked for.
type firstRecords struct {
	mu          sync.Mutex
	byPartition map[*partition]firstRecord
}

// of returns a time before the timestamp of the record at an offset, the zero time if it was not looked for.
func (r *firstRecords) of(p *partition, offset int64) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, ok := r.byPartition[p]; ok && first.offset == offset {
		return first.after
	}
	return time.Time{}
}

// set replaces what is known.
func (r *firstRecords) set(known map[*partition]firstRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byPartition = known
}

// timeToLossLocked is how long it takes until the source deletes records of the partition that are not copied, 0 if that is overdue. It is known only once
// half of the retention has passed: before, nothing is at risk. The partition's lock is held.
func (p *partition) timeToLossLocked(firsts *firstRecords, l lag, now time.Time) (left time.Duration, known bool) {
	retention := p.topic.getLimits().SourceRetention
	if retention <= 0 || !l.known || l.records == 0 {
		return 0, false
	}
	oldest := firsts.of(p, p.firstOnSourceLocked())
	if oldest.IsZero() && p.lastTimestamp > 0 {
		oldest = time.UnixMilli(p.lastTimestamp)
	}
	age := now.Sub(oldest)
	if oldest.IsZero() || age < retention/2 {
		return 0, false
	}
	return max(0, retention-age), true
}

// firstOnSourceLocked is the offset of the first record that is not copied and that the source still has, or may have: those of a retention gap are lost
// already. The partition's lock is held.
func (p *partition) firstOnSourceLocked() int64 {
	if a := p.anomaly; a != nil && a.kind == policy.RetentionGap {
		return max(p.acked, a.to)
	}
	return p.acked
}

// agesLoop looks for the ages of first records.
func (f *Flow) agesLoop(ctx context.Context) {
	client.Every(ctx, listAgesEvery, func(now time.Time) { f.listAges(ctx, now) })
}

// ageSearch is the search for the age of one record, which is between young and old.
type ageSearch struct {
	partition  *partition
	offset     int64
	young, old time.Duration
}

func (s *ageSearch) middle() time.Duration { return s.young + (s.old-s.young)/2 }

// listAges looks for the ages of the first records of partitions that may be at risk. What it knew of others is forgotten.
func (f *Flow) listAges(ctx context.Context, now time.Time) {
	known := make(map[*partition]firstRecord)
	searches := make(map[int32][]*ageSearch)
	for _, p := range f.partitions() {
		p.mu.Lock()
		retention := p.topic.getLimits().SourceRetention
		behind := p.sourceEnd > p.acked && retention > 0 && p.sourceLeader >= 0
		stale := p.lastTimestamp <= 0 || now.Sub(time.UnixMilli(p.lastTimestamp)) > retention/2
		offset, leader := p.firstOnSourceLocked(), p.sourceLeader
		p.mu.Unlock()
		if !behind || !stale {
			continue
		}
		if after := f.firsts.of(p, offset); !after.IsZero() {
			known[p] = firstRecord{offset, after}
		} else {
			searches[leader] = append(searches[leader], &ageSearch{p, offset, 0, retention})
		}
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for leader, list := range searches {
		wait.Go(func() {
			if !f.search(ctx, leader, list, now) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, s := range list {
				known[s.partition] = firstRecord{s.offset, now.Add(-s.old)}
			}
		})
	}
	wait.Wait()
	f.firsts.set(known)
}

// search halves the intervals of partitions that a broker leads. It returns false if the broker does not answer for one of them, which is tried again later.
func (f *Flow) search(ctx context.Context, leader int32, list []*ageSearch, now time.Time) bool {
	for range ageSteps {
		at := make(map[offsets.TopicPartition]int64, len(list))
		for _, s := range list {
			at[s.partition.source()] = now.Add(-s.middle()).UnixMilli()
		}
		younger, err := topics.ListAfter(ctx, f.source, leader, at)
		if err != nil {
			return false
		}
		for _, s := range list {
			if first := younger[s.partition.source()]; first < 0 || s.offset < first { // no record at or before the offset is that young
				s.young = s.middle()
			} else {
				s.old = s.middle()
			}
		}
	}
	return true
}
