package offsets

import "fmt"

// TopicPartition names a partition of a topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is topic-partition, as Kafka's own tools write it.
func (tp TopicPartition) String() string { return fmt.Sprintf("%s-%d", tp.Topic, tp.Partition) }

// Segment says that the records at the source offsets [Source, Source+Count) are at the target offsets [Target,
// Target+Count), in the same order and without a hole on either side. Count is in records and at least 1.
type Segment struct {
	Source, Target, Count int64
}

// SourceEnd returns the source offset after the last record of the segment, exclusive.
func (s Segment) SourceEnd() int64 { return s.Source + s.Count }

// TargetEnd returns the target offset after the last record of the segment, exclusive.
func (s Segment) TargetEnd() int64 { return s.Target + s.Count }

// Pair is an offset pair: one place in both logs of a partition. Every copied record below Source is below
// Target, and every other copied record is at or above both. It is exclusive as an end and inclusive as a start.
type Pair struct {
	Source, Target int64
}

// Side names one of the two logs of a partition.
type Side string

// The sides.
const (
	// Source is the log that is copied.
	Source Side = "source"
	// Target is the log that receives the copies.
	Target Side = "target"
)

// on returns the offset on one side.
func (p Pair) on(side Side) int64 {
	if side == Source {
		return p.Source
	}
	return p.Target
}

// on returns the first offset of the segment on one side.
func (s Segment) on(side Side) int64 {
	if side == Source {
		return s.Source
	}
	return s.Target
}

// other returns the side that a translation from s answers with.
func (s Side) other() Side {
	if s == Source {
		return Target
	}
	return Source
}
