package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
)

// order is what somebody wants of a flow: the flags of a command, or the body of a request. Which fields a verb has is in the text of its command.
type order struct {
	Topics     []string `json:"topics,omitempty"`
	Partitions []string `json:"partitions,omitempty"` // such as orders-3
	Groups     bool     `json:"groups,omitempty"`     // pause and resume: the sync of consumer groups
	All        bool     `json:"all,omitempty"`        // resume: every pause
	Until      string   `json:"until,omitempty"`      // a duration or a time
	Rate       string   `json:"rate,omitempty"`       // bytes per second, such as 5MiB
	To         *int64   `json:"to,omitempty"`         // skip
	Records    *int64   `json:"records,omitempty"`    // skip
	Group      string   `json:"group,omitempty"`      // adopt
	Reason     string   `json:"reason,omitempty"`
	DryRun     bool     `json:"dry_run,omitempty"`
}

// orderError means that an order makes no sense, or that the flow is not as it must be for it.
type orderError struct {
	text  string
	wrong bool // the order itself, whatever the flow is like
}

func (e *orderError) Error() string { return e.text }

func wrongOrder(format string, args ...any) error {
	return &orderError{fmt.Sprintf(format, args...), true}
}

func refusedOrder(format string, args ...any) error {
	return &orderError{fmt.Sprintf(format, args...), false}
}

// planned is what an order comes to.
type planned struct {
	decisions   []control.Decision
	notes       []string // about what is decided
	stillPaused []string // what a resume leaves paused
}

// answer is a submission with what else is to be said.
type answer struct {
	control.Submission
	Notes       []string `json:"notes,omitempty"`
	StillPaused []string `json:"still_paused,omitempty"`
}

// planner makes decisions of the orders of somebody about a flow.
type planner struct {
	*order
	verb     control.Verb
	who      string
	clusters client.Clusters
	now      time.Time
}

func (o *order) plan(ctx context.Context, verb control.Verb, who string, c client.Clusters) (planned, error) {
	p := planner{o, verb, who, c, time.Now()}
	if err := p.check(); err != nil {
		return planned{}, err
	}
	made, err := p.make(ctx)
	if err != nil {
		return planned{}, err
	}
	for i := range made.decisions {
		if err := made.decisions[i].Check(); err != nil {
			return planned{}, wrongOrder("%v", err)
		}
	}
	return made, nil
}

// check finds what is missing, and what the verb does not have.
func (o *planner) check() error {
	has := map[string]bool{
		"topics": len(o.Topics) > 0, "partitions": len(o.Partitions) > 0, "groups": o.Groups, "all": o.All, "until": o.Until != "", "rate": o.Rate != "",
		"to": o.To != nil, "records": o.Records != nil, "group": o.Group != "",
	}
	fields := map[control.Verb][]string{
		control.Pause: {"topics", "partitions", "groups", "until"}, control.Resume: {"topics", "partitions", "groups", "all"},
		control.Retry: {"topics", "partitions"}, control.Throttle: {"topics", "rate", "until"}, control.Skip: {"partitions", "to", "records"},
		control.RestartCopy: {"topics", "partitions"}, control.Adopt: {"group"}, control.StopFlow: {}, control.StartFlow: {},
	}[o.verb]
	for _, name := range []string{"topics", "partitions", "groups", "all", "until", "rate", "to", "records", "group"} {
		if has[name] && !slices.Contains(fields, name) {
			return wrongOrder("%s has no %s", o.verb, name)
		}
	}
	if o.verb != control.Resume && o.verb != control.Retry && strings.TrimSpace(o.Reason) == "" {
		return wrongOrder("needs --reason TEXT: others see it in the status and in milena log")
	}
	return nil
}

