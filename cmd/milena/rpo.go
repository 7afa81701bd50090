package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// rpoFresh is how old what is known of the source may be before its age is printed: the journal has it every few seconds.
const rpoFresh = 15 * time.Second

// maxLosses is how many topics that lack records the text output shows; --output json has more.
const maxLosses = 3

// lossOverview is what a failover would lose and may take.
type lossOverview struct {
	// Loss is what a failover would lose, as a sentence; empty if nothing is copied. Losses are sentences about the topics that it would lose most of.
	Loss   string   `json:"loss,omitempty"`
	Losses []string `json:"losses,omitempty"`
	// RTO is the objective for its duration as a sentence, empty if there is none.
	RTO string `json:"rto,omitempty"`

	missed bool // the objective
}

func newLossOverview(r offsets.RPO, rto float64, now time.Time) lossOverview {
	l := lossOverview{Loss: rpoText(r, now), Losses: lossTexts(r, now), missed: r.ObjectiveMissed}
	if rto > 0 {
		l.RTO = "objective " + secondsText(rto)
	}
	return l
}

// rpoText says what a failover would lose, empty if nothing is copied.
func rpoText(r offsets.RPO, now time.Time) string {
	if r.Partitions+r.Unknown == 0 {
		return ""
	}
	parts := []string{completeText(&r.Loss, now) + objectiveText(r)}
	switch {
	case r.MissingRecords > 0:
		parts = append(parts, fmt.Sprintf("at most %s missing", count(r.MissingRecords, "record")))
	case r.Partitions > 0:
		parts = append(parts, "no seen record missing")
	}
	if age := now.Sub(r.SeenAt); !r.SeenAt.IsZero() && age > rpoFresh {
		parts = append(parts, "source not seen since "+r.SeenAt.UTC().Format(time.DateTime)+", "+ago(age))
	}
	return strings.Join(parts, "; ")
}

// completeText says up to when copies are complete.
func completeText(l *offsets.Loss, now time.Time) string {
	switch {
	case !l.CompleteUpTo.IsZero():
		return fmt.Sprintf("complete up to %s, %s", l.CompleteUpTo.UTC().Format(time.DateTime), ago(now.Sub(l.CompleteUpTo)))
	case l.Unknown > 0:
		return fmt.Sprintf("not known for %s", count(l.Unknown, "partition"))
	default:
		return "not complete yet"
	}
}

// objectiveText is the objective, and whether it is missed, empty if there is none.
func objectiveText(r offsets.RPO) string {
	switch objective := secondsText(r.ObjectiveSeconds); {
	case r.ObjectiveSeconds == 0:
		return ""
	case r.ObjectiveMissed:
		return " (objective " + objective + ": MISSED)"
	default:
		return " (objective " + objective + ")"
	}
}

// secondsText is an objective as a person writes it.
func secondsText(seconds float64) string {
	if seconds < 120 {
		return fmt.Sprintf("%v s", seconds)
	}
	return time.Duration(seconds * float64(time.Second)).String()
}

// lossTexts are sentences about the topics that a failover would lose records of, worst first. Of a busy flow, records are always on the way: topics that
// were complete just now are left out while the objective is met.
func lossTexts(r offsets.RPO, now time.Time) (texts []string) {
	topics := 0
	for i := range r.Topics {
		t := &r.Topics[i]
		if t.MissingRecords == 0 || !r.ObjectiveMissed && !t.CompleteUpTo.IsZero() && now.Sub(t.CompleteUpTo) <= rpoFresh {
			continue
		}
		if topics++; topics <= maxLosses {
			behind := count(len(t.Behind)+t.OtherBehind, "partition")
			texts = append(texts, fmt.Sprintf("%s: %s of %s missing, %s", t.Topic, count(t.MissingRecords, "record"), behind, completeText(&t.Loss, now)))
		}
	}
	if more := topics + r.OtherTopics - maxLosses; more > 0 {
		texts = append(texts, fmt.Sprintf("fewer in %s more; --output json has the rest in rpo", count(more, "topic")))
	}
	if u := r.Unlisted; u != nil {
		texts = append(texts, fmt.Sprintf("the journal has no room to list %s, which lack %s: the figures of topics are lower bounds",
			count(u.Partitions, "partition"), count(u.MissingRecords, "record")))
	}
	return texts
}

// printLoss prints what a failover would lose, and the objectives.
func (p *program) printLoss(l lossOverview) {
	if l.Loss != "" {
		p.printf("  RPO: ")
		if l.missed {
			p.paint(red, l.Loss)
		} else {
			p.printf("%s", l.Loss)
		}
		p.printf("\n")
	}
	for _, topic := range l.Losses {
		p.printf("    %s\n", topic)
	}
	if l.RTO != "" {
		p.printf("  RTO: %s\n", l.RTO)
	}
}
