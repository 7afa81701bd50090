package replicator

import (
	"context"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// startHeartbeats writes MirrorMaker 2's heartbeats, to both clusters: "this flow writes here" to the target, and the same of the way back
// to the source, as the heartbeat connector of the reverse pair does in MirrorMaker 2's dedicated mode. The one on the source is copied
// like any topic, so that `<source>.heartbeats` on the target tells how old the copy is, and Java's MirrorClient counts hops by its name.
func (f *Flow) startHeartbeats(ctx context.Context) {
	if f.config.HeartbeatsInterval <= 0 {
		return
	}
	f.background.Go(func() { f.heartbeatsLoop(ctx, f.heartbeats.target, f.sourceAlias, f.targetAlias) })
	f.background.Go(func() { f.heartbeatsLoop(ctx, f.heartbeats.source, f.targetAlias, f.sourceAlias) })
}

// heartbeats are the two topics; a cluster that hangs does not hold up the heartbeats of the other one.
type heartbeats struct{ source, target *notebook }

func (f *Flow) heartbeatsLoop(ctx context.Context, n *notebook, from, to string) {
	tick := time.NewTicker(f.config.HeartbeatsInterval)
	defer tick.Stop()
	for {
		if f.mayKeepBooks() {
			now := time.Now()
			_ = n.write(ctx, now, []note{offsets.Heartbeat{Source: from, Target: to, At: now}}) // the notebook says what is wrong
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// mayKeepBooks says whether this process does the work that needs one doer: that of the owner of shard 0, for as long as it is sure of it.
func (f *Flow) mayKeepBooks() bool { return f.shards[0].ownership.isOwned() && f.lease.left() > 0 }
