package faults

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordsOf are records of a life with these sequence numbers, from an offset on.
func recordsOf(offset int64, life int, sequences ...int) (records []*kgo.Record) {
	for _, seq := range sequences {
		r := &kgo.Record{Offset: offset, Value: fmt.Appendf(nil, "recreated/0/%d ", seq)}
		if life > 0 {
			r.Headers = []kgo.RecordHeader{{Key: "life", Value: fmt.Append(nil, life)}}
		}
		records, offset = append(records, r), offset+1
	}
	return records
}

// A copy that lacks records of the last life is judged, and told whether the source has them. Of an earlier life nothing can be told.
func TestLivesAreJudged(t *testing.T) {
	old := recordsOf(0, 0, 0, 1)
	tests := []struct {
		name           string
		copied, source []*kgo.Record
		wrong, told    string
	}{
		{"complete", append(old, recordsOf(2, 1, 0, 1, 2)...), recordsOf(0, 1, 0, 1, 2), "", ""},
		{"a gap in the last life", append(old, recordsOf(2, 1, 0, 3)...), recordsOf(0, 1, 0, 1, 3), "2 records are lost", "it has 1 of the 2 records from 1 to 2; offset 1:"},
		{"a record twice", append(old, recordsOf(2, 1, 0, 1, 1)...), recordsOf(0, 1, 0, 1, 2), "a record is there twice", "it has 1 of the 1 records from 1 to 1"},
		{"a gap in an earlier life", append(recordsOf(0, 0, 0, 2), recordsOf(2, 1, 0)...), recordsOf(0, 1, 0), "1 records are lost", "it has no record of that life any more"},
		{"the end of the last life is missing", append(old, recordsOf(2, 1, 0)...), recordsOf(0, 1, 0, 1), "the copy ends with life 1 and 1 records", ""},
		{"an earlier life behind a later one", append(recordsOf(0, 1, 0), recordsOf(1, 0, 0)...), recordsOf(0, 1, 0), "after life 1", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := isLives(test.copied, test.source, 1)
			if (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Fatalf("judged: %v, want %q", err, test.wrong)
			}
			m, ok := errors.AsType[*misplacedError](err)
			if ok != (test.told != "") {
				t.Fatalf("the error is %T", err)
			}
			if ok && !strings.HasPrefix(onSource(test.source, 1, m), test.told) {
				t.Errorf("told: %s, want %s", onSource(test.source, 1, m), test.told)
			}
		})
	}
}
