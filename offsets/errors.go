package offsets

import (
	"errors"
	"fmt"
	"strings"
)

// ErrTombstone is a record without a value. Compaction knows them, readers of MirrorMaker 2's topics do not, and milena
// writes none there; one that somebody else wrote is passed over.
var ErrTombstone = errors.New("the record is a tombstone")

// OrderError is a segment or an end that would go backwards. It means that the caller took an acknowledgement twice or
// two of them in the wrong order, or that the target log lost records; the map is as it was before.
type OrderError struct {
	Source, Target int64 // what was given
	Count          int64 // in records; 0 if only the ends were to move
	End            Position
}

func (e *OrderError) Error() string {
	if e.Count == 0 {
		return fmt.Sprintf("move the ends to source %d target %d: the map ends at source %d target %d already",
			e.Source, e.Target, e.End.Source, e.End.Target)
	}
	return fmt.Sprintf("append %d records at source %d target %d: not possible behind the map's end, source %d target %d",
		e.Count, e.Source, e.Target, e.End.Source, e.End.Target)
}

// BeforeStartError is a translation of an offset that the map does not describe: below the place where the copy began,
// or, if Forgotten, in a chunk that is in the journal but no longer in memory.
type BeforeStartError struct {
	Side      Side  // of Wanted and Start
	Wanted    int64 // what was to be translated
	Start     int64 // the lowest offset that can be translated, inclusive
	Forgotten bool  // an earlier chunk of the journal may have it
}

func (e *BeforeStartError) Error() string {
	if e.Forgotten {
		return fmt.Sprintf("translate %s offset %d: the map in memory starts at %d, earlier ones are in the journal",
			e.Side, e.Wanted, e.Start)
	}
	return fmt.Sprintf("translate %s offset %d: what is known of the copy starts at %d", e.Side, e.Wanted, e.Start)
}

// NotCopiedError is a translation of an offset behind the end of the map. A source offset will translate once the flow
// has copied that far; a target offset was not written by this flow, or not yet seen by it.
type NotCopiedError struct {
	Side   Side  // of Wanted and End
	Wanted int64 // what was to be translated
	End    int64 // the highest offset that can be translated; an end is a place between records, so End itself can
}

func (e *NotCopiedError) Error() string {
	return fmt.Sprintf("translate %s offset %d: copied up to %d", e.Side, e.Wanted, e.End)
}

// VersionError is a record of a format that this build cannot read: of a journal, or of MirrorMaker 2's topics. It is never
// guessed at or overwritten: the way out is to run a milena of at least the version that wrote it.
type VersionError struct {
	What      string // heartbeat or checkpoint; empty for an entry of a journal
	Kind      Kind   // of a journal's entry
	Version   uint16 // of the record
	Supported uint16 // the newest one that this build reads
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("read %s: format %d, and this milena reads formats up to %d; run the version that wrote it or a newer one",
		recordName(e.What, e.Kind), e.Version, e.Supported)
}

// CorruptError is a record, or a set of records, that neither milena nor MirrorMaker 2 writes. Nothing of it is used.
type CorruptError struct {
	What   string // heartbeat, checkpoint or offset-sync; empty for entries of a journal
	Kind   Kind   // of a journal's entry; 0 if not even that can be told
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

// NotReplicatedError is a question about a partition that a flow does not copy, or not yet.
type NotReplicatedError struct {
	Flow      string // whose journal was asked; empty if none knows the partition
	Topic     string // as it was asked for
	Partition int32
}

func (e *NotReplicatedError) Error() string {
	if e.Flow == "" {
		return fmt.Sprintf("%s-%d: no flow to this cluster copies it; check the name, and that the flow's journal is here", e.Topic, e.Partition)
	}
	return fmt.Sprintf("%s-%d: flow %s does not copy it, or has not begun to; check the name and the flow's topics", e.Topic, e.Partition, e.Flow)
}

// NoJournalError is a flow without a journal on the cluster that was asked.
type NoJournalError struct {
	Topic string // the journal that is missing
}

func (e *NoJournalError) Error() string {
	return fmt.Sprintf("there is no topic %s on this cluster: start the flow, which makes it, or check the flow's name and that this is the cluster that it writes to", e.Topic)
}

// NoCheckpointsError is a source whose groups nobody translates to the cluster that was asked.
type NoCheckpointsError struct {
	Source string // alias, as it was asked for
	Topic  string // the topic that is missing
}

func (e *NoCheckpointsError) Error() string {
	return fmt.Sprintf("there are no checkpoints of source %q on this cluster: topic %s does not exist; check the alias and the "+
		"separators, that a flow from there runs, and that it translates groups", e.Source, e.Topic)
}

// UnknownGroupError is a group that has no position where it was looked for.
type UnknownGroupError struct {
	Group string
	Where string // where it was looked for, in words
}

func (e *UnknownGroupError) Error() string {
	return fmt.Sprintf("group %q has no position in %s; check the name, that the group has committed, and that the flow's groups include it",
		e.Group, e.Where)
}

// AmbiguousError is a source topic that several flows copy to the cluster that was asked.
type AmbiguousError struct {
	Topic     string // on the source
	Partition int32
	Flows     []string // those that copy a topic of that name
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%s-%d is copied by the flows %s; ask for one of them by its name", e.Topic, e.Partition, strings.Join(e.Flows, ", "))
}
