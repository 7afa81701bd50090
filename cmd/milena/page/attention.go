package page

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
)

// maxAttention bounds the list of a flow, so that a page costs the same when everything is wrong.
const maxAttention = 40

// attentionList is what needs attention, in the order in which it is added.
type attentionList struct {
	rows     []Attention
	commands commands
}

func (l *attentionList) add(severity Severity, what, where, cause string, command *string) {
	l.rows = append(l.rows, Attention{Severity: severity, What: what, Where: where, Cause: cause, Command: command})
}

// addAll adds a row for each of some sentences.
func (l *attentionList) addAll(severity Severity, what, where string, causes []string) {
	for _, cause := range causes {
		l.add(severity, what, where, cause, nil)
	}
}

// newAttention lists what needs attention, worst first. More counts the partitions and topics that have no row.
func newAttention(s *replicator.Status, t *tallied, commands commands) (rows []Attention, more int) {
	l := &attentionList{rows: []Attention{}, commands: commands}
	l.addProcess(s)
	l.addRecovery(s)
	more = l.addPartitions(s, t)
	l.addSyncs(s)
	l.addDecided(s)
	for _, u := range s.Unused {
		severity := Warning
		if u.Notice {
			severity = Notice
		}
		l.add(severity, "selects nothing", u.List, u.String(), nil)
	}
	slices.SortStableFunc(l.rows, func(a, b Attention) int { return cmp.Compare(rank(a.Severity), rank(b.Severity)) })
	if n := len(l.rows) - maxAttention; n > 0 {
		more, l.rows = more+n, l.rows[:maxAttention]
	}
	return l.rows, more
}

func rank(s Severity) int { return slices.Index([]Severity{Bad, Warning, Notice}, s) }

// addProcess adds what concerns the process and the flow as a whole.
func (l *attentionList) addProcess(s *replicator.Status) {
	flow := "flow " + s.Flow
	if s.ConfigRefused != "" {
		command := "milena check -c FILE"
		l.add(Bad, "config refused", "config file", summary.RefusedText(s.ConfigRefused), &command)
	}
	if s.Instance.Problem != "" {
		l.add(Bad, "not in the group", "instance "+s.Instance.ID, s.Instance.Problem, nil)
	}
	if s.RPO.ObjectiveMissed {
		cause := fmt.Sprintf("the objective is %s, and the copy is complete only up to %s", summary.SecondsText(s.RPO.ObjectiveSeconds), clock(s.RPO.CompleteUpTo))
		if s.RPO.CompleteUpTo.IsZero() {
			cause = fmt.Sprintf("the objective is %s, and the copy is not known to be complete up to any time", summary.SecondsText(s.RPO.ObjectiveSeconds))
		}
		l.add(Bad, "RPO missed", flow, cause, nil)
	}
	severity := Bad
	if isStarting(s) {
		severity = Warning
	}
	l.addAll(severity, "not ready", flow, s.NotReady)
	l.addAll(Warning, "no controller", flow, s.Controllers)
	l.addAll(Warning, "certificate", flow, s.Certificates)
	if s.Verify != nil && s.Verify.Problem != "" {
		l.add(Warning, "not verified", flow, s.Verify.Problem, nil)
	}
}

// addRecovery adds a recovery that was broken off, and whether people can decide.
func (l *attentionList) addRecovery(s *replicator.Status) {
	flow := "flow " + s.Flow
	if r := s.Control.Recovery; r != nil && !r.Held {
		l.add(Bad, r.What+" broken off", flow, fmt.Sprintf("%s by %s: %s", r.What, r.Who, summary.RecoveryText(r)), l.commands.of(r.What, ""))
	}
	if s.Control.Problem != "" {
		l.add(Warning, "cannot be controlled", flow, s.Control.Problem, nil)
	}
	if n := len(s.Control.LastIgnored); n > 0 {
		l.add(Notice, "ignored records", flow, fmt.Sprintf("%s of the control topic are not decisions and are ignored; the last one is at %s",
			summary.Count(s.Control.Ignored, "record"), s.Control.LastIgnored[n-1]), nil)
	}
}

