package verify

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// chunk is one fetch response of a log: whole batches, in order.
type chunk struct {
	batches []byte
	aborted recordbatch.Aborted
	// last says that no batch follows that begins below the end of what was asked for.
	last    bool
	release func() // gives the memory of the batches back; nil if there is none
	err     error  // why there is no chunk; none follows
}

// stream is what is read of one log, from an offset to another: a head and what follows it. The head is a batch that was not looked into, or the first
// of the records of a batch, or a batch that is damaged. Control batches, aborted records and batches without records are left out, and counted.
type stream struct {
	chunks  <-chan chunk
	reread  func(ctx context.Context, offset int64) ([]byte, error) // reads the batch at an offset once more
	to      int64                                                   // exclusive
	dropped func(reason recordbatch.Reason, records int64)

	current chunk
	rest    []byte // of the current chunk
	ended   bool

	next       int64 // the offset behind everything that was taken
	batch      recordbatch.Batch
	whole      bool // the batch is the head
	records    []recordbatch.Record
	brokerTime bool // the broker of the log set the timestamps of the records
	damaged    *damage
}

// damage is a batch of which nothing is known but its offsets, [from, to).
type damage struct {
	from, to int64
	err      error
}

// fill finds the next head. At the end of the stream there is none.
func (s *stream) fill(ctx context.Context) error {
	for !s.whole && len(s.records) == 0 && s.damaged == nil && !s.ended {
		if len(s.rest) > 0 {
			if err := s.nextBatch(ctx); err != nil {
				return err
			}
			continue
		}
		if s.current.last {
			s.end()
			continue
		}
		s.releaseChunk()
		select {
		case s.current = <-s.chunks:
		case <-ctx.Done():
			return ctx.Err()
		}
		if s.current.err != nil {
			return s.current.err
		}
		s.rest = s.current.batches
	}
	return nil
}

// nextBatch takes the next batch of the chunk. If it has wanted records, it is the head.
func (s *stream) nextBatch(ctx context.Context) error {
	bytes, rest, err := recordbatch.Next(s.rest)
	if errors.Is(err, recordbatch.ErrTruncated) {
		s.rest = nil
		return nil
	}
	var h recordbatch.Header
	if err == nil {
		h, err = recordbatch.Parse(bytes)
	}
	if err != nil {
		return fmt.Errorf("what follows offset %d cannot be read: %w", s.next, err)
	}
	s.rest = rest
	switch {
	case h.BaseOffset >= s.to:
		s.end()
		return nil
	case h.Magic == 2 && h.NextOffset() <= s.next:
		return nil
	}
	rules := recordbatch.Rules{Wanted: s.next}
	route, reason, err := recordbatch.Admit(bytes, h, &s.current.aborted, rules)
	if err != nil { // a batch that would be left out is damaged, perhaps on its way
		if bytes, err = s.reread(ctx, h.BaseOffset); err != nil {
			return err
		}
		if h, err = recordbatch.Parse(bytes); err != nil {
			return err
		}
		route, reason, err = recordbatch.Admit(bytes, h, &s.current.aborted, rules)
	}
	switch {
	case err != nil:
		s.setDamaged(h, err)
	case route == recordbatch.RouteDrop:
		s.dropped(reason, int64(h.Count))
		s.next = max(s.next, h.NextOffset())
	default:
		s.batch, s.whole = recordbatch.Batch{Header: h, Bytes: bytes}, true
	}
	return nil
}

func (s *stream) setDamaged(h recordbatch.Header, err error) {
	s.damaged = &damage{from: max(h.BaseOffset, s.next), to: min(max(h.NextOffset(), s.next+1), s.to), err: err}
}

// end ends the stream: nothing follows.
func (s *stream) end() {
	s.ended = true
	s.rest, s.next = nil, s.to
	s.releaseChunk()
}

func (s *stream) releaseChunk() {
	if s.current.release != nil {
		s.current.release()
		s.current.release = nil
	}
}

// head returns the offset of the head, the largest number at the end of the stream. Before format 2 a batch does not say where it begins, so the
// result is a lower bound until it is decoded.
func (s *stream) head() int64 {
	switch {
	case len(s.records) > 0:
		return s.records[0].Offset
	case s.damaged != nil:
		return s.damaged.from
	case s.whole && s.batch.Magic == 2:
		return max(s.batch.BaseOffset, s.next)
	case s.whole:
		return s.next
	default:
		return math.MaxInt64
	}
}

// takeBatch takes the head, a batch.
func (s *stream) takeBatch() {
	s.whole = false
	s.next = s.batch.NextOffset()
}

// decode looks into the head, a batch. A batch that is damaged is read once more, because it may have been damaged on its way.
func (s *stream) decode(ctx context.Context) error {
	if !s.whole {
		return nil
	}
	s.whole = false
	records, err := recordbatch.Decode(s.batch.Bytes)
	if err != nil {
		again, failed := s.reread(ctx, s.batch.BaseOffset)
		if failed != nil {
			return failed
		}
		if records, err = recordbatch.Decode(again); err != nil {
			s.setDamaged(s.batch.Header, err)
			return nil
		}
	}
	for len(records) > 0 && records[0].Offset < s.next {
		records = records[1:]
	}
	for n := len(records); n > 0 && records[n-1].Offset >= s.to; n-- {
		records = records[:n-1]
	}
	s.records, s.brokerTime = records, s.batch.Attributes.LogAppendTime()
	if len(records) == 0 {
		s.next = max(s.next, min(s.batch.NextOffset(), s.to))
	}
	return nil
}

// takeRecord takes the head, a record.
func (s *stream) takeRecord() {
	s.next = s.records[0].Offset + 1
	if s.records = s.records[1:]; len(s.records) == 0 {
		s.next = max(s.next, min(s.batch.NextOffset(), s.to))
	}
}

// takeDamaged takes the head, a damaged batch.
func (s *stream) takeDamaged() {
	s.next = s.damaged.to
	s.damaged = nil
}

// close gives back what is held. The channel of chunks must have been closed, or be about to.
func (s *stream) close() {
	s.releaseChunk()
	for c := range s.chunks {
		if c.release != nil {
			c.release()
		}
	}
}
