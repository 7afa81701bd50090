package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync"
	"time"
)

// control serves what a measurement asks of the two clusters:
//
//	POST /fill      append so many batches to each of these partitions of the source
//	POST /traffic   append so many a second from now on, instead of what was asked before
//	GET  /figures   what has arrived on the target
//	POST /delays    how long the slowest record of each partition took since the last call, and what is on its way
type control struct {
	ctx    context.Context //nolint:containedctx // of the process
	source *cluster
	target *cluster

	mu   sync.Mutex
	stop context.CancelFunc // of the traffic
}

// load is the body of /fill and /traffic.
type load struct {
	// Size is the number of bytes of a batch, about. It has records of at most 1 KiB.
	Size int `json:"size"`
	// Watched batches are those that /delays is about.
	Watched    bool            `json:"watched"`
	Partitions []loadPartition `json:"partitions"`
}

// loadPartition is a partition of a load, with its batches or batches per second.
type loadPartition struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Batches   float64 `json:"batches"`
}

// loaded is a partition of the source with its load.
type loaded struct {
	*partition
	rate, due float64
	watched   bool
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /fill", func(w http.ResponseWriter, r *http.Request) {
		if l, list, ok := c.read(w, r); ok {
			c.source.write(list, recordsBatch(l.Size))
		}
	})
	mux.HandleFunc("POST /traffic", func(w http.ResponseWriter, r *http.Request) {
		if l, list, ok := c.read(w, r); ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.stop != nil {
				c.stop()
			}
			var ctx context.Context
			ctx, c.stop = context.WithCancel(c.ctx)
			go c.source.keepWriting(ctx, list, recordsBatch(l.Size)) //nolint:contextcheck // it outlives the request
		}
	})
	mux.HandleFunc("GET /figures", func(w http.ResponseWriter, _ *http.Request) { answer(w, c.target.watch.figures()) })
	mux.HandleFunc("POST /delays", func(w http.ResponseWriter, _ *http.Request) { answer(w, c.target.watch.delays()) })
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	return mux
}

func answer(w http.ResponseWriter, what any) {
	if err := json.NewEncoder(w).Encode(what); err != nil {
		fmt.Println(err)
	}
}

// read reads a load, and finds its partitions.
func (c *control) read(w http.ResponseWriter, r *http.Request) (l load, list []*loaded, ok bool) {
	if err := json.NewDecoder(r.Body).Decode(&l); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return l, nil, false
	}
	c.source.mu.Lock()
	defer c.source.mu.Unlock()
	for _, of := range l.Partitions {
		p := c.source.find(of.Topic, [16]byte{}, of.Partition)
		if p == nil {
			http.Error(w, fmt.Sprintf("there is no %s/%d", of.Topic, of.Partition), http.StatusNotFound)
			return l, nil, false
		}
		list = append(list, &loaded{p, of.Batches, of.Batches, l.Watched})
	}
	return l, list, true
}

// write appends the batches that are due. The batch is shared, not copied. Other requests are answered in between.
func (c *cluster) write(list []*loaded, batch []byte) {
	records := recordsOf(batch)
	for some := range slices.Chunk(list, 64) {
		c.mu.Lock()
		now := time.Now()
		for _, l := range some {
			for ; l.due >= 1; l.due-- {
				if l.watched {
					l.track.sent(now, records)
				}
				c.appendLocked(l.partition, batch, records)
			}
		}
		c.mu.Unlock()
	}
}

// keepWriting appends batches at the rates of the partitions, the first ones spread over the time between two.
func (c *cluster) keepWriting(ctx context.Context, list []*loaded, batch []byte) {
	const every = 20 * time.Millisecond
	for i, l := range list {
		l.due = float64(i) / float64(len(list))
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, l := range list {
				l.due += l.rate * now.Sub(last).Seconds()
			}
			last = now
			c.write(list, batch)
		}
	}
}

// watch sees what arrives on the target.
type watch struct {
	source *cluster

	mu             sync.Mutex
	records, bytes int64
	tracked        []*track
}

// track is what is known of the watched records of a partition.
type track struct {
	watch *watch
	name  string

	mu      sync.Mutex
	listed  bool
	pending []time.Time // when those were written that have not arrived
	worst   time.Duration
	extra   int64 // records that arrived and were not sent
}

// figures are what has arrived so far, without the journals.
type figures struct {
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
}

func (w *watch) figures() figures {
	w.mu.Lock()
	defer w.mu.Unlock()
	return figures{w.records, w.bytes}
}

// delays are the answer of /delays.
type delays struct {
	// Worst has the time in ms of the slowest record of each partition that has had any, by "topic/partition". One on its way counts with its age.
	Worst   map[string]float64 `json:"worst"`
	Pending int                `json:"pending"` // records on their way
	Extra   int64              `json:"extra"`   // records that arrived twice
}

func (w *watch) delays() (d delays) {
	w.mu.Lock()
	list := slices.Clone(w.tracked)
	w.mu.Unlock()
	now := time.Now()
	d.Worst = make(map[string]float64)
	for _, t := range list {
		t.mu.Lock()
		if len(t.pending) > 0 {
			t.worst = max(t.worst, now.Sub(t.pending[0]))
		}
		if t.worst > 0 {
			d.Worst[t.name] = float64(t.worst.Microseconds()) / 1000
		}
		t.worst = 0
		d.Pending += len(t.pending)
		d.Extra += t.extra
		t.mu.Unlock()
	}
	return d
}

// sent notes records that are written.
func (t *track) sent(at time.Time, records int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.listed {
		t.listed = true
		t.watch.mu.Lock()
		t.watch.tracked = append(t.watch.tracked, t)
		t.watch.mu.Unlock()
	}
	for range records {
		t.pending = append(t.pending, at)
	}
}

// arrived notes a batch on the target.
func (w *watch) arrived(p *partition, records, bytes int64) {
	t := p.trackOfCopy(w.source)
	if t == nil {
		return
	}
	w.mu.Lock()
	w.records, w.bytes = w.records+records, w.bytes+bytes
	w.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.listed {
		return
	}
	now, have := time.Now(), min(int(records), len(t.pending))
	if have > 0 {
		t.worst = max(t.worst, now.Sub(t.pending[0]))
	}
	t.pending = t.pending[have:]
	t.extra += records - int64(have)
}
