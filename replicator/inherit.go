package replicator

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// inherit finds out how far MirrorMaker 2 copied a partition and lets the flow go on there.
//
// Its positions are written once a minute, so they are behind; its offset-syncs are exact pairs, but only some. So both only say where to
// begin to look: from a pair on, or from the beginning, the records of the copy are held against those of the source, and the first source
// record that is not on the target is the next one to copy. A position is believed where nothing is left to compare.
func (r *recovery) inherit(ctx context.Context, p *partition, t *tail) error {
	f := r.flow
	progress, err := f.predecessor.read(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !p.scanUntil(cancel) {
		return nil
	}
	if err := f.scans.Acquire(ctx, 1); err != nil {
		return p.unlessRetired(err)
	}
	defer f.scans.Release(1)
	key := p.source()
	s := &scan{flow: f, partition: p, position: -1, syncs: progress.Syncs[key], seed: maphash.MakeSeed()}
	if position, ok := progress.Positions[key]; ok {
		s.position = position
	}
	if err := s.run(ctx, t); err != nil {
		return p.unlessRetired(err)
	}
	if !r.accept(p, s) {
		return nil
	}
	ready, err := r.settle(p, s.end)
	if ready {
		r.addReady(p)
	}
	return err
}

// scanUntil notes what ends a scan when the partition's topic is deleted: it would wait for its records for ever. False if it is already.
func (p *partition) scanUntil(end context.CancelFunc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endScan = end
	return p.state == recovering
}

// unlessRetired drops the error of a scan whose topic was deleted.
func (p *partition) unlessRetired(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != recovering {
		return nil
	}
	return err
}

// accept makes the outcome of a scan the partition's map; false if policy stops it.
func (r *recovery) accept(p *partition, s *scan) bool {
	f := r.flow
	found := s.matcher.Result()
	begin := offsets.Position{Source: s.matcher.Next(), Target: s.end}
	switch {
	case s.matcher.Uncertain() > 0, !s.matcher.Proven() && s.matcher.Next() > s.position:
		f.halt(p, policy.TargetNotEmpty, fmt.Sprintf("where MirrorMaker 2 stopped can't be told: the end of target %s-%d can't be paired with source records, of which %d were read behind offset %d; it noted position %d",
			p.topic.target, p.number, s.matcher.Window(), s.sourceFrom, s.position))
		return false
	case len(found.Segments) > 0:
		begin = offsets.Position{Source: min(found.Segments[0].Source, s.mapFrom), Target: min(found.Segments[0].Target, s.targetFrom)}
	case s.position < 0 && s.records == 0:
		return true // MirrorMaker 2 never wrote here
	case s.position > s.sourceEnd:
		detail := fmt.Sprintf("MirrorMaker 2 stopped at source offset %d, but source %s ends at %d and holds nothing that is on the target: the source topic was made again", s.position, p, s.sourceEnd)
		switch f.raise(p, policy.Recreated, s.position, s.position, detail) {
		case policy.Restart:
			begin.Source = s.sourceStart
		case policy.Skip:
			begin.Source = s.sourceEnd
		case policy.Halt:
			return false
		}
	case s.records == 0 && s.targetStart == 0 && s.position > s.sourceStart:
		detail := fmt.Sprintf("MirrorMaker 2 copied %s up to source offset %d, but target topic %s holds nothing and never did: it was deleted and made again", p, s.position, p.topic.target)
		if f.raise(p, policy.TargetRecreated, s.sourceStart, s.position, detail) == policy.Halt {
			return false
		}
		begin.Source = s.sourceStart
	case s.position >= 0 && (s.records == 0 || s.position <= s.firstSource):
		begin.Source = s.position
	default:
		detail := fmt.Sprintf("target %s-%d holds %d records, and none of them is among those that were read of the source, %d from offset %d on; MirrorMaker 2 noted position %d",
			p.topic.target, p.number, s.records, s.matcher.Window(), s.sourceFrom, s.position)
		if f.raise(p, policy.TargetNotEmpty, s.sourceStart, s.sourceStart, detail) == policy.Halt {
			return false
		}
		begin.Source = s.sourceStart
	}
	if err := p.inheritMap(begin, found.Segments, s); err != nil {
		f.halt(p, policy.TargetNotEmpty, err.Error())
		return false
	}
	f.tellInherited(p, s)
	return true
}

// inheritMap begins the map with what the predecessor copied.
func (p *partition) inheritMap(begin offsets.Position, segments []offsets.Segment, s *scan) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != recovering {
		return nil
	}
	if p.inherited {
		p.record.Generation++ // chunks of the one before may be in the journal
	}
	p.beginMapLocked(begin.Source, begin.Target)
	for _, segment := range segments {
		if err := p.offsets.Append(segment.Source, segment.Target, segment.Count); err != nil {
			return err
		}
	}
	if len(segments) > 0 {
		p.acked = s.matcher.Next()
		if s.believed {
			p.acked = max(p.acked, s.position) // the copy's last records have left one of the logs since, so only the position tells of them
		}
	}
	p.next, p.journaled, p.targetEnd = p.acked, p.acked, s.end
	p.inherited, p.settled = true, true
	return nil
}

