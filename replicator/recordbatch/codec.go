package recordbatch

import (
	"bytes"
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

// MaxDecodedBytes is the most that the records of one compressed batch may decompress to. Real batches stay far below: brokers bound the
// compressed size by max.message.bytes, 1 MiB by default.
const MaxDecodedBytes = 256 << 20

var (
	errTooMuch  = errors.New("more decompressed bytes than a batch may have")
	errClaim    = errors.New("declared size is beyond what the codec can reach")
	errXerial   = errors.New("xerial framing is malformed")
	errLZ4Magic = errors.New("no LZ4 frame")
	errTrailing = errors.New("bytes behind the compressed block")
)

// Encoders and decoders hold tables of up to some MiB, so they are kept. Each is used by one goroutine at a time; the garbage
// collector takes idle ones, and none of them has goroutines of its own.
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

// newLZ4Writer writes frames as Kafka's own producer does: independent blocks of 64 KiB (a reader must hold one) and no content checksum,
// because the batch has one.
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

// newZstdWriter uses level 3, Kafka's default, and a window of 1 MiB, the default size limit of a batch.
func newZstdWriter() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20),
		zstd.WithEncoderCRC(false))
	if err != nil {
		panic(fmt.Sprintf("recordbatch: zstd options: %v", err)) // constants: cannot happen
	}
	return e
}

// decompress returns the records section of a batch, or the message set of a wrapper, decompressed into the scratch's buffer.
func (s *scratch) decompress(src []byte, codec Codec, h Header) ([]byte, error) {
	raw, err := decompress(s.raw[:0], src, codec)
	if err != nil {
		return nil, &FormatError{Offset: h.BaseOffset, Problem: "decompress " + codec.String(), Err: err}
	}
	s.raw = raw
	return raw, nil
}

// decompress appends the decompressed src to dst, which must be empty; only its capacity is used.
func decompress(dst, src []byte, codec Codec) ([]byte, error) {
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
		return readAll(dst, &r.gzip)
	case Snappy:
		return decompressSnappy(dst, src)
	case LZ4:
		return decompressLZ4(dst, src)
	case Zstd:
		return decompressZstd(dst, src)
	default:
		return nil, errors.New("unknown codec")
	}
}

// readAll reads r to its end, at most MaxDecodedBytes. The buffer doubles, so that it follows what really came out.
func readAll(dst []byte, r io.Reader) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, min(max(4096, len(dst)), MaxDecodedBytes+1-len(dst)))
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst) > MaxDecodedBytes {
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

func decompressLZ4(dst, src []byte) ([]byte, error) {
	if len(src) < 4 || binary.LittleEndian.Uint32(src) != 0x184D2204 { // the library also takes legacy and skippable frames, Kafka does not
		return nil, errLZ4Magic
	}
	r := lz4Readers.Get().(*lz4Reader)
	defer lz4Readers.Put(r)
	defer r.src.Reset(nil)
	r.src.Reset(src)
	r.lz4.Reset(&r.src)
	dst, err := readAll(dst, r.lz4)
	if err == nil && r.src.Len() > 0 {
		err = errTrailing
	}
	return dst, err
}

// xerialMagic begins the framing of Kafka's Java clients around snappy: this, two int32 versions, and then per block of 32 KiB an int32
// length and a raw snappy block. Other clients write one raw block.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0} //nolint:gochecknoglobals // a constant that Go cannot write as one

const xerialHeaderSize = 16

func decompressSnappy(dst, src []byte) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return appendSnappy(dst, src)
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
		if dst, err = appendSnappy(dst, src[:length]); err != nil {
			return nil, err
		}
		src = src[length:]
	}
	return dst, nil
}

// appendSnappy appends one decoded raw block to dst. The decoder allocates the declared length up front, so the claim is checked before:
// snappy's best element is 3 bytes for 64.
func appendSnappy(dst, block []byte) ([]byte, error) {
	const bestRatio = 22
	length, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if length > bestRatio*len(block) {
		return nil, errClaim
	}
	if length > MaxDecodedBytes-len(dst) {
		return nil, errTooMuch
	}
	dst = slices.Grow(dst, length)
	if _, err := s2.Decode(dst[len(dst):len(dst)+length], block); err != nil {
		return nil, err
	}
	return dst[:len(dst)+length], nil
}

// decompressZstd checks the declared content size before the decoder allocates it: a block gives at most 128 KiB and takes at least 4
// bytes. The decoder itself ends all frames together at MaxDecodedBytes.
func decompressZstd(dst, src []byte) ([]byte, error) {
	const bestRatio = 128 << 10 / 4
	var header zstd.Header
	if err := header.Decode(src); err != nil {
		return nil, err
	}
	if header.HasFCS && header.FrameContentSize > bestRatio*uint64(len(src)) {
		return nil, errClaim
	}
	d := zstdReaders.Get().(*zstd.Decoder)
	defer zstdReaders.Put(d)
	return d.DecodeAll(src, dst)
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

// appender collects what is written to it.
type appender struct{ b []byte }

// Write implements io.Writer.
func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// collect writes src through w, which writes to a, and takes the result out, so that the pooled w does not keep it alive.
func (a *appender) collect(w io.WriteCloser, src []byte) ([]byte, error) {
	_, err := w.Write(src)
	if err == nil {
		err = w.Close()
	}
	result := a.b
	a.b = nil
	return result, err
}
