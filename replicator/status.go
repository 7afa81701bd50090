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

// Status is what a flow knows of itself at one moment; it is served as JSON and printed as a table.
type Status struct {
	Flow   string `json:"flow"`
	Source string `json:"source"`
	Target string `json:"target"`
	// SourceClusterID and TargetClusterID are empty until the cluster was reached once.
	SourceClusterID string `json:"source_cluster_id,omitempty"`
	TargetClusterID string `json:"target_cluster_id,omitempty"`
	// Ready says that every shard is owned and recovered. NotReady says why it is not.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready,omitempty"`
	// Shards counts the shards by state.
	Shards map[string]int `json:"shards"`
	// Totals since the start of the process.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// NotCopied names topics that were asked for and are not copied, or not wholly, with the reason.
	NotCopied map[string]string `json:"not_copied,omitempty"`
	// Throttled names the brokers whose quotas made the flow wait within the last minute.
	Throttled []client.ThrottleStatus `json:"throttled,omitempty"`
	// LagRecords is the sum over all partitions whose lag is known.
	LagRecords int64             `json:"lag_records"`
	Partitions []PartitionStatus `json:"partitions"`
	Groups     *groups.Status    `json:"groups"`
	// Configs is absent before the first look, ACLs when they are not copied.
	Configs *topics.ConfigsStatus `json:"configs,omitempty"`
	ACLs    *topics.ACLsStatus    `json:"acls,omitempty"`
}

// PartitionStatus is one source partition and how far its copy is. All offsets are exclusive ends.
type PartitionStatus struct {
	Topic       string `json:"topic"`
	TargetTopic string `json:"target_topic"`
	Partition   int32  `json:"partition"`
	Shard       int32  `json:"shard"`
	State       string `json:"state"`
	// SourceEnd is the end of what may be read on the source; absent until known.
	SourceEnd *int64 `json:"source_end,omitempty"`
	Next      int64  `json:"next"`
	Acked     int64  `json:"acked"`
	Journaled int64  `json:"journaled"`
	// TargetEnd is the target offset behind the last acknowledged record.
	TargetEnd  int64  `json:"target_end"`
	LagRecords *int64 `json:"lag_records,omitempty"`
	// LagBytes is an estimate: lag in records times the mean size of the batches copied last.
	LagBytes *int64 `json:"lag_bytes,omitempty"`
	// LagSeconds is the age of the newest acknowledged record while there is lag, else 0; absent before the first record.
	LagSeconds   *float64      `json:"lag_seconds,omitempty"`
	LastProgress time.Time     `json:"last_progress,omitzero"`
	Anomaly      *AnomalyState `json:"anomaly,omitempty"`
}

// AnomalyState says why a partition is halted, with the offsets concerned and what to do.
type AnomalyState struct {
	Kind   string    `json:"kind"`
	Detail string    `json:"detail"`
	Hint   string    `json:"hint"`
	From   int64     `json:"from"`
	To     int64     `json:"to"`
	Since  time.Time `json:"since"`
}

// Status says where the flow stands. It may be called at any time and blocks for moments only.
func (f *Flow) Status() Status {
	s := Status{
		Flow: f.config.Name, Source: f.config.Source, Target: f.config.Target,
		SourceClusterID: f.sourceID(), TargetClusterID: f.targetID(),
		Shards:  make(map[string]int),
		Records: f.totals.records.Load(), Bytes: f.totals.bytes.Load(),
	}
	if topics := f.notCopied.Load(); topics != nil {
		s.NotCopied = *topics
	}
	partitions := f.partitions()
	slices.SortFunc(partitions, func(a, b *partition) int {
		return cmp.Or(cmp.Compare(a.topic.source, b.topic.source), cmp.Compare(a.number, b.number))
	})
	unrecovered := make(map[*shard]int)
	now := time.Now()
	for _, p := range partitions {
		ps, st := p.status(now)
		if st == waiting || st == recovering {
			unrecovered[p.shard]++
		}
		if ps.LagRecords != nil {
			s.LagRecords += *ps.LagRecords
		}
		s.Partitions = append(s.Partitions, ps)
	}
	s.Groups, s.Configs, s.ACLs = f.groups.Status(f.heartbeats.Problems()...), f.configs.Load(), f.acls.Status()
	s.Throttled = f.throttles.Status(now)
	s.NotReady = f.notReady(unrecovered, s.Shards)
	s.Ready = len(s.NotReady) == 0
	return s
}

// ready is Status().Ready.
func (f *Flow) ready() bool {
	unrecovered := make(map[*shard]int)
	for _, p := range f.partitions() {
		if st := p.getState(); st == waiting || st == recovering {
			unrecovered[p.shard]++
		}
	}
	return len(f.notReady(unrecovered, make(map[string]int))) == 0
}

// notReady counts the shards by state and says what is missing.
func (f *Flow) notReady(unrecovered map[*shard]int, states map[string]int) []string {
	var reasons []string
	if text := f.problem.Load(); text != nil {
		reasons = append(reasons, *text)
	}
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
	if f.lease.left() <= 0 && states["starting"] == 0 && !f.throttles.Active("target") { // a flow that a quota throttles is healthy
		reasons = append(reasons, "the lease ran out: ownership could not be confirmed, nothing is sent until it is")
	}
	return reasons
}

func (p *partition) status(now time.Time) (PartitionStatus, state) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PartitionStatus{
		Topic: p.topic.source, TargetTopic: p.topic.target, Partition: p.number, Shard: p.shard.number, State: p.state.String(),
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
		s.LagSeconds = &seconds // unknown while nothing was copied yet
	}
	return s, p.state
}