// tellInherited logs what is worth a person's look, and the rest for those who look closely.
func (f *Flow) tellInherited(p *partition, s *scan) {
	found := s.matcher.Result()
	f.metrics.inherited.Inc()
	attrs := []any{
		"topic", p.topic.source, "partition", p.number, "next", p.acked, "position", s.position, "compared", s.records,
		"compared_from", s.sourceFrom, "twice", found.Duplicates, "not_found_there", found.Unmatched, "missing", found.Missing,
	}
	switch {
	case s.records > 0 && (found.Missing > 0 || found.Duplicates > 0 || found.Unmatched > 0 || s.position > p.acked):
		f.log.Warn("the copy of MirrorMaker 2 differs from its source; milena goes on behind it", attrs...)
	case p.topic.inherited.CompareAndSwap(false, true):
		f.log.Info("goes on where MirrorMaker 2 stopped", "topic", p.topic.source, "target_topic", p.topic.target)
		fallthrough
	default:
		f.log.Debug("goes on where MirrorMaker 2 stopped", attrs...)
	}
}

// scan holds the end of a copy, or all of it, against the source.
type scan struct {
	flow      *Flow
	partition *partition
	position  int64 // the predecessor's, -1 unknown
	believed  bool  // the copy doesn't contradict the position
	syncs     []offsets.Position
	seed      maphash.Seed

	matcher                            *match.Matcher
	hasher                             match.Hasher
	sourceStart, sourceEnd             int64 // of the source's log, as listed
	targetStart, end                   int64 // of the target's log; end lies behind our marker
	sourceFrom, targetFrom, sourceNext int64
	mapFrom                            int64 // what stands below on the source may have been copied before targetFrom
	open                               bool  // what comes on the source may belong to transactions that are under way
	firstSource                        int64 // offset of the first source record that was read, the end if there is none
	records                            int64 // of the target, that were read
}

// It says that the pair to begin at is no pair.
var errNoAnchor = errors.New("the offset-sync does not hold")

