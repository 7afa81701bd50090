package page

import (
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

// View is the first screen: all flows in a bounded size, whatever the number of partitions. What is not known is null, never 0, and a sentence says why.
type View struct {
	Version string `json:"version"`
	// Instance is the id of this process.
	Instance string `json:"instance"`
	// NotReady is why the process is not ready, empty if it is.
	NotReady []string `json:"not_ready"`
	Flows    []Flow   `json:"flows"`
}

// State is what a flow does, in one word. The first one that holds counts, in the order of the constants.
type State string

// The states of a flow.
const (
	StateStopping   State = "stopping"    // the process ends
	StateFailedOver State = "failed_over" // and does nothing until somebody starts it
	StateStopped    State = "stopped"     // by somebody
	StateTargetDark State = "target_dark" // the target does not answer
	StateSourceDark State = "source_dark" // the source does not answer
	StateHalted     State = "halted"      // partitions are, by an anomaly
	StateStarting   State = "starting"
	StatePaused     State = "paused"  // all of it, by somebody
	StateStandby    State = "standby" // another instance holds the shards
	StateCatchingUp State = "catching_up"
	StateCopying    State = "copying"
)

// Flow is a flow on the first screen.
type Flow struct {
	Flow            string `json:"flow"`
	Source          string `json:"source"`
	Target          string `json:"target"`
	SourceClusterID string `json:"source_cluster_id,omitempty"`
	TargetClusterID string `json:"target_cluster_id,omitempty"`
	State           State  `json:"state"`
	// Ready and NotReady are those of the readiness probe.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready"`
	// AllIsWell says that nothing needs attention.
	AllIsWell bool    `json:"all_is_well"`
	Verdict   Verdict `json:"verdict"`
	RPO       RPO     `json:"rpo"`
	// RTOObjectiveSeconds is null without an objective.
	RTOObjectiveSeconds *float64   `json:"rto_objective_seconds"`
	Throughput          Throughput `json:"throughput"`
	Copied              Copied     `json:"copied"`
	Lag                 Lag        `json:"lag"`
	Latency             Latency    `json:"latency"`
	Partitions          Partitions `json:"partitions"`
	TopicsTotal         int        `json:"topics_total"`
	// GroupsTotal is null while groups are not synced, or are synced by another instance.
	GroupsTotal *int `json:"groups_total"`
	// Attention is what needs attention, worst first. AttentionMore counts the partitions and topics that have no row.
	Attention     []Attention `json:"attention"`
	AttentionMore int         `json:"attention_more"`
	// Decisions are what people decided that holds.
	Decisions []Decision `json:"decisions"`
	Instance  Instance   `json:"instance"`
	// Instances are all that share the flow; empty if it has only this one.
	Instances []Member  `json:"instances"`
	LastDrill *Drill    `json:"last_drill"`
	Recovery  *Recovery `json:"recovery"`
	Throttle  Throttle  `json:"throttle"`
	Verify    *Verify   `json:"verify"`
	Groups    *Groups   `json:"groups"`
	ACLs      *ACLs     `json:"acls"`
	// Fence is what keeps an earlier owner of a shard from writing: transactions or lease.
	Fence string `json:"fence"`
	// ConfigRefused is why the config file is refused, null if it is not.
	ConfigRefused *string `json:"config_refused"`
}

// Answer is yes, no or unknown.
type Answer string

// The answers of a [Verdict].
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// Verdict answers: can I fail over now, and what would I lose?
type Verdict struct {
	CanFailOver Answer `json:"can_fail_over"`
	// WouldLoseRecords is how many records that were seen on the source the target lacks at most. It is null while the source is not seen, as nobody knows
	// what was written since, and if something is not known of a partition.
	WouldLoseRecords *int64 `json:"would_lose_records"`
	// CompleteUpTo is the time up to which everything that the source had is on the target, null if it is not known.
	CompleteUpTo *time.Time `json:"complete_up_to"`
	// Sentence is the whole answer, with the reason for what is not known.
	Sentence string `json:"sentence"`
	// Command is how to move clients: milena failover while the source is dark, milena switchover while it answers; null if neither is the thing to do.
	Command *string `json:"command"`
}

// RPO is what a failover would lose, in figures.
type RPO struct {
	// MissingRecords counts those that were seen; null if nothing is copied.
	MissingRecords *int64 `json:"missing_records"`
	// CompleteUpTo is the time up to which everything that the source had is on the target, null if it is not known.
	CompleteUpTo *time.Time `json:"complete_up_to"`
	// SeenAt is when the source was last seen, of several partitions the earliest.
	SeenAt            *time.Time `json:"seen_at"`
	Partitions        int        `json:"partitions"`
	UnknownPartitions int        `json:"unknown_partitions"`
	NeverComplete     int        `json:"never_complete_partitions"`
	ObjectiveSeconds  *float64   `json:"objective_seconds"`
	ObjectiveMissed   bool       `json:"objective_missed"`
	// Topics are sentences about the topics that would lose most.
	Topics []string `json:"topics"`
}

// Throughput is what the target acknowledged lately. It is null until there are two samples.
type Throughput struct {
	BytesPerSecond   *float64 `json:"bytes_per_second"`
	RecordsPerSecond *float64 `json:"records_per_second"`
}

// Copied is what the target acknowledged since the start of the process.
type Copied struct {
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
}

// Lag is how far the copy is behind the source.
type Lag struct {
	Records *int64 `json:"records"`
	// Seconds is that of the slowest partition.
	Seconds *float64 `json:"seconds"`
	// UnknownPartitions are in neither figure.
	UnknownPartitions int `json:"unknown_partitions"`
}

// Latency is the time from a record's timestamp to its acknowledgement by the target, of what was copied lately, as histogram buckets tell. It is null
// if nothing was.
type Latency struct {
	P50 *float64 `json:"p50_seconds"`
	P99 *float64 `json:"p99_seconds"`
}

// Partitions counts the partitions of this instance, by state.
type Partitions struct {
	Total      int `json:"total"`
	InStep     int `json:"in_step"`
	Copying    int `json:"copying"`
	CatchingUp int `json:"catching_up"`
	Throttled  int `json:"throttled"`
	Paused     int `json:"paused"`
	Waiting    int `json:"waiting"`
	Differs    int `json:"differs"`
	Stopped    int `json:"stopped"`
	Halted     int `json:"halted"`
	// Attention counts those that need it.
	Attention int `json:"attention"`
}

// Severity is how bad something is.
type Severity string

// The severities, worst first: bad waits for somebody, warning may mend itself or costs something, notice is to be known.
const (
	Bad     Severity = "bad"
	Warning Severity = "warning"
	Notice  Severity = "notice"
)

// Attention is something that needs attention.
type Attention struct {
	Severity Severity `json:"severity"`
	// What is a word or two, such as halted (truncated).
	What string `json:"what"`
	// Where is a partition such as orders-3, several such as partitions 0-7 of orders, a topic, a group, a cluster, a file or the flow.
	Where string `json:"where"`
	// Cause is a sentence.
	Cause string `json:"cause"`
	// Command mends it, or is the first of several steps or the first choice: Hint has all of them, with commands between backticks. Both are null if
	// there is nothing to run. FILE, TEXT, SIZE and TARGET are to be filled in.
	Command *string `json:"command"`
	Hint    *string `json:"hint"`
	// Topic and Partition are set where it is about a partition.
	Topic     string `json:"topic,omitempty"`
	Partition *int32 `json:"partition,omitempty"`
}

// Decision is what somebody decided that holds.
type Decision struct {
	What           control.Verb `json:"what"`
	Scope          string       `json:"scope"`
	Who            string       `json:"who"`
	Why            string       `json:"why,omitempty"`
	Since          time.Time    `json:"since,omitzero"`
	Until          *time.Time   `json:"until"`
	BytesPerSecond *int64       `json:"bytes_per_second"`
	Sentence       string       `json:"sentence"`
	// Command ends it, null if nothing does.
	Command *string `json:"command"`
}

// Instance is this process in a flow.
type Instance struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Held   int    `json:"held"`
	Shards int32  `json:"shards"`
	Syncs  bool   `json:"syncs"`
	// Share is the part of the shards that this instance holds, from 0 to 1: all figures of the flow are about it.
	Share   float64 `json:"share"`
	Problem string  `json:"problem,omitempty"`
}

