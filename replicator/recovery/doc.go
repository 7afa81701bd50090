// Package recovery moves clients from one cluster of a flow to the other: a switchover, while both run, and a failover, when the source is gone. It also tries that out.
//
//	switchover.go  SwitchOver and its steps
//	preflight.go   what is checked before a switchover begins
//	drain.go       whether all is copied, and whether the ends of the source move
//	positions.go   where the groups are on the source, and whether they are on the target where they continue
//	rest.go        whether the groups have come to rest
//	home.go        the same for groups that read copies of the target's topics
//	frozen.go      the freeze that a switchover leaves, kept on the cluster that is frozen
//	failover.go    FailOver and its steps; failovergroups.go puts the groups where they continue
//	failback.go    FailBack and its steps; failbackcheck.go makes the checks before
//	divergence.go  what only the old source has: as it is reported, exported, and left out
//	drill.go       RunDrill and its steps; drillgroups.go, drillcompare.go and drillread.go look at the groups and at the records behind their positions
//	drilled.go     what a drill has found; drillreport.go prints it
//	clients.go     what clients must change
//	steps.go       how steps are carried out, undone and resumed
//	run.go         who carries out a recovery, and what the control topic keeps of it
//	document.go    the report
//
// # Steps
//
// A recovery is a list of steps. That a step begins is in the control topic of the flow before it does anything, and so is all that is needed to undo it,
// such as the ACLs that a freeze is going to create. Doing and undoing may be repeated. So a process may be killed at any point: the same command finds the
// record, goes on with the first step that is not done, or goes on undoing. If a step fails, or the time is up, those before it are undone in the reverse
// order. The last step of a switchover, and every step of a failover, cannot be undone, because clients may have gone over: they can only be repeated.
//
// # Who
//
// One process at a time carries out a recovery of a flow. Its records count only if nobody has written one since it read the topic ([control.Entry]), so of
// two that begin at once one is refused. While it works it says every 3 s that it is there. After [control.RecoveryTimeout] of silence, or at once if it was a
// process of the same host that does not exist any more, the same command goes on. A process that was only slow finds at its next record that another one
// has taken over, and ends without another step, also if that one has ended meanwhile.
//
// A failover does not wait for a switchover or a failback that was broken off, as these need the source. It takes its place, and remembers its freeze.
//
// # What a switchover proves
//
//	freeze   producers are stopped, or somebody says so
//	drain    the ends of the source, as high watermarks, do not move between two looks, and the copies have all below them
//	groups   no group can move on the source any more: it has no members, or has committed the end of all that its members read. Each position on the target
//	         is the translation of that on the source. So it is in copies of the target's topics, back through the flow that made them, unless that flow has
//	         put the group there and it has not moved since
//	stop     no instance writes any more, the ends are still those of drain, and the groups are still where they were proven to be
//
// The topic heartbeats is left out, as milena itself writes to it.
//
// # A failback
//
// Its own steps are in the control topic of the flow that failed over. The last one is a switchover along the reverse flow, which has its steps in the control
// topic of that flow, and is resumed or undone there. If it was undone, so is the failback: the flow stays stopped, and a failback begins anew. What was exported and
// left out stays so. If it was not undone, or nobody knows, the failback stays open, and the same command goes on. The reason of the switchover begins
// with the id of the failback: so one that was killed before it could say that clients are home finds out.
//
// An export to a file is written beside it, and gets its name at the end, by a link that fails if the name exists. The offsets that are left out are those of the
// export to the last record, so a record that was written to the old source later is copied.
//
// # Drill
//
// A drill ([RunDrill]) tries out a failover, and has no effect on the flow. It has a key of its own in the control topic, so it does not keep anybody from a
// switchover. It is not resumed: what it leaves if it is killed are groups whose names say that a drill of this flow created them, and the next one deletes
// these. What it finds does not end it.
package recovery
