package topics

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Edges are the first and last offsets of topics on one side or both.
type Edges struct{ sourceStart, sourceEnd, targetStart, targetEnd kadm.ListedOffsets }

// ListEdges asks both clusters for the offsets of all partitions of pairs. What a broker that is down would have answered is left out.
func ListEdges(ctx context.Context, sourceClient, targetClient *kgo.Client, pairs []Pair) (Edges, error) {
	var sources, targets []string
	for _, pair := range pairs {
		sources, targets = append(sources, pair.Source.Name), append(targets, pair.TargetName)
	}
	var e Edges
	var errs [4]error
	source, target := kadm.NewClient(sourceClient), kadm.NewClient(targetClient)
	e.sourceStart, errs[0] = source.ListStartOffsets(ctx, sources...)
	e.sourceEnd, errs[1] = source.ListEndOffsets(ctx, sources...)
	e.targetStart, errs[2] = target.ListStartOffsets(ctx, targets...)
	e.targetEnd, errs[3] = target.ListEndOffsets(ctx, targets...)
	for _, err := range errs {
		var shard *kadm.ShardErrors
		if err != nil && !errors.As(err, &shard) { // one broker that is down must not hold up the others' partitions
			return e, fmt.Errorf("list offsets: %w", err)
		}
	}
	return e, nil
}

// Of are the offsets of one partition; false if one of them is not known.
func (e Edges) Of(pair Pair, partition int32) (sourceStart, sourceEnd, targetStart, targetEnd int64, ok bool) {
	find := func(list kadm.ListedOffsets, topic string) int64 {
		o, found := list.Lookup(topic, partition)
		if !found || o.Err != nil {
			ok = false
			return -1
		}
		return o.Offset
	}
	ok = true
	sourceStart, sourceEnd = find(e.sourceStart, pair.Source.Name), find(e.sourceEnd, pair.Source.Name)
	targetStart, targetEnd = find(e.targetStart, pair.TargetName), find(e.targetEnd, pair.TargetName)
	return sourceStart, sourceEnd, targetStart, targetEnd, ok
}
