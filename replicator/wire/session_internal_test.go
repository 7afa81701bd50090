package wire

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// fakeSessions is a minimal broker side of KIP-227. It identifies partitions by topic id, or by name like brokers before 3.1.
type fakeSessions struct {
	byName   bool // whatever the version of a request is
	lastID   int32
	sessions map[int32]*fakeSession
	full     bool // creates no sessions
}

type fakeSession struct {
	epoch      int32
	naming     naming
	partitions map[partitionKey]FetchOffset
}

func (b *fakeSessions) key(n naming, name string, id [16]byte, partition int32) partitionKey {
	return (n && !naming(b.byName)).key(name, id, partition)
}

// fetch answers a request. It returns what a real broker would read, and the number of partitions in the request.
func (b *fakeSessions) fetch(t *testing.T, request *FetchRequest) (response *kmsg.FetchResponse, fetched map[partitionKey]FetchOffset, named int) {
	t.Helper()
	response = kmsg.NewPtrFetchResponse()
	sent := make(map[partitionKey]FetchOffset)
	naming := namingOf(request.MaxVersion())
	for _, topic := range request.Topics {
		if naming == byID && topic.TopicID == [16]byte{} {
			t.Fatalf("topic %s without an id is requested by id", topic.Topic)
		}
		for _, p := range topic.Partitions {
			key := b.key(naming, topic.Topic, topic.TopicID, p.Partition)
			if _, again := sent[key]; again {
				t.Fatalf("%v is named again", key)
			}
			sent[key] = FetchOffset{topic.TopicID, p.FetchOffset, p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.PartitionMaxBytes}
			named++
		}
	}
	if request.SessionEpoch == 0 {
		if len(request.ForgottenTopics) > 0 {
			t.Fatal("a full request forgets partitions")
		}
		delete(b.sessions, request.SessionID)
		if !b.full {
			b.lastID++
			b.sessions[b.lastID] = &fakeSession{1, naming, sent}
			response.SessionID = b.lastID
		}
		return response, sent, named
	}
	s := b.sessions[request.SessionID]
	switch {
	case s == nil:
		response.ErrorCode = kerr.FetchSessionIDNotFound.Code
		return response, nil, named
	case s.epoch != request.SessionEpoch:
		response.ErrorCode = kerr.InvalidFetchSessionEpoch.Code
		return response, nil, named
	case s.naming != naming:
		response.ErrorCode = kerr.FetchSessionTopicIDError.Code
		return response, nil, named
	}
	s.epoch++
	for key, p := range sent {
		if s.partitions[key] == p {
			t.Fatalf("%v is named but has not changed", key)
		}
		s.partitions[key] = p
	}
	for _, topic := range request.ForgottenTopics { // after the named ones, as brokers do
		for _, n := range topic.Partitions {
			key := b.key(naming, topic.Topic, topic.TopicID, n)
			if _, ok := s.partitions[key]; !ok {
				t.Fatalf("%v is forgotten but was not known", key)
			}
			delete(s.partitions, key)
			named++
		}
	}
	response.SessionID = request.SessionID
	return response, maps.Clone(s.partitions), named
}

