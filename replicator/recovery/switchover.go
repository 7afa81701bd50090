package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/freeze"
)

// Options say how a recovery is carried out. A recovery that is resumed keeps those that it began with.
type Options struct {
	Who    string `json:"who"`
	Reason string `json:"reason,omitempty"`
	// Freeze is how the producers of the source are stopped.
	Freeze freeze.Method `json:"freeze,omitempty"`
	// MaxLag is how many records the copy may be behind when a switchover begins.
	MaxLag int64 `json:"max_lag,omitempty"`
	// NoReverse says that nothing copies back from the target afterwards.
	NoReverse bool `json:"no_reverse,omitempty"`
	// LeaveGroups are groups that are not waited for and not proven.
	LeaveGroups []string `json:"leave_groups,omitempty"`
	// Where is where a failover puts groups, by name; "*" is for those that are not named.
	Where map[string]Where `json:"where,omitempty"`
	// Force fails over although the source answers.
	Force bool `json:"force,omitempty"`
	// Diverged is of a failback only.
	Diverged DivergedOptions `json:"diverged,omitzero"`
	// DryRun checks, and begins nothing.
	DryRun bool `json:"-"`
	// Watch is told what happens; nil if nobody wants to know.
	Watch func(Event) `json:"-"`

	gone func(holder string) bool // instead of looking for the process, in tests
}

// RefusedError means that a check refuses the recovery. Nothing was begun.
type RefusedError struct{ Rows []Row }

func (e *RefusedError) Error() string {
	var list []string
	for _, r := range e.Rows {
		if r.Result == Refuse {
			list = append(list, r.Name+": "+r.Detail)
		}
	}
	return "refused: " + strings.Join(list, "; ")
}

// Count says how many checks refuse.
func (e *RefusedError) Count() string {
	n := 0
	for _, r := range e.Rows {
		if r.Result == Refuse {
			n++
		}
	}
	if n == 1 {
		return "1 check refuses"
	}
	return fmt.Sprintf("%d checks refuse", n)
}

// The steps of a switchover, in their order.
const (
	StepFreeze  = "freeze"
	StepDrain   = "drain"
	StepGroups  = "groups"
	StepStop    = "stop"
	StepReverse = "reverse"
	StepOpen    = "open"
)

// switchover is a switchover from the source to the target of a flow.
type switchover struct {
	*run
	o         Options
	source    *kgo.Client
	target    *kgo.Client
	reverse   *client.Clusters // nil if there is no flow back
	positions *positions
	drained   *drained // nil if an earlier process saw it
}

// SwitchOver moves clients from the source of a flow to its target without loss: it stops the producers, waits until all is copied, proves that, puts the
// consumer groups where they continue, stops the flow and lets the reverse flow run. Reverse is that flow, nil if there is none. If a step fails, or ctx ends,
// everything is as before. A switchover that was broken off is resumed, with the options that it began with. The report is never nil. Errors: a
// [RefusedError], a [HeldError], and why it was undone or not.
func SwitchOver(ctx context.Context, c client.Clusters, reverse *client.Clusters, o Options) (*Report, error) {
	report := &Report{Verb: Switchover, Flow: c.Flow.Name, Source: c.Flow.Source, Target: c.Flow.Target, Who: o.Who, Steps: []Step{}}
	source, target, err := c.Open()
	if err != nil {
		return report, err
	}
	defer source.Close()
	defer target.Close()
	resumes, plan, err := o.isResumed(ctx, c, Switchover)
	if err != nil {
		return report, err
	}
	if !resumes || o.DryRun {
		p := preflight{clusters: c, reverse: reverse, o: o, source: source, target: target}
		report.Checks = p.check(ctx)
		o.checked(report.Checks)
		if isRefused(report.Checks) {
			return report, &RefusedError{report.Checks}
		}
		if o.DryRun {
			report.Plan = plan
			return report, ctx.Err()
		}
	}
	r, err := begin(ctx, c, Switchover, o, report.Checks)
	if err != nil {
		return report, err
	}
	defer r.close()
	s := &switchover{run: r, o: r.doc.Options, source: source, target: target, reverse: reverse}
	if s.positions, err = newPositions(c, reverse, source, target, s.o.LeaveGroups); err != nil {
		return r.report(), err
	}
	err = r.execute(ctx, s.steps())
	report = r.report()
	if err == nil {
		report.Clients = clientsOf(c, reverse)
	}
	return report, s.stillFrozen(err)
}

