// Package control keeps what people decided about a flow: pause, resume, throttle, retry, skip, restart-copy, adopt, stop,
// failover, start, sync-groups. Decisions are records of the
// topic milena.<flow>.control on the target. So they survive restarts, reach all instances, need no HTTP, and are guarded by the ACLs of Kafka: who may
// write to the topic may decide.
//
//	record.go   Decision, Outcome and their form in the topic
//	scope.go    what a decision is about
//	event.go    Event: what happened without a decision
//	check.go    which records are nonsense
//	progress.go how far verifications are, which is no decision
//	recovery.go how far a switchover, failover, failback or drill is
//	state.go    State: what holds now, as the records of the topic say in their order
//	housekeep.go  what keeps the topic short and right
//	log.go      Log: reads and writes the topic
//	submit.go   Submit: writes decisions and waits until the instances say what they did; for the command line, and for whoever else decides
//
// # The topic
//
// It has one partition and is compacted. Keys are text, values are JSON objects, and there is no other encoding. Whoever writes a decision writes it
// twice, in one batch: under the key of what it decides, and for the history under its id.
//
//	decision/<slot>/<scope>     the newest decision of its slot and scope
//	history/<id>                the same, for `milena log`
//	outcome/<id>/<instance>     what one instance did about the decision of that id
//	event/<id>                  what happened to an instance: it started, stopped, took shards over, or has another config
//
// It also has the progress of verifications, which package verify and the engine understand. A slot is a hash of what is verified.
//
//	verify/<slot>                            a run of `milena verify` that is not complete: {v, id, slot, who, when, document}
//	verify/<slot>/<id>/<topic>/<partition>   how far that run is with a partition: {v, document}
//	verified/<topic>/<partition>             how far the flow itself has verified a partition (Verified)
//
// And it has the recoveries of the flow ([Recovery]): switchover, failover, failback, drill.
//
//	recovery/current   the newest one. A record of it counts only if nobody has written one since the topic was read, so that of two people who
//	                   begin at once only one does
//	recovery/drill     the newest drill, likewise: it changes nothing, and keeps nobody from a switchover
//	recovery/<id>      one that has ended
//	recovery/frozen    the freeze that a switchover left on the target of this flow, for a failover back to it
//
// A slot is pause (for pause and resume), state (for stop, failover and start), throttle, retry, skip, restart-copy, adopt or sync-groups: a newer decision of a slot and a scope replaces the older one.
// A scope is one of
//
//	flow
//	topic/<topic>               of the source
//	partition/<topic>/<number>  of the source
//	groups                      the sync of all consumer groups
//	group/<group>
//
// A decision has these fields. Times are RFC 3339 in UTC with milliseconds.
//
//	v          1: the version of the format. A record with another one is ignored
//	id         unique: the time and random characters
//	what       pause, resume, throttle, retry, skip, restart-copy, adopt, stop, failover, start or sync-groups
//	scope      {kind, topic, partition, group}: kind is flow, topic, partition, groups or group
//	who        who decided, as the writer says; only the ACLs say who may
//	when       the time of the decision, by the clock of the writer
//	why        the reason; optional for resume
//	until      pause, throttle: when it ends by itself; optional
//	began      resume, and pause of what is paused: since when it is paused; optional
//	rate       throttle: bytes per second; 0 ends the throttle
//	from, to   skip: the source offsets [from, to) that are left out
//	halt       skip without from and to: {kind, from, to}, what halted the partition when it was decided. Nothing else is skipped
//
// An outcome has
//
//	v, id      the version, and the id of the decision
//	instance   the instance id
//	when       the time
//	result     done, refused or failed
//	detail     a sentence
//
// An event has
//
//	v, id      the version, and its id
//	what       start, stop, takeover or config
//	instance   the instance id
//	when, last, count  of the first and the last one, and how many there were: those of a kind and a reason that follow closely are one event
//	who, why   who caused it and why, as far as that is known
//	detail     a sentence about the last one
//	took_ms    how long the longest one took, in milliseconds
//
// Anomalies are no events, because the gap ledger of the journal has them (offsets.Gap).
//
// # What holds
//
// The records count in the order of the log, not by their times. A partition is paused while any pause holds that covers it: of the flow, of its topic, or
// its own. A resume ends the pause of its own scope only. A tombstone of a decision is a decision like its end: somebody with the right to write has
// deleted it.
//
// That the topic is gone, or lost records, is no decision: a process that runs keeps what held, and the instance with shard 0 writes it into the next one.
//
// A record that is not such a record changes nothing: [State.Apply] says why, and whoever reads the topic names its offset and the reason. Who wrote it
// cannot be known, because Kafka does not keep that. Compaction deletes what such a record replaces, so the newest good one is written again
// ([State.Housekeep]), or the record deleted if there is none, unless a newer milena wrote it.
//
// Whoever decides may do so while housekeeping writes. A record of housekeeping has the header milena.read-to, the offset up to which the topic was read
// before ([Entry]). It counts only if no record of its key came from there on. Else the state keeps what that record says, and the next housekeeping, which
// is at once, writes it again.
//
// # Bounds
//
// The topic is kept short by the instance with shard 0: it keeps the newest [MaxHistory] entries of the history, none older than [HistoryAge], and
// deletes outcomes with them, and the newest [MaxEvents] events. Decisions that have no effect any more go after the same time, and of commands that were done all but the newest
// [MaxHistory], but for skips: a restart must know them. A State has at most [MaxDecisions] decisions; what is beyond
// that is ignored like nonsense. So is progress beyond [MaxProgress] partitions; that of a run is kept for [ProgressAge], and as long as no newer run of its
// slot begins; that of the flow itself for [ProgressAge] after it was last at the partition.
//
// An instance reads with one long poll after the other, each of [Poll]: an idle flow costs a request every few seconds, and a decision reaches
// all instances as soon as it is replicated.
package control
