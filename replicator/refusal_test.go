package replicator_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// refuseBad lets the target refuse batches that have a record whose value begins with "bad", as a broker refuses a record without a key in a
// compacted topic. If it names them, the response lists these records (KIP-467).
func refuseBad(c *replicatortest.Clusters, with *kerr.Error, names bool) { //nolint:revive // not a flag: what a broker tells differs by error
	c.Target.ControlKey(int16(kmsg.Produce), func(k kmsg.Request) (kmsg.Response, error, bool) {
		c.Target.KeepControl()
		request := k.(*kmsg.ProduceRequest)
		response := request.ResponseKind().(*kmsg.ProduceResponse)
		refused := false
		for _, t := range request.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.NotEnoughReplicas.Code // the others are sent again
				records, err := recordbatch.Decode(p.Records)
				for i, r := range records {
					if err != nil || !bytes.HasPrefix(r.Value, []byte("bad")) {
						continue
					}
					refused, rp.ErrorCode = true, with.Code
					if names {
						bad := kmsg.NewProduceResponseTopicPartitionErrorRecord()
						bad.RelativeOffset, bad.ErrorMessage = int32(i), kmsg.StringPtr("the value is bad")
						rp.ErrorRecords = append(rp.ErrorRecords, bad)
					}
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			response.Topics = append(response.Topics, rt)
		}
		if !refused {
			return nil, nil, false
		}
		return response, nil, true
	})
}

// writeWithBad writes one batch of n records in which those at the given places are bad.
func writeWithBad(c *replicatortest.Clusters, n int, bad ...int) {
	var records []*kgo.Record
	for i := range n {
		value := fmt.Appendf(nil, "good-%d", i)
		if slices.Contains(bad, i) {
			value = fmt.Appendf(nil, "bad-%d", i)
		}
		records = append(records, &kgo.Record{Topic: "orders", Key: fmt.Appendf(nil, "key-%d", i), Value: value})
	}
	c.Source.Write(records...)
}

// If policy skips what the target refuses, only the refused records are left out, whatever the target tells about them, and the ledger has each
// of them.
func TestOnlyRefusedRecordsAreLeftOut(t *testing.T) {
	for name, test := range map[string]struct {
		code  *kerr.Error
		names bool
		bad   []int
	}{
		"named":              {kerr.InvalidRecord, true, []int{4}},
		"named, the first":   {kerr.InvalidRecord, true, []int{0}},
		"named, the last":    {kerr.InvalidTimestamp, true, []int{19}},
		"named, several":     {kerr.InvalidRecord, true, []int{3, 4, 11, 19}},
		"not named":          {kerr.InvalidRecord, false, []int{13}},
		"without any reason": {kerr.UnknownServerError, false, []int{7}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.ShortPauses()
			c.Source.CreateTopic("orders", 1)
			refuseBad(c, test.code, test.names)
			writeWithBad(c, 20, test.bad...)
			want := c.Source.Texts("orders", 1)[0]
			flow := c.Start(replicatortest.OnAnomaly("record_refused", "skip"))
			flow.UntilCopied("orders")
			c.Source.Produce("orders", 1, 5, "after")
			flow.UntilCopied("orders")
			for _, i := range slices.Backward(test.bad) {
				want = slices.Delete(want, i, i+1)
			}
			replicatortest.MustEqual(t, "the copy without the bad records", append(want, c.Source.Texts("orders", 1)[0][20:]...), c.Target.Texts("a.orders", 1)[0])
			flow.UntilPartitions("the ledger names each of them and no other one", "orders", 1, func(p replicator.PartitionStatus) bool {
				var offsets []int
				for _, gap := range p.Gaps {
					for o := gap.From; o < gap.To && gap.Kind == "record_refused"; o++ {
						offsets = append(offsets, int(o))
					}
				}
				return slices.Equal(offsets, test.bad)
			})
		})
	}
}

// If policy halts the partition, everything before the refused record is copied, and the anomaly names offset, key, value and what the target said.
func TestHaltNamesTheRefusedRecord(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	refuseBad(c, kerr.InvalidRecord, true)
	writeWithBad(c, 20, 4, 9)
	flow := c.Start()
	a := flow.UntilHaltedBy("record_refused", "orders", 0)
	if a.From != 4 || a.To != 5 {
		t.Errorf("the anomaly is at [%d, %d), want [4, 5)", a.From, a.To)
	}
	for _, part := range []string{`"key-4"`, `"bad-4"`, "INVALID_RECORD", "the value is bad"} {
		if !strings.Contains(a.Detail, part) {
			t.Errorf("the detail lacks %s: %s", part, a.Detail)
		}
	}
	replicatortest.MustEqual(t, "the copy", c.Source.Texts("orders", 1)[0][:4], c.Target.Texts("a.orders", 1)[0])
}
