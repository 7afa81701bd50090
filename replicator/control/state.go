package control

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
)

const (
	// MaxDecisions is the maximum number of decisions in a state.
	MaxDecisions = 20_000
	// MaxHistory is the number of decisions that the history keeps.
	MaxHistory = 1000
	// HistoryAge is for how long it keeps them.
	HistoryAge = 90 * 24 * time.Hour
	// MaxOutcomes is the maximum number of outcomes of one decision, and maxAnswers that of all together.
	maxOutcomes, maxAnswers = 100, 100_000
	// MaxIgnored is how many ignored records a state names.
	maxIgnored = 5
)

// Record is a record of the topic.
type Record struct {
	Offset int64
	Key    []byte
	Value  []byte // nil for a tombstone
	ReadTo int64  // see [Entry]
	// Unreadable is why a batch cannot be decoded. The record stands for all of it.
	Unreadable error
}

// IsDecision reports whether the record may change what holds.
func (r *Record) IsDecision() bool { return bytes.HasPrefix(r.Key, []byte(decisionPrefix)) }

// Ignored is a record that changed nothing, and why.
type Ignored struct {
	Offset int64  `json:"offset"`
	Why    string `json:"why"`
}

func (i Ignored) String() string { return fmt.Sprintf("offset %d: %s", i.Offset, i.Why) }

// State is what the records of a topic say, in their order. It is not safe for concurrent use. The zero value is that of an empty topic.
type State struct {
	decisions map[string]*Decision          // by key; never changed
	history   map[string]Decision           // by id
	outcomes  map[string]map[string]Outcome // by id of the decision, and instance
	events    map[string]Event              // by id
	answers   int                           // outcomes of all decisions
	progress  progress
	recovery  recoveries
	standby   *Decision // holds as long as nobody has stopped or started the flow; nil if it runs then
	nonsense
	housekeeping
}

// nonsense is what a state knows of records that changed nothing.
type nonsense struct {
	ignored int
	last    []Ignored
	newest  map[string]Ignored // by key, if nothing has replaced them
}

// NewState returns the state of an empty topic of a flow. A flow that is the way back of another one is stopped until somebody starts it.
func NewState(f config.Flow) *State {
	s := &State{}
	if f.ReverseOf != "" {
		s.standby = &Decision{
			Version: Version, ID: Standby, What: StopFlow, Scope: Scope{Kind: Flow}, Who: "its config",
			Why: "it is the way back of flow " + f.ReverseOf + ", until a switchover, a failback or milena start starts it",
		}
	}
	return s
}

// Standby is the id of what stops a flow that nobody has started yet, because it is the way back of another one. It is no record of the topic.
const Standby = "standby"

// Apply takes the next record of the log. The error says why the record is ignored: it changed nothing.
func (s *State) Apply(r Record) error {
	s.begin()
	key := string(r.Key)
	if s.isOvertaken(key, r.ReadTo) {
		s.read(key, r.Offset)
		s.spoil(key)
		s.urgent = true
		return nil
	}
	s.read(key, r.Offset)
	err := s.apply(r)
	if err == nil {
		delete(s.spoiled, key)
		delete(s.newest, key)
		return nil
	}
	if version := versionOf(r.Value); version > Version {
		err = &newerError{version}
	}
	if r.Key == nil { // nothing can replace it
		s.ignore(fmt.Sprintf("\x00%d", r.Offset), Ignored{r.Offset, err.Error()})
		return err
	}
	s.ignore(key, Ignored{r.Offset, err.Error()})
	_, newer := errors.AsType[*newerError](err)
	switch {
	case newer:
		delete(s.spoiled, key) // to write what it replaces would undo what a newer milena did
	case !errors.Is(err, errFull):
		s.spoil(key)
	}
	return err
}

// errFull means that a state has no room for what a record says.
var errFull = errors.New("the control topic has too much")

// ignore notes a record that changed nothing.
func (n *nonsense) ignore(key string, i Ignored) {
	n.ignored++
	n.last = append(n.last, i)
	n.last = n.last[max(0, len(n.last)-maxIgnored):]
	if _, known := n.newest[key]; known || len(n.newest) < maxSpoiled {
		n.newest[key] = i
	}
}

