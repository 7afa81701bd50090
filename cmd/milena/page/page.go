package page

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/milena-kafka/milena/replicator"
)

// interval is how often the view is computed while somebody looks.
const interval = time.Second

// Options are what a page is about.
type Options struct {
	Version string
	// Instance is the id of the process.
	Instance func() string
	// Statuses are those of all flows. It is called at most once per second while somebody looks, and otherwise every few seconds for the history.
	Statuses func() []replicator.Status
	// NotReady is why the process is not ready, and Stopping whether it ends.
	NotReady func([]replicator.Status) []string
	Stopping func() bool
}

// Page serves the status page. Its methods may be called concurrently. Run keeps it up to date.
type Page struct {
	options Options
	readers *readers
	history *history
	latest  latest

	// The fields below belong to Run.
	boot    string
	chunks  *chunker
	meters  map[string]*meter // by flow
	event   *chunk            // the newest, nil before the first one
	body    []byte            // the view that it has
	made    time.Time         // when the view was last computed
	sampled int64             // slot of the last sample of the history
}

// New creates a page. It does nothing before Run.
func New(o Options) *Page {
	c := newChunker()
	return &Page{
		options: o, readers: newReaders(c), history: newHistory(), chunks: c, meters: make(map[string]*meter),
		boot: strconv.FormatInt(time.Now().UnixMilli(), 36),
	}
}

// AddTo adds the paths of the page.
func (p *Page) AddTo(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/events", p.readers.serve)
	mux.HandleFunc("GET /api/v1/history", p.serveHistory)
	addAssets(mux)
	p.addRows(mux)
}

// Streams counts the open pages, each of which holds a connection.
func (p *Page) Streams() int { return p.readers.count() }

// Run keeps the history and the open pages up to date until ctx ends, and ends all streams then.
func (p *Page) Run(ctx context.Context) {
	defer p.readers.close()
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		case <-p.readers.joined:
		}
		p.pass(time.Now())
	}
}

// pass does what is due at a time. It computes nothing if nobody looks and the history has its sample.
func (p *Page) pass(now time.Time) {
	looked, slot := p.readers.count() > 0, slotOf(now)
	viewDue := looked && (p.event == nil || now.Sub(p.made) >= interval)
	if viewDue || slot != p.sampled {
		statuses := p.latest.get(now, p.options.Statuses)
		p.measure(statuses, now)
		if slot != p.sampled {
			p.sampled = slot
			p.history.add(statuses, slot, now)
		}
		if viewDue {
			p.made = now
			p.makeEvent(p.view(statuses, now), now)
		}
	}
	if looked && p.event != nil {
		p.readers.publish(p.event)
	} else if !looked {
		p.latest.forget(now)
	}
}

// makeEvent makes the next event, unless the view is as it was.
func (p *Page) makeEvent(v View, now time.Time) {
	body, err := json.Marshal(v)
	if err != nil || bytes.Equal(body, p.body) && p.event != nil { // it has nothing that cannot be marshalled
		return
	}
	p.body = body
	id := int64(1)
	if p.event != nil {
		id = p.event.id + 1
	}
	p.event = p.chunks.event(p.boot, id, withNow(body, now))
}

// withNow adds the time, by which the view is compared with nothing, to a JSON object.
func withNow(object []byte, now time.Time) []byte {
	return append(fmt.Appendf(nil, `{"now":%q,`, now.UTC().Format(time.RFC3339Nano)), object[1:]...)
}

// view is the first screen.
func (p *Page) view(statuses []replicator.Status, now time.Time) View {
	v := View{
		Version: p.options.Version, Instance: p.options.Instance(), NotReady: listed(p.options.NotReady(statuses)), Flows: []Flow{},
	}
	for i := range statuses {
		s := &statuses[i]
		f := newFlow(s, commandsOf(s, len(statuses)), p.options.Stopping(), now)
		f.Throughput, f.Latency = p.meters[s.Flow].lately(now)
		v.Flows = append(v.Flows, f)
	}
	return v
}

// latest is the newest statuses, shared by the view and the rows.
type latest struct {
	mu       sync.Mutex
	at       time.Time
	statuses []replicator.Status
}

// get returns statuses that are not older than the interval. They are not to be changed.
func (l *latest) get(now time.Time, ask func() []replicator.Status) []replicator.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.IsZero() || now.Sub(l.at) >= interval {
		l.statuses, l.at = ask(), now
	}
	return l.statuses
}

// forget frees statuses that nobody needs any more.
func (l *latest) forget(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.at) >= interval {
		l.statuses, l.at = nil, time.Time{}
	}
}

// refuse answers a request with a failure.
func refuse(w http.ResponseWriter, code int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": fmt.Sprintf(format, args...)}) // an error means that the client has disconnected
}

// answer answers a request with JSON, compressed if that is accepted.
func answer(w http.ResponseWriter, r *http.Request, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Add("Vary", "Accept-Encoding")
	if !acceptsGzip(r) {
		_ = json.NewEncoder(w).Encode(v) // an error means that the client has disconnected
		return
	}
	h.Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	_ = json.NewEncoder(z).Encode(v)
	_ = z.Close()
}
