package recordbatch_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// A fetch response may end anywhere: whole batches are yielded, a truncated one is left out, and bytes that are not a batch are one error.
func TestEach(t *testing.T) {
	one := func(value string) []byte {
		b, err := recordbatch.Encode([]recordbatch.Record{{Value: []byte(value)}}, recordbatch.None)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first, second := one("first"), one("second")
	damaged := slices.Clone(second)
	damaged[16] = 9 // the magic byte
	for _, test := range []struct {
		name   string
		data   []byte
		want   int
		failed bool
	}{
		{"nothing", nil, 0, false},
		{"two batches", slices.Concat(first, second), 2, false},
		{"the second is cut off", slices.Concat(first, second[:len(second)-1]), 1, false},
		{"the second is cut off in its length", slices.Concat(first, second[:9]), 1, false},
		{"the second is damaged", slices.Concat(first, damaged, first), 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got, failures int
			for b, err := range recordbatch.Each(test.data) {
				if err != nil {
					failures++
					continue
				}
				want := [][]byte{first, second}[got]
				if !slices.Equal(b.Bytes, want) || b.Count != 1 {
					t.Errorf("batch %d is %x", got, b.Bytes)
				}
				got++
			}
			if got != test.want || failures != 0 != test.failed || failures > 1 {
				t.Errorf("%d batches and %d errors, want %d batches, error %v", got, failures, test.want, test.failed)
			}
		})
	}
	for _, err := range recordbatch.Each(damaged) {
		if wrong := new(recordbatch.FormatError); !errors.As(err, &wrong) {
			t.Errorf("the error is %v", err)
		}
	}
	for _, err := range recordbatch.Each(slices.Concat(first, second)) {
		if err != nil {
			t.Error(err)
		}
		break // an iteration may end early
	}
}
