package offsets

import "time"

// RPO is what a failover would lose: the recovery point objective's actual value. It is printed as JSON. The zero value is about no partition.
type RPO struct {
	// CompleteUpTo is the time up to which everything that the source had is on the target, by the clocks of the processes that copy. It is absent if
	// some partition was never complete, and if nothing is copied.
	CompleteUpTo time.Time `json:"complete_up_to,omitzero"`
	// MissingRecords is how many offsets of the source the target lacks at most, as far as the source was seen.
	MissingRecords int64 `json:"missing_records"`
	// SeenAt is when the source was last seen; what was written to it since is not known. Of several partitions it is the earliest. It is absent if some
	// partition was never seen.
	SeenAt time.Time `json:"seen_at,omitzero"`
	// Partitions counts what the above is about. Unknown counts the partitions that should be copied and of which nothing is known.
	Partitions int `json:"partitions"`
	Unknown    int `json:"unknown_partitions"`

	never, unseen bool // of some partition
}

// Add adds a partition.
func (r *RPO) Add(b Behind) {
	r.MissingRecords += b.Missing()
	r.Partitions++
	r.never = r.never || b.Complete.IsZero()
	r.unseen = r.unseen || b.Seen.IsZero()
	r.CompleteUpTo = earliest(r.CompleteUpTo, b.Complete)
	r.SeenAt = earliest(r.SeenAt, b.Seen)
	r.settle()
}

// AddUnknown adds a number of partitions of which nothing is known.
func (r *RPO) AddUnknown(n int) {
	r.Unknown += n
	r.settle()
}

func (r *RPO) settle() {
	if r.never || r.Unknown > 0 {
		r.CompleteUpTo = time.Time{}
	}
	if r.unseen || r.Unknown > 0 {
		r.SeenAt = time.Time{}
	}
}

// earliest returns the earlier of two times, of which the zero time is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
