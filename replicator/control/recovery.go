package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// MaxRecoveries is how many recoveries that have ended a topic keeps.
	MaxRecoveries = 50
	// MaxRecoveryValue is the maximum size of the record of a recovery, in bytes. It is below the usual max.message.bytes.
	MaxRecoveryValue = 512 << 10
	// CurrentRecovery is the key of the newest recovery. It has one key, so that of two people who begin at once only one does.
	currentRecovery = recoveryPrefix + "current"
	// CurrentDrill is the key of the newest drill. It has its own, because a drill changes nothing, and must not keep anybody from a switchover.
	currentDrill = recoveryPrefix + "drill"
	// Drill is what a drill is called.
	Drill = "drill"
)

// RecoveryState is how far a recovery is.
type RecoveryState string

// The states of a recovery.
const (
	RecoveryRuns   RecoveryState = "running"
	RecoveryUndoes RecoveryState = "undoing" // a step failed, and those before it are taken back
	RecoveryDone   RecoveryState = "done"
	RecoveryUndone RecoveryState = "undone" // nothing of it is left
)

// Recovery is a switchover, a failover, a failback or a drill: what its steps are is in the document, which is opaque here. Times are UTC.
type Recovery struct {
	Version int           `json:"v"`
	ID      string        `json:"id"`
	What    string        `json:"what"` // such as switchover
	Who     string        `json:"who"`  // who began it, or goes on with it
	When    time.Time     `json:"when"` // it began
	State   RecoveryState `json:"state"`
	Step    string        `json:"step,omitempty"` // the present one, or the last one
	// Holder is the process that carries it out, and Seen when that last said that it is there. Another one may go on with it after [RecoveryTimeout].
	Holder string    `json:"holder"`
	Seen   time.Time `json:"seen"`
	// Drilled is how a drill came out, nil for other recoveries and while it runs.
	Drilled *Drilled `json:"drilled,omitempty"`
	// Frozen says whose producers the recovery, or one before it, has stopped, nil if it has stopped none, or they may write again.
	Frozen *Frozen `json:"frozen,omitempty"`
	// Document is what the recovery wants to know again.
	Document json.RawMessage `json:"document"`
}

// Drilled is how a drill came out.
type Drilled struct {
	Passed bool `json:"passed"`
	// RPOSeconds is the greatest age of the time up to which the copy was complete, null if it was not complete at all.
	RPOSeconds *float64 `json:"rpo_seconds"`
	// RTOSeconds is how long the steps of a failover took, null if not all of them could be measured.
	RTOSeconds *float64 `json:"rto_seconds"`
	// Findings is how many things were found that a failover or a switchover would suffer from.
	Findings int `json:"findings"`
}

// Frozen says which producers are stopped. The time is UTC, and zero if it is not known.
type Frozen struct {
	Cluster string    `json:"cluster"`
	How     string    `json:"how"`  // such as acl
	Flow    string    `json:"flow"` // whose switchover did that, and whose thaw takes it back
	Since   time.Time `json:"since,omitzero"`
}

// Freeze is what the record of a freeze is called that is kept on the cluster that is frozen, in the control topic of the flow back.
const Freeze = "freeze"

// RecoveryTimeout is after which silence of its holder a recovery counts as broken off.
const RecoveryTimeout = 15 * time.Second

// IsOpen reports whether the recovery has not ended.
func (r *Recovery) IsOpen() bool { return r.State == RecoveryRuns || r.State == RecoveryUndoes }

// IsHeld reports whether a process carries it out.
func (r *Recovery) IsHeld(now time.Time) bool {
	return r.IsOpen() && now.Sub(r.Seen) < RecoveryTimeout
}

// RecoveryStatus is a recovery without its document, as it is printed.
type RecoveryStatus struct {
	ID    string        `json:"id"`
	What  string        `json:"what"`
	Who   string        `json:"who"`
	State RecoveryState `json:"state"`
	// Step is the present one, or the last one. Held says that a process carries it out.
	Step string `json:"step"`
	Held bool   `json:"held"`
	// Drilled is how a drill came out, absent for other recoveries.
	Drilled *Drilled `json:"drilled,omitempty"`
}

// Status is the recovery without its document.
func (r *Recovery) Status(now time.Time) *RecoveryStatus {
	return &RecoveryStatus{r.ID, r.What, r.Who, r.State, r.Step, r.IsHeld(now), r.Drilled}
}

// NewRecovery returns a recovery that begins now.
func NewRecovery(what, who, holder string) Recovery {
	d := New("", Scope{}, who, "")
	return Recovery{Version: Version, ID: d.ID, What: what, Who: who, When: d.When, State: RecoveryRuns, Holder: holder, Seen: d.When}
}

// Entries returns the records of a recovery, which count only if nobody has written one since the topic was read up to an offset. One that has ended is
// also kept under its id.
func (r Recovery) Entries(readTo int64) []Entry {
	r.Version = Version
	value := encode(r)
	list := []Entry{{Key: currentKey(r.What), Value: value, ReadTo: readTo}}
	if !r.IsOpen() {
		list = append(list, r.Kept())
	}
	return list
}

