package replicator_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func TestFetchSessionsNameOnlyPartitionsWithNews(t *testing.T) {
	t.Parallel()
	const partitions, news = 300, 20
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", partitions)
	c.Source.Produce("orders", partitions, 1, "before")
	flow := c.Start()
	flow.UntilCopied("orders")

	id := c.Source.TopicInfo("orders").TopicID // heartbeats are fetched too
	var named, requests atomic.Int64
	c.Source.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.Source.KeepControl()
		requests.Add(1)
		for _, topic := range request.(*kmsg.FetchRequest).Topics {
			if topic.TopicID == id {
				named.Add(int64(len(topic.Partitions)))
			}
		}
		return nil, nil, false
	})
	for i := range int32(news) {
		c.Source.Write(&kgo.Record{Topic: "orders", Partition: i, Value: []byte("news")})
		flow.UntilCopied("orders")
	}
	// A request that was already in flight may name all partitions, because the first records changed their fetch offsets. Without sessions all requests do.
	if n := named.Load(); n > 2*partitions || requests.Load() < news {
		t.Errorf("%d requests name %d partitions, %d had news", requests.Load(), n, news)
	}
	c.Verify("orders", "a.orders", partitions)
}

// No record is missing or duplicated after the source has lost a fetch session, in whatever way.
func TestSourceForgetsSessions(t *testing.T) {
	refuse := func(err *kerr.Error) func(*kmsg.FetchRequest) (kmsg.Response, error) {
		return func(request *kmsg.FetchRequest) (kmsg.Response, error) {
			response := request.ResponseKind().(*kmsg.FetchResponse)
			response.ErrorCode = err.Code
			return response, nil
		}
	}
	for name, how := range map[string]func(*kmsg.FetchRequest) (kmsg.Response, error){
		kerr.FetchSessionIDNotFound.Message:   refuse(kerr.FetchSessionIDNotFound),
		kerr.InvalidFetchSessionEpoch.Message: refuse(kerr.InvalidFetchSessionEpoch),
		kerr.FetchSessionTopicIDError.Message: refuse(kerr.FetchSessionTopicIDError),
		"closed connection": func(*kmsg.FetchRequest) (kmsg.Response, error) {
			return nil, errors.New("the connection closes")
		},
		"empty answer without a session": func(request *kmsg.FetchRequest) (kmsg.Response, error) {
			return request.ResponseKind(), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const partitions = 10
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", partitions)
			var count atomic.Int64
			var over atomic.Bool
			c.Source.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
				c.Source.KeepControl()
				if fetch := request.(*kmsg.FetchRequest); fetch.SessionEpoch > 0 && !over.Load() && count.Add(1)%5 == 0 {
					response, err := how(fetch)
					return response, err, true
				}
				return nil, nil, false
			})
			flow := c.Start()
			stop := c.Source.Load("orders", partitions)
			flow.UntilProgress("orders", 10_000)
			stop()
			flow.UntilCopied("orders")
			if count.Load() < 10 {
				t.Errorf("only %d requests belonged to a session", count.Load())
			}
			over.Store(true)
			c.Verify("orders", "a.orders", partitions)
		})
	}
}
