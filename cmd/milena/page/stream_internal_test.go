package page

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/milena-kafka/milena/replicator"
)

// world is a page about one flow that copies 100 records each second, unless it is idle.
type world struct {
	page  *Page
	began time.Time

	mu    sync.Mutex
	idle  bool
	asked int // how often the statuses were asked for
}

func newWorld() *world {
	w := &world{began: time.Now()}
	w.page = New(Options{
		Version: "v", Instance: func() string { return "milena-0" }, Statuses: w.statuses,
		NotReady: func([]replicator.Status) []string { return nil }, Stopping: func() bool { return false },
	})
	return w
}

func (w *world) statuses() []replicator.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	s := replicator.Status{Flow: "a-b", Source: "a", Target: "b", Ready: true, Fence: "transactions"}
	if !w.idle {
		s.Records = int64(time.Since(w.began).Seconds()) * 100
		s.Bytes = 10 * s.Records
	}
	return []replicator.Status{s}
}

func (w *world) timesAsked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

// run runs the page until the test ends.
func (w *world) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background()) // that of the test ends after its bubble
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.page.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// browser is a client that keeps what it reads.
type browser struct {
	mu     sync.Mutex
	header http.Header
	code   int
	got    bytes.Buffer
	stuck  chan struct{} // reads nothing more until it is closed; nil if it reads on
	err    error         // of writes to it, nil while it is there
}

func (b *browser) Header() http.Header { return b.header }
func (b *browser) WriteHeader(c int)   { b.code = c }
func (b *browser) Flush()              {}
func (b *browser) Write(p []byte) (int, error) {
	b.mu.Lock()
	stuck := b.stuck
	b.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	return b.got.Write(p)
}

func (b *browser) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.got.String()
}

// open opens the stream of a page. Closed is closed when it has ended.
func (w *world) open(ctx context.Context, encoding string) (b *browser, closed chan struct{}) {
	b, closed = &browser{header: make(http.Header)}, make(chan struct{})
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/events", nil)
	r.Header.Set("Accept-Encoding", encoding)
	mux := http.NewServeMux()
	w.page.AddTo(mux)
	go func() {
		defer close(closed)
		mux.ServeHTTP(b, r)
	}()
	return b, closed
}

var eventForm = regexp.MustCompile(`event: view\nid: [0-9a-z]+-(\d+)\ndata: (\{"now":.*\})\n\n`)

// events are the numbers of the events in a text.
func events(text string) (ids []string) {
	for _, m := range eventForm.FindAllStringSubmatch(text, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

// One reader reads and one does not: the first gets every event in time, and the other is dropped instead of waited for.
func TestASlowReaderIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run(t)
		ctx, cancel := context.WithCancel(t.Context())
		fast, fastClosed := w.open(ctx, "")
		slow, slowClosed := w.open(ctx, "")
		synctest.Wait()
		if got := events(fast.text()); fmt.Sprint(got) != "[1]" || !strings.HasPrefix(fast.text(), "retry: 2000\n\n") {
			t.Fatalf("the view does not come at once: %q", fast.text())
		}
		slow.mu.Lock()
		slow.stuck = make(chan struct{})
		slow.mu.Unlock()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if n := len(events(fast.text())); n < 20 || n > 21 {
			t.Errorf("%d events in 20 seconds beside a reader that does not read", n)
		}
		if n := w.page.Streams(); n != 2 {
			t.Errorf("%d streams count, want 2: the slow one still holds its connection", n)
		}
		close(slow.stuck)
		<-slowClosed
		if n := len(events(slow.text())); n < 1 || n > backlog+3 {
			t.Errorf("the slow reader got %d events before it was dropped", n)
		}
		cancel()
		<-fastClosed
		if n := w.page.Streams(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
}

// Statuses are asked for once a second however many look, and only for the history if nobody does.
func TestNothingIsComputedWhileNobodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run(t)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := w.timesAsked(); n < 12 || n > 13 {
			t.Errorf("asked %d times in a minute in which nobody looked, want once for each column of the history", n)
		}
		if w.page.event != nil {
			t.Error("an event was made for nobody")
		}
		before := w.timesAsked()
		ctx, cancel := context.WithCancel(t.Context())
		var closed []chan struct{}
		for range 20 {
			_, c := w.open(ctx, "gzip")
			closed = append(closed, c)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := w.timesAsked() - before; n < 10 || n > 12 {
			t.Errorf("asked %d times in 10 seconds for 20 readers", n)
		}
		cancel()
		for _, c := range closed {
			<-c
		}
		before = w.timesAsked()
		time.Sleep(time.Minute + 2*interval)
		synctest.Wait()
		if n := w.timesAsked() - before; n < 12 || n > 13 {
			t.Errorf("asked %d times in a minute after all were gone", n)
		}
		w.page.latest.mu.Lock()
		defer w.page.latest.mu.Unlock()
		if w.page.latest.statuses != nil {
			t.Error("statuses are kept although nobody looks")
		}
	})
}

