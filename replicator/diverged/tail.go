package diverged

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// tail is what the target has behind the journaled end of a copy.
type tail struct {
	own     *match.Tail
	foreign int // batches of other producers
	stale   int // batches of an owner that was replaced
}

// tailRead is how a tail is read.
type tailRead struct {
	shared bool // others write to the topic too, so a deleted offset need not have been a copy
	hashed bool // its records are to be compared, and not only its batches
}

// noProducer is the id of no producer.
const noProducer = -1

// matchTail finds out where a copy ends. What is on the target behind the journaled end is matched against the source.
func (l *listing) matchTail(ctx context.Context, p *partition) (place, error) {
	how := tailRead{shared: l.clusters.Flow.Provenance || l.clusters.Flow.Naming == config.NamingIdentity}
	for {
		t, err := l.readTail(ctx, p, how)
		if err != nil {
			return place{}, err
		}
		if t.foreign > 0 && !how.shared {
			how.shared = true
			continue
		}
		at, err := l.reconcile(ctx, p, t)
		if errors.Is(err, match.ErrHashes) && !how.hashed {
			how.hashed = true
			continue
		}
		if err == nil && t.stale > 0 {
			p.found.note("%s-%d has batches that an instance of milena appended after it was replaced (%d): their records are there twice", p.pair.TargetName, p.Partition, t.stale)
		}
		return at, err
	}
}

// readTail reads the log of a copy from the journaled end to its end. There is no marker that ends it: what the target has deleted at its end counts as
// possible copies.
func (l *listing) readTail(ctx context.Context, p *partition, how tailRead) (*tail, error) {
	t := &tail{own: match.NewTail(p.state.End.Target, p.state.Producer)}
	t.own.Shared, t.own.Owners = how.shared, p.shard.owners
	if how.hashed {
		t.own.Hash()
	}
	r := logRange{TopicPartition: p.TopicPartition, id: p.pair.Target.ID, isolation: wire.ReadUncommitted, from: p.state.End.Target, to: p.targetEnd}
	r.Topic = p.pair.TargetName
	if p.targetStart > r.from {
		t.own.LogStart = p.targetStart
		r.from = p.targetStart
	}
	err := l.target.follow(ctx, r, visitor{
		batch: func(b recordbatch.Batch, _ *recordbatch.Aborted) (bool, error) {
			if b.BaseOffset >= p.state.End.Target {
				if err := t.add(b); err != nil {
					return false, damaged(r, b, err)
				}
			}
			return true, nil
		},
		deleted: func(start int64) { t.own.LogStart = start },
	})
	if err != nil {
		return nil, err
	}
	var count *match.CountError
	if err := t.own.Close(p.targetEnd, noProducer, 0, 0); err != nil && !errors.As(err, &count) {
		return nil, err
	}
	return t, nil
}

// add takes the next batch: a copy, a marker of the owners, or of somebody else.
func (t *tail) add(b recordbatch.Batch) error {
	owned := b.Magic == 2 && slices.Contains(t.own.Owners, b.ProducerID)
	switch {
	case owned && b.Attributes.Control():
		t.own.Marker(b.BaseOffset, b.ProducerID, b.ProducerEpoch)
	case owned:
		ok, err := t.own.Add(b)
		if ok || err != nil {
			return err
		}
		t.stale++
	case !b.Attributes.Control() && (b.Magic < 2 || b.Count > 0):
		t.foreign++
	}
	t.own.Pass(b.BaseOffset, b.NextOffset())
	return nil
}

// reconcile finds the source records of a tail. The error is [match.ErrHashes], or why a log cannot be read.
func (l *listing) reconcile(ctx context.Context, p *partition, t *tail) (place, error) {
	matching := match.NewReconciler(t.own, p.state.End.Source, p.state.LeaderEpoch)
	matching.Provenance = l.marks
	matching.MayLeaveOut = l.leavesOut(p.Topic)
	ended, err := l.readSource(ctx, p, matching)
	var doubt *match.DoubtError
	switch {
	case errors.As(err, &doubt) && doubt.From < doubt.To:
		return doubtful(doubt.From, doubt.To, "what the target has behind the journaled end fits in more than one way: %v", doubt), nil
	case errors.As(err, &doubt):
		return doubtful(doubt.From, p.sourceEnd, "the target has records behind the journaled end that do not match: %v", doubt), nil
	case err != nil:
		return place{}, err
	case !ended, p.sourceHigh < p.state.End.Source:
		return l.ahead(p, t, matching), nil
	}
	end := matching.End()
	l.noteGaps(p, t, end)
	return certain(end.Next), nil
}

// leavesOut reports whether policy leaves out records of a topic that the target refuses.
func (l *listing) leavesOut(topic string) bool {
	return l.anomalies.Decide(topic, policy.RecordRefused) == policy.Skip || l.anomalies.Decide(topic, policy.RecordTooLarge) == policy.Skip
}

// readSource reads the source until the end of the tail is known. It reports whether that is before the end of the source.
func (l *listing) readSource(ctx context.Context, p *partition, matching *match.Reconciler) (ended bool, err error) {
	if matching.End() != nil {
		return true, nil
	}
	r := logRange{TopicPartition: p.TopicPartition, id: p.pair.Source.ID, isolation: l.isolation, from: matching.Next, to: p.sourceEnd}
	err = l.source.follow(ctx, r, visitor{deleted: matching.Lost, batch: func(b recordbatch.Batch, aborted *recordbatch.Aborted) (bool, error) {
		route, reason, err := recordbatch.Admit(b.Bytes, b.Header, aborted, recordbatch.Rules{Wanted: matching.Next, Provenance: l.marks != nil})
		if err == nil {
			err = matching.Match(b, route, reason)
		}
		return err == nil && matching.End() == nil, damaged(r, b, err)
	}})
	if err != nil {
		return false, err
	}
	return matching.EndOfSource(p.sourceEnd)
}

// ahead is the place of a partition whose source ends before its copy does: nothing of it is missing on the target.
func (l *listing) ahead(p *partition, t *tail, matching *match.Reconciler) place {
	missing := t.own.Records()
	for _, s := range matching.Partial().Segments {
		missing -= s.Count
	}
	at := certain(p.sourceEnd)
	at.ahead = max(0, missing) + max(0, p.state.End.Source-p.sourceHigh)
	return at
}

// noteGaps adds what the target refused although it has what was copied behind it.
func (l *listing) noteGaps(p *partition, t *tail, end *match.End) {
	gaps := t.own.Gaps()
	if len(gaps) == 0 {
		return
	}
	g := Gap{Kind: string(policy.Unmatched), From: p.state.End.Source, To: end.Next}
	var records int64
	for _, gap := range gaps {
		records += gap.Count
	}
	for _, s := range end.Segments {
		if s.TargetEnd() <= gaps[0].Target {
			g.From = s.SourceEnd()
		}
		if s.TargetEnd() > gaps[len(gaps)-1].Target {
			g.To = s.Source
			break
		}
	}
	g.Detail = fmt.Sprintf("the target refused records, and has what was copied behind them; records that are missing: %d", records)
	p.found.Gaps = append(p.found.Gaps, g)
}