// isResumed reports whether a recovery was broken off, and goes on. It also returns the steps, with how long they took before.
func (o *Options) isResumed(ctx context.Context, c client.Clusters, verb Verb) (resumed bool, plan []Planned, err error) {
	_, state, done, err := control.Open(ctx, c)
	if err != nil {
		return false, nil, err
	}
	done()
	broken, err := o.open(state, verb, c.Flow.Name)
	return broken != nil, planOf(verb, state), err
}

func isRefused(rows []Row) bool {
	return slices.ContainsFunc(rows, func(r Row) bool { return r.Result == Refuse })
}

func (s *switchover) steps() []step {
	return []step{
		{name: StepFreeze, do: s.freeze, undo: s.thaw},
		{name: StepDrain, do: s.drain},
		{name: StepGroups, do: s.moveGroups},
		{name: StepStop, do: s.stop, undo: s.start},
		{name: StepReverse, do: s.startReverse, undo: s.stopReverse},
		{name: StepOpen, do: s.open, last: true},
	}
}

// freeze stops the producers of the source. What it is going to do is in the control topic before.
func (s *switchover) freeze(ctx context.Context) (string, error) {
	if s.o.Freeze == freeze.None {
		return "left to you: no producer may write to " + s.clusters.Flow.Source, nil
	}
	if s.doc.Frozen == nil {
		plan, err := freezePlan(ctx, s.clusters, s.source, s.o.Freeze)
		if err != nil {
			return "", err
		}
		if !plan.OK() {
			return "", &RefusedError{freezeRows(plan)}
		}
		if err := s.change(ctx, func(d *document) { d.Frozen = &frozen{Memory: plan.Memory, Since: now()} }); err != nil {
			return "", err
		}
	}
	if err := s.keepFreeze(ctx); err != nil {
		return "", err
	}
	if err := freeze.Freeze(ctx, s.source, s.doc.Frozen.Memory); err != nil {
		return "", s.clusters.SourceError(err)
	}
	text := fmt.Sprintf("producers of cluster %s are stopped by %s", s.clusters.Flow.Source, methodText(s.o.Freeze))
	if s.o.Freeze == freeze.Quota {
		text += "; each may write one more request whenever it connects again, so stop those that still run"
	}
	return text, nil
}

func methodText(m freeze.Method) string {
	if m == freeze.ACL {
		return "ACLs that deny WRITE"
	}
	return "quotas near zero"
}

// thaw takes the freeze back.
func (s *switchover) thaw(ctx context.Context) (string, error) {
	switch {
	case s.doc.Frozen == nil:
		return "nothing was frozen", nil
	case !s.doc.Frozen.holds(): // a process was killed before it could keep that
		return "it is taken back already", s.keepFreeze(ctx)
	}
	text, err := takeBack(ctx, s.clusters.Flow.Source, s.source, *s.doc.Frozen)
	if err != nil {
		return "", s.clusters.SourceError(err)
	}
	if err := s.change(ctx, func(d *document) { d.Frozen.Thawed = now() }); err != nil {
		return "", err
	}
	if err := s.keepFreeze(ctx); err != nil {
		return "", err
	}
	return text, nil
}

