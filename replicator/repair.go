package replicator

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/wire"
)

// repair is what a decision does to one partition: it is taken over again as after a restart, with what was decided.
type repair struct {
	tp       offsets.TopicPartition
	anomaly  anomaly   // that halted it
	replaced bool      // the partition is being taken over again
	since    time.Time // when it began, and then when the partition was replaced
	result   control.Result
	text     string
}

// permit lets an anomaly of one partition have another action than its policy says, while a decision is carried out.
type permit struct {
	kind   policy.Kind
	action policy.Action
	from   int64
}

// decide returns the action for an anomaly of a partition that concerns the source offsets from an offset on: what a decision says, or else policy.
func (f *Flow) decide(p *partition, kind policy.Kind, from int64) policy.Action {
	c := &f.controls
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind == policy.Shrunk && control.LeavesShrunk(c.state.Skipped(p.source()), from) { // which the journal cannot say, because the partition is gone
		return policy.Skip
	}
	for _, permit := range c.permits[p.source()] {
		if permit.kind == kind && (!permit.isExact() || permit.from == from) {
			return permit.action
		}
	}
	return f.live().anomalies.Decide(p.topic.source, kind)
}

// isExact reports whether the permit is about what begins at its offset only. What else there is begins where the takeover finds it.
func (p *permit) isExact() bool {
	return p.isOfRecord() || p.kind == policy.RetentionGap || p.kind == policy.TombstonesCleaned
}

// isOfRecord reports whether the permit is about one record.
func (p *permit) isOfRecord() bool {
	return p.kind == policy.RecordTooLarge || p.kind == policy.RecordRefused
}

func (c *controls) permit(tp offsets.TopicPartition, what permit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.permits[tp], what) { // a repair that must wait is tried again
		c.permits[tp] = append(c.permits[tp], what)
	}
}

// revoke ends all permits of the partitions that a decision repairs, because another instance acts on it.
func (c *controls) revoke(repairs []*repair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range repairs {
		delete(c.permits, r.tp)
	}
}

// forbid ends the permits of a partition that is copied up to an offset. One about a record behind it stays: the next one of its batch may have halted the
// partition, and then the batch is rebuilt once more.
func (c *controls) forbid(tp offsets.TopicPartition, acked int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.permits[tp] = slices.DeleteFunc(c.permits[tp], func(p permit) bool { return !p.isOfRecord() || p.from < acked })
	if len(c.permits[tp]) == 0 {
		delete(c.permits, tp)
	}
}

// workOnRepairs repairs the partitions of a decision. It answers once it is known what became of all of them.
func (f *Flow) workOnRepairs(ctx context.Context, w *work) (control.Result, string) {
	if !w.planned {
		if time.Since(w.began) < f.patienceWith(w.Scope) {
			return "", ""
		}
		w.planned = true
		for _, p := range f.covered(w.Scope) {
			if w.What != control.Retry || w.Scope.Kind == control.Partition || p.getState() == halted {
				w.repairs = append(w.repairs, &repair{tp: p.source(), since: time.Now()})
			}
		}
	}
	switch {
	case len(w.repairs) > 0:
	case w.Scope.Kind == control.Partition:
		return control.Refused, fmt.Sprintf("the flow does not copy %s", w.Scope)
	default:
		return control.Done, "this instance has no halted partition there"
	}
	over := 0
	for _, r := range w.repairs {
		if r.result == "" && time.Now().Before(f.controls.roundEnds) {
			r.result, r.text = f.repair(ctx, w.Decision, r)
		}
		if r.result != "" {
			f.controls.forbid(r.tp, f.ackedOf(r.tp))
			over++
		}
	}
	if over < len(w.repairs) {
		return "", ""
	}
	return summary(w.repairs)
}

