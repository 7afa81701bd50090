package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// recovery is one takeover of one shard: the partitions that it recovers, and the producer with which they continue.
type recovery struct {
	flow  *Flow
	shard *shard
	// Known partitions may have been written by an earlier owner and are fenced. Fresh ones need no fence.
	known, fresh []*partition
	reload       bool // the journal must be read
	cause        cause

	standing *standing // of a half of a pair, if it was read

	loaded map[offsets.TopicPartition]*offsets.Restored  // from the journal, until all partitions are restored
	states map[offsets.TopicPartition][]offsets.Producer // of copies whose log was empty before the fence
	late   lateMarkers

	mark          marker
	producerID    int64
	producerEpoch int16

	starting sync.Mutex // held while starts are journaled
	mu       sync.Mutex
	ready    []*partition // recovered, but not started yet: their start is journaled first
}

// fenceShard fences the shard and the partitions that wait, and makes this process their owner. It returns errNotYet if the shard cannot be
// fenced yet.
func (f *Flow) fenceShard(ctx context.Context, s *shard) (*recovery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := f.takeovers.slot()
	if f.claims() {
		slot = 1 // it waits for a quiet end most of the time, and needs no coordinator
	}
	if err := f.takeovers.slots.Acquire(ctx, slot); err != nil { // after the lock: nobody waits for a shard with a slot
		return nil, err
	}
	defer f.takeovers.slots.Release(slot)
	first := !s.ownership.isOwned()
	if first && (!f.isHosted(ctx, s.journal()) || !f.mayClaim(s)) {
		return nil, errNotYet
	}
	if f.claims() && !f.lease.holds() {
		return nil, errNotYet // a claim would not be sent, and use up an epoch
	}
	r := f.newRecovery(s)
	if r.reload || len(r.known) > 0 || !s.ownership.isCertain() || s.fencer.open {
		if err := r.fenceLocked(ctx); err != nil {
			return nil, err
		}
	}
	r.cause = r.causeOf(first)
	s.ownership.own()
	s.fencer.claimed = true
	if first && s.number == 0 && !f.instance.isAssigned() {
		f.takeovers.shardZeroConfirmed.Store(int64(f.lease.now()))
		for _, other := range f.busiestFirst() {
			f.requestTakeover(other)
		}
	}
	r.producerID, r.producerEpoch = s.fencer.producerID, s.fencer.epoch
	for _, p := range r.partitions() {
		p.beginRecovery(r)
	}
	return r, nil
}

// newRecovery divides the waiting partitions of the shard into those that must be fenced and those that need no fence. The shard's lock is
// held.
func (f *Flow) newRecovery(s *shard) *recovery {
	r := &recovery{flow: f, shard: s, late: lateMarkers{shard: s}, reload: !s.ownership.isOwned() || s.isReread()}
	if s.fencer.isNearlyExhausted() {
		s.doubtMembers()
	}
	now := time.Now()
	for _, p := range s.waiting() {
		if !p.isFenceable(now) {
			continue // it stays outside, so that the others do not wait for it
		}
		if s.ownership.isOwned() && p.isFresh() && !f.migrates() && f.pair == nil { // a copy of MirrorMaker 2 is read up to a marker, which needs a fence
			r.fresh = append(r.fresh, p)
			continue
		}
		r.known = append(r.known, p)
		r.reload = r.reload || !p.isRestored()
	}
	return r
}

// partitions returns all partitions of the takeover.
func (r *recovery) partitions() []*partition {
	return append(append([]*partition(nil), r.known...), r.fresh...)
}

// fenceLocked fences the shard and its known partitions, and reads the journal if necessary. The shard's lock is held.
func (r *recovery) fenceLocked(ctx context.Context) error {
	switch {
	case r.flow.claims():
		return r.claimLocked(ctx)
	case r.flow.pair != nil:
		return r.fenceHalfLocked(ctx)
	}
	return r.fenceKnownLocked(ctx, r.shard.fenceLocked)
}

