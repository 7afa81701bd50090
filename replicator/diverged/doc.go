// Package diverged finds the records of a source that its target does not have: what a source that died and came back had written before it died, and
// what nobody has copied since. It is for a flow that was failed over, so that nothing copies while it looks. It writes to neither cluster, but for
// the topics of an [Export].
//
//	diverged.go  lists the partitions of a flow, several at a time
//	journal.go   what the journal says of each partition
//	place.go     the first offset of a partition that is not on the target
//	tail.go      what the target has behind the journaled end, matched against the source
//	count.go     counts the records from there on
//	log.go       reads a log, in raw batches
//	report.go    the report
//	export.go    exports the records that a report lists
//	lines.go     as JSON lines
//	topic.go     or into a topic of the target
//
// # The proof
//
// The journal says up to which source offset everything was copied, and lags behind the copy: what an instance had copied when it was killed is on the target
// and not in the journal. So the log of the copy is read from the journaled end to its end. Batches of the flow are known by the producer ids of its
// shards, whatever stands between and behind them, also what producers on the target have written to the same topic since. They are matched against the
// source as a takeover does (package match), which gives the first source offset that is not on the target.
//
// Nothing is guessed. What the logs leave open is a [Doubt]: a range of source offsets that may be on the target, with the reason. Only what certainly is not
// there counts as diverged.
//
//	not in the journal           nothing of it was copied: the start of a copy is journaled before its first batch
//	aborted, or a marker         not diverged
//	came from the target         not diverged: with provenance a header of the record says so
//	behind an open transaction   not readable yet, with read_committed: [Partition.Open]
//	deleted by the source        [Partition.Gone]
//	left out by an anomaly       in front of the end of the copy, so not part of it: [Partition.Gaps]
//	lost by the source           the target has more than the source: [Partition.Ahead]
//
// # Exports
//
// An export reads what the report lists once more, and fails if that is not what was listed. Lines have everything of a record, see lines.go. In a topic, each record
// has its source offset in a header. The topic is written in transactions, and what is there already is read first: an export that was cut is
// completed by the next one, and two at a time are none, because the second one fences the first. On a target without transactions (fence: lease) only one
// may run at a time.
//
// # Memory
//
// One response of 1 MiB, or of one batch if that is larger, for each of the eight partitions that are read at a time. What is remembered of a tail is some 100 bytes
// per batch and, if batches are not sufficient, 24 bytes per record that was copied and not journaled.
package diverged
