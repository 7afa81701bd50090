package page

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/groups"
)

// PartitionRow is a partition of a flow. Offsets are exclusive ends, null while the partition is not begun.
type PartitionRow struct {
	Topic       string `json:"topic"`
	TargetTopic string `json:"target_topic"`
	Partition   int32  `json:"partition"`
	Shard       int32  `json:"shard"`
	State       string `json:"state"`
	Note        string `json:"note"`
	// Attention is why it needs attention, null if it does not.
	Attention              *string                 `json:"attention"`
	LagRecords             *int64                  `json:"lag_records"`
	LagBytes               *int64                  `json:"lag_bytes"`
	LagSeconds             *float64                `json:"lag_seconds"`
	SourceEnd              *int64                  `json:"source_end"`
	Acked                  *int64                  `json:"acked"`
	Journaled              *int64                  `json:"journaled"`
	TargetEnd              *int64                  `json:"target_end"`
	LastProgress           *time.Time              `json:"last_progress"`
	SourceSeen             *time.Time              `json:"source_seen"`
	OpenTransactionRecords *int64                  `json:"open_transaction_records"`
	Verified               *control.VerifiedStatus `json:"verified"`
	// Gaps counts the entries of the gap ledger; /status has them.
	Gaps   int                      `json:"gaps"`
	Halted *replicator.AnomalyState `json:"halted"`
	// Command mends a halted partition, or is the first of several choices, which the hint of Halted has.
	Command *string `json:"command"`
}

// GroupRow is a consumer group of a flow.
type GroupRow struct {
	Group string `json:"group"`
	State string `json:"state"` // in_step, refused or not_followed
	// LagRecords is how many records of the copies it has yet to read on the target, null if milena has not put it there.
	LagRecords *int64 `json:"lag_records"`
	// Refused counts the partitions whose position is not committed on the target, for the Reason, of which Detail is an example.
	Refused int     `json:"refused"`
	Reason  *string `json:"reason"`
	Detail  *string `json:"detail"`
}

// partitionItem is a partition with what it is sorted and searched by.
type partitionItem struct {
	*replicator.PartitionStatus
	state, note string
}

// partitionTable says how partitions are sorted.
func partitionTable() *table[partitionItem, PartitionRow] {
	type item = partitionItem
	return &table[item, PartitionRow]{first: "topic", orders: map[string]order[item]{
		"topic": func(a, b item, desc bool) int {
			if desc {
				a, b = b, a
			}
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		},
		"partition":     by(func(p item) int32 { return p.Partition }),
		"shard":         by(func(p item) int32 { return p.Shard }),
		"state":         by(func(p item) int { return summary.Severity(p.state) }),
		"lag_records":   byKnown(func(p item) *int64 { return p.LagRecords }),
		"lag_bytes":     byKnown(func(p item) *int64 { return p.LagBytes }),
		"lag_seconds":   byKnown(func(p item) *float64 { return p.LagSeconds }),
		"source_end":    byKnown(func(p item) *int64 { return p.SourceEnd }),
		"acked":         byKnown(func(p item) *int64 { return ifBegun(p.PartitionStatus, p.Acked) }),
		"last_progress": byKnown(func(p item) *int64 { return instant(p.LastProgress) }),
		"verified": byKnown(func(p item) *int64 {
			if p.Verified == nil {
				return nil
			}
			return instant(p.Verified.Checked)
		}),
	}}
}

func topicTable() *table[*summary.Topic, summary.Topic] {
	type item = *summary.Topic
	return &table[item, summary.Topic]{first: "topic", orders: map[string]order[item]{
		"topic":       by(func(t item) string { return t.Topic }),
		"state":       by(func(t item) int { return summary.Severity(t.State) }),
		"partitions":  by(func(t item) int { return t.Partitions }),
		"attention":   by(func(t item) int { return t.Attention }),
		"lag_records": byKnown(func(t item) *int64 { return t.LagRecords }),
		"lag_seconds": byKnown(func(t item) *float64 { return t.LagSeconds }),
	}}
}

func groupTable() *table[*GroupRow, GroupRow] {
	type item = *GroupRow
	return &table[item, GroupRow]{first: "group", orders: map[string]order[item]{
		"group":       by(func(g item) string { return g.Group }),
		"state":       by(func(g item) string { return g.State }),
		"refused":     by(func(g item) int { return g.Refused }),
		"lag_records": byKnown(func(g item) *int64 { return g.LagRecords }),
	}}
}

// addRows adds the paths of the rows.
func (p *Page) addRows(mux *http.ServeMux) {
	partitions, topics, groupRows := partitionTable(), topicTable(), groupTable()
	mux.HandleFunc("GET /api/v1/flows/{flow}/partitions", p.rows(partitions.sorts(), func(s *replicator.Status, c commands, q query) any {
		return partitions.page(q, findPartitions(s, &q), func(i partitionItem) PartitionRow { return newPartitionRow(i, c) })
	}))
	mux.HandleFunc("GET /api/v1/flows/{flow}/topics", p.rows(topics.sorts(), func(s *replicator.Status, _ commands, q query) any {
		return topics.page(q, findTopics(s, &q), func(t *summary.Topic) summary.Topic { return *t })
	}))
	mux.HandleFunc("GET /api/v1/flows/{flow}/groups", p.rows(groupRows.sorts(), func(s *replicator.Status, _ commands, q query) any {
		r := groupRows.page(q, findGroups(s.Groups, &q), func(g *GroupRow) GroupRow { return *g })
		r.Note = groupsNote(s)
		return r
	}))
}

