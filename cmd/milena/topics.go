package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
)

// topicOverview sums up the partitions of a topic. Its state is the worst of theirs.
type topicOverview struct {
	Topic       string   `json:"topic"`
	TargetTopic string   `json:"target_topic"`
	Partitions  int      `json:"partitions"`
	State       string   `json:"state"`
	Note        string   `json:"note,omitempty"`        // who paused or throttled it, what it waits for, or the kind of the anomaly
	Acked       int64    `json:"acked"`                 // sum of the partitions' acknowledged source offsets
	Copied      *int64   `json:"copied,omitempty"`      // sum of the ends of the copies; absent if they are not known
	LagRecords  *int64   `json:"lag_records"`           // of the partitions whose lag is known; null if none is
	LagUnknown  int      `json:"lag_unknown"`           // partitions
	LagSeconds  *float64 `json:"lag_seconds,omitempty"` // of the partition with the most
	Attention   int      `json:"attention"`             // partitions that need it
}

// add adds a partition of a running milena.
func (t *topicOverview) add(p replicator.PartitionStatus, throttled summary.Throttles) {
	t.Acked += p.Acked
	if t.Copied == nil {
		t.Copied = new(int64)
	}
	*t.Copied += p.TargetEnd
	state, note := summary.StateOf(p)
	if who := throttled.Of(p.Topic); who != "" && (state == summary.Copying || state == summary.CatchingUp) {
		state, note = summary.Throttled, who
	}
	t.count(state, note, p.LagRecords)
	if p.LagSeconds != nil && (t.LagSeconds == nil || *p.LagSeconds > *t.LagSeconds) {
		t.LagSeconds = p.LagSeconds
	}
}

// count adds what every partition has.
func (t *topicOverview) count(state, note string, lag *int64) {
	t.Partitions++
	switch worst := summary.Worse(t.State, state); {
	case worst != t.State:
		t.State, t.Note = state, note
	case state == t.State && note != t.Note && !strings.HasSuffix(t.Note, andOthers):
		t.Note += andOthers
	}
	if lag == nil {
		t.LagUnknown++
		return
	}
	sum := *lag + t.lag()
	t.LagRecords = &sum
}

// andOthers is the end of a note about several partitions that differ.
const andOthers = " and others"

func (t *topicOverview) lag() int64 {
	if t.LagRecords == nil {
		return 0
	}
	return *t.LagRecords
}

// drain shows that milena stops: topics that were copied drain.
func drain(topics []topicOverview) {
	for i := range topics {
		if summary.Worse(topics[i].State, summary.Draining) == summary.Draining {
			topics[i].State, topics[i].Note = summary.Draining, ""
		}
	}
}

// fleetTopics sums up the topics of a report, whose partitions are sorted.
func fleetTopics(r *fleet.Report) (topics []topicOverview) {
	throttled, decided := make(summary.Throttles), make(map[string]*control.Decision)
	for _, d := range r.InForce {
		decided[d.ID] = d
		if d.What == control.Throttle {
			throttled[d.Scope.String()] = d.Who
		}
	}
	for i := range r.Partitions {
		p := &r.Partitions[i]
		if n := len(topics); n == 0 || topics[n-1].Topic != p.Topic {
			topics = append(topics, topicOverview{Topic: p.Topic, TargetTopic: p.TargetTopic})
		}
		t := &topics[len(topics)-1]
		state, note := fleetState(r, p, decided)
		if by := throttled.Of(p.Topic); by != "" && state == summary.Copying {
			state, note = summary.Throttled, by
		}
		if state == summary.Halted || !p.Listed || p.TargetNoLeader || p.Why != "" {
			t.Attention++
		}
		if p.Journaled != nil {
			t.Acked += *p.Journaled
		}
		t.count(state, note, p.LagRecords)
	}
	return topics
}

