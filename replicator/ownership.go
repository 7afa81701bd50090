package replicator

import "sync/atomic"

// ownership is what this process knows of its right to write a shard. It may be read without a lock; transitions are made under the shard's.
//
//	unowned ──▶ owned ──▶ doubted ──▶ owned
type ownership struct {
	state     atomic.Int32
	requested atomic.Bool // a takeover is requested and has not begun
}

const (
	// unowned: the shard was not fenced and its journal not read by this process.
	unowned int32 = iota
	// owned: what is in the journal is known.
	owned
	// doubted: a journal write has an unknown result. The next takeover fences the journal partition too.
	doubted
)

// isOwned says that this process owns the shard, as far as it knows.
func (o *ownership) isOwned() bool { return o.state.Load() != unowned }

// isCertain says that the journal may be written.
func (o *ownership) isCertain() bool { return o.state.Load() == owned }

// own notes that the shard is fenced and its journal read.
func (o *ownership) own() { o.state.Store(owned) }

// doubt notes that the result of a journal write is unknown.
func (o *ownership) doubt() { o.state.CompareAndSwap(owned, doubted) }

// refenced notes that a fence has settled the doubt.
func (o *ownership) refenced() { o.state.CompareAndSwap(doubted, owned) }

// request notes that a takeover is wanted; false if one is requested already, which covers everything.
func (o *ownership) request() bool { return o.requested.CompareAndSwap(false, true) }

// begin notes that the takeover that was requested begins.
func (o *ownership) begin() { o.requested.Store(false) }
