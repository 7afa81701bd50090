package offsets

import (
	"cmp"
	"slices"
	"time"
)

// RPO is what a failover would lose: the recovery point objective's actual value. It is printed as JSON. The zero value is about no partition.
type RPO struct {
	Loss
	// ObjectiveSeconds is the objective of the config, absent if there is none. ObjectiveMissed says that the copy is not complete up to a time that is
	// at most so old, or that it is not known to be.
	ObjectiveSeconds float64 `json:"objective_seconds,omitempty"`
	ObjectiveMissed  bool    `json:"objective_missed,omitempty"`
	// Topics are those that lack records that were seen, or of which something is not known, worst first. OtherTopics counts those that are left out
	// because the list is long.
	Topics      []TopicLoss `json:"topics,omitempty"`
	OtherTopics int         `json:"other_topics,omitempty"`
	// Unlisted sums up partitions of which the journal has no more than their sum. They count in the figures of the flow and in those of no topic, which are
	// then lower bounds.
	Unlisted *UnlistedLoss `json:"unlisted,omitempty"`

	topics map[string]*TopicLoss
}

// Loss is what a failover would lose of some partitions.
type Loss struct {
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
	// Never counts those of Partitions that were never complete.
	Never int `json:"never_complete_partitions"`

	unseen bool // one was never seen
}

// TopicLoss is what a failover would lose of a topic.
type TopicLoss struct {
	Topic string `json:"topic"`
	Loss
	// Behind are the partitions that lack records that were seen, worst first. OtherBehind counts those that are left out because the list is long.
	Behind      []PartitionLoss `json:"behind,omitempty"`
	OtherBehind int             `json:"other_behind,omitempty"`
}

// PartitionLoss is what a failover would lose of a partition, as in [Loss].
type PartitionLoss struct {
	Partition      int32     `json:"partition"`
	MissingRecords int64     `json:"missing_records"`
	CompleteUpTo   time.Time `json:"complete_up_to,omitzero"`
	SeenAt         time.Time `json:"seen_at,omitzero"`
}

// UnlistedLoss sums up partitions that the horizons of a journal have no room for.
type UnlistedLoss struct {
	Partitions     int   `json:"partitions"`
	MissingRecords int64 `json:"missing_records"`
}

// The lengths of the lists of an [RPO].
const (
	maxTopicLosses     = 100
	maxPartitionLosses = 10
)

// Add adds a partition.
func (r *RPO) Add(b Behind) {
	r.Loss.Add(b)
	t := r.topic(b.Topic)
	t.Add(b)
	if b.Missing() > 0 {
		t.Behind = append(t.Behind, PartitionLoss{b.Partition, b.Missing(), b.Complete, b.Seen})
	}
}

// AddUnknown adds a partition of a topic of which nothing is known.
func (r *RPO) AddUnknown(topic string) {
	r.Loss.AddUnknown()
	r.topic(topic).AddUnknown()
}

// AddMore adds what a horizon has no room to list.
func (r *RPO) AddMore(m *MoreBehind) {
	r.add(m.Records, m.Complete, m.Seen)
	if r.Unlisted == nil {
		r.Unlisted = &UnlistedLoss{}
	}
	r.Unlisted.Partitions += m.Partitions
	r.Unlisted.MissingRecords += m.Records
}

func (r *RPO) topic(name string) *TopicLoss {
	if r.topics == nil {
		r.topics = make(map[string]*TopicLoss)
	}
	t := r.topics[name]
	if t == nil {
		t = &TopicLoss{Topic: name}
		r.topics[name] = t
	}
	return t
}

// Settle compares the sum with an objective, which may be nil, and lists the topics. Nothing is added afterwards.
func (r *RPO) Settle(objective *time.Duration, now time.Time) {
	if objective != nil {
		r.ObjectiveSeconds, r.ObjectiveMissed = objective.Seconds(), r.misses(*objective, now)
	}
	for _, t := range r.topics {
		if t.MissingRecords > 0 || t.Unfinished() > 0 {
			r.Topics = append(r.Topics, *t)
		}
	}
	slices.SortFunc(r.Topics, func(a, b TopicLoss) int {
		return cmp.Or(compareLosses(&a.Loss, &b.Loss), cmp.Compare(a.Topic, b.Topic))
	})
	r.Topics, r.OtherTopics = first(r.Topics, maxTopicLosses)
	for i := range r.Topics {
		t := &r.Topics[i]
		slices.SortFunc(t.Behind, func(a, b PartitionLoss) int {
			return cmp.Or(cmp.Compare(b.MissingRecords, a.MissingRecords), cmp.Compare(a.Partition, b.Partition))
		})
		t.Behind, t.OtherBehind = first(t.Behind, maxPartitionLosses)
	}
	r.topics = nil
}

// compareLosses orders what loses more first. Of what loses as much, that is first of which less is known.
func compareLosses(a, b *Loss) int {
	return cmp.Or(cmp.Compare(b.MissingRecords, a.MissingRecords), cmp.Compare(b.Unfinished(), a.Unfinished()), a.CompleteUpTo.Compare(b.CompleteUpTo))
}

// first returns the first n of a list, and how many others there are.
func first[T any](list []T, n int) ([]T, int) {
	n = min(n, len(list))
	return slices.Clip(list[:n]), len(list) - n
}

// misses reports whether the copy is not known to be complete up to a time that is at most so old.
func (l *Loss) misses(objective time.Duration, now time.Time) bool {
	if l.CompleteUpTo.IsZero() {
		return l.Partitions+l.Unknown > 0
	}
	return now.Sub(l.CompleteUpTo) > objective
}

// Add adds a partition.
func (l *Loss) Add(b Behind) {
	l.Partitions++
	l.add(b.Missing(), b.Complete, b.Seen)
}

// AddUnknown adds a partition of which nothing is known.
func (l *Loss) AddUnknown() {
	l.Unknown++
	l.settle()
}

func (l *Loss) add(missing int64, complete, seen time.Time) {
	l.MissingRecords += missing
	if complete.IsZero() {
		l.Never++
	}
	l.unseen = l.unseen || seen.IsZero()
	l.CompleteUpTo, l.SeenAt = earliest(l.CompleteUpTo, complete), earliest(l.SeenAt, seen)
	l.settle()
}

// Unfinished counts the partitions that were never complete, and those of which nothing is known.
func (l *Loss) Unfinished() int { return l.Never + l.Unknown }

func (l *Loss) settle() {
	if l.Unfinished() > 0 {
		l.CompleteUpTo = time.Time{}
	}
	if l.unseen || l.Unknown > 0 {
		l.SeenAt = time.Time{}
	}
}

// earliest returns the earlier of two times, of which the zero time is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
