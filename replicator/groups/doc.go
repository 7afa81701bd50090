// Package groups keeps the consumer groups of a flow's source in step on its target, and writes the internal topics that MirrorMaker 2 has:
// heartbeats, checkpoints and offset-syncs. It also translates groups on request.
//
// # A sync, in the order in which offsets travel
//
//	sync.go           the loop and one sync
//	pass.go           chunks of groups: each is read, translated, checkpointed and committed on its own, some at a time
//	read.go           the committed offsets of the selected groups on the source
//	position.go       one committed offset on its way, and why it is refused
//	translate.go      forward: with the map in memory, then the journal, then MirrorMaker 2's offset-syncs if copies were migrated
//	elsewhere.go      forward, in copies that other processes have: with the journal, then as above
//	reverse.go        back, for groups in groups_back: with the journal of a configured flow in the other direction
//	bounds.go         clamps to the log start; nothing goes past the log's end
//	records.go        checkpoints and offset-syncs that changed
//	commit.go         look, note, look again, commit
//	lineage.go        what milena has put of the groups, in the journal: adopted from MirrorMaker 2 once, noted before each commit
//	memory.go         what is remembered of each group between two syncs, in some 64 bytes per position
//	report.go         the status of the last sync, and its JSON
//
// Package policy decides which groups are selected and which offsets may be committed. Package offsets has the record formats, the journal,
// and the rules of translation.
//
// # Who put it there
//
// A position on the target belongs to whoever put it. Only what milena put itself is moved, forward or backward:
//
//	committed = none                   commit
//	committed in {before, put}         commit: noted in the journal as ours
//	committed = taken back             commit: the reverse flow has taken the group home from there
//	anything else                      own: refused
//
// Between a note and its commit a process may die, so both before and put are ours until the commit is known to have succeeded. Of the way
// back the same holds, with one more position: where the group stood at home when the other flow put it on the source.
//
// # Besides
//
//	internaltopic.go  writes one internal topic on one cluster: creates it, writes batches, reports problems
//	heartbeats.go     heartbeats of the flow, to both clusters
//	translator.go     answers `milena translate`, without a running flow
//	byhand.go         `milena translate --commit`
//	host.go           what the package needs of its flow
//
// # Copies of other processes
//
// Processes of a flow may share its copies. One of them, which leads, translates for all. What it does not have ([Host.Elsewhere]) it translates with
// the flow's journal, exactly, but as of the last write of the process that has it: up to a journal interval ago. What is above is translated to the
// end of what is journaled, and moves on with it. A group that was put beyond that end before, by a map in memory, stays until the journal has come as
// far. Each partition of the journal is read forward once per sync at most ([offsets.Reading]). Each process writes the offset-syncs of its own copies.
//
// # The flow
//
// The package sees its flow as a [Host] and the flow's partitions as [Copy] values. It asks [Host.Leads] before each step that writes,
// because a sync may take long and another process may lead by then, and [Host.Writes] before offset-syncs. The note that precedes each commit is
// under the fence, so that a process that was replaced commits nothing new.
//
// A map begins at target offset 0 if the target's log held no record before the first copy, markers aside. So an offset from before the start
// of such a map is known to be from before the first copy, and is translated to 0.
//
// # Goroutines and locks
//
// [Syncer.Run] and [Heartbeats.Run] block; the caller starts them. A sync has up to maxChunks goroutines, each with its own groups, and each
// commits several groups at a time. Heartbeats have a goroutine per cluster. Shared, each with a lock that is held for moments only: the maps of
// the memory (memory.mu), the report (report.mu), the errors of a sync (pass.mu), the error of a reverse flow (reverseFlow.mu) and an internal
// topic's problem (internalTopic.mu). Two are held over a request whose answer all chunks need: bounds.mu and listing.mu. [Syncer.Status] and
// [Heartbeats.Problems] may be called at any time.
package groups