// Settle ends the reading of what the topic had at the start: nonsense that was replaced since does not count.
func (s *State) Settle() {
	list := slices.SortedFunc(maps.Values(s.newest), func(a, b Ignored) int { return cmp.Compare(a.Offset, b.Offset) })
	s.ignored, s.last = len(list), list[max(0, len(list)-maxIgnored):]
}

func (s *State) apply(r Record) error {
	key := string(r.Key)
	switch {
	case r.Unreadable != nil:
		return fmt.Errorf("a batch cannot be decoded: %w", r.Unreadable)
	case r.Value == nil && !isOurs(key):
		return nil // nonsense was deleted
	case len(r.Key) > maxKey:
		return fmt.Errorf("the key has %d bytes, more than %d", len(r.Key), maxKey)
	case len(r.Value) > limitOf(key):
		return fmt.Errorf("the value has %d bytes, more than %d", len(r.Value), limitOf(key))
	case strings.HasPrefix(key, decisionPrefix):
		return s.applyDecision(key, r.Value)
	case strings.HasPrefix(key, historyPrefix):
		return s.applyHistory(key, r.Value)
	case strings.HasPrefix(key, outcomePrefix):
		return s.applyOutcome(key, r.Value)
	case strings.HasPrefix(key, eventPrefix):
		return s.applyEvent(key, r.Value)
	case strings.HasPrefix(key, runPrefix):
		return s.progress.applyRun(key, r.Value)
	case strings.HasPrefix(key, recoveryPrefix):
		return s.recovery.apply(key, r.Value)
	case strings.HasPrefix(key, ownPrefix):
		return s.progress.applyPart(ownPrefix, strings.TrimPrefix(key, ownPrefix), r.Value)
	}
	return fmt.Errorf("the key %.50q is not one of milena", key)
}

// isOurs reports whether a key is of a form that milena writes.
func isOurs(key string) bool {
	return len(key) <= maxKey && slices.ContainsFunc([]string{decisionPrefix, historyPrefix, outcomePrefix, eventPrefix, runPrefix, ownPrefix, recoveryPrefix}, func(p string) bool { return strings.HasPrefix(key, p) })
}

func (s *State) applyDecision(key string, value []byte) error {
	if value == nil {
		delete(s.decisions, key)
		return nil
	}
	d, err := decodeDecision(value)
	if err != nil {
		return err
	}
	if key != d.key() {
		return fmt.Errorf("the key %.80q is not that of the value, %q", key, d.key())
	}
	if _, ok := s.decisions[key]; !ok && len(s.decisions) >= MaxDecisions {
		return fmt.Errorf("%w: there are %d decisions already; resume what is paused", errFull, len(s.decisions))
	}
	s.decisions[key] = &d
	return nil
}

func (s *State) applyHistory(key string, value []byte) error {
	id := strings.TrimPrefix(key, historyPrefix)
	if value == nil {
		delete(s.history, id)
		return nil
	}
	d, err := decodeDecision(value)
	_, known := s.history[id]
	switch {
	case err != nil:
		return err
	case d.ID != id:
		return fmt.Errorf("the key %.80q is not that of the value, with id %q", key, d.ID)
	case !known && len(s.history) >= MaxDecisions:
		return fmt.Errorf("%w: the history has %d entries already", errFull, len(s.history))
	}
	s.history[id] = d
	return nil
}

func (s *State) applyEvent(key string, value []byte) error {
	id := strings.TrimPrefix(key, eventPrefix)
	if value == nil {
		delete(s.events, id)
		return nil
	}
	e, err := decodeEvent(value)
	_, known := s.events[id]
	switch {
	case err != nil:
		return err
	case e.ID != id:
		return fmt.Errorf("the key %.80q is not that of the value, with id %q", key, e.ID)
	case !known && len(s.events) >= maxStateEvents:
		return fmt.Errorf("%w: there are %d events already", errFull, len(s.events))
	}
	s.events[id] = e
	return nil
}