// A view that does not change is sent once; then a comment now and then shows that the stream lives.
func TestAnIdleStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.idle = true
		w.run(t)
		ctx, cancel := context.WithCancel(t.Context())
		b, closed := w.open(ctx, "")
		time.Sleep(65 * time.Second)
		synctest.Wait()
		// The second event is the first one with a throughput, of nothing.
		if got := events(b.text()); fmt.Sprint(got) != "[1 2]" || strings.Count(b.text(), ": nothing new\n\n") != 4 {
			t.Errorf("%q", b.text())
		}
		cancel()
		<-closed
	})
}

// Chunks are compressed once, and fit into the stream of a reader that came at any time.
func TestStreamsAreCompressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run(t)
		ctx, cancel := context.WithCancel(t.Context())
		first, firstClosed := w.open(ctx, "br, gzip;q=0.8")
		time.Sleep(5 * time.Second)
		second, secondClosed := w.open(ctx, "gzip")
		plain, plainClosed := w.open(ctx, "gzip;q=0, identity")
		time.Sleep(5*time.Second + 500*time.Millisecond)
		cancel()
		<-firstClosed
		<-secondClosed
		<-plainClosed
		want := events(plain.text())
		for name, b := range map[string]*browser{"first": first, "second": second} {
			if b.header.Get("Content-Encoding") != "gzip" {
				t.Errorf("%s: %v", name, b.header)
			}
			z, err := gzip.NewReader(&b.got)
			if err != nil {
				t.Fatal(name, err)
			}
			text, err := io.ReadAll(z)
			if !errors.Is(err, io.ErrUnexpectedEOF) { // it has no end
				t.Error(name, err)
			}
			if got := events(string(text)); len(got) < len(want) || fmt.Sprint(got[len(got)-len(want):]) != fmt.Sprint(want) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		if len(want) < 5 || plain.header.Get("Content-Encoding") != "" {
			t.Errorf("%v, %v", want, plain.header)
		}
	})
}

// The number of streams is bounded, and a reader that goes makes room.
func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run(t)
		ctx, cancel := context.WithCancel(t.Context())
		gone, cancelOne := context.WithCancel(ctx)
		_, oneClosed := w.open(gone, "")
		var closed []chan struct{}
		for range MaxStreams - 1 {
			_, c := w.open(ctx, "")
			closed = append(closed, c)
		}
		synctest.Wait()
		tooMany, refused := w.open(ctx, "")
		<-refused
		if tooMany.code != http.StatusServiceUnavailable || tooMany.header.Get("Retry-After") == "" || !strings.Contains(tooMany.text(), "64 pages are open already") {
			t.Errorf("%d %v %s", tooMany.code, tooMany.header, tooMany.text())
		}
		cancelOne()
		<-oneClosed
		another, c := w.open(ctx, "")
		synctest.Wait()
		if len(events(another.text())) != 1 {
			t.Errorf("%d %s", another.code, another.text())
		}
		cancel()
		for _, c := range append(closed, c) {
			<-c
		}
	})
}

// When the process stops, streams end by themselves, and none begins.
func TestStreamsEndWithTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.page.Run(ctx)
		}()
		_, closed := w.open(t.Context(), "")
		synctest.Wait()
		cancel()
		<-done
		<-closed
		late, refused := w.open(t.Context(), "")
		<-refused
		if late.code != http.StatusServiceUnavailable {
			t.Errorf("a stream begins after the end: %d %s", late.code, late.text())
		}
	})
}

// A reader whose connection is broken is forgotten at the next write.
func TestABrokenReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run(t)
		b, closed := w.open(t.Context(), "")
		synctest.Wait()
		b.mu.Lock()
		b.err = io.ErrClosedPipe
		b.mu.Unlock()
		<-closed
		if n := w.page.Streams(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
}
