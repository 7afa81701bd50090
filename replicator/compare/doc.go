// Package compare runs milena beside a MirrorMaker 2 without writing to either cluster: it reads both logs of each partition side by side
// and reports how far MirrorMaker 2 and milena are, and what would differ if milena did the work.
//
//	compare.go    the loop: topics, plan, leaders, checkpoints
//	fetch.go      reads the target's news first, then the source's: what is on the target was on the source before
//	partition.go  matches records by content, within a window that all partitions share
//	report.go     counts, lag and sentences
//
// Everything runs on one goroutine, but for fetches from several brokers; the report is published atomically.
package compare
