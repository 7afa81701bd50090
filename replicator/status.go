package replicator

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/topics"
)

// Status is a snapshot of a flow. It is served as JSON and printed as a table.
type Status struct {
	Flow   string `json:"flow"`
	Source string `json:"source"`
	Target string `json:"target"`
	// SourceClusterID and TargetClusterID are empty until the flow has connected to the cluster.
	SourceClusterID string `json:"source_cluster_id,omitempty"`
	TargetClusterID string `json:"target_cluster_id,omitempty"`
	// Ready means that every shard is owned and recovered, and that everything that should be copied is begun, except what the target or a rule
	// refuses (NotCopied). NotReady has the reasons if it is false.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready,omitempty"`
	// Shards counts the shards by state.
	Shards map[string]int `json:"shards"`
	// Records and Bytes are what the target acknowledged since the start of the process.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// NotCopied has the selected topics of the source that are not copied, or not completely, with the reason.
	NotCopied map[string]string `json:"not_copied,omitempty"`
	// Throttled has the brokers whose quotas throttled the flow within the last minute.
	Throttled []client.ThrottleStatus `json:"throttled,omitempty"`
	// LagRecords is the sum over all partitions whose lag is known.
	LagRecords int64             `json:"lag_records"`
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
	// SourceEnd is the end of the readable log on the source. It is absent until known.
	SourceEnd *int64 `json:"source_end,omitempty"`
	Next      int64  `json:"next"`
	Acked     int64  `json:"acked"`
	Journaled int64  `json:"journaled"`
	// TargetEnd is the target offset behind the last acknowledged record.
	TargetEnd  int64  `json:"target_end"`
	LagRecords *int64 `json:"lag_records,omitempty"`
	// LagBytes is an estimate: the lag in records times their mean size lately.
	LagBytes *int64 `json:"lag_bytes,omitempty"`
	// LagSeconds is the age of the newest acknowledged record while there is lag, else 0. It is absent before the first record.
	LagSeconds   *float64      `json:"lag_seconds,omitempty"`
	LastProgress time.Time     `json:"last_progress,omitzero"`
	Anomaly      *AnomalyState `json:"anomaly,omitempty"`
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
		Shards:  make(map[string]int),
		Records: f.totals.records.Load(), Bytes: f.totals.bytes.Load(),
	}
	now := time.Now()
	s.NotCopied = f.notCopied()
	unrecovered := f.addPartitionStatus(&s, now)
	s.Groups, s.Configs, s.ACLs = f.groups.Status(f.heartbeats.Problems()...), f.configs.Load(), f.acls.Status()
	s.Throttled = f.throttles.Status(now)
	s.NotReady = f.notReady(unrecovered, s.Shards)
	s.Ready = len(s.NotReady) == 0
	return s
}

// addPartitionStatus adds all wanted partitions, by topic and number, and the sum of their lags. It returns how many partitions of each shard
// are not recovered.
func (f *Flow) addPartitionStatus(s *Status, now time.Time) (unrecovered map[*shard]int) {
	partitions := f.partitions()
	slices.SortFunc(partitions, func(a, b *partition) int {
		return cmp.Or(cmp.Compare(a.topic.source, b.topic.source), cmp.Compare(a.number, b.number))
	})
	unrecovered = make(map[*shard]int)
	for _, p := range partitions {
		ps, state := p.status(now)
		if !state.isRecovered() {
			unrecovered[p.shard]++
		}
		if ps.LagRecords != nil {
			s.LagRecords += *ps.LagRecords
		}
		s.Partitions = append(s.Partitions, ps)
	}
	if missing := f.unbegunPartitions(); len(missing) > 0 {
		for tp, u := range missing {
			s.Partitions = append(s.Partitions, u.status(tp, len(f.shards)))
		}
		slices.SortFunc(s.Partitions, func(a, b PartitionStatus) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
	}
	return unrecovered
}

// ready returns Status().Ready, without the rest of the status.
func (f *Flow) ready() bool {
	unrecovered := make(map[*shard]int)
	for _, p := range f.partitions() {
		if !p.getState().isRecovered() {
			unrecovered[p.shard]++
		}
	}
	return len(f.notReady(unrecovered, make(map[string]int))) == 0
}

// notReady returns why the flow is not ready, nil if it is. It counts the shards by state into states.
func (f *Flow) notReady(unrecovered map[*shard]int, states map[string]int) []string {
	var reasons []string
	now := time.Now()
	if text := f.problem.Load(); text != nil {
		reasons = append(reasons, *text)
	}
	if failure := f.syncFailure.Load(); failure != nil && (f.topology.isFirstSync() || now.Sub(failure.since) > settleBegin) {
		reasons = append(reasons, "topics cannot be synced: "+failure.text)
	}
	reasons = append(reasons, f.notBegun(now)...)
	for _, s := range f.shards {
		problem := s.getProblem()
		switch n := unrecovered[s]; {
		case !s.ownership.isOwned():
			states["starting"]++
		case n > 0:
			states["recovering"]++
			if problem == "" {
				problem = fmt.Sprintf("shard %d: %d partitions are being recovered", s.number, n)
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
		reasons = append(reasons, fmt.Sprintf("%d of %d shards are not owned yet", n, len(f.shards)))
	}
	if !f.lease.holds() && states["starting"] == 0 && !f.throttles.Active("target") { // a flow that a quota throttles is healthy
		reasons = append(reasons, "the lease ran out: ownership could not be confirmed, and nothing is sent until it is")
	}
	return reasons
}

// status describes the partition, and returns its state.
func (p *partition) status(now time.Time) (PartitionStatus, state) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PartitionStatus{
		Topic: p.topic.source, TargetTopic: p.topic.target, Partition: p.number, Shard: p.shard.number, State: p.state.String(), Begun: true,
		Wait: p.waitState(),
		Next: p.next, Acked: p.acked, Journaled: p.journaled, TargetEnd: p.targetEnd,
		LastProgress: p.lastProgress, Anomaly: p.anomaly.state(),
	}
	if p.sourceEnd < 0 {
		return s, p.state
	}
	end, lag := p.sourceEnd, max(0, p.sourceEnd-p.acked)
	bytes, seconds := int64(float64(lag)*p.meanBytes), 0.0
	if lag > 0 && p.lastTimestamp > 0 {
		seconds = max(0, now.Sub(time.UnixMilli(p.lastTimestamp)).Seconds())
	}
	s.SourceEnd, s.LagRecords, s.LagBytes = &end, &lag, &bytes
	if lag == 0 || p.lastTimestamp > 0 {
		s.LagSeconds = &seconds // unknown if there is lag and nothing was copied yet
	}
	return s, p.state
}

// waitState is what the partition waits for, nil if it does not wait. The partition's lock is held.
func (p *partition) waitState() *WaitState {
	switch {
	case p.state == recovering:
		return &WaitState{Reason: WaitRecovery, Detail: "finding the last copied record on the target"}
	case p.state != waiting:
		return nil
	case p.targetLeader < 0:
		return &WaitState{Reason: WaitTargetNoLeader, Detail: "no broker of the target leads the copy"}
	}
	if problem := p.shard.getProblem(); problem != "" {
		return &WaitState{Reason: WaitTakeover, Detail: problem}
	}
	return &WaitState{Reason: WaitTakeover, Detail: "waiting for the takeover of its shard"}
}
