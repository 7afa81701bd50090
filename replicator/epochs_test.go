package replicator_test

import (
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// refuseFetches lets a cluster answer OFFSET_OUT_OF_RANGE to fetches of a topic that name at least this leader epoch as the last one.
func refuseFetches(c *replicatortest.Cluster, topic string, lastEpoch int32) {
	id := c.TopicInfo(topic).TopicID
	c.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := request.(*kmsg.FetchRequest)
		response := r.ResponseKind().(*kmsg.FetchResponse)
		response.SessionID = r.SessionID
		for _, t := range r.Topics {
			if t.TopicID != id && t.Topic != topic {
				continue
			}
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				if p.LastFetchedEpoch < lastEpoch {
					continue
				}
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.ErrorCode, rp.HighWatermark, rp.LastStableOffset = p.Partition, kerr.OffsetOutOfRange.Code, -1, -1
				rt.Partitions = append(rt.Partitions, rp)
			}
			if len(rt.Partitions) > 0 {
				response.Topics = append(response.Topics, rt)
			}
		}
		return response, nil, len(response.Topics) > 0
	})
}

// A broker with message.format.version below 0.11 keeps no leader epochs, and answers OFFSET_OUT_OF_RANGE to a fetch that names one. A journal
// may have one nevertheless.
func TestSourceThatKeepsNoLeaderEpochsIsCopied(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 20, "before")
	flow := c.Start()
	flow.UntilJournaled("orders")
	flow.Stop()
	refuseFetches(c.Source, "orders", 0)
	flow = c.Start()
	flow.UntilReady()
	for _, tag := range []string{"first", "second"} {
		c.Source.Produce("orders", 2, 20, tag)
		flow.UntilCopied("orders")
	}
	if n := flow.Metric("milena_anomalies_total"); n > 0 {
		t.Errorf("%v anomalies", n)
	}
	flow.Stop()
	c.Verify("orders", "a.orders", 2)
}

func TestSourceThatRefusesAnOffsetOfItsLogIsNotSilent(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	refuseFetches(c.Source, "orders", -1)
	c.Source.Produce("orders", 1, 20, "refused")
	flow := c.Start()
	flow.UntilPartitions("the status says why nothing is copied", "orders", 1, func(p replicator.PartitionStatus) bool {
		return p.Wait != nil && p.Wait.Reason == replicator.WaitSourceRefused
	})
	flow.Stop()
}

// Without topic ids, the leader epoch shows that a topic was deleted and created again, although the new one has more records.
func TestEpochThatGoesBackIsAnotherTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 2)
	c.Source.HideTopicIDs()
	c.Source.CreateTopic("orders", 1)
	for range 3 {
		leader := c.Source.LeaderFor("orders", 0)
		if err := c.Source.MoveTopicPartition("orders", 0, 1-leader); err != nil {
			t.Fatal(err)
		}
	}
	c.Source.Produce("orders", 1, 20, "old")
	flow := c.Start()
	flow.UntilJournaled("orders")
	flow.Stop()
	c.Source.RecreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 40, "new")
	flow = c.Start()
	flow.UntilHaltedBy("recreated", "orders", 0)
	flow.Stop()
}

// Without topic ids, a log that is shorter than what was copied, although it has the same leader epoch, is that of another topic: policy decides
// what of it is copied, while the flow runs and at a start.
func TestShorterLogOfTheSameEpochIsAnotherTopic(t *testing.T) {
	for name, test := range map[string]struct {
		action string
		live   bool
		want   int // records of the copy
	}{
		"restart while the flow runs": {"restart", true, 20 + 10 + 5},
		"restart at a start":          {"restart", false, 20 + 10 + 5},
		"skip while the flow runs":    {"skip", true, 20 + 5},
		"skip at a start":             {"skip", false, 20 + 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.HideTopicIDs()
			c.Source.CreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 20, "old")
			settings := []func(*config.Flow){replicatortest.OnAnomaly("recreated", test.action), replicatortest.FastTopics}
			flow := c.Start(settings...)
			flow.UntilJournaled("orders")
			if !test.live {
				flow.Stop()
			}
			c.Source.RecreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 10, "new")
			if !test.live {
				flow = c.Start(settings...)
			}
			flow.UntilLogged("anomaly: continuing as configured")
			flow.UntilCopied("orders")
			c.Source.Produce("orders", 1, 5, "newest")
			c.Target.AwaitRecords("a.orders", test.want)
			flow.UntilCopied("orders")
			if n := len(c.Target.Records("a.orders", 1)[0]); n != test.want {
				t.Errorf("the copy has %d records, want %d", n, test.want)
			}
			if n := flow.Metric("milena_anomalies_total", "kind", "recreated"); n != 1 {
				t.Errorf("%v anomalies, want 1", n)
			}
			flow.Stop()
		})
	}
}

// Without topic ids on the target, a copy that was deleted and created again is noticed at the next batch, whose offset is not the expected one.
func TestCopyThatWasRecreatedWithoutAnIDHalts(t *testing.T) {
	for _, live := range []bool{true, false} {
		t.Run(strconv.FormatBool(live), func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Target.HideTopicIDs()
			c.Source.CreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 20, "old")
			flow := c.Start(replicatortest.FastTopics)
			flow.UntilJournaled("orders")
			if !live {
				flow.Stop()
			}
			c.Target.RecreateTopic("a.orders", 1)
			if !live {
				flow = c.Start()
			}
			c.Source.Produce("orders", 1, 5, "new")
			flow.UntilHaltedBy("truncated", "orders", 0)
			flow.Stop()
		})
	}
}
