package verify

import (
	"context"
	"math"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// places is the map of a partition.
type places interface {
	// segment returns the segment that has a source offset or the first one behind it; its Count is 0 if there is none.
	segment(ctx context.Context, source int64) (offsets.Segment, error)
	forward(ctx context.Context, source int64) (target int64, err error)
	reverse(ctx context.Context, target int64) (source int64, err error)
}

// comparison compares a range of a partition with its copy, in the order of both logs. The heads of both streams are the next ones to be judged: where the
// map says that they are copies of each other they are compared, and whatever stands on one side only is judged by itself.
type comparison struct {
	source, target *stream
	places         places
	facts          facts
	cleaned        *bothCleaned
	found          *Partition
	publish        func() error // called now and then, when everything before both heads is judged; an error ends the comparison

	// segment is the first segment that one of the heads has not passed. Behind the last one it is nowhere.
	segment offsets.Segment
	// passed is the source offset behind the segment before.
	passed int64
	// ignored are the offsets below which records are not judged, because the other side has a damaged batch there.
	ignored offsets.Pair
}

// facts are what is known of a partition besides its logs.
type facts struct {
	// sourceID and targetID are the cluster ids if the flow has provenance, else empty.
	sourceID, targetID string
	ledger             []offsets.Gap
}

// bothCleaned are the records that log cleaners may have removed.
type bothCleaned struct{ source, target cleaned }

func (c *bothCleaned) wait() bool { return len(c.source.waiting)+len(c.target.waiting) > 0 }

func (c *bothCleaned) seen(key []byte) {
	c.source.seen(key)
	c.target.seen(key)
}

// nowhere is a segment behind everything.
var nowhere = offsets.Segment{Source: math.MaxInt64, Target: math.MaxInt64} //nolint:gochecknoglobals // a constant

// publishSteps is after how many steps publish is called.
const publishSteps = 256

// run compares up to the end of both streams.
func (c *comparison) run(ctx context.Context) error {
	c.passed = c.source.next
	if err := c.findSegment(ctx, c.source.next); err != nil {
		return err
	}
	for steps := 0; ; steps++ {
		if err := c.source.fill(ctx); err != nil {
			return err
		}
		if err := c.target.fill(ctx); err != nil {
			return err
		}
		source, target := c.source.head(), c.target.head()
		if source == math.MaxInt64 && target == math.MaxInt64 {
			return nil
		}
		if steps%publishSteps == 0 {
			if err := c.publish(); err != nil {
				return err
			}
		}
		for c.segment.SourceEnd() <= source && c.segment.TargetEnd() <= target {
			if err := c.findSegment(ctx, c.segment.SourceEnd()); err != nil {
				return err
			}
		}
		if err := c.step(ctx, source, target); err != nil {
			return err
		}
	}
}

// findSegment moves to the first segment that ends behind a source offset.
func (c *comparison) findSegment(ctx context.Context, source int64) error {
	next, err := c.places.segment(ctx, source)
	if err != nil {
		return err
	}
	if c.segment.Count > 0 {
		c.passed = c.segment.SourceEnd()
	}
	if c.segment = next; next.Count == 0 {
		c.segment = nowhere
	}
	return nil
}

// step judges the heads, or one of them, or looks into them.
func (c *comparison) step(ctx context.Context, source, target int64) error {
	if c.areSameBatch() {
		c.takeBatches()
		return nil
	}
	// What stands outside the map is judged by itself, without looking into the batch of the other side.
	onlySource, onlyTarget := source < c.segment.Source, target < c.segment.Target
	ofSource, ofTarget := onlySource || !onlyTarget, !onlySource
	switch {
	case ofSource && c.source.whole:
		c.found.Bytes += int64(len(c.source.batch.Bytes))
		return c.source.decode(ctx)
	case ofTarget && c.target.whole:
		return c.target.decode(ctx)
	case ofSource && source < c.ignored.Source:
		c.source.take()
	case ofTarget && target < c.ignored.Target:
		c.target.take()
	case ofSource && c.source.damaged != nil:
		return c.damagedOnSource(ctx)
	case ofTarget && c.target.damaged != nil:
		return c.damagedOnTarget(ctx)
	case onlySource:
		c.notInMap()
	case onlyTarget:
		c.extra()
	default:
		return c.judge(source-c.segment.Source, target-c.segment.Target)
	}
	return nil
}

// judge judges the heads, of which none is outside the map and both are records, by how far they are into the segment: one of them may be behind it.
func (c *comparison) judge(source, target int64) error {
	switch {
	case source >= c.segment.Count, target < source:
		return c.missingOnSource()
	case target >= c.segment.Count, source < target:
		return c.missingOnTarget()
	}
	c.compare()
	return nil
}

// areSameBatch reports whether both heads are batches that are copies of each other, byte by byte, and not damaged.
func (c *comparison) areSameBatch() bool {
	if !c.source.whole || !c.target.whole || c.facts.sourceID != "" || c.cleaned.wait() {
		return false
	}
	s, t := &c.source.batch, &c.target.batch
	switch {
	case s.BaseOffset < max(c.segment.Source, c.source.next, c.ignored.Source), s.NextOffset() > min(c.segment.SourceEnd(), c.source.to):
		return false
	case t.BaseOffset-c.segment.Target != s.BaseOffset-c.segment.Source, t.BaseOffset < max(c.target.next, c.ignored.Target), t.NextOffset() > c.target.to:
		return false
	case int64(s.LastOffsetDelta)+1 != int64(s.Count): // a hole, in which the other side may have a record
		return false
	case !t.Attributes.LogAppendTime() && (s.Attributes.LogAppendTime() || s.MaxTimestamp != t.MaxTimestamp):
		return false
	}
	return s.HasSameRecords(*t) && s.Verify() == nil && t.Verify() == nil
}

func (c *comparison) takeBatches() {
	records := int64(c.source.batch.Count)
	c.found.Records += records
	c.found.ByBytes += records
	c.found.Bytes += int64(len(c.source.batch.Bytes))
	if c.target.batch.Attributes.LogAppendTime() {
		c.found.WithoutTimestamp += records
	}
	c.source.takeBatch()
	c.target.takeBatch()
}

// compare judges a record and its copy.
func (c *comparison) compare() {
	s, t := &c.source.records[0], &c.target.records[0]
	c.cleaned.seen(s.Key)
	what, detail := content{hop: c.facts.sourceID, ignoreTimes: c.target.brokerTime}.differ(s, t)
	if what != "" {
		c.found.differ(what, offsets.Pair{Source: s.Offset, Target: t.Offset}, 1, detail)
	} else {
		c.found.Records++
		c.found.ByContent++
		if c.target.brokerTime {
			c.found.WithoutTimestamp++
		}
	}
	c.source.takeRecord()
	c.target.takeRecord()
}

// notInMap judges a record of the source that the map passes over.
func (c *comparison) notInMap() {
	r := &c.source.records[0]
	c.cleaned.source.seen(r.Key)
	switch {
	case c.facts.targetID != "" && r.HasHop(c.facts.targetID):
		c.found.Foreign++
	case c.facts.isSkipped(r.Offset):
		c.found.Skipped++
	default:
		c.found.differ(NotCopied, offsets.Pair{Source: r.Offset, Target: -1}, 1, "the map passes over a record that is neither aborted nor skipped by an anomaly")
	}
	c.source.takeRecord()
}

// extra judges a record of the target that the map passes over.
func (c *comparison) extra() {
	r := &c.target.records[0]
	c.cleaned.target.seen(r.Key)
	switch {
	case c.facts.sourceID != "":
		c.found.Foreign++
	case c.facts.isAccepted(c.passed, c.segment.Source):
		c.found.Skipped++
	default:
		c.found.differ(ExtraOnTarget, offsets.Pair{Source: -1, Target: r.Offset}, 1, "the target has a record that is no copy by the map: another producer wrote it, or it was copied twice")
	}
	c.target.takeRecord()
}

// missingOnTarget judges a record of the source that was copied, and is not on the target.
func (c *comparison) missingOnTarget() error {
	r := &c.source.records[0]
	at := offsets.Pair{Source: r.Offset, Target: c.segment.Target + r.Offset - c.segment.Source}
	c.cleaned.source.seen(r.Key)
	explained, err := c.cleaned.target.missing(r, at)
	if err != nil {
		return err
	}
	if !explained {
		c.found.differ(MissingOnTarget, at, 1, missingOnTarget)
	}
	c.source.takeRecord()
	return nil
}

// missingOnSource judges a copy whose record is not on the source.
func (c *comparison) missingOnSource() error {
	r := &c.target.records[0]
	at := offsets.Pair{Source: c.segment.Source + r.Offset - c.segment.Target, Target: r.Offset}
	c.cleaned.target.seen(r.Key)
	explained, err := c.cleaned.source.missing(r, at)
	if err != nil {
		return err
	}
	if !explained {
		c.found.differ(MissingOnSource, at, 1, missingOnSource)
	}
	c.target.takeRecord()
	return nil
}

const (
	missingOnTarget = "the record was copied, and the target does not have it"
	missingOnSource = "the target has the copy of a record that the source does not have"
)

func (c *comparison) damagedOnSource(ctx context.Context) error {
	d := c.source.damaged
	at := offsets.Pair{Source: d.from, Target: -1}
	if into := d.from - c.segment.Source; into >= 0 && into < c.segment.Count {
		at.Target = c.segment.Target + into
	}
	c.found.differ(DamagedOnSource, at, d.to-d.from, d.err.Error())
	behind, err := c.places.forward(ctx, d.to)
	if err != nil {
		return err
	}
	c.ignored.Target = max(c.ignored.Target, behind)
	c.source.takeDamaged()
	return nil
}

func (c *comparison) damagedOnTarget(ctx context.Context) error {
	d := c.target.damaged
	at := offsets.Pair{Source: -1, Target: d.from}
	if into := d.from - c.segment.Target; into >= 0 && into < c.segment.Count {
		at.Source = c.segment.Source + into
	}
	c.found.differ(DamagedOnTarget, at, d.to-d.from, d.err.Error())
	behind, err := c.places.reverse(ctx, d.to)
	if err != nil {
		return err
	}
	c.ignored.Source = max(c.ignored.Source, behind)
	c.target.takeDamaged()
	return nil
}

// take takes the head, a record or a damaged batch.
func (s *stream) take() {
	if s.damaged != nil {
		s.takeDamaged()
		return
	}
	s.takeRecord()
}

// isSkipped reports whether an anomaly decided not to copy a source offset.
func (f *facts) isSkipped(source int64) bool {
	for i := range f.ledger {
		if g := &f.ledger[i]; isDecided(g) && g.From <= source && source < g.To {
			return true
		}
	}
	return false
}

// isAccepted reports whether an anomaly decided to accept records of others on the target, between two source offsets of the map.
func (f *facts) isAccepted(from, to int64) bool {
	for i := range f.ledger {
		g := &f.ledger[i]
		others := g.Kind == string(policy.ForeignWrite) || g.Kind == string(policy.Unmatched) || g.Kind == string(policy.TargetNotEmpty) || g.Kind == offsets.MixedGaps
		if others && isDecided(g) && g.From <= to && g.To >= from {
			return true
		}
	}
	return false
}

// isDecided reports whether the action of a gap was to go on.
func isDecided(g *offsets.Gap) bool {
	return g.Action == string(policy.Skip) || g.Action == string(policy.Restart) || g.Action == offsets.MixedGaps
}

// dueEvery limits how often something is done.
type dueEvery struct {
	interval time.Duration
	last     time.Time
}

func (d *dueEvery) isDue() bool {
	if now := time.Now(); now.Sub(d.last) >= d.interval {
		d.last = now
		return true
	}
	return false
}