func (o *planner) make(ctx context.Context) (planned, error) {
	switch o.verb {
	case control.Pause:
		return o.pause()
	case control.Resume:
		return o.resume(ctx)
	case control.Retry:
		scopes, err := o.scopes()
		return o.each(scopes), err
	case control.Throttle:
		return o.throttle()
	case control.Skip:
		return o.skip(ctx)
	case control.RestartCopy:
		return o.restartCopy(ctx)
	case control.StopFlow:
		return o.each([]control.Scope{{Kind: control.Flow}}), nil
	case control.StartFlow:
		return o.start(ctx)
	case control.Adopt:
		if o.Group == "" {
			return planned{}, wrongOrder("needs a group")
		}
		return o.each([]control.Scope{{Kind: control.Group, Group: o.Group}}), nil
	case control.FailOver, control.SyncGroups: // of milena failover and switchover
	}
	return planned{}, wrongOrder("there is no %s", o.verb)
}

// decide returns a decision of now.
func (o *planner) decide(scope control.Scope) control.Decision {
	return control.New(o.verb, scope, o.who, strings.TrimSpace(o.Reason))
}

// each decides about each scope.
func (o *planner) each(scopes []control.Scope, change ...func(*control.Decision)) (made planned) {
	for _, scope := range unique(scopes) {
		d := o.decide(scope)
		for _, change := range change {
			change(&d)
		}
		made.decisions = append(made.decisions, d)
	}
	return made
}

// scopes returns what the order names, the flow if it names nothing.
func (o *planner) scopes() (list []control.Scope, err error) {
	for _, topic := range o.Topics {
		list = append(list, control.OfTopic(topic))
	}
	for _, text := range o.Partitions {
		tp, err := parsePartition(text)
		if err != nil {
			return nil, err
		}
		list = append(list, control.OfPartition(tp))
	}
	if o.Groups {
		list = append(list, control.Scope{Kind: control.Groups})
	}
	if len(list) == 0 {
		list = []control.Scope{{Kind: control.Flow}}
	}
	return list, nil
}

// parsePartition reads a partition such as orders-3.
func parsePartition(text string) (offsets.TopicPartition, error) {
	i := strings.LastIndex(text, "-")
	if i > 0 {
		if n, err := strconv.ParseInt(text[i+1:], 10, 32); err == nil && n >= 0 {
			return offsets.TopicPartition{Topic: text[:i], Partition: int32(n)}, nil
		}
	}
	return offsets.TopicPartition{}, wrongOrder("--partition %q is not a partition such as orders-3", text)
}

// parseUntil reads a duration or a time in the future.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if d, notDuration := time.ParseDuration(text); notDuration == nil {
		at, err = now.Add(d), nil
	}
	if err != nil || !at.After(now) {
		return at, wrongOrder("--until %q is neither a duration such as 2h nor a time in the future such as 2026-01-31T15:04:05Z", text)
	}
	return at.UTC().Truncate(time.Millisecond), nil
}

func (o *planner) pause() (planned, error) {
	end, err := parseUntil(o.Until, o.now)
	if err != nil {
		return planned{}, err
	}
	scopes, err := o.scopes()
	return o.each(scopes, func(d *control.Decision) { d.Until = end }), err
}

// resume ends pauses. A scope that is not paused needs no decision.
func (o *planner) resume(ctx context.Context) (made planned, err error) {
	if o.All && (o.Groups || len(o.Topics)+len(o.Partitions) > 0) {
		return made, wrongOrder("--all ends every pause and cannot be combined with --topic, --partition or --groups")
	}
	scopes, err := o.scopes()
	if err != nil {
		return made, err
	}
	_, state, done, err := control.Open(ctx, o.clusters)
	if err != nil {
		return made, err
	}
	done()
	if o.All {
		scopes = nil
	}
	for _, d := range state.InForce(o.now) {
		if d.What == control.Pause && o.All {
			scopes = append(scopes, d.Scope)
		}
	}
	for _, scope := range unique(scopes) {
		paused := state.PauseOf(scope, o.now)
		if paused == nil {
			made.notes = append(made.notes, fmt.Sprintf("%s is not paused", scope))
			continue
		}
		d := o.decide(scope)
		d.Began = paused.Start()
		made.decisions = append(made.decisions, d)
	}
	for _, d := range state.InForce(o.now) {
		if d.What == control.Pause && !slices.Contains(scopes, d.Scope) {
			made.stillPaused = append(made.stillPaused, fmt.Sprintf("still paused: %s, by %s since %s%s", d.Scope, d.Who, d.When.Format(time.RFC3339), summary.ReasonOf(d.Why)))
		}
	}
	return made, nil
}

