package replicator_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestSourceIsAskedForNewsOnly(t *testing.T) {
	t.Parallel()
	const partitions, news = 300, 20
	p := newPair(t, 1)
	p.createTopic("orders", partitions)
	p.produce("orders", partitions, 1, "before")
	r := p.start(nil)
	p.settled(r, "orders")

	var named, requests atomic.Int64
	p.source.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		p.source.KeepControl()
		requests.Add(1)
		for _, topic := range request.(*kmsg.FetchRequest).Topics {
			named.Add(int64(len(topic.Partitions)))
		}
		return nil, nil, false
	})
	for i := range int32(news) {
		record := &kgo.Record{Topic: "orders", Partition: i, Value: []byte("news")}
		if err := p.sourceCl.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
		p.settled(r, "orders")
	}
	// The request that was under way at first named what the first records had moved.
	if n := named.Load(); n > partitions+2*news || requests.Load() < news {
		t.Errorf("%d requests name %d partitions, %d had news", requests.Load(), n, news)
	}
	p.verify("orders", "a.orders", partitions)
}

// Whatever becomes of its sessions, the source is copied once and whole.
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
			p := newPair(t, 1)
			p.createTopic("orders", partitions)
			var count atomic.Int64
			var over atomic.Bool
			p.source.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
				p.source.KeepControl()
				if fetch := request.(*kmsg.FetchRequest); fetch.SessionEpoch > 0 && !over.Load() && count.Add(1)%5 == 0 {
					response, err := how(fetch)
					return response, err, true
				}
				return nil, nil, false
			})
			r := p.start(nil)
			stop := p.load("orders", partitions)
			r.progress(10_000)
			stop()
			p.settled(r, "orders")
			if count.Load() < 10 {
				t.Errorf("only %d requests belonged to a session", count.Load())
			}
			over.Store(true)
			p.verify("orders", "a.orders", partitions)
		})
	}
}