// fenceKnownLocked is fenceLocked with transactions, by a fence of the shard. The shard's lock is held.
func (r *recovery) fenceKnownLocked(ctx context.Context, fence func(context.Context, []offsets.TopicPartition) (marker, map[offsets.TopicPartition]error, error)) error {
	s := r.shard
	wanted := []offsets.TopicPartition{s.journal()}
	for _, p := range r.known {
		wanted = append(wanted, p.remote())
	}
	if r.reload {
		r.readProducerStates(ctx)
	}
	for {
		began := r.flow.lease.now()
		mark, outside, err := fence(ctx, wanted)
		if err != nil {
			return err
		}
		s.sequence, s.journalLimit, r.mark, s.fencer.claimed = 0, journalBatchBytes, mark, true
		s.ownership.refenced()
		r.flow.confirmOwnership(began)
		r.keepFenced(outside)
		if !r.reload {
			break
		}
		if r.loaded, err = s.loadJournalLocked(ctx, s.journalTail(mark)); err != nil {
			return err
		}
		if s.number == 0 && r.flow.instance.how() == claimed && r.flow.isOwnedElsewhere(s.before) {
			r.flow.background.Go(r.flow.yield)
			return errNotYet
		}
		r.flow.raiseShrunk(s, r.loaded)
		// If reading took longer than the lease, another process may have taken over. This fence would fail then; otherwise nobody has
		// written since the last one, and what was read is still the journal.
		if r.reload = false; r.flow.lease.holds() || r.flow.instance.isAssigned() {
			break
		}
	}
	return s.journalProducerLocked()
}

// keepFenced drops the known partitions that could not be fenced.
func (r *recovery) keepFenced(outside map[offsets.TopicPartition]error) {
	r.known = slices.DeleteFunc(r.known, func(p *partition) bool {
		err := outside[p.remote()]
		if err != nil {
			p.leaveOutside(err.Error(), time.Now())
		}
		return err != nil
	})
}

// reconcile finds out for each partition where it continues, and starts it. The starts of new ones are journaled first.
func (r *recovery) reconcile(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			for _, p := range r.partitions() {
				p.cancelRecovery(r)
			}
		}
	}()
	byTail, err := r.restoreAll()
	if err != nil {
		return err
	}
	if err := r.startReady(); err != nil {
		return err
	}
	tails := make([]*logTail, 0, len(byTail))
	for t := range byTail {
		tails = append(tails, t)
	}
	var group errgroup.Group
	err = r.flow.readTails(ctx, tails, func(t *logTail) {
		group.Go(func() error { // a replay may wait for a source broker, which must delay this partition only
			if err := r.finishPartition(ctx, byTail[t]); err != nil {
				return err
			}
			return r.startReady()
		})
	})
	return errors.Join(err, group.Wait())
}

// recovers reports whether this takeover still recovers the partition.
func (r *recovery) recovers(p *partition) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isRecoveredByLocked(r)
}

// restoreAll restores all partitions from the journal. It returns the log tails that must be read on the target.
func (r *recovery) restoreAll() (map[*logTail]*copyTail, error) {
	defer func() { r.loaded = nil }() // it may be large, and a tail may take hours
	byTail := make(map[*logTail]*copyTail)
	restore := func(p *partition, until int64) error {
		if err := r.restore(p); err != nil {
			return err
		}
		if t := r.tailOf(p, until); t != nil {
			byTail[t.logTail] = t
		}
		return nil
	}
	for _, p := range r.known {
		if err := restore(p, r.tailEnd()); err != nil {
			return nil, err
		}
	}
	for _, p := range r.fresh {
		if err := restore(p, p.targetLast); err != nil {
			return nil, err
		}
	}
	return byTail, nil
}

// restore restores the partition from the journal, unless it has a map already. If a topic was recreated, it raises the anomaly.
func (r *recovery) restore(p *partition) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsets != nil || !p.isRecoveredByLocked(r) {
		return nil
	}
	l := r.loaded[p.source()]
	if r.flow.pair != nil {
		if done, err := r.restoreHalfLocked(p, l); done || err != nil {
			return err
		}
	}
	if l == nil || l.State == nil {
		r.beginNewLocked(p, l)
		return nil
	}
	ids := p.topic.getIDs()
	rewound, rewindTo := p.origin == originRewound, p.rewindTo
	if err := r.restoreMapLocked(p, l); err != nil {
		return err
	}
	p.noteFormerLocked(l.State)
	switch {
	case rewound:
		p.restartLocked(rewindTo, p.targetEnd)
	case offsets.IsAnotherTopic(l.State.TargetTopicID, ids.target):
		r.targetRecreatedLocked(p)
	case offsets.IsAnotherTopic(l.State.SourceTopicID, ids.source):
		r.sourceRecreatedLocked(p)
	default:
		p.progress.learnIDs(ids)
	}
	return nil
}

// beginNewLocked begins the map of a partition that the journal does not have. The partition's lock is held, here and in the next methods.
func (r *recovery) beginNewLocked(p *partition, l *offsets.Restored) {
	ids := p.topic.getIDs()
	state := offsets.PartitionState{
		Topic: p.topic.source, Partition: p.number, SourceClusterID: r.flow.sourceID(), SourceTopicID: ids.source,
		TargetTopic: p.topic.target, TargetTopicID: ids.target, LeaderEpoch: -1,
	}
	if l != nil {
		state.Generation = l.Generation // the journal has chunks of a map whose state was never written
	}
	p.progress.setRecord(state)
	from := originNew
	if p.origin == originAccepted {
		from = originAccepted
	}
	p.beginMapLocked(from, p.sourceStart, p.targetLast)
}

