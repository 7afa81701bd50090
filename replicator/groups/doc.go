// Package groups keeps the consumer groups of a flow's source in step on its target, and writes the internal topics that MirrorMaker 2 has:
// heartbeats, checkpoints and offset-syncs. It also translates groups on request.
//
// # A sync, in the order in which offsets travel
//
//	sync.go           the loop and one sync: read, translate, clamp, checkpoint, commit; then the same for failback
//	read.go           the committed offsets of the selected groups on the source
//	position.go       one committed offset on its way, and why it is refused
//	translate.go      forward: with the map in memory, then the journal, then MirrorMaker 2's offset-syncs if copies were migrated
//	failback.go       back, in topics that were copied from the target: with the journal of the reverse flow, except where that flow put
//	                  the group itself
//	origins.go        which topics were copied from the target, and by which journal
//	records.go        checkpoints and offset-syncs that changed
//	commit.go         clamps to the log start, and commits on the target: groups without members, forward only
//	report.go         the status of the last sync, and its JSON
//
// Package policy decides which groups are selected and which offsets may be committed. Package offsets has the record formats, the journal,
// and the rules of translation.
//
// # Besides
//
//	internaltopic.go  writes one internal topic on one cluster: creates it, writes batches, reports problems
//	heartbeats.go     heartbeats of the flow, to both clusters
//	translator.go     answers `milena translate`, without a running flow
//	host.go           what the package needs of its flow
//
// # The flow
//
// The package sees its flow as a [Host] and the flow's partitions as [Copy] values. It asks [Host.Leads] before each step that writes,
// because a sync may take long and another process may lead by then. Writing once more than that is harmless: the records are the same after
// compaction, and a commit only moves a group forward.
//
// A map begins at target offset 0 if the target's log held no record before the first copy, markers aside. So an offset from before the start
// of such a map is known to be from before the first copy, and is translated to 0.
//
// # Goroutines and locks
//
// [Syncer.Run] and [Heartbeats.Run] block; the caller starts them. A sync runs on one goroutine and shares its state with nobody, except that
// groups are committed several at a time, each with its own positions. Heartbeats have a goroutine per cluster. Shared, each with a lock that
// is held for moments only and never over a request: the report (report.mu) and an internal topic's problem (internalTopic.mu). [Syncer.Status]
// and [Heartbeats.Problems] may be called at any time.
package groups
