package replicator

import "sync/atomic"

// ownership is whether this process owns a shard, as far as it knows. It may be read without a lock. Transitions require the shard's lock.
//
//	unowned ──▶ owned ──▶ doubted ──▶ owned
type ownership struct {
	state     atomic.Int32
	requested atomic.Bool // a takeover is requested and has not started
}

const (
	// unowned: this process has not fenced the shard and has not read its journal.
	unowned int32 = iota
	// owned: this process has fenced the shard and knows its journal.
	owned
	// doubted: the outcome of a journal write is unknown. The next takeover fences the journal partition again.
	doubted
)

// isOwned reports whether this process owns the shard, as far as it knows.
func (o *ownership) isOwned() bool { return o.state.Load() != unowned }

// isCertain reports whether the journal may be written.
func (o *ownership) isCertain() bool { return o.state.Load() == owned }

// own records that the shard is fenced and its journal read.
func (o *ownership) own() { o.state.Store(owned) }

// doubt records that the outcome of a journal write is unknown.
func (o *ownership) doubt() { o.state.CompareAndSwap(owned, doubted) }

// refenced records that the journal partition was fenced again, which resolves the doubt.
func (o *ownership) refenced() { o.state.CompareAndSwap(doubted, owned) }

// request records that a takeover is requested. It returns false if one is already requested and has not started, because that one suffices.
func (o *ownership) request() bool { return o.requested.CompareAndSwap(false, true) }

// begin records that the requested takeover starts.
func (o *ownership) begin() { o.requested.Store(false) }
