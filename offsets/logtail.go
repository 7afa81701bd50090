package offsets

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// logTail follows one partition of a compacted topic: it reads it from the start once, and then only what is new.
// Safe for concurrent use. The data that was read has its own lock, so that its readers do not wait for the network.
type logTail struct {
	log  logReader
	turn chan struct{} // holds one token while a goroutine reads
	next int64         // offset to continue at; -1: the start of the log. Guarded by turn.
	from time.Time     // when reading from the start last began. Guarded by turn.
	read atomic.Pointer[time.Time]
}

// newLogTail returns a tail that tells tooLarge of batches that it leaves out.
func newLogTail(leaders *topicLeaders, partition int32, tooLarge func(*kgo.ErrDecompressTooLarge)) *logTail {
	return &logTail{log: logReader{topicLeaders: leaders, partition: partition, tooLarge: tooLarge}, turn: make(chan struct{}, 1), next: -1}
}

// asOf returns when the end was last reached, the zero time before that.
func (t *logTail) asOf() time.Time {
	if at := t.read.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// logSink receives the records of a logTail. Its methods are called by one goroutine at a time.
type logSink interface {
	// reset discards everything: the topic is read from its start.
	reset()
	// add receives records. If records depend on each other, they must not be visible before publish, because more that
	// belong to them may follow.
	add(records []*kgo.Record) error
	// publish makes the records visible: the end is reached.
	publish(asOf time.Time)
}

// follow reads on to the current end of the log. If another goroutine reached the end since the call, it returns at
// once. After an error the next call continues where this one stopped.
func (t *logTail) follow(ctx context.Context, sink logSink) error {
	asked := time.Now()
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.turn }()
	if t.asOf().After(asked) {
		return nil
	}
	var err error
	for range 3 { // a topic is not created again all the time
		began := time.Now()
		if err = t.readOn(ctx, sink); err == nil {
			sink.publish(began)
			t.read.Store(&began)
			return nil
		}
		if !errors.Is(err, errLogChanged) && !errors.Is(err, kerr.OffsetOutOfRange) {
			return err
		}
		t.next = -1
	}
	return err
}

func (t *logTail) readOn(ctx context.Context, sink logSink) error {
	end, err := t.log.offset(ctx, logEnd)
	if err != nil {
		return err
	}
	if t.next < 0 {
		start, err := t.log.offset(ctx, logStart)
		if err != nil {
			return err
		}
		sink.reset()
		t.next, t.from = start, time.Now()
	}
	if end < t.next {
		return errLogChanged
	}
	return t.log.read(ctx, t.next, end, fetchBytes, func(records []*kgo.Record, next int64) error {
		if err := sink.add(records); err != nil {
			return err
		}
		t.next = next
		return nil
	})
}

// rewind makes the next follow read from the start, because something that must be in the log was not found there. It returns false, and changes
// nothing, if reading from the start began less than some time ago.
func (t *logTail) rewind(ctx context.Context, age time.Duration) (bool, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-t.turn }()
	if time.Since(t.from) < age {
		return false, nil
	}
	t.next = -1
	return true, nil
}
