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

// recovery is one take-over of one shard: the producer that its partitions go on with and where each of them stands.
type recovery struct {
	flow          *Flow
	shard         *shard
	mark          fence
	producerID    int64
	producerEpoch int16

	mu    sync.Mutex
	ready []*partition // recovered; a new one waits for its start to be journalled
}

// takeOver fences, reads, reconciles and goes on, for the partitions of the shard that wait.
func (f *Flow) takeOver(ctx context.Context, s *shard) error {
	s.mu.Lock()
	first := !s.owned
	if first && (!f.hosted(ctx, s.journal()) || s.number > 0 && !f.ownsFirst(ctx)) {
		s.mu.Unlock()
		f.takeOverSlots.Release(1)
		return errNotYet
	}
	parts := s.waiting()
	var fresh, known []*partition
	reload := !s.owned
	for _, p := range parts {
		if s.owned && p.isFresh() && !f.migrates() { // what MirrorMaker 2 left is read to a marker of ours
			fresh = append(fresh, p)
			continue
		}
		known = append(known, p)
		reload = reload || !p.isAdopted()
	}
	r := &recovery{flow: f, shard: s}
	if s.inDoubt || s.open || reload || len(known) > 0 {
		began := time.Now()
		err := r.fenceLocked(ctx, &known)
		if err == nil && reload {
			err = s.loadJournalLocked(ctx, r.mark)
			f.noteShrunk(s)
		}
		if err == nil {
			err = s.noteProducerLocked(ctx)
		}
		if err != nil {
			s.mu.Unlock()
			f.takeOverSlots.Release(1)
			return err
		}
		f.lease.confirm(began)
	}
	s.owned = true
	s.known.Store(true)
	if first && s.number == 0 {
		f.firstConfirmed.Store(time.Now().UnixNano())
		for _, other := range f.busyFirst() {
			f.requestTakeOver(other)
		}
	}
	r.producerID, r.producerEpoch = s.producerID, s.epoch
	for _, p := range append(append([]*partition(nil), known...), fresh...) {
		p.begin()
	}
	missing := len(parts) - len(known) - len(fresh)
	s.mu.Unlock()
	f.takeOverSlots.Release(1) // what follows may wait for a marker, and must not keep other shards from being fenced
	if err := r.reconcile(ctx, known, fresh); err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("%d target partitions are missing on cluster %s", missing, f.targetAlias)
	}
	return nil
}

// fenceLocked fences the shard and keeps those of the partitions that could be fenced.
func (r *recovery) fenceLocked(ctx context.Context, known *[]*partition) error {
	mark, fenced, err := r.shard.fenceLocked(ctx, *known)
	if err == nil {
		r.mark, *known = mark, fenced
	}
	return err
}

// reconcile finds out for each partition where it stands, journals the starts of new ones and lets them go.
func (r *recovery) reconcile(ctx context.Context, known, fresh []*partition) (err error) {
	defer func() {
		if err != nil {
			for _, p := range append(known, fresh...) {
				p.giveBack()
			}
		}
	}()
	byTail := make(map[*tail]*partition)
	var tails []*tail
	adopt := func(p *partition, until int64) error {
		if err := r.adopt(p); err != nil {
			return err
		}
		if t := r.tailOf(p, until); t != nil {
			byTail[t] = p
			tails = append(tails, t)
		}
		return nil
	}
	for _, p := range known {
		if err := adopt(p, toMarker); err != nil {
			return err
		}
	}
	for _, p := range fresh {
		if err := adopt(p, p.targetLast); err != nil {
			return err
		}
	}
	if err := r.release(ctx); err != nil {
		return err
	}
	var group errgroup.Group
	err = r.flow.readTails(ctx, tails, func(t *tail) {
		group.Go(func() error { // the walk over the source may wait for a source broker: that holds up this partition alone
			if err := r.finish(ctx, byTail[t], t); err != nil {
				return err
			}
			return r.release(ctx)
		})
	})
	return errors.Join(err, group.Wait())
}

// isFresh says that nothing was ever written to this partition by this flow: every start is journalled before the first batch, and the
// journal that this process owns does not name it. Such a partition needs no fence, because an earlier owner could not begin it either:
// its journal write would be refused.
func (p *partition) isFresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets == nil && !p.shard.isJournalled(p.source())
}

func (p *partition) isAdopted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets != nil
}