// restoreMapLocked continues the map of the journal.
func (r *recovery) restoreMapLocked(p *partition, l *offsets.Restored) error {
	f, state := r.flow, l.State
	if state.SourceClusterID != "" && state.SourceClusterID != f.sourceID() {
		return &fatalError{fmt.Errorf("flow %s: the journal on cluster %s was written for source cluster %s, but cluster %s is now %s; use another flow name, or, to copy everything again, stop milena and delete the topic %s and the copies on cluster %s",
			f.config.Name, f.config.Target, state.SourceClusterID, f.config.Source, f.sourceID(), f.journalTopic, f.config.Target)}
	}
	m, err := l.Map()
	if err != nil {
		return &fatalError{fmt.Errorf("flow %s: journal of %s: %w", f.config.Name, p, err)}
	}
	fetched := p.fetchedAt // not zero if its map begins anew
	if fetched.IsZero() {
		fetched = r.shard.lastFetch(p.source())
	}
	p.progress.restore(m, state, time.UnixMilli(l.Written))
	p.sight.restore(r.shard.horizon.found, state)
	p.cursor.reset(p.acked, p.doneEpoch)
	p.cursor.noteFetch(f.fetchedBefore(&p.record, r.shard.journalTime, fetched))
	return nil
}

// targetRecreatedLocked raises the anomaly of a recreated target topic. If policy says restart, everything that the source still has is
// copied.
func (r *recovery) targetRecreatedLocked(p *partition) {
	p.sight.forget()
	detail := fmt.Sprintf("target topic %s was deleted and created again: the copies of all records below source offset %d are gone", p.topic.target, p.acked)
	if r.flow.raiseLocked(p, policy.TargetRecreated, p.acked, p.acked, detail) == policy.Restart {
		p.restartLocked(p.sourceStart, p.targetLast)
	}
}

// sourceRecreatedLocked raises the anomaly of a recreated source topic. If policy says so, the new topic is appended to the copy of the old
// one: from its start (restart) or from its end (skip).
func (r *recovery) sourceRecreatedLocked(p *partition) {
	p.sight.forget()
	detail := fmt.Sprintf("source topic %s was deleted and created again; the old topic was copied up to source offset %d", p.topic.source, p.acked)
	switch r.flow.raiseLocked(p, policy.Recreated, p.acked, p.acked, detail) {
	case policy.Restart:
		p.restartLocked(p.sourceStart, max(p.targetEnd, p.targetLast))
	case policy.Skip:
		p.restartLocked(p.sourceLast, max(p.targetEnd, p.targetLast))
	case policy.Halt:
	}
}

// toMarker means that a log tail is read up to the marker of the fence, not up to an offset.
const toMarker = -1

// tailOf returns the log tail that must be read on the target before this partition may continue. It returns nil if nothing must be read:
// the partition is ready then, or not recovering any more.
func (r *recovery) tailOf(p *partition, until int64) *copyTail {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isRecoveredByLocked(r) {
		return nil
	}
	durable := p.stage == mapDurable
	t := &logTail{partition: p.remote(), id: p.requestIDs.target, from: p.targetEnd, until: until, mark: r.mark, started: durable}
	if !durable && p.origin != originAccepted && p.origin != originReversed {
		t.unknown, t.from = true, p.targetFirst // records of unknown origin must be found before anything is appended
	}
	if t.isBounded() && t.from >= until {
		if !durable {
			p.progress.decideStart(p.targetEnd)
		}
		r.addReady(p)
		return nil
	}
	return r.newCopyTail(p, t)
}

// finishPartition recovers a partition whose log tail was read.
func (r *recovery) finishPartition(ctx context.Context, t *copyTail) error {
	p := t.copy
	switch {
	case !r.recovers(p):
		return nil
	case t.unknown && r.flow.migrates() && (t.err == nil || errors.Is(t.err, errTargetNotEmpty)):
		return r.migrate(ctx, p, t.logTail)
	case t.err != nil:
		return r.handleTailError(p, t.logTail)
	case !t.started && p.isReversed():
		return r.finishReversed(p, t)
	case r.isStoppedHalf() && len(t.foreign) > 0 && len(t.stale) == 0 && t.started: // clients of the target write there since
		return r.finishStopped(ctx, p, t)
	case !r.allowsForeign(t):
		return nil
	}
	r.reportFormer(t)
	if t.started { // before the start is journaled, no batch of this map was produced
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if !p.setEndScan(cancel) {
			return nil
		}
		ok, err := r.settle(ctx, t)
		if err != nil || !ok {
			return p.unlessRetired(err)
		}
	}
	return r.completeAt(p, max(t.end, t.from))
}

