package mm2

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// SourceLog is the log of one source partition.
type SourceLog interface {
	// Bounds returns the first offset, inclusive, and the high watermark, exclusive.
	Bounds(ctx context.Context) (start, end int64, err error)
	// Read fetches batches from offset on, at the given isolation level. After a failed request or an error code in the response, the next
	// call must ask the partition's current leader.
	Read(ctx context.Context, offset int64, isolation int8) (*kmsg.FetchResponseTopicPartition, error)
}

// TargetLog is the log of the copy. It ends with an abort marker that milena wrote when it fenced the partition, after everything that
// MirrorMaker 2 wrote.
type TargetLog interface {
	// Bounds returns the first offset, inclusive, and the high watermark, exclusive.
	Bounds(ctx context.Context) (start, end int64, err error)
	// ReadToMarker reads from an offset up to the marker. It calls visit with each batch of committed records, in order, and dropped with the
	// header of every other batch. It returns the offset after the marker, or the error of visit.
	ReadToMarker(ctx context.Context, from int64, visit func(recordbatch.Batch) error, dropped func(recordbatch.Header)) (end int64, err error)
}

// Copy is one partition that MirrorMaker 2 may have copied.
type Copy struct {
	Source, Target offsets.TopicPartition
	SourceLog      SourceLog
	TargetLog      TargetLog
	Isolation      int8 // the flow's isolation level
	// ConnectorOffset is the source offset at which MirrorMaker 2 would continue, -1 if unknown.
	ConnectorOffset int64
	OffsetSyncs     []offsets.Pair
	// Whole compares both logs from their beginnings, not only from the newest reliable offset-sync.
	Whole bool
}

// Findings are the result of a scan.
type Findings struct {
	match.Result
	// Next is the source offset after the last record that has a copy, -1 if none has.
	Next int64
	// Uncertain counts target records that were not found although the source has more than the window holds. Proven says that the last match
	// is not a guess.
	Uncertain int64
	Proven    bool
	// Records counts the target records that were read, Window the source records.
	Records int64
	Window  int
	// Start and End are the bounds of both logs: inclusive and exclusive. End.Target is after milena's marker.
	Start, End offsets.Pair
	// From is where the comparison began. MapFrom is the source offset that belongs to From.Target: records below it may have been copied before.
	From    offsets.Pair
	MapFrom int64
	// FirstSource is the offset of the first source record that was read, End.Source if there is none.
	FirstSource int64
	// ConnectorOffset is that of the copy. OffsetHolds says that the copy does not contradict it.
	ConnectorOffset int64
	OffsetHolds     bool
}

// errNoAnchor says that the record at the offset-sync where the comparison began has no match.
var errNoAnchor = errors.New("the offset-sync does not hold")

// scan compares the end of a copy, or all of it, with the source.
type scan struct {
	copied Copy
	found  Findings
	// timestamps says that the hashes of records include them.
	timestamps bool
	matcher    *match.Matcher
	source     *sourceReader
}

// Scan compares a copy with its source, record by record. It begins at an offset-sync that both logs still hold, or at the beginning of both.
// It blocks until milena's marker is read. An error means that a log could not be read; the scan may be repeated.
func Scan(ctx context.Context, c Copy) (*Findings, error) {
	c.OffsetSyncs = match.Ascending(c.OffsetSyncs)
	s := &scan{copied: c, timestamps: true, found: Findings{ConnectorOffset: c.ConnectorOffset}}
	anchor, fallback, err := s.chooseAnchor(ctx)
	if err != nil {
		return nil, err
	}
	for {
		err := s.compare(ctx, anchor)
		switch {
		case errors.Is(err, match.ErrBrokerTime) && s.timestamps:
			s.timestamps = false
		case errors.Is(err, errNoAnchor):
			anchor, fallback = -1, -1
		case err == nil && s.found.Records > 0 && len(s.found.Segments) == 0 && fallback >= 0:
			anchor, fallback = fallback, -1 // the beginnings are further apart than the window
		case err != nil:
			return nil, err
		default:
			return &s.found, nil
		}
	}
}

