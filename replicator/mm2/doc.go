// Package mm2 is what milena needs to know about MirrorMaker 2: whether it still runs, how far it copied each partition when a flow migrates
// from it, and the connector offsets it needs when a flow rolls back to it.
//
//	running.go   finds a MirrorMaker 2 in dedicated mode by the members of its Connect group
//	stopped.go   waits until MirrorMaker 2 has stopped, in dedicated mode or on a Connect cluster
//	progress.go  reads its connector offsets and offset-syncs
//	scan.go      compares the end of a copy with the source, record by record (package match)
//	source.go    reads the source side of a scan
//	verdict.go   decides what the findings of a scan mean: where to continue, or which anomaly. Pure
//	rollback.go  writes connector offsets as Connect stores them
//
// A scan reads both logs through [SourceLog] and [TargetLog], which the caller implements.
//
// MirrorMaker 2 commits its connector offsets once a minute, so they are behind. Its offset-syncs are exact, but few. So a scan begins at an
// offset-sync, and milena continues after the last source record that has a copy. The connector offset only decides where records cannot: if the
// copy is empty or has lost its last records. Otherwise it is a check of the result.
package mm2
