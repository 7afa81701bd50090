package wire

import (
	"errors"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// Session is an incremental fetch session with one broker (KIP-227): the broker remembers the partitions and positions that it was told,
// so a request names only what changed and what is to be forgotten, and an answer only what has news. Nothing moves by itself: a partition
// that is neither moved nor forgotten is answered again from where it was.
//
// There is no way on from a doubt but a new session: [Session.Drop] makes the next request a full one. Brokers give out a limited number of
// them (max.incremental.fetch.session.cache.slots); without one every request is a full one. One that is left behind makes room for others
// after two idle minutes.
//
// The zero Session begins with a full request. It belongs to one loop.
type Session struct {
	id         int32 // 0: none
	epoch      int32 // of the next request; 0 names all partitions, closes the session of this id and asks for another one
	remembered map[offsets.TopicPartition]*rememberedOffset
	round      int64 // of requests, to find what is not wanted any more
}

type rememberedOffset struct {
	FetchOffset
	round int64
}

// ErrSessionLost says that the broker does not know the session, or knows it otherwise: the same is asked again with a full request.
var ErrSessionLost = errors.New("the broker forgot the fetch session")

// Drop is for every doubt about what the broker remembers.
func (s *Session) Drop() {
	s.epoch, s.remembered = 0, nil
}

// Request fills in the partitions: afterwards the broker fetches exactly those that are wanted.
func (s *Session) Request(request *FetchRequest, wanted []FetchPartition) {
	for _, p := range wanted {
		// Brokers before 3.1 know partitions by name alone, and would forget the topic of today with the one of yesterday.
		if r := s.remembered[p.TopicPartition]; r != nil && r.TopicID != p.TopicID {
			s.Drop()
			break
		}
	}
	if s.epoch == 0 {
		s.remembered = make(map[offsets.TopicPartition]*rememberedOffset, len(wanted))
	}
	request.SessionID, request.SessionEpoch = s.id, s.epoch
	s.round++
	for _, p := range wanted {
		r := s.remembered[p.TopicPartition]
		switch {
		case r == nil:
			s.remembered[p.TopicPartition] = &rememberedOffset{p.FetchOffset, s.round}
		case r.FetchOffset == p.FetchOffset:
			r.round = s.round
			continue
		default:
			*r = rememberedOffset{p.FetchOffset, s.round}
		}
		request.Add(p)
	}
	if len(s.remembered) > len(wanted) {
		s.forget(request.FetchRequest)
	}
}

// forget names the partitions that are not wanted any more.
func (s *Session) forget(request *kmsg.FetchRequest) {
	topics := make(map[string]int)
	for tp, r := range s.remembered {
		if r.round == s.round {
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

// Answered notes what the answer to the last request says of the session. After an error there is nothing to use in the answer.
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
	case full || response.SessionID != s.id: // no session was given, or this was its last answer
		s.id = 0
		s.Drop()
	case s.epoch == math.MaxInt32:
		s.epoch = 1
	default:
		s.epoch++
	}
	return nil
}