// chooseAnchor chooses the offset-sync to begin at, -1 for the beginning, and the one to try if the beginning matches nothing.
func (s *scan) chooseAnchor(ctx context.Context) (anchor, fallback int, err error) {
	c, f := s.copied, &s.found
	if f.Start.Source, f.End.Source, err = c.SourceLog.Bounds(ctx); err != nil {
		return 0, 0, err
	}
	if f.Start.Target, f.End.Target, err = c.TargetLog.Bounds(ctx); err != nil {
		return 0, 0, err
	}
	anchor = match.Anchor(c.OffsetSyncs, f.Start, f.End)
	if c.Whole {
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
		if anchor >= 0 && s.segments() == 0 {
			return errNoAnchor
		}
		return nil
	}
	dropped := func(h recordbatch.Header) {
		if h.Attributes.Control() || h.Count > 0 {
			s.matcher.Skip(max(h.BaseOffset, s.found.From.Target), h.NextOffset())
		}
	}
	var err error
	if s.found.End.Target, err = s.copied.TargetLog.ReadToMarker(ctx, s.found.From.Target, visit, dropped); err != nil {
		return err
	}
	if s.found.Records > 0 && s.segments() == 0 {
		err = s.source.extend(ctx) // the first source record decides whether the connector offset is used
	} else {
		err = s.checkConnectorOffset(ctx)
	}
	s.conclude()
	return err
}

// begin sets both logs to where the comparison begins. Later offset-syncs may be lower on the source, if MirrorMaker 2 was restarted.
func (s *scan) begin(anchor int) {
	c, f := s.copied, &s.found
	f.From, f.MapFrom, f.Records, f.OffsetHolds = f.Start, f.Start.Source, 0, false
	if anchor >= 0 {
		f.From = c.OffsetSyncs[anchor]
		f.MapFrom = f.From.Source
		for _, later := range c.OffsetSyncs[anchor:] {
			f.From.Source = max(f.Start.Source, min(f.From.Source, later.Source))
		}
	}
	s.matcher = match.New(c.OffsetSyncs, s.timestamps)
	s.source = newSourceReader(c, match.Hasher{Seed: maphash.MakeSeed(), Timestamps: s.timestamps}, s.matcher, f.From.Source, f.End.Source)
}

// conclude copies the results of both sides into the findings.
func (s *scan) conclude() {
	f, m := &s.found, s.matcher
	f.Result, f.Next = m.Result(), m.Next()
	f.Uncertain, f.Proven, f.Window = m.Uncertain(), m.Proven(), m.Window()
	f.FirstSource = s.source.first
}

func (s *scan) segments() int { return len(s.matcher.Result().Segments) }

// checkConnectorOffset compares a connector offset above the newest match with the copy. It holds if the copy may have had the source records
// in between and lost them. Otherwise it was written for an earlier topic of that name.
func (s *scan) checkConnectorOffset(ctx context.Context) error {
	offset := s.copied.ConnectorOffset
	if s.segments() == 0 || offset <= s.matcher.Next() || offset > s.found.End.Source {
		return nil
	}
	for !s.matcher.Ended && s.source.next < offset && !s.matcher.Full() {
		if err := s.source.extend(ctx); err != nil {
			return err
		}
	}
	const marker = 1 // milena's marker has the last offset
	s.found.OffsetHolds = s.matcher.CountBefore(offset) <= s.matcher.Lost(s.found.End.Target-marker)
	return nil
}

// addTarget matches the records of one target batch.
func (s *scan) addTarget(ctx context.Context, b recordbatch.Batch) error {
	if b.Attributes.LogAppendTime() && s.timestamps {
		return match.ErrBrokerTime
	}
	records, err := recordbatch.Decode(b.Bytes)
	if err != nil {
		return fmt.Errorf("target %s: %w", s.copied.Target, err)
	}
	for i := range records {
		r := &records[i]
		if r.Offset < s.found.From.Target {
			continue
		}
		if r.Timestamp < 0 && s.timestamps {
			return match.ErrBrokerTime // it has none, as in message format 0
		}
		s.found.Records++
		hash := s.source.hasher.Hash(r)
		for s.matcher.Match(r.Offset, hash) == match.NeedMore {
			if err := s.source.extend(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
