package replicator_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator"
)

// patience is how long a test waits for an event before it gives up.
const patience = 20 * time.Second

// spoil is what a trap does to a request.
type spoil int

const (
	loseAnswer  spoil = iota // the cluster handles the request, the connection closes instead of the answer
	loseRequest              // the connection closes before the cluster sees the request
	neverAnswer              // the cluster handles the request, the connection stays open and silent
	slowAnswer               // the answer takes its time, as a large one does on a slow line
)

// trap sits on the connections to a fake cluster and spoils requests of one key.
type trap struct {
	epochs epochs
	sees   func(client string, request kmsg.Request) // is told of every request, if it is set before the first one

	mu     sync.Mutex
	key    kmsg.Key
	holds  []byte // only requests with these bytes in them
	how    spoil
	left   int
	sprung chan struct{} // closed when nothing is left
}

// set arms the trap for the next count requests. What it returns is closed when all of them went in.
func (t *trap) set(key kmsg.Key, holds []byte, how spoil, count int) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.key, t.holds, t.how, t.left, t.sprung = key, holds, how, count, make(chan struct{})
	return t.sprung
}

func (t *trap) catches(frame []byte) (spoil, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 || int16(binary.BigEndian.Uint16(frame[4:])) != int16(t.key) || !bytes.Contains(frame, t.holds) {
		return 0, false
	}
	if t.left--; t.left == 0 {
		close(t.sprung)
	}
	return t.how, true
}

func (t *trap) listen(network, address string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), network, address)
	return trapListener{l, t}, err
}

type trapListener struct {
	net.Listener
	trap *trap
}

func (l trapListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &trapConn{Conn: c, trap: l.trap, caught: make(map[uint32]spoil), asked: make(map[uint32]kmsg.Request)}, nil
}

// trapConn reads whole requests from the client, so that it knows which answers to spoil.
type trapConn struct {
	net.Conn
	trap *trap
	rest []byte // of the request that is being handed on

	mu     sync.Mutex
	caught map[uint32]spoil        // by correlation id
	asked  map[uint32]kmsg.Request // that tell epochs, the same
}

// note keeps a request whose answer tells an epoch.
func (c *trapConn) note(frame []byte) {
	reader := kbin.Reader{Src: frame[4:]}
	key, version, correlation := reader.Int16(), reader.Int16(), reader.Int32()
	tells := key == int16(kmsg.InitProducerID) || key == int16(kmsg.EndTxn)
	if !tells && c.trap.sees == nil {
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
	if c.trap.sees != nil {
		c.trap.sees(*client, request)
	}
	if tells {
		c.mu.Lock()
		c.asked[uint32(correlation)] = request
		c.mu.Unlock()
	}
}

func (c *trapConn) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		var size [4]byte
		if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
			return 0, err
		}
		frame := make([]byte, 4+binary.BigEndian.Uint32(size[:]))
		copy(frame, size[:])
		if _, err := io.ReadFull(c.Conn, frame[4:]); err != nil {
			return 0, err
		}
		c.note(frame)
		if how, ok := c.trap.catches(frame); ok {
			if how == loseRequest {
				return 0, errors.New("the request is lost")
			}
			c.mu.Lock()
			c.caught[binary.BigEndian.Uint32(frame[8:])] = how
			c.mu.Unlock()
		}
		c.rest = frame
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *trapConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	how, ok := c.caught[binary.BigEndian.Uint32(b[4:])]
	request := c.asked[binary.BigEndian.Uint32(b[4:])]
	c.mu.Unlock()
	if request != nil {
		c.trap.epochs.learn(request, b)
	}
	switch {
	case !ok:
		return c.Conn.Write(b)
	case how == neverAnswer:
		return len(b), nil
	case how == slowAnswer:
		<-time.After(2 * time.Second)
		return c.Conn.Write(b)
	default:
		return 0, errors.New("the answer is lost")
	}
}

// await waits for an event.
func await(t *testing.T, what string, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		t.Fatalf("not within %s: %s", patience, what)
	}
}

// load keeps producing to every partition until it is stopped, which waits for what is under way.
func (p *pair) load(topic string, partitions int32) (stop func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(4 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			var records []*kgo.Record
			for n := range int32(5) {
				for part := range partitions {
					records = append(records, &kgo.Record{Topic: topic, Partition: part, Key: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil, "load-%d-%d-%d", part, i, n)})
				}
			}
			if err := p.sourceCl.ProduceSync(context.WithoutCancel(ctx), records...).FirstErr(); err != nil {
				done <- err
				return
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
		done <- nil
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				p.t.Errorf("the load on %s ended with: %v", topic, err)
			}
		})
	}
	p.t.Cleanup(stop)
	return stop
}

// settled waits until everything that the source topic holds now is acknowledged.
func (p *pair) settled(r *running, topic string) {
	p.t.Helper()
	ends, err := p.sourceAdm.ListEndOffsets(p.t.Context(), topic)
	if err != nil || ends.Error() != nil {
		p.t.Fatal(err, ends.Error())
	}
	want := make(map[int32]int64)
	for _, o := range ends[topic] {
		want[o.Partition] = o.Offset
	}
	r.until(fmt.Sprintf("%s is copied up to %v", topic, want), func(s replicator.Status) bool {
		reached := 0
		for _, ps := range s.Partitions {
			if ps.Topic == topic && ps.Acked >= want[ps.Partition] && ps.State == "replicating" {
				reached++
			}
		}
		return reached == len(want)
	})
}

// progress waits until so many more records are acknowledged.
func (r *running) progress(records int64) {
	r.t.Helper()
	goal := r.flow.Status().Records + records
	r.until(fmt.Sprintf("%d records acknowledged", goal), func(s replicator.Status) bool { return s.Records >= goal })
}

// halted waits until a partition is halted and gives its anomaly.
func (r *running) halted(topic string, partition int32) *replicator.AnomalyState {
	r.t.Helper()
	var found *replicator.AnomalyState
	r.until(fmt.Sprintf("%s-%d is halted", topic, partition), func(s replicator.Status) bool {
		for _, ps := range s.Partitions {
			if ps.Topic == topic && ps.Partition == partition && ps.State == "halted" {
				found = ps.Anomaly
			}
		}
		return found != nil
	})
	return found
}

// metric is the sum of the series of a metric that carry these labels, given as name and value in turn.
func (r *running) metric(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	series:
		for _, m := range family.GetMetric() {
			have := make(map[string]string)
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if have[labels[i]] != labels[i+1] {
					continue series
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// ended waits until Run returns by itself and gives what it returned.
func (r *running) ended() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(patience):
		r.t.Fatalf("the flow did not end within %s", patience)
		return nil
	}
}