func (s *State) applyOutcome(key string, value []byte) error {
	id, instance, ok := strings.Cut(strings.TrimPrefix(key, outcomePrefix), "/")
	if !ok {
		if value == nil {
			return nil // nonsense was deleted
		}
		return fmt.Errorf("the key %.80q has no instance", key)
	}
	_, known := s.outcomes[id][instance]
	if value == nil {
		if known {
			s.answers--
		}
		delete(s.outcomes[id], instance)
		if len(s.outcomes[id]) == 0 {
			delete(s.outcomes, id)
		}
		return nil
	}
	o, err := decodeOutcome(value)
	switch {
	case err != nil:
		return err
	case key != o.key():
		return fmt.Errorf("the key %.80q is not that of the value, %q", key, o.key())
	case known: // a newer one
	case s.answers >= maxAnswers, len(s.outcomes) >= MaxDecisions && s.outcomes[id] == nil, len(s.outcomes[id]) >= maxOutcomes:
		return fmt.Errorf("%w: there are too many outcomes", errFull)
	default:
		s.answers++
	}
	if s.outcomes[id] == nil {
		s.outcomes[id] = make(map[string]Outcome)
	}
	s.outcomes[id][instance] = o
	return nil
}

// Continue takes over what held in the state of an earlier topic, and its skips, as far as this one does not decide about the same: that a topic is gone, or
// has lost its last records, is no decision. What the earlier state knew and something had replaced does not count. [State.Housekeep] writes it again.
func (s *State) Continue(earlier *State, now time.Time) {
	for key, d := range earlier.decisions {
		found, ok := s.decisions[key]
		if ok {
			_, known := earlier.history[found.ID]
			ok = !known || found.ID == d.ID
		}
		if ok || !d.Holds(now) && d.What != Skip || found == nil && len(s.decisions) >= MaxDecisions {
			continue
		}
		s.begin()
		s.decisions[key] = d
		s.spoil(key)
	}
}

// begin makes the maps of an empty state.
func (s *State) begin() {
	if s.decisions == nil {
		s.decisions, s.history = make(map[string]*Decision), make(map[string]Decision)
		s.outcomes, s.events = make(map[string]map[string]Outcome), make(map[string]Event)
		s.spoiled, s.offsets, s.newest = make(map[string]bool), make(map[string]int64), make(map[string]Ignored)
	}
}

// Ignored returns how many records changed nothing, and the last few of them.
func (s *State) Ignored() (count int, last []Ignored) { return s.ignored, slices.Clone(s.last) }

// find returns the decision of a slot and a scope.
func (s *State) find(of Verb, scope Scope) *Decision {
	d := s.decisions[decisionPrefix+of.slot()+"/"+scope.key()]
	if d == nil && scope.Kind == Flow && of.slot() == StopFlow.slot() {
		return s.standby
	}
	return d
}

// holding returns the decision of a slot and a scope, nil if it does not hold.
func (s *State) holding(of Verb, scope Scope, now time.Time) *Decision {
	if d := s.find(of, scope); d != nil && d.Holds(now) {
		return d
	}
	return nil
}

// coverings are the scopes that cover a partition, the widest first.
func coverings(tp offsets.TopicPartition) [3]Scope {
	return [...]Scope{{Kind: Flow}, OfTopic(tp.Topic), OfPartition(tp)}
}

// PauseOf returns the pause of a scope itself, nil if it is not paused.
func (s *State) PauseOf(scope Scope, now time.Time) *Decision { return s.holding(Pause, scope, now) }

// Stopped returns the decision by which the flow does nothing any more, nil if there is none.
func (s *State) Stopped() *Decision { return s.holding(StopFlow, Scope{Kind: Flow}, time.Time{}) }

// Paused returns what keeps a partition from being copied: that the flow is stopped, or the pause of the widest scope; nil if nothing does.
func (s *State) Paused(tp offsets.TopicPartition, now time.Time) *Decision {
	if len(s.decisions) == 0 {
		return s.standby
	}
	if d := s.Stopped(); d != nil {
		return d
	}
	for _, scope := range coverings(tp) {
		if d := s.holding(Pause, scope, now); d != nil {
			return d
		}
	}
	return nil
}

