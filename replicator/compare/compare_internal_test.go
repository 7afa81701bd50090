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
)

// followedOf is a partition whose source holds n records that are read, and whose copy is to be compared from the beginning.
func followedOf(t *testing.T, n int) *followed {
	t.Helper()
	p := newFollowed(offsets.TopicPartition{Topic: "orders", Partition: 0}, topics.Pair{TargetName: "a.orders"}, "read_committed")
	p.whole = true
	p.place(offsets.Position{}, offsets.Position{Source: int64(n), Target: 1}, -1, nil, match.Hasher{Seed: maphash.MakeSeed()})
	for i := range n {
		p.matcher.Add(match.SourceRecord{Offset: int64(i), Hash: uint64(i + 1)})
	}
	p.sourceNext, p.ended = int64(n), true
	return p
}

// copies puts target records up, each named by the source offset that it is a copy of.
func (p *followed) copies(from, to int) {
	for i := from; i < to; i++ {
		p.waiting = append(p.waiting, targetRecord{offset: p.targetNext, at: int64(i), hash: uint64(i + 1)})
		p.targetNext++
	}
	p.pairWaiting()
}

// A copy that goes on further ahead than the window reaches is looked for elsewhere, and what was counted stays.
func TestComparisonLooksElsewhereWhenItIsLost(t *testing.T) {
	p := followedOf(t, 100)
	p.limit(100)
	p.ended = false
	p.copies(0, 10)
	p.limit(90)
	p.copies(5000, 5000+lostAfter-1)
	if !p.placed || p.restarted != "" {
		t.Fatalf("looks elsewhere after %d unknown records: %q", p.lost, p.restarted)
	}
	p.copies(6500, 6501)
	if p.placed || p.restarted == "" || p.whole || !p.withoutSyncs {
		t.Fatalf("is not lost after %d unknown records", lostAfter)
	}
	if got, want := p.total(), (ComparedRecords{Equal: 10}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Partitions share the window: each has as much as there is room for.
func TestComparisonMemoryIsBounded(t *testing.T) {
	for _, c := range []struct{ partitions, records, level int }{
		{1, 1000, windowFollowed},
		{5000, 100, windowFollowed},
		{100, 60_000, 16384},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.partitions, c.records), func(t *testing.T) {
			sizes := make([]windowSize, c.partitions)
			total := 0
			for i := range sizes {
				sizes[i].behind = c.records
				total += min(c.records, 2*c.level)
			}
			if level := levelOf(sizes); level != c.level || total > windowTotal {
				t.Errorf("level %d, want %d; %d records are kept", level, c.level, total)
			}
		})
	}
}

// answers is a broker that answers every fetch with one error for each partition.
type answers struct{ code int16 }

func (a answers) Fetch(_ context.Context, _ int32, request *kmsg.FetchRequest) (*kmsg.FetchResponse, error) {
	response := kmsg.NewPtrFetchResponse()
	for _, t := range request.Topics {
		answered := kmsg.FetchResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			answered.Partitions = append(answered.Partitions, kmsg.FetchResponseTopicPartition{Partition: p.Partition, ErrorCode: a.code})
		}
		response.Topics = append(response.Topics, answered)
	}
	return response, nil
}

// What a broker refuses is no reason to stop: it is asked again, or the comparison goes on elsewhere, or a sentence says what to grant.
func TestComparisonObeysABrokersErrors(t *testing.T) {
	for _, c := range []struct {
		err            *kerr.Error
		failed, placed bool
		sentence       string
	}{
		{kerr.OffsetOutOfRange, false, false, "cluster a no longer holds offset 100 of orders-0, which was the next one to compare; the comparison went on near the end"},
		{kerr.TopicAuthorizationFailed, false, true, "orders-0 on cluster a may not be read: grant READ"},
		{kerr.NotLeaderForPartition, true, true, ""},
		{kerr.UnknownTopicID, true, true, ""},
		{kerr.UnknownServerError, true, true, ""},
	} {
		t.Run(c.err.Message, func(t *testing.T) {
			p := followedOf(t, 100)
			request := newCompareRequest(0)
			request.add(p, fetchFrom(p.TopicPartition, p.sourceID, p.sourceNext))
			s := &side{wire: answers{c.err.Code}, alias: "a", take: (*followed).takeSource}
			_, err := request.send(t.Context(), 1, s)
			if (err != nil) != c.failed || p.placed != c.placed {
				t.Errorf("error %v, placed %v", err, p.placed)
			}
			list := strings.Join(p.differences(), "\n")
			if (list == "") != (c.sentence == "") || !strings.Contains(list, c.sentence) {
				t.Errorf("differences: %s", list)
			}
		})
	}
}