// ackedOf returns up to which source offset a partition is copied, the largest one if this process does not have it.
func (f *Flow) ackedOf(tp offsets.TopicPartition) int64 {
	p := f.partition(tp)
	if p == nil {
		return math.MaxInt64
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// patienceWith returns how long the repair of a scope may wait for partitions that are not recovered yet, because they may halt, or not there yet,
// because the shard was just given to this process, or another decision takes the partition over again.
func (f *Flow) patienceWith(scope control.Scope) time.Duration {
	tp := scope.TopicPartition()
	if scope.Kind == control.Partition && f.partition(tp) == nil {
		s := f.held.get(f.shardOf(tp))
		switch {
		case s == nil:
			return 0
		case !s.ownership.isOwned(), s.isInJournal(tp):
			return longRepair
		case int(tp.Partition) < len(f.sourceView().ByName[tp.Topic].Partitions):
			return repairPatience
		}
	}
	if f.isSettledIn(scope) {
		return 0
	}
	return repairPatience
}

// isSettledIn reports whether every partition in a scope is recovered: what recovers may halt, and is repaired then.
func (f *Flow) isSettledIn(scope control.Scope) bool {
	return !slices.ContainsFunc(f.covered(scope), func(p *partition) bool { return !p.getState().isRecovered() })
}

// summary is the outcome of several repairs: that of the first one that did not work.
func summary(list []*repair) (control.Result, string) {
	if len(list) == 1 {
		return list[0].result, list[0].text
	}
	done := 0
	var other *repair
	for _, r := range list {
		if r.result == control.Done {
			done++
		} else if other == nil {
			other = r
		}
	}
	if other == nil {
		return control.Done, fmt.Sprintf("%d partitions are copied again", done)
	}
	return other.result, fmt.Sprintf("%d of %d partitions are copied again; %s", done, len(list), other.text)
}

const (
	// RepairPatience is how long the answer to a decision waits for the first records of a partition that is fetched again.
	repairPatience = 4 * time.Second
	// LongRepair is how long it waits for a takeover and the first fetch.
	longRepair = 30 * time.Second
)

// repair goes on with one partition. The result is empty while it is not known what became of it.
func (f *Flow) repair(ctx context.Context, d *control.Decision, r *repair) (control.Result, string) {
	p := f.partition(r.tp)
	if r.replaced {
		return f.awaitRepair(p, r)
	}
	if p == nil && time.Since(r.since) < longRepair && !f.elsewhere(r.tp) {
		return "", "" // another decision takes it over again
	}
	if p == nil {
		return control.Failed, fmt.Sprintf("%s is not with this instance any more", r.tp)
	}
	p.mu.Lock()
	state, a := p.state, p.anomaly
	p.mu.Unlock()
	if a != nil {
		r.anomaly = *a
	}
	switch {
	case d.What == control.RestartCopy:
		return f.restartCopy(ctx, d, r, p)
	case d.To != nil:
		return f.leaveOut(d, r, p)
	case state != halted || a == nil:
		return control.Done, fmt.Sprintf("%s is not halted; its state is %s", r.tp, state)
	case d.What == control.Skip && (d.Halt == nil || !d.Halt.Has(string(a.kind), a.from)):
		return control.Refused, fmt.Sprintf("%s is halted by %s at source offset %d now, and the decision is about %s", r.tp, a.kind, a.from, d.Halt)
	case a.kind == policy.Shrunk:
		return f.repairShrunk(d, r, p)
	case d.What == control.Skip && !slices.Contains(a.kind.Actions(), policy.Skip):
		return control.Refused, fmt.Sprintf("%s is halted by %s, which cannot be skipped; see restart-copy", r.tp, a.kind)
	case d.What == control.Skip:
		f.controls.permit(r.tp, permit{a.kind, policy.Skip, a.from})
	case a.kind == policy.RecordTooLarge:
		f.syncLimits(ctx, r.tp.Topic)
	}
	f.replace(p, r)
	return "", ""
}

// replace lets a partition be taken over again.
func (f *Flow) replace(p *partition, r *repair) {
	if now := time.Now(); f.retake(p) { // else the next round tries again
		r.replaced, r.since = true, now
	}
}

// journalNow journals a shard, unless it is being fenced. It reports whether it did.
func (f *Flow) journalNow(s *shard) bool {
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	if !s.ownership.isCertain() || s.fencer.open {
		return false // nothing would be written
	}
	_, err := f.journalShard(s)
	return err == nil
}

// awaitRepair waits until a partition that is taken over again is copied, or halted again.
func (f *Flow) awaitRepair(p *partition, r *repair) (control.Result, string) {
	if p == nil {
		if time.Since(r.since) > longRepair {
			return control.Failed, fmt.Sprintf("%s waits to be taken over again; see the status", r.tp)
		}
		return "", ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	waited := time.Since(r.since)
	switch {
	case p.state == halted && p.anomaly != nil:
		return control.Failed, fmt.Sprintf("%s is halted again at offset %d: %s: %s", r.tp, p.acked, p.anomaly.kind, p.anomaly.detail)
	case p.state == replicating && (r.isPassedLocked(p) || p.pause != nil || waited > repairPatience && p.fetchedAt.After(r.since)):
		f.noteRepairedLocked(p, r)
		if p.pause != nil {
			return control.Done, fmt.Sprintf("%s goes on at offset %d once it is resumed", r.tp, p.acked)
		}
		return control.Done, fmt.Sprintf("%s is copied again from offset %d on", r.tp, p.acked)
	case waited > longRepair:
		return control.Failed, fmt.Sprintf("%s is %s, and nothing of it was copied since; see the status", r.tp, p.state)
	}
	return "", ""
}

// isPassedLocked reports whether a partition that is taken over again is behind what halted it. Records that the source has lost were copied before: only
// the next fetch tells. The partition's lock is held.
func (r *repair) isPassedLocked(p *partition) bool {
	if r.anomaly.kind == policy.Truncated {
		return p.fetchedAt.After(r.since) && p.acked <= p.sourceEnd
	}
	return p.acked > max(r.anomaly.from, r.anomaly.to-1) || p.sourceEnd >= 0 && p.acked >= p.sourceEnd
}

// actionRetry is what the gap ledger says of a halt that is over.
const actionRetry = "retry"

// noteRepairedLocked notes in the gap ledger that a halt is over, if the ledger still ends with it. That of tombstones_cleaned stays: until the
// partition has passed the hole, a restart must look for it again. The partition's lock is held.
func (f *Flow) noteRepairedLocked(p *partition, r *repair) {
	gaps := p.record.Gaps
	if n := len(gaps); n == 0 || gaps[n-1].Action != string(policy.Halt) || r.anomaly.kind == policy.TombstonesCleaned {
		return
	}
	p.progress.addGap(offsets.Gap{Kind: string(r.anomaly.kind), Action: actionRetry, From: r.anomaly.from, To: r.anomaly.to, At: time.Now(), Detail: "taken over again"})
}

// repairShrunk repairs a partition that the source does not have any more.
func (f *Flow) repairShrunk(d *control.Decision, r *repair, p *partition) (control.Result, string) {
	n := len(f.sourceView().ByName[r.tp.Topic].Partitions)
	if d.What == control.Retry && int(r.tp.Partition) >= n {
		return control.Refused, fmt.Sprintf("topic %s of cluster %s still has %d partitions", r.tp.Topic, f.config.Source, n)
	}
	f.replace(p, r)
	if !r.replaced || d.What == control.Retry {
		return "", ""
	}
	return control.Done, fmt.Sprintf("the copy of %s is left as it is", r.tp)
}

// leaveOut leaves out source records behind what is copied, up to an offset. That is in the journal before anything behind them is copied.
func (f *Flow) leaveOut(d *control.Decision, r *repair, p *partition) (control.Result, string) {
	p.mu.Lock()
	result, text := f.leaveOutLocked(d, r, p)
	journaled, acked, isHalted := p.journaled, p.acked, p.state == halted
	p.mu.Unlock()
	switch {
	case text != "" || result == "" && acked < *d.To:
		return result, text
	case journaled < *d.To:
		f.journalNow(p.shard)
		return "", ""
	case !isHalted:
		return control.Done, fmt.Sprintf("%s goes on at offset %d once it is resumed", r.tp, acked)
	}
	f.replace(p, r)
	return "", ""
}

// leaveOutLocked moves the end of the copy over the records, unless that was done. The text is empty if it is there, or will be. The partition's lock is
// held.
func (f *Flow) leaveOutLocked(d *control.Decision, r *repair, p *partition) (control.Result, string) {
	from, to := *d.From, *d.To
	switch {
	case p.acked >= to:
		return "", ""
	case p.state != halted && p.pause == nil:
		return control.Refused, fmt.Sprintf("%s is neither halted nor paused; pause it first", r.tp)
	case p.state == halted && p.anomaly != nil && !canLeaveOut(p.anomaly.kind):
		return control.Refused, fmt.Sprintf("%s is halted by %s, about which leaving out offsets changes nothing; skip it without --to and --records", r.tp, p.anomaly.kind)
	case p.state != halted && p.state != replicating, p.offsets == nil, p.stage != mapDurable:
		return "", ""
	case p.acked < from:
		return control.Refused, fmt.Sprintf("%s is copied up to offset %d, and the decision is about %d to %d: nobody has seen what is between", r.tp, p.acked, from, to-1)
	case p.sourceEnd < to:
		return control.Refused, fmt.Sprintf("%s ends at offset %d on the source, below %d", r.tp, p.sourceEnd, to)
	}
	p.dropUnsentLocked()
	if p.inFlight > 0 {
		return "", ""
	}
	kind := "left_out"
	if p.anomaly != nil {
		kind = string(p.anomaly.kind)
	}
	begin := p.acked
	p.cursor.reset(begin, p.doneEpoch)
	if err := p.dropLocked(to, -1); err != nil {
		return control.Failed, err.Error()
	}
	p.progress.addDecided(offsets.Gap{Kind: kind, Action: string(policy.Skip), From: begin, To: to, At: time.Now(), Detail: byWhom("left out", d)})
	return "", ""
}

// canLeaveOut reports whether a halt is over once the records behind the copy are left out.
func canLeaveOut(kind policy.Kind) bool {
	return kind == policy.RetentionGap || kind == policy.RecordTooLarge || kind == policy.RecordRefused || kind == policy.TombstonesCleaned
}

// byWhom says in the gap ledger who decided what, and why.
func byWhom(what string, d *control.Decision) string {
	return fmt.Sprintf("decision %s: %s by %s: %s", d.ID, what, d.Who, d.Why) // the id first, because the ledger clips the rest
}

// restartCopy lets everything that the source has of a partition be copied again, behind what the copy has. The gap ledger says so in the same journal
// write that begins the new map, so that it is done once.
func (f *Flow) restartCopy(ctx context.Context, d *control.Decision, r *repair, p *partition) (control.Result, string) {
	for _, kind := range []policy.Kind{policy.Recreated, policy.TargetRecreated} { // the copy may have been deleted for this, and nobody has noticed yet
		f.controls.permit(r.tp, permit{kind: kind, action: policy.Restart})
	}
	if kind := r.anomaly.kind; kind == policy.Recreated || kind == policy.TargetRecreated {
		f.replace(p, r)
		return "", ""
	}
	if r.anomaly.kind == policy.Shrunk || !p.getState().isRecovered() {
		return control.Refused, fmt.Sprintf("the source has no %s, or it is not taken over", r.tp)
	}
	start, _, err := wire.Bounds(ctx, f.source, p.leaderOnSource(), r.tp)
	if err != nil {
		return control.Failed, fmt.Sprintf("where %s begins on the source is not known: %v", r.tp, f.options.SourceError(err))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	detail := byWhom("copied again", d)
	switch {
	case slices.ContainsFunc(p.record.Gaps, func(g offsets.Gap) bool { return g.Detail == clipGap(detail) }):
		return control.Done, fmt.Sprintf("%s was restarted before", r.tp)
	case p.offsets == nil || p.stage != mapDurable || p.state != halted && p.state != replicating:
		return "", ""
	}
	p.progress.addDecided(offsets.Gap{Kind: "restarted", Action: string(policy.Restart), From: start, To: max(start, p.acked), At: time.Now(), Detail: detail})
	p.endHaltLocked()
	r.replaced, r.since, r.anomaly = true, time.Now(), anomaly{from: start, to: start}
	f.rewindLocked(p, start)
	return "", ""
}

// clipGap is a detail as the gap ledger keeps it.
func clipGap(detail string) string {
	var s offsets.PartitionState
	s.AddGap(offsets.Gap{Detail: detail})
	return s.Gaps[0].Detail
}
