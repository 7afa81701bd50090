package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
)

func newRPO(r *offsets.RPO, now time.Time) RPO {
	v := RPO{
		CompleteUpTo: notZero(r.CompleteUpTo), SeenAt: notZero(r.SeenAt), Partitions: r.Partitions, UnknownPartitions: r.Unknown, NeverComplete: r.Never,
		ObjectiveSeconds: positive(r.ObjectiveSeconds), ObjectiveMissed: r.ObjectiveMissed, Topics: listed(summary.LossTexts(*r, now)),
	}
	if r.Partitions > 0 {
		v.MissingRecords = &r.MissingRecords
	}
	return v
}

// newVerdict says whether the target could take over now, and what would be lost. It says yes only if that is known.
func newVerdict(s *replicator.Status, t *tallied, state State, commands commands, now time.Time) Verdict {
	r := &s.RPO
	v := Verdict{CanFailOver: Unknown}
	if why := notNow(s, state); why != "" {
		return Verdict{CanFailOver: No, Sentence: "No: " + why + "."}
	}
	whole := isWhole(&s.Instance)
	if whole && r.Unknown == 0 && r.Partitions > 0 {
		v.CompleteUpTo = notZero(r.CompleteUpTo)
		if isSeen(r, now) {
			v.WouldLoseRecords = &r.MissingRecords
		}
	}
	switch {
	case state == StateStopped:
		d := flowDecision(s.Control.InForce)
		v.Sentence = stoppedSentence(d, s)
	case r.Partitions+r.Unknown == 0 && !whole:
		v.Sentence = fmt.Sprintf("Not known here: this instance copies nothing. %s says it for the flow.", fleetCommand(commands))
	case r.Partitions+r.Unknown == 0:
		v.Sentence = fmt.Sprintf("Not known: no partition is copied yet, so nothing is known of what %s lacks.", s.Target)
	case r.Never > 0:
		v.CanFailOver, v.CompleteUpTo = No, nil
		v.Sentence = fmt.Sprintf("No: %s never completely copied yet; %s.", were(r.Never, "partition"), lossClause(s, now))
	case r.Unknown > 0:
		v.Sentence = fmt.Sprintf("Not known: nothing is known of %s.", summary.Count(r.Unknown, "partition"))
	case !whole:
		v.Sentence = fmt.Sprintf("Not known here: this instance copies %d of %d shards. Of these, %s. %s says it for the flow.",
			s.Instance.Held, s.Instance.Shards, lossClause(s, now), fleetCommand(commands))
	default:
		v.CanFailOver, v.Command = Yes, commands.moving(state)
		v.Sentence = "Yes: " + lossClause(s, now) + "." + besides(s, t)
	}
	return v
}

// stoppedSentence says what is known of the source while the flow is stopped.
func stoppedSentence(d *replicator.DecisionStatus, s *replicator.Status) string {
	if d.Since.IsZero() {
		return fmt.Sprintf("Not known: the flow is stopped by %s, and was never started. What is only on %s is not known.", d.Who, s.Source)
	}
	return fmt.Sprintf("Not known: the flow is stopped since %s by %s. What was written to %s since then is not on %s.", clock(d.Since), d.Who, s.Source, s.Target)
}

// notNow is why the target cannot take over now, empty if nothing is known to keep it from that.
func notNow(s *replicator.Status, state State) string {
	switch r := s.Control.Recovery; {
	case state == StateFailedOver:
		d := flowDecision(s.Control.InForce)
		return fmt.Sprintf("the flow has failed over already, since %s by %s, and clients use %s", clock(d.Since), d.Who, s.Target)
	case r != nil && r.Held && r.What != control.Drill:
		return fmt.Sprintf("a %s by %s is under way, at step %s", r.What, r.Who, r.Step)
	case state == StateTargetDark:
		return fmt.Sprintf("the target, cluster %s, does not answer", s.Target)
	}
	return ""
}

// isWhole reports whether this instance has all shards of the flow, so that its figures are those of the flow.
func isWhole(i *replicator.InstanceStatus) bool { return int32(i.Held) >= i.Shards }

// isSeen reports whether the source was seen lately for every partition.
func isSeen(r *offsets.RPO, now time.Time) bool {
	return !r.SeenAt.IsZero() && now.Sub(r.SeenAt) <= summary.Fresh
}

// lossClause says what would be lost, by absolute times: a sentence that changes with every second cannot be compared.
func lossClause(s *replicator.Status, now time.Time) string {
	r := &s.RPO
	var parts []string
	if !r.CompleteUpTo.IsZero() {
		parts = append(parts, fmt.Sprintf("%s has everything that %s had at %s", s.Target, s.Source, clock(r.CompleteUpTo)))
	}
	if r.MissingRecords > 0 {
		parts = append(parts, fmt.Sprintf("at most %s that were seen on %s would be lost", summary.Count(r.MissingRecords, "record"), s.Source))
	} else {
		parts = append(parts, "no record that was seen would be lost")
	}
	switch {
	case isSeen(r, now):
	case r.SeenAt.IsZero():
		parts = append(parts, fmt.Sprintf("%s was not yet seen for every partition", s.Source))
	default:
		parts = append(parts, fmt.Sprintf("what was written to %s since %s is not known", s.Source, clock(r.SeenAt)))
	}
	return strings.Join(parts, "; ")
}

// besides is what else somebody who fails over must know.
func besides(s *replicator.Status, t *tallied) (text string) {
	if s.RPO.ObjectiveMissed {
		text += fmt.Sprintf(" The objective of %s is missed.", summary.SecondsText(s.RPO.ObjectiveSeconds))
	}
	if n := t.partitions.Halted; n > 0 {
		text += fmt.Sprintf(" %s halted and not copied since.", are(n, "partition"))
	}
	if n := len(s.NotCopied); n > 0 {
		text += fmt.Sprintf(" %s not copied, or not completely.", are(n, "topic"))
	}
	return text
}

func are(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return summary.Count(n, noun) + " are"
}

func were(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " was"
	}
	return summary.Count(n, noun) + " were"
}

// clock is a time as sentences of the page say it.
func clock(at time.Time) string { return at.UTC().Format(time.DateTime) + " UTC" }

func fleetCommand(c commands) string { return *c.of("status", "") }

// moving is the command that moves clients to the target.
func (c commands) moving(state State) *string {
	if state == StateSourceDark {
		return c.of("failover", "--reason TEXT")
	}
	return c.of("switchover", "--reason TEXT")
}
