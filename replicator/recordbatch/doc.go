// Package recordbatch reads, admits, rewrites, rebuilds and merges Kafka record batches: bytes in, bytes out. It opens no connection, logs
// nothing and imports no other package of milena.
//
//	each.go        iterates over the batches of a fetch response
//	header.go      splits bytes into batches and parses headers
//	admit.go       chooses the route of a batch; aborted transactions and their markers
//	crc.go         rewrites a header in place; checksums
//	rebuild.go     decodes a batch and encodes its records as one or more new batches
//	merge.go       makes one batch of several tiny ones
//	provenance.go  the headers that say which clusters a record was copied from
//	record.go      decodes records
//	oldformat.go   decodes the message formats before version 2
//	encode.go      encodes records
//	codec.go       compression
//	errors.go      the errors of all of them
//
// # Terms
//
// A batch is one RecordBatch v2 (KIP-98) of a fetch response, or one message of an older format (magic 0 and 1), which may be a compressed
// wrapper around a set of inner messages. First and last are inclusive, next is exclusive. Source offsets are the offsets with which a batch
// was fetched. Timestamps are milliseconds since the epoch; -1 means that the producer set none. Sizes are in bytes and cover the whole
// batch including its header, as for max.message.bytes.
//
// # Routes
//
// [Next] splits a fetch response into batches, [Parse] reads a header, and [Admit] chooses the route of a batch from its header:
//
//	route    what happens                                            when
//	forward  Rewrite: changes header bytes, not the records          the normal case
//	rebuild  Rebuild: decodes, keeps the wanted records, numbers     old formats, a resume inside a batch, holes left by the log cleaner,
//	         them from 0 and encodes them with the same codec        append times to preserve, batches too large for the target,
//	                                                                 provenance headers
//	drop     nothing is written, copying continues at NextOffset     transaction markers, aborted and empty batches, batches already copied
//
// Patching lastOffsetDelta must not hide holes: a broker accepts that for uncompressed batches, and its log is corrupt afterwards.
//
// Batches with the route forward can become one batch before they are sent: [Mergeable] tells from their headers, [Merge] numbers their records
// anew and copies the rest of each record. That is for a partition that is behind with tiny batches, as a broker takes one batch per partition
// and request. Compressed records are compressed again. The records of a merged batch are no longer the same bytes as on the source, so it is
// not recognized by [RecordsCRC], but record by record.
//
// # Wire layout
//
// Version 2, big-endian. The size of a batch is its length field plus 12, at least [HeaderSize].
//
//	bytes   field                            in CRC  Rewrite
//	 0-7    base offset                      no      0, as a produce request requires
//	 8-11   length of everything after it    no      kept
//	12-15   partition leader epoch           no      -1
//	16      magic, 2                         no      kept
//	17-20   CRC32C of bytes 21 to the end    -       derived, see below
//	21-22   attributes                       yes     bits 3, 4 and 6 cleared
//	23-26   last offset delta                yes     kept
//	27-34   base timestamp                   yes     kept
//	35-42   max timestamp                    yes     kept
//	43-50   producer id                      yes     milena's
//	51-52   producer epoch                   yes     milena's
//	53-56   base sequence                    yes     milena's
//	57-60   record count                     yes     kept
//	61-     records, one compressed block    yes     kept
//
// Attributes: bits 0-2 codec, bit 3 LogAppendTime (every record then has the max timestamp), bit 4 transactional, bit 5 control, bit 6
// delete horizon (KIP-534: the base timestamp is then the horizon, and the deltas are relative to it, so record timestamps stay correct).
//
// A record consists of zigzag varints and bytes: length, attributes (unused), timestamp delta, offset delta, key length (-1 is null), key, value
// length (-1 is null), value, header count, and per header key length, key, value length (-1 is null), value.
//
// # CRC algebra
//
// CRC32C is linear. For inputs of equal length crc(a) xor crc(b) depends on a xor b alone, and moving a difference n bytes to the left
// multiplies it by x^(8n) modulo the polynomial. With h = header bytes 21 to 60 and n = bytes of the records section:
//
//	new CRC      = old CRC xor shift(crc(old h) xor crc(new h), n)
//	crc(records) = CRC xor shift(crc(h), n)
//
// So a new header costs about the same for 1 KiB and for 1 MiB, and the checksum still protects the bytes that the producer sent: a batch
// that was damaged in transit is still damaged for the target, which answers CORRUPT_MESSAGE.
//
// # Guarantees
//
//   - The package never repairs a checksum. [Rewrite] preserves damage. [Decode], [Rebuild], [Merge] and [ParseMarker] verify the checksum first
//     and return a *[CorruptError]. [Admit] verifies the batches that it drops, as no later check would.
//   - It never skips anything silently. Bytes that it does not understand are a *[FormatError]. A record that is too large for the target is a
//     *[RecordTooLargeError], or its offset is returned.
//   - It never trusts a size from the wire. A declared count or length is checked against the bytes that are there before memory is allocated
//     for it, and a batch decompresses to at most [MaxDecodedBytes].
//   - It never changes keys, values, existing headers, null values, the order of records, or the timestamps that consumers of the source see.
//
// # Buffers
//
// [Next], [Each] and [Decode] return slices of their argument. [Rewrite] works in place. [Encode], [Rebuild] and [Merge] return new bytes. No
// function keeps a reference to its arguments. All functions are safe for concurrent use on different batches.
package recordbatch
