package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/mm2"
)

// predecessor is the MirrorMaker 2 whose copies a flow goes on with: what it noted of its progress, read once when the first partition
// asks. It has ended before, so nothing changes any more.
type predecessor struct {
	flow *Flow

	mu       sync.Mutex
	progress *offsets.MirrorProgress // nil until read
}

// takesOver says whether copies that MirrorMaker 2 made are gone on with.
func (f *Flow) takesOver() bool { return f.config.TakeOver != "" }

// read gives the predecessor's notes.
func (d *predecessor) read(ctx context.Context) (*offsets.MirrorProgress, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.progress != nil {
		return d.progress, nil
	}
	f := d.flow
	progress, err := mm2.ReadProgress(ctx, f.options.Clusters, f.source, f.target)
	if err != nil {
		return nil, err
	}
	f.log.Info("found what MirrorMaker 2 noted of its progress", "positions", len(progress.Positions), "partitions_with_syncs", len(progress.Syncs), "unreadable", progress.Unreadable, "topic", f.config.TakeOver)
	d.progress = progress
	return progress, nil
}

// forward translates a source offset from before the migration with MirrorMaker 2's offset-syncs. False: no sync is old enough.
func (d *predecessor) forward(ctx context.Context, tp offsets.TopicPartition, source int64) (target int64, ok bool) {
	progress, err := d.read(ctx)
	if err != nil {
		d.flow.warn("read what MirrorMaker 2 noted", "err", err)
		return 0, false
	}
	return progress.Forward(tp, source)
}

const (
	// A Connect worker that was killed stays a member of its group for the session timeout, 10 s by default.
	deadWorker = 15 * time.Second
	// A heartbeat comes each second by default.
	heartbeatsWatched = 5 * time.Second
)

// predecessorRunsError says that MirrorMaker 2 still copies what the flow is to go on with. Two copiers would both append.
type predecessorRunsError struct{ flow, sign string }

func (e *predecessorRunsError) Error() string {
	return fmt.Sprintf("flow %s: MirrorMaker 2 still runs: %s; stop it first, or start with --beside-mirrormaker if that is another one that does not copy these topics", e.flow, e.sign)
}

// awaitPredecessor returns nil when nothing shows a MirrorMaker 2 at work on this flow. It waits as long as a killed one may look alive.
func (f *Flow) awaitPredecessor(ctx context.Context) error {
	if !f.takesOver() || f.options.BesideMirrorMaker {
		return nil
	}
	for began := time.Now(); ; {
		sign, err := f.predecessorRuns(ctx)
		if err == nil && sign == "" {
			f.problem.Store(nil)
			return nil
		}
		if err == nil {
			err = &predecessorRunsError{f.name, sign}
		}
		text := err.Error()
		f.problem.Store(&text)
		var runs *predecessorRunsError
		if errors.As(err, &runs) && time.Since(began) > deadWorker {
			return &fatalError{err}
		}
		f.warn("waiting for MirrorMaker 2 to end", "at_most", deadWorker, "err", err)
		if err := client.Sleep(ctx, refreshEvery); err != nil {
			return err
		}
	}
}

// predecessorRuns tells by which sign MirrorMaker 2 is seen at work, empty if by none: the Connect group of its dedicated mode has members, or,
// before this flow has written anything, somebody else writes the flow's heartbeats, as one does that a Connect cluster hosts.
func (f *Flow) predecessorRuns(ctx context.Context) (string, error) {
	if sign, err := mm2.DedicatedRuns(ctx, f.target, f.config); err != nil || sign != "" {
		return sign, err
	}
	written, err := kadm.NewClient(f.target).ListEndOffsets(ctx, f.journalTopic)
	if err != nil {
		return "", fmt.Errorf("list offsets of %s on cluster %s: %w", f.journalTopic, f.targetAlias, err)
	}
	ours := false
	written.Each(func(o kadm.ListedOffset) { ours = ours || o.Offset > 0 })
	if ours || f.config.HeartbeatsInterval <= 0 {
		return "", nil
	}
	return f.watchHeartbeats(ctx)
}

// watchHeartbeats looks whether somebody writes this flow's heartbeats now. No clock is asked: a heartbeat that arrives is a sign of life.
func (f *Flow) watchHeartbeats(ctx context.Context) (string, error) {
	ends, err := kadm.NewClient(f.target).ListEndOffsets(ctx, offsets.HeartbeatsTopic)
	if err != nil {
		return "", fmt.Errorf("list offsets of %s on cluster %s: %w", offsets.HeartbeatsTopic, f.targetAlias, err)
	}
	end, ok := ends.Lookup(offsets.HeartbeatsTopic, 0)
	if !ok || end.Err != nil {
		return "", nil
	}
	options, err := client.Options(f.options.Target, f.dials["target"], f.log.With("client", "target"))
	if err != nil {
		return "", err
	}
	from := map[string]map[int32]kgo.Offset{offsets.HeartbeatsTopic: {0: kgo.NewOffset().At(end.Offset)}}
	client, err := kgo.NewClient(append(options, kgo.ConsumePartitions(from))...)
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, max(heartbeatsWatched, min(3*f.config.HeartbeatsInterval, time.Minute)))
	defer cancel()
	for ctx.Err() == nil {
		records := client.PollFetches(ctx).Records()
		if slices.ContainsFunc(records, func(r *kgo.Record) bool {
			h, err := offsets.DecodeHeartbeat(r.Key, r.Value)
			return err == nil && h.Source == f.sourceAlias && h.Target == f.targetAlias
		}) {
			return fmt.Sprintf("heartbeats of %s -> %s arrive on cluster %s", f.sourceAlias, f.targetAlias, f.targetAlias), nil
		}
	}
	return "", nil
}
