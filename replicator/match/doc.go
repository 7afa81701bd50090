// Package match finds out which records of two logs are the same, by position where that is certain and by content elsewhere. It is pure: no
// I/O, no clock, no client.
//
//	reconciler.go  batches that milena wrote, in the target's log tail: by count, CRC of the records section and timestamps
//	matcher.go     records that MirrorMaker 2 copied: record by record, with duplicates and gaps
//	anchor.go      the sync point to begin at
//	hash.go        a record's content as a number
//
// The result of both is a list of [offsets.Segment] and the first source record that has no copy.
package match