// stillFrozen adds to the error of a switchover that has neither ended nor been undone whose producers stay stopped, and what ends that.
func (s *switchover) stillFrozen(err error) error {
	if err == nil || errors.Is(err, errTaken) || !s.record.IsOpen() || !s.doc.Frozen.holds() {
		return err
	}
	cure := fmt.Sprintf("milena switchover --flow %s --thaw lets them write at once, also while cluster %s does not answer", s.clusters.Flow.Name, s.clusters.Flow.Target)
	if s.reverse == nil {
		cure = fmt.Sprintf("only cluster %s knows the freeze, so that it can be taken back once that answers, or by hand: %s", s.clusters.Flow.Target, s.doc.Frozen.Memory.ByHand())
	}
	return fmt.Errorf("%w; the producers of cluster %s are still stopped by %s: %s", err, s.clusters.Flow.Source, methodText(s.o.Freeze), cure)
}

const (
	// LookEvery is how often a step looks whether it can end.
	lookEvery = 250 * time.Millisecond
	// ProofWait is how long the ends of the source must not move between two proofs.
	proofWait = time.Second
)

// drain waits until all is copied, and proves it twice.
func (s *switchover) drain(ctx context.Context) (string, error) {
	var before, last *drained
	looks := newLooker(s.clusters, s.source)
	for {
		if err := s.holds(ctx); err != nil && ctx.Err() == nil {
			return "", err
		}
		now, err := looks.look(ctx)
		if ctx.Err() != nil { // what it says is only that it was ended
			return "", fmt.Errorf("%w: %s", ctx.Err(), lastProblem(last))
		}
		last = now
		switch {
		case err != nil:
			s.waiting("%v", err)
			before = nil
		case now.problem != "":
			s.waiting("%s", now.problem)
			before = nil
		case before == nil:
			s.waiting("all is copied; it is proven that producers are stopped")
			before = now
		default:
			if moved := before.movedTo(now); moved != "" {
				return "", fmt.Errorf("producers still write: %s; %s", moved, s.moreFreeze())
			}
			s.drained = now
			if err := s.change(ctx, func(d *document) { d.Ends = now.hash() }); err != nil {
				return "", err
			}
			return fmt.Sprintf("%s, all copied; the ends of the source have not moved for %v", counted(len(now.ends), "partition"), now.at.Sub(before.at).Round(100*time.Millisecond)), nil
		}
		wait := lookEvery
		if before != nil {
			wait = proofWait
		}
		if err := client.Sleep(ctx, wait); err != nil {
			return "", fmt.Errorf("%w: %s", err, lastProblem(now))
		}
	}
}

// moreFreeze says what to do about producers that a freeze has not stopped.
func (s *switchover) moreFreeze() string {
	switch s.o.Freeze {
	case freeze.ACL:
		return "they may be super users, whom no ACL stops: stop them, and use --freeze none"
	case freeze.Quota:
		return "a quota is soft; use --freeze acl, or stop them, and use --freeze none"
	case freeze.None:
	}
	return "stop them, or use --freeze acl"
}

// holds finds out whether the freeze is still in force.
func (s *switchover) holds(ctx context.Context) error {
	if !s.doc.Frozen.holds() {
		return nil
	}
	return freeze.Holds(ctx, s.source, s.doc.Frozen.Memory)
}

// maxSyncs is how many syncs of the groups may be needed. The last one may not have been there yet, and a sync does not commit what it cannot write a
// checkpoint of, as the first one of a flow cannot.
const maxSyncs = 3

// moveGroups waits until no group can move on the source any more, syncs the groups, and proves where they are on the target.
func (s *switchover) moveGroups(ctx context.Context) (string, error) {
	final, err := s.positions.awaitFinal(ctx, s.waiting)
	if err != nil || len(final) == 0 {
		return "no group to move", err
	}
	proven, err := s.positions.prove(ctx, final)
	for range maxSyncs {
		if err == nil {
			break
		}
		s.waiting("the groups are synced: %v", err)
		if _, err := s.submit(ctx, s.clusters, control.SyncGroups, control.Scope{Kind: control.Groups}); err != nil {
			return "", err
		}
		proven, err = s.positions.prove(ctx, final)
	}
	if err != nil {
		return "", err
	}
	if err := s.change(ctx, func(d *document) { d.Report.Groups, d.Report.Positions = len(final), proven }); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s continue exactly where they are, at %s", counted(len(final), "group"), counted(proven, "position")), nil
}