// run scans from the last pair that can be relied on, or all of the copy.
func (s *scan) run(ctx context.Context, t *tail) (err error) {
	f := s.flow
	if s.sourceStart, s.sourceEnd, err = f.listSource(ctx, s.partition); err != nil {
		return err
	}
	targetStart, targetEnd, err := wire.Bounds(ctx, f.target, f.targetLeader(t.partition), t.partition)
	if err != nil {
		return err
	}
	s.targetStart = targetStart
	s.syncs = match.Ascending(s.syncs)
	anchor := match.Anchor(s.syncs, offsets.Position{Source: s.sourceStart, Target: s.targetStart}, offsets.Position{Source: s.sourceEnd, Target: targetEnd})
	fallback := -1
	if f.options.RebuildMap {
		anchor, fallback = -1, anchor
	}
	for timestamps := true; ; {
		s.hasher = match.Hasher{Seed: s.seed, Timestamps: timestamps}
		err := s.compare(ctx, t, anchor)
		switch {
		case errors.Is(err, match.ErrBrokerTime) && timestamps:
			timestamps = false
		case errors.Is(err, errNoAnchor):
			anchor, fallback = -1, -1
		case err == nil && s.records > 0 && len(s.matcher.Result().Segments) == 0 && fallback >= 0:
			anchor, fallback = fallback, -1 // the beginnings lie further apart than the window reaches
		default:
			return err
		}
	}
}

// compare reads both logs side by side, from a sync on or, without an anchor (-1), from their beginnings, to our own marker on the target.
func (s *scan) compare(ctx context.Context, t *tail, anchor int) error {
	s.matcher = match.New(s.syncs, s.hasher.Timestamps)
	s.sourceFrom, s.targetFrom, s.records, s.firstSource = s.sourceStart, s.targetStart, 0, s.sourceEnd
	if anchor >= 0 {
		s.sourceFrom, s.targetFrom = s.syncs[anchor].Source, s.syncs[anchor].Target
		for _, later := range s.syncs[anchor:] {
			s.sourceFrom = max(s.sourceStart, min(s.sourceFrom, later.Source))
		}
	}
	s.sourceNext = s.sourceFrom
	s.open = false
	if s.mapFrom = s.sourceFrom; anchor >= 0 {
		s.mapFrom = s.syncs[anchor].Source
	}
	var early error
	copied := &tail{partition: t.partition, id: t.id, from: s.targetFrom, fence: t.fence, until: toMarker, committed: true}
	copied.dropped = func(h recordbatch.Header) {
		if from := max(h.BaseOffset, s.targetFrom); h.Attributes.Control() || h.Count > 0 {
			s.matcher.Skip(from, h.NextOffset())
		}
	}
	copied.visit = func(h recordbatch.Header, batch []byte) error {
		early = s.takeTarget(ctx, h, batch)
		if early == nil && anchor >= 0 && len(s.matcher.Result().Segments) == 0 {
			early = errNoAnchor
		}
		return early
	}
	if err := s.flow.readTails(ctx, []*tail{copied}, func(*tail) {}); err != nil {
		return err
	}
	if copied.err != nil {
		return copied.err
	}
	s.end = copied.end
	if s.records > 0 && len(s.matcher.Result().Segments) == 0 {
		return s.addSource(ctx) // what the source begins with decides whether the position can be believed
	}
	return s.judgePosition(ctx)
}

// judgePosition holds a position that lies behind the newest pair against the copy: source records between them must have been there and be
// gone. Otherwise it was noted for an earlier topic of that name.
func (s *scan) judgePosition(ctx context.Context) error {
	s.believed = false
	if len(s.matcher.Result().Segments) == 0 || s.position <= s.matcher.Next() || s.position > s.sourceEnd {
		return nil
	}
	for !s.matcher.Ended && s.sourceNext < s.position && !s.matcher.Full() {
		if err := s.addSource(ctx); err != nil {
			return err
		}
	}
	const marker = 1 // ours, the last offset of all
	s.believed = s.matcher.Between(s.position) <= s.matcher.Lost(s.end-marker)
	return nil
}

