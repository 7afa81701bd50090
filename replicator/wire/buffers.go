package wire

import (
	"math/bits"
	"sync"
)

// Buffers are buffers for responses, which are used again: to clear a new one of some MiB costs as much as to read the response into it. A
// buffer that is never released is left to the garbage collector. The zero Buffers is ready to use, and safe for concurrent use.
type Buffers struct {
	classes [8 * 15]sync.Pool // by size: eight classes between two powers of two
}

// SmallBuffer is the size in bytes up to which a buffer is not worth keeping.
const smallBuffer = 4 << 10

// buffer holds one response.
type buffer struct {
	bytes []byte     // the response, or what is left of it: its header is cut off
	whole []byte     // all memory of the buffer
	home  *sync.Pool // nil if it is not used again
}

// get returns a buffer of a length, at most maxResponse.
func (b *Buffers) get(size int) *buffer {
	var home *sync.Pool
	capacity := size
	if size > smallBuffer {
		var class int
		class, capacity = classOf(size)
		home = &b.classes[class]
		if used, ok := home.Get().(*buffer); ok {
			used.bytes = used.whole[:size]
			return used
		}
	}
	whole := make([]byte, capacity)
	return &buffer{bytes: whole[:size], whole: whole, home: home}
}

// release lets the buffer be used again. Nothing may refer to its bytes any more.
func (b *buffer) release() {
	if b.home != nil {
		b.home.Put(b)
	}
}

// classOf returns the class of a size above smallBuffer, and the size of its buffers, which is larger by at most an eighth.
func classOf(size int) (class, capacity int) {
	shift := bits.Len(uint(size-1)) - 4 //nolint:gosec // positive
	steps := (size-1)>>shift + 1        // 9 to 16
	return (shift-(bits.Len(smallBuffer)-4))*8 + steps - 9, steps << shift
}