// stop marks the flow as stopped, and proves once more that nothing was written meanwhile.
func (s *switchover) stop(ctx context.Context) (string, error) {
	text, err := s.submit(ctx, s.clusters, control.StopFlow, control.Scope{Kind: control.Flow})
	if err != nil {
		return "", err
	}
	if err := s.holds(ctx); err != nil {
		return "", err
	}
	now, err := look(ctx, s.clusters, s.source)
	switch {
	case err != nil:
		return "", err
	case now.hash() != s.doc.Ends:
		moved := "the ends of the source have moved since all was copied"
		if s.drained != nil {
			moved = s.drained.movedTo(now)
		}
		return "", fmt.Errorf("producers still write: %s; %s", moved, s.moreFreeze())
	case now.problem != "":
		return "", errors.New(now.problem)
	}
	return text, s.stay(ctx)
}

// stay proves once more that the groups are where they continue: a group may have moved since, such as in copies of the target's topics.
func (s *switchover) stay(ctx context.Context) error {
	list, err := s.positions.read(ctx)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(list, func(g group) bool { return g.pending }); i >= 0 {
		return fmt.Errorf("group %s moves: a transaction is open that commits positions", list[i].name)
	}
	if list = slices.DeleteFunc(list, func(g group) bool { return !g.hasPositions() }); len(list) == 0 {
		return nil
	}
	_, err = s.positions.prove(ctx, list)
	return err
}

func (s *switchover) start(ctx context.Context) (string, error) {
	return s.restore(ctx, s.clusters, control.StartFlow)
}

// startReverse lets the reverse flow run, if somebody has stopped it.
func (s *switchover) startReverse(ctx context.Context) (string, error) {
	if err := s.holds(ctx); err != nil { // this process may go on long after the one that has proven it
		return "", err
	}
	if s.reverse == nil {
		return "there is none; nothing copies back", nil
	}
	_, state, done, err := control.Open(ctx, *s.reverse)
	if err != nil {
		return "", err
	}
	done()
	stopped := state.Stopped()
	if stopped == nil {
		return fmt.Sprintf("flow %s runs", s.reverse.Flow.Name), nil
	}
	if err := s.change(ctx, func(d *document) { d.Started = stopped }); err != nil {
		return "", err
	}
	return s.submit(ctx, *s.reverse, control.StartFlow, control.Scope{Kind: control.Flow})
}

// stopReverse stops the reverse flow again, as it was, if the switchover has started it.
func (s *switchover) stopReverse(ctx context.Context) (string, error) {
	if s.reverse == nil || s.doc.Started == nil {
		return "it ran before", nil
	}
	return s.restore(ctx, *s.reverse, s.doc.Started.What)
}

// open takes back the freeze of the target that an earlier switchover in the other direction left.
func (s *switchover) open(ctx context.Context) (string, error) {
	if s.reverse == nil {
		return "clients may use cluster " + s.clusters.Flow.Target, nil
	}
	text, err := thawSource(ctx, *s.reverse, s.target)
	if err != nil {
		return "", err
	}
	kept, err := thawKept(ctx, s.clusters, s.o.Who, s.target)
	if err != nil {
		return "", err
	}
	if text == "" {
		text = kept
	}
	return strings.Join(slices.DeleteFunc([]string{text, "clients may use cluster " + s.clusters.Flow.Target}, func(t string) bool { return t == "" }), "; "), nil
}

// answerWait is how long the instances may take to say that they did what a step demands of them.
const answerWait = 30 * time.Second

// reason is what decisions of this recovery say. It is unique.
func (r *run) reason() string { return fmt.Sprintf("%s %s", r.record.What, r.record.ID) }

