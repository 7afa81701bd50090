package verify

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// publishInterval is how often the progress of a partition is published.
const publishInterval = 250 * time.Millisecond

// errTurnOver ends the turn of a partition.
var errTurnOver = errors.New("the turn is over")

// partition is one partition and its copy.
type partition struct {
	source, target logRange // without offsets
	from, to       offsets.Pair
	places         places
	facts          facts
	cleaned        bothCleaned
	generation     uint32 // of the map
	pending        bool   // something is to be verified
	behind         string // what the source has behind the end, as a note of this run; a later one has an end of its own
	turn           turn

	found    Partition    // what was found so far, by the goroutine that verifies
	position offsets.Pair // everything below is judged

	mu        sync.Mutex
	published Partition
	// resumable is a position, and what was found up to it, at which a later run may continue.
	resumable Saved
	seen      offsets.Pair // position of published
}

// journalPlaces is the map of one partition, from the journal.
type journalPlaces struct {
	reading *offsets.Reading
	tp      offsets.TopicPartition
}

func (j journalPlaces) segment(ctx context.Context, source int64) (offsets.Segment, error) {
	return j.reading.Segment(ctx, j.tp, source)
}

func (j journalPlaces) forward(ctx context.Context, source int64) (int64, error) {
	t, err := j.reading.Forward(ctx, j.tp, source)
	return t.Target, err
}

func (j journalPlaces) reverse(ctx context.Context, target int64) (int64, error) {
	t, err := j.reading.Reverse(ctx, j.tp, target)
	return t.Source, err
}

// verify verifies the partition up to its end. It returns an error only if ctx ends.
func (p *partition) verify(ctx context.Context, v *Verification) error {
	if !p.pending {
		return nil
	}
	if v.options.Turn > 0 {
		p.turn.from, p.turn.ends = p.position, time.Now().Add(v.options.Turn)
	}
	err := p.verifyAll(ctx, v)
	if errors.Is(err, errTurnOver) {
		err = nil
	}
	if ctx.Err() != nil {
		p.found.NotVerified = "the verification was interrupted"
		p.found.conclude()
		p.publish()
		return ctx.Err()
	}
	if err != nil {
		p.found.NotVerified = err.Error()
	}
	p.found.conclude()
	p.publish()
	return nil
}

func (p *partition) verifyAll(ctx context.Context, v *Verification) error {
	tp := p.source.TopicPartition
	for {
		first, end := v.sample.after(tp, p.from.Source, p.position.Source, p.to.Source)
		if first >= end && p.position.Target >= p.to.Target {
			break
		}
		span, err := p.span(ctx, first, end)
		if err != nil {
			return err
		}
		err = p.verifySpan(ctx, v, span)
		var deleted *deletedError
		switch {
		case errors.As(err, &deleted):
			if err := p.moveStart(ctx, deleted); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			p.setPosition(offsets.Pair{Source: span.SourceTo, Target: span.TargetTo})
		}
	}
	return p.explain(ctx, v)
}

// span returns the offsets on the target that belong to source offsets [first, end).
func (p *partition) span(ctx context.Context, first, end int64) (Range, error) {
	r := Range{SourceFrom: first, SourceTo: end, TargetFrom: p.position.Target, TargetTo: p.to.Target}
	var err error
	if first != p.position.Source {
		if r.TargetFrom, err = p.places.forward(ctx, first); err != nil {
			return r, err
		}
	}
	if end != p.to.Source {
		if r.TargetTo, err = p.places.forward(ctx, end); err != nil {
			return r, err
		}
	}
	return r, nil
}

// verifySpan verifies a range.
func (p *partition) verifySpan(ctx context.Context, v *Verification, r Range) error {
	ctx, cancel := context.WithCancel(ctx)
	source, target := p.source, p.target
	source.from, source.to, target.from, target.to = r.SourceFrom, r.SourceTo, r.TargetFrom, r.TargetTo
	c := &comparison{
		source: v.source.stream(ctx, source, p.found.drop), target: v.target.stream(ctx, target, func(recordbatch.Reason, int64) {}),
		places: p.places, facts: p.facts, cleaned: &p.cleaned, found: &p.found,
	}
	defer c.source.close()
	defer c.target.close()
	defer cancel()
	due := dueEvery{interval: publishInterval}
	c.publish = func() error {
		if due.isDue() {
			p.setPosition(offsets.Pair{Source: min(c.source.head(), r.SourceTo), Target: min(c.target.head(), r.TargetTo)})
			if p.isTurnOver() {
				return errTurnOver
			}
		}
		return nil
	}
	err := c.run(ctx)
	if err != nil && !errors.Is(err, errTurnOver) {
		p.setPosition(offsets.Pair{Source: min(c.source.next, r.SourceTo), Target: min(c.target.next, r.TargetTo)})
	}
	return err
}

