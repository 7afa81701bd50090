package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// recovery is one takeover of one shard: the partitions that it is for, and the producer that they continue with.
type recovery struct {
	flow  *Flow
	shard *shard
	// Known partitions may have been written by an earlier owner and are fenced; fresh ones need no fence. Missing could not be fenced.
	known, fresh []*partition
	missing      int
	reload       bool // the journal must be read

	mark          marker
	producerID    int64
	producerEpoch int16

	mu    sync.Mutex
	ready []*partition // recovered; a new one waits until its start is journaled
}

// takeOver fences, reads the journal, reconciles and continues, for the partitions of the shard that wait.
func (f *Flow) takeOver(ctx context.Context, s *shard) error {
	r, err := f.fenceShard(ctx, s)
	f.takeovers.slots.Release(1) // what follows may wait for a marker, and must not keep other shards from being fenced
	if err != nil {
		return err
	}
	if err := r.reconcile(ctx); err != nil {
		return err
	}
	if r.missing > 0 {
		return fmt.Errorf("%d target partitions are missing on cluster %s", r.missing, f.config.Target)
	}
	return nil
}

// fenceShard makes this process the owner of the shard and of the partitions that wait.
func (f *Flow) fenceShard(ctx context.Context, s *shard) (*recovery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.ownership.isOwned()
	if first && (!f.hosted(ctx, s.journal()) || s.number > 0 && !f.ownsFirst(ctx)) {
		return nil, errNotYet
	}
	r := f.newRecovery(s)
	if r.reload || len(r.known) > 0 || !s.ownership.isCertain() || s.fencer.open {
		if err := r.fenceLocked(ctx); err != nil {
			return nil, err
		}
	}
	s.ownership.own()
	s.fencer.claimed = true
	if first && s.number == 0 {
		f.takeovers.firstConfirmed.Store(time.Now().UnixNano())
		for _, other := range f.busyFirst() {
			f.requestTakeover(other)
		}
	}
	r.producerID, r.producerEpoch = s.fencer.producerID, s.fencer.epoch
	for _, p := range r.partitions() {
		p.recover()
	}
	return r, nil
}

// newRecovery sorts the waiting partitions of the shard into those that must be fenced and those that need not. The shard's lock is held.
func (f *Flow) newRecovery(s *shard) *recovery {
	r := &recovery{flow: f, shard: s, reload: !s.ownership.isOwned()}
	for _, p := range s.waiting() {
		if s.ownership.isOwned() && p.isFresh() && !f.migrates() { // what MirrorMaker 2 left is read to a marker of ours
			r.fresh = append(r.fresh, p)
			continue
		}
		r.known = append(r.known, p)
		r.reload = r.reload || !p.isRestored()
	}
	return r
}

// partitions are all that the takeover is for.
func (r *recovery) partitions() []*partition {
	return append(append([]*partition(nil), r.known...), r.fresh...)
}

// fenceLocked fences the shard with its known partitions, and reads the journal where that is needed. The shard's lock is held.
func (r *recovery) fenceLocked(ctx context.Context) error {
	s := r.shard
	wanted := []offsets.TopicPartition{s.journal()}
	for _, p := range r.known {
		wanted = append(wanted, p.remote())
	}
	began := time.Now()
	mark, fenced, err := s.fencer.fence(ctx, wanted)
	if err != nil {
		return err
	}
	s.sequence, r.mark = 0, mark
	s.ownership.refenced()
	r.keep(fenced)
	if r.reload {
		if err := s.loadJournalLocked(ctx, mark); err != nil {
			return err
		}
		r.flow.noteShrunk(s)
	}
	if err := s.noteProducerLocked(ctx); err != nil {
		return err
	}
	r.flow.lease.confirm(began)
	return nil
}

// keep drops the known partitions that could not be fenced.
func (r *recovery) keep(fenced []offsets.TopicPartition) {
	ok := make(map[offsets.TopicPartition]bool, len(fenced))
	for _, tp := range fenced {
		ok[tp] = true
	}
	known := r.known
	r.known = nil
	for _, p := range known {
		if ok[p.remote()] {
			r.known = append(r.known, p)
		} else {
			r.missing++
		}
	}
}

// reconcile finds out for each partition where it continues, journals the starts of new ones and lets them go.
func (r *recovery) reconcile(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			for _, p := range r.partitions() {
				p.giveBack()
			}
		}
	}()
	byTail, err := r.restoreAll()
	if err != nil {
		return err
	}
	if err := r.release(ctx); err != nil {
		return err
	}
	tails := make([]*tail, 0, len(byTail))
	for t := range byTail {
		tails = append(tails, t)
	}
	var group errgroup.Group
	err = r.flow.readTails(ctx, tails, func(t *tail) {
		group.Go(func() error { // replaying the source may wait for a source broker: that holds up this partition alone
			if err := r.finish(ctx, byTail[t], t); err != nil {
				return err
			}
			return r.release(ctx)
		})
	})
	return errors.Join(err, group.Wait())
}

