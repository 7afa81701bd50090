package summary

import (
	"fmt"
	"time"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
)

// MaxDecisions is how many decisions are said; --output json prints all.
const maxDecisions = 20

// ControlTexts are sentences about what people decided that holds, and whether they can decide.
func ControlTexts(c replicator.ControlStatus) (texts []string) {
	for _, d := range c.InForce[:min(maxDecisions, len(c.InForce))] {
		texts = append(texts, InForceText(string(d.What), d.Scope, d.Who, d.Why, d.Since, d.Until, d.BytesPerSecond))
	}
	if n := len(c.InForce) - maxDecisions; n > 0 {
		texts = append(texts, fmt.Sprintf("and %d more decisions hold; --output json prints all", n))
	}
	if r := c.Recovery; r != nil {
		texts = append(texts, fmt.Sprintf("%s by %s: %s", r.What, r.Who, RecoveryText(r)))
	}
	for _, f := range c.Frozen {
		texts = append(texts, FrozenText(f))
	}
	if c.Drill != nil {
		texts = append(texts, DrillText(c.Drill))
	}
	if c.Problem != "" {
		texts = append(texts, c.Problem)
	}
	if n := len(c.LastIgnored); n > 0 {
		texts = append(texts, fmt.Sprintf("%s of the control topic are not decisions and are ignored; the last one is at %s", Count(c.Ignored, "record"), c.LastIgnored[n-1]))
	}
	return texts
}

// FrozenText says whose producers are stopped, and what ends that.
func FrozenText(f control.Frozen) string {
	since := ""
	if !f.Since.IsZero() {
		since = " since " + LocalTime(f.Since)
	}
	return fmt.Sprintf("frozen: producers may not write to cluster %s, by a switchover with --freeze %s%s; milena switchover --flow %s --thaw lets them", f.Cluster, f.How, since, f.Flow)
}

// DrillText is how the last drill came out, as a sentence.
func DrillText(d *control.DrillStatus) string {
	text := fmt.Sprintf("last drill: %s by %s: ", LocalTime(d.When), d.Who)
	switch {
	case d.Passed:
		text += "passed"
	case d.Findings > 0:
		text += "not passed, " + Count(d.Findings, "finding")
	default:
		text += "not carried out"
	}
	for _, f := range []struct {
		name    string
		seconds *float64
	}{{"RPO", d.RPOSeconds}, {"RTO", d.RTOSeconds}} {
		if f.seconds != nil {
			text += fmt.Sprintf(", %s %.1f s", f.name, *f.seconds)
		}
	}
	switch {
	case d.Passed:
	case d.LastPassed.IsZero():
		text += "; none was passed yet"
	default:
		text += "; the last that was passed: " + LocalTime(d.LastPassed)
	}
	return text
}

// InForceText is a decision that holds as a sentence.
func InForceText(what, scope, who, why string, since, until time.Time, rate int64) string {
	text := "paused: " + scope
	switch control.Verb(what) {
	case control.StopFlow:
		text = "stopped: " + scope
	case control.FailOver:
		text = "failed over: " + scope + " does nothing until milena failback or milena start"
	case control.Throttle:
		text = fmt.Sprintf("throttled to %s/s: %s", Size(rate), scope)
	case control.Pause, control.Resume, control.Retry, control.Skip, control.RestartCopy, control.Adopt, control.StartFlow, control.SyncGroups:
	}
	text += ", by " + who
	if !since.IsZero() { // its config says so
		text += " since " + LocalTime(since)
	}
	if !until.IsZero() {
		text += " until " + LocalTime(until)
	}
	return text + ReasonOf(why)
}

// RecoveryText is how far a recovery is.
func RecoveryText(r *control.RecoveryStatus) string {
	switch {
	case r.Drilled != nil && r.Drilled.Passed:
		return "passed"
	case r.Drilled != nil:
		return "not passed, " + Count(int64(r.Drilled.Findings), "finding")
	case r.State == control.RecoveryDone || r.State == control.RecoveryUndone:
		return string(r.State)
	case r.Held:
		return fmt.Sprintf("%s, at step %s", r.State, r.Step)
	}
	text := fmt.Sprintf("broken off at step %s, while it was %s; milena %s resumes it", r.Step, r.State, r.What)
	if r.What != string(control.FailOver) && r.What != control.Drill {
		text += ", or milena failover takes its place if the source is gone"
	}
	return text
}

// RefusedText says that the config file is refused, and why.
func RefusedText(why string) string {
	return "the config file is refused, and the config before it stays in force:\n" + why
}

// ReasonOf is a reason as the end of a sentence.
func ReasonOf(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
