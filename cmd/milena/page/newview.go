package page

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
)

// newFlow is what a status comes to on the first screen. Stopping says that the process ends. It leaves out what one status does not tell: rates.
func newFlow(s *replicator.Status, commands commands, stopping bool, now time.Time) Flow {
	t := tally(s)
	f := Flow{
		Flow: s.Flow, Source: s.Source, Target: s.Target, SourceClusterID: s.SourceClusterID, TargetClusterID: s.TargetClusterID,
		Ready: s.Ready, NotReady: listed(s.NotReady), RPO: newRPO(&s.RPO, now), RTOObjectiveSeconds: positive(s.RTOObjectiveSeconds),
		Copied:      Copied{s.Records, s.Bytes},
		Lag:         Lag{Records: s.LagRecords, Seconds: t.lagSeconds, UnknownPartitions: s.LagUnknown},
		TopicsTotal: t.topics,
		Decisions:   newDecisions(&s.Control, commands), Instance: newInstance(&s.Instance), Instances: members(&s.Instance),
		LastDrill: newDrill(s.Control.Drill), Throttle: newThrottle(s), Verify: newVerify(s.Verify, &t),
		Fence: s.Fence, ConfigRefused: notEmpty(s.ConfigRefused),
	}
	if r := s.Control.Recovery; r != nil {
		f.Recovery = &Recovery{What: r.What, Who: r.Who, State: string(r.State), Step: r.Step, Held: r.Held, Sentence: summary.RecoveryText(r)}
	}
	if g := s.Groups; g != nil && (!g.LastPass.IsZero() || len(g.Problems) > 0) {
		f.Groups = &Groups{Groups: g.Groups, Positions: g.Positions, Refused: g.Refused, NotFollowed: len(g.NotFollowed), LastPass: notZero(g.LastPass)}
		if !g.LastPass.IsZero() {
			f.GroupsTotal = &f.Groups.Groups
		}
	}
	if a := s.ACLs; a != nil && !a.LastPass.IsZero() {
		f.ACLs = &ACLs{InStep: a.InStep, Refused: a.Refused, LastPass: notZero(a.LastPass)}
	}
	f.State = stateOf(s, &t, stopping)
	f.Verdict = newVerdict(s, &t, f.State, commands, now)
	f.Attention, f.AttentionMore = newAttention(s, &t, commands)
	f.Partitions = t.partitions
	f.AllIsWell = s.Ready && !slices.ContainsFunc(f.Attention, func(a Attention) bool { return a.Severity != Notice })
	return f
}

// tallied is what the partitions of a status come to.
type tallied struct {
	partitions Partitions
	topics     int
	lagSeconds *float64
	begun      int // partitions
	dark       int // those of them whose source has not answered lately
	noSource   int // partitions that wait for the source
	noTarget   int // partitions that wait for the target
	verified   int
	oldest     time.Time // of what was verified, when it was
}

// tally goes once through the partitions, which are sorted by topic.
func tally(s *replicator.Status) (t tallied) {
	throttled := summary.ThrottlesOf(s.Control.InForce)
	last := ""
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if i == 0 || p.Topic != last {
			t.topics, last = t.topics+1, p.Topic
		}
		t.partitions.add(stateIn(p, throttled))
		t.addSight(p)
		if p.LagSeconds != nil && (t.lagSeconds == nil || *p.LagSeconds > *t.lagSeconds) {
			t.lagSeconds = p.LagSeconds
		}
		if p.Verified != nil {
			t.verified++
			if t.oldest.IsZero() || p.Verified.Checked.Before(t.oldest) {
				t.oldest = p.Verified.Checked
			}
		}
	}
	return t
}

// addSight counts whether the clusters answer for a partition.
func (t *tallied) addSight(p *replicator.PartitionStatus) {
	if p.Begun {
		t.begun++
		if p.LagRecords == nil && !p.SourceSeen.IsZero() {
			t.dark++
		}
	}
	if p.Wait == nil {
		return
	}
	switch p.Wait.Reason {
	case replicator.WaitSourceUnreachable, replicator.WaitSourceNoLeader:
		t.noSource++
	case replicator.WaitTargetUnreachable, replicator.WaitTargetNoLeader:
		t.noTarget++
	case replicator.WaitSourceRefused, replicator.WaitTargetRefused, replicator.WaitTargetMissing, replicator.WaitNotAllowed, replicator.WaitTakeover,
		replicator.WaitRecovery:
	}
}

// stateIn is the state of a partition, with who limits its rate.
func stateIn(p *replicator.PartitionStatus, throttled summary.Throttles) string {
	state, _ := stateAndNote(p, throttled)
	return state
}

func stateAndNote(p *replicator.PartitionStatus, throttled summary.Throttles) (state, note string) {
	state, note = summary.StateOf(*p)
	if state == summary.Copying || state == summary.CatchingUp {
		if who := throttled.Of(p.Topic); who != "" {
			return summary.Throttled, who
		}
	}
	return state, note
}

