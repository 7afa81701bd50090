package offsets_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
)

func TestDecodeConnectorOffset(t *testing.T) {
	at := func(topic string, partition int32, next int64) offsets.ConnectorOffset {
		return offsets.ConnectorOffset{Connector: "MirrorSourceConnector", Source: "A", TopicPartition: offsets.TopicPartition{Topic: topic, Partition: partition}, Next: next}
	}
	const key = `["MirrorSourceConnector",{"cluster":"A","partition":0,"topic":"t"}]`
	for _, tt := range []struct {
		name, key, value string
		want             offsets.ConnectorOffset
		ok, bad          bool
	}{
		{name: "as Java writes it", key: key, value: `{"offset":123}`, want: at("t", 0, 124), ok: true},
		{name: "Strimzi's connector, fields in another order, spaces", key: `[ "a->b.MirrorSourceConnector" , {"topic":"t", "cluster":"A","partition":7} ]`, value: `{ "offset": 0 }`, want: at("t", 7, 1), ok: true},
		{name: "a topic that needs escapes", key: `["MirrorSourceConnector",{"cluster":"A","partition":0,"topic":"\u00e9\"."}]`, value: `{"offset":5}`, want: at("é\".", 0, 6), ok: true},
		{name: "a tombstone", key: key, want: at("t", 0, -1), ok: true},
		{name: "a null", key: key, value: "null", want: at("t", 0, -1), ok: true},
		{name: "no offset", key: key, value: `{}`, want: at("t", 0, -1), ok: true, bad: true},
		{name: "a negative offset", key: key, value: `{"offset":-1}`, want: at("t", 0, -1), ok: true, bad: true},
		{name: "an offset that has no next one", key: key, value: fmt.Sprintf(`{"offset":%d}`, math.MaxInt64), want: at("t", 0, -1), ok: true, bad: true},
		{name: "a fraction", key: key, value: `{"offset":1.5}`, want: at("t", 0, -1), ok: true, bad: true},
		{name: "no JSON", key: key, value: "123", want: at("t", 0, -1), ok: true, bad: true},
		{name: "the checkpoint connector's", key: `["MirrorCheckpointConnector",{"partition":0,"topic":"A.t","group":"g"}]`, value: `{"offset":0}`},
		{name: "the heartbeat connector's", key: `["MirrorHeartbeatConnector",{"sourceClusterAlias":"A","targetClusterAlias":"B"}]`, value: `{"offset":0}`},
		{name: "another connector", key: `["files",{"file":"x"}]`, value: `{"position":1}`},
		{name: "an unrelated record", key: "hello", value: "world"},
		{name: "nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var value []byte
			if tt.value != "" {
				value = []byte(tt.value)
			}
			got, ok, err := offsets.DecodeConnectorOffset([]byte(tt.key), value)
			if ok != tt.ok || (err != nil) != tt.bad {
				t.Fatalf("%v, %v, %v", got, ok, err)
			}
			if tt.name == "Strimzi's connector, fields in another order, spaces" {
				tt.want.Connector = "a->b.MirrorSourceConnector"
			}
			if diff := cmp.Diff(tt.want, got); tt.ok && diff != "" {
				t.Error(diff)
			}
			if again, ok, err := offsets.DecodeConnectorOffset(got.Key(), value); tt.ok && !tt.bad && (!ok || err != nil || again.Next != got.Next) && tt.name != "a topic that needs escapes" {
				t.Errorf("its own key %s is read as %+v, %v, %v", got.Key(), again, ok, err)
			}
		})
	}
}

func TestConnectorOffsetEncoding(t *testing.T) {
	p := offsets.ConnectorOffset{Connector: "MirrorSourceConnector", Source: "A", TopicPartition: offsets.TopicPartition{Topic: "t"}, Next: 124}
	if got := string(p.Key()) + " " + string(p.Value()); got != `["MirrorSourceConnector",{"cluster":"A","partition":0,"topic":"t"}] {"offset":123}` {
		t.Error(got)
	}
	// Kafka's partitioner over the 25 partitions of the topic must choose the partitions that Java chose.
	for key, want := range map[*offsets.ConnectorOffset]int{
		&p: 7,
		{Connector: "MirrorSourceConnector", Source: "primary", TopicPartition: offsets.TopicPartition{Topic: "orders"}}: 24,
	} {
		chosen := kgo.StickyKeyPartitioner(nil).ForTopic("t").Partition(&kgo.Record{Key: key.Key()}, 25)
		if chosen != want {
			t.Errorf("%s goes to partition %d, want %d", key.Key(), chosen, want)
		}
	}
}

