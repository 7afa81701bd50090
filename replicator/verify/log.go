package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/time/rate"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// How long a broker may delay the response to a fetch that finds nothing. There always is something but where a log cleaner has removed it.
	fetchWait = 100 * time.Millisecond
	// How long a fetch may take in all.
	fetchTimeout = 20 * time.Second
	// The limit of a fetch response. A broker exceeds it if the first batch is larger.
	fetchBytes = 1 << 20
	// How many responses of a log are read ahead.
	readAhead = 1
	// After this long without an answer that helps, a log is given up.
	defaultPatience = time.Minute
	// The pause before a request is sent again.
	retryPause = 200 * time.Millisecond
	// After so many empty responses in a row, the log has nothing more below its end: a log cleaner has removed it.
	emptyResponses = 2
	// How long the copy and the isolation of the source may lag behind the journal, as after a change of the leader.
	endPatience = 15 * time.Second
)

// cluster is one of the two clusters, and how its logs are read.
type cluster struct {
	side      offsets.Side
	alias     string
	config    config.Cluster
	client    *kgo.Client
	fetcher   wire.Fetcher
	isolation int8
	limiter   *rate.Limiter // nil: unlimited
	maxBytes  int32         // of a response
	patience  time.Duration
	wait      func(ctx context.Context) error // before each fetch; nil: not at all
	// bounds returns the log start of a partition and the end of what can be read of it.
	bounds func(ctx context.Context, tp offsets.TopicPartition) (topics.Bound, error)

	mu   sync.Mutex
	view topics.View
	read time.Time // when the view was read
}

// logRange is a part of one log: offsets [from, to).
type logRange struct {
	offsets.TopicPartition
	id       [16]byte // of the topic
	from, to int64
}

// deletedError says that a log begins behind an offset that was wanted: retention, or DeleteRecords.
type deletedError struct {
	side  offsets.Side
	start int64 // of the log
}

func (e *deletedError) Error() string {
	return fmt.Sprintf("the %s log begins at offset %d", e.side, e.start)
}

// unreadableError says why a log cannot be read, as a sentence.
type unreadableError struct{ text string }

func (e *unreadableError) Error() string { return e.text }

func unreadable(format string, args ...any) error {
	return &unreadableError{fmt.Sprintf(format, args...)}
}

// setView takes the metadata of the cluster.
func (c *cluster) setView(v topics.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view, c.read = v, time.Now()
}

func (c *cluster) leader(tp offsets.TopicPartition) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view.Leader(tp)
}

// address returns host:port of a broker, empty if it is unknown.
func (c *cluster) address(broker int32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view.Brokers[broker]
}