// start ends that a flow is stopped or failed over.
func (o *planner) start(ctx context.Context) (made planned, err error) {
	_, state, done, err := control.Open(ctx, o.clusters)
	if err != nil {
		return made, err
	}
	done()
	if r := state.Recovery(); r != nil && r.IsOpen() {
		return made, refusedOrder("a %s of the flow, which %s began at %s, has not ended; repeat that command, which resumes it", r.What, r.Who, r.When.Format(time.RFC3339))
	}
	stopped := state.Stopped()
	if stopped == nil {
		return planned{notes: []string{"the flow is not stopped"}}, nil
	}
	made = o.each([]control.Scope{{Kind: control.Flow}})
	for _, f := range state.Frozen() {
		made.notes = append(made.notes, summary.FrozenText(f))
	}
	made.notes = append(made.notes, fmt.Sprintf("ends: %s of the flow, %s%s", stopped.What, stopped.Since(), summary.ReasonOf(stopped.Why)))
	return made, nil
}

func (o *planner) throttle() (planned, error) {
	var bytes config.Bytes
	if o.Rate == "" {
		return planned{}, wrongOrder("needs --rate, such as 5MiB")
	}
	if err := bytes.UnmarshalText([]byte(o.Rate)); err != nil || bytes < 0 {
		return planned{}, wrongOrder("--rate %q is not a number of bytes per second such as 5MiB", o.Rate)
	}
	end, err := parseUntil(o.Until, o.now)
	if err != nil {
		return planned{}, err
	}
	if bytes == 0 && !end.IsZero() {
		return planned{}, wrongOrder("--rate 0 ends a throttle at once; remove --until")
	}
	scopes, err := o.scopes()
	return o.each(scopes, func(d *control.Decision) { d.Rate, d.Until = int64(bytes), end }), err
}

func (o *planner) skip(ctx context.Context) (made planned, err error) {
	switch {
	case len(o.Partitions) != 1:
		return made, wrongOrder("needs --partition, such as orders-3")
	case o.To != nil && o.Records != nil:
		return made, wrongOrder("--to and --records cannot be combined")
	case o.Records != nil && *o.Records < 1:
		return made, wrongOrder("--records must be at least 1")
	}
	tp, err := parsePartition(o.Partitions[0])
	if err != nil {
		return made, err
	}
	at, err := o.readPartition(ctx, tp)
	if err != nil {
		return made, err
	}
	d := o.decide(control.OfPartition(tp))
	if o.To != nil || o.Records != nil {
		err = o.leaveOut(&d, at, tp)
	} else if d.Halt = haltOf(at); d.Halt == nil {
		err = refusedOrder("%s is not halted, as far as the journal says, and a skip names what it is about: see milena status; if it was halted a moment ago, try again after journal_interval; or name the offsets with --to or --records", tp)
	}
	return planned{decisions: []control.Decision{d}, notes: leftOut(o.clusters, tp, at, &d)}, err
}

// leaveOut lets a skip name source offsets.
func (o *planner) leaveOut(d *control.Decision, at *fleet.Partition, tp offsets.TopicPartition) error {
	if at.Journaled == nil {
		return refusedOrder("nothing of %s is copied yet; skip it without --to and --records", tp)
	}
	from := *at.Journaled
	end := from
	if o.To != nil {
		end = *o.To
	} else {
		end += *o.Records
	}
	d.From, d.To = &from, &end
	switch {
	case end <= from:
		return refusedOrder("%s is copied up to offset %d already", tp, from)
	case at.SourceEnd == nil || end > *at.SourceEnd:
		return refusedOrder("offset %d is beyond the end of %s on cluster %s, which is %s; nothing is left out before it is there", end, tp, o.clusters.Flow.Source, optional(at.SourceEnd))
	}
	return nil
}