// adopt gives the partition what the journal says of it, once.
func (r *recovery) adopt(p *partition) error {
	f := r.flow
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsets != nil || p.state != recovering {
		return nil
	}
	l := r.shard.loaded[p.source()]
	if l == nil || l.state == nil {
		p.record = offsets.PartitionState{
			Topic: p.topic.source, Partition: p.number, SourceClusterID: f.sourceID(), SourceTopicID: p.topic.sourceID,
			TargetTopic: p.topic.target, TargetTopicID: p.topic.targetID, LeaderEpoch: -1,
		}
		if l != nil {
			for _, c := range l.chunks { // of a long map whose state was never written: the next one may be cut otherwise
				p.record.Generation = max(p.record.Generation, c.Generation+1)
			}
		}
		p.beginMapLocked(p.sourceStart, p.targetLast)
		return nil
	}
	state := l.state
	if state.SourceClusterID != "" && state.SourceClusterID != f.sourceID() {
		return &fatalError{fmt.Errorf("flow %s: the journal on cluster %s was written for source cluster %s, but cluster %s is now %s; use another flow name, or delete the topic %s to begin again",
			f.name, f.targetAlias, state.SourceClusterID, f.sourceAlias, f.sourceID(), f.journalTopic)}
	}
	var open []*offsets.Chunk
	if c := l.chunks[state.Chunk]; c != nil {
		open = append(open, c)
	}
	m, err := offsets.RestoreMap(state, open...)
	if err != nil {
		return &fatalError{fmt.Errorf("flow %s: journal of %s: %w", f.name, p, err)}
	}
	p.offsets, p.record, p.started = m, *state, true
	p.acked, p.next, p.journaled = state.End.Source, state.End.Source, state.End.Source
	p.targetEnd, p.fromEpoch, p.doneEpoch = state.End.Target, state.LeaderEpoch, state.LeaderEpoch
	if p.rewindTo >= 0 {
		p.restartLocked(p.rewindTo, p.targetEnd)
		p.rewindTo = -1
		return nil
	}
	if state.TargetTopicID != p.topic.targetID {
		if f.raiseLocked(p, policy.TargetRecreated, p.acked, p.acked, fmt.Sprintf("target topic %s was deleted and created again: what was copied below source offset %d is gone", p.topic.target, p.acked)) == policy.Restart {
			p.restartLocked(p.sourceStart, p.targetLast)
		}
		return nil
	}
	if state.SourceTopicID != p.topic.sourceID {
		r.adoptRecreated(p)
	}
	return nil
}

// adoptRecreated begins with the new source topic behind what was copied of the old one, if policy says so.
func (r *recovery) adoptRecreated(p *partition) {
	detail := fmt.Sprintf("source topic %s was deleted and created again; %d is where the copy of the earlier one ended", p.topic.source, p.acked)
	switch r.flow.raiseLocked(p, policy.Recreated, p.acked, p.acked, detail) {
	case policy.Restart:
		p.restartLocked(p.sourceStart, max(p.targetEnd, p.targetLast))
	case policy.Skip:
		p.restartLocked(p.sourceLast, max(p.targetEnd, p.targetLast))
	case policy.Halt:
	}
}

// restartLocked begins the map of another generation: what the target holds belongs to the earlier one and is left as it is.
func (p *partition) restartLocked(source, target int64) {
	p.record.Generation++
	p.record.SourceTopicID, p.record.TargetTopicID = p.topic.sourceID, p.topic.targetID
	p.accepted = true
	p.beginMapLocked(source, target)
}

// beginMapLocked begins an empty map. It must be journalled before the first batch is produced.
func (p *partition) beginMapLocked(source, target int64) {
	p.offsets = offsets.NewMap(source, target)
	p.acked, p.next, p.journaled = source, source, source
	p.targetEnd, p.fromEpoch, p.doneEpoch = target, -1, -1
	p.started, p.settled, p.dirty = false, false, true
}

// settleStartLocked decides where the map of a new partition begins. Where the target's log held no record, it begins at the log's very
// beginning, which tells whoever translates that no copy stands before the first one of this map.
func (p *partition) settleStartLocked(end int64) {
	start := int64(0)
	if p.accepted {
		start = end
	}
	p.offsets, p.settled = offsets.NewMap(p.acked, start), true
	_ = p.offsets.Advance(p.acked, end) // start <= end
}

// toMarker reads a tail to the marker of the fence instead of to an offset.
const toMarker = -1

