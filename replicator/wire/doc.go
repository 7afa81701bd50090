// Package wire builds the requests of the data path (fetch, produce and list-offsets), sends them, and classifies the error codes of their
// responses.
//
//	fetch.go        builds fetch requests; finds partitions in a response
//	session.go      incremental fetch sessions (KIP-227)
//	produce.go      builds produce requests; finds partitions in a response
//	transport.go    sends a fetch or produce request to one broker; its interfaces allow a client other than kgo
//	outcome.go      what to do after an error code: the only place that knows the codes of fetch and produce responses
//	listoffsets.go  first offset, high watermark, and offset of a timestamp of one partition
//
// The package keeps no state of partitions, except what a fetch session remembers. It does not read record batches: package recordbatch does.
package wire