// handleTailError raises an anomaly if the target has unknown records or lost some. Otherwise it returns the error.
func (r *recovery) handleTailError(p *partition, t *logTail) error {
	f := r.flow
	if errors.Is(t.err, errTargetNotEmpty) {
		detail := fmt.Sprintf("target %s already has records, and the journal does not list the partition", t.partition)
		if f.raise(p, policy.TargetNotEmpty, p.acked, p.acked, detail) == policy.Skip {
			p.mu.Lock()
			p.progress.acceptTarget()
			p.doubtLocked() // the next takeover begins behind those records
			p.mu.Unlock()
			f.requestTakeover(r.shard)
		}
		return nil
	}
	if truncated, ok := errors.AsType[*targetTruncatedError](t.err); ok {
		f.halt(p, policy.Truncated, truncated.Error()) // the map describes records that are gone
		return nil
	}
	return t.err
}

// allowsForeign reports whether the partition may continue although the log tail has batches that are not part of this copy. It raises the
// anomaly. A batch of an earlier owner is one in any case.
func (r *recovery) allowsForeign(t *copyTail) bool {
	p := t.copy
	var detail string
	switch {
	case len(t.stale) > 0:
		detail = fmt.Sprintf("target %s holds %s that an earlier instance of milena appended after it was replaced, the first at target offset %d: its records are there twice",
			t.partition, counted(len(t.stale), "batch"), t.stale[0])
	case len(t.foreign) > 0 && r.flow.writers.forbidsOthers():
		detail = fmt.Sprintf("target %s holds %s of another producer, the first at target offset %d", t.partition, counted(len(t.foreign), "batch"), t.foreign[0])
	default:
		return true
	}
	return r.flow.raise(p, policy.ForeignWrite, p.acked, p.acked, detail) != policy.Halt
}

// completeAt completes the recovery of a partition. Its copy ends at target offset end, which is behind the marker.
func (r *recovery) completeAt(p *partition, end int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isRecoveredByLocked(r) {
		return nil
	}
	if err := p.progress.moveEnd(end); err != nil {
		return err
	}
	if r.flow.decideRefusalLocked(p) {
		r.addReady(p)
	}
	return nil
}

// addReady marks partitions as recovered. They start with the next startReady.
func (r *recovery) addReady(partitions ...*partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = append(r.ready, partitions...)
}

// takeReady returns the partitions that are ready and not started, each once.
func (r *recovery) takeReady() []*partition {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready := r.ready
	r.ready = nil
	return ready
}

// startReady starts the partitions that are ready. Where they start, and with which producer, is journaled before their first batch: a new
// partition must not begin without that, and what any of them writes from here on then has one producer, whatever else the target deletes.
func (r *recovery) startReady() error {
	r.starting.Lock() // what became ready in the meantime is journaled with one write
	defer r.starting.Unlock()
	ready := r.takeReady()
	if len(ready) == 0 {
		return nil
	}
	for _, p := range ready {
		p.continueWith(r)
	}
	err := r.journalStarts(ready)
	var late []*partition
	for _, p := range ready {
		if !p.isDurable() {
			late = append(late, p)
			continue
		}
		p.startReplicating(r)
		r.flow.wakeSource(p)
	}
	r.addReady(late...) // the next startReady tries again: another partition of the takeover may take hours
	switch {
	case len(late) == 0 && !isFatal(err): // the next write has it, and until then more remains in doubt if this process ends
		return nil
	case len(late) > 0 && err == nil:
		return fmt.Errorf("the starts of %d new partitions could not be journaled", len(late))
	}
	return err
}

// journalStarts journals the shard. If no partition is new, it does not wait for another takeover of the shard, which may take long.
func (r *recovery) journalStarts(ready []*partition) error {
	if slices.ContainsFunc(ready, func(p *partition) bool { return !p.isDurable() }) {
		r.shard.mu.Lock()
	} else if !r.shard.mu.TryLock() {
		return nil
	}
	defer r.shard.mu.Unlock()
	_, err := r.flow.journalShard(r.shard)
	return err
}

// fatalError ends the flow, because a retry cannot succeed.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

// isFatal reports whether an error ends the flow.
func isFatal(err error) bool {
	var lost *FencedError
	var fatal *fatalError
	var newer *offsets.VersionError
	return errors.As(err, &lost) || errors.As(err, &fatal) || errors.As(err, &newer)
}
