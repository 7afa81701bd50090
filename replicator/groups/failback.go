package groups

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// failback translates positions in topics that were copied from this flow's target back to the original topics there. The map is the journal
// of the flow in the other direction (the reverse flow), which is on this flow's source: a group that failed over and consumed there
// continues at the right record when it returns.
type failback struct {
	deps        *Deps
	origins     *origins
	checkpoints *offsets.Client          // for those of the reverse flow; nil until opened
	placed      map[groupPartition]int64 // where the reverse flow has put groups, by its target partition
}

func newFailback(d *Deps) *failback { return &failback{deps: d, origins: newOrigins(d)} }

// translate translates positions and leaves out those without an original partition on the target, and those that the reverse flow put.
func (f *failback) translate(ctx context.Context, now views, positions []*position) []*position {
	f.origins.begin()
	positions = slices.DeleteFunc(positions, func(p *position) bool { return !f.translateOne(ctx, now, p) })
	if len(positions) == 0 {
		return nil
	}
	return f.withoutPlaced(ctx, positions)
}

// translateOne returns false if the position has no original partition on the target.
func (f *failback) translateOne(ctx context.Context, now views, p *position) bool {
	journal, state, err := f.origins.find(ctx, now, p.source)
	switch {
	case err != nil:
		p.target = p.source // the original is not known
		p.refuse(policy.RefusedFailed, fmt.Sprintf("%s: %v", p.source, err))
		return true
	case journal == nil:
		return false
	}
	p.target = offsets.TopicPartition{Topic: state.Topic, Partition: state.Partition}
	if !now.target.Has(state.Topic, state.SourceTopicID) || !now.source.Has(p.source.Topic, state.TargetTopicID) {
		p.refuse(policy.RefusedRecreated, fmt.Sprintf("%s or %s was recreated: it is not the topic that the journal describes", p.source, p.target))
		return true
	}
	t, err := journal.Reverse(ctx, state.Topic, state.Partition, p.sourceOffset)
	t, err = t.UpToEnd(err) // the journal is a moment behind, or what follows is not a copy
	p.translated(t.Source, err)
	return true
}

// withoutPlaced leaves out positions that the reverse flow committed itself: nobody has consumed there, so the group's offset in the original
// topic counts, even if the group was moved back there.
func (f *failback) withoutPlaced(ctx context.Context, positions []*position) []*position {
	checkpoints, err := f.readCheckpoints(ctx)
	var none *offsets.NoCheckpointsError
	switch {
	case errors.As(err, &none):
		return positions
	case err != nil:
		for _, p := range positions {
			p.refuse(policy.RefusedFailed, fmt.Sprintf("%s: cannot read the checkpoints of %s: %v", p.source, f.deps.Flow.Target, err))
		}
		return positions
	}
	newest := make(map[groupPartition]int64, len(checkpoints))
	for _, c := range checkpoints {
		newest[groupPartition{c.Group, offsets.TopicPartition{Topic: c.Topic, Partition: c.Partition}}] = c.Target
	}
	placed := make(map[groupPartition]int64)
	positions = slices.DeleteFunc(positions, func(p *position) bool {
		key := groupPartition{p.group, p.source}
		now, known := newest[key]
		before, remembered := f.placed[key] // the checkpoint may have changed since: the group was moved back in the original topic
		if known && now == p.sourceOffset || remembered && before == p.sourceOffset {
			placed[key] = p.sourceOffset
			return true
		}
		return false
	})
	f.placed = placed
	return positions
}

// readCheckpoints reads the newest checkpoints of the reverse flow.
func (f *failback) readCheckpoints(ctx context.Context) ([]offsets.WrittenCheckpoint, error) {
	if f.checkpoints == nil {
		client, err := offsets.Open(ctx, offsets.Options{Client: f.deps.SourceClient, Names: f.deps.InternalTopics(), MaxAge: time.Nanosecond, Log: f.deps.Log})
		if err != nil {
			return nil, err
		}
		f.checkpoints = client
	}
	return f.checkpoints.Checkpoints(ctx, f.deps.Flow.Target)
}
