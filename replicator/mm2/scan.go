package mm2

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// SourceLog is the log of one source partition.
type SourceLog interface {
	// Bounds are the first offset, inclusive, and the high watermark, exclusive.
	Bounds(ctx context.Context) (start, end int64, err error)
	// Read fetches batches from an offset on, at an isolation level. After an error of the transport or in the answer it sees to it that the
	// next call asks the partition's leader.
	Read(ctx context.Context, offset int64, isolation int8) (*kmsg.FetchResponseTopicPartition, error)
}

// TargetLog is the log of its copy. An abort marker of milena's fence is at its end, behind everything that MirrorMaker 2 wrote.
type TargetLog interface {
	// Bounds are the first offset, inclusive, and the high watermark, exclusive.
	Bounds(ctx context.Context) (start, end int64, err error)
	// ReadToMarker reads from an offset on to the marker. Visit gets the batches of committed records, in order, dropped the headers of all
	// others. It returns the offset behind the marker, or the error of visit.
	ReadToMarker(ctx context.Context, from int64, visit func(recordbatch.Batch) error, dropped func(recordbatch.Header)) (end int64, err error)
}

// Copy is one partition that MirrorMaker 2 may have copied.
type Copy struct {
	Source, Target offsets.TopicPartition
	SourceLog      SourceLog
	TargetLog      TargetLog
	Isolation      int8 // of the flow
	// ConnectorOffset is the source offset that MirrorMaker 2 would continue at, -1 unknown.
	ConnectorOffset int64
	OffsetSyncs     []offsets.Position
	// Whole compares both logs from their beginnings, not only from the newest offset-sync that can be relied on.
	Whole bool
}

// Findings are what a scan has found.
type Findings struct {
	match.Result
	// Next is the source offset behind the last record that has a copy, -1 if none has.
	Next int64
	// Uncertain records of the copy were not found although the source has more; Proven says that the last match is not a guess.
	Uncertain int64
	Proven    bool
	// Records of the target were read; Window is how many of the source.
	Records int64
	Window  int

	SourceStart, SourceEnd int64 // of the source's log
	TargetStart, TargetEnd int64 // of the target's log; the end is behind milena's marker
	SourceFrom, TargetFrom int64 // where the comparison began
	// MapFrom is the source offset that belongs to TargetFrom: records below it may have been copied before.
	MapFrom int64
	// FirstSource is the offset of the first source record that was read, the end if there is none.
	FirstSource int64
	// ConnectorOffset is that of the copy. OffsetHolds says that the copy does not contradict it.
	ConnectorOffset int64
	OffsetHolds     bool
}

// errNoAnchor says that the offset-sync to begin at is not a match.
var errNoAnchor = errors.New("the offset-sync does not hold")

// scan compares the end of a copy, or all of it, with the source.
type scan struct {
	Copy
	Findings
	seed    maphash.Seed
	matcher *match.Matcher
	hasher  match.Hasher

	sourceNext int64
	open       bool // what comes on the source may belong to transactions that have not ended
}

// Scan compares a copy with its source, record by record. Connector offsets are written once a minute, so they are behind; offset-syncs are
// exact, but only few. So both only say where to begin: at an anchor or at the beginning. It blocks until milena's marker is read; the error
// says that a log could not be read, and the scan may be repeated.
func Scan(ctx context.Context, c Copy) (*Findings, error) {
	s := &scan{Copy: c, seed: maphash.MakeSeed()}
	s.Findings.ConnectorOffset = c.ConnectorOffset
	s.OffsetSyncs = match.Ascending(c.OffsetSyncs)
	anchor, fallback, err := s.anchor(ctx)
	if err != nil {
		return nil, err
	}
	for timestamps := true; ; {
		s.hasher = match.Hasher{Seed: s.seed, Timestamps: timestamps}
		err := s.compare(ctx, anchor)
		switch {
		case errors.Is(err, match.ErrBrokerTime) && timestamps:
			timestamps = false
		case errors.Is(err, errNoAnchor):
			anchor, fallback = -1, -1
		case err == nil && s.Records > 0 && len(s.Segments) == 0 && fallback >= 0:
			anchor, fallback = fallback, -1 // the beginnings are further apart than the window reaches
		case err != nil:
			return nil, err
		default:
			return &s.Findings, nil
		}
	}
}