// takeTarget pairs the records of one target batch, which has some: the tail hands on nothing else of committed records.
func (s *scan) takeTarget(ctx context.Context, h recordbatch.Header, batch []byte) error {
	if h.Attributes.LogAppendTime() && s.hasher.Timestamps {
		return match.ErrBrokerTime
	}
	records, err := recordbatch.Decode(batch)
	if err != nil {
		return fmt.Errorf("target %s-%d: %w", s.partition.topic.target, s.partition.number, err)
	}
	for i := range records {
		if records[i].Offset < s.targetFrom {
			continue
		}
		if records[i].Timestamp < 0 && s.hasher.Timestamps {
			return match.ErrBrokerTime // a format that has none
		}
		s.records++
		hash := s.hasher.Hash(&records[i])
		for s.matcher.Match(records[i].Offset, hash) == match.NeedMore {
			if err := s.addSource(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// scanPatience is how many attempts a scan waits, half a minute or so, for a source that gives nothing.
const scanPatience = 40

// addSource reads the next stretch of the source into the window. It waits for a broker that does not answer, but not for ever: others want
// to be compared too, and the source's end may have moved back (an unclean leader election).
func (s *scan) addSource(ctx context.Context) error {
	f, p := s.flow, s.partition
	var reason error
	for attempt := 0; !s.matcher.Ended; attempt++ {
		if s.sourceNext >= s.sourceEnd {
			s.matcher.Ended = true
			return nil
		}
		if attempt >= scanPatience {
			return fmt.Errorf("compare the copy of source %s: nothing comes from offset %d on, below its end %d (%w); it is compared again", p, s.sourceNext, s.sourceEnd, reason)
		}
		var rp *kmsg.FetchResponseTopicPartition
		isolation := f.isolation
		if s.open {
			isolation = 0
		}
		if rp, reason = f.fetchOne(ctx, p, s.sourceNext, -1, isolation); reason == nil {
			reason = kerr.ErrorForCode(rp.ErrorCode)
		}
		if reason == nil {
			before := s.sourceNext
			if err := s.addAnswer(rp); err != nil || s.sourceNext > before {
				return err
			}
			if isolation == 1 && rp.LastStableOffset <= s.sourceNext {
				s.open = true
				continue
			}
			reason = errors.New("an empty answer")
		} else if f.refreshSource(ctx); rp != nil {
			if start, _, err := f.listSource(ctx, p); err == nil && start > s.sourceNext {
				s.sourceNext = start // deleted meanwhile
			}
		}
		if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
			return err
		}
	}
	return nil
}

func (f *Flow) listSource(ctx context.Context, p *partition) (start, end int64, err error) {
	p.mu.Lock()
	leader := p.sourceLeader
	p.mu.Unlock()
	return wire.Bounds(ctx, f.source, leader, p.source())
}

// addAnswer takes the records of one fetch response. The log may hold batches whose last records were compacted away: where a batch ends
// counts, not where its last record is. What was aborted is left out if the flow leaves it out: the same may have been written again.
func (s *scan) addAnswer(rp *kmsg.FetchResponseTopicPartition) error {
	aborted := wire.AbortedOf(rp)
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return err
		}
		h := batch.Header
		if h.NextOffset() <= s.sourceNext && h.Magic == 2 {
			continue
		}
		lane, _, err := recordbatch.Admit(batch.Bytes, h, &aborted, recordbatch.Rules{})
		if err != nil {
			return fmt.Errorf("source %s: %w", s.partition, err)
		}
		if lane != recordbatch.RouteDrop {
			if err := s.addBatch(h, batch.Bytes); err != nil {
				return err
			}
		}
		s.sourceNext = max(s.sourceNext, h.NextOffset())
	}
	return nil
}

func (s *scan) addBatch(h recordbatch.Header, batch []byte) error {
	records, err := recordbatch.Decode(batch)
	if err != nil {
		return fmt.Errorf("source %s: %w", s.partition, err)
	}
	for i := range records {
		r := &records[i]
		if r.Offset < s.sourceNext {
			continue
		}
		if r.Timestamp < 0 && s.hasher.Timestamps {
			return match.ErrBrokerTime // MirrorMaker 2's producer gave it the time of then
		}
		s.firstSource = min(s.firstSource, r.Offset)
		s.matcher.Add(match.SourceRecord{Offset: r.Offset, Hash: s.hasher.Hash(r), Optional: h.Attributes.Transactional() && s.open})
	}
	return nil
}