// tailOf says what must be read of the target before this partition may go on; nil when nothing is.
func (r *recovery) tailOf(p *partition, until int64) *tail {
	r.mu.Lock() // before the partition's lock, as in release
	defer r.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != recovering {
		return nil
	}
	t := &tail{partition: p.remote(), id: p.topic.targetID, from: p.targetEnd, fence: r.mark}
	if !p.started && !p.accepted {
		t.from = p.targetFirst // a copy that nobody knows of must not be continued blindly
	}
	t.started, t.unknown = p.started, !p.started && !p.accepted
	if until != toMarker && t.from >= until {
		if !p.started {
			p.settleStartLocked(p.targetEnd)
		}
		r.ready = append(r.ready, p)
		return nil
	}
	t.until = until
	p.own, p.foreign = nil, nil
	t.visit = func(h recordbatch.Header, batch []byte) error { return r.sort(p, t, h, batch) }
	return t
}

// sort puts one batch of the tail where it belongs: ours, foreign, or nothing but a marker.
func (r *recovery) sort(p *partition, t *tail, h recordbatch.Header, batch []byte) error {
	switch {
	case h.Attributes.Control() || h.Magic == 2 && h.Count == 0:
	case t.unknown:
		return r.flow.knownToOthers(batch)
	case r.shard.ownsProducer(h.ProducerID):
		p.own = append(p.own, match.NewOwnBatch(recordbatch.Batch{Header: h, Bytes: batch}))
	default:
		p.foreign = append(p.foreign, h.BaseOffset)
	}
	return nil
}

var errTargetNotEmpty = errors.New("the target partition holds records that no journal describes")

// finish brings one partition whose tail is read to where it goes on.
func (r *recovery) finish(ctx context.Context, p *partition, t *tail) error {
	f := r.flow
	var truncated *targetTruncatedError
	switch {
	case t.unknown && f.migrates() && (t.err == nil || errors.Is(t.err, errTargetNotEmpty)):
		return r.migrate(ctx, p, t)
	case errors.Is(t.err, errTargetNotEmpty):
		if f.raise(p, policy.TargetNotEmpty, p.acked, p.acked, fmt.Sprintf("target %s already holds records and the journal does not say whose", t.partition)) == policy.Skip {
			p.mu.Lock()
			p.accepted = true
			p.mu.Unlock()
			p.doubt() // once more, from the end of what is there
			f.requestTakeOver(r.shard)
		}
		return nil
	case errors.As(t.err, &truncated):
		f.halt(p, policy.Truncated, truncated.Error()) // there is no way on: the map speaks of records that are gone
		return nil
	case t.err != nil:
		return t.err
	}
	if len(p.foreign) > 0 && !f.config.Provenance {
		detail := fmt.Sprintf("target %s holds %d batches of another producer, the first at target offset %d", t.partition, len(p.foreign), p.foreign[0])
		if f.raise(p, policy.ForeignWrite, p.acked, p.acked, detail) == policy.Halt {
			return nil
		}
	}
	if len(p.own) > 0 && t.started { // before the start is journalled nothing there can belong to this map
		ok, err := r.align(ctx, p, t)
		if err != nil || !ok {
			return err
		}
	}
	ready, err := r.settle(p, max(t.end, t.from))
	if ready {
		r.addReady(p)
	}
	return err
}

// settle moves the target's edge behind the marker: an abort marker of ours leaves a hole of one offset in the map.
func (r *recovery) settle(p *partition, end int64) (ready bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != recovering {
		return false, nil
	}
	p.own, p.foreign = nil, nil
	if !p.started && !p.inherited {
		p.settleStartLocked(end)
	} else if err := p.offsets.Advance(p.acked, end); err != nil {
		return false, err
	}
	p.targetEnd, p.dirty = end, true
	return p.refused < maxRefusals || r.flow.refusedLocked(p), nil
}

func (r *recovery) addReady(p *partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = append(r.ready, p)
}

// release journals what is ready and lets it go: the start of a new partition must be in the journal before its first batch.
func (r *recovery) release(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ready) == 0 {
		return nil
	}
	s := r.shard
	needs := false
	for _, p := range r.ready {
		p.mu.Lock()
		needs = needs || !p.started
		p.mu.Unlock()
	}
	if needs {
		s.mu.Lock()
		confirmed := false
		err := r.flow.journalShard(ctx, s, nil, &confirmed)
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	var rest []*partition
	for _, p := range r.ready {
		p.mu.Lock()
		started := p.started
		p.mu.Unlock()
		if !started {
			rest = append(rest, p)
			continue
		}
		p.replicate(r.producerID, r.producerEpoch)
		r.flow.wakeSource(p)
	}
	r.ready = rest
	if len(rest) > 0 {
		return fmt.Errorf("the starts of %d new partitions could not be journalled", len(rest))
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
