package offsets_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
)

// writeCompressed writes n checkpoints with 30,000 bytes of metadata as one batch of zstd, which takes a few KiB.
func (c *cluster) writeCompressed(t *testing.T, group string, n int) {
	t.Helper()
	writer, err := kgo.NewClient(kgo.SeedBrokers(c.addresses...), kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(100<<20),
		kgo.BrokerMaxWriteBytes(1<<30), kgo.ProducerLinger(time.Second), kgo.MaxBufferedRecords(n))
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	var records []*kgo.Record
	for i := range n {
		w := offsets.Checkpoint{Group: group, Topic: "a.orders", Partition: int32(i), Source: 7, Target: 7, Metadata: strings.Repeat("m", 30_000)}
		records = append(records, &kgo.Record{Topic: "a.checkpoints.internal", Key: w.AppendKey(nil), Value: w.AppendValue(nil)})
	}
	if err := writer.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// A batch of a few KiB may decompress to anything. One that is too large is left out and counted, and several that are large together are
// all read.
func TestDecompressionIsBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("a.checkpoints.internal", 1)
	want := map[string]int{"first": 330, "second": 330, "third": 330, "after": 1}
	for _, group := range []string{"first", "second", "bomb", "third", "after"} {
		n := want[group]
		if group == "bomb" {
			n = 1000
		}
		c.writeCompressed(t, group, n)
	}
	client := open(t, c)
	list, err := client.Checkpoints(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for _, checkpoint := range list {
		got[checkpoint.Group]++
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("checkpoints by group: %v, want %v", got, want)
	}
	if n := client.Unreadable(); n != 1 {
		t.Errorf("%d unreadable, want 1", n)
	}
}
