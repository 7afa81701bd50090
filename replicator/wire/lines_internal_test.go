package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// Close ends what waits for a response and what is being written. A bubble does not end before all its goroutines have ended.
func TestCloseEndsAllRequests(t *testing.T) {
	for name, broker := range map[string]func(*link){
		"while they wait": discard,
		"while one is written": func(l *link) {
			_, _ = l.next()
			<-time.After(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, broker, func(t *testing.T, lines *Lines, _ *line) {
				s := sending(lines)
				s.must(t, pattern(1, 100))
				sent := make(chan error, 1)
				go func() { sent <- s.send(t, pattern(1, 100)) }()
				synctest.Wait()
				lines.Close()
				if err := <-sent; err != nil {
					t.Errorf("Send returned %v", err)
				}
				for i := range 2 {
					if o := s.next(t); o.request != i || !errors.Is(o.err, errLinesClosed) {
						t.Errorf("request %d ended as %+v", i, o)
					}
				}
				lines.Close() // once more does no harm
				if err := s.send(t, pattern(1, 100)); !errors.Is(err, errLinesClosed) {
					t.Errorf("Send after Close returned %v", err)
				}
				if _, err := lines.Fetch(t.Context(), 1, NewFetchRequest(0, 0, 0)); !errors.Is(err, errLinesClosed) {
					t.Errorf("Fetch after Close returned %v", err)
				}
				s.none(t)
			})
		})
	}
}

// A broker that reads nothing does not delay Close.
func TestCloseEndsAWrite(t *testing.T) {
	overBoth(t, func(t *testing.T, listen func(func(*link)) Access) {
		a := listen(func(l *link) {
			l.answerVersions()
			<-t.Context().Done()
		})
		writing := make(chan struct{}, 1000)
		a.Guard = func(kmsg.Key) error {
			writing <- struct{}{}
			return nil
		}
		s := sending(open(t, a))
		sent := make(chan error, 1)
		go func() { sent <- s.send(t, make([]byte, 64<<20)) }() // more than the sockets hold
		for range 4 {
			<-writing
		}
		s.lines.Close()
		if err := <-sent; err != nil {
			t.Error(err)
		}
		if o := s.next(t); !errors.Is(o.err, errLinesClosed) {
			t.Error(o.err)
		}
		s.none(t)
	})
}

// A connection that opens while the lines are closed is closed as well.
func TestCloseWhileAConnectionOpens(t *testing.T) {
	opening, proceed, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s := sending(open(t, access(t, listen(t, nil, func(l *link) {
		close(opening)
		<-proceed
		l.answerVersions()
		l.answerAll() // until the connection is closed
		close(ended)
	}), config.Cluster{})))
	sent := make(chan error, 1)
	go func() { sent <- s.send(t, pattern(1, 100)) }()
	<-opening
	s.lines.Close()
	close(proceed)
	if err := <-sent; !errors.Is(err, errLinesClosed) {
		t.Errorf("Send returned %v", err)
	}
	<-ended
	s.none(t)
}

