package wire

import (
	"errors"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// Session is an incremental fetch session with one broker (KIP-227). The broker remembers partitions and their fetch offsets, so a request
// lists only the partitions that changed and those to forget, and a response only those with news. Fetch offsets do not advance on the
// broker: it returns a partition from the same offset until a request changes or forgets it.
//
// When it is unclear what the broker remembers, [Session.Drop] makes the next request a full one, which starts a new session. A broker has
// a limited number of sessions (max.incremental.fetch.session.cache.slots); without one, every request is a full one. An abandoned session
// may be evicted after two idle minutes.
//
// The zero Session begins with a full request. It is not safe for concurrent use.
type Session struct {
	id         int32  // 0: none
	epoch      int32  // of the next request; 0 lists all partitions, closes the session with this id and requests a new one
	naming     naming // a session that began with names cannot continue with ids (FETCH_SESSION_TOPIC_ID_ERROR)
	remembered map[offsets.TopicPartition]*rememberedOffset
	order      []*rememberedOffset // what the last request wanted, in its order; the next one mostly wants the same
	requests   int64               // number of requests, to find the partitions that are no longer wanted
}

type rememberedOffset struct {
	FetchPartition
	wantedBy int64 // the newest request that wanted it
}

// find returns what is remembered of the partition that a request wants in place i, nil if nothing is.
func (s *Session) find(i int, tp offsets.TopicPartition) *rememberedOffset {
	if i < len(s.order) && s.order[i].TopicPartition == tp {
		return s.order[i]
	}
	return s.remembered[tp]
}

// ErrSessionLost is returned when the broker does not know the session, or remembers it differently. The next request is a full one.
var ErrSessionLost = errors.New("the broker forgot the fetch session")

// Drop makes the next request a full one. Call it whenever it is unclear what the broker remembers, as after a lost response.
func (s *Session) Drop() {
	s.epoch, s.remembered, s.order = 0, nil, nil
}

// Request fills in session and partitions so that the broker fetches exactly the wanted partitions.
func (s *Session) Request(request *FetchRequest, wanted []FetchPartition) {
	naming := byID
	for i := range wanted {
		naming = naming.with(wanted[i].TopicID)
	}
	if naming != s.naming && len(wanted) > 0 {
		s.Drop()
		s.naming = naming
	}
	request.naming = s.naming // also of a request without topics
	for i := range wanted {
		// Brokers before 3.1 identify partitions by name only. They would forget the recreated topic together with the old one.
		if r := s.find(i, wanted[i].TopicPartition); r != nil && r.TopicID != wanted[i].TopicID {
			s.Drop()
			break
		}
	}
	if s.epoch == 0 {
		s.remembered, s.order = make(map[offsets.TopicPartition]*rememberedOffset, len(wanted)), nil
	}
	request.SessionID, request.SessionEpoch = s.id, s.epoch
	s.requests++
	order := s.order[:0]
	for i := range wanted {
		p := &wanted[i]
		r := s.find(i, p.TopicPartition)
		switch {
		case r == nil:
			r = &rememberedOffset{FetchPartition: *p}
			s.remembered[p.TopicPartition] = r
			request.Add(*p)
		case r.FetchOffset != p.FetchOffset:
			r.FetchOffset = p.FetchOffset
			request.Add(*p)
		}
		r.wantedBy = s.requests
		order = append(order, r) // in place i, which is not looked at any more
	}
	s.order = order
	if len(s.remembered) > len(wanted) {
		s.forget(request.FetchRequest)
	}
}

// forget lists the partitions that are no longer wanted.
func (s *Session) forget(request *kmsg.FetchRequest) {
	topics := make(map[string]int)
	for tp, r := range s.remembered {
		if r.wantedBy == s.requests {
			continue
		}
		delete(s.remembered, tp)
		i, ok := topics[tp.Topic]
		if !ok {
			t := kmsg.NewFetchRequestForgottenTopic()
			t.Topic, t.TopicID = tp.Topic, r.TopicID
			i = len(request.ForgottenTopics)
			topics[tp.Topic] = i
			request.ForgottenTopics = append(request.ForgottenTopics, t)
		}
		request.ForgottenTopics[i].Partitions = append(request.ForgottenTopics[i].Partitions, tp.Partition)
	}
}

// Answered updates the session from the response to the last request. If it returns an error, which is [ErrSessionLost] or the error code
// of a full request, the response holds no data.
func (s *Session) Answered(response *kmsg.FetchResponse) error {
	full := s.epoch == 0
	switch {
	case response.ErrorCode != 0:
		s.Drop()
		if full {
			return kerr.ErrorForCode(response.ErrorCode)
		}
		return ErrSessionLost
	case full && response.SessionID != 0:
		s.id, s.epoch = response.SessionID, 1
	case full || response.SessionID != s.id: // the broker created no session, or has closed it
		s.id = 0
		s.Drop()
	case s.epoch == math.MaxInt32:
		s.epoch = 1
	default:
		s.epoch++
	}
	return nil
}