// rows answers requests for rows of a flow.
func (p *Page) rows(sorts []string, find func(*replicator.Status, commands, query) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := readQuery(r.URL.Query(), sorts)
		if err != nil {
			badQuery(w, err)
			return
		}
		statuses := p.latest.get(time.Now(), p.options.Statuses)
		var names []string
		for i := range statuses {
			s := &statuses[i]
			if names = append(names, s.Flow); s.Flow == r.PathValue("flow") {
				answer(w, r, find(s, commandsOf(s, len(statuses)), q))
				return
			}
		}
		refuse(w, http.StatusNotFound, "this milena has no flow %q; its flows are: %s", r.PathValue("flow"), strings.Join(names, ", "))
	}
}

func findPartitions(s *replicator.Status, q *query) []partitionItem {
	throttled := summary.ThrottlesOf(s.Control.InForce)
	found := make([]partitionItem, 0, len(s.Partitions))
	for i := range s.Partitions {
		p := &s.Partitions[i]
		state, note := stateAndNote(p, throttled)
		if q.finds(p.Topic, p.TargetTopic, state, note) || q.finds(fmt.Sprintf("%s-%d", p.Topic, p.Partition)) {
			found = append(found, partitionItem{p, state, note})
		}
	}
	return found
}

func newPartitionRow(i partitionItem, c commands) PartitionRow {
	p := i.PartitionStatus
	r := PartitionRow{
		Topic: p.Topic, TargetTopic: p.TargetTopic, Partition: p.Partition, Shard: p.Shard, State: i.state, Note: i.note,
		Attention: notEmpty(summary.Attention(*p)), LagRecords: p.LagRecords, LagBytes: p.LagBytes, LagSeconds: p.LagSeconds, SourceEnd: p.SourceEnd,
		Acked: ifBegun(p, p.Acked), Journaled: ifBegun(p, p.Journaled), TargetEnd: ifBegun(p, p.TargetEnd),
		LastProgress: notZero(p.LastProgress), SourceSeen: notZero(p.SourceSeen), OpenTransactionRecords: p.OpenTransactionRecords,
		Verified: p.Verified, Gaps: len(p.Gaps),
	}
	if p.Anomaly != nil {
		halted := *p.Anomaly
		hint, command := c.hint(halted.Hint)
		if hint != nil {
			halted.Hint = *hint
		}
		r.Halted, r.Command = &halted, command
	}
	return r
}

// findTopics sums up the topics that match.
func findTopics(s *replicator.Status, q *query) (found []*summary.Topic) {
	for _, t := range topicsOf(s) {
		if q.finds(t.Topic, t.TargetTopic, t.State, t.Note) {
			found = append(found, t)
		}
	}
	return found
}

// topicsOf sums up all topics. The partitions are sorted by topic.
func topicsOf(s *replicator.Status) (list []*summary.Topic) {
	throttled := summary.ThrottlesOf(s.Control.InForce)
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if n := len(list); n == 0 || list[n-1].Topic != p.Topic {
			list = append(list, &summary.Topic{Topic: p.Topic, TargetTopic: p.TargetTopic})
		}
		t := list[len(list)-1]
		t.Add(*p, throttled)
		if summary.Attention(*p) != "" {
			t.Attention++
		}
	}
	return list
}

// findGroups lists the groups of which something is known, once each, that match.
func findGroups(g *groups.Status, q *query) (found []*GroupRow) {
	if g == nil {
		return nil
	}
	rows := make(map[string]*GroupRow, len(g.LagRecords))
	row := func(name string) *GroupRow {
		if rows[name] == nil {
			rows[name] = &GroupRow{Group: name, State: summary.InStep}
		}
		return rows[name]
	}
	for name, lag := range g.LagRecords {
		row(name).LagRecords = &lag
	}
	for _, r := range g.Refusals {
		of := row(r.Group)
		if of.Refused += r.Partitions; of.Reason == nil {
			of.State, of.Reason, of.Detail = "refused", notEmpty(r.Text), notEmpty(r.Detail)
		}
	}
	for _, n := range g.NotFollowed {
		of := row(n.Group)
		of.State, of.Reason = "not_followed", notEmpty(n.Text)
	}
	for _, r := range rows {
		reason := ""
		if r.Reason != nil {
			reason = *r.Reason
		}
		if q.finds(r.Group, r.State, reason) {
			found = append(found, r)
		}
	}
	return found
}

// groupsNote says why the rows are not all groups, empty if they are.
func groupsNote(s *replicator.Status) string {
	switch g := s.Groups; {
	case g == nil:
		return "another instance of the flow syncs the groups"
	case g.LastPass.IsZero():
		return "the groups are not synced yet"
	case g.Groups > len(g.LagRecords):
		return fmt.Sprintf("of %s, only those are listed that milena has put on the target, or about which there is something to say", summary.Count(g.Groups, "group"))
	}
	return ""
}

// ifBegun is an offset of a partition, nil while it is not begun.
func ifBegun(p *replicator.PartitionStatus, offset int64) *int64 {
	if !p.Begun {
		return nil
	}
	return &offset
}

// instant is a time as a number, nil if it is zero.
func instant(at time.Time) *int64 {
	if at.IsZero() {
		return nil
	}
	n := at.UnixNano()
	return &n
}
