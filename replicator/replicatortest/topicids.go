package replicatortest

import (
	"encoding/binary"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// HideTopicIDs lets a fake cluster behave as brokers do with ZooKeeper and an inter.broker.protocol.version below 2.8: it offers requests with
// topic ids, but its metadata has none, and it responds UNKNOWN_TOPIC_ID to each. ShowTopicIDs ends that, as raising the version does.
func (c *Cluster) HideTopicIDs() {
	c.requests.hidden.set(true)
	c.hideOnce.Do(func() {
		c.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			response, refused := c.requests.hidden.refuseFetch(request.(*kmsg.FetchRequest))
			return response, nil, refused
		})
		c.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			response, refused := c.requests.hidden.refuseProduce(request.(*kmsg.ProduceRequest))
			return response, nil, refused
		})
	})
}

// ShowTopicIDs ends HideTopicIDs.
func (c *Cluster) ShowTopicIDs() { c.requests.hidden.set(false) }

// versionByID is the first version of Fetch and Produce that names topics by id.
const versionByID = 13

// hiddenIDs is whether a cluster hides its topic ids.
type hiddenIDs struct {
	mu     sync.Mutex
	hidden bool
}

func (h *hiddenIDs) set(hidden bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hidden = hidden
}

func (h *hiddenIDs) get() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hidden
}

func (h *hiddenIDs) refuseFetch(r *kmsg.FetchRequest) (kmsg.Response, bool) {
	if !h.get() || r.Version < versionByID {
		return nil, false
	}
	response := r.ResponseKind().(*kmsg.FetchResponse)
	if len(r.Topics) == 0 {
		response.ErrorCode = kerr.FetchSessionTopicIDError.Code
	}
	for _, t := range r.Topics {
		rt := kmsg.NewFetchResponseTopic()
		rt.TopicID = t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.HighWatermark = p.Partition, kerr.UnknownTopicID.Code, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
	}
	return response, true
}

func (h *hiddenIDs) refuseProduce(r *kmsg.ProduceRequest) (kmsg.Response, bool) {
	if !h.get() || r.Version < versionByID {
		return nil, false
	}
	response := r.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range r.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.TopicID = t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.BaseOffset = p.Partition, kerr.UnknownTopicID.Code, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
	}
	return response, true
}

// hide removes the topic ids from the response to a metadata request of a version.
func (h *hiddenIDs) hide(version int16, frame []byte) []byte {
	if !h.get() {
		return frame
	}
	response := kmsg.NewPtrMetadataResponse()
	response.Version = version
	header := 8 // size and correlation id
	if response.IsFlexible() {
		header++ // no tags
	}
	if response.ReadFrom(frame[header:]) != nil {
		return frame
	}
	for i := range response.Topics {
		response.Topics[i].TopicID = [16]byte{}
	}
	hidden := response.AppendTo(append([]byte(nil), frame[:header]...))
	binary.BigEndian.PutUint32(hidden, uint32(len(hidden)-4))
	return hidden
}
