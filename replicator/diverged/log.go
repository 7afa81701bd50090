package diverged

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// How long a broker may delay the response to a fetch that finds nothing.
	fetchWait = 100 * time.Millisecond
	// How long a fetch may take in all.
	fetchTimeout = 20 * time.Second
	// The limit of a fetch response. A broker exceeds it if the first batch is larger.
	fetchBytes = 1 << 20
	// After this long without progress, a log is given up.
	patience = 30 * time.Second
	// The pause before a request is sent again.
	retryPause = 100 * time.Millisecond
	// After so many empty responses in a row, the log has nothing more below its end: a log cleaner has removed it.
	emptyResponses = 2
	// How long reading the metadata of a cluster may take.
	metadataTimeout = 30 * time.Second
)

// cluster is one of the two clusters, and how its logs are read.
type cluster struct {
	alias   string
	client  *kgo.Client
	explain func(error) error // makes an error a sentence for a person
	copied  map[int64]bool    // producer ids of the flow that copies into it, if that is the other half of a pair: its batches do not diverge

	mu    sync.Mutex
	known topics.View
	read  time.Time // when it was read
}

// logRange is a part of one log: offsets [from, to).
type logRange struct {
	offsets.TopicPartition
	id        [16]byte // of the topic
	isolation int8
	from, to  int64
}

// visitor receives what a part of a log has.
type visitor struct {
	// batch gets every batch in order, and the aborted transactions of its response. With more false, nothing follows.
	batch func(b recordbatch.Batch, aborted *recordbatch.Aborted) (more bool, err error)
	// deleted is told that the log begins behind what was to come. nil: nobody minds.
	deleted func(start int64)
}

// refresh reads the metadata, unless somebody else has done so since a moment.
func (c *cluster) refresh(ctx context.Context, since time.Time) (topics.View, error) {
	c.mu.Lock()
	view, fresh := c.known, c.read.After(since)
	c.mu.Unlock()
	if fresh {
		return view, nil
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	view, err := topics.Read(ctx, c.client)
	if err != nil {
		return view, c.explain(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.read = view, time.Now()
	return view, nil
}

// view is the newest metadata.
func (c *cluster) view() topics.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// follow reads a part of a log. It tries again after what may pass. An error of the log names it; others are those of the visitor, or of ctx.
func (c *cluster) follow(ctx context.Context, r logRange, v visitor) error {
	progressed, empty := time.Now(), 0
	for r.from < r.to {
		asked := time.Now()
		rp, throttled, err := c.fetch(ctx, r)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && len(rp.RecordBatches) > 0:
			next, more, err := v.visit(r, rp)
			if err != nil || !more {
				return err
			}
			if next == r.from {
				return fmt.Errorf("%s on cluster %s has something at offset %d that is no batch", r.TopicPartition, c.alias, r.from)
			}
			r.from, empty, progressed = next, 0, time.Now()
			continue
		case err == nil && throttled: // such a response is empty whatever the log has (KIP-219)
		case err == nil:
			if empty++; r.readableEnd(rp) >= r.to && empty >= emptyResponses {
				return nil
			}
			err = fmt.Errorf("it can be read up to offset %d only", r.readableEnd(rp))
		default:
			start, failed := c.start(ctx, r.TopicPartition, err)
			if failed == nil && start > r.from {
				if v.deleted != nil {
					v.deleted(start)
				}
				r.from, progressed = start, time.Now()
				continue
			}
			_, _ = c.refresh(ctx, asked) // the next fetch tells
		}
		if time.Since(progressed) > patience {
			return fmt.Errorf("%s on cluster %s cannot be read from offset %d on: %w", r.TopicPartition, c.alias, r.from, c.explain(err))
		}
		if err := client.Sleep(ctx, retryPause); err != nil {
			return err
		}
	}
	return nil
}

// start returns the first offset of a log, if a fetch was refused as out of its range.
func (c *cluster) start(ctx context.Context, tp offsets.TopicPartition, refused error) (int64, error) {
	if !errors.Is(refused, kerr.OffsetOutOfRange) {
		return 0, refused
	}
	start, _, err := wire.Bounds(ctx, c.client, c.view().Leader(tp), tp)
	return start, err
}

// readableEnd is the end of what can be read, according to a response.
func (r logRange) readableEnd(rp *kmsg.FetchResponseTopicPartition) int64 {
	if r.isolation == wire.ReadCommitted {
		return min(rp.HighWatermark, rp.LastStableOffset)
	}
	return rp.HighWatermark
}

var errNoLeader = errors.New("the partition has no leader")

// fetch sends one request for what a log has from an offset on.
func (c *cluster) fetch(ctx context.Context, r logRange) (rp *kmsg.FetchResponseTopicPartition, throttled bool, err error) {
	leader := c.view().Leader(r.TopicPartition)
	if leader < 0 {
		return nil, false, errNoLeader
	}
	request := wire.NewFetchRequest(fetchWait, fetchBytes, r.isolation)
	request.Add(wire.FetchPartition{TopicPartition: r.TopicPartition, FetchOffset: wire.FetchOffset{TopicID: r.id, Offset: r.from, LeaderEpoch: -1, LastEpoch: -1, MaxBytes: fetchBytes}})
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	response, err := wire.Kgo{Client: c.client, Observe: func(string, time.Duration, error) {}}.Fetch(ctx, leader, request)
	if err != nil {
		return nil, false, err
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return nil, false, err
	}
	rp = wire.IndexFetch(response.FetchResponse).Of(r.TopicPartition, r.id)
	if rp == nil {
		return nil, false, fmt.Errorf("the response of broker %d does not name the partition", leader)
	}
	return rp, response.ThrottleMillis > 0, kerr.ErrorForCode(rp.ErrorCode)
}

// visit passes the batches of a response, and returns the offset behind them.
func (v visitor) visit(r logRange, rp *kmsg.FetchResponseTopicPartition) (next int64, more bool, err error) {
	next = r.from
	aborted := wire.AbortedOf(rp)
	for b, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return next, false, fmt.Errorf("what follows offset %d of %s cannot be read: %w", next, r.TopicPartition, err)
		}
		if b.Magic == 2 && b.BaseOffset >= r.to {
			return next, false, nil
		}
		if b.NextOffset() <= r.from {
			continue // before the offset that was asked for
		}
		if more, err := v.batch(b, &aborted); err != nil || !more {
			return next, false, err
		}
		next = max(next, b.NextOffset())
	}
	return next, true, nil
}

// records passes the batches with records that are neither aborted nor markers, in order.
func (c *cluster) records(ctx context.Context, r logRange, batch func(recordbatch.Batch) error) error {
	return c.follow(ctx, r, visitor{batch: func(b recordbatch.Batch, aborted *recordbatch.Aborted) (bool, error) {
		route, _, err := recordbatch.Admit(b.Bytes, b.Header, aborted, recordbatch.Rules{Wanted: r.from})
		if c.copied[b.ProducerID] && b.Magic >= 2 {
			return true, nil
		}
		if err == nil && route != recordbatch.RouteDrop {
			err = batch(b)
		}
		return err == nil, damaged(r, b, err)
	}})
}

// damaged names the log and the batch of an error about its bytes. Others stay as they are.
func damaged(r logRange, b recordbatch.Batch, err error) error {
	var corrupt *recordbatch.CorruptError
	var format *recordbatch.FormatError
	if errors.As(err, &corrupt) || errors.As(err, &format) {
		return fmt.Errorf("the batch at offset %d of %s is damaged: %w", b.BaseOffset, r.TopicPartition, err)
	}
	return err
}
