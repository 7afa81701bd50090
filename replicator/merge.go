package replicator

import "github.com/milena-kafka/milena/replicator/recordbatch"

// A broker takes one batch of a partition per request, and works at one request of a connection at a time. A partition of tiny batches is therefore
// bound by requests per second, whatever is in flight. When many of them wait, they are merged into one. Nothing is merged on a calm day: what
// arrives is sent at once.
const (
	// LeastMerged is how many batches must fit into mergedBytes: fewer are not worth the copy.
	leastMerged = 16
	// MergedBytes limits the batches that become one, in bytes together.
	mergedBytes = 64 << 10
)

// mergeNextLocked merges the next batches of a partition if they are tiny and many wait. If they cannot be merged, they are sent one by one: so a
// damaged one is refused by the target, as it must be. The partition's lock is held.
func (f *Flow) mergeNextLocked(p *partition) {
	if !f.live().Merge || p.hold.isHeldBack() || p.refusal.times > 0 || p.split != (split{}) {
		return
	}
	n := p.outbox.tinyBatches()
	if n == 0 {
		return
	}
	batches := make([][]byte, 0, n)
	for _, b := range p.queue[p.inFlight:][:n] {
		batches = append(batches, b.batch)
	}
	merged, err := recordbatch.Merge(batches, p.outbox.limit(f.batchRules(p.topic).MaxBytes))
	if err != nil {
		return
	}
	p.outbox.replaceNext(n, merged, newOwnSlab(f.budget, len(merged)))
	f.pending.Add(1 - int64(n))
	p.topic.metrics.merged.Add(float64(n))
}

// tinyBatches returns how many of the next batches are worth merging, 0 if none are.
func (o *outbox) tinyBatches() int {
	waiting := o.queue[o.inFlight:]
	if len(waiting) < leastMerged {
		return 0
	}
	least := 0
	for _, b := range waiting[:leastMerged] {
		least += b.size
	}
	if least > mergedBytes { // nearly always, so no header is parsed for that
		return 0
	}
	n, size := 0, 0
	var last recordbatch.Header
	for _, b := range waiting {
		h, err := recordbatch.Parse(b.batch)
		if size += b.size; err != nil || size > mergedBytes || n > 0 && !recordbatch.Mergeable(last, h) {
			break
		}
		n, last = n+1, h
	}
	if n < leastMerged {
		return 0
	}
	return n
}
