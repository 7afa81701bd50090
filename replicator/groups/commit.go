package groups

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// maxCommits is the maximum number of commits of one chunk that are in flight.
const maxCommits = 16

// commit commits the positions of a chunk on the target, as far as milena may move them:
//
//	look    where do the groups stand there, and has milena put them there?
//	note    where they are going to be put, in the journal
//	look    again, because the first look is older than the note
//	commit
func (p *pass) commit(ctx context.Context, positions []*position) {
	positions = slices.DeleteFunc(notRefused(positions), func(q *position) bool { return q.unpublished })
	moving, confirmed := p.look(ctx, positions)
	if len(moving)+len(confirmed) == 0 {
		return
	}
	if err := p.lineage.note(ctx, slices.Concat(moving, confirmed)); err != nil {
		p.lineage.lost()
		p.fail(fmt.Errorf("note where groups are put: %w", err))
		unfinished(confirmed)
		refuseAll(moving, err)
		return
	}
	for _, q := range slices.Concat(moving, confirmed) {
		q.unnoted = false
	}
	moving, _ = p.look(ctx, moving)
	p.committing.Add(1) // before it is asked whether that may be
	defer p.committing.Add(-1)
	switch {
	case !p.deps.Host.Leads():
		p.fail(errNotLeading)
		unfinished(moving)
		return
	case p.deps.Paused != nil && p.deps.Paused(): // since this sync began: whoever stops the flow moves the groups next
		unfinished(moving)
		return
	}
	var work errgroup.Group
	work.SetLimit(maxCommits)
	for _, list := range byGroup(moving) {
		work.Go(func() error {
			p.deps.Metrics.Commits.Add(float64(commitGroup(ctx, p.deps.TargetClient, list)))
			return nil
		})
	}
	_ = work.Wait() // refusals say what failed
}

// byGroup groups positions, in order.
func byGroup(positions []*position) (lists [][]*position) {
	for _, q := range positions {
		if n := len(lists); n > 0 && lists[n-1][0].group == q.group {
			lists[n-1] = append(lists[n-1], q)
		} else {
			lists = append(lists, []*position{q})
		}
	}
	return lists
}

// look reads where the groups stand on the target. It returns the positions that may be moved, with what is to be noted of them, and those that
// were put where they were to be put, which is to be noted too. It refuses the others.
func (p *pass) look(ctx context.Context, positions []*position) (moving, confirmed []*position) {
	if len(positions) == 0 {
		return nil, nil
	}
	groups := byGroup(positions)
	listed, err := p.listing.get(ctx)
	if err != nil {
		p.fail(err)
		refuseAll(positions, err) // a group that is missing in an incomplete list may be active
		return nil, nil
	}
	var existing []string
	for _, list := range groups {
		if _, ok := listed[list[0].group]; ok {
			existing = append(existing, list[0].group)
		}
	}
	read := readCommits(ctx, p.deps.TargetClient, existing, true)
	for _, list := range groups {
		answer := read[list[0].group] // empty if the group does not exist
		if answer.err != nil {
			refuseAll(list, answer.err)
			continue
		}
		commits := answer.byPartition()
		for _, q := range list {
			switch may, changed := q.follow(listed[q.group], lookUp(commits, q.target)); {
			case may:
				moving = append(moving, q)
			case changed || q.unnoted:
				confirmed = append(confirmed, q)
			}
		}
	}
	return moving, confirmed
}

