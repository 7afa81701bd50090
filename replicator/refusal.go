package replicator

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

const (
	// MaxRefusals is how many times in a row the target may refuse the same batch before that is no accident. A payload that was corrupted in
	// transit is intact when it is fetched again.
	maxRefusals = 3
	// MaxUnexplained is the same for UNKNOWN_SERVER_ERROR, which is the response of Kafka 4.x to a corrupt compressed payload with a valid
	// checksum, and that of a broker in trouble to anything.
	maxUnexplained = 5
)

// refuseLocked records that the target refused the first batch for its content. The partition pauses before the batch is fetched again. The
// partition's lock is held.
func (f *Flow) refuseLocked(p *partition, answer *kmsg.ProduceResponseTopicPartition, enough int) {
	accepted := int32(-1)
	for _, r := range answer.ErrorRecords { // KIP-467
		if accepted < 0 || r.RelativeOffset < accepted {
			accepted = r.RelativeOffset
		}
	}
	switch {
	case accepted >= 0:
		enough = 1 // it names records whose checksum it has verified
	case p.acked < p.split.until:
		enough = maxRefusals // a part of a batch that was refused often enough
	}
	p.outbox.refuse(refusalText(answer), enough, accepted)
	p.cursor.delay(p.outbox.refusalPause(f.options.Pauses.Refused))
}

// refusalText returns what the target said about a batch: the error code, its message, and that about the first record.
func refusalText(answer *kmsg.ProduceResponseTopicPartition) string {
	parts := []string{kerr.ErrorForCode(answer.ErrorCode).Error()}
	if answer.ErrorMessage != nil {
		parts = append(parts, *answer.ErrorMessage)
	}
	if len(answer.ErrorRecords) > 0 && answer.ErrorRecords[0].ErrorMessage != nil {
		parts = append(parts, *answer.ErrorRecords[0].ErrorMessage)
	}
	return strings.Join(parts, ": ")
}

// decideRefusalLocked decides what follows once the target has certainly refused a batch. A batch of several records is split until the records
// that the target refuses are known, so that their neighbours are copied. A single record is an anomaly. It reports whether the partition
// continues. The queue is empty, and the partition's lock is held.
func (f *Flow) decideRefusalLocked(p *partition) bool {
	r := p.refusal
	switch {
	case r.times > 0 && p.acked > r.from:
		p.outbox.forgetRefusal()
		return true
	case !p.outbox.isRefusalCertain():
		return true
	case r.count > 1:
		p.outbox.narrow()
		f.log.Info("target refused a batch, splitting it", append(p.logAttrs(), "from", r.from, "to", r.to, "records", p.split.records, "err", r.why)...)
		return true
	}
	detail := fmt.Sprintf("the target refused the record at source offset %d: %s; the record has %s", r.from, r.why, r.record)
	if f.raiseLocked(p, policy.RecordRefused, r.from, r.from+1, detail) != policy.Skip {
		p.outbox.forgetRefusal()
		return false
	}
	p.outbox.leaveOut()
	if err := p.dropLocked(r.from+1, r.leaderEpoch); err != nil {
		f.haltLocked(p, policy.RecordRefused, r.from, r.from+1, err.Error())
		return false
	}
	return true
}

// describeRecord describes the only record of a batch, so that a person can find out what is wrong with it.
func describeRecord(batch []byte) string {
	records, err := recordbatch.Decode(batch)
	if err != nil || len(records) == 0 {
		return fmt.Sprintf("a batch of %d bytes that cannot be decoded (%v)", len(batch), err)
	}
	r := records[0]
	return fmt.Sprintf("timestamp %d (%s), key %s, value %s", r.Timestamp, time.UnixMilli(r.Timestamp).UTC().Format(time.RFC3339), describeBytes(r.Key), describeBytes(r.Value))
}

// describeBytes returns the beginning of a key or value.
func describeBytes(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) > 40:
		return fmt.Sprintf("%.40q... (%d bytes)", b, len(b))
	}
	return fmt.Sprintf("%q", b)
}
