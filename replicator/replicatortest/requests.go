package replicatortest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Spoil is what happens to a request that Cluster.Spoil catches. Kfake's faults answer with an error; these lose the answer.
type Spoil int

// The ways to spoil a request.
const (
	// DropResponse handles the request, then closes the connection without an answer.
	DropResponse Spoil = iota
	// DropRequest closes the connection before the cluster sees the request.
	DropRequest
	// NeverRespond handles the request and leaves the connection open without an answer.
	NeverRespond
	// Swallow neither handles nor answers the request, nor what follows it on its connection, as a broker that hangs.
	Swallow
	// SlowResponse delays the answer by two seconds, as a slow link delays a large one.
	SlowResponse
)

const slowness = 2 * time.Second

// All is the count of requests that are spoiled until something else is ordered.
const All = math.MaxInt

// Spoil spoils the next count requests with the given key whose bytes contain the given ones (all, if nil), and replaces what an earlier call
// ordered. The channel is closed when the first of them arrives; a count of 0 ends the spoiling.
func (c *Cluster) Spoil(key kmsg.Key, contains []byte, how Spoil, count int) <-chan struct{} {
	i := c.requests
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key, i.contains, i.how, i.left = key, contains, how, count
	first := make(chan struct{})
	i.arrived = sync.OnceFunc(func() { close(first) })
	return first
}

// SpoilTopic is Spoil for requests that name a topic by its id.
func (c *Cluster) SpoilTopic(key kmsg.Key, topic string, how Spoil, count int) <-chan struct{} {
	c.t.Helper()
	info := c.TopicInfo(topic)
	if info == nil {
		c.t.Fatalf("topic %s does not exist", topic)
	}
	return c.Spoil(key, info.TopicID[:], how, count)
}

// Observe calls see for each request from now on, concurrently, with the id of the client that sent it. Call it before the clients of interest
// connect.
func (c *Cluster) Observe(see func(client string, request kmsg.Request)) {
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	c.requests.see = see
}

// interceptor sits on the connections to a fake cluster.
type interceptor struct {
	epochs epochs
	hidden hiddenIDs

	creations sync.RWMutex // held while a topic is deleted and created again

	mu       sync.Mutex
	see      func(client string, request kmsg.Request)
	key      kmsg.Key
	contains []byte
	how      Spoil
	left     int
	arrived  func() // at each that is spoiled

	listeners []*listener // by node
}

func (i *interceptor) observer() func(client string, request kmsg.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.see
}

// await lets a request to create topics wait while the test recreates one.
func (i *interceptor) await(frame []byte) {
	if keyOf(frame) == kmsg.CreateTopics && !bytes.Contains(frame, []byte(testClientID)) {
		i.creations.RLock()
		defer i.creations.RUnlock()
	}
}

func keyOf(frame []byte) kmsg.Key { return kmsg.Key(binary.BigEndian.Uint16(frame[4:])) }

// catch says whether a request is spoiled, and how.
func (i *interceptor) catch(frame []byte) (Spoil, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.left == 0 || keyOf(frame) != i.key || !bytes.Contains(frame, i.contains) {
		return 0, false
	}
	i.left--
	i.arrived()
	return i.how, true
}

// conn reads whole requests from the client, so that it knows which answers to spoil.
type conn struct {
	net.Conn
	interceptor *interceptor
	listener    *listener
	rest        []byte // of the request that the cluster is reading
	hangs       bool   // nothing more is handled

	mu            sync.Mutex
	spoiled       map[uint32]Spoil        // by correlation id
	epochRequests map[uint32]kmsg.Request // whose answers tell a producer's epoch, likewise
	metadata      map[uint32]int16        // versions of metadata requests, likewise
}

func newConn(c net.Conn, l *listener) *conn {
	return &conn{Conn: c, interceptor: l.interceptor, listener: l, spoiled: make(map[uint32]Spoil), epochRequests: make(map[uint32]kmsg.Request), metadata: make(map[uint32]int16)}
}

// inspect decodes a request if it is observed, or if its answer tells a producer's epoch.
func (c *conn) inspect(frame []byte) {
	reader := kbin.Reader{Src: frame[4:]}
	key, version, correlation := reader.Int16(), reader.Int16(), reader.Int32()
	if key == int16(kmsg.Metadata) {
		c.mu.Lock()
		c.metadata[uint32(correlation)] = version
		c.mu.Unlock()
	}
	tellsEpoch := key == int16(kmsg.InitProducerID) || key == int16(kmsg.EndTxn)
	see := c.interceptor.observer()
	if !tellsEpoch && see == nil {
		return
	}
	client := reader.NullableString()
	request := kmsg.RequestForKey(key)
	request.SetVersion(version)
	if request.IsFlexible() {
		kmsg.SkipTags(&reader)
	}
	if request.ReadFrom(reader.Src) != nil {
		return
	}
	if see != nil {
		see(*client, request)
	}
	if tellsEpoch {
		c.mu.Lock()
		c.epochRequests[uint32(correlation)] = request
		c.mu.Unlock()
	}
}

func (c *conn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		var size [4]byte
		if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
			return 0, err
		}
		frame := make([]byte, 4+binary.BigEndian.Uint32(size[:]))
		copy(frame, size[:])
		if _, err := io.ReadFull(c.Conn, frame[4:]); err != nil {
			return 0, err
		}
		c.inspect(frame)
		c.interceptor.await(frame)
		how, ok := c.interceptor.catch(frame)
		c.hangs = c.hangs || ok && how == Swallow
		switch {
		case c.hangs:
			continue
		case ok && how == DropRequest:
			return 0, errors.New("the request is dropped")
		case ok:
			c.mu.Lock()
			c.spoiled[binary.BigEndian.Uint32(frame[8:])] = how
			c.mu.Unlock()
		}
		c.rest = frame
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	how, ok := c.spoiled[binary.BigEndian.Uint32(b[4:])]
	request := c.epochRequests[binary.BigEndian.Uint32(b[4:])]
	version, isMetadata := c.metadata[binary.BigEndian.Uint32(b[4:])]
	delete(c.metadata, binary.BigEndian.Uint32(b[4:]))
	c.mu.Unlock()
	if isMetadata && !ok {
		_, err := c.Conn.Write(c.interceptor.hidden.hide(version, b))
		return len(b), err
	}
	if request != nil {
		c.interceptor.epochs.learn(request, b)
	}
	switch {
	case !ok:
		return c.Conn.Write(b)
	case how == NeverRespond:
		return len(b), nil
	case how == SlowResponse:
		<-time.After(slowness) // the delay is what the test is about
		return c.Conn.Write(b)
	default:
		return 0, errors.New("the response is dropped")
	}
}
