// Package wire builds the requests of the data path, sends them, and says what their answers mean: fetch, produce and list-offsets.
//
//	transport.go    sends a fetch or a produce request to one broker; the interfaces are the seam for a client other than kgo
//	fetch.go        the one builder of fetch requests, and the index of an answer
//	session.go      incremental fetch sessions (KIP-227)
//	produce.go      the one builder of produce requests, and the index of an answer
//	listoffsets.go  start, end, and offset by timestamp of one partition
//	outcome.go      what follows from an error code; the only place that knows the codes of a fetch or produce answer
//
// The package keeps no state of partitions. Record batches are bytes: package recordbatch reads them.
package wire
