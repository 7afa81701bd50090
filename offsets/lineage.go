package offsets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// LineagePartition is the journal partition that holds a flow's [Lineage] and [GroupPositions]. Its owner syncs the
// groups.
const LineagePartition = 0

// Lineage says that a flow notes which positions of groups it puts on the target. In a journal without it no position
// has been noted, so that only the checkpoints show what MirrorMaker 2 or an earlier milena has put.
type Lineage struct {
	Began time.Time
}

// GroupPositions are the positions of one group that a flow has put in one topic on the target. A committed offset there
// that is neither Put nor Before was committed by consumers or by a person.
type GroupPositions struct {
	Group   string
	Topic   string         // on the target
	TopicID [16]byte       // on the target; zero if the broker has none
	Placed  []PlacedOffset // by partition, ascending
}

// PlacedOffset is a committed offset that a flow has put on the target. It is noted before it is committed, so a process
// that was killed in between leaves either Before or Put there.
type PlacedOffset struct {
	Partition int32
	// Source is the committed offset on the source that Put is the translation of.
	Source int64
	// Put is the offset that is being committed, or was.
	Put int64
	// Before is the committed offset that Put replaces, -1 if there was none. It is Put itself once the commit is
	// known to have succeeded.
	Before int64
}

// Has reports whether a committed offset is one that the flow has put.
func (p PlacedOffset) Has(committed int64) bool {
	return committed >= 0 && (committed == p.Put || committed == p.Before)
}

func (*Lineage) entry()        {}
func (*GroupPositions) entry() {}

// AppendKey implements [Entry].
func (*Lineage) AppendKey(b []byte) []byte { return append(b, byte(KindLineage)) }

// AppendValue implements [Entry].
func (l *Lineage) AppendValue(b []byte) []byte { return appendTime(appendFormat(b, 1), l.Began) }

// AppendKey implements [Entry].
func (g *GroupPositions) AppendKey(b []byte) []byte {
	return appendString(appendString(append(b, byte(KindGroup)), g.Group), g.Topic)
}

// AppendValue implements [Entry].
func (g *GroupPositions) AppendValue(b []byte) []byte {
	b = append(appendFormat(b, 1), g.TopicID[:]...)
	b = appendUvarint(b, uint64(len(g.Placed)))
	next := int64(0) // the lowest number that the partition can have
	for _, p := range g.Placed {
		b = appendUvarint(b, uint64(int64(p.Partition)-next))
		b = appendUvarint(b, uint64(p.Source))
		b = appendVarint(b, p.Put-p.Source)
		b = appendVarint(b, p.Before-p.Put)
		next = int64(p.Partition) + 1
	}
	return b
}

func (r *decoder) lineage() *Lineage { return &Lineage{Began: r.time()} }

func (r *decoder) groupPositions(key *Tombstone) *GroupPositions {
	g := &GroupPositions{Group: key.Group, Topic: key.Topic}
	copy(g.TopicID[:], r.take(len(g.TopicID)))
	if n := r.count(4, math.MaxInt); n > 0 { // the shortest position: four varints
		g.Placed = make([]PlacedOffset, n)
	}
	next := int64(0)
	for i := range g.Placed {
		partition := next + r.offset()
		if partition < 0 || partition > math.MaxInt32 {
			r.fail("partition %d", partition)
			return g
		}
		p := &g.Placed[i]
		p.Partition, p.Source = int32(partition), r.offset()
		p.Put = p.Source + r.varint()
		p.Before = p.Put + r.varint()
		if p.Put < 0 || p.Before < -1 {
			r.fail("partition %d is put at %d after %d", partition, p.Put, p.Before)
		}
		next = partition + 1
	}
	return g
}

// LineageReader follows the lineage in a flow's journal. Not safe for concurrent use.
type LineageReader struct {
	log   *slog.Logger
	tail  *logTail
	start func()
	visit func(Entry)
	newer error // of a record that a newer version of milena wrote
}

// NewLineageReader returns a reader of the lineage in a journal, which passes every [Lineage], [GroupPositions] and
// [Tombstone] of one of them to visit, in the order of the log. It calls start before the first one, and again if the
// journal was created anew: everything before is void. It does no I/O yet.
func NewLineageReader(client *kgo.Client, journal string, log *slog.Logger, start func(), visit func(Entry)) *LineageReader {
	skipped := func(e *kgo.ErrDecompressTooLarge) {
		log.Warn("skipping a batch that decompresses to too much", "topic", journal, "offset", e.Offset)
	}
	return &LineageReader{log: log, tail: newLogTail(&topicLeaders{client: client, topic: journal}, LineagePartition, skipped), start: start, visit: visit}
}

// Follow reads on to the end of the journal. It blocks until then. Errors: *[NoJournalError], *[VersionError], errors of
// the cluster.
func (r *LineageReader) Follow(ctx context.Context) error {
	err := r.tail.follow(ctx, r)
	if isUnknownTopic(err) {
		return &NoJournalError{Topic: r.tail.log.topic}
	}
	return cmp.Or(err, r.newer)
}

func (r *LineageReader) reset() {
	r.newer = nil
	r.start()
}

func (*LineageReader) publish(time.Time) {}

func (r *LineageReader) add(records []*kgo.Record) error {
	for _, record := range records {
		if len(record.Key) == 0 || !isLineage(Kind(record.Key[0])) {
			continue
		}
		entry, err := DecodeJournal(record.Key, record.Value)
		var newer *VersionError
		switch {
		case err == nil:
			r.visit(entry)
		case errors.As(err, &newer):
			r.newer = fmt.Errorf("journal %s at offset %d: %w", r.tail.log.topic, record.Offset, err)
		default:
			r.log.Warn("skipping unreadable record", "topic", r.tail.log.topic, "offset", record.Offset, "err", err)
		}
	}
	return nil
}

func isLineage(k Kind) bool { return k == KindGroup || k == KindLineage }

// VisitCheckpoints reads the checkpoints topic of a source from its start to its end, and passes every checkpoint to
// visit, also those that newer ones replace, as far as the log still has them. It returns a *[NoCheckpointsError] if the
// topic does not exist, and errors of the cluster. It blocks until then.
func VisitCheckpoints(ctx context.Context, client *kgo.Client, names Names, source string, visit func(Checkpoint)) error {
	topic := names.Checkpoints(source)
	sink := checkpointVisitor(visit)
	skipped := func(*kgo.ErrDecompressTooLarge) {} // it is none of MirrorMaker 2's
	err := newLogTail(&topicLeaders{client: client, topic: topic}, 0, skipped).follow(ctx, sink)
	if isUnknownTopic(err) {
		return &NoCheckpointsError{Source: source, Topic: topic}
	}
	return err
}

type checkpointVisitor func(Checkpoint)

func (checkpointVisitor) reset()            {}
func (checkpointVisitor) publish(time.Time) {}

func (v checkpointVisitor) add(records []*kgo.Record) error {
	for _, r := range records {
		if c, err := DecodeCheckpoint(r.Key, r.Value); err == nil {
			v(c)
		}
	}
	return nil
}
