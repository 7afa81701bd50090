package membership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// SessionTimeout is how long the coordinator waits for a member that does not answer before it gives the member's shards to others. It is the
	// shortest that brokers allow by default (group.min.session.timeout.ms).
	SessionTimeout = 6 * time.Second
	// RebalanceTimeout is how long the coordinator waits for the members to join again, for which they hand shards over, and about how long the client
	// waits for the response to a join: on a connection that is dead, nothing else ends that wait.
	rebalanceTimeout = 6 * time.Second
	// HeartbeatInterval is also how late an instance learns that another one has come or gone, and for so long the shards that move stand still.
	heartbeatInterval = 400 * time.Millisecond
)

// Config is what a member needs. All fields are required.
type Config struct {
	// Options are those of a client of the target.
	Options []kgo.Opt
	// Cluster is the alias of the target, for errors.
	Cluster string
	// Group is the consumer group and Topic the journal, whose partitions are the shards.
	Group, Topic string
	// Instance is the id of this instance (group.instance.id, KIP-345): the same one after a restart, and no other process has it.
	Instance string
	// Info is what the others learn of this instance when it joins.
	Info func() Info
	// Assigned is called with all shards of this instance, after every rebalance. Of those that Info claimed, the others go to others when it returns.
	Assigned func(shards []int32)
	// Settled is called after Assigned, when Confirm can confirm what was assigned. It must not block.
	Settled func()
	// Revoked is called with the shards that the group takes away. They go to others when it returns.
	Revoked func(shards []int32)
	// Lost is called once, when the coordinator has removed this instance, so that others may have its shards already. The member must be closed then. With
	// FENCED_INSTANCE_ID, another process may have joined with the same id.
	Lost func(err error)
	// Failed is called with an error after which this instance cannot be a member. A retry does not help.
	Failed func(err error)
	// Retried is called with any other error, after which this instance joins again: once per reason, until it is assigned shards.
	Retried func(err error)
	// Log gets that it has joined again.
	Log *slog.Logger
}

// Member is this process as a member of the group. Create it with [Join].
type Member struct {
	cfg    Config
	client *kgo.Client
	cancel context.CancelFunc
	ended  <-chan struct{} // closed when the client has ended
	plans  *assignor

	mu       sync.Mutex
	id       string // the member id under which the shards were assigned, empty if none are
	shards   map[int32]bool
	leaving  bool
	over     bool            // this process is no member any more, and does not become one
	failures int             // of attempts to join or to stay
	reasons  map[string]bool // of the failures since the group last assigned
}

// Join begins to join the group and does not wait for it. The membership ends with ctx.
func Join(ctx context.Context, cfg Config) (*Member, error) {
	m := newMember(cfg)
	ctx, m.cancel = context.WithCancel(ctx)
	m.ended = ctx.Done()
	var err error
	m.client, err = kgo.NewClient(append(slices.Clone(cfg.Options), kgo.WithContext(ctx),
		kgo.ConsumerGroup(cfg.Group), kgo.ConsumeTopics(cfg.Topic), kgo.InstanceID(cfg.Instance), kgo.Balancers(m.plans),
		kgo.SessionTimeout(SessionTimeout), kgo.RebalanceTimeout(rebalanceTimeout), kgo.HeartbeatInterval(heartbeatInterval), kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(m.onAssigned), kgo.OnPartitionsRevoked(m.onRevoked), kgo.OnPartitionsLost(m.onLost),
		kgo.WithHooks(manageErrors{m}), kgo.WithLogger(kgo.BasicLogger(io.Discard, kgo.LogLevelNone, nil)), // fail reports what matters
	)...)
	if err != nil {
		m.cancel()
		return nil, err
	}
	m.client.PauseFetchTopics(cfg.Topic) // the group assigns; nothing is consumed
	return m, nil
}

func newMember(cfg Config) *Member {
	return &Member{cfg: cfg, plans: newAssignor(cfg.Info), shards: make(map[int32]bool), reasons: make(map[string]bool)}
}

