package wire

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

var (
	topicPartition = offsets.TopicPartition{Topic: "orders", Partition: 3}
	topicID        = [16]byte{7, 1, 2}
)

// pattern returns n bytes that differ by seed.
func pattern(seed byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i%251)
	}
	return b
}

// produceRequests are requests of different shapes.
func produceRequests() map[string]*ProduceRequest {
	add := func(r *ProduceRequest, topic string, id byte, partition int32, batch []byte) {
		r.Add(offsets.TopicPartition{Topic: topic, Partition: partition}, [16]byte{id}, batch)
	}
	none, one, many, large := NewProduceRequest(0), NewProduceRequest(time.Second), NewProduceRequest(10*time.Second), NewProduceRequest(time.Minute)
	add(one, "orders", 1, 0, pattern(1, 100))
	for topic := range byte(5) {
		for partition := range int32(40) {
			add(many, fmt.Sprint("topic-", topic), topic+1, 3*partition, pattern(topic, int(topic)*100+int(partition)))
		}
	}
	add(large, "large", 1, 1<<30, pattern(3, 300<<10))
	add(large, "larger", 2, 1, pattern(4, 1<<20))
	return map[string]*ProduceRequest{"no batch": none, "one batch": one, "many batches": many, "large batches": large}
}

// The bytes must be those of kmsg for every version, with topics by name and by id.
func TestEncodeIsWhatKmsgEncodes(t *testing.T) {
	for name, request := range produceRequests() {
		var encoded produceBytes
		for _, clientID := range []string{"milena", ""} {
			format := kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID))
			for version := int16(3); version <= 13; version++ {
				request.SetVersion(version)
				number := int32(version) << 20
				want := format.AppendRequest(nil, request, number)
				encoded.encode(request, clientID, number)
				if got := bytes.Join(encoded.pieces, nil); !bytes.Equal(got, want) || encoded.size != len(want) {
					t.Errorf("%s, version %d, client %q: %d bytes, size %d, want %d bytes", name, version, clientID, len(got), encoded.size, len(want))
				}
			}
		}
	}
}

func TestEncodeDoesNotCopyBatches(t *testing.T) {
	for name, request := range produceRequests() {
		var encoded produceBytes
		for _, version := range []int16{3, 9, 13} {
			request.SetVersion(version)
			encoded.encode(request, "milena", 1)
			at := 1
			for _, topic := range request.Topics {
				for _, p := range topic.Partitions {
					if piece := encoded.pieces[at]; len(p.Records) > 0 && &piece[0] != &p.Records[0] {
						t.Errorf("%s, version %d: piece %d is a copy", name, version, at)
					}
					at += 2
				}
			}
		}
		if allocated := testing.AllocsPerRun(10, func() { encoded.encode(request, "milena", 1) }); allocated > 0 {
			t.Errorf("%s: a request that is not the first one allocates %.0f times", name, allocated)
		}
	}
}