// add counts a partition.
func (p *Partitions) add(state string) {
	p.Total++
	switch state {
	case summary.InStep:
		p.InStep++
	case summary.Copying:
		p.Copying++
	case summary.CatchingUp:
		p.CatchingUp++
	case summary.Throttled:
		p.Throttled++
	case summary.Paused:
		p.Paused++
	case summary.Differs:
		p.Differs++
	case summary.Stopped:
		p.Stopped++
	case summary.Halted:
		p.Halted++
	default:
		p.Waiting++
	}
}

// stateOf is what the flow does.
func stateOf(s *replicator.Status, t *tallied, stopping bool) State {
	decided := flowDecision(s.Control.InForce)
	switch {
	case stopping:
		return StateStopping
	case decided != nil && decided.What == control.FailOver:
		return StateFailedOver
	case decided != nil && decided.What == control.StopFlow:
		return StateStopped
	case s.LeaseRanOut, t.noTarget > 0 && t.noTarget == t.partitions.Total:
		return StateTargetDark
	case t.isSourceDark():
		return StateSourceDark
	case t.partitions.Halted > 0:
		return StateHalted
	case s.Instance.State == "standby":
		return StateStandby
	case isStarting(s):
		return StateStarting
	case decided != nil:
		return StatePaused
	case t.partitions.CatchingUp > 0:
		return StateCatchingUp
	}
	return StateCopying
}

// isSourceDark reports whether the source has answered for nothing lately.
func (t *tallied) isSourceDark() bool {
	return t.begun > 0 && t.dark == t.begun || t.begun == 0 && t.noSource > 0
}

// isStarting reports whether the flow has yet to take its shards.
func isStarting(s *replicator.Status) bool {
	return !s.Ready && (s.Shards["starting"]+s.Shards["recovering"] > 0 || s.Instance.State == "joining" || len(s.Partitions) == 0)
}

// flowDecision is the decision about the whole flow that holds and keeps it from copying, nil if there is none.
func flowDecision(inForce []replicator.DecisionStatus) *replicator.DecisionStatus {
	var found *replicator.DecisionStatus
	for i := range inForce {
		switch d := &inForce[i]; {
		case d.What == control.FailOver, d.What == control.StopFlow:
			return d
		case d.What == control.Pause && d.Scope == wholeFlow():
			found = d
		}
	}
	return found
}

func wholeFlow() string { return control.Scope{Kind: control.Flow}.String() }

func newInstance(i *replicator.InstanceStatus) Instance {
	n := Instance{ID: i.ID, State: i.State, Held: i.Held, Shards: i.Shards, Syncs: i.Syncs, Problem: i.Problem, Share: 1}
	if i.Shards > 0 {
		n.Share = float64(i.Held) / float64(i.Shards)
	}
	return n
}

func members(i *replicator.InstanceStatus) []Member {
	list := []Member{}
	for _, of := range i.Instances {
		m := Member{Name: of.ID, Host: of.Host, Version: of.Version, This: of.ID == i.ID}
		if of.Shards != nil {
			n := len(of.Shards)
			m.Shards = &n
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func newDrill(d *control.DrillStatus) *Drill {
	if d == nil {
		return nil
	}
	return &Drill{
		Who: d.Who, When: d.When, Passed: d.Passed, Findings: d.Findings, RPOSeconds: d.RPOSeconds, RTOSeconds: d.RTOSeconds, LastPassed: notZero(d.LastPassed),
	}
}

func newThrottle(s *replicator.Status) Throttle {
	t := Throttle{Brokers: []string{}}
	for _, b := range s.Throttled {
		t.Brokers = append(t.Brokers, b.Text)
	}
	for _, d := range s.Control.InForce {
		if d.What == control.Throttle && d.Scope == wholeFlow() {
			t.BytesPerSecond = &d.BytesPerSecond
		}
	}
	return t
}

func newVerify(v *replicator.VerifyStatus, t *tallied) *Verify {
	if v == nil {
		return nil
	}
	return &Verify{
		BytesPerSecond: v.BytesPerSecond, Problem: notEmpty(v.Problem), DifferingPartitions: v.Differing, VerifiedPartitions: t.verified,
		OldestChecked: notZero(t.oldest),
	}
}

// maxDecisions bounds the list of decisions.
const maxDecisions = 20

func newDecisions(c *replicator.ControlStatus, commands commands) []Decision {
	list := []Decision{}
	for _, d := range c.InForce[:min(maxDecisions, len(c.InForce))] {
		list = append(list, Decision{
			What: d.What, Scope: d.Scope, Who: d.Who, Why: d.Why, Since: d.Since, Until: notZero(d.Until), BytesPerSecond: positive(d.BytesPerSecond),
			Sentence: summary.InForceText(string(d.What), d.Scope, d.Who, d.Why, d.Since, d.Until, d.BytesPerSecond),
			Command:  commands.ending(&d),
		})
	}
	return list
}

// listed is a list that is [] in JSON if it is empty.
func listed(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

func notEmpty(text string) *string {
	if text = strings.TrimSpace(text); text == "" {
		return nil
	}
	return &text
}

func notZero(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

func positive[N int64 | float64](n N) *N {
	if n <= 0 {
		return nil
	}
	return &n
}
