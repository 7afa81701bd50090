package offsets

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// tail follows one partition of a compacted topic: it is read from its beginning once, and from there on what is new.
// Safe for concurrent use; readers of what it brought have a lock of their own, so that they wait for no network.
type tail struct {
	log  logReader
	turn chan struct{} // holds one token while somebody reads
	next int64         // offset to read on at; -1: begin anew. For the one whose turn it is.
	read atomic.Pointer[time.Time]
}

func newTail(leaders *topicLeaders, partition int32) *tail {
	return &tail{log: logReader{topicLeaders: leaders, partition: partition}, turn: make(chan struct{}, 1), next: -1}
}

// asOf is when the end was last reached, zero before.
func (t *tail) asOf() time.Time {
	if at := t.read.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// book is what a tail is read into. Its methods are called by one goroutine at a time.
type book interface {
	// restart forgets everything: the topic is read from its beginning.
	restart()
	// take notes records; nobody may see them yet, for more that belongs to them may follow.
	take(records []*kgo.Record) error
	// settle shows what was taken: the end is reached.
	settle(asOf time.Time)
}

// follow reads on to the end that the log has now. If somebody else did so since the call, it is done. After an error it
// goes on where it was.
func (t *tail) follow(ctx context.Context, b book) error {
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
	for range 3 { // a topic is not made again all the time
		began := time.Now()
		if err = t.readOn(ctx, b); err == nil {
			b.settle(began)
			t.read.Store(&began)
			return nil
		}
		if !errors.Is(err, errAnew) && !errors.Is(err, kerr.OffsetOutOfRange) {
			return err
		}
		t.next = -1
	}
	return err
}

func (t *tail) readOn(ctx context.Context, b book) error {
	end, err := t.log.offset(ctx, logEnd)
	if err != nil {
		return err
	}
	if t.next < 0 {
		start, err := t.log.offset(ctx, logStart)
		if err != nil {
			return err
		}
		b.restart()
		t.next = start
	}
	if end < t.next {
		return errAnew
	}
	return t.log.read(ctx, t.next, end, fetchBytes, func(records []*kgo.Record, next int64) error {
		if err := b.take(records); err != nil {
			return err
		}
		t.next = next
		return nil
	})
}

// again has the next follow begin anew: something that must be in the log was not found there.
func (t *tail) again(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	t.next = -1
	<-t.turn
	return nil
}
