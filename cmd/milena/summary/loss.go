package summary

import (
	"fmt"
	"strings"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// Fresh is how old what is known of the source may be before its age is printed: the journal has it every few seconds.
const Fresh = 15 * time.Second

// maxLosses is how many topics that lack records the text output shows; --output json has more.
const maxLosses = 3

// LossText says what a failover would lose, empty if nothing is copied.
func LossText(r offsets.RPO, now time.Time) string {
	if r.Partitions+r.Unknown == 0 {
		return ""
	}
	parts := []string{CompleteText(&r.Loss, now) + objectiveText(r)}
	switch {
	case r.MissingRecords > 0:
		parts = append(parts, fmt.Sprintf("at most %s missing", Count(r.MissingRecords, "record")))
	case r.Partitions > 0:
		parts = append(parts, "no seen record missing")
	}
	if age := now.Sub(r.SeenAt); !r.SeenAt.IsZero() && age > Fresh {
		parts = append(parts, "source not seen since "+r.SeenAt.UTC().Format(time.DateTime)+", "+Ago(age))
	}
	return strings.Join(parts, "; ")
}

// CompleteText says up to when copies are complete.
func CompleteText(l *offsets.Loss, now time.Time) string {
	switch {
	case !l.CompleteUpTo.IsZero():
		return fmt.Sprintf("complete up to %s, %s", l.CompleteUpTo.UTC().Format(time.DateTime), Ago(now.Sub(l.CompleteUpTo)))
	case l.Unknown > 0:
		return fmt.Sprintf("not known for %s", Count(l.Unknown, "partition"))
	default:
		return "not complete yet"
	}
}

// objectiveText is the objective, and whether it is missed, empty if there is none.
func objectiveText(r offsets.RPO) string {
	switch objective := SecondsText(r.ObjectiveSeconds); {
	case r.ObjectiveSeconds == 0:
		return ""
	case r.ObjectiveMissed:
		return " (objective " + objective + ": MISSED)"
	default:
		return " (objective " + objective + ")"
	}
}

// SecondsText is an objective as a person writes it.
func SecondsText(seconds float64) string {
	if seconds < 120 {
		return fmt.Sprintf("%v s", seconds)
	}
	return time.Duration(seconds * float64(time.Second)).String()
}

// LossTexts are sentences about the topics that a failover would lose records of, worst first. Of a busy flow, records are always on the way: topics that
// were complete just now are left out while the objective is met.
func LossTexts(r offsets.RPO, now time.Time) (texts []string) {
	topics := 0
	for i := range r.Topics {
		t := &r.Topics[i]
		if t.MissingRecords == 0 || !r.ObjectiveMissed && !t.CompleteUpTo.IsZero() && now.Sub(t.CompleteUpTo) <= Fresh {
			continue
		}
		if topics++; topics <= maxLosses {
			behind := Count(len(t.Behind)+t.OtherBehind, "partition")
			texts = append(texts, fmt.Sprintf("%s: %s of %s missing, %s", t.Topic, Count(t.MissingRecords, "record"), behind, CompleteText(&t.Loss, now)))
		}
	}
	if more := topics + r.OtherTopics - maxLosses; more > 0 {
		texts = append(texts, fmt.Sprintf("fewer in %s more; --output json has the rest in rpo", Count(more, "topic")))
	}
	if u := r.Unlisted; u != nil {
		texts = append(texts, fmt.Sprintf("the journal has no room to list %s, which lack %s: the figures of topics are lower bounds",
			Count(u.Partitions, "partition"), Count(u.MissingRecords, "record")))
	}
	return texts
}
