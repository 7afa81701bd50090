package replicator

// ticket is what a request about a partition was made under. Its result comes from outside the partition's lock, and in the meantime the
// partition may have been reset by a doubt, a takeover, an anomaly, or the end of its topic. So a result changes a partition only through
// apply, which checks and acts in one critical section: a check in an earlier one says nothing about the next.
type ticket struct {
	partition  *partition
	generation int
}

// ticketLocked returns a ticket for what is requested now. The partition's lock is held.
func (p *partition) ticketLocked() ticket { return ticket{p, p.generation} }

// apply calls do with the partition's lock held, unless the partition was reset since the request. It reports whether it did.
func (t ticket) apply(do func()) bool {
	t.partition.mu.Lock()
	defer t.partition.mu.Unlock()
	if t.partition.generation != t.generation {
		return false
	}
	do()
	return true
}

// fetchTicket is the ticket of a fetch from an offset. What the source has there concerns the partition only while it is still fetched from
// that offset, which it is not any more once its outbox is closed.
type fetchTicket struct {
	ticket
	offset int64
}

// apply is like [ticket.apply], and also requires that the partition is still fetched from the offset.
func (t fetchTicket) apply(do func()) {
	t.ticket.apply(func() {
		if p := t.partition; p.state == replicating && p.next == t.offset && !p.closed && p.pause == nil {
			do()
		}
	})
}
