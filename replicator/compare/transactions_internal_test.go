package compare

import (
	"testing"

	"github.com/milena-kafka/milena/offsets"
)

// Records of a transaction are counted by its outcome, whether its marker or its copies are read first.
func TestTransactionsCountByOutcome(t *testing.T) {
	for _, test := range []struct {
		name string
		how  outcome
		want Counts
	}{
		{"committed", transactionCommitted, Counts{NotOnTarget: 3}},
		{"aborted", transactionAborted, Counts{AbortedOnTarget: 7, AbortedNotOnTarget: 3}},
	} {
		for _, markerFirst := range []bool{true, false} {
			tx := newTransactions()
			tx.add(1, 100, 110, 10)
			var got Counts
			if markerFirst {
				got.add(tx.end(1, test.how))
			}
			tx.markCopied(offsets.Segment{Source: 90, Target: 0, Count: 14})
			tx.markCopied(offsets.Segment{Source: 107, Target: 20, Count: 3})
			got.add(tx.dropBelow(109))
			if got != (Counts{}) {
				t.Errorf("%s: counted before the match has passed the batch: %+v", test.name, got)
			}
			got.add(tx.dropBelow(110))
			if !markerFirst {
				got.add(tx.end(1, test.how))
			}
			if got != test.want || tx.has(1) || len(tx.batches) > 0 {
				t.Errorf("%s, marker first %v: %+v, want %+v", test.name, markerFirst, got, test.want)
			}
		}
	}
}

func TestTransactionsFromAnOffset(t *testing.T) {
	tx := newTransactions()
	tx.add(1, 100, 110, 10)
	tx.add(2, 110, 120, 10)
	if got := tx.firstOpen(500); got != 100 {
		t.Errorf("first open transaction at %d, want 100", got)
	}
	tx.end(2, transactionAborted)
	if got := tx.abortedFrom(105); got != 10 {
		t.Errorf("%d records of aborted transactions, want 10", got)
	}
	tx.startAt(105)
	if b := tx.batches[0]; b.first != 105 || b.records != 5 {
		t.Errorf("the first batch begins at %d with %d records, want 5 from 105 on", b.first, b.records)
	}
	tx.startAt(110)
	if len(tx.batches) != 1 {
		t.Errorf("%d batches are left, want 1", len(tx.batches))
	}
}