// TestSessionFetchesWhatIsWanted runs random histories. In each of them the broker fetches exactly the wanted partitions and offsets.
func TestSessionFetchesWhatIsWanted(t *testing.T) {
	for seed := range uint64(120) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			b := &fakeSessions{byName: seed%2 == 0, sessions: make(map[int32]*fakeSession)}
			world := newWantedWorld(random)
			world.inOrder = seed%4 < 2
			var s Session
			for range 200 {
				wanted := world.next()
				request := NewFetchRequest(0, 0, ReadUncommitted)
				s.Request(request, wanted)
				switch random.IntN(12) {
				case 0: // the request is lost
					s.Drop()
					continue
				case 1: // the response is lost: a new session stays unknown to the client
					if response, _, _ := b.fetch(t, request); request.SessionEpoch == 0 {
						delete(b.sessions, response.SessionID)
					}
					s.Drop()
					continue
				case 2: // the broker evicts its sessions
					clear(b.sessions)
				case 3:
					b.full = !b.full
				}
				response, fetched, _ := b.fetch(t, request)
				if err := s.Answered(response); err != nil {
					if !errors.Is(err, ErrSessionLost) {
						t.Fatal(err)
					}
					request = NewFetchRequest(0, 0, ReadUncommitted)
					s.Request(request, wanted)
					response, fetched, _ = b.fetch(t, request)
					if err := s.Answered(response); err != nil {
						t.Fatalf("after a full request: %v", err)
					}
				}
				want := make(map[partitionKey]FetchOffset)
				for _, a := range wanted {
					want[b.key(namingOf(request.MaxVersion()), a.Topic, a.TopicID, a.Partition)] = a.FetchOffset
				}
				if !maps.Equal(fetched, want) {
					t.Fatalf("the broker fetches %v, want %v", fetched, want)
				}
				if len(b.sessions) > 1 {
					t.Fatalf("%d sessions are open", len(b.sessions))
				}
			}
		})
	}
}

// wantedWorld generates what a fetch loop may want: partitions advance, pause and come back, topics are recreated with another id, and ids
// disappear and appear, as when inter.broker.protocol.version is lowered and raised.
type wantedWorld struct {
	random *rand.Rand
	ids    [4]byte
	all    map[offsets.TopicPartition]FetchOffset
	// InOrder lists them in the same order each time, else in any.
	inOrder bool
}

func newWantedWorld(random *rand.Rand) *wantedWorld {
	w := &wantedWorld{random: random, all: make(map[offsets.TopicPartition]FetchOffset)}
	for topic := range w.ids {
		for n := range int32(5) {
			w.all[partitionOf(topic, n)] = FetchOffset{TopicID: w.id(topic), LastEpoch: -1, MaxBytes: 100}
		}
	}
	return w
}

func partitionOf(topic int, n int32) offsets.TopicPartition {
	return offsets.TopicPartition{Topic: fmt.Sprintf("topic-%d", topic), Partition: n}
}

func (w *wantedWorld) id(topic int) [16]byte { return [16]byte{byte(topic) + 1, w.ids[topic]} }

func (w *wantedWorld) next() []FetchPartition {
	switch topic := w.random.IntN(len(w.ids)); w.random.IntN(20) {
	case 0:
		w.ids[topic]++
		for n := range int32(5) {
			w.all[partitionOf(topic, n)] = FetchOffset{TopicID: w.id(topic), LastEpoch: -1, MaxBytes: 100}
		}
	case 1, 2:
		for n := range int32(5) {
			p := w.all[partitionOf(topic, n)]
			if p.TopicID == w.id(topic) {
				p.TopicID = [16]byte{}
			} else {
				p.TopicID = w.id(topic)
			}
			w.all[partitionOf(topic, n)] = p
		}
	}
	var wanted []FetchPartition
	for tp, p := range w.all {
		switch w.random.IntN(12) {
		case 0:
			p.Offset, p.LastEpoch = p.Offset+1, 3
		case 1:
			p.LeaderEpoch++
		case 2:
			p.MaxBytes = 100 + w.random.Int32N(2)
		case 3:
			continue // paused
		}
		w.all[tp] = p
		wanted = append(wanted, FetchPartition{TopicPartition: tp, FetchOffset: p})
	}
	if w.inOrder { // most are in the same place each time, but behind one that has paused or come back
		slices.SortFunc(wanted, func(a, b FetchPartition) int { return strings.Compare(a.String(), b.String()) })
	}
	return wanted
}

