// Package recordbatch reads, admits, rewrites and rebuilds Kafka record batches: bytes in, bytes out. It opens no connection, writes no
// log line and knows nothing of the rest of milena.
//
// # Words
//
// A batch is one RecordBatch v2 (KIP-98) as it stands in a fetch response, or one message of the formats before it (magic 0 and 1), which
// may be a compressed wrapper around a set of inner messages. First and last are inclusive, next is exclusive. Source offsets are those a
// batch was fetched with. Timestamps are milliseconds since the epoch; -1 means that the producer gave none. Sizes are in bytes and count
// the whole batch, header included, as the broker counts it for max.message.bytes.
//
// # Lanes
//
// [Next] splits a fetch response into batches, [Parse] reads a header and [Admit] decides from it alone which way a batch goes:
//
//	lane     what happens                                            when
//	forward  Rewrite: 18 header bytes, the records stay untouched    the normal case
//	rebuild  Rebuild: decode, keep the live records, number them     old formats, a resume inside a batch, holes left by the log cleaner,
//	         from 0 and encode them with the same codec              append times that must survive, a batch the target calls too large
//	drop     nothing is written, the position moves to NextOffset    transaction markers, aborted and empty batches, batches already copied
//
// Holes are never hidden by patching lastOffsetDelta: a broker accepts that for uncompressed batches and has a corrupt log afterwards.
//
// # Wire layout
//
// Version 2, big-endian. The size of a batch is its length field plus 12, at least [HeaderSize].
//
//	bytes   field                            in CRC  Rewrite
//	 0-7    base offset                      no      0, as a produce request demands
//	 8-11   length of all that follows       no      kept
//	12-15   partition leader epoch           no      -1
//	16      magic, 2                         no      kept
//	17-20   CRC32C of bytes 21 to the end    -       by algebra
//	21-22   attributes                       yes     bits 3, 4 and 6 cleared
//	23-26   last offset delta                yes     kept
//	27-34   base timestamp                   yes     kept
//	35-42   max timestamp                    yes     kept
//	43-50   producer id                      yes     ours
//	51-52   producer epoch                   yes     ours
//	53-56   base sequence                    yes     ours
//	57-60   record count                     yes     kept
//	61-     records, one compressed block    yes     untouched
//
// Attributes: bits 0-2 codec, bit 3 LogAppendTime (every record then has the max timestamp), bit 4 transactional, bit 5 control, bit 6
// delete horizon (KIP-534: the base timestamp is then the horizon, and the deltas stand against it, so that record times stay right).
//
// A record is zigzag varints and bytes: length, attributes (unused), timestamp delta, offset delta, key length (-1 is null), key, value
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
// So a new header costs the same for 1 KiB and for 1 MiB, and the checksum keeps guarding the bytes the producer sent: a payload that was
// damaged on its way here is still damaged for the target, which answers CORRUPT_MESSAGE.
//
// # What it never does
//
//   - It never repairs a checksum. [Rewrite] keeps damage, [Decode], [Rebuild] and [ParseMarker] verify first and return a *[CorruptError],
//     and [Admit] verifies what it drops, because a dropped batch passes no other check.
//   - It never skips silently: bytes it does not understand are a *[FormatError], a record that cannot land is a *[RecordTooLargeError] or
//     is listed by its offset.
//   - It never trusts a size from the wire: nothing is allocated for a count or a length before the bytes for it were seen, and a
//     decompressed batch ends at [MaxDecodedBytes].
//   - It never changes a key, a value, a header, null into empty, a timestamp that readers of the source see, or the order of records.
//
// # Buffers
//
// [Next] and [Decode] return slices of the bytes they were given; [Rewrite] works in place; [Encode] and [Rebuild] return fresh bytes. No
// function keeps a reference to its arguments, and all are safe for concurrent use on different batches.
package recordbatch
