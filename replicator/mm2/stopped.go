package mm2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

const (
	// DeadWorker is how long AwaitStopped waits. A Connect worker that was killed stays a member of its group until its session times out,
	// after 10 s by default.
	DeadWorker = 15 * time.Second
	// How long to wait for a heartbeat at least. MirrorMaker 2 writes one each second by default.
	heartbeatWait = 5 * time.Second
	// The pause between two checks.
	stoppedInterval = 100 * time.Millisecond
)

// RunningError says that MirrorMaker 2 still copies what the flow is to continue. Both would append the same records.
type RunningError struct{ flow, evidence string }

func (e *RunningError) Error() string {
	return fmt.Sprintf("flow %s: MirrorMaker 2 still runs (%s); stop it first, or start with --beside-mirrormaker if it copies other topics", e.flow, e.evidence)
}

// AwaitStopped blocks until no MirrorMaker 2 works on the flow. If there is still evidence of one after [DeadWorker], it returns a
// *[RunningError]. Other errors, such as a cluster that does not answer, are retried until ctx ends. It calls waiting with the reason before
// each pause.
func AwaitStopped(ctx context.Context, c client.Clusters, target *kgo.Client, dials *client.Dials, waiting func(error)) error {
	for began := time.Now(); ; {
		evidence, err := running(ctx, c, target, dials)
		if err == nil && evidence == "" {
			return nil
		}
		if err == nil {
			err = &RunningError{c.Flow.Name, evidence}
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

// running returns evidence that MirrorMaker 2 works on the flow, empty if there is none: the Connect group of its dedicated mode has members,
// or another process writes the flow's heartbeats, as a MirrorMaker 2 on a Connect cluster does. Heartbeats only count as long as the flow's
// journal is empty: after that they may be milena's own.
func running(ctx context.Context, c client.Clusters, target *kgo.Client, dials *client.Dials) (string, error) {
	if evidence, err := DedicatedRuns(ctx, target, c.Flow); err != nil || evidence != "" {
		return evidence, err
	}
	if written, err := JournalIsWritten(ctx, target, c.Flow); err != nil || written || !c.Flow.Heartbeats {
		return "", err
	}
	return watchHeartbeats(ctx, c, target, dials)
}

// JournalIsWritten reports whether the flow's journal has records, so that the flow has run.
func JournalIsWritten(ctx context.Context, target *kgo.Client, f config.Flow) (bool, error) {
	journal := offsets.JournalTopic(f.Name)
	ends, err := kadm.NewClient(target).ListEndOffsets(ctx, journal)
	if err != nil {
		return false, fmt.Errorf("list offsets of %s on cluster %s: %w", journal, f.Target, err)
	}
	written := false
	ends.Each(func(o kadm.ListedOffset) { written = written || o.Offset > 0 })
	return written, nil
}

// watchHeartbeats waits for a heartbeat of this flow. It compares no clocks: a heartbeat that arrives now was written now.
func watchHeartbeats(ctx context.Context, c client.Clusters, target *kgo.Client, dials *client.Dials) (string, error) {
	ends, err := kadm.NewClient(target).ListEndOffsets(ctx, offsets.HeartbeatsTopic)
	if err != nil {
		return "", fmt.Errorf("list offsets of %s on cluster %s: %w", offsets.HeartbeatsTopic, c.Flow.Target, err)
	}
	end, ok := ends.Lookup(offsets.HeartbeatsTopic, 0)
	if !ok || end.Err != nil {
		return "", nil
	}
	options, err := client.Options(c.Target, dials, c.Log.With("client", "target"))
	if err != nil {
		return "", err
	}
	from := map[string]map[int32]kgo.Offset{offsets.HeartbeatsTopic: {0: kgo.NewOffset().At(end.Offset)}}
	consumer, err := kgo.NewClient(append(options, kgo.ConsumePartitions(from))...)
	if err != nil {
		return "", err
	}
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(ctx, max(heartbeatWait, min(3*c.Flow.HeartbeatsInterval, time.Minute)))
	defer cancel()
	ofFlow := func(r *kgo.Record) bool {
		h, err := offsets.DecodeHeartbeat(r.Key, r.Value)
		return err == nil && h.Source == c.Flow.Source && h.Target == c.Flow.Target
	}
	for ctx.Err() == nil {
		if slices.ContainsFunc(consumer.PollFetches(ctx).Records(), ofFlow) {
			return fmt.Sprintf("heartbeats of %s -> %s arrive on cluster %s", c.Flow.Source, c.Flow.Target, c.Flow.Target), nil
		}
	}
	return "", nil
}
