package fleet

import (
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/control"
)

// Mode is how the instances of a flow share its shards.
type Mode string

// The modes.
const (
	// ModeGroup means that the consumer group of the flow has members, which share the shards.
	ModeGroup Mode = "group"
	// ModeOne means that one instance outside a group owns all shards: the group has no members, and an instance has confirmed lately that it owns
	// the journal.
	ModeOne Mode = "one"
	// ModeStopped means that no instance runs.
	ModeStopped Mode = "stopped"
	// ModeUnknown means that the group could not be read. See [Report.Problems].
	ModeUnknown Mode = "unknown"
)

// Report is how a flow is, as far as its two clusters tell. It is printed as JSON.
type Report struct {
	Flow            string    `json:"flow"`
	Source          string    `json:"source"`
	Target          string    `json:"target"`
	SourceClusterID string    `json:"source_cluster_id,omitempty"`
	TargetClusterID string    `json:"target_cluster_id,omitempty"`
	At              time.Time `json:"at"` // when it was read
	Mode            Mode      `json:"mode"`
	// Shards is the number of shards, 0 while there is no journal. ShardsWithoutOwner is null if it is not known who owns them.
	Shards             int        `json:"shards"`
	ShardsWithoutOwner []int32    `json:"shards_without_owner"`
	Instances          []Instance `json:"instances"`
	// JournaledAt is when an instance last wrote to the journal, by its clock. It is absent if none ever did.
	JournaledAt time.Time `json:"journaled_at,omitzero"`
	// InForce are the pauses and throttles that people decided and that hold.
	InForce []*control.Decision `json:"in_force,omitempty"`
	// Recovery is a switchover, a failover or the like that has not ended.
	Recovery *control.RecoveryStatus `json:"recovery,omitempty"`
	// Frozen are the clusters whose producers a switchover has stopped, and that may not write yet.
	Frozen []control.Frozen `json:"frozen,omitempty"`
	// Drill is the last drill of the flow, absent if there was none.
	Drill *control.DrillStatus `json:"drill,omitempty"`
	// RPO is what a failover would lose. It is known without the source, as of the last time that an instance saw it.
	RPO offsets.RPO `json:"rpo"`
	// RTOObjectiveSeconds is how long a failover may take by the config, absent if it has no objective.
	RTOObjectiveSeconds float64 `json:"rto_objective_seconds,omitempty"`
	// LagRecords is the sum over the partitions whose lag is known, null if none is. LagUnknown counts the others.
	LagRecords *int64 `json:"lag_records"`
	LagUnknown int    `json:"lag_unknown"`
	// NotCopied has the selected topics of the source that cannot be copied, with the reason.
	NotCopied map[string]string `json:"not_copied,omitempty"`
	// Unused has the items of the flow's lists of topics and groups that select nothing.
	Unused []policy.UnusedItem `json:"unused,omitempty"`
	// Problems are sentences about what could not be read. What depends on it is not known.
	Problems []string `json:"problems,omitempty"`
	// Partitions are those of the selected topics, by topic and number. If the source does not answer, they are those that the journal lists.
	Partitions []Partition `json:"partitions"`
}

// Instance is one running milena.
type Instance struct {
	ID      string `json:"id"`
	Host    string `json:"host"`
	Version string `json:"version"`
	// Shards is null if it is not known which shards the instance has.
	Shards []int32 `json:"shards"`
	// Since is when it started. Confirmed is when it last wrote to the journal. Both are by its clock, and absent if the journal does not say.
	Since     time.Time `json:"since,omitzero"`
	Confirmed time.Time `json:"confirmed,omitzero"`
	// Partitions, LagRecords and LagUnknown sum up the partitions of its shards, as in the report.
	Partitions int    `json:"partitions"`
	LagRecords *int64 `json:"lag_records"`
	LagUnknown int    `json:"lag_unknown"`
}

// Partition is one partition of a selected topic of the source, and how far its copy is. Offsets are exclusive ends.
type Partition struct {
	Topic       string `json:"topic"`
	TargetTopic string `json:"target_topic"`
	Partition   int32  `json:"partition"`
	// Shard is -1 while there is no journal. Instance is the owner of the shard, empty if it has none or it is not known.
	Shard    int32  `json:"shard"`
	Instance string `json:"instance,omitempty"`
	// Listed means that the journal has the partition, so milena has begun it.
	Listed bool `json:"listed"`
	// SourceEnd is the end of what can be read on the source; with read_committed, the last stable offset. Null if it is not known.
	SourceEnd *int64 `json:"source_end"`
	// Journaled is up to where the copy has the source's records, according to the journal. Null if the journal does not say.
	Journaled *int64 `json:"journaled"`
	// MissingRecords is how many records the target lacks at most, as far as the source was seen, and CompleteUpTo the time up to which it has all. They
	// are absent if nothing is known of this partition alone, or for the latter if the copy was never complete.
	MissingRecords *int64    `json:"missing_records,omitempty"`
	CompleteUpTo   time.Time `json:"complete_up_to,omitzero"`
	// LagRecords is null if one of the two is not known, or if the journal is about an earlier topic of that name.
	LagRecords *int64 `json:"lag_records"`
	// Paused is the id of the decision that pauses the partition, absent if none does.
	Paused string `json:"paused,omitempty"`
	// Verified is how far the copy was verified in the background, absent if nothing was.
	Verified *control.VerifiedStatus `json:"verified,omitempty"`
	// Halted is the anomaly that waits for a decision, absent if there is none.
	Halted *Halt `json:"halted,omitempty"`
	// Why is why the partition is not listed or its lag is not known, empty if there is no such thing or [Report.Problems] says it for all.
	Why string `json:"why,omitempty"`
	// TargetNoLeader means that no broker of the target leads the copy.
	TargetNoLeader bool `json:"target_no_leader,omitempty"`
}

// Halt is the anomaly that a partition is halted by, as the journal has it. It concerns the source offsets [From, To).
type Halt struct {
	Kind   string    `json:"kind"`
	Detail string    `json:"detail"`
	Hint   string    `json:"hint"`
	From   int64     `json:"from"`
	To     int64     `json:"to"`
	Since  time.Time `json:"since"`
}

// IsHealthy reports whether every shard has an owner, every partition is begun and none is halted, every copy has a leader, every lag is known, no copy is
// known to differ, every selected topic is copied, and the RPO is within its objective.
func (r *Report) IsHealthy() bool {
	if r.Shards == 0 || r.RPO.ObjectiveMissed || r.ShardsWithoutOwner == nil || len(r.ShardsWithoutOwner) > 0 || len(r.Problems) > 0 || len(r.NotCopied) > 0 {
		return false
	}
	for i := range r.Partitions {
		if p := &r.Partitions[i]; !p.Listed || p.Halted != nil || p.TargetNoLeader || p.LagRecords == nil || p.Verified.Problem() != "" {
			return false
		}
	}
	return true
}
