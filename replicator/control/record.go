package control

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"time"
)

// Version is that of the format.
const Version = 1

// TopicName returns the name of a flow's control topic, which is on the target.
func TopicName(flow string) string { return "milena." + flow + ".control" }

// Verb is what a decision demands.
type Verb string

// The verbs.
const (
	Pause       Verb = "pause"
	Resume      Verb = "resume"
	Throttle    Verb = "throttle"
	Retry       Verb = "retry"
	Skip        Verb = "skip"
	RestartCopy Verb = "restart-copy"
	Adopt       Verb = "adopt"
	StopFlow    Verb = "stop"     // the flow does nothing any more, until a start
	FailOver    Verb = "failover" // as stop, because the target has taken over from a source that is gone
	StartFlow   Verb = "start"
	SyncGroups  Verb = "sync-groups" // now
)

// slot is what a newer decision about the same scope replaces.
func (v Verb) slot() string {
	switch v {
	case Resume:
		return string(Pause)
	case StopFlow, FailOver, StartFlow:
		return "state"
	case Pause, Throttle, Retry, Skip, RestartCopy, Adopt, SyncGroups:
	}
	return string(v)
}

// IsCommand reports whether the verb is done once. The others hold until something ends them.
func (v Verb) IsCommand() bool {
	return v == Retry || v == Skip || v == RestartCopy || v == Adopt || v == SyncGroups
}

// stops reports whether a flow does nothing after the decision.
func (v Verb) stops() bool { return v == StopFlow || v == FailOver }

// Decision is what somebody decided about a flow. See the documentation of the package for its fields.
type Decision struct {
	Version int       `json:"v"`
	ID      string    `json:"id"`
	What    Verb      `json:"what"`
	Scope   Scope     `json:"scope"`
	Who     string    `json:"who"`
	When    time.Time `json:"when,omitzero"`
	Why     string    `json:"why,omitempty"`
	Until   time.Time `json:"until,omitzero"`
	Began   time.Time `json:"began,omitzero"`
	Rate    int64     `json:"rate,omitempty"`
	From    *int64    `json:"from,omitempty"`
	To      *int64    `json:"to,omitempty"`
	Halt    *Halt     `json:"halt,omitempty"`
}

// Halt is an anomaly that halted a partition, as whoever decides has seen it. It concerns the source offsets [From, To); -1 is not known.
type Halt struct {
	Kind string `json:"kind"`
	From int64  `json:"from"`
	To   int64  `json:"to"`
}

// Has reports whether an anomaly of a kind that begins at a source offset is the one that was seen, or a part of it. One that was seen at an offset that is not
// known is any of its kind: a target that is not empty has no offset.
func (h *Halt) Has(kind string, from int64) bool {
	return h.Kind == kind && (h.From < 0 || from == h.From || from > h.From && from < h.To)
}

func (h *Halt) String() string {
	if h.From < 0 {
		return h.Kind + " at an offset that is not known"
	}
	return fmt.Sprintf("%s at source offset %d", h.Kind, h.From)
}

// Start is since when what a pause covers has been paused without interruption: a pause may have replaced another one.
func (d *Decision) Start() time.Time {
	if d.Began.IsZero() {
		return d.When
	}
	return d.Began
}

// Since says who decided and since when, as the end of a sentence. What the config says holds since nobody knows when.
func (d *Decision) Since() string {
	if d.When.IsZero() {
		return "by " + d.Who
	}
	return fmt.Sprintf("since %s by %s", d.When.UTC().Format(time.DateTime), d.Who)
}

// New returns a decision of now.
func New(what Verb, scope Scope, who, why string) Decision {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return Decision{Version: Version, ID: newID(now), What: what, Scope: scope, Who: who, When: now, Why: why}
}

// newID returns an id that no other record has. Ids sort by time.
func newID(now time.Time) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // it never fails
	return now.Format("20060102T150405.000Z") + "-" + hex.EncodeToString(random[:])
}

var newIDForm = regexp.MustCompile(`^\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}\.`)

// BeginsWithID reports whether a name begins with an id and a dot.
func BeginsWithID(name string) bool { return newIDForm.MatchString(name) }

// Holds reports whether a pause, a throttle or the end of a flow is in force.
func (d *Decision) Holds(now time.Time) bool {
	if d.What.stops() {
		return true
	}
	if d.What != Pause && (d.What != Throttle || d.Rate == 0) {
		return false
	}
	return d.Until.IsZero() || now.Before(d.Until)
}

// Result is how a decision was acted on.
type Result string

// The results.
const (
	Done    Result = "done"
	Refused Result = "refused" // it cannot be done, and nothing was
	Failed  Result = "failed"  // something went wrong, and it may be tried again
)

// Outcome is what one instance did about a decision.
type Outcome struct {
	Version  int       `json:"v"`
	ID       string    `json:"id"` // of the decision
	Instance string    `json:"instance"`
	When     time.Time `json:"when"`
	Result   Result    `json:"result"`
	Detail   string    `json:"detail"`
}

// Entry is a record to write. A nil value is a tombstone.
type Entry struct {
	Key   string
	Value []byte
	// ReadTo is up to which offset, exclusive, the topic was read before the entry was decided on; 0 if that does not matter. Else the entry counts only
	// if no record of its key came in between.
	ReadTo int64
}

// Entries returns the two records of a decision.
func (d Decision) Entries() []Entry {
	value := encode(d)
	return []Entry{{Key: d.key(), Value: value}, {Key: historyPrefix + d.ID, Value: value}}
}

// Entry returns the record of an outcome.
func (o Outcome) Entry() Entry {
	o.Version, o.When = Version, o.When.UTC().Truncate(time.Millisecond)
	return Entry{Key: o.key(), Value: encode(o)}
}

// The prefixes of keys.
const (
	decisionPrefix = "decision/"
	historyPrefix  = "history/"
	outcomePrefix  = "outcome/"
	runPrefix      = "verify/"   // of a verification
	ownPrefix      = "verified/" // of the flow's own one
	eventPrefix    = "event/"
	recoveryPrefix = "recovery/"
)

func (d *Decision) key() string { return decisionPrefix + d.What.slot() + "/" + d.Scope.key() }

func (o *Outcome) key() string { return outcomePrefix + o.ID + "/" + o.Instance }

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		return nil // times, strings and numbers have no error
	}
	return data
}
