package diverged

import (
	"fmt"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// Report is what a source has that its target does not. It is printed as JSON.
type Report struct {
	Flow            string    `json:"flow"`
	Source          string    `json:"source"` // alias, as Target
	Target          string    `json:"target"`
	SourceClusterID string    `json:"source_cluster_id,omitempty"`
	TargetClusterID string    `json:"target_cluster_id,omitempty"`
	At              time.Time `json:"at"` // when it was read
	// JournaledAt is when the flow last wrote its journal, by the clock of its host. It is absent if it never did.
	JournaledAt time.Time `json:"journaled_at,omitzero"`
	// Moved means that the journal says something else of a partition than it did when it was read first: those could not be counted, and may be now.
	Moved bool `json:"moved,omitempty"`
	// Records, Bytes, Gone and Ahead sum up the partitions. Uncounted is how many of these could not be counted, and Doubtful how many have a doubt.
	Records   int64 `json:"records"`
	Bytes     int64 `json:"bytes"`
	Gone      int64 `json:"gone"`
	Ahead     int64 `json:"ahead"`
	Uncounted int   `json:"uncounted"`
	Doubtful  int   `json:"doubtful"`
	// NotCopied has the selected topics of the source that the flow cannot copy, with the reason. They are not listed.
	NotCopied map[string]string `json:"not_copied,omitempty"`
	// Partitions are those of the selected topics, by topic and number, also those without diverged records. Heartbeats are left out.
	Partitions []Partition `json:"partitions"`
}

// Partition is one partition of the source: the offsets [From, To) are certainly not on the target.
type Partition struct {
	Topic       string `json:"topic"`
	TargetTopic string `json:"target_topic"`
	Partition   int32  `json:"partition"`
	// TopicID is the id of the source topic, as Kafka's tools write it; empty where topics have none.
	TopicID string `json:"topic_id,omitempty"`
	// Listed means that the journal has the partition: some of it was copied, or was about to be.
	Listed bool  `json:"listed"`
	From   int64 `json:"from"`
	To     int64 `json:"to"`
	// Records is how many records the offsets have that can be read, without markers and aborted ones, and Bytes the size of their batches. Records is null if they could
	// not be counted: Problem says why, and then From and To may not be known either.
	Records *int64 `json:"records"`
	Bytes   int64  `json:"bytes"`
	Problem string `json:"problem,omitempty"`
	// Doubt is a part right before From that may be on the target, null if there is none.
	Doubt *Doubt `json:"doubt,omitempty"`
	// Gone is how many offsets right before From were not on the target either, and that the source has deleted since.
	Gone int64 `json:"gone,omitempty"`
	// Open is how many offsets at the end are behind an open transaction, with read_committed. They are not listed.
	Open int64 `json:"open,omitempty"`
	// Ahead is how many offsets of the source, at least, were copied and are not in its log any more.
	Ahead int64 `json:"ahead,omitempty"`
	// Gaps are the source offsets that the flow did not copy as it should have, by its ledger.
	Gaps  []Gap    `json:"gaps,omitempty"`
	Notes []string `json:"notes,omitempty"` // sentences
}

// Doubt is a part of the source of which it is not known whether it is on the target: offsets [From, To).
type Doubt struct {
	From    int64  `json:"from"`
	To      int64  `json:"to"`
	Records *int64 `json:"records"` // null if they could not be counted
	Bytes   int64  `json:"bytes"`
	Why     string `json:"why"` // a sentence
}

// Gap is an entry of the ledger of a flow. It concerns the source offsets [From, To), which are -1 if they are not known.
type Gap struct {
	Kind   string    `json:"kind"`
	Action string    `json:"action"`
	From   int64     `json:"from"`
	To     int64     `json:"to"`
	At     time.Time `json:"at,omitzero"`
	Detail string    `json:"detail,omitempty"`
	// Merged is how many other gaps this one also stands for: then [From, To) spans all of them and what was copied between them.
	Merged int `json:"merged,omitempty"`
}

func gapsOf(ledger []offsets.Gap) []Gap {
	gaps := make([]Gap, 0, len(ledger))
	for _, g := range ledger {
		gaps = append(gaps, Gap{g.Kind, g.Action, g.From, g.To, g.At, g.Detail, g.Merged})
	}
	return gaps
}

func (p *Partition) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// conclude sums up the partitions.
func (r *Report) conclude() {
	for i := range r.Partitions {
		p := &r.Partitions[i]
		r.Bytes += p.Bytes
		r.Gone += p.Gone
		r.Ahead += p.Ahead
		if p.Records == nil {
			r.Uncounted++
		} else {
			r.Records += *p.Records
		}
		if p.Doubt != nil {
			r.Doubtful++
		}
	}
}

// IsCertain reports whether every partition was counted and none has a doubt.
func (r *Report) IsCertain() bool { return r.Uncounted == 0 && r.Doubtful == 0 }
