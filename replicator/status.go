package replicator

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// Status is a snapshot of a flow. It is served as JSON and printed as a table.
type Status struct {
	Flow   string `json:"flow"`
	Source string `json:"source"`
	Target string `json:"target"`
	// SourceClusterID and TargetClusterID are empty until the flow has connected to the cluster.
	SourceClusterID string `json:"source_cluster_id,omitempty"`
	TargetClusterID string `json:"target_cluster_id,omitempty"`
	// Ready means that every shard is owned and recovered, that everything that should be copied is begun, except what a cluster or a rule
	// refuses (NotCopied), and that the source answers for all of it. NotReady has the reasons if it is false.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready,omitempty"`
	// Instance is this process among those that run the flow. Everything below is about the shards that it holds.
	Instance InstanceStatus `json:"instance"`
	// Shards counts the shards that this instance holds, by state.
	Shards map[string]int `json:"shards"`
	// Records and Bytes are what the target acknowledged since the start of the process.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// NotCopied has the selected topics of the source that are not copied, or not completely, with the reason.
	NotCopied map[string]string `json:"not_copied,omitempty"`
	// Unused has the items of the flow's lists of topics and groups that select nothing. The lists of groups are looked at by the instance
	// that syncs groups.
	Unused []policy.UnusedItem `json:"unused,omitempty"`
	// Throttled has the brokers whose quotas throttled the flow within the last minute.
	Throttled []client.ThrottleStatus `json:"throttled,omitempty"`
	// LeaseRanOut says that the target has not confirmed lately that this instance owns its shards: nothing is sent until it does.
	LeaseRanOut bool `json:"lease_ran_out,omitempty"`
	// Latency is how long records took from their timestamps to the acknowledgement by the target, since the start of the process. It is what the histogram
	// among the metrics has, and not in the JSON.
	Latency Latencies `json:"-"`
	// Fence is what keeps an earlier owner of a shard from writing: transactions or lease.
	Fence string `json:"fence"`
	// Certificates are sentences about files of the TLS sections that cannot be used now, and about own certificates that expire soon.
	Certificates []string `json:"certificates,omitempty"`
	// Controllers are sentences about brokers that do not reach the active controller of their cluster.
	Controllers []string `json:"controllers,omitempty"`
	// ConfigRefused is why the process refuses its config file as it is now, empty if it does not. The config that it read before is in force. The flow does not
	// know it: who serves the status fills it in, for each flow the same.
	ConfigRefused string `json:"config_refused,omitempty"`
	// Control is what people decided about the flow, and whether they can.
	Control ControlStatus `json:"control"`
	// RPO is what a failover would lose.
	RPO offsets.RPO `json:"rpo"`
	// RTOObjectiveSeconds is how long a failover may take by the config, absent if it has no objective.
	RTOObjectiveSeconds float64 `json:"rto_objective_seconds,omitempty"`
	// Verify is the verification of the copies in the background, absent if the flow has none.
	Verify *VerifyStatus `json:"verify,omitempty"`
	// LagRecords is the sum over the partitions whose lag is known, null if none is. LagUnknown counts the others, without those that a cluster
	// or a rule refuses.
	LagRecords *int64            `json:"lag_records"`
	LagUnknown int               `json:"lag_unknown"`
	Partitions []PartitionStatus `json:"partitions"`
	Groups     *groups.Status    `json:"groups"`
	// Configs is absent before the first sync of topic configs. ACLs is absent if ACLs are not synced.
	Configs *topics.ConfigsStatus `json:"configs,omitempty"`
	ACLs    *topics.ACLsStatus    `json:"acls,omitempty"`
}

