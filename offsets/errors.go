package offsets

import (
	"errors"
	"fmt"
	"strings"
)

// ErrTombstone is returned for a record without a value. The readers of MirrorMaker 2's topics do not expect
// tombstones, and milena writes none there. One that another client wrote is skipped.
var ErrTombstone = errors.New("the record is a tombstone")

// OrderError is a segment or an end that would go backwards. The caller processed an acknowledgement twice or two of
// them in the wrong order, or the target log lost records. The map is unchanged.
type OrderError struct {
	Source, Target int64 // the arguments
	Count          int64 // in records; 0 if only the ends were to move
	End            Pair
}

func (e *OrderError) Error() string {
	if e.Count == 0 {
		return fmt.Sprintf("move the ends to source %d target %d: the map already ends at source %d target %d",
			e.Source, e.Target, e.End.Source, e.End.Target)
	}
	return fmt.Sprintf("append %d records at source %d target %d: not possible after the map's end, source %d target %d",
		e.Count, e.Source, e.Target, e.End.Source, e.End.Target)
}

// BeforeStartError is a translation of an offset below the start of the map. It was not copied by this flow or, if
// Forgotten, is in a chunk that is in the journal but no longer in memory.
type BeforeStartError struct {
	Side      Side  // of Wanted and Start
	Wanted    int64 // the offset to translate
	Start     int64 // the lowest offset that can be translated, inclusive
	Forgotten bool  // an earlier chunk of the journal may have it
	Begin     Pair  // where the map starts, on both sides
}

// Continue returns where to continue on the other side, if its log starts at the given offset or, unknown, at -1: at the start of the map, if
// that log has nothing from before it. Offsets below both logs' starts have no exact translation, because the journal no longer has their chunks.
func (e *BeforeStartError) Continue(logStart int64) (offset int64, ok bool) {
	offset = e.Begin.on(e.Side.other())
	return offset, e.Wanted >= 0 && offset <= logStart
}

func (e *BeforeStartError) Error() string {
	if e.Forgotten {
		return fmt.Sprintf("translate %s offset %d: the map in memory starts at %d; earlier offsets are in the journal",
			e.Side, e.Wanted, e.Start)
	}
	return fmt.Sprintf("translate %s offset %d: the map of the copy starts at %d", e.Side, e.Wanted, e.Start)
}

// NotCopiedError is a translation of an offset above the end of the map. A source offset can be translated once the
// flow has copied that far. A target offset was not written by this flow, or the flow has not seen it yet.
type NotCopiedError struct {
	Side   Side  // of Wanted and End
	Wanted int64 // the offset to translate
	End    int64 // the highest offset that can be translated, inclusive
}

func (e *NotCopiedError) Error() string {
	return fmt.Sprintf("translate %s offset %d: copied only up to %d", e.Side, e.Wanted, e.End)
}

// VersionError is a record of a newer format than this build reads: of a journal, or of MirrorMaker 2's topics. It is
// never guessed or overwritten. Run the milena version that wrote it, or a newer one.
type VersionError struct {
	What      string // heartbeat or checkpoint; empty for an entry of a journal
	Kind      Kind   // of a journal's entry
	Version   uint16 // of the record
	Supported uint16 // the newest one that this build reads
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("read %s: format %d, but this version of milena reads formats up to %d; run the version that wrote it or a newer one",
		recordName(e.What, e.Kind), e.Version, e.Supported)
}

// CorruptError is a record, or a set of records, that neither milena nor MirrorMaker 2 writes. None of it is used.
type CorruptError struct {
	What   string // heartbeat, checkpoint or offset-sync; empty for entries of a journal
	Kind   Kind   // of a journal's entry; 0 if unknown
	Reason string // what is wrong
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("read %s: %s", recordName(e.What, e.Kind), e.Reason)
}

func recordName(what string, kind Kind) string {
	if what != "" {
		return what
	}
	return fmt.Sprintf("journal entry %q", kind)
}

// NotReplicatedError is a question about a partition that a flow does not copy, or does not copy yet.
type NotReplicatedError struct {
	Flow      string // the flow whose journal was asked; empty if no journal has the partition
	Topic     string // as in the question
	Partition int32
}

func (e *NotReplicatedError) Error() string {
	if e.Flow == "" {
		return fmt.Sprintf("%s-%d: no flow to this cluster copies it; check the name, and that the flow's journal is on this cluster", e.Topic, e.Partition)
	}
	return fmt.Sprintf("%s-%d: flow %s does not copy it, or has not started to; check the name and the flow's topics", e.Topic, e.Partition, e.Flow)
}

// NoJournalError is a flow without a journal on this cluster.
type NoJournalError struct {
	Topic string // the missing journal topic
}

func (e *NoJournalError) Error() string {
	return fmt.Sprintf("topic %s does not exist on this cluster: start the flow, which creates it, or check the flow's name and that this is the cluster that it writes to", e.Topic)
}

// NoCheckpointsError is a source without a checkpoints topic on this cluster.
type NoCheckpointsError struct {
	Source string // alias, as in the question
	Topic  string // the missing topic
}

func (e *NoCheckpointsError) Error() string {
	return fmt.Sprintf("no checkpoints of source %q on this cluster: topic %s does not exist; check the alias and the "+
		"separators, that a flow from that source is running, and that it translates groups", e.Source, e.Topic)
}

// UnknownGroupError is a group without committed offsets where they were looked up.
type UnknownGroupError struct {
	Group string
	Where string // where they were looked up, for messages
}

func (e *UnknownGroupError) Error() string {
	return fmt.Sprintf("group %q has no committed offsets in %s; check the name, that the group has committed, and that the flow's groups include it",
		e.Group, e.Where)
}

// AmbiguousError is a source topic that several flows copy to this cluster.
type AmbiguousError struct {
	Topic     string // on the source
	Partition int32
	Flows     []string // the flows that copy a topic of that name
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%s-%d is copied by the flows %s; name one of them", e.Topic, e.Partition, strings.Join(e.Flows, ", "))
}