// follow decides about one position by what is committed on the target. It returns whether the position is to be committed, and whether what is
// to be noted of it has changed.
func (q *position) follow(listed kadm.ListedGroup, now committed) (may, changed bool) {
	if now.err != nil {
		refuseAll([]*position{q}, now.err)
		return false, false
	}
	group := policy.TargetGroup{Protocol: listed.ProtocolType, State: listed.State, Committed: now.at, Put: q.isPut(now.at)}
	may, why := group.Follow(q.targetOffset)
	if why != "" {
		q.refuse(why, fmt.Sprintf("%s: at %d, translated %d", q.target, now.at, q.targetOffset))
		return false, false
	}
	next := offsets.PlacedOffset{Partition: q.partition, Source: q.sourceOffset, Put: q.targetOffset, Before: now.at}
	if !group.Put && !may {
		return false, false // members committed it, and it is the translated one
	}
	changed = !q.placed || q.put != next.Put || q.before != next.Before
	if changed || may {
		q.placed, q.of, q.put, q.before = true, next.Source, next.Put, next.Before
	}
	q.unfinished = q.unfinished || may
	return may, changed
}

// isPut reports whether milena has put the group at an offset of the target.
func (q *position) isPut(at int64) bool {
	return at >= 0 && (q.adopted || q.placed && (at == q.put || at == q.before) || slices.Contains(q.handed, at))
}

// listing is the groups of the target, listed at most listingAge ago.
type listing struct {
	deps *Deps

	mu     sync.Mutex // held over the request: the other chunks need the same answer
	at     time.Time
	groups kadm.ListedGroups
}

// listingAge is short, because a group that becomes active must not be moved. The broker refuses such a commit too.
const listingAge = time.Second

// get returns the groups of the target, or an error if not all brokers answered.
func (l *listing) get(ctx context.Context) (kadm.ListedGroups, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) < listingAge {
		return l.groups, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	began := time.Now()
	listed, err := kadm.NewClient(l.deps.TargetClient).ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list groups of cluster %s: %w", l.deps.Flow.Target, err)
	}
	l.at, l.groups = began, listed
	return listed, nil
}

// Limits of one OffsetCommit request. The broker writes it as one batch to __consumer_offsets, which has max.message.bytes like any topic.
const (
	maxCommitPartitions = 1000
	maxCommitBytes      = 256 << 10
)

// commitGroup commits positions of one group, refuses those that the broker refuses, and returns how many were committed.
func commitGroup(ctx context.Context, client *kgo.Client, list []*position) (n int) {
	for len(list) > 0 {
		requested := make(kadm.Offsets)
		bytes, count := 0, 0
		for _, q := range list {
			bytes += len(q.group) + len(q.target.Topic) + len(q.metadata) + 100
			if count > 0 && (count == maxCommitPartitions || bytes > maxCommitBytes) {
				break
			}
			count++
			// No leader epoch: the one of the source means nothing here, and a wrong one would look like a truncated log (KIP-320).
			requested.Add(kadm.Offset{Topic: q.target.Topic, Partition: q.target.Partition, At: q.targetOffset, LeaderEpoch: -1, Metadata: q.metadata})
		}
		n += commitOffsets(ctx, client, list[:count], requested)
		list = list[count:]
	}
	return n
}

func commitOffsets(ctx context.Context, client *kgo.Client, list []*position, requested kadm.Offsets) (n int) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, err := kadm.NewClient(client).CommitOffsets(ctx, list[0].group, requested)
	if err != nil {
		refuseAll(list, err)
		return 0
	}
	for _, q := range list {
		if o, ok := answer.Lookup(q.target.Topic, q.target.Partition); !ok {
			refuseAll([]*position{q}, errors.New("the answer does not name the partition"))
		} else if o.Err != nil {
			refuseAll([]*position{q}, o.Err)
		} else {
			q.before, q.unnoted = q.put, true
			n++
		}
	}
	return n
}

// refuseAll refuses positions because a request about their group failed.
func refuseAll(list []*position, err error) {
	why := policy.RefusedFailed
	switch {
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.StaleMemberEpoch):
		why = policy.RefusedActive // it became active after it was listed
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed):
		why = policy.RefusedRights
	case errors.Is(err, kerr.OffsetMetadataTooLarge):
		why = policy.RefusedMetadata
	}
	for _, q := range list {
		q.refuse(why, fmt.Sprintf("%s: %v", q.target, err))
	}
}
