package compare

import "github.com/milena-kafka/milena/offsets"

// transactions counts which records of the source's transactions are on the target. The outcome of a transaction is known when its marker is
// read, which may be long after its records.
type transactions struct {
	open    map[int64]*transaction // by producer id
	batches []transactionBatch     // in the order of the log, without those that the newest match has passed
}

// transaction is one transaction of the source.
type transaction struct {
	first          int64 // offset
	ended, aborted bool
	// The records on the target and those that are not, of the batches that the newest match has passed and that are not counted yet.
	copied, missing int64
}

// transactionBatch is one batch of a transaction. Offset next is exclusive.
type transactionBatch struct {
	first, next, records int64
	copied               int64 // records that are on the target
	transaction          *transaction
}

func newTransactions() transactions { return transactions{open: make(map[int64]*transaction)} }

// add adds a batch that was read from the source.
func (t *transactions) add(producer, first, next, records int64) {
	of := t.open[producer]
	if of == nil {
		of = &transaction{first: first}
		t.open[producer] = of
	}
	t.batches = append(t.batches, transactionBatch{first: first, next: next, records: records, transaction: of})
}

// has says that a transaction of the producer is open.
func (t *transactions) has(producer int64) bool { return t.open[producer] != nil }

// end ends the open transaction of a producer. It returns what can be counted now.
func (t *transactions) end(producer int64, how outcome) Counts {
	of := t.open[producer]
	delete(t.open, producer)
	of.ended, of.aborted = true, how == transactionAborted
	return of.takeCounts()
}

// outcome is how a transaction ended.
type outcome int

const (
	transactionCommitted outcome = iota
	transactionAborted
)

// startAt forgets what is before the first match: it is not compared.
func (t *transactions) startAt(source int64) {
	for len(t.batches) > 0 && t.batches[0].next <= source {
		t.batches = t.batches[1:]
	}
	if len(t.batches) > 0 && t.batches[0].first < source {
		b := &t.batches[0]
		b.first, b.records = source, min(b.records, b.next-source)
	}
}

// markCopied notes that the records of a segment are on the target.
func (t *transactions) markCopied(s offsets.Segment) {
	for i := range t.batches {
		b := &t.batches[i]
		if b.first >= s.SourceEnd() {
			return
		}
		b.copied += max(0, min(b.next, s.SourceEnd())-max(b.first, s.Source))
	}
}

// dropBelow drops the batches that end at or below an offset, which the newest match has passed: records in them that are not copied by now are
// missing. It returns what can be counted now.
func (t *transactions) dropBelow(offset int64) (c Counts) {
	for len(t.batches) > 0 && t.batches[0].next <= offset {
		b := t.batches[0]
		b.transaction.copied += b.copied
		b.transaction.missing += b.records - b.copied
		c.add(b.transaction.takeCounts())
		t.batches = t.batches[1:]
	}
	return c
}

// takeCounts returns the counts of a transaction that has ended, each record once.
func (t *transaction) takeCounts() (c Counts) {
	if !t.ended {
		return c
	}
	if t.aborted {
		c.AbortedOnTarget, c.AbortedNotOnTarget = t.copied, t.missing
	} else {
		c.NotOnTarget = t.missing
	}
	t.copied, t.missing = 0, 0
	return c
}

// firstOpen is the offset of the first record of an open transaction, limit if there is none below it.
func (t *transactions) firstOpen(limit int64) int64 {
	for _, of := range t.open {
		limit = min(limit, of.first)
	}
	return limit
}

// abortedFrom counts the records of aborted transactions in batches from a source offset on.
func (t *transactions) abortedFrom(source int64) (records int64) {
	for _, b := range t.batches {
		if b.transaction.aborted && b.first >= source {
			records += b.records
		}
	}
	return records
}