// restoreAll gives the partitions what the journal says of them, and says which log tails must be read on the target.
func (r *recovery) restoreAll() (map[*tail]*partition, error) {
	byTail := make(map[*tail]*partition)
	restore := func(p *partition, until int64) error {
		if err := r.restore(p); err != nil {
			return err
		}
		if t := r.tailOf(p, until); t != nil {
			byTail[t] = p
		}
		return nil
	}
	for _, p := range r.known {
		if err := restore(p, toMarker); err != nil {
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

// restore gives the partition what the journal says of it, once.
func (r *recovery) restore(p *partition) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsets != nil || p.state != recovering {
		return nil
	}
	l := r.shard.loaded[p.source()]
	if l == nil || l.state == nil {
		r.beginNewLocked(p, l)
		return nil
	}
	rewound, rewindTo := p.origin == originRewound, p.rewindTo
	if err := r.restoreMapLocked(p, l); err != nil {
		return err
	}
	switch {
	case rewound:
		p.restartLocked(rewindTo, p.targetEnd)
	case l.state.TargetTopicID != p.topic.targetID:
		r.targetRecreatedLocked(p)
	case l.state.SourceTopicID != p.topic.sourceID:
		r.sourceRecreatedLocked(p)
	}
	return nil
}

// beginNewLocked begins the map of a partition that the journal does not know.
func (r *recovery) beginNewLocked(p *partition, l *loadedState) {
	state := offsets.PartitionState{
		Topic: p.topic.source, Partition: p.number, SourceClusterID: r.flow.sourceID(), SourceTopicID: p.topic.sourceID,
		TargetTopic: p.topic.target, TargetTopicID: p.topic.targetID, LeaderEpoch: -1,
	}
	if l != nil {
		for _, c := range l.chunks { // of a long map whose state was never written: the next one may be cut otherwise
			state.Generation = max(state.Generation, c.Generation+1)
		}
	}
	p.progress.identify(state)
	from := originNew
	if p.origin == originAccepted {
		from = originAccepted
	}
	p.beginMapLocked(from, p.sourceStart, p.targetLast)
}

// restoreMapLocked continues the map that the journal has.
func (r *recovery) restoreMapLocked(p *partition, l *loadedState) error {
	f, state := r.flow, l.state
	if state.SourceClusterID != "" && state.SourceClusterID != f.sourceID() {
		return &fatalError{fmt.Errorf("flow %s: the journal on cluster %s was written for source cluster %s, but cluster %s is now %s; use another flow name, or delete the topic %s to begin again",
			f.config.Name, f.config.Target, state.SourceClusterID, f.config.Source, f.sourceID(), f.journalTopic)}
	}
	var open []*offsets.Chunk
	if c := l.chunks[state.Chunk]; c != nil {
		open = append(open, c)
	}
	m, err := offsets.RestoreMap(state, open...)
	if err != nil {
		return &fatalError{fmt.Errorf("flow %s: journal of %s: %w", f.config.Name, p, err)}
	}
	p.progress.restore(m, state)
	p.cursor.reset(p.acked, p.doneEpoch)
	return nil
}

// targetRecreatedLocked copies again what the source still has, if policy says so.
func (r *recovery) targetRecreatedLocked(p *partition) {
	detail := fmt.Sprintf("target topic %s was deleted and created again: what was copied below source offset %d is gone", p.topic.target, p.acked)
	if r.flow.raiseLocked(p, policy.TargetRecreated, p.acked, p.acked, detail) == policy.Restart {
		p.restartLocked(p.sourceStart, p.targetLast)
	}
}

// sourceRecreatedLocked begins with the new source topic behind what was copied of the old one, if policy says so.
func (r *recovery) sourceRecreatedLocked(p *partition) {
	detail := fmt.Sprintf("source topic %s was deleted and created again; %d is where the copy of the earlier one ended", p.topic.source, p.acked)
	switch r.flow.raiseLocked(p, policy.Recreated, p.acked, p.acked, detail) {
	case policy.Restart:
		p.restartLocked(p.sourceStart, max(p.targetEnd, p.targetLast))
	case policy.Skip:
		p.restartLocked(p.sourceLast, max(p.targetEnd, p.targetLast))
	case policy.Halt:
	}
}

// toMarker reads a tail to the marker of the fence instead of to an offset.
const toMarker = -1

// tailOf says what must be read of the target before this partition may continue; nil when nothing is.
func (r *recovery) tailOf(p *partition, until int64) *tail {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != recovering {
		return nil
	}
	durable := p.stage == mapDurable
	t := &tail{partition: p.remote(), id: p.topic.targetID, from: p.targetEnd, until: until, mark: r.mark, started: durable}
	if !durable && p.origin != originAccepted {
		t.unknown, t.from = true, p.targetFirst // a copy that nobody knows of must not be continued blindly
	}
	if until != toMarker && t.from >= until {
		if !durable {
			p.progress.decideStart(p.targetEnd)
		}
		r.addReady(p)
		return nil
	}
	p.own, p.foreign = nil, nil
	t.visit = func(h recordbatch.Header, batch []byte) error { return r.classify(p, t, h, batch) }
	return t
}

// classify puts one batch of the tail where it belongs: ours, foreign, or nothing but a marker.
func (r *recovery) classify(p *partition, t *tail, h recordbatch.Header, batch []byte) error {
	switch {
	case h.Attributes.Control() || h.Magic == 2 && h.Count == 0:
	case t.unknown:
		return r.flow.writers.checkUnknown(batch)
	case r.shard.ownsProducer(h.ProducerID):
		p.own = append(p.own, match.NewOwnBatch(recordbatch.Batch{Header: h, Bytes: batch}))
	default:
		p.foreign = append(p.foreign, h.BaseOffset)
	}
	return nil
}

var errTargetNotEmpty = errors.New("the target partition holds records that no journal describes")

// finish brings one partition whose tail is read to where it continues.
func (r *recovery) finish(ctx context.Context, p *partition, t *tail) error {
	switch {
	case t.unknown && r.flow.migrates() && (t.err == nil || errors.Is(t.err, errTargetNotEmpty)):
		return r.migrate(ctx, p, t)
	case t.err != nil:
		return r.judgeTail(p, t)
	case !r.allowsForeign(p, t):
		return nil
	}
	if len(p.own) > 0 && t.started { // before the start is journaled nothing there can belong to this map
		ok, err := r.replay(ctx, p, t)
		if err != nil || !ok {
			return err
		}
	}
	return r.reach(p, max(t.end, t.from))
}

// judgeTail makes an anomaly of what was found instead of a tail, or returns why the tail could not be read.
func (r *recovery) judgeTail(p *partition, t *tail) error {
	f := r.flow
	if errors.Is(t.err, errTargetNotEmpty) {
		detail := fmt.Sprintf("target %s already holds records and the journal does not say whose", t.partition)
		if f.raise(p, policy.TargetNotEmpty, p.acked, p.acked, detail) == policy.Skip {
			p.mu.Lock()
			p.progress.accept()
			p.doubtLocked() // once more, from the end of what is there
			p.mu.Unlock()
			f.requestTakeover(r.shard)
		}
		return nil
	}
	if truncated, ok := errors.AsType[*targetTruncatedError](t.err); ok {
		f.halt(p, policy.Truncated, truncated.Error()) // the map is about records that are gone
		return nil
	}
	return t.err
}

// allowsForeign lets policy decide about batches of other producers in the tail.
func (r *recovery) allowsForeign(p *partition, t *tail) bool {
	if len(p.foreign) == 0 || !r.flow.writers.excludes() {
		return true
	}
	detail := fmt.Sprintf("target %s holds %d batches of another producer, the first at target offset %d", t.partition, len(p.foreign), p.foreign[0])
	return r.flow.raise(p, policy.ForeignWrite, p.acked, p.acked, detail) != policy.Halt
}

// reach ends the recovery of a partition: its copy ends behind the marker.
func (r *recovery) reach(p *partition, end int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != recovering {
		return nil
	}
	p.own, p.foreign = nil, nil
	if err := p.progress.reach(end); err != nil {
		return err
	}
	if p.refused < maxRefusals || r.flow.refusedLocked(p) {
		r.addReady(p)
	}
	return nil
}

func (r *recovery) addReady(partitions ...*partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = append(r.ready, partitions...)
}

func (r *recovery) takeReady() []*partition {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready := r.ready
	r.ready = nil
	return ready
}

// release journals the starts of the partitions that are ready and lets them go: the start of a new partition must be in the journal before
// its first batch.
func (r *recovery) release(ctx context.Context) error {
	ready := r.takeReady()
	err := r.journalStarts(ctx, ready)
	var late []*partition
	for _, p := range ready {
		if !p.isDurable() {
			late = append(late, p)
			continue
		}
		p.replicate(r.producerID, r.producerEpoch)
		r.flow.wakeSource(p)
	}
	r.addReady(late...) // the next release tries again: another partition of the takeover may take hours
	if err == nil && len(late) > 0 {
		err = fmt.Errorf("the starts of %d new partitions could not be journaled", len(late))
	}
	return err
}

// journalStarts journals the shard if one of the partitions is new.
func (r *recovery) journalStarts(ctx context.Context, ready []*partition) error {
	for _, p := range ready {
		if !p.isDurable() {
			r.shard.mu.Lock()
			defer r.shard.mu.Unlock()
			confirmed := false
			return r.flow.journalShard(ctx, r.shard, nil, &confirmed)
		}
	}
	return nil
}

// fatalError ends the flow: trying again cannot help.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

func isFatal(err error) bool {
	var lost *FencedError
	var fatal *fatalError
	var newer *offsets.VersionError
	return errors.As(err, &lost) || errors.As(err, &fatal) || errors.As(err, &newer)
}
