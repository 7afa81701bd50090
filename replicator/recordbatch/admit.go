package recordbatch

import (
	"encoding/binary"
	"slices"
)

// Route is how a batch is copied.
type Route uint8

// The routes. The zero value is none of them; [Admit] returns it with an error.
const (
	// RouteForward: [Rewrite] the header and send the batch with its records unchanged.
	RouteForward Route = iota + 1
	// RouteRebuild: [Rebuild] the batch and send the parts.
	RouteRebuild
	// RouteDrop: send nothing and continue at [Header.NextOffset].
	RouteDrop
)

// String returns the value of the metric label.
func (r Route) String() string {
	switch r {
	case RouteForward:
		return "forward"
	case RouteRebuild:
		return "rebuild"
	case RouteDrop:
		return "drop"
	default:
		return "unknown"
	}
}

// Reason is why a batch is not forwarded.
type Reason uint8

// The reasons.
const (
	// ReasonNone goes with RouteForward.
	ReasonNone Reason = iota
	// ReasonOldFormat: magic 0 or 1. Brokers accept only version 2 since Produce v3.
	ReasonOldFormat
	// ReasonControl: transaction markers of the source. A client cannot write markers.
	ReasonControl
	// ReasonEmpty: the log cleaner kept a header without records, to preserve the producer state (KAFKA-5443).
	ReasonEmpty
	// ReasonAborted: the batch belongs to an aborted transaction.
	ReasonAborted
	// ReasonBeforeWanted: the whole batch is below the wanted offset.
	ReasonBeforeWanted
	// ReasonMidBatch: the wanted offset is inside the batch. The records below it are already on the target.
	ReasonMidBatch
	// ReasonHoles: the log cleaner removed records. Brokers refuse a batch whose offset deltas are not 0, 1, 2 and so on.
	ReasonHoles
	// ReasonLogAppendTime: the batch has the append time of the source broker, but the target topic keeps create times. Forwarded, the
	// records would get the timestamps of their producer back.
	ReasonLogAppendTime
	// ReasonTooLarge: the batch is larger than max.message.bytes of the target topic.
	ReasonTooLarge
	// ReasonSplit: the target refused the batch for its content, and smaller ones find out which of its records it refuses.
	ReasonSplit
	// ReasonProvenance: each record gets a header that says which cluster it was copied from.
	ReasonProvenance
	// ReasonCycle: every record has been on the target before. Admit does not read records, so it never returns this reason; [Rebuild]
	// returns no part for such a batch.
	ReasonCycle
)

// String returns the value of the metric label; it is empty for ReasonNone.
func (r Reason) String() string {
	switch r {
	case ReasonNone:
		return ""
	case ReasonOldFormat:
		return "old_format"
	case ReasonControl:
		return "control"
	case ReasonEmpty:
		return "empty"
	case ReasonAborted:
		return "aborted"
	case ReasonBeforeWanted:
		return "before_wanted"
	case ReasonMidBatch:
		return "mid_batch"
	case ReasonHoles:
		return "holes"
	case ReasonLogAppendTime:
		return "log_append_time"
	case ReasonTooLarge:
		return "too_large"
	case ReasonSplit:
		return "split"
	case ReasonProvenance:
		return "provenance"
	case ReasonCycle:
		return "cycle"
	default:
		return "unknown"
	}
}

// Rules are what [Admit] needs to know besides the batch.
type Rules struct {
	// Wanted is the first source offset that is not on the target yet.
	Wanted int64
	// MaxBytes is max.message.bytes of the target topic. 0 means unknown: no batch is too large.
	MaxBytes int32
	// MaxRecords is the maximum number of records of a batch. 0 means no limit.
	MaxRecords int32
	// TargetLogAppendTime says that the target topic has message.timestamp.type=LogAppendTime.
	TargetLogAppendTime bool
	// Provenance says that records get provenance headers, so no batch is forwarded.
	Provenance bool
}

// AbortedTransaction is one aborted transaction in a fetch response.
type AbortedTransaction struct {
	ProducerID int64
	// FirstOffset is the source offset of the first record of the transaction, inclusive.
	FirstOffset int64
}

// Aborted holds the aborted transactions of one partition in one fetch response that have not ended yet: [Admit] removes a transaction at its
// abort marker. A response lists all aborted transactions that concern its batches, so nothing is kept between responses, as long as every
// batch of a response passes through Admit in order. The zero value is empty.
type Aborted struct {
	first map[int64][]int64 // by producer id, ascending first offsets
}

// NewAborted returns the aborted transactions of one partition of one fetch response. They may be in any order: Kafka sorts them by offset,
// Redpanda does not. NewAborted does not keep list.
func NewAborted(list []AbortedTransaction) Aborted {
	if len(list) == 0 {
		return Aborted{}
	}
	a := Aborted{first: make(map[int64][]int64, len(list))}
	for _, t := range list {
		a.first[t.ProducerID] = append(a.first[t.ProducerID], t.FirstOffset)
	}
	for _, offsets := range a.first {
		slices.Sort(offsets)
	}
	return a
}

// holds reports whether a transactional batch of a producer at an offset belongs to an aborted transaction. A batch belongs to one
// transaction, so its base offset decides.
func (a *Aborted) holds(producerID, offset int64) bool {
	if a == nil {
		return false
	}
	offsets := a.first[producerID]
	return len(offsets) > 0 && offset >= offsets[0]
}

