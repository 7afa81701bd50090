package wire

import (
	"encoding/binary"
	"net"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceBytes is a produce request as pieces of bytes: the batches are where they are, and what stands around them is in one buffer. Kmsg would
// copy the batches. It is used again for the next request.
type produceBytes struct {
	pieces net.Buffers
	size   int // of all pieces
	around []byte
	cuts   []cut
}

// cut is where a batch stands between the bytes around it.
type cut struct {
	at    int
	batch []byte
}

// firstFlexible is the first flexible version of Produce (KIP-482).
const firstFlexible = 9

// encode encodes a request of version 3 or later, as kmsg does.
func (b *produceBytes) encode(r *ProduceRequest, clientID string, number int32) {
	flexible := r.IsFlexible()
	d := append(b.around[:0], 0, 0, 0, 0) // the length
	b.cuts = b.cuts[:0]
	d = kbin.AppendInt16(d, r.Key())
	d = kbin.AppendInt16(d, r.Version)
	d = kbin.AppendInt32(d, number)
	d = kbin.AppendNullableString(d, &clientID)
	if flexible {
		d = kbin.AppendCompactNullableString(append(d, 0), r.TransactionID)
	} else {
		d = kbin.AppendNullableString(d, r.TransactionID)
	}
	d = kbin.AppendInt16(d, r.Acks)
	d = kbin.AppendInt32(d, r.TimeoutMillis)
	d = appendLength(d, len(r.Topics), r.Version)
	for i := range r.Topics {
		d = b.appendTopic(d, &r.Topics[i], r.Version)
	}
	if flexible {
		d = append(d, 0)
	}
	b.around = d
	b.size = len(d)
	b.pieces = b.pieces[:0]
	from := 0
	for _, c := range b.cuts {
		b.pieces = append(b.pieces, d[from:c.at], c.batch)
		b.size += len(c.batch)
		from = c.at
	}
	b.pieces = append(b.pieces, d[from:])
	binary.BigEndian.PutUint32(d, uint32(b.size-4)) //nolint:gosec // requests are far smaller than 2 GiB
}

// forget drops the batches.
func (b *produceBytes) forget() {
	clear(b.pieces)
	clear(b.cuts)
}

func (b *produceBytes) appendTopic(d []byte, t *kmsg.ProduceRequestTopic, version int16) []byte {
	flexible := version >= firstFlexible
	switch {
	case version >= firstVersionByID:
		d = append(d, t.TopicID[:]...)
	case flexible:
		d = kbin.AppendCompactString(d, t.Topic)
	default:
		d = kbin.AppendString(d, t.Topic)
	}
	d = appendLength(d, len(t.Partitions), version)
	for _, p := range t.Partitions {
		d = kbin.AppendInt32(d, p.Partition)
		if flexible {
			d = kbin.AppendUvarint(d, uint32(len(p.Records))+1) //nolint:gosec // a batch is far smaller than 2 GiB
		} else {
			d = kbin.AppendInt32(d, int32(len(p.Records))) //nolint:gosec // likewise
		}
		b.cuts = append(b.cuts, cut{len(d), p.Records})
		if flexible {
			d = append(d, 0)
		}
	}
	if flexible {
		d = append(d, 0)
	}
	return d
}

func appendLength(d []byte, n int, version int16) []byte {
	if version >= firstFlexible {
		return kbin.AppendCompactArrayLen(d, n)
	}
	return kbin.AppendArrayLen(d, n)
}
