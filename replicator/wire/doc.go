// Package wire builds the requests of the data path (fetch, produce and list-offsets), sends them on connections of its own, and classifies the
// error codes of their responses.
//
//	fetch.go        builds fetch requests; finds partitions in a response
//	session.go      incremental fetch sessions (KIP-227)
//	produce.go      builds produce requests; finds partitions in a response
//	transport.go    what sends a fetch or produce request to one broker: connections of this package, or a kgo client
//	lines.go        a connection to each broker of a cluster, opened when it is needed
//	line.go         one connection: requests in order, any number in flight, without copying the batches
//	access.go       how a connection begins: versions of requests, login and its renewal (KIP-368)
//	encode.go       a produce request as pieces of bytes
//	buffers.go      buffers for responses, which are used again
//	measure.go      round-trip time, and the hooks that count what a kgo client would
//	outcome.go      what to do after an error code: the only place that knows the codes of fetch and produce responses
//	listoffsets.go  first offset, high watermark, and offset of a timestamp of one partition
//
// The package keeps no state of partitions, except what a fetch session remembers. It does not read record batches: package recordbatch does.
package wire
