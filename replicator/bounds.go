package replicator

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/replicator/wire"
)

// boundsAtOnce is how many partitions of a source broker are asked for their bounds at a time.
const boundsAtOnce = 8

// boundsChecks are the partitions of a source broker whose fetch offset is out of range. The bounds of their logs are requested outside the
// fetch loop, so that the other partitions are fetched in the meantime.
type boundsChecks struct {
	mu      sync.Mutex
	waiting []fetchTicket
	running bool // a goroutine works on them
}

// add adds a partition. It reports whether the caller must start the work.
func (c *boundsChecks) add(t fetchTicket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, t)
	start := !c.running
	c.running = true
	return start
}

// take returns the partitions that wait. If there are none, the work has ended.
func (c *boundsChecks) take() []fetchTicket {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.waiting
	c.waiting, c.running = nil, len(list) > 0
	return list
}

// checkBounds finds out why a fetch offset is out of range. It does not block.
func (b *sourceBroker) checkBounds(t fetchTicket) {
	if !b.bounds.add(t) {
		return
	}
	b.flow.background.Go(func() {
		for list := b.bounds.take(); len(list) > 0; list = b.bounds.take() {
			var group errgroup.Group
			group.SetLimit(boundsAtOnce)
			for _, t := range list {
				group.Go(func() error { b.flow.checkBounds(b.flow.hard, t, b.broker); return nil })
			}
			_ = group.Wait() // no function returns an error
		}
		b.wakeUp()
	})
}

// checkBounds requests the bounds of the log and compares the fetch offset with them.
func (f *Flow) checkBounds(ctx context.Context, t fetchTicket, leader int32) {
	p := t.partition
	start, end, err := wire.Bounds(ctx, f.source, leader, p.source())
	if err != nil {
		f.refreshSourceSoon()
	}
	p.mu.Lock()
	p.cursor.endFetch()
	p.cursor.delay(2 * refreshEvery)
	p.mu.Unlock()
	if err != nil {
		return
	}
	t.apply(func() {
		if lost, err := f.outOfBoundsLocked(p, t.offset, start, end); err == nil {
			f.raiseSourceLostLocked(p, p.recreatedLocked(lost, start, end))
		}
	})
}