func TestSessionNamesOnlyWhatChanged(t *testing.T) {
	b := &fakeSessions{sessions: make(map[int32]*fakeSession)}
	var wanted []FetchPartition
	for n := range int32(1000) {
		wanted = append(wanted, FetchPartition{TopicPartition: offsets.TopicPartition{Topic: "t", Partition: n}, FetchOffset: FetchOffset{TopicID: [16]byte{1}, LastEpoch: -1, MaxBytes: 1}})
	}
	var s Session
	ask := func(what string, want int) {
		t.Helper()
		request := NewFetchRequest(0, 0, ReadUncommitted)
		s.Request(request, wanted)
		response, _, named := b.fetch(t, request)
		if err := s.Answered(response); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if named != want {
			t.Errorf("%s: %d partitions are named, want %d", what, named, want)
		}
	}
	ask("the first request", 1000)
	ask("no change", 0)
	wanted[17].Offset++
	ask("one fetch offset changed", 1)
	wanted[3], wanted[9] = wanted[9], wanted[3]
	ask("another order", 0)
	wanted = wanted[:990]
	ask("ten are left out", 10)
	wanted = wanted[:1000]
	ask("they are back", 10)
	s.Drop()
	ask("after Drop", 1000)
	wanted[17].TopicID = [16]byte{2}
	ask("the topic was recreated", 1000)
}

func TestSessionFollowsTheResponse(t *testing.T) {
	wanted := []FetchPartition{{TopicPartition: offsets.TopicPartition{Topic: "t", Partition: 0}}}
	answer := func(id int32, code int16) *kmsg.FetchResponse {
		response := kmsg.NewPtrFetchResponse()
		response.SessionID, response.ErrorCode = id, code
		return response
	}
	for _, test := range []struct {
		name       string
		id, epoch  int32 // before
		answer     *kmsg.FetchResponse
		err        error
		thenID     int32
		thenEpoch  int32
		remembered int
	}{
		{"a session is created", 0, 0, answer(7, 0), nil, 7, 1, 1},
		{"none is created", 0, 0, answer(0, 0), nil, 0, 0, 0},
		{"it continues", 7, 5, answer(7, 0), nil, 7, 6, 1},
		{"the epoch wraps", 7, math.MaxInt32, answer(7, 0), nil, 7, 1, 1},
		{"the broker closes it", 7, 5, answer(0, 0), nil, 0, 0, 0},
		{"the broker does not know it", 7, 5, answer(0, kerr.FetchSessionIDNotFound.Code), ErrSessionLost, 7, 0, 0},
		{"epochs differ", 7, 5, answer(0, kerr.InvalidFetchSessionEpoch.Code), ErrSessionLost, 7, 0, 0},
		{"topic ids appear or disappear", 7, 5, answer(0, kerr.FetchSessionTopicIDError.Code), ErrSessionLost, 7, 0, 0},
		{"a full request is refused", 7, 0, answer(0, kerr.UnknownServerError.Code), kerr.UnknownServerError, 7, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := Session{id: test.id, epoch: test.epoch, remembered: make(map[offsets.TopicPartition]*rememberedOffset)}
			request := NewFetchRequest(0, 0, ReadUncommitted)
			s.Request(request, wanted)
			if request.SessionID != test.id || request.SessionEpoch != test.epoch {
				t.Errorf("the request has session %d epoch %d, want %d and %d", request.SessionID, request.SessionEpoch, test.id, test.epoch)
			}
			if err := s.Answered(test.answer); !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if s.id != test.thenID || s.epoch != test.thenEpoch || len(s.remembered) != test.remembered {
				t.Errorf("then session %d epoch %d remembers %d, want %d, %d and %d", s.id, s.epoch, len(s.remembered), test.thenID, test.thenEpoch, test.remembered)
			}
		})
	}
}

func BenchmarkSessionOf1000Partitions(b *testing.B) {
	var wanted []FetchPartition
	for n := range int32(1000) {
		wanted = append(wanted, FetchPartition{TopicPartition: offsets.TopicPartition{Topic: "some.topic", Partition: n}, FetchOffset: FetchOffset{TopicID: [16]byte{1}, LastEpoch: -1, MaxBytes: 1}})
	}
	var s Session
	response := kmsg.NewPtrFetchResponse()
	response.SessionID = 1
	for b.Loop() {
		wanted[17].Offset++
		s.Request(NewFetchRequest(0, 0, ReadUncommitted), wanted)
		if err := s.Answered(response); err != nil {
			b.Fatal(err)
		}
	}
}
