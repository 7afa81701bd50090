package offsets

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// LogStarts are the log start offsets of partitions of one cluster at one moment. The zero value knows none.
type LogStarts struct{ listed kadm.ListedOffsets }

// ReadLogStarts reads the log start offsets of topics. It sends no request if there are no topics. With an error, some
// partitions may still be known.
func ReadLogStarts(ctx context.Context, client *kgo.Client, topics []string) (LogStarts, error) {
	if len(topics) == 0 {
		return LogStarts{}, nil // kadm would list all topics
	}
	listed, err := kadm.NewClient(client).ListStartOffsets(ctx, topics...)
	return LogStarts{listed}, err
}

// Clamp returns an offset to continue at, or the partition's log start if that is higher: the record at the offset was
// deleted, and out of range a consumer would continue wherever its auto.offset.reset says. It returns the offset itself
// and an error if the log start is not known.
func (s LogStarts) Clamp(tp TopicPartition, offset int64) (int64, error) {
	start, err := s.Of(tp)
	if err != nil {
		return offset, err
	}
	return max(offset, start), nil
}

// errUnlisted is usually that of a topic that does not exist.
var errUnlisted = errors.New("the answer does not name the partition")

// Of returns the log start of a partition.
func (s LogStarts) Of(tp TopicPartition) (int64, error) {
	start, ok := s.listed.Lookup(tp.Topic, tp.Partition)
	switch {
	case !ok:
		return 0, fmt.Errorf("log start of %s: %w", tp, errUnlisted)
	case start.Err != nil:
		return 0, fmt.Errorf("log start of %s: %w", tp, start.Err)
	}
	return start.Offset, nil
}