// anchor chooses the offset-sync to begin at, -1 for the beginning, and the one to try if the beginning leads nowhere.
func (s *scan) anchor(ctx context.Context) (anchor, fallback int, err error) {
	if s.SourceStart, s.SourceEnd, err = s.SourceLog.Bounds(ctx); err != nil {
		return 0, 0, err
	}
	var targetEnd int64
	if s.TargetStart, targetEnd, err = s.TargetLog.Bounds(ctx); err != nil {
		return 0, 0, err
	}
	anchor = match.Anchor(s.OffsetSyncs, offsets.Position{Source: s.SourceStart, Target: s.TargetStart}, offsets.Position{Source: s.SourceEnd, Target: targetEnd})
	if s.Whole {
		return -1, anchor, nil
	}
	return anchor, -1, nil
}

// compare reads both logs side by side, from an offset-sync on or, without an anchor (-1), from their beginnings.
func (s *scan) compare(ctx context.Context, anchor int) error {
	s.begin(anchor)
	visit := func(b recordbatch.Batch) error {
		if err := s.addTarget(ctx, b); err != nil {
			return err
		}
		if anchor >= 0 && s.matched() == 0 {
			return errNoAnchor
		}
		return nil
	}
	dropped := func(h recordbatch.Header) {
		if h.Attributes.Control() || h.Count > 0 {
			s.matcher.Skip(max(h.BaseOffset, s.TargetFrom), h.NextOffset())
		}
	}
	var err error
	if s.TargetEnd, err = s.TargetLog.ReadToMarker(ctx, s.TargetFrom, visit, dropped); err != nil {
		return err
	}
	if s.Records > 0 && s.matched() == 0 {
		err = s.addSource(ctx) // what the source begins with decides whether the connector offset is used
	} else {
		err = s.checkConnectorOffset(ctx)
	}
	s.Result, s.Next = s.matcher.Result(), s.matcher.Next()
	s.Uncertain, s.Proven, s.Window = s.matcher.Uncertain(), s.matcher.Proven(), s.matcher.Window()
	return err
}

// begin sets both logs to where the comparison begins. Later syncs may be lower on the source, if MirrorMaker 2 was restarted.
func (s *scan) begin(anchor int) {
	s.matcher = match.New(s.OffsetSyncs, s.hasher.Timestamps)
	s.SourceFrom, s.TargetFrom, s.Records, s.FirstSource = s.SourceStart, s.TargetStart, 0, s.SourceEnd
	s.MapFrom, s.open, s.OffsetHolds = s.SourceFrom, false, false
	if anchor >= 0 {
		at := s.OffsetSyncs[anchor]
		s.SourceFrom, s.TargetFrom, s.MapFrom = at.Source, at.Target, at.Source
		for _, later := range s.OffsetSyncs[anchor:] {
			s.SourceFrom = max(s.SourceStart, min(s.SourceFrom, later.Source))
		}
	}
	s.sourceNext = s.SourceFrom
}

func (s *scan) matched() int { return len(s.matcher.Result().Segments) }

// checkConnectorOffset compares a connector offset above the newest match with the copy: the source records between them must have been
// there and be gone. Otherwise it was written for an earlier topic of that name.
func (s *scan) checkConnectorOffset(ctx context.Context) error {
	at := s.Copy.ConnectorOffset
	if s.matched() == 0 || at <= s.matcher.Next() || at > s.SourceEnd {
		return nil
	}
	for !s.matcher.Ended && s.sourceNext < at && !s.matcher.Full() {
		if err := s.addSource(ctx); err != nil {
			return err
		}
	}
	const marker = 1 // milena's, the last offset of all
	s.OffsetHolds = s.matcher.CountBefore(at) <= s.matcher.Lost(s.TargetEnd-marker)
	return nil
}

