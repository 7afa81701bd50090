// Package verify proves that the copies of a flow are equal to their source, range by range, while the flow runs or not. It writes to neither cluster,
// but for what a [Store] keeps there. `milena verify` prints the [Report], and the engine verifies in the background.
//
//	verify.go      the verification: what is verified, and several partitions at a time
//	place.go       the range of a partition that the journal and both logs have in common
//	sample.go      the parts of a range that a sample consists of
//	partition.go   one partition, range by range
//	log.go         reads a log ahead, in raw batches
//	stream.go      what was read of a log: its next batch, or record
//	comparison.go  judges what is next on both sides, by the map
//	content.go     what differs between two records
//	cleaned.go     which missing records a log cleaner has removed
//	saved.go       keeps the progress, so that a killed run goes on
//	report.go      the report
//
// # The proof
//
// The map of a partition, from the journal, says which target offset has the copy of which source offset. So records are not searched: each has one
// place where its copy must be, and what stands elsewhere is no copy. The map ends at what was journaled, which both logs had then; what is behind is
// not judged.
//
// A batch that passed through as bytes is compared as bytes: the same header fields, the same records section, and both checksums computed over the bytes
// that were read. It is not decompressed. Every other batch is decoded and compared record by record: rebuilt, split and merged ones, those with holes,
// those that a broker compressed anew.
//
// # What stands on one side only
//
//	on the source, outside the map   aborted, or with provenance it comes from the target, or an anomaly skipped it: not_copied otherwise
//	on the target, outside the map   markers; with provenance records of others; what an anomaly accepted: extra_on_target otherwise
//	in the map, not on the target    a log cleaner removed it if the target, or the source further on, has a newer record with its key: missing_on_target otherwise
//	in the map, not on the source    likewise: missing_on_source otherwise
//
// # Goroutines
//
// Eight partitions at a time, or [Options].AtOnce, with one goroutine each and one per side that reads ahead. Memory is bounded by that: each holds three responses of 1 MiB
// per side, or of one batch if that is larger.
package verify
