package replicator

import "github.com/milena-kafka/milena/replicator/control"

// setPause sets the pause of the partition, nil for none, and reports whether it is to be fetched again. A paused partition is taken over and fenced like
// any other, and what is in flight is awaited. What was fetched and not sent is discarded, so that it holds no memory, and is fetched again later.
func (p *partition) setPause(d *control.Decision) (resumed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.pause
	p.pause = d
	if d != nil && before == nil {
		p.dropUnsentLocked()
	}
	return d == nil && before != nil
}

// dropUnsentLocked discards what was fetched and not sent, and moves the cursor back to what is in flight. The partition's lock is held.
func (p *partition) dropUnsentLocked() {
	next, epoch := p.acked, p.doneEpoch
	if n := p.inFlight; n > 0 {
		next, epoch = p.queue[n-1].next, p.queue[n-1].leaderEpoch
	}
	if dropped := p.outbox.dropUnsent(); dropped > 0 {
		p.shard.flow.pending.Add(-int64(dropped))
		p.cursor.moveBack(next, epoch)
	}
}