// restartCopy decides about each partition of a topic, or about those that are named.
func (o *planner) restartCopy(ctx context.Context) (made planned, err error) {
	if len(o.Topics) != 1 {
		return made, wrongOrder("needs a TOPIC of the source")
	}
	report, err := fleet.Read(ctx, o.clusters)
	if err != nil {
		return made, err
	}
	topic := o.Topics[0]
	list := slices.DeleteFunc(report.Partitions, func(p fleet.Partition) bool { return p.Topic != topic })
	if len(list) == 0 {
		return made, refusedOrder("flow %s does not copy topic %s; see milena status -c FILE", o.clusters.Flow.Name, topic)
	}
	for _, text := range o.Partitions {
		tp, err := parsePartition(text)
		if err != nil {
			return made, err
		}
		if tp.Topic != topic || !slices.ContainsFunc(list, func(p fleet.Partition) bool { return p.Partition == tp.Partition }) {
			return made, wrongOrder("topic %s has no partition %d", topic, tp.Partition)
		}
	}
	for _, p := range list {
		tp := offsets.TopicPartition{Topic: topic, Partition: p.Partition}
		if len(o.Partitions) == 0 || slices.Contains(o.Partitions, fmt.Sprintf("%s-%d", topic, p.Partition)) {
			made.decisions = append(made.decisions, o.decide(control.OfPartition(tp)))
		}
	}
	return made, nil
}

// readPartition reads what the journal says of a partition.
func (o *planner) readPartition(ctx context.Context, tp offsets.TopicPartition) (*fleet.Partition, error) {
	report, err := fleet.Read(ctx, o.clusters)
	if err != nil {
		return nil, err
	}
	for i := range report.Partitions {
		if p := &report.Partitions[i]; p.Topic == tp.Topic && p.Partition == tp.Partition && (p.Journaled != nil || p.Halted != nil) {
			return p, nil
		}
	}
	return nil, refusedOrder("flow %s does not copy %s, or its journal does not list it yet; see milena status", o.clusters.Flow.Name, tp)
}

// haltOf is the anomaly that a skip is about, nil if there is none.
func haltOf(at *fleet.Partition) *control.Halt {
	h := at.Halted
	if h == nil {
		return nil
	}
	return &control.Halt{Kind: h.Kind, From: h.From, To: max(h.From, h.To)}
}

// leftOut says what a decision to skip leaves out.
func leftOut(clusters client.Clusters, tp offsets.TopicPartition, at *fleet.Partition, d *control.Decision) (notes []string) {
	h := at.Halted
	if h != nil {
		notes = append(notes, fmt.Sprintf("%s is halted: %s: %s", tp, h.Kind, h.Detail))
	}
	switch {
	case d.To != nil:
		notes = append(notes, fmt.Sprintf("left out: source offsets %d to %d of %s on cluster %s (%s)", *d.From, *d.To-1, tp, clusters.Flow.Source, count(*d.To-*d.From, "offset")))
	case h != nil && h.To > h.From:
		notes = append(notes, fmt.Sprintf("left out: source offsets %d to %d of %s on cluster %s, as anomalies.%s: skip does", h.From, h.To-1, tp, clusters.Flow.Source, h.Kind))
	case h != nil:
		notes = append(notes, fmt.Sprintf("continues as with anomalies.%s: skip", h.Kind))
	}
	return notes
}

// unique removes scopes that are named twice.
func unique(list []control.Scope) []control.Scope {
	var found []control.Scope
	for _, s := range list {
		if !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	return found
}

// carryOut submits what an order comes to, unless it is a dry run.
func (made *planned) carryOut(ctx context.Context, c client.Clusters, dryRun bool) (answer, error) { //nolint:revive // the flag of the command line
	a := answer{
		Submission: control.Submission{Decisions: []control.Decision{}, Outcomes: []control.Outcome{}, Missing: []string{}},
		Notes:      made.notes, StillPaused: made.stillPaused,
	}
	if a.Decisions = append(a.Decisions, made.decisions...); dryRun || len(made.decisions) == 0 {
		return a, nil
	}
	s, err := control.Submit(ctx, c, answerWait, made.decisions...)
	a.Submission = s
	return a, err
}

// isWrong reports whether an error is about the order itself.
func isWrong(err error) bool {
	o, ok := errors.AsType[*orderError](err)
	return ok && o.wrong
}
