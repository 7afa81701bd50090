package replicator

import (
	"math"
	"testing"
)

// A sequence that the broker does not expect is an OUT_OF_ORDER_SEQUENCE_NUMBER, so the wrap must be the broker's: 2^31-1 is followed by 0.
func TestSequenceWrapsLikeTheBrokers(t *testing.T) {
	for _, c := range []struct {
		sequence int32
		count    int
		want     int32
	}{
		{0, 1, 1},
		{41, 500, 541},
		{math.MaxInt32 - 1, 1, math.MaxInt32},
		{math.MaxInt32, 1, 0},
		{math.MaxInt32 - 9, 15, 5},
		{math.MaxInt32, math.MaxInt32, math.MaxInt32 - 1},
	} {
		if got := nextSequence(c.sequence, c.count); got != c.want {
			t.Errorf("%d records behind sequence %d: next is %d, want %d", c.count, c.sequence, got, c.want)
		}
	}
}
