package replicator

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// shards are the shards that this process holds. A shard that it holds again is a new value: nothing that began while it held the last one can
// act on it.
type shards struct {
	mu       sync.Mutex
	byNumber []*shard // nil: not held
	list     []*shard // those that are held, by number, nil if that changed
}

func newShards(n int32) shards { return shards{byNumber: make([]*shard, n)} }

// put adds a shard. It returns false if the process holds one of that number.
func (h *shards) put(s *shard) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byNumber[s.number] != nil {
		return false
	}
	h.byNumber[s.number], h.list = s, nil
	return true
}

// take removes the shards of these numbers, and returns those that were held.
func (h *shards) take(numbers []int32) (taken []*shard) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range numbers {
		if s := h.byNumber[k]; s != nil {
			taken = append(taken, s)
			h.byNumber[k], h.list = nil, nil
		}
	}
	return taken
}

// get returns a shard, nil if this process does not hold it.
func (h *shards) get(number int32) *shard {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byNumber[number]
}

// all returns the shards that are held, by number. The list is shared and must not be changed.
func (h *shards) all() []*shard {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.list == nil {
		h.list = slices.DeleteFunc(slices.Clone(h.byNumber), func(s *shard) bool { return s == nil })
	}
	return h.list
}

// numbers returns the numbers of the shards that are held, ascending.
func (h *shards) numbers() []int32 {
	held := h.all()
	list := make([]int32, len(held))
	for i, s := range held {
		list[i] = s.number
	}
	return list
}

// tasks are the goroutines that take a shard over or recover its partitions. They end before another process may have the shard.
type tasks struct {
	fail func(error) // gets the error of a task that was not cancelled
	over atomic.Bool // set with the lock held

	mu      sync.Mutex
	cancels map[*context.CancelFunc]bool // of those that run
	idle    sync.Cond
}

func newTasks(fail func(error)) *tasks {
	t := &tasks{fail: fail, cancels: make(map[*context.CancelFunc]bool)}
	t.idle.L = &t.mu
	return t
}

// run calls do, unless the tasks have ended. The context of do ends with them.
func (t *tasks) run(ctx context.Context, do func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	if t.over.Load() {
		t.mu.Unlock()
		return
	}
	t.cancels[&cancel] = true
	t.mu.Unlock()
	if err := do(ctx); err != nil && ctx.Err() == nil {
		t.fail(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.cancels, &cancel)
	t.idle.Broadcast()
}

// ended reports whether no task begins any more.
func (t *tasks) ended() bool { return t.over.Load() }

// end cancels all tasks and waits until they have ended.
func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over.Store(true)
	for cancel := range t.cancels {
		(*cancel)()
	}
	for len(t.cancels) > 0 {
		t.idle.Wait()
	}
}