// addTarget matches the records of one target batch.
func (s *scan) addTarget(ctx context.Context, b recordbatch.Batch) error {
	if b.Attributes.LogAppendTime() && s.hasher.Timestamps {
		return match.ErrBrokerTime
	}
	records, err := recordbatch.Decode(b.Bytes)
	if err != nil {
		return fmt.Errorf("target %s: %w", s.Target, err)
	}
	for i := range records {
		r := &records[i]
		if r.Offset < s.TargetFrom {
			continue
		}
		if r.Timestamp < 0 && s.hasher.Timestamps {
			return match.ErrBrokerTime // a format that has none
		}
		s.Records++
		hash := s.hasher.Hash(r)
		for s.matcher.Match(r.Offset, hash) == match.NeedMore {
			if err := s.addSource(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// patience is how many attempts a scan waits, some 30 s, for a source that returns nothing.
const patience = 40

// addSource reads the next stretch of the source into the window. It waits for a broker that does not answer, but not for ever: other
// partitions wait for their scan, and the source's end may have moved back (an unclean leader election).
func (s *scan) addSource(ctx context.Context) error {
	var reason error
	for attempt := 0; !s.matcher.Ended; attempt++ {
		if s.sourceNext >= s.SourceEnd {
			s.matcher.Ended = true
			return nil
		}
		if attempt >= patience {
			return fmt.Errorf("compare the copy of source %s: no records from offset %d on, below its end %d (%w); retrying", s.Source, s.sourceNext, s.SourceEnd, reason)
		}
		done, err := s.readSource(ctx)
		if done {
			return err
		}
		if err == nil {
			continue // read again, at another isolation level
		}
		reason = err
		if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
			return err
		}
	}
	return nil
}

// readSource reads once. Done says that the window has grown, or that the error cannot be mended by another attempt.
func (s *scan) readSource(ctx context.Context) (done bool, err error) {
	isolation := s.Isolation
	if s.open {
		isolation = wire.ReadUncommitted
	}
	rp, err := s.SourceLog.Read(ctx, s.sourceNext, isolation)
	if err == nil {
		if err = kerr.ErrorForCode(rp.ErrorCode); err != nil {
			if start, _, listErr := s.SourceLog.Bounds(ctx); listErr == nil && start > s.sourceNext {
				s.sourceNext = start // deleted since
			}
		}
	}
	if err != nil {
		return false, err
	}
	before := s.sourceNext
	switch err := s.addAnswer(rp); {
	case err != nil, s.sourceNext > before:
		return true, err
	case isolation == wire.ReadCommitted && rp.LastStableOffset <= s.sourceNext:
		s.open = true
		return false, nil
	}
	return false, errors.New("an empty answer")
}

// addAnswer adds the records of one fetch response. The last records of a batch may have been compacted away: where the batch ends counts,
// not where its last record is. Aborted records are left out if the flow leaves them out: the same may have been written again.
func (s *scan) addAnswer(rp *kmsg.FetchResponseTopicPartition) error {
	aborted := wire.AbortedOf(rp)
	for b, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return err
		}
		if b.NextOffset() <= s.sourceNext && b.Magic == 2 {
			continue
		}
		route, _, err := recordbatch.Admit(b.Bytes, b.Header, &aborted, recordbatch.Rules{})
		if err != nil {
			return fmt.Errorf("source %s: %w", s.Source, err)
		}
		if route != recordbatch.RouteDrop {
			if err := s.addBatch(b); err != nil {
				return err
			}
		}
		s.sourceNext = max(s.sourceNext, b.NextOffset())
	}
	return nil
}

func (s *scan) addBatch(b recordbatch.Batch) error {
	records, err := recordbatch.Decode(b.Bytes)
	if err != nil {
		return fmt.Errorf("source %s: %w", s.Source, err)
	}
	for i := range records {
		r := &records[i]
		if r.Offset < s.sourceNext {
			continue
		}
		if r.Timestamp < 0 && s.hasher.Timestamps {
			return match.ErrBrokerTime // MirrorMaker 2's producer gave it the time of then
		}
		s.FirstSource = min(s.FirstSource, r.Offset)
		s.matcher.Add(match.SourceRecord{Offset: r.Offset, Hash: s.hasher.Hash(r), Optional: b.Attributes.Transactional() && s.open})
	}
	return nil
}
