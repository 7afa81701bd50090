package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
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
	// NextWait is how long a broker may delay the response to a fetch that finds nothing.
	nextWait = 50 * time.Millisecond
	// NextBytes is the limit of a fetch response. A broker exceeds it if the first batch is larger.
	nextBytes = 64 << 10
	// NextPatience is how long one log may give errors.
	nextPatience = 10 * time.Second
	// EmptyResponses in a row below the end of a log mean that a log cleaner has removed the rest.
	emptyResponses = 2
)

// logs read single records of a cluster, as its consumers would.
type logs struct {
	client    *kgo.Client
	explain   func(error) error
	isolation int8
	view      topics.View
}

func newLogs(ctx context.Context, cl *kgo.Client, explain func(error) error, isolation int8) (*logs, error) {
	view, err := topics.Read(ctx, cl)
	if err != nil {
		return nil, explain(err)
	}
	return &logs{client: cl, explain: explain, isolation: isolation, view: view}, nil
}

// next is what a consumer reads first at an offset.
type next struct {
	record *recordbatch.Record // nil if there is nothing to read up to the end
	start  int64               // the beginning of the log, if the offset is before it, else 0
}

// next returns what a consumer reads first from an offset on: the next record that is neither aborted nor a marker.
func (l *logs) next(ctx context.Context, tp offsets.TopicPartition, from int64) (next, error) {
	found, empty, failing := next{}, 0, time.Time{}
	for {
		rp, throttled, err := l.fetch(ctx, tp, from)
		switch {
		case ctx.Err() != nil:
			return found, ctx.Err()
		case errors.Is(err, kerr.OffsetOutOfRange):
			start, end, failed := wire.Bounds(ctx, l.client, l.view.Leader(tp), tp)
			switch {
			case failed == nil && start > from:
				from, found.start = start, start
				continue
			case failed == nil && from > end:
				return found, nil // beyond the end there is nothing
			}
			err = errors.Join(err, failed)
		case err == nil:
			failing = time.Time{}
			record, behind, err := l.first(tp, rp, from)
			if record != nil || err != nil {
				found.record = record
				return found, err
			}
			if behind > from {
				from, empty = behind, 0
				continue
			}
			if throttled { // such a response is empty whatever the log has (KIP-219)
				break
			}
			if empty++; from >= l.end(rp) || empty >= emptyResponses {
				return found, nil
			}
			continue
		}
		if failing.IsZero() {
			failing = time.Now()
		}
		if err != nil && time.Since(failing) > nextPatience {
			return found, fmt.Errorf("read %s from offset %d: %w", tp, from, l.explain(err))
		}
		if err := client.Sleep(ctx, lookEvery); err != nil {
			return found, err
		}
	}
}

func (l *logs) end(rp *kmsg.FetchResponseTopicPartition) int64 {
	if l.isolation == wire.ReadCommitted {
		return min(rp.HighWatermark, rp.LastStableOffset)
	}
	return rp.HighWatermark
}

func (l *logs) fetch(ctx context.Context, tp offsets.TopicPartition, from int64) (rp *kmsg.FetchResponseTopicPartition, throttled bool, err error) {
	leader := l.view.Leader(tp)
	if leader < 0 {
		return nil, false, fmt.Errorf("%s has no leader", tp)
	}
	id := l.view.ByName[tp.Topic].ID
	request := wire.NewFetchRequest(nextWait, nextBytes, l.isolation)
	request.Add(wire.FetchPartition{TopicPartition: tp, FetchOffset: wire.FetchOffset{TopicID: id, Offset: from, LeaderEpoch: -1, LastEpoch: -1, MaxBytes: nextBytes}})
	response, err := wire.Kgo{Client: l.client, Observe: func(string, time.Duration, error) {}}.Fetch(ctx, leader, request)
	if err != nil {
		return nil, false, err
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return nil, false, err
	}
	rp = wire.IndexFetch(response.FetchResponse).Of(tp, id)
	if rp == nil {
		return nil, false, fmt.Errorf("the response of broker %d does not name %s", leader, tp)
	}
	return rp, response.ThrottleMillis > 0, kerr.ErrorForCode(rp.ErrorCode)
}

// first returns the first record of a response from an offset on, nil if it has none, and then the offset behind the response.
func (l *logs) first(tp offsets.TopicPartition, rp *kmsg.FetchResponseTopicPartition, from int64) (*recordbatch.Record, int64, error) {
	behind, aborted := from, wire.AbortedOf(rp)
	for b, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return nil, behind, fmt.Errorf("read %s from offset %d: %w", tp, behind, err)
		}
		route, _, err := recordbatch.Admit(b.Bytes, b.Header, &aborted, recordbatch.Rules{Wanted: from})
		if err == nil && route != recordbatch.RouteDrop {
			var records []recordbatch.Record
			if records, err = recordbatch.Decode(b.Bytes); err == nil {
				if i := slices.IndexFunc(records, func(r recordbatch.Record) bool { return r.Offset >= from }); i >= 0 {
					return &records[i], behind, nil
				}
			}
		}
		if err != nil {
			return nil, behind, fmt.Errorf("the batch at offset %d of %s: %w", b.BaseOffset, tp, err)
		}
		behind = max(behind, b.NextOffset())
	}
	return nil, behind, nil
}

// differ says what differs between a record and its copy, empty if they are equal. Null and empty are not equal.
func differ(source, target *recordbatch.Record, ignoreTimes bool) string {
	switch {
	case !sameBytes(source.Key, target.Key):
		return "key"
	case !sameBytes(source.Value, target.Value):
		return "value"
	case !ignoreTimes && source.Timestamp != target.Timestamp:
		return "timestamp"
	case !slices.EqualFunc(source.Headers, target.Headers, func(a, b recordbatch.RecordHeader) bool { return a.Key == b.Key && sameBytes(a.Value, b.Value) }):
		return "headers"
	}
	return ""
}

func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
