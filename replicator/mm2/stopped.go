package mm2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

const (
	// DeadWorker is for how long a Connect worker that was killed stays a member of its group: the session timeout, 10 s by default.
	DeadWorker = 15 * time.Second
	// A heartbeat comes each second by default.
	heartbeatsWatched = 5 * time.Second
	// How often a MirrorMaker 2 that still runs is looked for again.
	stoppedInterval = 100 * time.Millisecond
)

// RunningError says that MirrorMaker 2 still copies what the flow is to continue. Two copiers would both append.
type RunningError struct{ Flow, Sign string }

func (e *RunningError) Error() string {
	return fmt.Sprintf("flow %s: MirrorMaker 2 still runs: %s; stop it first, or start with --beside-mirrormaker if it is another one that does not copy these topics", e.Flow, e.Sign)
}

// AwaitStopped waits until MirrorMaker 2 does not work on the flow, for as long as a worker that was killed may look alive; after that it
// returns a *[RunningError]. Waiting is called with the reason before each pause. A cluster that does not answer is waited for.
func AwaitStopped(ctx context.Context, c client.Clusters, target *kgo.Client, limits *client.DialLimits, waiting func(error)) error {
	for began := time.Now(); ; {
		sign, err := running(ctx, c, target, limits)
		if err == nil && sign == "" {
			return nil
		}
		if err == nil {
			err = &RunningError{c.Flow.Name, sign}
		}
		waiting(err)
		if _, runs := errors.AsType[*RunningError](err); runs && time.Since(began) > DeadWorker {
			return err
		}
		if err := client.Sleep(ctx, stoppedInterval); err != nil {
			return err
		}
	}
}

// running says by which sign MirrorMaker 2 is seen at work, empty if by none: the Connect group of its dedicated mode has members, or, before
// this flow has written anything, somebody else writes the flow's heartbeats, as a MirrorMaker 2 does that a Connect cluster hosts.
func running(ctx context.Context, c client.Clusters, target *kgo.Client, limits *client.DialLimits) (string, error) {
	if sign, err := DedicatedRuns(ctx, target, c.Flow); err != nil || sign != "" {
		return sign, err
	}
	journal := offsets.JournalTopic(c.Flow.Name)
	written, err := kadm.NewClient(target).ListEndOffsets(ctx, journal)
	if err != nil {
		return "", fmt.Errorf("list offsets of %s on cluster %s: %w", journal, c.Flow.Target, err)
	}
	ours := false
	written.Each(func(o kadm.ListedOffset) { ours = ours || o.Offset > 0 })
	if ours || c.Flow.HeartbeatsInterval <= 0 {
		return "", nil
	}
	return watchHeartbeats(ctx, c, target, limits)
}

// watchHeartbeats waits for one of this flow's heartbeats. No clock is compared: a heartbeat that arrives now was written now.
func watchHeartbeats(ctx context.Context, c client.Clusters, target *kgo.Client, limits *client.DialLimits) (string, error) {
	ends, err := kadm.NewClient(target).ListEndOffsets(ctx, offsets.HeartbeatsTopic)
	if err != nil {
		return "", fmt.Errorf("list offsets of %s on cluster %s: %w", offsets.HeartbeatsTopic, c.Flow.Target, err)
	}
	end, ok := ends.Lookup(offsets.HeartbeatsTopic, 0)
	if !ok || end.Err != nil {
		return "", nil
	}
	options, err := client.Options(c.Target, limits, c.Log.With("client", "target"))
	if err != nil {
		return "", err
	}
	from := map[string]map[int32]kgo.Offset{offsets.HeartbeatsTopic: {0: kgo.NewOffset().At(end.Offset)}}
	consumer, err := kgo.NewClient(append(options, kgo.ConsumePartitions(from))...)
	if err != nil {
		return "", err
	}
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(ctx, max(heartbeatsWatched, min(3*c.Flow.HeartbeatsInterval, time.Minute)))
	defer cancel()
	for ctx.Err() == nil {
		records := consumer.PollFetches(ctx).Records()
		if slices.ContainsFunc(records, func(r *kgo.Record) bool {
			h, err := offsets.DecodeHeartbeat(r.Key, r.Value)
			return err == nil && h.Source == c.Flow.Source && h.Target == c.Flow.Target
		}) {
			return fmt.Sprintf("heartbeats of %s -> %s arrive on cluster %s", c.Flow.Source, c.Flow.Target, c.Flow.Target), nil
		}
	}
	return "", nil
}
