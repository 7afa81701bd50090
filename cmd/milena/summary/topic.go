package summary

import (
	"strings"

	"github.com/milena-kafka/milena/replicator"
)

// Topic sums up the partitions of a topic. Its state is the worst of theirs.
type Topic struct {
	Topic       string   `json:"topic"`
	TargetTopic string   `json:"target_topic"`
	Partitions  int      `json:"partitions"`
	State       string   `json:"state"`
	Note        string   `json:"note,omitempty"`   // who paused or throttled it, what it waits for, or the kind of the anomaly
	Acked       int64    `json:"acked"`            // sum of the partitions' acknowledged source offsets
	Copied      *int64   `json:"copied,omitempty"` // sum of the ends of the copies; absent if they are not known
	LagRecords  *int64   `json:"lag_records"`      // of the partitions whose lag is known; null if none is
	LagUnknown  int      `json:"lag_unknown"`      // partitions
	LagSeconds  *float64 `json:"lag_seconds"`      // of the partition with the most; null if none is known
	Attention   int      `json:"attention"`        // partitions that need it
}

// Add adds a partition of a running milena.
func (t *Topic) Add(p replicator.PartitionStatus, throttled Throttles) {
	t.Acked += p.Acked
	if t.Copied == nil {
		t.Copied = new(int64)
	}
	*t.Copied += p.TargetEnd
	state, note := StateOf(p)
	if who := throttled.Of(p.Topic); who != "" && (state == Copying || state == CatchingUp) {
		state, note = Throttled, who
	}
	t.Count(state, note, p.LagRecords)
	if p.LagSeconds != nil && (t.LagSeconds == nil || *p.LagSeconds > *t.LagSeconds) {
		t.LagSeconds = p.LagSeconds
	}
}

// Count adds what every partition has.
func (t *Topic) Count(state, note string, lag *int64) {
	t.Partitions++
	switch worst := Worse(t.State, state); {
	case worst != t.State:
		t.State, t.Note = state, note
	case state == t.State && note != t.Note && !strings.HasSuffix(t.Note, andOthers):
		t.Note += andOthers
	}
	if lag == nil {
		t.LagUnknown++
		return
	}
	sum := *lag + t.Lag()
	t.LagRecords = &sum
}

// andOthers is the end of a note about several partitions that differ.
const andOthers = " and others"

// Lag is the lag as far as it is known.
func (t *Topic) Lag() int64 {
	if t.LagRecords == nil {
		return 0
	}
	return *t.LagRecords
}
