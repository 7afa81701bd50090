package offsets

import (
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What the records of one fetch response may decompress to. A few KiB of zstd could otherwise take all memory.
const (
	// MaxOwn is for the topics of milena and MirrorMaker 2, which have small batches: milena does not compress its journal,
	// and MirrorMaker 2's producers fill some ten KiB.
	maxOwn = 16 << 20
	// MaxUsers is for topics of users.
	maxUsers = 256 << 20
)

// Decompressors are franz-go's, with these bounds. It has no constructor with one, but a client makes one, which connects to
// nothing until it is used.
var (
	ownDecompressor   = sync.OnceValue(func() kgo.Decompressor { return newDecompressor(maxOwn) })   //nolint:gochecknoglobals // immutable, and its pools are for all readers
	usersDecompressor = sync.OnceValue(func() kgo.Decompressor { return newDecompressor(maxUsers) }) //nolint:gochecknoglobals // the same
)

func newDecompressor(limit int) kgo.Decompressor {
	client, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(limit))
	if err != nil {
		panic(fmt.Sprintf("offsets: options of a decompressor: %v", err)) // constants: cannot happen
	}
	defer client.Close()
	return client.OptValue(kgo.WithDecompressor).(kgo.Decompressor)
}

// decompressor returns a decompressor for one fetch response.
func (l *logReader) decompressor() kgo.Decompressor {
	if l.users {
		return &boundedDecompressor{usersDecompressor(), maxUsers}
	}
	return &boundedDecompressor{ownDecompressor(), maxOwn}
}

// boundedDecompressor decompresses the batches of one fetch response, up to a bound for all of them together. Those behind
// it are read again with the next one.
type boundedDecompressor struct {
	kgo.Decompressor

	left int
}

// Decompress implements [kgo.Decompressor].
func (b *boundedDecompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	records, err := b.Decompressor.Decompress(src, codec)
	if err != nil {
		return nil, err
	}
	if b.left -= len(records); b.left < 0 {
		return nil, kgo.ErrMaxDecompress
	}
	return records, nil
}
