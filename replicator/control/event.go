package control

import "time"

// EventKind is what happened to a flow without anybody having decided it just then.
type EventKind string

// The kinds of events. An anomaly is none: the gap ledger of the journal has it.
const (
	Start    EventKind = "start"    // of an instance
	Stop     EventKind = "stop"     // of an instance
	Takeover EventKind = "takeover" // of a shard
	Reload   EventKind = "config"   // of the config
)

// Event is what one instance says happened to it. Events of a kind and a reason that follow each other closely are one, with their number.
type Event struct {
	Version  int       `json:"v"`
	ID       string    `json:"id"`
	What     EventKind `json:"what"`
	Instance string    `json:"instance"`
	When     time.Time `json:"when"`
	// Last is when the last one of several happened.
	Last  time.Time `json:"last,omitzero"`
	Count int       `json:"count"`
	Who   string    `json:"who,omitempty"`
	Why   string    `json:"why,omitempty"`
	// Detail is a sentence about the last one.
	Detail string `json:"detail,omitempty"`
	// TookMillis is how long the longest one took, in milliseconds.
	TookMillis int64 `json:"took_ms,omitempty"`
}

const (
	// MaxEvents is the number of events that the topic keeps, none older than [HistoryAge].
	MaxEvents = 1000
	// MaxStateEvents is the maximum number of events in a state.
	maxStateEvents = 10_000
)

// NewEvent returns an event of now.
func NewEvent(what EventKind, instance, why, detail string) Event {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return Event{Version: Version, ID: newID(now), What: what, Instance: instance, When: now, Count: 1, Why: why, Detail: detail}
}

// Entry returns the record of an event.
func (e Event) Entry() Entry {
	e.Version = Version
	return Entry{Key: e.key(), Value: encode(e)}
}

// Latest is when the last one of the events happened.
func (e *Event) Latest() time.Time {
	if e.Last.IsZero() {
		return e.When
	}
	return e.Last
}

// IsLike reports whether two events are one if they are close together.
func (e *Event) IsLike(other *Event) bool {
	return e.What == other.What && e.Instance == other.Instance && e.Who == other.Who && e.Why == other.Why
}

// Add counts later events like this one as a part of it.
func (e *Event) Add(later *Event) {
	e.Count += later.Count
	e.TookMillis = max(e.TookMillis, later.TookMillis)
	if last := later.Latest(); last.After(e.Latest()) {
		e.Last, e.Detail = last, later.Detail
	}
}

func (e *Event) key() string { return eventPrefix + e.ID }
