package replicator

import "time"

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
	// LagRecords is the sum over all partitions whose lag is known.
	LagRecords int64             `json:"lag_records"`
	Partitions []PartitionStatus `json:"partitions"`
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
	// LagSeconds is the age of the oldest record fetched and not acknowledged yet, or of the last one acknowledged while lag is above zero.
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
