package topics

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Bounds holds the first offset (inclusive) and the end offset (exclusive) of partitions on both sides.
type Bounds struct{ sourceStart, sourceEnd, targetStart, targetEnd kadm.ListedOffsets }

// ListBounds requests the bounds of all partitions of pairs from both clusters. Partitions whose broker is down are left out.
func ListBounds(ctx context.Context, sourceClient, targetClient *kgo.Client, pairs []Pair) (Bounds, error) {
	var sources, targets []string
	for _, pair := range pairs {
		sources, targets = append(sources, pair.Source.Name), append(targets, pair.TargetName)
	}
	var b Bounds
	var errs [4]error
	source, target := kadm.NewClient(sourceClient), kadm.NewClient(targetClient)
	b.sourceStart, errs[0] = source.ListStartOffsets(ctx, sources...)
	b.sourceEnd, errs[1] = source.ListEndOffsets(ctx, sources...)
	b.targetStart, errs[2] = target.ListStartOffsets(ctx, targets...)
	b.targetEnd, errs[3] = target.ListEndOffsets(ctx, targets...)
	for _, err := range errs {
		var shard *kadm.ShardErrors
		if err != nil && !errors.As(err, &shard) { // a broker that is down must not stop the partitions of the others
			return b, fmt.Errorf("list offsets: %w", err)
		}
	}
	return b, nil
}

// Of returns the bounds of one partition; ok is false if any of them is unknown.
func (b Bounds) Of(pair Pair, partition int32) (sourceStart, sourceEnd, targetStart, targetEnd int64, ok bool) {
	find := func(list kadm.ListedOffsets, topic string) int64 {
		o, found := list.Lookup(topic, partition)
		if !found || o.Err != nil {
			ok = false
			return -1
		}
		return o.Offset
	}
	ok = true
	sourceStart, sourceEnd = find(b.sourceStart, pair.Source.Name), find(b.sourceEnd, pair.Source.Name)
	targetStart, targetEnd = find(b.targetStart, pair.TargetName), find(b.targetEnd, pair.TargetName)
	return sourceStart, sourceEnd, targetStart, targetEnd, ok
}
