package groups

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/topics"
)

// Syncer keeps the consumer groups of the source in step on the target: it translates their committed offsets, writes checkpoints and
// offset-syncs, and commits. Create it with [New].
type Syncer struct {
	deps        *Deps
	rules       *policy.Groups
	journal     *offsets.Journal // the flow's own, for copies that other processes have, and for offsets that are older than the maps in memory
	memory      *memory
	lineage     *lineage
	adoptions   *adoptions
	reverse     []*reverseFlow
	checkpoints *checkpoints // nil if they are off
	offsetSyncs *offsetSyncs // nil if they are off
	report      *report
	unused      *topics.Unused  // items of the group lists
	atStart     map[string]bool // the groups of the first sync, if the flow does not look for new ones

	// next is the group that the next sync begins with: the one before ran out of time there. Round is when the first sync began that
	// covers all groups together with those after it.
	next  string
	round time.Time
	alone time.Time // when a process that does not lead last wrote offset-syncs

	committing atomic.Int32 // chunks that may be committing on the target
}

// IsCommitting reports whether commits on the target may be under way. If not, none follow as long as [Deps.Paused] reports true.
func (s *Syncer) IsCommitting() bool { return s.committing.Load() > 0 }

// New compiles the flow's group selection. It does no I/O.
func New(d Deps) (*Syncer, error) {
	rules, err := policy.NewGroups(d.Flow)
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", d.Flow.Name, err)
	}
	s := &Syncer{
		deps: &d, rules: rules, memory: newMemory(),
		journal:     offsets.NewJournal(d.TargetClient, offsets.JournalTopic(d.Flow.Name), offsets.JournalOptions{Memory: journalMemory, Log: d.Log}),
		checkpoints: newCheckpoints(&d),
		offsetSyncs: newOffsetSyncs(&d),
		report:      &report{metrics: &d.Metrics},
		unused:      topics.NewUnused(rules.Unused, d.Log),
	}
	s.lineage, s.adoptions = newLineage(s), newAdoptions()
	if s.reverse, err = newReverseFlows(&d, rules); err != nil {
		return nil, err
	}
	return s, nil
}

// journalMemory bounds the memory for parts of the maps, in bytes: the older ones, which only groups that are far behind need, and the newest ones
// of copies that other processes have. Of a dense copy that is some 200 bytes. What does not fit is read again for each position that needs it.
const journalMemory = 32 << 20

// firstSync is the maximum wait before the first sync, because MirrorMaker 2's interval of a minute is long for a user who has just started
// the flow. Much earlier, many offsets would be above the end of a copy that has just begun, and be held back until the next sync.
const firstSync = 5 * time.Second

// pausedWait is how soon a sync begins again that was paused.
const pausedWait = 200 * time.Millisecond

// Run syncs at the flow's interval until ctx ends, whenever this process leads. When it does not lead, it only writes the offset-syncs of its own
// copies.
func (s *Syncer) Run(ctx context.Context) {
	soon := min(firstSync, s.deps.Flow.GroupsInterval)
	for wait := soon; s.adoptions.sleep(ctx, wait) == nil; {
		wait = soon
		if !s.deps.Host.Leads() {
			s.lineage.lost()
			s.syncAlone(ctx)
			continue
		}
		if s.deps.Paused != nil && s.deps.Paused() {
			wait = pausedWait
			continue
		}
		s.syncAndCount(ctx)
		if wait = s.deps.Flow.GroupsInterval; s.next != "" {
			wait = 0
		}
	}
}

// syncAlone does what a process that does not lead does at the flow's interval.
func (s *Syncer) syncAlone(ctx context.Context) {
	if time.Since(s.alone) >= s.deps.Flow.GroupsInterval {
		s.alone = time.Now()
		s.offsetSyncs.write(ctx)
	}
}

// Journal returns the reader of the flow's journal, so that others need no second one, with another copy of what it keeps.
func (s *Syncer) Journal() *offsets.Journal { return s.journal }

// errOutOfTime means that a sync did not reach all groups. The next one goes on where it was.
var errOutOfTime = errors.New("the sync ran out of time, and the next one goes on where it was")

func (s *Syncer) syncAndCount(ctx context.Context) {
	traced, end := s.deps.Span(ctx, "sync groups")
	err := s.sync(traced)
	end(err)
	result := "done"
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, errOutOfTime):
		result = "partial"
	case err != nil:
		result = "failed"
		s.deps.Warn("group sync failed, retrying", "err", err)
	}
	s.deps.Metrics.Syncs.WithLabelValues(result).Inc()
}

// sync syncs the groups once, as far as the time allows. What one group or one broker refuses does not keep the others from being synced.
func (s *Syncer) sync(ctx context.Context) error {
	return s.syncUntil(ctx, time.Now().Add(max(30*time.Second, s.deps.Flow.GroupsInterval)))
}

func (s *Syncer) syncUntil(ctx context.Context, until time.Time) error {
	began := time.Now()
	if !s.deps.Flow.GroupsSync && s.checkpoints == nil {
		s.offsetSyncs.write(ctx)
		return nil // no group's offset is written anywhere
	}
	p := &pass{Syncer: s, began: began, until: until}
	names, left, err := s.list(ctx)
	if beginErr := p.begin(ctx); beginErr != nil {
		err = errors.Join(err, beginErr)
		s.report.failed(err)
		return err
	}
	if s.next == "" {
		s.round = began
	}
	rest, _ := slices.BinarySearch(names, s.next)
	stopped := p.syncAll(ctx, names[rest:])
	s.offsetSyncs.write(ctx)
	err = errors.Join(err, p.failure())
	if s.next = stopped; stopped != "" {
		err = cmpErr(err, errOutOfTime)
	} else if err == nil {
		s.adoptions.endUnknown(names)
		err = s.lineage.prune(ctx, p, names)
	}
	s.report.set(Status{Groups: len(names), NotFollowed: left, LagRecords: p.lags(), LastPass: s.round, Took: time.Since(began).Seconds()}, s.memory.all(), err)
	return err
}

// cmpErr returns the first error that is not nil.
func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func isDenied(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed)
}

// Unused returns the items of the group lists that select nothing, empty where this process does not sync groups.
func (s *Syncer) Unused() []policy.UnusedItem {
	if !s.deps.Host.Leads() {
		return nil // what it knew is from when it did
	}
	return s.unused.Items()
}

// Status returns what the last sync found and why internal topics could not be written. More problems are added to it.
func (s *Syncer) Status(more ...string) *Status {
	status := s.report.get()
	status.Problems = slices.Concat(status.Problems, s.checkpoints.problems(), s.offsetSyncs.problems(), more)
	return &status
}