// turn is how long the partition is verified. Zero: to its end.
type turn struct {
	from offsets.Pair
	ends time.Time
}

// isTurnOver reports whether the turn is over, which has come further, and of which nothing is lost.
func (p *partition) isTurnOver() bool {
	return !p.turn.ends.IsZero() && p.position != p.turn.from && !p.cleaned.wait() && time.Now().After(p.turn.ends)
}

// setPosition publishes what was found up to a position.
func (p *partition) setPosition(at offsets.Pair) {
	p.position = at
	p.publish()
}

// publish makes what was found visible to others.
func (p *partition) publish() {
	found := p.found
	found.CleanedOnSource, found.CleanedOnTarget = p.cleaned.source.explained, p.cleaned.target.explained
	found.Differences, found.Notes = slices.Clone(p.found.Differences), slices.Clone(p.found.Notes)
	if p.behind != "" {
		found.Notes = append(found.Notes, p.behind)
	}
	if p.pending {
		r := Range{}
		r.begin(p.from)
		r.end(p.position)
		found.Verified = &r
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published, p.seen = found, p.position
	if p.pending && !p.cleaned.wait() { // what waits is not saved, so a later run has to find it again
		found := found
		found.Notes = slices.Clone(p.found.Notes) // without what is behind
		p.resumable = Saved{Found: found, Position: p.position, Generation: p.generation, SourceID: p.source.id, TargetID: p.target.id, complete: p.position.Source >= p.to.Source && p.position.Target >= p.to.Target}
	}
}

// report is what was found up to now.
func (p *partition) report() Partition {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.published
}

// moveStart goes on behind records that one side has deleted.
func (p *partition) moveStart(ctx context.Context, deleted *deletedError) error {
	at := p.position
	var err error
	switch deleted.side {
	case offsets.Source:
		at.Source = min(max(at.Source, deleted.start), p.to.Source)
		at.Target, err = p.places.forward(ctx, at.Source)
	case offsets.Target:
		at.Target = min(max(at.Target, deleted.start), p.to.Target)
		at.Source, err = p.places.reverse(ctx, at.Target)
	}
	if err != nil {
		return err
	}
	p.found.note("the %s deleted what is below its offset %d while it was verified, so source offsets [%d, %d) were not verified", deleted.side, deleted.start, p.position.Source, at.Source)
	p.setPosition(at)
	return nil
}

// explain reads on where records wait for newer ones with their keys. What is not explained then is a difference.
func (p *partition) explain(ctx context.Context, v *Verification) error {
	for _, one := range []struct {
		cleaned *cleaned
		cluster *cluster
		log     logRange
		end     int64
		what    What
		detail  string
	}{
		{&p.cleaned.target, v.target, p.target, p.to.Target, MissingOnTarget, missingOnTarget + ", nor a newer one with its key"},
		{&p.cleaned.source, v.source, p.source, p.to.Source, MissingOnSource, missingOnSource + ", nor a newer one with its key"},
	} {
		if len(one.cleaned.waiting) == 0 {
			continue
		}
		if v.sample.part < 1 {
			return unreadable("%s", one.cleaned.unexplained(one.cluster.side))
		}
		one.log.from = one.end
		if err := one.cleaned.readOn(ctx, one.cluster, one.log); err != nil {
			return err
		}
		left := make([]offsets.Pair, 0, len(one.cleaned.waiting))
		for _, at := range one.cleaned.waiting {
			left = append(left, at)
		}
		slices.SortFunc(left, func(a, b offsets.Pair) int { return int(min(max(a.Source-b.Source, -1), 1)) })
		for _, at := range left {
			p.found.differ(one.what, at, 1, one.detail)
		}
		clear(one.cleaned.waiting)
	}
	return nil
}

// readOn reads the rest of a log, as long as records wait for a newer one with their key.
func (c *cleaned) readOn(ctx context.Context, of *cluster, r logRange) error {
	bound, err := of.bounds(ctx, r.TopicPartition)
	if err != nil {
		return unreadable("the end of %s on cluster %s is not known: %v", r.TopicPartition, of.alias, of.explain(err))
	}
	if r.to = bound.End; r.from >= r.to {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	s := of.stream(ctx, r, func(recordbatch.Reason, int64) {})
	defer s.close()
	defer cancel()
	for len(c.waiting) > 0 {
		if err := s.fill(ctx); err != nil {
			return err
		}
		if s.head() == math.MaxInt64 {
			return nil
		}
		if err := s.decode(ctx); err != nil {
			return err
		}
		for len(s.records) > 0 {
			c.seen(s.records[0].Key)
			s.takeRecord()
		}
		if s.damaged != nil {
			s.takeDamaged()
		}
	}
	return nil
}
