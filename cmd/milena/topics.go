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

// drain shows that milena stops: topics that were copied drain.
func drain(topics []summary.Topic) {
	for i := range topics {
		if summary.Worse(topics[i].State, summary.Draining) == summary.Draining {
			topics[i].State, topics[i].Note = summary.Draining, ""
		}
	}
}

// fleetTopics sums up the topics of a report, whose partitions are sorted.
func fleetTopics(r *fleet.Report) (topics []summary.Topic) {
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
			topics = append(topics, summary.Topic{Topic: p.Topic, TargetTopic: p.TargetTopic})
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
		t.Count(state, note, p.LagRecords)
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
func chooseTopics(topics []summary.Topic, n int) []summary.Topic {
	byAttention := func(a, b summary.Topic) int {
		return cmp.Or(cmp.Compare(needsSomebody(&b), needsSomebody(&a)), cmp.Compare(b.Attention, a.Attention))
	}
	slices.SortStableFunc(topics, func(a, b summary.Topic) int { return cmp.Or(byAttention(a, b), cmp.Compare(b.Lag(), a.Lag())) })
	topics = topics[:min(n, len(topics))]
	slices.SortFunc(topics, func(a, b summary.Topic) int { return cmp.Or(byAttention(a, b), cmp.Compare(a.Topic, b.Topic)) })
	return topics
}

// needsSomebody is 1 if nothing is copied before somebody acts, else 0.
func needsSomebody(t *summary.Topic) int {
	if t.State == summary.Halted || t.State == summary.Stopped {
		return 1
	}
	return 0
}

// maxTopicRows is how many topics the text output shows; --output json prints all.
const maxTopicRows = 20

// printTopics prints a table by topic, those first that need attention. All is their number, of which the list may be a choice. Paces has how fast they
// are, nil if that is not known.
func (p *program) printTopics(topics []summary.Topic, all int, paces paces) {
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
			row = append(row, cells(rateText(pace), leftText(pace, t.Lag()), copiedText(t))...)
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
func lagCell(t *summary.Topic) string {
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