// end removes the aborted transaction that the abort marker at this offset ends.
func (a *Aborted) end(producerID, offset int64) {
	if a.holds(producerID, offset) {
		a.first[producerID] = a.first[producerID][1:]
	}
}

// Admit chooses the route of one parsed batch. Every batch of a fetch response must pass through it in order, because abort markers remove
// entries of aborted; a nil aborted is empty. Only the first reason is returned: a batch that is rebuilt may have more of them, and [Rebuild]
// handles all.
//
// The checksum of a batch is verified before the batch is dropped: to trust a damaged header would lose records, and no later check would
// notice. The error is then a *[CorruptError]. It is a *[FormatError] for a malformed marker and for an unknown codec, which brokers answer
// with UNKNOWN_SERVER_ERROR.
func Admit(batch []byte, h Header, aborted *Aborted, rules Rules) (Route, Reason, error) {
	if reason := dropReason(h, aborted, rules.Wanted); reason != ReasonNone {
		if err := verify(batch, h); err != nil {
			return 0, ReasonNone, err
		}
		if reason == ReasonControl {
			if err := endAborted(batch, h, aborted); err != nil {
				return 0, ReasonNone, err
			}
		}
		return RouteDrop, reason, nil
	}
	if codec := h.Attributes.Codec(); codec > Zstd || (codec == Zstd && h.Magic < 2) {
		return 0, ReasonNone, formatError(h, "unknown codec %d in magic %d", codec, h.Magic)
	}
	if reason := rebuildReason(len(batch), h, rules); reason != ReasonNone {
		return RouteRebuild, reason, nil
	}
	return RouteForward, ReasonNone, nil
}

func dropReason(h Header, aborted *Aborted, wanted int64) Reason {
	beforeWanted := h.LastOffset() < wanted
	switch {
	case h.Magic < 2 && beforeWanted:
		return ReasonBeforeWanted
	case h.Magic < 2:
		return ReasonNone
	case h.Attributes.Control():
		return ReasonControl
	case h.Count == 0:
		return ReasonEmpty
	case h.Attributes.Transactional() && aborted.holds(h.ProducerID, h.BaseOffset):
		return ReasonAborted
	case beforeWanted:
		return ReasonBeforeWanted
	default:
		return ReasonNone
	}
}

func rebuildReason(size int, h Header, rules Rules) Reason {
	switch {
	case h.Magic < 2:
		return ReasonOldFormat
	case h.BaseOffset < rules.Wanted:
		return ReasonMidBatch
	case int64(h.LastOffsetDelta)+1 != int64(h.Count):
		return ReasonHoles
	case h.Attributes.LogAppendTime() && !rules.TargetLogAppendTime:
		return ReasonLogAppendTime
	case rules.MaxBytes > 0 && size > int(rules.MaxBytes):
		return ReasonTooLarge
	case rules.MaxRecords > 0 && h.Count > rules.MaxRecords:
		return ReasonSplit
	case rules.Provenance:
		return ReasonProvenance
	default:
		return ReasonNone
	}
}

// endAborted removes the transaction that a verified control batch aborts, if any.
func endAborted(batch []byte, h Header, aborted *Aborted) error {
	if h.Count == 0 { // the log cleaner removed the marker and kept the header; the records of the transaction are gone as well
		return nil
	}
	marker, err := parseControl(batch, h)
	if err != nil {
		return err
	}
	if marker == MarkerAbort {
		aborted.end(h.ProducerID, h.BaseOffset)
	}
	return nil
}

// Marker is what a control batch says about the transaction of its producer.
type Marker uint8

// The markers. MarkerOther is a control record of any other type, of which later versions of Kafka may have more: it ends no transaction, as
// for Kafka's consumer.
const (
	MarkerOther Marker = iota
	MarkerAbort
	MarkerCommit
)

// ParseMarker reads the type of a control batch. The producer id and epoch of the transaction are in the header of the batch. The error is a
// *[CorruptError] if the checksum does not match, and a *[FormatError] if the batch has no control record.
func ParseMarker(batch []byte) (Marker, error) {
	h, err := Parse(batch)
	if err != nil {
		return MarkerOther, err
	}
	if h.Magic < 2 || !h.Attributes.Control() || h.Count == 0 {
		return MarkerOther, formatError(h, "batch is not a marker")
	}
	if err := verify(batch, h); err != nil {
		return MarkerOther, err
	}
	return parseControl(batch, h)
}

// The types of control records of transactions. KRaft has others, in its metadata log only.
const (
	controlAbort  uint16 = 0
	controlCommit uint16 = 1
)

// parseControl reads the type of the first record of a control batch, as Kafka's consumer does. Control batches are never compressed.
func parseControl(batch []byte, h Header) (Marker, error) {
	if codec := h.Attributes.Codec(); codec != None {
		return MarkerOther, formatError(h, "control batch with codec %s", codec)
	}
	e, _, problem := readEntry(batch[HeaderSize:], h)
	if problem != "" {
		return MarkerOther, formatError(h, "control record: %s", problem)
	}
	var r Record
	if problem := readBody(e.body, &r); problem != "" {
		return MarkerOther, formatError(h, "control record: %s", problem)
	}
	if len(r.Key) < 4 { // int16 version, int16 type
		return MarkerOther, formatError(h, "control record: key of %d bytes", len(r.Key))
	}
	switch binary.BigEndian.Uint16(r.Key[2:]) {
	case controlAbort:
		return MarkerAbort, nil
	case controlCommit:
		return MarkerCommit, nil
	default:
		return MarkerOther, nil
	}
}
