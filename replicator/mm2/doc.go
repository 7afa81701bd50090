// Package mm2 migrates a flow from MirrorMaker 2, whose copies it continues, and rolls it back to MirrorMaker 2.
//
//	running.go   does MirrorMaker 2 of the dedicated mode run? Two copiers would both append
//	stopped.go   waits until it has stopped, in whatever mode
//	progress.go  reads its connector offsets, which are up to a minute behind, and its offset-syncs, which are exact and few
//	scan.go      compares the end of a copy with the source, record by record (package match), behind two interfaces of a log
//	verdict.go   decides what follows from it: begin here, or this anomaly. Pure
//	rollback.go  the way back: connector offsets as Connect stores them
//
// What MirrorMaker 2 wrote only says where to begin to compare: the first source record that is not on the target is the next one to copy.
package mm2
