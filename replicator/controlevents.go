package replicator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

// What happens to a flow besides anomalies, which are in the gap ledger of the journal, is noted in the control topic. A storm of events must not flood it:
// events of a kind and a reason are collected, written once in a while, and counted as one with those before if they follow closely.
const (
	// EventsSettle is how long takeovers are collected before the first ones are written: they come by the dozen.
	eventsSettle = 3 * time.Second
	// EventsEvery is how long events of a kind and a reason are collected after some were written.
	eventsEvery = time.Minute
	// EventsJoin is how close events of a kind and a reason are that are one.
	eventsJoin = 10 * time.Minute
	// LastWrite is how long a stop may take to note itself.
	lastWrite = time.Second
)

// events are what happened and is not in the control topic yet.
type events struct {
	mu      sync.Mutex // a leaf: no other lock is taken with it
	list    []control.Event
	written map[string]time.Time // when events of a kind and a reason were last written, or failed to be
}

// NoteEvent notes that something happened to the flow, for its history, such as that its config was loaded again. It returns at once; the event is in the
// control topic seconds later, and lost if the process is killed before.
func (f *Flow) NoteEvent(what control.EventKind, why, detail string) {
	f.noteEvent(what, why, detail, 0)
}

func (f *Flow) noteEvent(what control.EventKind, why, detail string, took time.Duration) {
	e := control.NewEvent(what, f.owner.Instance, clipped(why), clipped(detail))
	e.TookMillis = max(0, took.Milliseconds())
	f.controls.events.note(&e)
}

func (n *events) note(e *control.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.IndexFunc(n.list, func(o control.Event) bool { return o.IsLike(e) }); i >= 0 {
		n.list[i].Add(e)
		return
	}
	if len(n.list) < maxNotes {
		n.list = append(n.list, *e)
	}
}

func kindOf(e *control.Event) string { return string(e.What) + "/" + e.Why }

// dueAt is when an event is to be written. The lock is held.
func (n *events) dueAt(e *control.Event) time.Time {
	at := e.When
	if e.What == control.Takeover {
		at = at.Add(eventsSettle)
	}
	if again := n.written[kindOf(e)].Add(eventsEvery); again.After(at) {
		return again
	}
	return at
}

// next is how long it takes until an event is to be written, and whether there is one.
func (n *events) next(now time.Time) (wait time.Duration, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.list {
		if left := max(0, n.dueAt(&n.list[i]).Sub(now)); !ok || left < wait {
			wait, ok = left, true
		}
	}
	return wait, ok
}

// take removes the events that are to be written, all of them at the end.
func (n *events) take(now time.Time, all bool) (due []control.Event) { //nolint:revive // the two ways of one loop
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.written == nil || len(n.written) > maxNotes {
		n.written = make(map[string]time.Time)
	}
	n.list = slices.DeleteFunc(n.list, func(e control.Event) bool {
		if !all && n.dueAt(&e).After(now) {
			return false
		}
		due = append(due, e)
		return true
	})
	for i := range due {
		n.written[kindOf(&due[i])] = now
	}
	return due
}

// writeEvents writes the events that are due. What cannot be written waits for the next time, with what happens meanwhile.
func (f *Flow) writeEvents(ctx context.Context, all bool) error {
	c := &f.controls
	due := c.events.take(time.Now(), all)
	if len(due) == 0 {
		return nil
	}
	var entries []control.Entry
	c.mu.Lock()
	for i := range due {
		entries = append(entries, c.continued(due[i]).Entry())
	}
	c.mu.Unlock()
	err := c.log.Write(ctx, entries...)
	if err == nil {
		return nil
	}
	for i := range due {
		c.events.note(&due[i])
	}
	if control.IsDenied(err) {
		f.warn("what happened to the flow is not in its history", "err", err)
		return nil
	}
	return err
}

// continued returns an event as a part of the one before it, if there is one. Its record then replaces the other one. The lock is held.
func (c *controls) continued(e control.Event) control.Event {
	before := c.state.LastEvent(e.Instance, e.What)
	if e.What == control.Start && before != nil {
		if last := c.state.LastEvent(e.Instance, control.Start, control.Stop); last.What == control.Start {
			e.Detail += "; the process before did not stop, but ended"
		}
	}
	if before == nil || !before.IsLike(&e) || e.When.Sub(before.Latest()).Abs() > eventsJoin {
		return e
	}
	joined := *before
	joined.Add(&e)
	return joined
}

// noteStop notes why the flow stops, and writes what is not written yet. The flow ends at the same time.
func (f *Flow) noteStop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
	defer cancel()
	why, detail := "", fmt.Sprintf("%s in flight", counted(int(f.pending.Load()), "batch"))
	if err := f.failed(); err != nil {
		why, detail = "an error", err.Error()
	}
	f.noteEvent(control.Stop, why, detail, 0)
	if err := f.writeEvents(ctx, true); err != nil {
		f.log.Info("the stop is not in the history", "err", err)
	}
}

// noteTakeover notes a takeover that is over. One that was only to use the transactional id again is none.
func (f *Flow) noteTakeover(r *recovery, took time.Duration) {
	if r.cause.why == "" {
		return
	}
	f.noteEvent(control.Takeover, r.cause.why, fmt.Sprintf("shard %d with %s%s", r.shard.number, counted(len(r.known)+len(r.fresh), "partition"), r.cause.from), took)
}

// cause is why a shard is taken over, for the history.
type cause struct {
	why  string // empty if that is of no interest
	from string // what had it before, as the end of a sentence
}

// causeOf returns the cause of a takeover, which is the first one of the shard by this process or not. The shard's lock is held.
func (r *recovery) causeOf(first bool) (c cause) { //nolint:revive // a fact, not a mode
	switch {
	case first && r.flow.instance.isAssigned():
		c.why = "the group assigned the shards to this instance"
	case first:
		c.why = "no other instance held the shards"
	case len(r.known) > 0:
		c.why = "a write had no answer, or partitions were to be recovered again"
	}
	if o := r.shard.before; first && o != nil && o.Instance != r.flow.owner.Instance {
		c.from = ", before with " + o.Instance
	}
	return c
}

// startDetail describes this process.
func (f *Flow) startDetail() string {
	return strings.TrimSpace(fmt.Sprintf("process %d on %s, version %s", f.owner.PID, f.owner.Host, f.owner.Version))
}
