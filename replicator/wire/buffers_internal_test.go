package wire

import "testing"

// The classes follow one another without a gap up to the largest response, and a buffer is larger than its response by less than an eighth.
func TestClassOfEverySize(t *testing.T) {
	size := smallBuffer + 1
	for class := range new(Buffers).classes {
		got, capacity := classOf(size)
		if got != class || capacity < size || (capacity-size)*8 >= size {
			t.Fatalf("size %d has class %d with buffers of %d, want class %d", size, got, capacity, class)
		}
		for _, other := range []int{(size + capacity) / 2, capacity} {
			if sameClass, same := classOf(other); sameClass != class || same != capacity {
				t.Fatalf("size %d has class %d with buffers of %d, want class %d with %d", other, sameClass, same, class, capacity)
			}
		}
		size = capacity + 1
	}
	if size <= maxResponse {
		t.Errorf("the last class ends at %d, below the largest response", size-1)
	}
}

// reused gets buffers of a size until it is one that was released before. A pool may drop any buffer.
func reused(t *testing.T, b *Buffers, released func() *buffer, size int) *buffer {
	t.Helper()
	for range 1000 {
		old := released()
		old.release()
		if got := b.get(size); got == old {
			return got
		}
	}
	t.Fatal("no buffer is used again")
	return nil
}

func TestBuffersAreUsedAgain(t *testing.T) {
	var b Buffers
	if got := b.get(0); len(got.bytes) != 0 {
		t.Errorf("an empty buffer has %d bytes", len(got.bytes))
	}
	for _, size := range []int{1, smallBuffer, smallBuffer + 1, 36 << 10, 36<<10 + 1, 1 << 20, 8 << 20, maxResponse} {
		if got := b.get(size); len(got.bytes) != size {
			t.Errorf("a buffer of %d has %d bytes", size, len(got.bytes))
		}
	}
	got := reused(t, &b, func() *buffer { return b.get(33 << 10) }, 36<<10)
	if len(got.bytes) != 36<<10 {
		t.Errorf("a buffer that is used again has %d bytes", len(got.bytes))
	}
	small := b.get(smallBuffer)
	small.release() // is left to the garbage collector
	if small.home != nil {
		t.Error("a small buffer is kept")
	}
}

// The header of a response is cut off from its buffer. That must not make the buffer shorter for the next response.
func TestBuffersKeepTheirSize(t *testing.T) {
	var b Buffers
	const size = 64 << 10 // the largest of its class
	got := reused(t, &b, func() *buffer {
		r := b.get(size)
		r.bytes = r.bytes[1:]
		return r
	}, size)
	if len(got.bytes) != size {
		t.Errorf("the buffer has %d bytes", len(got.bytes))
	}
}