// Kept returns the record of a recovery that has ended, under its id alone.
func (r Recovery) Kept() Entry {
	r.Version = Version
	return Entry{Key: recoveryPrefix + r.ID, Value: encode(r)}
}

// currentKey is the key of the newest recovery of a kind.
func currentKey(what string) string {
	if what == Drill {
		return currentDrill
	}
	return currentRecovery
}

// recoveries are the newest one, the newest drill, and those that have ended.
type recoveries struct {
	current *Recovery
	drill   *Recovery
	ended   map[string]Recovery // by id
}

func (s *recoveries) apply(key string, value []byte) error {
	id := strings.TrimPrefix(key, recoveryPrefix)
	if value == nil {
		delete(s.ended, id)
		switch key {
		case currentRecovery:
			s.current = nil
		case currentDrill:
			s.drill = nil
		}
		return nil
	}
	r, err := decodeRecovery(value)
	_, known := s.ended[r.ID]
	switch {
	case err != nil:
		return err
	case (key == currentRecovery || key == currentDrill) && key != currentKey(r.What):
		return fmt.Errorf("the key %q is not that of a %s", key, r.What)
	case key == currentRecovery:
		s.current = &r
		return nil
	case key == currentDrill:
		s.drill = &r
		return nil
	case r.ID != id:
		return fmt.Errorf("the key %.80q is not that of the value, with id %q", key, r.ID)
	case !known && len(s.ended) >= 4*MaxRecoveries:
		return fmt.Errorf("%w: there are %d recoveries already", errFull, len(s.ended))
	}
	if s.ended == nil {
		s.ended = make(map[string]Recovery)
	}
	s.ended[id] = r
	return nil
}

func decodeRecovery(value []byte) (r Recovery, err error) {
	if err := decode(value, &r, &r.Version); err != nil {
		return r, err
	}
	err = errors.Join(
		matches("id", r.ID, idForm), matches("what", r.What, haltForm), text("who", r.Who, maxName, needed), text("holder", r.Holder, maxName, needed),
		text("step", r.Step, maxName, optional), r.Frozen.check(), moment("when", r.When, needed), moment("seen", r.Seen, needed),
	)
	switch {
	case err != nil:
		return r, errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	case !slices.Contains([]RecoveryState{RecoveryRuns, RecoveryUndoes, RecoveryDone, RecoveryUndone}, r.State):
		return r, fmt.Errorf("there is no state %.50q of a recovery", string(r.State))
	}
	return r, nil
}

func (f *Frozen) check() error {
	if f == nil {
		return nil
	}
	return errors.Join(text("cluster", f.Cluster, maxName, needed), text("how", f.How, maxName, needed), text("flow", f.Flow, maxName, needed), moment("since", f.Since, optional))
}

// value is what a key should have, nil for none.
func (s *recoveries) value(key string) []byte {
	if key == currentRecovery && s.current != nil {
		return encode(s.current)
	}
	if key == currentDrill && s.drill != nil {
		return encode(s.drill)
	}
	if r, ok := s.ended[strings.TrimPrefix(key, recoveryPrefix)]; ok {
		return encode(r)
	}
	return nil
}

// housekeep returns tombstones of all but the newest recoveries that have ended, and the newest drills. The last drill that was passed stays.
func (s *recoveries) housekeep() (entries []Entry) {
	var drills, others []string
	passed := ""
	for _, id := range slices.Sorted(maps.Keys(s.ended)) {
		r := s.ended[id]
		if r.What != Drill {
			others = append(others, id)
			continue
		}
		drills = append(drills, id)
		if r.Drilled != nil && r.Drilled.Passed {
			passed = id
		}
	}
	for _, ids := range [][]string{others, drills} {
		for _, id := range ids[:max(0, len(ids)-MaxRecoveries)] {
			if id != passed {
				entries = append(entries, Entry{Key: recoveryPrefix + id})
			}
		}
	}
	return entries
}

// Recovery returns the newest recovery of the flow that is no drill, nil if there was none.
func (s *State) Recovery() *Recovery { return s.recovery.current }

// RecoveryOf returns the newest recovery that excludes those of a kind, nil if there was none: for a drill the newest drill, else the newest of all others.
func (s *State) RecoveryOf(what string) *Recovery {
	if what == Drill {
		return s.recovery.drill
	}
	return s.recovery.current
}

// Recoveries returns the recoveries that have ended, the oldest first.
func (s *State) Recoveries() []Recovery {
	return slices.SortedFunc(maps.Values(s.recovery.ended), func(a, b Recovery) int { return strings.Compare(a.ID, b.ID) })
}

// Frozen returns whose producers are stopped: those of the source, by a switchover of this flow, and those of the target, by one of the flow back.
func (s *State) Frozen() (list []Frozen) {
	if r := s.recovery.current; r != nil && r.Frozen != nil {
		list = append(list, *r.Frozen)
	}
	for _, r := range s.Recoveries() {
		if r.What == Freeze && r.Frozen != nil {
			list = append(list, *r.Frozen)
		}
	}
	return list
}

// ReadTo is the offset up to which the topic was read, exclusive.
func (s *State) ReadTo() int64 { return s.next }