func (m *Member) onAssigned(_ context.Context, cl *kgo.Client, added map[string][]int32) {
	id, _ := cl.GroupMetadata()
	m.mu.Lock()
	for _, k := range added[m.cfg.Topic] {
		m.shards[k] = true
	}
	all, leaving, failed := slices.Sorted(maps.Keys(m.shards)), m.leaving, len(m.reasons) > 0
	clear(m.reasons)
	m.mu.Unlock()
	if leaving {
		return
	}
	if failed {
		m.cfg.Log.Info("joined the group again", "group", m.cfg.Group)
	}
	m.cfg.Assigned(all)
	m.mu.Lock()
	m.id = id // only now: until then, something may be held that is not assigned
	m.mu.Unlock()
	m.cfg.Settled()
	if slices.ContainsFunc(m.plans.claimed, func(k int32) bool { return !slices.Contains(all, k) }) {
		cl.ForceRebalance() // the group has assigned them to nobody as long as they are claimed
	}
}

func (m *Member) onRevoked(_ context.Context, _ *kgo.Client, revoked map[string][]int32) {
	if shards := m.remove(revoked); len(shards) > 0 {
		m.cfg.Revoked(shards)
	}
}

// onLost is called for every error of the session, also if the coordinator cannot be reached. Then this instance is still a member. It goes on as long
// as its lease holds, and joins again with the claim of what it holds. Fail gets the error and decides.
func (m *Member) onLost(context.Context, *kgo.Client, map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id = "" // a heartbeat of the next member id says nothing about what the last one held
	clear(m.shards)
}

// remove takes shards from this instance. It returns none while it leaves: its shards are released by then.
func (m *Member) remove(partitions map[string][]int32) []int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	shards := partitions[m.cfg.Topic]
	for _, k := range shards {
		delete(m.shards, k)
	}
	if m.leaving {
		return nil
	}
	return shards
}

// errNotAssigned means that there is nothing to confirm: the group has assigned nothing yet, or this instance joins it again.
var errNotAssigned = errors.New("the group has not assigned shards to this instance")

// Confirm asks the coordinator whether this process is still the member to which the shards were assigned. If so, no other member has had any of
// them until the request was sent: a shard goes to another member only after Revoked returned, or after the coordinator has removed this one.
//
// A member id belongs to one stay in the group. So a heartbeat with the id under which the shards were assigned proves it, in any generation.
func (m *Member) Confirm(ctx context.Context) error {
	m.mu.Lock()
	assigned := m.id
	m.mu.Unlock()
	id, generation := m.client.GroupMetadata()
	if assigned == "" || id != assigned {
		return errNotAssigned
	}
	request := kmsg.NewPtrHeartbeatRequest()
	request.Group, request.MemberID, request.Generation, request.InstanceID = m.cfg.Group, id, generation, &m.cfg.Instance
	response, err := request.RequestWith(ctx, m.client)
	if err != nil {
		return err
	}
	err = kerr.ErrorForCode(response.ErrorCode)
	if errors.Is(err, kerr.RebalanceInProgress) {
		return nil // it is a member, and is asked to join again
	}
	if errors.Is(err, kerr.FencedInstanceID) || errors.Is(err, kerr.UnknownMemberID) {
		go m.fail(err) // whoever asks may hold what Lost waits for
	}
	return err
}

// manageErrors receives the errors of the client's membership, after which it tries again.
type manageErrors struct{ *Member }

// OnGroupManageError implements kgo.HookGroupManageError.
func (m manageErrors) OnGroupManageError(err error) { m.fail(err) }

// fail reports an error: as fatal if a retry cannot help. Of an outage, it reports each reason once.
func (m *Member) fail(err error) {
	removed := errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.FencedInstanceID)
	explained := m.explain(err)
	m.mu.Lock()
	over, known := m.leaving || m.over, m.reasons[reasonOf(err)]
	m.over = m.over || removed || explained != nil
	m.reasons[reasonOf(err)] = true
	m.failures++
	m.mu.Unlock()
	switch {
	case over || errors.Is(err, context.Canceled):
	case explained != nil:
		m.cfg.Failed(explained)
	case removed:
		m.cancel() // or the client joins again, and replaces another process that has joined with the same id
		m.cfg.Lost(err)
	case !known:
		m.cfg.Retried(err)
	}
}

