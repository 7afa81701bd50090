package replicator

import (
	"errors"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// position is where a partition is fetched from: all that a fetch says of it, and all that a session remembers.
type position struct {
	topicID     [16]byte
	offset      int64
	leaderEpoch int32 // of the leader that is asked (KIP-320)
	lastEpoch   int32 // of the record before offset: makes the broker tell a truncation even when the log has grown past offset again
	maxBytes    int32
}

// session is an incremental fetch session with one broker (KIP-227): the broker remembers the partitions and positions that it was told,
// so a request names only what changed and what is to be forgotten, and an answer only what has news. Nothing moves by itself: a partition
// that is neither moved nor forgotten is answered again from where it was.
//
// There is no way on from a doubt but a new session: [session.drop] makes the next request a full one. Brokers give out a limited number of
// them (max.incremental.fetch.session.cache.slots); without one every request is a full one. One that is left behind makes room for others
// after two idle minutes.
//
// The zero session begins with a full request. It belongs to one loop.
type session struct {
	id         int32 // 0: none
	epoch      int32 // of the next request; 0 names all partitions, closes the session of this id and asks for another one
	remembered map[offsets.TopicPartition]*rememberedPosition
	round      int64 // of requests, to find what is not wanted any more
}

type rememberedPosition struct {
	position
	round int64
}

// errSessionLost says that the broker does not know the session, or knows it otherwise: the same is asked again with a full request.
var errSessionLost = errors.New("the broker forgot the fetch session")

// drop is for every doubt about what the broker remembers.
func (s *session) drop() {
	s.epoch, s.remembered = 0, nil
}

// request fills in the partitions: afterwards the broker fetches exactly those that are asked for.
func (s *session) request(request *kmsg.FetchRequest, asks []asked) {
	for _, a := range asks {
		// Brokers before 3.1 know partitions by name alone, and would forget the topic of today with the one of yesterday.
		if r := s.remembered[a.TopicPartition]; r != nil && r.topicID != a.topicID {
			s.drop()
			break
		}
	}
	if s.epoch == 0 {
		s.remembered = make(map[offsets.TopicPartition]*rememberedPosition, len(asks))
	}
	request.SessionID, request.SessionEpoch = s.id, s.epoch
	s.round++
	topics := make(map[string]int)
	for _, a := range asks {
		r := s.remembered[a.TopicPartition]
		switch {
		case r == nil:
			s.remembered[a.TopicPartition] = &rememberedPosition{a.position, s.round}
		case r.position == a.position:
			r.round = s.round
			continue
		default:
			*r = rememberedPosition{a.position, s.round}
		}
		i, ok := topics[a.Topic]
		if !ok {
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = a.Topic, a.topicID
			i = len(request.Topics)
			topics[a.Topic] = i
			request.Topics = append(request.Topics, t)
		}
		request.Topics[i].Partitions = append(request.Topics[i].Partitions, a.fetch(a.Partition))
	}
	if len(s.remembered) > len(asks) {
		s.forget(request)
	}
}

// forget names the partitions that are not wanted any more.
func (s *session) forget(request *kmsg.FetchRequest) {
	topics := make(map[string]int)
	for tp, r := range s.remembered {
		if r.round == s.round {
			continue
		}
		delete(s.remembered, tp)
		i, ok := topics[tp.Topic]
		if !ok {
			t := kmsg.NewFetchRequestForgottenTopic()
			t.Topic, t.TopicID = tp.Topic, r.topicID
			i = len(request.ForgottenTopics)
			topics[tp.Topic] = i
			request.ForgottenTopics = append(request.ForgottenTopics, t)
		}
		request.ForgottenTopics[i].Partitions = append(request.ForgottenTopics[i].Partitions, tp.Partition)
	}
}

// answered notes what the answer to the last request says of the session. After an error there is nothing to use in the answer.
func (s *session) answered(response *kmsg.FetchResponse) error {
	full := s.epoch == 0
	switch {
	case response.ErrorCode != 0:
		s.drop()
		if full {
			return codeError(response.ErrorCode)
		}
		return errSessionLost
	case full && response.SessionID != 0:
		s.id, s.epoch = response.SessionID, 1
	case full || response.SessionID != s.id: // no session was given, or this was its last answer
		s.id = 0
		s.drop()
	case s.epoch == math.MaxInt32:
		s.epoch = 1
	default:
		s.epoch++
	}
	return nil
}

// fetch is what a request says of one partition.
func (p position) fetch(partition int32) kmsg.FetchRequestTopicPartition {
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = partition, p.offset, p.maxBytes
	rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = p.leaderEpoch, p.lastEpoch
	return rp
}
