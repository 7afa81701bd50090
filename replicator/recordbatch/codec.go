package recordbatch

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// MaxDecodedBytes limits the decompressed size of the records of one batch. Real batches stay far below it: brokers limit the compressed size
// to max.message.bytes, 1 MiB by default.
const MaxDecodedBytes = 256 << 20

var (
	errTooMuch  = errors.New("decompressed size exceeds the limit")
	errClaim    = errors.New("declared size is impossible for the compressed size")
	errXerial   = errors.New("xerial framing is malformed")
	errLZ4Magic = errors.New("not an LZ4 frame")
	errTrailing = errors.New("trailing bytes after the compressed block")
)

// Encoders and decoders hold tables of up to several MiB, so they are pooled. One goroutine uses each at a time, none of them starts
// goroutines, and the garbage collector frees idle ones.
//
//nolint:gochecknoglobals // pools serve every batch of the process
var (
	gzipReaders = sync.Pool{New: func() any { return new(gzipReader) }}
	gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	lz4Readers  = sync.Pool{New: func() any { return &lz4Reader{lz4: lz4.NewReader(nil)} }}
	lz4Writers  = sync.Pool{New: func() any { return newLZ4Writer() }}
	zstdReaders = sync.Pool{New: func() any { return newZstdReader() }}
	zstdWriters = sync.Pool{New: func() any { return newZstdWriter() }}
)

type gzipReader struct {
	gzip gzip.Reader
	src  bytes.Reader
}

type lz4Reader struct {
	lz4 *lz4.Reader
	src bytes.Reader
}

// newLZ4Writer creates a writer of frames like those of Kafka's own producer: independent blocks of 64 KiB (a reader must buffer one) and no
// content checksum, because the batch has a checksum.
func newLZ4Writer() *lz4.Writer {
	w := lz4.NewWriter(nil)
	if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.ConcurrencyOption(1)); err != nil {
		panic(fmt.Sprintf("recordbatch: lz4 options: %v", err)) // constants: cannot happen
	}
	return w
}

func newZstdReader() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(MaxDecodedBytes))
	if err != nil {
		panic(fmt.Sprintf("recordbatch: zstd options: %v", err)) // constants: cannot happen
	}
	return d
}

// newZstdWriter creates a writer with level 3, Kafka's default, and a window of 1 MiB, the default size limit of a batch.
func newZstdWriter() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20),
		zstd.WithEncoderCRC(false))
	if err != nil {
		panic(fmt.Sprintf("recordbatch: zstd options: %v", err)) // constants: cannot happen
	}
	return e
}

// decompress returns the records section of a batch, or the message set of a wrapper, decompressed into a buffer of the scratch.
func (s *scratch) decompress(src []byte, codec Codec, h Header) ([]byte, error) {
	limit := cmp.Or(s.limit, MaxDecodedBytes)
	raw, err := decompress(s.raw[:0], src, codec, limit)
	if err != nil {
		return nil, &FormatError{Offset: h.BaseOffset, Problem: "decompress " + codec.String(), Err: err}
	}
	s.raw = raw
	return raw, nil
}

// decompress appends the decompressed src, at most limit bytes, to dst, which must be empty; only its capacity is used.
func decompress(dst, src []byte, codec Codec, limit int) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		r := gzipReaders.Get().(*gzipReader)
		defer gzipReaders.Put(r)
		defer r.src.Reset(nil)
		r.src.Reset(src)
		if err := r.gzip.Reset(&r.src); err != nil {
			return nil, err
		}
		return readAll(dst, &r.gzip, limit)
	case Snappy:
		return decompressSnappy(dst, src, limit)
	case LZ4:
		return decompressLZ4(dst, src, limit)
	case Zstd:
		return decompressZstd(dst, src, limit)
	default:
		return nil, errors.New("unknown codec")
	}
}

// readAll reads r to its end, at most limit bytes. The buffer doubles as needed, whatever size was declared.
func readAll(dst []byte, r io.Reader, limit int) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, min(max(4096, len(dst)), max(1, limit+1-len(dst))))
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst) > limit {
			return nil, errTooMuch
		}
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func decompressLZ4(dst, src []byte, limit int) ([]byte, error) {
	if len(src) < 4 || binary.LittleEndian.Uint32(src) != 0x184D2204 { // the library also accepts legacy and skippable frames, Kafka does not
		return nil, errLZ4Magic
	}
	r := lz4Readers.Get().(*lz4Reader)
	defer lz4Readers.Put(r)
	defer r.src.Reset(nil)
	r.src.Reset(src)
	r.lz4.Reset(&r.src)
	dst, err := readAll(dst, r.lz4, limit)
	if err == nil && r.src.Len() > 0 {
		err = errTrailing
	}
	return dst, err
}