// reasonOf is the same text for two errors with the same reason. The text of a network error has a local port, which differs each time, and the
// address of a broker.
func reasonOf(err error) string {
	if code, ok := errors.AsType[*kerr.Error](err); ok {
		return code.Message
	}
	if network, ok := errors.AsType[*net.OpError](err); ok {
		return network.Op + ": " + network.Err.Error()
	}
	return err.Error()
}

// explain returns what to do about an error after which a retry does not help, nil for all others.
func (m *Member) explain(err error) error {
	c := m.cfg
	switch {
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		return fmt.Errorf("the instances in group %s on cluster %s do not understand this version, whose protocol is %s; stop them first, or run their version: %w",
			c.Group, c.Cluster, Protocol, err)
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return fmt.Errorf("join group %s on cluster %s: %w; grant READ on group %s (prefix milena.) to milena's principal, or set instances: one and run one process",
			c.Group, c.Cluster, err, c.Group)
	case errors.Is(err, kerr.InvalidSessionTimeout):
		return fmt.Errorf("join group %s on cluster %s with a session timeout of %v: %w; allow it with group.min.session.timeout.ms, or set instances: one and run one process",
			c.Group, c.Cluster, SessionTimeout, err)
	case errors.Is(err, kerr.GroupMaxSizeReached):
		return fmt.Errorf("join group %s on cluster %s: %w; run fewer instances, or raise group.max.size", c.Group, c.Cluster, err)
	}
	return nil
}

// LeaveTimeout is how long Leave may block: until a join is complete, for which the other members have the rebalance timeout, and a little longer.
const LeaveTimeout = rebalanceTimeout + time.Second

// errNotJoined means that the group did not complete the join in time.
var errNotJoined = errors.New("the group did not tell the member id of this instance in time")

// Leave leaves the group, so that the shards of this instance go to others at once. They must be given up before. A member that just ends keeps its
// place until the session timeout (KIP-345), for the case that it comes back. The request is sent with a client of the target, and names the member, so
// that it does not remove another process with the same instance id.
//
// A member that still joins learns its id when the join is complete. Until then it waits: the group gives shards to it, gone or not.
func (m *Member) Leave(ctx context.Context, with *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, LeaveTimeout)
	defer cancel()
	if !m.beginEnd() {
		return nil
	}
	id := m.awaitID(ctx)
	m.close()
	switch {
	case id != "":
		return m.leaveAs(ctx, id, with)
	case m.isOver():
		return nil
	}
	return errNotJoined
}

// awaitID returns the member id, once the coordinator has told it; empty if it does not.
func (m *Member) awaitID(ctx context.Context) string {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	failures := m.failed()
	for {
		if id, _ := m.client.GroupMetadata(); id != "" || m.isOver() || m.failed() > failures {
			return id
		}
		select {
		case <-ctx.Done():
			return ""
		case <-m.ended:
			return ""
		case <-tick.C:
		}
	}
}

func (m *Member) isOver() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.over
}

// failed counts the attempts to join that have failed.
func (m *Member) failed() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failures
}

func (m *Member) leaveAs(ctx context.Context, id string, with *kgo.Client) error {
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group = m.cfg.Group
	leaver := kmsg.NewLeaveGroupRequestMember()
	leaver.MemberID, leaver.InstanceID, leaver.Reason = id, &m.cfg.Instance, kmsg.StringPtr("the instance was stopped")
	request.Members = append(request.Members, leaver)
	response, err := request.RequestWith(ctx, with)
	if err != nil {
		return err
	}
	err = kerr.ErrorForCode(response.ErrorCode)
	for _, r := range response.Members {
		err = errors.Join(err, kerr.ErrorForCode(r.ErrorCode))
	}
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.FencedInstanceID) {
		return nil // it is not in the group any more
	}
	return err
}

// Close ends the membership and keeps its place in the group until the session timeout.
func (m *Member) Close() {
	if m.beginEnd() {
		m.close()
	}
}

// beginEnd ends what the member does for the flow. It reports whether it did, which it does once.
func (m *Member) beginEnd() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.leaving
	m.leaving = true
	return !before
}

// close ends the client, so that it does not join again.
func (m *Member) close() {
	m.cancel() // or Close would wait for the end of a rebalance
	m.client.Close()
}