// refresh reads the metadata, unless somebody else has done so since the moment at which it was found to be wrong.
func (c *cluster) refresh(ctx context.Context, since time.Time) {
	c.mu.Lock()
	fresh := c.read.After(since)
	c.mu.Unlock()
	if fresh {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if v, err := topics.Read(ctx, c.client); err == nil {
		c.setView(v)
	}
}

// listBounds asks the leader of a partition for its bounds.
func (c *cluster) listBounds(ctx context.Context, tp offsets.TopicPartition) (topics.Bound, error) {
	leader, list := c.leader(tp), []offsets.TopicPartition{tp}
	if leader < 0 {
		return topics.Bound{}, errNoLeader
	}
	start, _, err := wire.Bounds(ctx, c.client, leader, tp)
	if err != nil {
		return topics.Bound{}, err
	}
	ends, err := topics.ListEnds(ctx, c.client, leader, c.isolation, list)
	return topics.Bound{Start: start, End: ends[tp]}, err
}

// explain makes an error a sentence for a person.
func (c *cluster) explain(err error) error { return client.Explain(err, c.alias, c.config) }

// stream begins to read a part of a log. The caller cancels ctx and closes the stream when it is done.
func (c *cluster) stream(ctx context.Context, r logRange, dropped func(recordbatch.Reason, int64)) *stream {
	chunks := make(chan chunk, readAhead)
	if r.from >= r.to {
		close(chunks)
		return &stream{chunks: chunks, next: r.from, to: r.to, ended: true}
	}
	go c.follow(ctx, r, chunks)
	reread := func(ctx context.Context, offset int64) ([]byte, error) { return c.batchAt(ctx, r, offset) }
	return &stream{chunks: chunks, reread: reread, next: r.from, to: r.to, dropped: dropped}
}

// follow reads a part of a log, and sends it as chunks. It closes the channel at its end.
func (c *cluster) follow(ctx context.Context, r logRange, chunks chan<- chunk) {
	defer close(chunks)
	for next := r.from; ; {
		got, end, err := c.fetch(ctx, r, next)
		if err != nil {
			got = chunk{err: err}
		}
		select {
		case chunks <- got:
		case <-ctx.Done():
			if got.release != nil {
				got.release()
			}
			return
		}
		if err != nil || got.last {
			return
		}
		next = end
	}
}

// fetch reads the next chunk of a part of a log, from an offset on, and returns the offset behind it. It tries again after what may pass. The error is an
// *[unreadableError] or a *[deletedError], or that of ctx.
func (c *cluster) fetch(ctx context.Context, r logRange, offset int64) (chunk, int64, error) {
	for began, empty := time.Now(), 0; ; {
		if c.wait != nil {
			if err := c.wait(ctx); err != nil {
				return chunk{}, 0, err
			}
		}
		asked := time.Now()
		response, rp, err := c.ask(ctx, r, offset)
		switch {
		case ctx.Err() != nil:
			return chunk{}, 0, ctx.Err()
		case err == nil && len(rp.RecordBatches) > 0:
			return c.take(ctx, r, offset, response, rp)
		case err == nil && response.ThrottleMillis > 0: // such a response is empty whatever the log has (KIP-219)
		case err == nil:
			end := rp.HighWatermark
			if c.isolation == wire.ReadCommitted {
				end = min(end, rp.LastStableOffset)
			}
			if empty++; end >= r.to && empty >= emptyResponses {
				return chunk{last: true}, r.to, nil
			}
			if end < r.to && time.Since(began) > min(endPatience, c.patience) {
				return chunk{}, 0, unreadable("%s on cluster %s can be read up to offset %d only, but the journal says that it has what is below %d: it was truncated, or a transaction is open", r.TopicPartition, c.alias, end, r.to)
			}
		default:
			if err := c.judge(ctx, r, offset, err, time.Since(began)); err != nil {
				return chunk{}, 0, err
			}
			c.refresh(ctx, asked)
		}
		if err := client.Sleep(ctx, retryPause); err != nil {
			return chunk{}, 0, err
		}
	}
}

// judge returns why an error of a fetch is final, nil if the fetch may be tried again.
func (c *cluster) judge(ctx context.Context, r logRange, offset int64, err error, waited time.Duration) error {
	var refused *refusedError
	if errors.As(err, &refused) {
		switch refused.outcome {
		case wire.Denied:
			return unreadable("%s on cluster %s may not be read: grant READ on the topic to milena's user", r.TopicPartition, c.alias)
		case wire.Gone:
			if waited > min(endPatience, c.patience) {
				return unreadable("%s on cluster %s was deleted, or created anew", r.TopicPartition, c.alias)
			}
		case wire.OutOfRange:
			bound, failed := c.bounds(ctx, r.TopicPartition)
			if failed == nil && bound.Start > offset {
				return &deletedError{c.side, bound.Start}
			}
			if failed == nil && bound.End < offset && waited > min(endPatience, c.patience) {
				return unreadable("%s on cluster %s ends at offset %d, but the journal says that it has what is below %d: it was truncated", r.TopicPartition, c.alias, bound.End, r.to)
			}
		case wire.Fetched, wire.Moved, wire.RetryLater:
		}
	}
	if waited > c.patience {
		return unreadable("%s on cluster %s cannot be read: %v", r.TopicPartition, c.alias, c.explain(err))
	}
	return nil
}

// refusedError is the error code of a partition in a fetch response.
type refusedError struct {
	outcome wire.FetchOutcome
	err     error
}

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

var errNoLeader = errors.New("the partition has no leader")

// ask sends one fetch request.
func (c *cluster) ask(ctx context.Context, r logRange, offset int64) (*wire.FetchResponse, *kmsg.FetchResponseTopicPartition, error) {
	leader := c.leader(r.TopicPartition)
	if leader < 0 {
		return nil, nil, errNoLeader
	}
	request := wire.NewFetchRequest(fetchWait, c.maxBytes, c.isolation)
	request.Add(wire.FetchPartition{TopicPartition: r.TopicPartition, FetchOffset: wire.FetchOffset{TopicID: r.id, Offset: offset, LeaderEpoch: -1, LastEpoch: -1, MaxBytes: c.maxBytes}})
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	response, err := c.fetcher.Fetch(ctx, leader, request)
	if err != nil {
		return nil, nil, err
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return nil, nil, err
	}
	rp := wire.IndexFetch(response.FetchResponse).Of(r.TopicPartition, r.id)
	if rp == nil {
		return nil, nil, fmt.Errorf("the response of broker %d does not name the partition", leader)
	}
	if outcome := wire.ClassifyFetch(rp.ErrorCode); outcome != wire.Fetched {
		return nil, nil, &refusedError{outcome, kerr.ErrorForCode(rp.ErrorCode)}
	}
	return response, rp, nil
}

// take makes a chunk of a response with batches, after as long as its bytes may take.
func (c *cluster) take(ctx context.Context, r logRange, offset int64, response *wire.FetchResponse, rp *kmsg.FetchResponseTopicPartition) (chunk, int64, error) {
	if err := c.throttle(ctx, len(rp.RecordBatches)); err != nil {
		return chunk{}, 0, err
	}
	next := offset
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil { // the stream says so, too, when it comes to it
			break
		}
		next = max(next, batch.NextOffset())
	}
	if next == offset {
		return chunk{}, 0, unreadable("%s on cluster %s has something at offset %d that is no batch", r.TopicPartition, c.alias, offset)
	}
	return chunk{batches: rp.RecordBatches, aborted: wire.AbortedOf(rp), last: next >= r.to, release: response.Release}, next, nil
}

// throttle waits until so many bytes may be read.
func (c *cluster) throttle(ctx context.Context, bytes int) error {
	if c.limiter == nil {
		return nil
	}
	for bytes > 0 {
		n := min(bytes, c.limiter.Burst())
		if err := c.limiter.WaitN(ctx, n); err != nil {
			return err
		}
		bytes -= n
	}
	return nil
}

// batchAt reads the batch that begins at an offset once more.
func (c *cluster) batchAt(ctx context.Context, r logRange, offset int64) ([]byte, error) {
	got, _, err := c.fetch(ctx, r, offset)
	if err != nil {
		return nil, err
	}
	for batch, err := range recordbatch.Each(got.batches) {
		if err != nil {
			return nil, err
		}
		if batch.BaseOffset == offset {
			return batch.Bytes, nil
		}
	}
	return nil, unreadable("%s on cluster %s had a batch at offset %d a moment ago, and now it has not", r.TopicPartition, c.alias, offset)
}
