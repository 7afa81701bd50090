package compare

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// newTestPartition returns a partition whose source has n records, all of which were read, and whose copy is compared from its beginning.
func newTestPartition(n int) *partition {
	p := newPartition(offsets.TopicPartition{Topic: "orders", Partition: 0}, topics.Pair{TargetName: "a.orders"}, "read_committed", beginning{whole: true})
	p.begin(offsets.Pair{}, offsets.Pair{Source: int64(n), Target: 1}, -1, nil, match.Hasher{Seed: maphash.MakeSeed()})
	for i := range n {
		p.matcher.Add(match.SourceRecord{Offset: int64(i), Hash: uint64(i + 1)})
	}
	p.source.next, p.sourceEnded = int64(n), true
	return p
}

// copies appends copies of the source records in [from, to) to the target and matches them.
func (p *partition) copies(from, to int) {
	for i := from; i < to; i++ {
		p.waiting = append(p.waiting, targetRecord{offset: p.copied.next, timestamp: int64(i), hash: uint64(i + 1)})
		p.copied.next++
	}
	p.matchWaiting()
}

// If the copy continues beyond the window, the comparison begins at another place and keeps its counts.
func TestComparisonRestartsBeyondTheWindow(t *testing.T) {
	p := newTestPartition(100)
	p.limitWindow(100)
	p.sourceEnded = false
	p.copies(0, 10)
	p.limitWindow(90)
	p.copies(5000, 5000+maxUnknown-1)
	if !p.placed || p.restarted != "" {
		t.Fatalf("restarted after %d unknown records: %q", p.runs.unknown, p.restarted)
	}
	p.copies(6500, 6501)
	if p.placed || p.restarted == "" || p.whole || !p.ignoreSyncs {
		t.Fatalf("not restarted after %d unknown records", maxUnknown)
	}
	p.matchWaiting() // no place may be found at once; the counts stay right
	if got, want := p.tally.total(), (Counts{Equal: 10}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Partitions share the window: each keeps as many records as there is room for.
func TestWindowLimit(t *testing.T) {
	for _, c := range []struct{ partitions, records, limit int }{
		{1, 1000, windowMax},
		{5000, 100, windowMax},
		{100, 60_000, 16384},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.partitions, c.records), func(t *testing.T) {
			sizes := make([]windowSize, c.partitions)
			total := 0
			for i := range sizes {
				sizes[i].before = c.records
				total += min(c.records, 2*c.limit)
			}
			if limit := windowLimit(sizes); limit != c.limit || total > windowTotal {
				t.Errorf("limit %d, want %d; %d records are kept", limit, c.limit, total)
			}
		})
	}
}

// failingBroker answers every fetch with the same error for each partition.
type failingBroker struct{ code int16 }

func (a failingBroker) Fetch(_ context.Context, _ int32, request *wire.FetchRequest) (*wire.FetchResponse, error) {
	response := kmsg.NewPtrFetchResponse()
	for _, t := range request.Topics {
		answered := kmsg.FetchResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			answered.Partitions = append(answered.Partitions, kmsg.FetchResponseTopicPartition{Partition: p.Partition, ErrorCode: a.code})
		}
		response.Topics = append(response.Topics, answered)
	}
	return &wire.FetchResponse{FetchResponse: response}, nil
}

// After an error of a broker, the comparison fetches again, begins at another place, or reports which right is missing.
func TestComparisonHandlesFetchErrors(t *testing.T) {
	for _, c := range []struct {
		err            *kerr.Error
		failed, placed bool
		difference     string
	}{
		{kerr.OffsetOutOfRange, false, false, "cluster a no longer has offset 100 of orders-0, which was the next one to compare; the comparison continued near the end"},
		{kerr.TopicAuthorizationFailed, false, true, "orders-0 on cluster a may not be read: grant READ"},
		{kerr.NotLeaderForPartition, true, true, ""},
		{kerr.UnknownTopicID, true, true, ""},
		{kerr.UnknownServerError, true, true, ""},
	} {
		t.Run(c.err.Message, func(t *testing.T) {
			p := newTestPartition(100)
			request := newFetchRequest(0)
			request.add(p, p.source.fetch())
			s := &side{wire: failingBroker{c.err.Code}, alias: "a", add: (*partition).addSource}
			_, err := request.send(t.Context(), 1, s)
			if (err != nil) != c.failed || p.placed != c.placed {
				t.Errorf("error %v, placed %v", err, p.placed)
			}
			list := strings.Join(p.differences(), "\n")
			if (list == "") != (c.difference == "") || !strings.Contains(list, c.difference) {
				t.Errorf("differences: %s", list)
			}
		})
	}
}
