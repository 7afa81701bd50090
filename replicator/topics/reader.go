package topics

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Reader reads the metadata of one cluster again and again, through any of its clients. With 100,000 partitions a response has 5 MB, and nearly
// always the same bytes as the last one. So bytes are compared before they are decoded: what has not changed costs nothing but the transfer.
// The zero Reader is ready to use. It is safe for concurrent use.
type Reader struct {
	mu   sync.Mutex
	view View
	same map[sums]bool       // of responses that say what the view says: each broker may have an order of its own
	told map[*kgo.Client]sum // the brokers that each client knows
}

// maxSame is how many responses of the same content are remembered.
const maxSame = 100

// sum identifies bytes within this process, by two hashes of 64 bits. A cryptographic one takes several times as long, and no broker has a reason to
// look for another content with the same sum, nor does it know the seeds.
type sum [2]uint64

var sumSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()} //nolint:gochecknoglobals // one pair for all sums

func sumOf(b []byte) sum { return sum{maphash.Bytes(sumSeeds[0], b), maphash.Bytes(sumSeeds[1], b)} }

// sums identify what a response says.
type sums struct{ brokers, topics sum }

// revisions numbers views.
var revisions atomic.Int64 //nolint:gochecknoglobals // views of several readers must differ

// Read returns the metadata of all topics of the cluster, including internal ones. The broker silently omits topics that milena has no right to
// DESCRIBE. Views of the same revision are the same view.
func (r *Reader) Read(ctx context.Context, client *kgo.Client) (View, error) {
	request := kmsg.NewPtrMetadataRequest() // no list of topics means all of them
	answer, err := client.Request(ctx, undecodedRequest{request})
	if err != nil {
		return View{}, fmt.Errorf("list topics: %w", err)
	}
	response := answer.(*undecoded)
	at := response.parts()
	read := sums{sumOf(response.body[at.brokers:at.controller]), sumOf(response.body[at.topics:])}
	if err := r.tell(ctx, client, read.brokers); err != nil {
		return View{}, fmt.Errorf("list brokers: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.same[read] {
		return r.view, nil
	}
	view, err := response.view()
	if err != nil {
		return View{}, fmt.Errorf("list topics: %w", err)
	}
	if r.view.Revision == 0 || !view.equal(r.view) {
		view.Revision = revisions.Add(1)
		r.view, r.same = view, nil
	}
	if r.same == nil || len(r.same) >= maxSame {
		r.same = make(map[sums]bool)
	}
	r.same[read] = true
	return r.view, nil
}

// tell lets a client know the brokers if they are not those that it knows. It learns them from requests of its own, not from undecoded ones.
func (r *Reader) tell(ctx context.Context, client *kgo.Client, brokers sum) error {
	r.mu.Lock()
	known, ok := r.told[client]
	r.mu.Unlock()
	if ok && known == brokers {
		return nil
	}
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{} // none
	if _, err := client.Request(ctx, request); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told == nil {
		r.told = make(map[*kgo.Client]sum)
	}
	r.told[client] = brokers
	return nil
}

// undecodedRequest is a metadata request whose response is not decoded. The client does not keep a copy of that response either, as it does of
// other metadata: that would take more memory than the partitions themselves.
type undecodedRequest struct{ *kmsg.MetadataRequest }

// ResponseKind implements kmsg.Request.
func (r undecodedRequest) ResponseKind() kmsg.Response {
	return &undecoded{MetadataResponse: r.MetadataRequest.ResponseKind().(*kmsg.MetadataResponse)}
}

// undecoded is the response to an undecodedRequest.
type undecoded struct {
	*kmsg.MetadataResponse
	body []byte
}

// ReadFrom implements kmsg.Response. It decodes only how long the response was throttled, which the client looks at.
func (u *undecoded) ReadFrom(src []byte) error {
	u.body = src
	if u.Version >= 3 {
		b := kbin.Reader{Src: src}
		u.ThrottleMillis = b.Int32()
		return b.Complete()
	}
	return nil
}

// parts are where the parts of a response begin. The controller is compared with nothing: brokers that are not told which one it is name any
// of them, another one each time. Nor is the throttle time, which is before the brokers.
type parts struct{ brokers, controller, topics int }

func (u *undecoded) parts() parts {
	b := kbin.Reader{Src: u.body}
	if u.Version >= 3 {
		b.Int32()
	}
	at := parts{brokers: len(u.body) - len(b.Src)}
	text := func(nullable bool) {
		switch {
		case u.IsFlexible():
			b.CompactNullableString()
		case nullable:
			b.NullableString()
		default:
			_ = b.String()
		}
	}
	length := b.ArrayLen
	if u.IsFlexible() {
		length = b.CompactArrayLen
	}
	for range length() {
		b.Int32()
		text(false)
		b.Int32()
		if u.Version >= 1 {
			text(true)
		}
		if u.IsFlexible() {
			kmsg.SkipTags(&b)
		}
	}
	if u.Version >= 2 {
		text(true)
	}
	at.controller = len(u.body) - len(b.Src)
	if u.Version >= 1 {
		b.Int32()
	}
	if at.topics = len(u.body) - len(b.Src); !b.Ok() {
		return parts{} // decoding it says what is wrong
	}
	return at
}

// view decodes the response.
func (u *undecoded) view() (View, error) {
	response := kmsg.NewPtrMetadataResponse()
	response.Version = u.Version
	if err := response.ReadFrom(u.body); err != nil {
		return View{}, err
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return View{}, err
	}
	read := View{
		ByName:  make(map[string]Topic, len(response.Topics)),
		Brokers: make(map[int32]string, len(response.Brokers)),
	}
	if response.ClusterID != nil {
		read.ClusterID = *response.ClusterID
	}
	for _, b := range response.Brokers {
		read.Brokers[b.NodeID] = fmt.Sprintf("%s:%d", b.Host, b.Port)
	}
	for i := range response.Topics {
		topic := &response.Topics[i]
		// Some brokers still list a topic that is being deleted, with this code and without partitions.
		if topic.Topic == nil || errors.Is(kerr.ErrorForCode(topic.ErrorCode), kerr.UnknownTopicOrPartition) {
			continue
		}
		read.ByName[*topic.Topic] = readTopic(topic)
	}
	return read, nil
}