// Several partitions of the topic may have connector offsets of one source partition, if a tool with another
// partitioner wrote some.
func TestNewestConnectorOffsetWins(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "mm2-offsets.A.internal"), kfake.SeedTopics(1, "mm2-offset-syncs.A.internal"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	write := func(topic string, partition int32, second int, key, value []byte) {
		t.Helper()
		r := &kgo.Record{Topic: topic, Partition: partition, Key: key, Value: value, Timestamp: time.Unix(int64(1000+second), 0)}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	writeOffset := func(in int32, second int, topic string, offset int) {
		t.Helper()
		var value []byte
		if offset >= 0 {
			value = fmt.Appendf(nil, `{"offset":%d}`, offset)
		}
		write("mm2-offsets.A.internal", in, second, fmt.Appendf(nil, `["MirrorSourceConnector",{"cluster":"A","partition":0,"topic":%q}]`, topic), value)
	}
	writeOffset(0, 1, "later in another partition", 10)
	writeOffset(1, 2, "later in another partition", 20)
	writeOffset(1, 2, "earlier in another partition", 20)
	writeOffset(2, 1, "earlier in another partition", 10)
	writeOffset(0, 5, "later in the same, by an older clock", 10)
	writeOffset(0, 3, "later in the same, by an older clock", 20)
	writeOffset(0, 1, "reset", 10)
	writeOffset(0, 2, "reset", -1)
	writeOffset(0, 1, "reset and copied again", 10)
	writeOffset(0, 2, "reset and copied again", -1)
	writeOffset(0, 3, "reset and copied again", 3)
	write("mm2-offsets.A.internal", 0, 1, []byte(`["MirrorSourceConnector",{"cluster":"Z","partition":0,"topic":"of another source"}]`), []byte(`{"offset":1}`))
	write("mm2-offsets.A.internal", 0, 9, []byte(`["MirrorSourceConnector",{"cluster":"A","partition":0,"topic":"unreadable"}]`), []byte(`{`))
	for i, s := range []offsets.OffsetSync{{"t", 0, 5, 0}, {"u", 1, 1, 1}, {"t", 0, 9, 4}} {
		write("mm2-offset-syncs.A.internal", 0, i, s.AppendKey(nil), s.AppendValue(nil))
	}
	write("mm2-offset-syncs.A.internal", 0, 9, []byte("foreign"), []byte("x"))

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	got, err := offsets.ReadMM2Progress(ctx, client, "mm2-offsets.A.internal", "A", client, "mm2-offset-syncs.A.internal")
	if err != nil {
		t.Fatal(err)
	}
	tp := func(topic string, partition int32) offsets.TopicPartition {
		return offsets.TopicPartition{Topic: topic, Partition: partition}
	}
	want := &offsets.MM2Progress{
		ConnectorOffsets: map[offsets.TopicPartition]int64{
			tp("later in another partition", 0): 21, tp("earlier in another partition", 0): 21,
			tp("later in the same, by an older clock", 0): 21, tp("reset and copied again", 0): 4,
		},
		Connector:   "MirrorSourceConnector",
		OffsetSyncs: map[offsets.TopicPartition][]offsets.Pair{tp("t", 0): {{Source: 5, Target: 0}, {Source: 9, Target: 4}}, tp("u", 1): {{Source: 1, Target: 1}}},
		Unreadable:  2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	none, err := offsets.ReadMM2Progress(ctx, client, "not-there", "A", client, "neither")
	if err != nil || len(none.ConnectorOffsets)+len(none.OffsetSyncs) > 0 {
		t.Errorf("%+v, %v", none, err)
	}
}

func TestTheNewestSyncAtOrBelowAnOffsetTranslatesIt(t *testing.T) {
	t.Parallel()
	tp := offsets.TopicPartition{Topic: "orders", Partition: 1}
	for _, c := range []struct {
		name   string
		syncs  []offsets.Pair
		source int64
		want   int64 // -1: no sync is old enough
	}{
		{"none", nil, 5, -1},
		{"exact", []offsets.Pair{{Source: 5, Target: 3}, {Source: 9, Target: 7}}, 5, 3},
		{"between", []offsets.Pair{{Source: 5, Target: 3}, {Source: 9, Target: 7}}, 8, 4},
		{"above all", []offsets.Pair{{Source: 5, Target: 3}, {Source: 9, Target: 7}}, 1000, 8},
		{"below all", []offsets.Pair{{Source: 5, Target: 3}, {Source: 9, Target: 7}}, 4, -1},
		{"duplicates after a restart", []offsets.Pair{{Source: 9, Target: 9}, {Source: 6, Target: 12}}, 8, 13},
		{"from before the target was recreated", []offsets.Pair{{Source: 5, Target: 50}, {Source: 9, Target: 0}}, 7, -1},
		{"from after the target was recreated", []offsets.Pair{{Source: 5, Target: 50}, {Source: 9, Target: 0}}, 9, 0},
	} {
		progress := offsets.MM2Progress{OffsetSyncs: map[offsets.TopicPartition][]offsets.Pair{tp: c.syncs}}
		target, ok := progress.Forward(tp, c.source)
		if ok != (c.want >= 0) || ok && target != c.want {
			t.Errorf("%s: source offset %d is translated to %d, %t, want %d", c.name, c.source, target, ok, c.want)
		}
	}
}