// xerialMagic begins the snappy framing of Kafka's Java clients: the magic, two int32 versions, and per block of 32 KiB an int32 length and a
// raw snappy block. Other clients write one raw block.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0} //nolint:gochecknoglobals // a constant that Go cannot write as one

const xerialHeaderSize = 16

func decompressSnappy(dst, src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return appendSnappy(dst, src, limit)
	}
	for len(src) > 0 {
		if bytes.HasPrefix(src, xerialMagic) && len(src) >= xerialHeaderSize { // streams may be concatenated
			src = src[xerialHeaderSize:]
			continue
		}
		if len(src) < 4 {
			return nil, errXerial
		}
		length := int64(binary.BigEndian.Uint32(src))
		src = src[4:]
		if length > int64(len(src)) {
			return nil, errXerial
		}
		var err error
		if dst, err = appendSnappy(dst, src[:length], limit); err != nil {
			return nil, err
		}
		src = src[length:]
	}
	return dst, nil
}

// appendSnappy appends one decoded raw block to dst. The decoder allocates the declared length up front, so the length is checked first:
// snappy encodes at most 64 bytes in 3.
func appendSnappy(dst, block []byte, limit int) ([]byte, error) {
	const bestRatio = 22
	length, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if length > bestRatio*len(block) {
		return nil, errClaim
	}
	if length > limit-len(dst) {
		return nil, errTooMuch
	}
	dst = slices.Grow(dst, length)
	if _, err := s2.Decode(dst[len(dst):len(dst)+length], block); err != nil {
		return nil, err
	}
	return dst[:len(dst)+length], nil
}

// decompressZstd checks the declared content size before the decoder allocates it: a block of at least 4 bytes holds at most 128 KiB. The
// decoder itself limits all frames together to MaxDecodedBytes.
func decompressZstd(dst, src []byte, limit int) ([]byte, error) {
	const bestRatio = 128 << 10 / 4
	var header zstd.Header
	if err := header.Decode(src); err != nil {
		return nil, err
	}
	if header.HasFCS && header.FrameContentSize > bestRatio*uint64(len(src)) {
		return nil, errClaim
	}
	if limit < MaxDecodedBytes {
		return decompressSmallZstd(dst, src, limit)
	}
	d := zstdReaders.Get().(*zstd.Decoder)
	defer zstdReaders.Put(d)
	return d.DecodeAll(src, dst)
}

// decompressSmallZstd decodes as a stream, which allocates no more than what is read and the window of a frame.
func decompressSmallZstd(dst, src []byte, limit int) ([]byte, error) {
	d, err := zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(max(limit, zstd.MinWindowSize))))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return readAll(dst, d, limit)
}

// compress appends the compressed src to dst.
func compress(dst, src []byte, codec Codec) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		w := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(w)
		out := &appender{dst}
		w.Reset(out)
		return out.collect(w, src)
	case Snappy:
		dst = slices.Grow(dst, s2.MaxEncodedLen(len(src)))
		block := s2.EncodeSnappy(dst[len(dst):cap(dst)], src)
		return dst[:len(dst)+len(block)], nil
	case LZ4:
		w := lz4Writers.Get().(*lz4.Writer)
		defer lz4Writers.Put(w)
		out := &appender{dst}
		w.Reset(out)
		return out.collect(w, src)
	case Zstd:
		e := zstdWriters.Get().(*zstd.Encoder)
		defer zstdWriters.Put(e)
		return e.EncodeAll(src, dst), nil
	default:
		return nil, fmt.Errorf("compress records: unknown codec %d", codec)
	}
}

// appender is a writer that appends to a slice.
type appender struct{ b []byte }

// Write implements io.Writer.
func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// collect writes src through w, which writes to a, and returns the result. It clears a, so that the pooled w does not keep the result alive.
func (a *appender) collect(w io.WriteCloser, src []byte) ([]byte, error) {
	_, err := w.Write(src)
	if err == nil {
		err = w.Close()
	}
	result := a.b
	a.b = nil
	return result, err
}
