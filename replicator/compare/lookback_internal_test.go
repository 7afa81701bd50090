package compare

import "testing"

// After many searches that found nothing, only some records are searched for, until one is found.
func TestLookBackSearchesLessAfterFailures(t *testing.T) {
	var l lookBack
	for target := range int64(maxFailedSearches) {
		if !l.worthwhile(target, 1) {
			t.Fatalf("no search for record %d", target)
		}
		l.finished(target, -1)
	}
	if l.worthwhile(maxFailedSearches, 1) || !l.worthwhile(maxFailedSearches, searchOneIn) {
		t.Error("failures do not reduce the searches")
	}
	l.finished(maxFailedSearches, 7)
	if !l.worthwhile(maxFailedSearches+1, 1) {
		t.Error("no search after one that found its record")
	}
	if l.worthwhile(maxFailedSearches, searchOneIn) {
		t.Error("a record is searched for twice")
	}
}
