package replicator

import "slices"

// Without transactions there are no markers. An owner reads the journal and claims it in one step: a claim that is not right behind what was read is
// tried again. The log of a copy is read to a quiet end, which may be at any time: batches of an earlier owner may arrive later.

// claim reads the journal if that is necessary, and claims it.
func (w *world) claim(o *owner) string {
	s := o.shard
	o.recovery = o.flow.newRecovery(s)
	w.epoch++
	if code := w.journal.append(w.epoch, 0, 2); code != 0 {
		return "the claim is refused"
	}
	w.journal.marked = w.epoch // no earlier owner writes behind it
	o.epoch, o.claimed = w.epoch, true
	r := o.recovery
	r.mark, r.producerID, r.producerEpoch = marker{modelProducer, w.epoch}, modelProducer, w.epoch
	s.sequence, s.fencer.producerID, s.fencer.epoch, s.fencer.claimed = 2, modelProducer, w.epoch, true
	s.ownership.refenced()
	if r.reload {
		return o.readJournal(w)
	}
	return o.recover()
}

// awaitsQuietEnd reports whether the log of a partition must be read to a quiet end.
func (o *owner) awaitsQuietEnd(p *partition) bool {
	return o.flow.claims() && p.state == recovering && slices.Contains(p.recovery.known, p)
}

// isCopying reports whether an owner has settled both partitions.
func (o *owner) isCopying() bool {
	return !slices.ContainsFunc(o.partitions[:], func(p *partition) bool { return p.state != replicating })
}

// readToQuietEnd settles a partition with what its log holds now. Whatever earlier owners still append is late.
func (w *world) readToQuietEnd(o *owner, i int) string {
	w.partitions[i].marked = max(w.partitions[i].marked, o.partitions[i].recovery.mark.epoch)
	problem := o.settle(&w.partitions[i], o.partitions[i])
	if o.epoch < w.epoch {
		return "" // it was replaced: its map is its own, and it cannot journal that any more
	}
	return problem
}