// Member is one of the instances of a flow.
type Member struct {
	Name    string `json:"name"`
	Host    string `json:"host"`
	Version string `json:"version"`
	// Shards is how many it holds, null while that is not known.
	Shards *int `json:"shards"`
	This   bool `json:"this"`
}

// Drill is the last drill of a flow.
type Drill struct {
	Who        string     `json:"who"`
	When       time.Time  `json:"when"`
	Passed     bool       `json:"passed"`
	Findings   int        `json:"findings"`
	RPOSeconds *float64   `json:"rpo_seconds"`
	RTOSeconds *float64   `json:"rto_seconds"`
	LastPassed *time.Time `json:"last_passed"`
}

// Recovery is a switchover, failover, failback or drill that has not ended.
type Recovery struct {
	What  string `json:"what"`
	Who   string `json:"who"`
	State string `json:"state"`
	Step  string `json:"step"`
	// Held says that a process carries it out; otherwise it was broken off.
	Held     bool   `json:"held"`
	Sentence string `json:"sentence"`
}

// Throttle is what slows the flow down on purpose.
type Throttle struct {
	// Brokers are sentences about brokers whose quotas throttled the flow in the last minute.
	Brokers []string `json:"brokers"`
	// BytesPerSecond is the limit that somebody set for the whole flow, null if nobody did.
	BytesPerSecond *int64 `json:"bytes_per_second"`
}

// Verify is the verification of the copies in the background.
type Verify struct {
	BytesPerSecond      int64      `json:"bytes_per_second"`
	Problem             *string    `json:"problem"`
	DifferingPartitions int        `json:"differing_partitions"`
	VerifiedPartitions  int        `json:"verified_partitions"`
	OldestChecked       *time.Time `json:"oldest_checked"`
}

// Groups sums up the consumer groups.
type Groups struct {
	Groups      int        `json:"groups"`
	Positions   int        `json:"positions"`
	Refused     int        `json:"refused"`
	NotFollowed int        `json:"not_followed"`
	LastPass    *time.Time `json:"last_pass"`
}

// ACLs sums up the ACLs.
type ACLs struct {
	InStep   int        `json:"in_step"`
	Refused  int        `json:"refused"`
	LastPass *time.Time `json:"last_pass"`
}