// fleetState is summary.StateOf by the journal, which does not have the age of records: a topic that is behind is copying.
func fleetState(r *fleet.Report, p *fleet.Partition, decided map[string]*control.Decision) (state, note string) {
	by := decided[p.Paused]
	switch {
	case p.Halted != nil:
		return summary.Halted, p.Halted.Kind
	case r.Mode == fleet.ModeStopped:
		return summary.Stopped, "no instance runs"
	case slices.Contains(r.ShardsWithoutOwner, p.Shard):
		return summary.Stopped, "no instance owns its shard"
	case by != nil && (by.What == control.StopFlow || by.What == control.FailOver):
		return summary.Stopped, by.Who
	case by != nil:
		return summary.Paused, by.Who
	case !p.Listed:
		return summary.Waiting, "not begun"
	case p.TargetNoLeader:
		return summary.Waiting, string(replicator.WaitTargetNoLeader)
	case p.LagRecords == nil:
		return summary.Waiting, "lag unknown"
	case p.Verified.Problem() != "":
		return summary.Differs, ""
	case *p.LagRecords > 0:
		return summary.Copying, ""
	}
	return summary.InStep, ""
}

// chooseTopics keeps the topics with the most attention and lag, up to n, those first that wait for somebody. Lag does not order them: rows that move
// cannot be read.
func chooseTopics(topics []topicOverview, n int) []topicOverview {
	byAttention := func(a, b topicOverview) int {
		return cmp.Or(cmp.Compare(b.needsSomebody(), a.needsSomebody()), cmp.Compare(b.Attention, a.Attention))
	}
	slices.SortStableFunc(topics, func(a, b topicOverview) int { return cmp.Or(byAttention(a, b), cmp.Compare(b.lag(), a.lag())) })
	topics = topics[:min(n, len(topics))]
	slices.SortFunc(topics, func(a, b topicOverview) int { return cmp.Or(byAttention(a, b), cmp.Compare(a.Topic, b.Topic)) })
	return topics
}

// needsSomebody is 1 if nothing is copied before somebody acts, else 0.
func (t *topicOverview) needsSomebody() int {
	if t.State == summary.Halted || t.State == summary.Stopped {
		return 1
	}
	return 0
}

// maxTopicRows is how many topics the text output shows; --output json prints all.
const maxTopicRows = 20

// printTopics prints a table by topic, those first that need attention. All is their number, of which the list may be a choice. Paces has how fast they
// are, nil if that is not known.
func (p *program) printTopics(topics []topicOverview, all int, paces paces) {
	if len(topics) == 0 {
		return
	}
	topics = chooseTopics(slices.Clone(topics), maxTopicRows)
	var rows [][]cell
	if paces == nil {
		rows = append(rows, cells("TOPIC", "PARTITIONS", "STATE", "LAG", "BEHIND"))
	} else {
		rows = append(rows, cells("TOPIC", "PARTITIONS", "STATE", "LAG", "RECORDS/S", "CAUGHT UP IN", "COPIED"))
	}
	for i := range topics {
		t := &topics[i]
		state := t.State
		if t.Note != "" {
			state = fmt.Sprintf("%s (%s)", t.State, t.Note)
		}
		row := []cell{{text: t.Topic}, {text: strconv.Itoa(t.Partitions)}, {state, colourOf(t.State)}, {text: lagCell(t)}}
		if paces == nil {
			row = append(row, cells(behindText(t.LagSeconds))...)
		} else {
			pace := paces[t.Topic]
			row = append(row, cells(rateText(pace), leftText(pace, t.lag()), copiedText(t))...)
		}
		rows = append(rows, row)
	}
	if topics[0].Copied == nil && paces != nil { // by the journal, which does not have it
		for i := range rows {
			rows[i] = rows[i][:len(rows[i])-1]
		}
	}
	p.printf("\n")
	p.printGrid("  ", rows)
	p.printMore("  ", all-len(topics), " topics")
}

// lagCell is the lag of a topic in a table, with a + if there is more that is not known.
func lagCell(t *topicOverview) string {
	switch {
	case t.LagRecords == nil:
		return "unknown"
	case t.LagUnknown > 0:
		return optional(t.LagRecords) + "+"
	}
	return optional(t.LagRecords)
}

// behindText is the age of the newest record that is copied, while there is lag.
func behindText(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return roundedText(time.Duration(*seconds * float64(time.Second)))
}

// roundedText is a duration in as few digits as people need.
func roundedText(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < 10*time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}