// Who opens a connection to a broker that accepts it and is silent gives up when its context ends.
func TestAConnectionThatDoesNotOpen(t *testing.T) {
	silent := make(chan struct{})
	lines := open(t, access(t, listen(t, nil, func(l *link) {
		_, _ = io.Copy(io.Discard, l)
		close(silent)
	}), config.Cluster{}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := lines.Fetch(ctx, 1, NewFetchRequest(0, 0, 0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Fetch returned %v", err)
	}
	<-silent
}

// One goroutine opens a connection, and all others that need it wait for that. They share its failure, instead of trying one after the other, but each
// of them waits for no longer than it wants.
func TestWhoWaitsForAConnection(t *testing.T) {
	var opened atomic.Int32
	opening, proceed := make(chan struct{}), make(chan struct{})
	lines := open(t, access(t, listen(t, nil, func(l *link) {
		if opened.Add(1) == 1 {
			close(opening)
		}
		_, _ = l.next()
		<-proceed
	}), config.Cluster{}))
	fetch := func(ctx context.Context) error {
		_, err := lines.Fetch(ctx, 1, NewFetchRequest(0, 0, 0))
		return err
	}
	failed, waits := make(chan error), make(chan struct{})
	for range 10 {
		go func() { failed <- fetch(&noticed{Context: t.Context(), waits: waits}) }()
	}
	<-opening
	for range 10 {
		<-waits
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := fetch(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	close(proceed)
	for range 10 {
		if err := <-failed; !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// noticed tells when somebody waits for its end.
type noticed struct {
	context.Context //nolint:containedctx // it is one
	once            sync.Once
	waits           chan struct{}
}

func (c *noticed) Done() <-chan struct{} {
	c.once.Do(func() { go func() { c.waits <- struct{}{} }() })
	return c.Context.Done()
}

// Who opens a connection may give up. Then somebody else who waits for it opens it.
func TestWhoOpensAConnectionGivesUp(t *testing.T) {
	var opened atomic.Int32
	opening := make(chan struct{})
	s := sending(open(t, access(t, listen(t, nil, func(l *link) {
		if opened.Add(1) == 1 {
			close(opening)
			discard(l)
			return
		}
		l.answerVersions()
		l.answerAll()
	}), config.Cluster{})))
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := s.lines.Fetch(ctx, 1, NewFetchRequest(0, 0, 0))
		gaveUp <- err
	}()
	<-opening
	sent := make(chan error)
	go func() { sent <- s.send(t, pattern(1, 100)) }()
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if o := s.next(t); o.err != nil {
		t.Error(o.err)
	}
}

// Many send at the same time, to a broker that is not connected yet. They share one connection.
func TestSendersShareAConnection(t *testing.T) {
	var mu sync.Mutex
	connections := 0
	s := sending(open(t, access(t, listen(t, nil, func(l *link) {
		mu.Lock()
		connections++
		mu.Unlock()
		l.answerVersions()
		l.answerAll()
	}), config.Cluster{})))
	var senders sync.WaitGroup
	for range 20 {
		senders.Go(func() {
			for range 20 {
				request := NewProduceRequest(time.Second)
				request.Add(topicPartition, topicID, pattern(1, 1000))
				if err := sendOn(t.Context(), s.lines, 1, request, func(_ *kmsg.ProduceResponse, err error) { s.ended <- outcome{err: err} }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
	for range 400 {
		if o := s.next(t); o.err != nil {
			t.Fatal(o.err)
		}
	}
	if connections != 1 {
		t.Errorf("%d connections", connections)
	}
	if trip := s.lines.RoundTrip(1); trip <= 0 || trip > time.Minute {
		t.Errorf("the round trip takes %s", trip)
	}
	if trip := s.lines.RoundTrip(2); trip != 0 {
		t.Errorf("the round trip to an unknown broker takes %s", trip)
	}
}

// Who gives up a fetch leaves its response to nobody: the next fetch gets its own one, on the same connection, and its buffer is no other's.
func TestAFetchThatIsGivenUp(t *testing.T) {
	proceed := make(chan struct{})
	lines := open(t, access(t, listen(t, nil, func(l *link) {
		l.answerVersions()
		for n := byte(0); ; n++ {
			r, err := l.next()
			if err != nil {
				return
			}
			if n == 0 {
				<-proceed
			}
			l.answer(r, fetched(pattern(n, 100_000)))
		}
	}), config.Cluster{}))
	request := func() *FetchRequest {
		r := NewFetchRequest(time.Second, 1<<20, ReadUncommitted)
		r.Add(FetchPartition{topicPartition, FetchOffset{TopicID: topicID}})
		return r
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := lines.Fetch(ctx, 1, request()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Fetch returned %v", err)
	}
	close(proceed)
	var kept []*FetchResponse
	for n := byte(1); n < 20; n++ {
		response, err := lines.Fetch(t.Context(), 1, request())
		if err != nil {
			t.Fatal(err)
		}
		if got := response.Topics[0].Partitions[0].RecordBatches; !bytes.Equal(got, pattern(n, 100_000)) {
			t.Fatalf("fetch %d got another response", n)
		}
		if held := response.Held(); held < 100_000 || held > 120_000 {
			t.Errorf("the response holds %d bytes", held)
		}
		if n%2 == 0 {
			response.Release()
		} else {
			kept = append(kept, response)
		}
	}
	for i, response := range kept {
		if !bytes.Equal(response.Topics[0].Partitions[0].RecordBatches, pattern(byte(2*i+1), 100_000)) {
			t.Errorf("response %d was overwritten", i)
		}
	}
}

// told is what hooks are told, of produce requests and of all connections.
type told struct {
	mu    sync.Mutex
	lines []string
	e2e   []kgo.BrokerE2E
	ended chan struct{} // a connection ended
}

func (h *told) note(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, line)
}

func (h *told) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, conn net.Conn, err error) {
	if meta.NodeID >= 0 { // kgo connects to seeds, too
		h.note(fmt.Sprintf("connect to %s, connected: %t, failed: %t", meta.Host, conn != nil, err != nil))
	}
}

func (h *told) OnBrokerDisconnect(meta kgo.BrokerMetadata, _ net.Conn) {
	if meta.NodeID >= 0 {
		h.note("disconnect")
		h.ended <- struct{}{}
	}
}

func (h *told) OnBrokerThrottle(_ kgo.BrokerMetadata, interval time.Duration, after bool) {
	h.note(fmt.Sprintf("throttle %s, after the response: %t", interval, after))
}

func (h *told) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if kmsg.Key(key) != kmsg.Produce {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if e2e.ReadWait < 0 || e2e.ReadWait > time.Minute || e2e.TimeToWrite < 0 || e2e.TimeToWrite > time.Minute || e2e.TimeToRead < 0 || e2e.TimeToRead > time.Minute {
		h.lines = append(h.lines, "wrong times")
	}
	h.e2e = append(h.e2e, kgo.BrokerE2E{BytesWritten: e2e.BytesWritten, BytesRead: e2e.BytesRead})
	h.lines = append(h.lines, fmt.Sprintf("produce, written: %t, answered: %t", e2e.WriteErr == nil, e2e.WriteErr == nil && e2e.ReadErr == nil))
}

// The metrics of a flow count lines and kgo clients together, so both must tell the same.
func TestHooksAreToldWhatKgoTells(t *testing.T) {
	fake := kafkatest.New(t, kfake.SeedTopics(1, "a"))
	fake.ControlKey(kmsg.Produce.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		response := request.ResponseKind().(*kmsg.ProduceResponse)
		switch records := request.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records; len(records) {
		case 2000:
			response.ThrottleMillis = 1
		case 3000:
			return nil, errors.New("close the connection"), true
		}
		return response, nil, true
	})
	cluster := config.Cluster{Brokers: fake.ListenAddrs()}
	requests := func(produce func(*ProduceRequest) error) {
		for _, size := range []int{1000, 2000, 3000} {
			request := NewProduceRequest(time.Second)
			request.Add(offsets.TopicPartition{Topic: "a"}, [16]byte{}, pattern(1, size))
			if err := produce(request); (err != nil) != (size == 3000) {
				t.Errorf("a request of %d bytes: %v", size, err)
			}
		}
	}

	byKgo, byLines := &told{ended: make(chan struct{}, 10)}, &told{ended: make(chan struct{}, 10)}
	options, err := client.Options(cluster, &client.Dials{}, slog.New(slog.DiscardHandler), byKgo)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), cl); err != nil {
		t.Fatal(err)
	}
	requests(func(request *ProduceRequest) error {
		_, err := cl.Broker(0).Request(t.Context(), request)
		return err
	})
	<-byKgo.ended

	a := access(t, cluster.Brokers[0], cluster)
	a.Hooks = []kgo.Hook{byLines}
	lines := open(t, a)
	requests(func(request *ProduceRequest) error {
		ended := make(chan error, 1)
		if err := sendOn(t.Context(), lines, 0, request, func(_ *kmsg.ProduceResponse, err error) { ended <- err }); err != nil {
			return err
		}
		return <-ended
	})
	<-byLines.ended
	if diff := cmp.Diff(byKgo.lines, byLines.lines); diff != "" {
		t.Errorf("kgo and lines tell (-kgo +lines):\n%s", diff)
	}
	if diff := cmp.Diff(byKgo.e2e[:2], byLines.e2e[:2]); diff != "" {
		t.Errorf("kgo and lines tell (-kgo +lines):\n%s", diff)
	}
}

// A connection that does not open is told as a failure, and one that opens and fails afterwards as one that ends, too.
func TestHooksAreToldOfFailures(t *testing.T) {
	h := &told{ended: make(chan struct{}, 10)}
	a := access(t, listen(t, nil, func(l *link) { _, _ = l.next() }), config.Cluster{})
	a.Hooks = []kgo.Hook{h}
	if err := sending(open(t, a)).send(t, nil); err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("Send returned %v", err)
	}
	<-h.ended
	a.Address = func(int32) string { return "127.0.0.1:1" }
	if err := sending(open(t, a)).send(t, nil); err == nil {
		t.Error("Send connects to a port where nobody listens")
	}
	slices.Sort(h.lines)
	want := []string{"connect to 127.0.0.1, connected: false, failed: true", "connect to 127.0.0.1, connected: true, failed: true", "disconnect"}
	if diff := cmp.Diff(want, h.lines); diff != "" {
		t.Errorf("hooks are told (-want +got):\n%s", diff)
	}
	guard := &guards{from: 2}
	b := access(t, listen(t, nil, func(l *link) {
		l.answerVersions()
		_, _ = io.Copy(io.Discard, l.in)
	}), config.Cluster{})
	h = &told{ended: make(chan struct{}, 10)}
	b.Guard, b.Hooks = guard.permit, []kgo.Hook{h}
	s := sending(open(t, b))
	s.must(t, pattern(1, 100))
	s.must(t, pattern(1, 100))
	<-h.ended
	slices.Sort(h.lines)
	want = []string{
		"connect to 127.0.0.1, connected: true, failed: false", "disconnect", "produce, written: false, answered: false", "produce, written: true, answered: false",
	}
	if diff := cmp.Diff(want, h.lines); diff != "" {
		t.Errorf("hooks are told (-want +got):\n%s", diff)
	}
}

// slowClose is a connection whose Close blocks, as that of TLS, which says goodbye.
type slowClose struct {
	net.Conn
	once             sync.Once
	closing, proceed chan struct{}
}

func (c *slowClose) Close() error {
	c.once.Do(func() { close(c.closing) })
	<-c.proceed
	return c.Conn.Close()
}

// A connection is lost with a request that the broker has not read. Nobody gets another connection before the end of that request is told: what follows
// it would overtake its end, and a broker that has forgotten the producer would write it. The lost connection takes no request any more.
func TestNothingOvertakesTheEndOfALostConnection(t *testing.T) {
	events := make(chan string, 10)
	a := access(t, listen(t, nil, func(l *link) {
		l.answerVersions()
		if _, err := l.next(); err == nil {
			events <- "the next request arrives"
		}
	}), config.Cluster{})
	address, dials := a.Address, atomic.Int32{}
	a.Address = func(broker int32) string {
		dials.Add(1)
		return address(broker)
	}
	lines := open(t, a)
	ours, theirs := net.Pipe()
	conn := &slowClose{Conn: ours, closing: make(chan struct{}), proceed: make(chan struct{})}
	l := newLine(&lines.access, kgo.BrokerMetadata{NodeID: 1}, "broker:9092", conn)
	l.versions = map[int16]int16{0: 13}
	lines.byBroker[1] = &brokerLine{line: l}
	request := func() *ProduceRequest {
		r := NewProduceRequest(10 * time.Second)
		r.Add(topicPartition, topicID, pattern(1, 100))
		return r
	}

	lost, err := lines.Connect(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = newLink(theirs).next()
		_ = theirs.Close()
	}()
	if err := lost.Send(t.Context(), request(), func(*kmsg.ProduceResponse, error) { events <- "the end is told" }); err != nil {
		t.Fatal(err)
	}
	<-conn.closing
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := lines.Connect(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Connect returned %v while a request had not ended", err)
	}
	if n := dials.Load(); n > 0 {
		t.Error("a connection was opened while a request of the lost one had not ended")
	}
	if err := lost.Send(t.Context(), request(), nil); !errors.Is(err, errLineClosed) {
		t.Errorf("Send on the lost connection returned %v", err)
	}
	close(conn.proceed)
	if err := sendOn(t.Context(), lines, 1, request(), func(*kmsg.ProduceResponse, error) {}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the end is told", "the next request arrives"} {
		if got := <-events; got != want {
			t.Errorf("%s, want: %s", got, want)
		}
	}
}
