package recordbatch

import (
	"errors"
	"iter"
)

// Batch is one batch of a log: its parsed header and all of its bytes, which alias the bytes that it was read from.
type Batch struct {
	Header
	Bytes []byte
}

// Each yields the batches of a fetch response in order. A batch that the broker has cut off at the end is left out, as fetch responses end
// with one when their limit is reached. Bytes that are no batch yield an error, and the iteration ends: where the next batch begins is not
// known. The errors are those of [Next] and [Parse].
func Each(data []byte) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		for len(data) > 0 {
			batch, rest, err := Next(data)
			if errors.Is(err, ErrTruncated) {
				return
			}
			var h Header
			if err == nil {
				h, err = Parse(batch)
			}
			if err != nil {
				yield(Batch{}, err)
				return
			}
			if !yield(Batch{Header: h, Bytes: batch}, nil) {
				return
			}
			data = rest
		}
	}
}
