package topics

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// Metadata that has not changed is the same view, through any client. What has changed is another one.
func TestReaderKeepsTheViewUntilMetadataChanges(t *testing.T) {
	cluster := kafkatest.New(t, kfake.NumBrokers(3), kfake.SeedTopics(3, "orders"), kfake.SeedTopics(20, "clicks")) // whose responses have no order
	one, two := testClient(t, config.Cluster{Brokers: cluster.ListenAddrs()}), testClient(t, config.Cluster{Brokers: cluster.ListenAddrs()})
	var r Reader
	read := func(cl *kgo.Client) View {
		t.Helper()
		view, err := r.Read(t.Context(), cl)
		if err != nil {
			t.Fatal(err)
		}
		return view
	}
	first := read(one)
	if len(first.ByName["orders"].Partitions) != 3 || len(first.Brokers) != 3 {
		t.Fatalf("the view is %+v", first)
	}
	for range 2 * maxSame {
		if again, other := read(one), read(two); !first.Is(again) || !first.Is(other) {
			t.Fatalf("unchanged metadata is read as revision %d, %d and %d", first.Revision, again.Revision, other.Revision)
		}
	}
	if err := cluster.MoveTopicPartition("orders", 0, (first.ByName["orders"].Partitions[0].Leader+1)%3); err != nil {
		t.Fatal(err)
	}
	moved := read(two)
	if moved.Is(first) || moved.ByName["orders"].Partitions[0].Leader == first.ByName["orders"].Partitions[0].Leader {
		t.Errorf("the move of a leader is not in the view: %+v", moved.ByName["orders"])
	}
	if (View{}).Is(View{}) {
		t.Error("views that nobody has read are the same")
	}
}

// A client that reads metadata undecoded sends requests to a broker that was added later.
func TestReaderTellsTheClientOfNewBrokers(t *testing.T) {
	cluster := kafkatest.New(t, kfake.NumBrokers(1))
	cl := testClient(t, config.Cluster{Brokers: cluster.ListenAddrs()})
	var r Reader
	for brokers := 1; brokers <= 2; brokers++ {
		if _, err := r.Read(t.Context(), cl); err != nil {
			t.Fatal(err)
		}
		if known := cl.DiscoveredBrokers(); len(known) != brokers {
			t.Fatalf("the client knows %v, want %d brokers", known, brokers)
		}
		if brokers == 1 {
			if _, _, err := cluster.AddNode(-1, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The parts of a response are found in all versions that brokers answer with.
func TestPartsOfAResponse(t *testing.T) {
	version := func(v *kversion.Versions) int16 {
		newest, _ := v.LookupMaxKeyVersion(int16(kmsg.Metadata))
		return newest
	}
	for v := int16(0); v <= version(kversion.Tip()); v++ {
		t.Run(fmt.Sprintf("version %d", v), func(t *testing.T) {
			answer := func(throttle, controller int32, host, topic string) (brokers, topics string) {
				response := kmsg.NewPtrMetadataResponse()
				response.Version, response.ThrottleMillis, response.ControllerID, response.ClusterID = v, throttle, controller, &host
				b := kmsg.NewMetadataResponseBroker()
				b.Host, b.Rack = host, &host
				t1 := kmsg.NewMetadataResponseTopic()
				t1.Topic = &topic
				response.Brokers, response.Topics = append(response.Brokers, b), append(response.Topics, t1)
				u := undecodedRequest{&kmsg.MetadataRequest{Version: v}}.ResponseKind().(*undecoded)
				if err := u.ReadFrom(response.AppendTo(nil)); err != nil {
					t.Fatal(err)
				}
				at := u.parts()
				return string(u.body[at.brokers:at.controller]), string(u.body[at.topics:])
			}
			brokers, topics := answer(0, 1, "h", "t")
			if b, p := answer(7, 2, "h", "t"); b != brokers || p != topics {
				t.Error("another controller or throttle time changes the parts")
			}
			if b, p := answer(0, 1, "g", "t"); b == brokers || p != topics {
				t.Error("other brokers are not found")
			}
			if b, p := answer(0, 1, "h", "u"); b != brokers || p == topics {
				t.Error("other topics are not found")
			}
		})
	}
}
