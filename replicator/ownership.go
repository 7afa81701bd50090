package replicator

import "sync/atomic"

// ownership is whether this process owns a shard, as far as it knows, and whether a takeover of it is requested. It may be read and changed
// without a lock.
//
//	unowned ──▶ owned ──▶ doubted ──▶ owned
//	    any ──▶ unowned, when the shard is given up
type ownership struct {
	state   atomic.Int32
	request atomic.Int32
}

const (
	// unowned: this process has not fenced the shard and has not read its journal.
	unowned int32 = iota
	// owned: this process has fenced the shard and knows its journal.
	owned
	// doubted: the outcome of a journal write is unknown, or the transactional id must be used again. The next takeover fences the journal
	// partition again.
	doubted
)

// isOwned reports whether this process owns the shard, as far as it knows.
func (o *ownership) isOwned() bool { return o.state.Load() != unowned }

// isCertain reports whether the journal may be written.
func (o *ownership) isCertain() bool { return o.state.Load() == owned }

// own records that the shard is fenced and its journal read.
func (o *ownership) own() { o.state.Store(owned) }

// giveUp records that this process does not own the shard any more. It is the last transition.
func (o *ownership) giveUp() { o.state.Store(unowned) }

// doubt records that the next takeover must fence the journal partition.
func (o *ownership) doubt() { o.state.CompareAndSwap(owned, doubted) }

// refenced records that the journal partition was fenced again, which resolves the doubt.
func (o *ownership) refenced() { o.state.CompareAndSwap(doubted, owned) }

const (
	// idle: nobody takes the shard over.
	idle int32 = iota
	// busy: a goroutine takes the shard over.
	busy
	// again: and must do so once more, for a request that came after it began.
	again
)

// begin records a request. It returns true if the caller must start a takeover. Otherwise one is running, which will see the request: a shard
// has one takeover at a time, however many doubts there are.
func (o *ownership) begin() bool {
	if o.request.CompareAndSwap(idle, busy) {
		return true
	}
	return !o.request.CompareAndSwap(busy, again) && o.request.CompareAndSwap(idle, busy)
}

// attend records that the running takeover looks at the shard now, so that it covers all requests so far.
func (o *ownership) attend() { o.request.Store(busy) }

// end ends the takeover. It returns false if there was another request in the meantime.
func (o *ownership) end() bool { return o.request.CompareAndSwap(busy, idle) }
