package mm2

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// maxSourceReads is how often a scan reads a source that returns nothing, over some 30 s.
const maxSourceReads = 40

// sourceReader reads the source of a scan into the window of its matcher.
type sourceReader struct {
	partition offsets.TopicPartition
	log       SourceLog
	isolation int8
	hasher    match.Hasher
	matcher   *match.Matcher

	next  int64 // offset of the next read
	end   int64 // exclusive
	first int64 // of the first record that was read, end if there is none
	// open says that the records from here on may belong to transactions that have not ended.
	open bool
}

func newSourceReader(c Copy, h match.Hasher, m *match.Matcher, from, end int64) *sourceReader {
	return &sourceReader{partition: c.Source, log: c.SourceLog, isolation: c.Isolation, hasher: h, matcher: m, next: from, end: end, first: end}
}

// extend reads more of the source into the window. It retries while brokers do not answer, but only for a while: the scans of other partitions
// wait for this one, and the source's end may have moved back (an unclean leader election).
func (r *sourceReader) extend(ctx context.Context) error {
	var reason error
	for attempt := 0; !r.matcher.Ended; attempt++ {
		if r.next >= r.end {
			r.matcher.Ended = true
			return nil
		}
		if attempt >= maxSourceReads {
			return fmt.Errorf("compare the copy of source %s: no records from offset %d on, below its end %d (%w); retrying", r.partition, r.next, r.end, reason)
		}
		done, err := r.read(ctx)
		if done {
			return err
		}
		if err == nil {
			continue // read again, at another isolation level
		}
		reason = err
		if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
			return err
		}
	}
	return nil
}

// read reads once. Done says that the window has grown, or that retrying does not help.
func (r *sourceReader) read(ctx context.Context) (done bool, err error) {
	isolation := r.isolation
	if r.open {
		isolation = wire.ReadUncommitted
	}
	rp, err := r.log.Read(ctx, r.next, isolation)
	if err == nil {
		if err = kerr.ErrorForCode(rp.ErrorCode); err != nil {
			if start, _, listErr := r.log.Bounds(ctx); listErr == nil && start > r.next {
				r.next = start // retention has deleted the records before it
			}
		}
	}
	if err != nil {
		return false, err
	}
	before := r.next
	switch err := r.add(rp); {
	case err != nil, r.next > before:
		return true, err
	case isolation == wire.ReadCommitted && rp.LastStableOffset <= r.next:
		r.open = true
		return false, nil
	}
	return false, errors.New("empty fetch response")
}

// add adds the records of one fetch response. It advances to the end of each batch, not to its last record, because the cleaner may have
// removed the last records of a batch. If the flow drops aborted records, they are left out here as well: the producer may have written the
// same records again.
func (r *sourceReader) add(rp *kmsg.FetchResponseTopicPartition) error {
	aborted := wire.AbortedOf(rp)
	for b, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return err
		}
		if b.NextOffset() <= r.next && b.Magic == 2 {
			continue
		}
		route, _, err := recordbatch.Admit(b.Bytes, b.Header, &aborted, recordbatch.Rules{})
		if err != nil {
			return fmt.Errorf("source %s: %w", r.partition, err)
		}
		if route != recordbatch.RouteDrop {
			if err := r.addBatch(b); err != nil {
				return err
			}
		}
		r.next = max(r.next, b.NextOffset())
	}
	return nil
}

func (r *sourceReader) addBatch(b recordbatch.Batch) error {
	records, err := recordbatch.Decode(b.Bytes)
	if err != nil {
		return fmt.Errorf("source %s: %w", r.partition, err)
	}
	for i := range records {
		record := &records[i]
		if record.Offset < r.next {
			continue
		}
		if record.Timestamp < 0 && r.hasher.Timestamps {
			return match.ErrBrokerTime // it has none, as in message format 0: MirrorMaker 2's producer set the time of copying
		}
		r.first = min(r.first, record.Offset)
		r.matcher.Add(match.SourceRecord{Offset: record.Offset, Hash: r.hasher.Hash(record), Optional: b.Attributes.Transactional() && r.open})
	}
	return nil
}
