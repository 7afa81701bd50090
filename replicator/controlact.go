package replicator

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/groups"
)

// acting is what this process does about decisions. The goroutine that follows the control topic uses it.
type acting struct {
	work        map[string]*work // by id of the decision
	answered    map[string]bool  // ids of decisions that this process has acted on
	unwritten   []control.Outcome
	writeFailed time.Time // when an outcome could not be written, zero if the last one was
	roundEnds   time.Time // what is not done by then waits until new decisions are read
}

func newActing() acting {
	return acting{work: make(map[string]*work), answered: make(map[string]bool)}
}

// work is a decision that this process acts on until it knows what became of it.
type work struct {
	*control.Decision
	began   time.Time
	repairs []*repair // of a retry, a skip or a restart: one per partition
	planned bool
	adopter *groups.Syncer // that was asked to adopt the group, or to sync all
	asked   time.Time      // a sync of the groups that begins after it counts
}

// stopAwaited is for how long somebody may wait for the end of a flow, whatever the clocks say. A process that begins later need not answer.
const stopAwaited = time.Hour

// noteOld finds out which decisions need no answer of this process, because one answered before it began: whatever holds, holds for it too, and a
// start is a retry. Who demands that the flow stops waits for all that have shards when the others have answered, so this process answers to that, too.
func (f *Flow) noteOld() {
	c := &f.controls
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.state.Decisions() {
		if (d.What == control.StopFlow || d.What == control.FailOver) && time.Since(d.When).Abs() < stopAwaited {
			continue
		}
		if (!d.What.IsCommand() || d.What == control.Retry) && len(c.state.Outcomes(d.ID)) > 0 {
			c.answered[d.ID] = true
		}
	}
}

// actRound is for how long this process acts before it reads new decisions: a repair writes the journal, and there may be thousands.
const actRound = 200 * time.Millisecond

// act begins to act on new decisions, goes on with the others, and writes what became of them.
func (f *Flow) act(ctx context.Context) {
	c := &f.controls
	if f.lease.holds() {
		f.takeWork()
	}
	c.roundEnds = time.Now().Add(actRound)
	for id, w := range c.work {
		if time.Now().After(c.roundEnds) {
			break
		}
		if !f.isFor(w.Decision) { // another instance has it now
			delete(c.work, id)
			c.revoke(w.repairs)
			continue
		}
		result, detail := f.workOn(ctx, w)
		if result == "" {
			continue
		}
		delete(c.work, id)
		c.answered[id] = true
		f.log.Info("acted on a decision", "decision", w.ID, "what", w.What, "about", w.Scope.String(), "who", w.Who, "why", w.Why, "result", result, "detail", detail)
		c.unwritten = append(c.unwritten, control.Outcome{ID: id, Instance: f.owner.Instance, When: time.Now(), Result: result, Detail: clipped(detail)})
	}
	f.writeOutcomes(ctx)
}

// clipped is a text that fits into an outcome: one line, and not too long.
func clipped(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > 250 {
		return string(runes[:249]) + "…"
	}
	return text
}

// takeWork finds the decisions that this process is to act on.
func (f *Flow) takeWork() {
	c := &f.controls
	c.mu.Lock()
	var fresh []*control.Decision
	kept := make(map[string]bool)
	for _, d := range c.state.Decisions() {
		if c.answered[d.ID] {
			kept[d.ID] = true
			continue
		}
		_, own := c.state.Outcome(d.ID, f.owner.Instance)
		if !own && c.work[d.ID] == nil && (d.Scope.Kind == control.Flow || d.Scope.Kind == control.Topic || len(c.state.Outcomes(d.ID)) == 0) {
			fresh = append(fresh, d)
		}
	}
	c.answered = kept
	c.mu.Unlock()
	for _, d := range fresh {
		if f.isFor(d) {
			c.work[d.ID] = &work{Decision: d, began: time.Now()}
		}
	}
}

// isFor reports whether this process is to act on a decision.
func (f *Flow) isFor(d *control.Decision) bool {
	switch d.Scope.Kind {
	case control.Partition:
		return !f.elsewhere(d.Scope.TopicPartition())
	case control.Groups, control.Group:
		return f.leads()
	case control.Flow, control.Topic:
	}
	return len(f.held.all()) > 0
}

// workOn goes on with a decision. The result is empty while it is not known what became of it.
func (f *Flow) workOn(ctx context.Context, w *work) (control.Result, string) {
	if !w.planned && w.What.IsCommand() && w.What != control.Retry {
		may, err := f.controls.log.MayWrite(ctx)
		switch {
		case err != nil:
			f.warn("a decision waits", "err", err)
			return "", ""
		case !may: // an answer keeps it from being done again
			return control.Refused, fmt.Sprintf("milena may not write to the control topic that this was done, so that it would be done again at each start; grant WRITE on topic %s of cluster %s", control.TopicName(f.config.Name), f.config.Target)
		}
	}
	switch w.What {
	case control.Pause, control.Resume:
		return f.workOnPause(w)
	case control.Retry, control.Skip, control.RestartCopy:
		return f.workOnRepairs(ctx, w)
	case control.Throttle:
		f.wakeSources()
		if w.Rate == 0 {
			return control.Done, fmt.Sprintf("%s is not throttled", w.Scope)
		}
		return control.Done, fmt.Sprintf("this instance fetches %d bytes/s at most, for the %d of %s that it holds", int64(float64(w.Rate)*f.throttleShare()), len(f.held.all()), counted(int(f.config.Shards), "shard")) + w.skew()
	case control.Adopt:
		return f.workOnAdoption(w)
	case control.StopFlow, control.FailOver, control.StartFlow:
		return f.workOnState(ctx, w)
	case control.SyncGroups:
		return f.workOnSync(w)
	}
	return control.Refused, "this version of milena does not know it"
}