// PausedSince returns since when a partition has not been read because of pauses, or stops of the flow, that hold now or ended after an instant, and of those that they
// continue. It returns the zero time if there are none.
func (s *State) PausedSince(tp offsets.TopicPartition, after, now time.Time) (since time.Time) {
	type span struct{ began, ended time.Time } // no end: it holds
	var earlier []span
	ends := []*Decision{s.find(StopFlow, Scope{Kind: Flow})}
	for _, scope := range coverings(tp) {
		ends = append(ends, s.find(Pause, scope))
	}
	for _, d := range ends {
		if d == nil {
			continue
		}
		p := span{d.Start(), d.Until}
		if d.What == Resume || d.What == StartFlow {
			p = span{d.Began, d.When}
		}
		switch {
		case p.began.IsZero():
		case !p.ended.IsZero() && p.ended.Before(after) && !d.Holds(now):
			earlier = append(earlier, p)
		case since.IsZero() || p.began.Before(since):
			since = p.began
		}
	}
	for range earlier { // each may continue any other
		for _, p := range earlier {
			if !p.ended.Before(since) && p.began.Before(since) {
				since = p.began
			}
		}
	}
	return since
}

// Rate returns the throttle of a scope, nil if it has none.
func (s *State) Rate(scope Scope, now time.Time) *Decision { return s.holding(Throttle, scope, now) }

// InForce returns what holds: pauses, throttles, and the end of the flow, sorted by slot and scope.
func (s *State) InForce(now time.Time) []*Decision {
	var list []*Decision
	if d := s.Stopped(); d != nil && d == s.standby {
		list = append(list, d)
	}
	for _, key := range slices.Sorted(maps.Keys(s.decisions)) {
		if d := s.decisions[key]; d.Holds(now) {
			list = append(list, d)
		}
	}
	return list
}

// Decisions returns the newest decision of each slot and scope, in the order of their ids.
func (s *State) Decisions() []*Decision {
	return slices.SortedFunc(maps.Values(s.decisions), func(a, b *Decision) int { return strings.Compare(a.ID, b.ID) })
}

// Skipped returns the newest decision to skip of a partition, nil if there is none.
func (s *State) Skipped(tp offsets.TopicPartition) *Decision { return s.find(Skip, OfPartition(tp)) }

// LeavesShrunk reports whether a decision to skip, nil if there is none, is about a partition that the source does not have any more, and whose copy ends
// at a source offset.
func LeavesShrunk(d *Decision, end int64) bool {
	return d != nil && d.Halt != nil && d.Halt.Has("shrunk", end)
}

// NextEnd returns when the next pause or throttle ends by itself, the zero time if none does.
func (s *State) NextEnd(now time.Time) (at time.Time) {
	for _, d := range s.decisions {
		if d.Holds(now) && !d.Until.IsZero() && (at.IsZero() || d.Until.Before(at)) {
			at = d.Until
		}
	}
	return at
}

// Outcomes returns what the instances did about a decision, in the order of their times.
func (s *State) Outcomes(id string) []Outcome {
	return slices.SortedFunc(maps.Values(s.outcomes[id]), func(a, b Outcome) int { return a.When.Compare(b.When) })
}

// Outcome returns what one instance did about a decision.
func (s *State) Outcome(id, instance string) (Outcome, bool) {
	o, ok := s.outcomes[id][instance]
	return o, ok
}

// Events returns the events, the oldest first.
func (s *State) Events() []Event {
	return slices.SortedFunc(maps.Values(s.events), func(a, b Event) int {
		return cmp.Or(a.When.Compare(b.When), strings.Compare(a.ID, b.ID))
	})
}

// LastEvent returns the newest event of an instance, of one of the kinds if any are named, nil if there is none.
func (s *State) LastEvent(instance string, kinds ...EventKind) (last *Event) {
	for _, e := range s.events {
		if e.Instance == instance && (len(kinds) == 0 || slices.Contains(kinds, e.What)) && (last == nil || e.Latest().After(last.Latest())) {
			last = &e
		}
	}
	return last
}

// History returns the decisions, the oldest first.
func (s *State) History() []Decision {
	return slices.SortedFunc(maps.Values(s.history), func(a, b Decision) int { return strings.Compare(a.ID, b.ID) })
}
