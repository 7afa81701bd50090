// Package compare runs milena beside a running MirrorMaker 2 without writing to either cluster. It reads both logs of each partition side by
// side and reports how far MirrorMaker 2 is, how far milena would be, and what would differ if milena did the work. `milena run --compare`
// prints the [Report].
//
//	compare.go       the comparison and its loop
//	topology.go      topics and the plan, renewed when topics change
//	logs.go          one sync of all logs: read both sides, then match
//	fetch.go         reads the logs: one request per broker and side
//	place.go         where the comparison of a partition begins
//	partition.go     one partition: matches what was read and counts
//	cursor.go        where one log of a partition is read
//	transactions.go  which records of the source's transactions are on the target
//	lookback.go      searches the source for records from before the window
//	window.go        how many source records each partition keeps in memory
//	report.go        the report
//	differences.go   the sentences of the report
//
// The copy is read before the source. So a target record that has no match up to the end of the source that is read afterwards is not on the
// source.
//
// The loop runs on the goroutine of [Comparison.Run]. Only the fetches of one side run concurrently, one per broker. No partition has two
// leaders, so no two of them touch the same partition. [Comparison.Report] may be called at any time: a report is published as a whole and
// never changed.
package compare
