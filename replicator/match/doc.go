// Package match finds out which records of two logs are the same: by offset where that is certain, by content elsewhere. It is pure: no I/O,
// no clock, no client.
//
//	tail.go        numbers the records that milena wrote behind the journaled end, by producer id, epoch and sequence
//	reconciler.go  finds the source records of these numbers: by fingerprint, or record by record
//	behind.go      what the order of a log cleaner says about the numbers behind a source record
//	counts.go      the numbers that are possible where the source has lost records
//	anchor.go      chooses the sync point at which matching records begins
//	hash.go        hashes the content of a record
//	matcher.go     matches records that MirrorMaker 2 copied, one by one, with duplicates and gaps
//	window.go      the part of the source that a Matcher keeps: a hash and an offset per record
//	result.go      what a Matcher found
//
// Both result in a list of [offsets.Segment] and the first source offset that has no copy.
package match