// PartitionStatus is a source partition and the progress of its copy. All offsets are exclusive ends.
type PartitionStatus struct {
	Topic       string `json:"topic"`
	TargetTopic string `json:"target_topic"`
	Partition   int32  `json:"partition"`
	Shard       int32  `json:"shard"`
	State       string `json:"state"`
	// Begun is false while the partition waits for something that milena must know before it can be copied. All offsets are 0 then.
	Begun bool `json:"begun"`
	// Wait is what the partition waits for, absent if it does not wait.
	Wait *WaitState `json:"wait,omitempty"`
	// SourceEnd is the end of the readable log on the source when the source last confirmed it, at SourceSeen. It is absent until known.
	SourceEnd  *int64    `json:"source_end,omitempty"`
	SourceSeen time.Time `json:"source_seen,omitzero"`
	// OpenTransactionRecords counts the records behind SourceEnd that cannot be read yet, because a transaction before them is open. It is the
	// high watermark less the last stable offset; with read_uncommitted it is absent.
	OpenTransactionRecords *int64 `json:"open_transaction_records,omitempty"`
	// OpenTransaction is that transaction, absent until the last stable offset has stood still for some seconds.
	OpenTransaction *OpenTransaction `json:"open_transaction,omitempty"`

	Next      int64 `json:"next"`
	Acked     int64 `json:"acked"`
	Journaled int64 `json:"journaled"`
	// TargetEnd is the target offset behind the last acknowledged record.
	TargetEnd int64 `json:"target_end"`
	// LagRecords, LagBytes and LagSeconds are null while the source has not confirmed its end for 20 s: then nobody knows the lag.
	LagRecords *int64 `json:"lag_records"`
	// LagBytes is an estimate: the lag in records times their mean size lately.
	LagBytes *int64 `json:"lag_bytes"`
	// LagSeconds is the age of the newest acknowledged record while there is lag, else 0. It is null before the first record.
	LagSeconds   *float64  `json:"lag_seconds"`
	LastProgress time.Time `json:"last_progress,omitzero"`
	// Paused is the decision by which the partition is not fetched, absent if there is none. Its state is paused then, unless it is not replicating.
	Paused  *DecisionStatus `json:"paused,omitempty"`
	Anomaly *AnomalyState   `json:"anomaly,omitempty"`
	// Verified is how far the copy was verified in the background, absent if nothing was.
	Verified *control.VerifiedStatus `json:"verified,omitempty"`
	// Gaps is the ledger of source offsets that were not copied as they should have been, oldest first.
	Gaps []GapState `json:"gaps,omitempty"`
}

// GapState is an entry of the gap ledger, which the journal keeps. It concerns the source offsets [From, To).
type GapState struct {
	Kind   string    `json:"kind"`
	Action string    `json:"action"`
	From   int64     `json:"from"`
	To     int64     `json:"to"`
	At     time.Time `json:"at"`
	Detail string    `json:"detail,omitempty"`
	// Merged is the number of other gaps that this one also stands for, because the ledger was full.
	Merged int `json:"merged,omitempty"`
}

// WaitState is what a partition waits for.
type WaitState struct {
	Reason WaitReason `json:"reason"`
	Detail string     `json:"detail"`
	// Since is absent if it is not known.
	Since time.Time `json:"since,omitzero"`
	// Final means that nothing changes until somebody acts, because a rule or an answer of a cluster forbids the copy.
	Final bool `json:"final,omitempty"`
}

// AnomalyState is why a partition is halted, and what to do about it. It concerns the offsets [From, To).
type AnomalyState struct {
	Kind   string    `json:"kind"`
	Detail string    `json:"detail"`
	Hint   string    `json:"hint"`
	From   int64     `json:"from"`
	To     int64     `json:"to"`
	Since  time.Time `json:"since"`
}

// Status returns a snapshot of the flow. It may be called at any time and blocks only briefly.
func (f *Flow) Status() Status {
	s := Status{
		Flow: f.config.Name, Source: f.config.Source, Target: f.config.Target,
		SourceClusterID: f.sourceID(), TargetClusterID: f.targetID(),
		Instance: f.instanceStatus(), Shards: make(map[string]int),
		Records: f.totals.records.Load(), Bytes: f.totals.bytes.Load(),
	}
	now, l := time.Now(), f.live()
	s.NotCopied = f.notCopied()
	s.Unused = append(l.unused.Items(), l.groups.Unused()...)
	c := f.addPartitionStatus(&s, now)
	s.RPO.Settle(l.RPO, now)
	if l.RTO != nil {
		s.RTOObjectiveSeconds = l.RTO.Seconds()
	}
	if s.Instance.Syncs || f.instance.how() == joining { // else another instance does that
		s.Groups, s.Configs, s.ACLs = l.groups.Status(l.heartbeats.Problems()...), f.configs.Load(), l.acls.Status()
	}
	s.Control, s.Verify = f.controls.status(now), f.verifying.status()
	s.Throttled = f.throttles.Status(now)
	s.Certificates, s.Fence = f.certificates(now), f.config.Fence
	s.Controllers = f.controllerProblems()
	s.NotReady = f.notReady(c, s.Shards, now)
	s.LeaseRanOut, s.Latency = f.leaseRanOut(s.Shards), f.metrics.latencies()
	s.Ready = len(s.NotReady) == 0
	return s
}

// certificates returns a sentence about each certificate that needs attention.
func (f *Flow) certificates(now time.Time) (sentences []string) {
	for _, text := range f.sourceDials.Certificates(now) {
		sentences = append(sentences, "cluster "+f.config.Source+": "+text)
	}
	for _, text := range f.targetDials.Certificates(now) {
		sentences = append(sentences, "cluster "+f.config.Target+": "+text)
	}
	return sentences
}

// census counts the partitions that keep a flow from being ready.
type census struct {
	unrecovered map[*shard][]*partition
	unseen      int        // begun partitions whose source end is not known
	example     *partition // the first of them
}