// submit decides something about a flow, and waits until every instance has done it.
func (r *run) submit(ctx context.Context, c client.Clusters, what control.Verb, scope control.Scope) (string, error) {
	d := control.New(what, scope, r.record.Who, r.reason())
	s, err := control.Submit(ctx, c, answerWait, d)
	if err != nil {
		return "", err
	}
	var details []string
	for _, o := range s.Outcomes {
		if o.Result != control.Done {
			return "", fmt.Errorf("%s of flow %s: instance %s: %s: %s", what, c.Flow.Name, o.Instance, o.Result, o.Detail)
		}
		details = append(details, o.Instance+": "+o.Detail)
	}
	switch {
	case len(s.Missing) > 0:
		return "", fmt.Errorf("%s of flow %s: instance %s has not answered within %v; end it, or wait until it is gone from the group of the flow", what, c.Flow.Name, strings.Join(s.Missing, ", "), answerWait)
	case s.Unknown != "":
		return "", fmt.Errorf("%s of flow %s: it is not known which instances run: %s", what, c.Flow.Name, s.Unknown)
	case len(s.Outcomes) == 0 && s.Running:
		return "", fmt.Errorf("%s of flow %s: no instance has answered within %v; see its log", what, c.Flow.Name, answerWait)
	case len(s.Outcomes) == 0 && what == control.SyncGroups:
		return "", errors.New("no instance runs that could sync the groups")
	case len(s.Outcomes) == 0:
		return r.idle(ctx, c, what)
	}
	slices.Sort(details)
	return fmt.Sprintf("flow %s: %s", c.Flow.Name, strings.Join(details, "; ")), nil
}

// restoreWait is how long the instances may take to say that they did what undoing demands of them.
const restoreWait = 5 * time.Second

// restore lets hold again what held before. An instance that does not answer holds up nothing: it may be why all is undone, producers wait for the rest, and it
// reads the decision as soon as it can.
func (r *run) restore(ctx context.Context, c client.Clusters, what control.Verb) (string, error) {
	s, err := control.Submit(ctx, c, restoreWait, control.New(what, control.Scope{Kind: control.Flow}, r.record.Who, r.reason()))
	if err != nil {
		return "", err
	}
	var details []string
	for _, o := range s.Outcomes {
		details = append(details, o.Instance+": "+o.Detail)
	}
	slices.Sort(details)
	for _, id := range s.Missing {
		details = append(details, fmt.Sprintf("%s: no answer within %v; it holds once that instance reads topic %s", id, restoreWait, control.TopicName(c.Flow.Name)))
	}
	if len(details) == 0 {
		details = []string{"no instance has answered; it holds from the next start on"}
	}
	return fmt.Sprintf("flow %s: %s", c.Flow.Name, strings.Join(details, "; ")), nil
}

// idle is the answer of a flow without one: that no instance runs. One outside a group, with instances: one, is known by the journal only.
func (r *run) idle(ctx context.Context, c client.Clusters, what control.Verb) (string, error) {
	if what == control.StopFlow || what == control.FailOver {
		now, err := fleet.Read(ctx, c)
		if err != nil {
			return "", err
		}
		if now.Mode == fleet.ModeUnknown {
			return "", fmt.Errorf("%s of flow %s: it is not known whether an instance runs: %s", what, c.Flow.Name, firstOf(now.Problems))
		}
		if now.Mode != fleet.ModeStopped {
			var ids []string
			for i := range now.Instances {
				ids = append(ids, now.Instances[i].ID)
			}
			return "", fmt.Errorf("%s of flow %s: no instance has answered within %v, and by its journal one runs (%s); end it, or repeat this once it has ended", what, c.Flow.Name, answerWait, strings.Join(ids, ", "))
		}
	}
	return fmt.Sprintf("flow %s: no instance runs; it holds from the next start on", c.Flow.Name), nil
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
