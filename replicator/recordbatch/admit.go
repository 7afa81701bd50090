package recordbatch

import (
	"encoding/binary"
	"slices"
)

// Route is the way a batch goes.
type Route uint8

// The lanes. The zero value is none of them: [Admit] returns it beside an error.
const (
	// RouteForward: [Rewrite] the header and send the batch as it is.
	RouteForward Route = iota + 1
	// RouteRebuild: [Rebuild] the batch and send the parts.
	RouteRebuild
	// RouteDrop: send nothing and go on at [Header.NextOffset].
	RouteDrop
)

// String returns the lane's metric label.
func (l Route) String() string {
	switch l {
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

// Reason says why a batch is not simply forwarded.
type Reason uint8

// The reasons, in the order in which [Admit] looks for them.
const (
	// ReasonNone goes with RouteForward.
	ReasonNone Reason = iota
	// ReasonOldFormat: magic 0 or 1; brokers take only version 2 since Produce v3.
	ReasonOldFormat
	// ReasonControl: markers of the source's transactions; a client cannot write markers.
	ReasonControl
	// ReasonEmpty: the log cleaner kept a header without records, for the producer's state (KAFKA-5443).
	ReasonEmpty
	// ReasonAborted: written in a transaction that was aborted.
	ReasonAborted
	// ReasonBeforeWanted: the whole batch lies below the wanted offset.
	ReasonBeforeWanted
	// ReasonMidBatch: the wanted offset lies inside the batch; the records below it are on the target already.
	ReasonMidBatch
	// ReasonHoles: the log cleaner removed records; brokers refuse a batch whose offsets are not 0, 1, 2 and so on.
	ReasonHoles
	// ReasonLogAppendTime: the source's broker stamped the batch and the target's topic keeps create times, so that readers would see
	// the producers' times come back unless the records are stamped.
	ReasonLogAppendTime
	// ReasonTooLarge: larger than the target's max.message.bytes.
	ReasonTooLarge
	// ReasonProvenance: each record gets a header that says where it comes from.
	ReasonProvenance
	// ReasonCycle: every record has been on the target before. Admit does not look into batches; Rebuild leaves nothing of them.
	ReasonCycle
)

// String returns the reason's metric label; it is empty for a plain forward.
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
	case ReasonProvenance:
		return "provenance"
	case ReasonCycle:
		return "cycle"
	default:
		return "unknown"
	}
}

// Rules are what admission needs to know besides the batch.
type Rules struct {
	// Wanted is the first source offset that is not on the target yet.
	Wanted int64
	// MaxBytes is the target topic's max.message.bytes; 0 means unknown, and then nothing is too large.
	MaxBytes int32
	// TargetLogAppendTime says that the target topic has message.timestamp.type=LogAppendTime.
	TargetLogAppendTime bool
	// Provenance says that records are marked, so that no batch passes as it is.
	Provenance bool
}

// AbortedTransaction is one entry of a fetch response's list of aborted transactions.
type AbortedTransaction struct {
	ProducerID int64
	// FirstOffset is the source offset of the transaction's first record, inclusive.
	FirstOffset int64
}

// Aborted is the list of aborted transactions of one partition of one fetch response, as far as it is not used up: [Admit] takes an
// entry out when it meets its abort marker. The list of a response is complete for that response, so nothing is kept between two of
// them, as long as every batch of a response passes through Admit in order. The zero value is the empty list.
type Aborted struct {
	first map[int64][]int64 // by producer id, ascending first offsets
}

// NewAborted returns the list of one partition of one fetch response. The entries may be in any order (Kafka sorts them by offset,
// Redpanda does not); list is not kept.
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

// holds reports whether a transactional batch of this producer at this offset belongs to an aborted transaction. A batch belongs to one
// transaction, so its first offset decides for all of it.
func (a *Aborted) holds(producerID, offset int64) bool {
	if a == nil {
		return false
	}
	offsets := a.first[producerID]
	return len(offsets) > 0 && offset >= offsets[0]
}

// end takes out the aborted transaction that the abort marker at this offset ends.
func (a *Aborted) end(producerID, offset int64) {
	if a.holds(producerID, offset) {
		a.first[producerID] = a.first[producerID][1:]
	}
}

// Admit decides the lane of one parsed batch. Every batch of a fetch response must pass through it in order, because abort markers use up
// the entries of aborted; a nil aborted is the empty list. The first reason found decides, so a batch that is rebuilt for one reason may
// have others as well: [Rebuild] takes care of all of them at once.
//
// A batch that would be dropped is verified first: dropping on the word of a damaged header would lose records, and no later check would
// notice. The error is then a *[CorruptError]. It is a *[FormatError] for a malformed marker and for a codec that is not known here, which
// brokers answer with UNKNOWN_SERVER_ERROR.
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
	case rules.Provenance:
		return ReasonProvenance
	default:
		return ReasonNone
	}
}

// endAborted feeds a verified control batch to the list.
func endAborted(batch []byte, h Header, aborted *Aborted) error {
	if h.Count == 0 { // the cleaner removed the marker and kept the header; its transaction's records are gone as well
		return nil
	}
	kind, _, err := parseControl(batch, h)
	if err != nil {
		return err
	}
	if kind == controlAbort {
		aborted.end(h.ProducerID, h.BaseOffset)
	}
	return nil
}

// The types of control records that belong to transactions. KRaft has others, in its metadata log only.
const (
	controlAbort  int16 = 0
	controlCommit int16 = 1
)

// ParseMarker reads the transaction marker of a control batch: whether it commits, and the epoch of the transaction coordinator that
// wrote it. Producer id and epoch of the transaction are in the batch's header. A marker whose bytes do not match their checksum is a
// *[CorruptError]; a batch that holds no transaction marker is a *[FormatError].
func ParseMarker(batch []byte) (commit bool, coordinatorEpoch int32, err error) {
	h, err := Parse(batch)
	if err != nil {
		return false, 0, err
	}
	if h.Magic < 2 || !h.Attributes.Control() || h.Count == 0 {
		return false, 0, formatError(h, "batch holds no marker")
	}
	if err := verify(batch, h); err != nil {
		return false, 0, err
	}
	kind, value, err := parseControl(batch, h)
	if err != nil {
		return false, 0, err
	}
	if kind != controlAbort && kind != controlCommit {
		return false, 0, formatError(h, "control type %d is no transaction marker", kind)
	}
	if len(value) < 6 { // int16 version, int32 coordinator epoch; later versions may only append
		return false, 0, formatError(h, "marker value of %d bytes", len(value))
	}
	return kind == controlCommit, int32(binary.BigEndian.Uint32(value[2:])), nil
}

// parseControl reads type and value of the first record of a control batch, as Kafka's consumer does. Control batches are never
// compressed. The value aliases batch.
func parseControl(batch []byte, h Header) (kind int16, value []byte, err error) {
	if codec := h.Attributes.Codec(); codec != None {
		return 0, nil, formatError(h, "control batch with codec %s", codec)
	}
	e, _, problem := readEntry(batch[HeaderSize:], h)
	if problem != "" {
		return 0, nil, formatError(h, "control record: %s", problem)
	}
	var r Record
	if problem := readBody(e.body, &r); problem != "" {
		return 0, nil, formatError(h, "control record: %s", problem)
	}
	if len(r.Key) < 4 { // int16 version, int16 type
		return 0, nil, formatError(h, "control record: key of %d bytes", len(r.Key))
	}
	return int16(binary.BigEndian.Uint16(r.Key[2:])), r.Value, nil
}