// addPartitions adds halted partitions one by one, and others that need attention by cause. More counts those without a row.
func (l *attentionList) addPartitions(s *replicator.Status, t *tallied) (more int) {
	var others summary.Entries
	severities := make(map[string]Severity) // by cause
	halted := 0
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if p.Anomaly != nil {
			t.partitions.Attention++
			if halted++; halted <= maxAttention {
				l.addHalted(p)
			}
			continue
		}
		if why := summary.Attention(*p); why != "" {
			t.partitions.Attention++
			others.Add(p.Topic, p.Partition, p.State, why)
			if p.Wait != nil && p.Wait.Final || p.Verified.Problem() != "" {
				severities[why] = Bad
			}
		}
	}
	others.AddNotCopied(withoutPartitions(s))
	more = max(0, halted-maxAttention) + others.Choose(maxAttention)
	for _, e := range others {
		where := e.Topic + "-" + e.Partitions
		switch {
		case e.Partitions == "-":
			where, severities[e.Why] = "topic "+e.Topic, Bad
		case strings.Contains(e.Partitions, "-"):
			where = "partitions " + e.Partitions + " of " + e.Topic
		}
		l.add(cmp.Or(severities[e.Why], Warning), e.State, where, e.Why, nil)
	}
	return more
}

// withoutPartitions are the topics that are not copied, less those whose partitions say why.
func withoutPartitions(s *replicator.Status) map[string]string {
	left := maps.Clone(s.NotCopied)
	for i := range s.Partitions {
		if len(left) == 0 {
			break
		}
		if summary.Attention(s.Partitions[i]) != "" {
			delete(left, s.Partitions[i].Topic)
		}
	}
	return left
}

// addHalted adds a partition that waits for somebody to decide.
func (l *attentionList) addHalted(p *replicator.PartitionStatus) {
	hint, command := l.commands.hint(p.Anomaly.Hint)
	number := p.Partition
	l.rows = append(l.rows, Attention{
		Severity: Bad, What: "halted (" + p.Anomaly.Kind + ")", Where: fmt.Sprintf("%s-%d", p.Topic, p.Partition), Cause: p.Anomaly.Detail,
		Command: command, Hint: hint, Topic: p.Topic, Partition: &number,
	})
}

// addSyncs adds what is not in sync besides records.
func (l *attentionList) addSyncs(s *replicator.Status) {
	if g := s.Groups; g != nil {
		l.addAll(Warning, "groups", "flow "+s.Flow, g.Problems)
		for _, r := range g.Refusals[:min(maxAttention, len(g.Refusals))] {
			severity := Notice
			if policy.Refusal(r.Reason).ByTarget() {
				severity = Bad
			}
			l.add(severity, "group not committed", "group "+r.Group, fmt.Sprintf("%s (%s; %s)", r.Text, summary.Count(r.Partitions, "partition"), r.Detail), nil)
		}
		for _, n := range g.NotFollowed[:min(maxAttention, len(g.NotFollowed))] {
			l.add(Notice, "group not followed", "group "+n.Group, n.Text, nil)
		}
	}
	if s.Configs != nil {
		l.addAll(Warning, "topic configs", "flow "+s.Flow, s.Configs.Problems)
	}
	if s.ACLs != nil {
		l.addAll(Warning, "ACLs", "flow "+s.Flow, s.ACLs.Problems)
	}
}

// addDecided adds what somebody paused or stopped, with the command that ends it. Throttles are in another place: they need nobody.
func (l *attentionList) addDecided(s *replicator.Status) {
	for i := range s.Control.InForce[:min(maxAttention, len(s.Control.InForce))] {
		d := &s.Control.InForce[i]
		if d.What == control.Throttle {
			continue
		}
		what := map[control.Verb]string{control.StopFlow: "stopped", control.FailOver: "failed over"}[d.What]
		l.add(Notice, cmp.Or(what, "paused"), d.Scope, summary.InForceText(string(d.What), d.Scope, d.Who, d.Why, d.Since, d.Until, d.BytesPerSecond),
			l.commands.ending(d))
	}
}