func newCensus() census { return census{unrecovered: make(map[*shard][]*partition)} }

// addState counts a partition by its state.
func (c *census) addState(p *partition, state state) {
	if !state.isRecovered() {
		c.unrecovered[p.shard] = append(c.unrecovered[p.shard], p)
	}
}

// addUnseen counts a partition whose source end is not known.
func (c *census) addUnseen(p *partition) {
	if c.unseen++; c.unseen == 1 {
		c.example = p
	}
}

// addPartitionStatus adds all wanted partitions, by topic and number, and the sum of their lags.
func (f *Flow) addPartitionStatus(s *Status, now time.Time) census {
	partitions := f.partitions()
	missing := f.unbegunPartitions()
	s.Partitions = make([]PartitionStatus, 0, len(partitions)+len(missing))
	c := newCensus()
	lag := int64(0)
	for _, p := range partitions {
		if b, ok := p.behind(); ok {
			s.RPO.Add(b)
		}
		ps, state, seen := p.status(now, f.isolation)
		ps.OpenTransaction, ps.Verified = f.standstills.of(p), f.verifying.of(p.source(), p.presentCopy())
		c.addState(p, state)
		if !seen {
			c.addUnseen(p)
		}
		if ps.LagRecords != nil {
			lag += *ps.LagRecords
		}
		s.Partitions = append(s.Partitions, ps)
	}
	if s.LagUnknown = c.unseen; s.LagUnknown < len(partitions) || len(partitions) == 0 && !f.topology.isFirstSync() {
		s.LagRecords = &lag
	}
	unbegun := 0
	if len(missing) > 0 {
		for tp, u := range missing {
			s.Partitions = append(s.Partitions, u.status(tp, f.config.Shards))
			if !u.final {
				unbegun++
			}
			if u.isWanting() {
				s.RPO.AddUnknown(tp.Topic)
			}
		}
		slices.SortFunc(s.Partitions, func(a, b PartitionStatus) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
	}
	s.LagUnknown += unbegun
	return c
}

// NotReady returns Status().NotReady, without the rest of the status, which takes far longer with many partitions.
func (f *Flow) NotReady() []string {
	now := time.Now()
	c := newCensus()
	for _, p := range f.partitions() {
		p.mu.Lock()
		state, seen := p.state, p.isSourceSeen(now)
		p.mu.Unlock()
		c.addState(p, state)
		if !seen {
			c.addUnseen(p)
		}
	}
	return f.notReady(c, make(map[string]int), now)
}

// notReady returns why the flow is not ready, nil if it is. It counts the shards by state into states.
func (f *Flow) notReady(c census, states map[string]int, now time.Time) []string {
	var reasons []string
	if err := f.failed(); err != nil {
		return []string{"the flow has ended: " + err.Error()}
	}
	if text := f.problem.Load(); text != nil {
		reasons = append(reasons, *text)
	}
	if f.isStopped() { // it has nothing to do, so nothing keeps it from that
		return reasons
	}
	if failure := f.syncFailure.Load(); failure != nil && (f.topology.isFirstSync() || now.Sub(failure.since) > settleBegin) {
		reasons = append(reasons, "topics cannot be synced: "+failure.text)
	}
	if f.instance.how() == joining {
		text := fmt.Sprintf("waiting until group %s on cluster %s assigns shards to this instance", f.instance.group, f.config.Target)
		if problem := f.instance.problem.Load(); problem != nil {
			text += ": " + *problem
		}
		reasons = append(reasons, text)
	}
	reasons = append(reasons, f.notBegun(now)...)
	if c.unseen > 0 {
		reasons = append(reasons, fmt.Sprintf("the lag is not known of %s, such as %s: %s", counted(c.unseen, "partition"), c.example, f.whyUnseen(c.example)))
	}
	for _, s := range f.held.all() {
		problem := s.getProblem()
		switch left := c.unrecovered[s]; {
		case !s.ownership.isOwned():
			states["starting"]++
		case len(left) > 0:
			states["recovering"]++
			if problem == "" {
				problem = fmt.Sprintf("shard %d: the takeover still recovers %s", s.number, counted(len(left), "partition")) + f.leaderless(left)
			}
		default:
			states["owned"]++
			continue
		}
		if problem != "" {
			reasons = append(reasons, problem)
		}
	}
	if n := states["starting"]; n > 0 {
		reasons = append(reasons, fmt.Sprintf("%d of %d shards are not owned yet", n, len(f.held.all())))
	}
	if f.leaseRanOut(states) {
		reasons = append(reasons, "the lease ran out: ownership could not be confirmed, and nothing is sent until it is")
	}
	return reasons
}

// leaseRanOut reports whether nothing is sent because the lease ran out, by the number of shards in each state. A flow that a quota throttles is healthy.
func (f *Flow) leaseRanOut(states map[string]int) bool {
	return !f.isStopped() && !f.lease.holds() && states["starting"] == 0 && f.instance.how() != joining && !f.throttles.Active("target")
}

// leaderless says which of the partitions that a takeover recovers cannot be, because no broker leads the copy. It is empty if there is none.
func (f *Flow) leaderless(left []*partition) string {
	for _, p := range left {
		p.mu.Lock()
		leader := p.targetLeader
		p.mu.Unlock()
		if leader < 0 {
			return fmt.Sprintf(", such as %s: %s", p, noTargetLeader(f.config.Target))
		}
	}
	return ""
}

func noTargetLeader(alias string) string {
	return fmt.Sprintf("no broker of the target, cluster %s, leads the copy", alias)
}

// status describes the partition. It also returns its state, and whether the end of the source is known.
func (p *partition) status(now time.Time, isolation int8) (s PartitionStatus, state state, seen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s = PartitionStatus{
		Topic: p.topic.source, TargetTopic: p.topic.target, Partition: p.number, Shard: p.shard.number, State: p.stateNameLocked(), Begun: true,
		Wait: p.waitState(), Next: p.next, Acked: p.acked, Journaled: p.journaled, TargetEnd: p.targetEnd,
		LastProgress: p.lastProgress, SourceSeen: p.sourceSeen, Anomaly: p.anomaly.state(p), Gaps: p.progress.gaps(), Paused: statusOf(p.pause),
	}
	if p.sourceEnd < 0 {
		return s, p.state, p.isSourceSeen(now)
	}
	v := &struct { // one allocation, as there may be many partitions
		end, open int64
		lag       lag
	}{p.sourceEnd, p.sourceOpen, p.lagLocked(now)}
	s.SourceEnd = &v.end
	if isolation == wire.ReadCommitted {
		s.OpenTransactionRecords = &v.open
	}
	if v.lag.known {
		s.LagRecords, s.LagBytes = &v.lag.records, &v.lag.bytes
	}
	if v.lag.aged {
		s.LagSeconds = &v.lag.seconds
	}
	return s, p.state, p.isSourceSeen(now)
}

// lag is how far the copy of a partition is behind.
type lag struct {
	known          bool // the source has confirmed its end lately
	records, bytes int64
	aged           bool // seconds are known: there is no lag, or something was copied
	seconds        float64
}

// lagLocked returns the lag of the partition, whose lock is held.
func (p *partition) lagLocked(now time.Time) (l lag) {
	if p.sourceEnd < 0 || !p.isSourceSeen(now) {
		return l
	}
	l.known, l.records = true, max(0, p.sourceEnd-p.acked)
	l.bytes = int64(float64(l.records) * p.meanBytes)
	if l.records > 0 && p.lastTimestamp > 0 {
		l.seconds = max(0, now.Sub(time.UnixMilli(p.lastTimestamp)).Seconds())
	}
	l.aged = l.records == 0 || p.lastTimestamp > 0
	return l
}

// waitState is what the partition waits for, nil if it does not wait. The partition's lock is held.
func (p *partition) waitState() *WaitState {
	switch {
	case p.state == recovering:
		return &WaitState{Reason: WaitRecovery, Detail: "finding the last copied record on the target"}
	case p.state == replicating && p.hold.isHeldBack():
		return &WaitState{Reason: WaitTargetRefused, Detail: "the target refuses its batches: " + p.hold.why, Since: p.hold.since}
	case p.state == replicating && !p.refusedSince.IsZero():
		return &WaitState{Reason: WaitSourceRefused, Detail: fmt.Sprintf("the source refuses offset %d as out of range, although its log has it", p.next), Since: p.refusedSince}
	case p.state == replicating && p.targetLeader >= 0, p.state != waiting && p.state != replicating:
		return nil
	case p.targetLeader < 0:
		return &WaitState{Reason: WaitTargetNoLeader, Detail: noTargetLeader(p.shard.flow.config.Target)}
	}
	if least := p.topic.getLimits().MinInSyncReplicas; p.isStarvedLocked() {
		detail := fmt.Sprintf("the copy has %d replicas in sync, and min.insync.replicas is %d", p.targetInSync, least)
		return &WaitState{Reason: WaitTargetRefused, Detail: detail}
	}
	if p.outside.held {
		return &WaitState{Reason: WaitTakeover, Detail: p.outside.why}
	}
	if p.outside.why != "" {
		return &WaitState{Reason: WaitTargetRefused, Detail: p.outside.why}
	}
	if problem := p.shard.getProblem(); problem != "" {
		return &WaitState{Reason: WaitTakeover, Detail: problem}
	}
	return &WaitState{Reason: WaitTakeover, Detail: "waiting for the takeover of its shard"}
}