// workOnAdoption lets the sync of groups adopt a group.
func (f *Flow) workOnAdoption(w *work) (control.Result, string) {
	l := f.live()
	if text, ok := l.groups.Adopted(w.Scope.Group); ok && w.adopter == l.groups {
		return control.Done, text
	}
	if pause := f.controls.groupsPause(); pause != nil { // else it would be answered after the pause, by whoever leads then
		l.groups.Withdraw(w.Scope.Group)
		return control.Refused, fmt.Sprintf("consumer groups are not synced, because %s paused that%s; milena resume --groups, and then groups adopt again", pause.Who, because(pause.Why))
	}
	if w.adopter != l.groups { // a reload may have replaced the one that was asked
		if l.GroupsInterval <= 0 || !l.GroupsSync || !f.writers.canTranslateGroups() {
			return control.Refused, "the flow does not sync groups"
		}
		w.planned, w.adopter = true, l.groups
		l.groups.Adopt(w.Scope.Group)
	}
	return "", ""
}

// because is a reason as a part of a sentence.
func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// covered returns the partitions of this process in a scope.
func (f *Flow) covered(scope control.Scope) (list []*partition) {
	for _, p := range f.partitions() {
		if scope.Covers(p.source()) {
			list = append(list, p)
		}
	}
	return list
}

// drainPatience is how long the answer to a pause waits for what is in flight.
const drainPatience = 3 * time.Second

// workOnPause answers once nothing of the partitions is in flight.
func (f *Flow) workOnPause(w *work) (control.Result, string) {
	now := time.Now()
	if w.Scope.Kind == control.Groups {
		if w.What == control.Pause {
			if f.live().groups.IsCommitting() {
				return "", ""
			}
			return control.Done, "consumer groups are not synced"
		}
		return control.Done, "consumer groups are synced again"
	}
	list := f.covered(w.Scope)
	flying, paused := 0, 0
	for _, p := range list {
		p.mu.Lock()
		if p.pause != nil {
			paused++
			if p.inFlight > 0 {
				flying++
			}
		}
		p.mu.Unlock()
	}
	if w.What == control.Pause && flying > 0 && now.Sub(w.began) < drainPatience {
		return "", ""
	}
	switch {
	case len(list) == 0 && w.Scope.Kind == control.Flow:
		return control.Done, "this instance has no partition"
	case len(list) == 0:
		return control.Done, fmt.Sprintf("this instance has no partition of %s", w.Scope)
	case !w.Until.IsZero() && !now.Before(w.Until):
		return control.Done, "it has ended by itself"
	case w.What == control.Pause && flying > 0:
		return control.Done, fmt.Sprintf("paused %s; batches of %d are still in flight", counted(paused, "partition"), flying) + w.skew()
	case w.What == control.Pause:
		return control.Done, "paused " + counted(paused, "partition") + w.skew()
	case paused > 0:
		return control.Done, fmt.Sprintf("resumed %s; %d are still paused by other decisions", counted(len(list)-paused, "partition"), paused)
	}
	return control.Done, "resumed " + counted(len(list), "partition")
}

// tolerableSkew is a difference of clocks that nobody need know.
const tolerableSkew = 2 * time.Second

// skew says that the clock of whoever decided goes before that of this process, if what was decided ends by itself: it ends later then. That the other one
// is behind cannot be told from a decision that waited.
func (w *work) skew() string {
	if ahead := w.When.Sub(w.began); !w.Until.IsZero() && ahead > tolerableSkew {
		return fmt.Sprintf("; the clock of %s goes %v before that of this instance, by which it ends", w.Who, ahead.Round(time.Second))
	}
	return ""
}

// writeOutcomes writes what became of decisions. What cannot be written is written again later.
func (f *Flow) writeOutcomes(ctx context.Context) {
	c := &f.controls
	if len(c.unwritten) == 0 || time.Since(c.writeFailed) < controlPause {
		return
	}
	c.unwritten = c.unwritten[max(0, len(c.unwritten)-maxNotes):]
	var entries []control.Entry
	for _, o := range c.unwritten[:min(len(c.unwritten), control.MaxEntries)] {
		entries = append(entries, o.Entry())
	}
	if err := c.log.Write(ctx, entries...); err != nil {
		c.writeFailed = time.Now()
		if control.IsDenied(err) {
			c.setProblem("the flow does what the control topic says, and cannot answer: " + err.Error()) // it is written once that is granted
		}
		f.warn("what became of a decision could not be written", "err", err)
		return
	}
	c.unwritten, c.writeFailed = c.unwritten[len(entries):], time.Time{}
}

// skipped reports whether somebody decided to leave out records of a partition behind a source offset. They may be missing in its copy.
func (c *controls) skipped(tp offsets.TopicPartition, acked int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch d := c.state.Skipped(tp); {
	case d == nil:
		return false
	case d.To != nil:
		return *d.To > acked
	case d.Halt != nil:
		return d.Halt.From < 0 || max(d.Halt.From+1, d.Halt.To) > acked
	}
	return false
}
