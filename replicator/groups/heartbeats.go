package groups

import (
	"context"
	"sync"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// Heartbeats writes MirrorMaker 2's heartbeats of a flow to both clusters: on the target that the flow writes there, on the source the same
// of the other direction, as the heartbeat connector of the reverse pair does in MirrorMaker 2's dedicated mode. The topic on the source is
// copied like any other, so that `<source>.heartbeats` on the target shows how old the copy is. Java's MirrorClient counts hops by its name.
type Heartbeats struct {
	deps           *Deps
	source, target *internalTopic
}

// NewHeartbeats does no I/O.
func NewHeartbeats(d Deps) *Heartbeats {
	return &Heartbeats{
		deps:   &d,
		source: newInternalTopic(&d, offsets.Source, offsets.HeartbeatsTopic),
		target: newInternalTopic(&d, offsets.Target, offsets.HeartbeatsTopic),
	}
}

// Run writes heartbeats until ctx ends, whenever this process leads. It returns at once if they are off. Each cluster has a loop of its own,
// so that one that does not answer does not delay the heartbeats of the other.
func (h *Heartbeats) Run(ctx context.Context) {
	if !h.deps.Flow.Heartbeats {
		return
	}
	var loops sync.WaitGroup
	loops.Go(func() { h.loop(ctx, h.target, h.deps.Flow.Source, h.deps.Flow.Target) })
	loops.Go(func() { h.loop(ctx, h.source, h.deps.Flow.Target, h.deps.Flow.Source) })
	loops.Wait()
}

func (h *Heartbeats) loop(ctx context.Context, topic *internalTopic, from, to string) {
	tick := time.NewTicker(h.deps.Flow.HeartbeatsInterval)
	defer tick.Stop()
	for {
		if h.deps.Host.Leads() && (h.deps.Stopped == nil || !h.deps.Stopped()) {
			now := time.Now()
			_, _ = topic.write(ctx, topic.id(), now, []record{offsets.Heartbeat{Source: from, Target: to, At: now}}) // the internal topic reports its errors
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Problems returns why heartbeats could not be written, at most one sentence per cluster.
func (h *Heartbeats) Problems() []string { return append(h.source.problems(), h.target.problems()...) }
