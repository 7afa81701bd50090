package main

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// session is a fetch session (KIP-227). While nothing is written it costs nothing, however many partitions it has.
type session struct {
	id     int32
	epoch  int32
	wanted map[*partition]*position
	news   map[*partition]bool // with records at the position, or not told of yet
	wake   chan struct{}
}

// position is where a session reads a partition.
type position struct {
	offset int64
	limit  int
	told   int64 // the end that the session knows
}

// changed notes that a partition has news. The cluster's lock is held.
func (s *session) changed(p *partition) {
	s.news[p] = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// fetch answers a fetch request. It waits for news as long as the request allows.
func (c *cluster) fetch(request *kmsg.FetchRequest) *kmsg.FetchResponse {
	response := request.ResponseKind().(*kmsg.FetchResponse)
	s, code := c.open(request)
	if code != 0 {
		response.ErrorCode = code
		return response
	}
	deadline := time.After(time.Duration(request.MaxWaitMillis) * time.Millisecond)
	first := request.SessionEpoch <= 0
	for waited := false; ; {
		c.mu.Lock()
		ready := first || waited || s.hasRecords()
		if ready {
			s.answer(request, response)
		}
		c.mu.Unlock()
		if ready {
			break
		}
		select {
		case <-s.wake:
		case <-deadline:
			waited = true
		}
	}
	response.SessionID = s.id
	return response
}

// open returns the session of a request, updated by it. A request without a session has one that ends with it.
func (c *cluster) open(request *kmsg.FetchRequest) (s *session, code int16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case request.SessionEpoch > 0:
		if s = c.sessions[request.SessionID]; s == nil {
			return nil, kerr.FetchSessionIDNotFound.Code
		}
		if s.epoch++; s.epoch != request.SessionEpoch {
			return nil, kerr.InvalidFetchSessionEpoch.Code
		}
	default:
		c.close(c.sessions[request.SessionID])
		s = &session{wanted: make(map[*partition]*position), news: make(map[*partition]bool), wake: make(chan struct{}, 1)}
		if request.SessionEpoch == 0 {
			s.id = int32(len(c.sessions) + 1)
			for c.sessions[s.id] != nil {
				s.id++
			}
			c.sessions[s.id] = s
		}
	}
	for _, t := range request.ForgottenTopics {
		for _, n := range t.Partitions {
			if p := c.find(t.Topic, t.TopicID, n); p != nil {
				delete(s.wanted, p)
				delete(s.news, p)
				delete(p.sessions, s)
			}
		}
	}
	for _, t := range request.Topics {
		for _, rp := range t.Partitions {
			p := c.find(t.Topic, t.TopicID, rp.Partition)
			if p == nil {
				continue
			}
			before := s.wanted[p]
			now := &position{offset: rp.FetchOffset, limit: int(rp.PartitionMaxBytes), told: -1}
			if before != nil {
				now.told = before.told
			}
			s.wanted[p] = now
			if p.end > now.offset || now.told != p.end {
				s.news[p] = true
			} else {
				delete(s.news, p)
			}
			if s.id != 0 {
				if p.sessions == nil {
					p.sessions = make(map[*session]bool)
				}
				p.sessions[s] = true
			}
		}
	}
	return s, 0
}

// close ends a session. The cluster's lock is held, here and in the next function.
func (c *cluster) close(s *session) {
	if s == nil {
		return
	}
	delete(c.sessions, s.id)
	for p := range s.wanted {
		delete(p.sessions, s)
	}
}

// hasRecords reports whether there are records at any position.
func (s *session) hasRecords() bool {
	for p := range s.news {
		if p.end > s.wanted[p].offset {
			return true
		}
	}
	return false
}

// answer fills in the news of a session.
func (s *session) answer(request *kmsg.FetchRequest, response *kmsg.FetchResponse) {
	bytes := 0
	index := make(map[*topic]int)
	for p := range s.news {
		at := s.wanted[p]
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.Partition, rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = p.number, p.end, p.end, p.start
		switch {
		case at.offset > p.end, at.offset < p.start:
			rp.ErrorCode = kerr.OffsetOutOfRange.Code
		case at.offset < p.end && bytes >= int(request.MaxBytes):
			continue // it stays among the news
		case at.offset < p.end:
			rp.RecordBatches = p.read(at.offset, min(at.limit, int(request.MaxBytes)-bytes))
			bytes += len(rp.RecordBatches)
		default:
			delete(s.news, p)
		}
		at.told = p.end
		i, ok := index[p.topic]
		if !ok {
			i = len(response.Topics)
			index[p.topic] = i
			t := kmsg.NewFetchResponseTopic()
			t.Topic, t.TopicID = p.topic.name, p.topic.id
			response.Topics = append(response.Topics, t)
		}
		response.Topics[i].Partitions = append(response.Topics[i].Partitions, rp)
	}
}
