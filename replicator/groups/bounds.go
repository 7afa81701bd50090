package groups

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/topics"
)

// bounds are the log start and end offsets on the target in one sync. Starts are read at its beginning and ends when they are needed.
type bounds struct {
	client *kgo.Client
	alias  string
	starts [][]int64 // by topic number and partition; fixed after begin

	mu      sync.Mutex // held over requests: the other chunks need the same answers
	byTopic map[string]topicBounds
}

// topicBounds are the bounds of one topic, by partition; -1 if one is not known.
type topicBounds struct{ start, end []int64 }

// begin reads the bounds of the topics that exist.
func (b *bounds) begin(ctx context.Context, known []topicMemory, view topics.View) error {
	b.byTopic = make(map[string]topicBounds)
	var names []string
	for _, t := range known {
		if view.ByName[t.name].Exists() {
			names = append(names, t.name)
		}
	}
	err := b.read(ctx, names)
	b.starts = make([][]int64, len(known))
	for i, t := range known {
		b.starts[i] = b.byTopic[t.name].start
	}
	return err
}

// startOf returns the log start of a partition as of begin, -1 if it is not known.
func (b *bounds) startOf(topic uint32, partition int32) int64 {
	if int(topic) >= len(b.starts) {
		return -1
	}
	return at(b.starts[topic], partition)
}

// continueAt returns where to continue in a partition on the target, if an offset is from before the map and the log has nothing from before it.
func (b *bounds) continueAt(ctx context.Context, tp offsets.TopicPartition, early *offsets.BeforeStartError) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.byTopic[tp.Topic]; !known {
		if err := b.read(ctx, []string{tp.Topic}); err != nil {
			return 0, err
		}
	}
	if offset, ok := early.Continue(at(b.byTopic[tp.Topic].start, tp.Partition)); ok {
		return offset, nil
	}
	return 0, early
}

func at(list []int64, partition int32) int64 {
	if int(partition) >= len(list) {
		return -1
	}
	return list[partition]
}

// read reads the bounds of topics. With an error, those of other topics may be there.
func (b *bounds) read(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil // kadm would list all topics
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	admin := kadm.NewClient(b.client)
	starts, startErr := admin.ListStartOffsets(ctx, names...)
	ends, endErr := admin.ListEndOffsets(ctx, names...)
	for _, name := range names {
		b.byTopic[name] = topicBounds{offsetsOf(starts[name]), offsetsOf(ends[name])}
	}
	if err := cmpErr(startErr, endErr); err != nil {
		return fmt.Errorf("list offsets of cluster %s: %w", b.alias, err)
	}
	return nil
}

func offsetsOf(listed map[int32]kadm.ListedOffset) []int64 {
	var list []int64
	for partition, o := range listed {
		if o.Err != nil || partition < 0 {
			continue
		}
		for int(partition) >= len(list) {
			list = append(list, -1)
		}
		list[partition] = o.Offset
	}
	return list
}

// clamp moves positions whose record was deleted to the log start of the partition: out of range, a consumer would continue wherever its
// auto.offset.reset says. It refuses positions whose bounds are not known, and those past the end of a log that was truncated.
func (p *pass) clamp(ctx context.Context, positions []*position) error {
	b := &p.bounds
	b.mu.Lock()
	defer b.mu.Unlock()
	positions = notRefused(positions)
	err := b.read(ctx, topicsWhere(positions, func(q *position) bool {
		_, known := b.byTopic[q.target.Topic]
		return !known
	}))
	pastEnd := func(q *position) bool {
		return q.targetOffset > at(b.byTopic[q.target.Topic].end, q.target.Partition)
	}
	err = cmpErr(err, b.read(ctx, topicsWhere(positions, pastEnd))) // the copy may have grown since
	for _, q := range positions {
		of := b.byTopic[q.target.Topic]
		start, end := at(of.start, q.target.Partition), at(of.end, q.target.Partition)
		switch {
		case start < 0 || end < 0:
			q.refuse(policy.RefusedFailed, fmt.Sprintf("%s: the log bounds are not known (cluster %s)", q.target, b.alias))
		case pastEnd(q):
			q.refuse(policy.RefusedFailed, fmt.Sprintf("%s: %d is past the end of the log at %d (cluster %s)", q.target, q.targetOffset, end, b.alias))
		default:
			q.targetOffset = max(q.targetOffset, start)
		}
	}
	return err
}

// topicsWhere returns the topics on the target of the positions that fulfill a condition.
func topicsWhere(positions []*position, ok func(*position) bool) []string {
	var names []string
	for _, q := range positions {
		if n := len(names); (n == 0 || names[n-1] != q.target.Topic) && ok(q) {
			names = append(names, q.target.Topic)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// readLogStarts reads the log starts of the partitions of positions. With an error some may still be known.
func readLogStarts(ctx context.Context, client *kgo.Client, alias string, positions []*position) (offsets.LogStarts, error) {
	starts, err := offsets.ReadLogStarts(ctx, client, topicsWhere(positions, func(*position) bool { return true }))
	if err != nil {
		return starts, fmt.Errorf("list start offsets of cluster %s: %w", alias, err)
	}
	return starts, nil
}
