package groups

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// Syncer keeps the consumer groups of the source in step on the target: it translates their committed offsets, writes checkpoints and
// offset-syncs, and commits. Create it with [New].
type Syncer struct {
	deps        *Deps
	rules       *policy.Groups
	journal     *offsets.Journal // the flow's own, for offsets that are older than the maps in memory
	failback    *failback
	checkpoints *checkpoints
	offsetSyncs *offsetSyncs // nil if they are off
	report      *report
	atStart     map[string]bool // the groups of the first sync, if the flow does not look for new ones
}

// New compiles the flow's group selection. It does no I/O.
func New(d Deps) (*Syncer, error) {
	rules, err := policy.NewGroups(d.Flow)
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", d.Flow.Name, err)
	}
	return &Syncer{
		deps: &d, rules: rules,
		journal:     offsets.NewJournal(d.TargetClient, offsets.JournalTopic(d.Flow.Name), offsets.JournalOptions{Memory: journalMemory, Log: d.Log}),
		failback:    newFailback(&d),
		checkpoints: newCheckpoints(&d),
		offsetSyncs: newOffsetSyncs(&d),
		report:      &report{metrics: &d.Metrics},
	}, nil
}

// journalMemory bounds the memory for older parts of the maps, in bytes. Only groups that are far behind need them.
const journalMemory = 8 << 20

// firstSync is the maximum wait before the first sync, because MirrorMaker 2's interval of a minute is long for a user who has just started
// the flow. Much earlier, many offsets would be above the end of a copy that has just begun, and be held back until the next sync.
const firstSync = 5 * time.Second

// Run syncs at the flow's interval until ctx ends, whenever this process leads.
func (s *Syncer) Run(ctx context.Context) {
	soon := min(firstSync, s.deps.Flow.GroupsInterval)
	for wait := soon; client.Sleep(ctx, wait) == nil; {
		wait = soon
		if s.deps.Host.Leads() {
			s.syncAndCount(ctx)
			wait = s.deps.Flow.GroupsInterval
		}
	}
}

func (s *Syncer) syncAndCount(ctx context.Context) {
	err := s.sync(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.deps.Metrics.Syncs.WithLabelValues("failed").Inc()
		s.deps.Warn("group sync failed, retrying", "err", err)
	default:
		s.deps.Metrics.Syncs.WithLabelValues("done").Inc()
	}
}

// failbackTimeout is the maximum time of a failback within a sync.
const failbackTimeout = 10 * time.Second

// sync syncs all groups once. What one group or one broker refuses does not keep the others from being synced.
func (s *Syncer) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(30*time.Second, s.deps.Flow.GroupsInterval))
	defer cancel()
	began := time.Now()
	positions, count, err := s.read(ctx)
	// After the offsets: a topic that is recreated from here on has lost them, or has another id than the one seen here.
	now, viewErr := s.readViews(ctx)
	if viewErr != nil {
		err = errors.Join(err, viewErr)
		s.report.set(nil, count, began, err)
		return err
	}
	forward, back := s.byDirection(positions)
	s.translate(ctx, now, forward)
	err = errors.Join(err, s.publish(ctx, forward, began))
	s.offsetSyncs.write(ctx)
	// Last, and with a timeout of its own: it reads journals of other flows on the source.
	backCtx, cancelBack := context.WithTimeout(ctx, failbackTimeout)
	defer cancelBack()
	back = s.failback.translate(backCtx, now, back)
	err = errors.Join(err, s.publish(ctx, back, began))
	s.report.set(slices.Concat(forward, back), count, began, err)
	return err
}

// views is the metadata of both clusters at one moment of a sync.
type views struct{ source, target topics.View }

// readViews reads the metadata of both clusters, because what the flow saw last may be older than a topic.
func (s *Syncer) readViews(ctx context.Context) (views, error) {
	source, err := topics.Read(ctx, s.deps.SourceClient)
	if err != nil {
		return views{}, fmt.Errorf("cluster %s: %w", s.deps.Flow.Source, err)
	}
	target, err := topics.Read(ctx, s.deps.TargetClient)
	if err != nil {
		return views{}, fmt.Errorf("cluster %s: %w", s.deps.Flow.Target, err)
	}
	return views{source, target}, nil
}

// byDirection separates the positions in topics that the flow copies from those in topics that may be copies from the target. All others
// have no counterpart there.
func (s *Syncer) byDirection(positions []*position) (forward, back []*position) {
	for _, p := range positions {
		remote, reason := s.deps.Topics.Target(p.source.Topic)
		switch {
		case reason == "":
			p.target = offsets.TopicPartition{Topic: remote, Partition: p.source.Partition}
			forward = append(forward, p)
		case reason != policy.ReasonInternal:
			back = append(back, p)
		}
	}
	return forward, back
}

// publish writes checkpoints of translated positions and commits them on the target. The positions were read after began.
func (s *Syncer) publish(ctx context.Context, positions []*position, began time.Time) error {
	if len(positions) == 0 || !s.deps.Host.Leads() { // a sync may take long, and another process may lead now
		return nil
	}
	err := clampToLogStart(ctx, s.deps.TargetClient, s.deps.Flow.Target, positions)
	// The checkpoint is written before the commit: by it the flow in the other direction knows that nobody has consumed there. If milena has
	// no permission to write checkpoints at all, it commits without them.
	if s.deps.Flow.Checkpoints {
		if failed := s.checkpoints.write(ctx, positions, began); failed != nil && !isDenied(failed) {
			return err // the writer has reported why
		}
	}
	if s.deps.Flow.GroupsSync && s.deps.Host.Leads() {
		err = errors.Join(err, s.commit(ctx, positions))
	}
	return err
}

func isDenied(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed)
}

// Status returns what the last sync found and why internal topics could not be written. More problems are added to it.
func (s *Syncer) Status(more ...string) *Status {
	status := s.report.get()
	status.Problems = slices.Concat(status.Problems, s.checkpoints.problems(), s.offsetSyncs.problems(), more)
	return &status
}
