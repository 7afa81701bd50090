package replicator_test

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

const tinyPartitions = 2

// writeTiny writes n batches of one record to each of the first partitions of a topic.
func writeTiny(t *testing.T, c *replicatortest.Cluster, topic string, n int, codec recordbatch.Codec) {
	t.Helper()
	for i := range n {
		request := kmsg.NewPtrProduceRequest()
		request.Acks, request.TimeoutMillis = -1, 10_000
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = topic
		for part := range int32(tinyPartitions) {
			record := recordbatch.Record{Timestamp: 1_700_000_000_000 + int64(i), Key: fmt.Appendf(nil, "%d", i%7), Value: fmt.Appendf(nil, "%s-%d-%d", topic, part, i)}
			batch, err := recordbatch.Encode([]recordbatch.Record{record}, codec)
			if err != nil {
				t.Fatal(err)
			}
			recordbatch.Rewrite(batch, -1, -1, -1)
			rp := kmsg.NewProduceRequestTopicPartition()
			rp.Partition, rp.Records = part, batch
			rt.Partitions = append(rt.Partitions, rp)
		}
		request.Topics = append(request.Topics, rt)
		response, err := c.Client.Request(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		for _, rp := range response.(*kmsg.ProduceResponse).Topics[0].Partitions {
			if rp.ErrorCode != 0 {
				t.Fatal(kerr.ErrorForCode(rp.ErrorCode))
			}
		}
	}
}

func unmerged(f *config.Flow) { f.Merge = false }

// What was written in tiny batches lies on the target in few larger ones, each record as it was. The journal is good for another start.
func TestTinyBatchesAreMergedWhileThePartitionIsBehind(t *testing.T) {
	const written = 1000
	for _, codec := range []recordbatch.Codec{recordbatch.None, recordbatch.LZ4, recordbatch.Zstd} {
		t.Run(fmt.Sprint("codec ", codec), func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("tiny", tinyPartitions)
			writeTiny(t, c.Source, "tiny", written, codec)
			flow := c.Start()
			flow.UntilCopied("tiny")
			merged := flow.Metric("milena_batches_total", "topic", "tiny", "lane", "merge", "reason", "")
			forwarded := flow.Metric("milena_batches_total", "topic", "tiny", "lane", "forward", "reason", "")
			if merged < tinyPartitions*written/2 {
				t.Errorf("%v of %d batches were merged", merged, tinyPartitions*written)
			}
			if merged+forwarded != tinyPartitions*written {
				t.Errorf("%v batches were merged and %v forwarded, want %d together", merged, forwarded, tinyPartitions*written)
			}
			flow.Stop()
			flow = c.Start()
			writeTiny(t, c.Source, "tiny", 10, codec)
			flow.UntilCopied("tiny")
			flow.Stop()
			c.Verify("tiny", "a.tiny", tinyPartitions)
			if target := c.TargetOffset("tiny", 1, 500); target < 500 {
				t.Errorf("source offset 500 translates to %d", target)
			}
		})
	}
}

func TestNothingIsMergedIfThatIsTurnedOff(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("tiny", tinyPartitions)
	writeTiny(t, c.Source, "tiny", 200, recordbatch.None)
	flow := c.Start(unmerged)
	flow.UntilCopied("tiny")
	if merged := flow.Metric("milena_batches_total", "topic", "tiny", "lane", "merge", "reason", ""); merged > 0 {
		t.Errorf("%v batches were merged", merged)
	}
	flow.Stop()
	c.Verify("tiny", "a.tiny", tinyPartitions)
}

// Hundreds of batches of a partition are in flight when the target refuses one of them: those behind it are refused as well, and nothing is missing,
// twice or out of order.
func TestTargetRefusesOneOfManyBatchesInFlight(t *testing.T) {
	for _, test := range []struct {
		err     *kerr.Error
		outcome string
	}{
		{kerr.NotEnoughReplicas, "refused"},
		{kerr.CorruptMessage, "unacceptable"},
		{kerr.TopicAuthorizationFailed, "unauthorized"},
		{kerr.NotLeaderForPartition, "doubtful"},
		{kerr.NotEnoughReplicasAfterAppend, "doubtful"},
		{kerr.RequestTimedOut, "doubtful"},
	} {
		for merge, changes := range map[string][]func(*config.Flow){"merged": nil, "unmerged": {unmerged}} {
			t.Run(test.err.Message+" "+merge, func(t *testing.T) {
				t.Parallel()
				c := replicatortest.NewClusters(t, 1)
				c.ShortPauses()
				c.Source.CreateTopic("tiny", tinyPartitions)
				flow := c.Start(changes...)
				flow.UntilReady()
				writeTiny(t, c.Source, "tiny", 5, recordbatch.None)
				flow.UntilCopied("tiny")
				flow.Stop()
				writeTiny(t, c.Source, "tiny", 1500, recordbatch.None)
				first := 10 // of the requests, the first that is refused
				if merge == "merged" {
					first = 1
				}
				behind := merge == "unmerged" && test.outcome != "doubtful" // whether a refused batch must once have had others behind it
				refuseTwo := func() *kfake.FaultHandle {
					seen := 0
					return c.Target.Fault(kfake.Fault{
						Keys: []kmsg.Key{kmsg.Produce}, Topic: "a.tiny", Err: test.err, Count: 2,
						When: func(kmsg.Request) bool { seen++; return seen > first },
					})
				}
				fault := refuseTwo()
				flow = c.Start(changes...)
				for {
					if err := fault.Wait(t.Context(), 2); err != nil {
						t.Fatal(err)
					}
					flow.UntilCopied("tiny")
					if !behind || flow.Metric("milena_produce_errors_total", "outcome", "unordered") > 0 {
						break
					}
					fault = refuseTwo() // the refused ones were the last in flight
					writeTiny(t, c.Source, "tiny", 1500, recordbatch.None)
				}
				if n := flow.Metric("milena_produce_errors_total", "outcome", test.outcome); n < 1 {
					t.Errorf("%v produce errors are counted as %s", n, test.outcome)
				}
				flow.Stop()
				c.Verify("tiny", "a.tiny", tinyPartitions)
			})
		}
	}
}

// The connection is lost while hundreds of batches are in flight, of which some were written.
func TestConnectionIsLostWhileManyBatchesAreInFlight(t *testing.T) {
	for name, how := range map[string]replicatortest.Spoil{"response": replicatortest.DropResponse, "request": replicatortest.DropRequest} {
		for merge, changes := range map[string][]func(*config.Flow){"merged": nil, "unmerged": {unmerged}} {
			t.Run(name+" "+merge, func(t *testing.T) {
				t.Parallel()
				c := replicatortest.NewClusters(t, 1)
				c.Source.CreateTopic("tiny", tinyPartitions)
				writeTiny(t, c.Source, "tiny", 2000, recordbatch.None)
				flow := c.Start(changes...)
				flow.UntilReady()
				for range 3 {
					spoiled := c.Target.SpoilTopic(kmsg.Produce, "a.tiny", how, 1)
					writeTiny(t, c.Source, "tiny", 300, recordbatch.None)
					replicatortest.Await(t, "a request is spoiled", spoiled)
				}
				flow.UntilCopied("tiny")
				flow.Stop()
				c.Verify("tiny", "a.tiny", tinyPartitions)
			})
		}
	}
}
