package topics

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

func viewOf(brokers int) View {
	v := View{Brokers: map[int32]string{}}
	for id := range int32(brokers) {
		v.Brokers[id] = "broker"
	}
	return v
}

func topicOf(replicas ...int32) Topic {
	topic := Topic{Name: "a"}
	for _, n := range replicas {
		topic.Partitions = append(topic.Partitions, Partition{Replicas: n})
	}
	return topic
}

// A copy has as many replicas as its source, as far as the target has brokers.
func TestCopyReplicas(t *testing.T) {
	for _, test := range []struct {
		factor  int16
		source  Topic
		brokers int
		want    int16
	}{
		{0, topicOf(3, 3), 5, 3},
		{0, topicOf(3, 3), 2, 2},
		{0, topicOf(3, 1), 5, 1}, // while it is reassigned
		{0, topicOf(1), 3, 1},
		{0, topicOf(), 3, -1},
		{0, topicOf(0), 3, -1},
		{0, topicOf(3), 0, -1},
		{2, topicOf(3), 3, 2},
		{5, topicOf(3), 3, 5}, // refused by the target
		{-1, topicOf(3), 3, -1},
	} {
		if got, _ := copyReplicas(config.Flow{ReplicationFactor: test.factor}, test.source, viewOf(test.brokers)); got != test.want {
			t.Errorf("replication_factor %d, %+v, %d brokers: got %d, want %d", test.factor, test.source.Partitions, test.brokers, got, test.want)
		}
	}
}

// A copy can be written although the target wants more replicas in sync than the source has replicas.
func TestPair_writable(t *testing.T) {
	for _, test := range []struct {
		pair Pair
		sync string
		want int16
	}{
		{Pair{Replicas: 1, most: 3}, "2", 3},
		{Pair{Replicas: 1, most: 2}, "2", 2},
		{Pair{Replicas: 3, most: 5}, "2", 3},
		{Pair{Replicas: 1, most: 3}, "1", 1},
		{Pair{Replicas: 1, most: 3}, "", 1}, // not known
		{Pair{Replicas: 1}, "2", 1},         // the config says so
		{Pair{Replicas: -1}, "2", -1},
		{Pair{}, "2", -1},
	} {
		if got := test.pair.writable(map[string]string{"min.insync.replicas": test.sync}); got != test.want {
			t.Errorf("%+v, min.insync.replicas %q: got %d, want %d", test.pair, test.sync, got, test.want)
		}
	}
}

func TestOwn_replicas(t *testing.T) {
	for _, test := range []struct {
		factor, first, second int16
		brokers               int
	}{
		{factor: 0, brokers: 5, first: 3, second: -1},
		{factor: 0, brokers: 2, first: 2, second: -1},
		{factor: 0, brokers: 0, first: -1, second: 0},
		{factor: -1, brokers: 5, first: -1, second: 3},
		{factor: -1, brokers: 1, first: -1, second: 1},
		{factor: 2, brokers: 5, first: 2, second: 0},
	} {
		if first, second := (Own{ReplicationFactor: test.factor, Brokers: test.brokers}).replicas(); first != test.first || second != test.second {
			t.Errorf("%+v: got %d and %d", test, first, second)
		}
	}
}

// factors lets a cluster refuse some replication factors, as brokers before 2.4 refuse -1, and policies what they do not want. It returns those
// that were tried.
func factors(cluster *kfake.Cluster, refused int16, refusal *kerr.Error, message string) (tried func() []int16) {
	var all []int16
	cluster.ControlKey(int16(kmsg.CreateTopics), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		topic := request.(*kmsg.CreateTopicsRequest).Topics[0]
		all = append(all, topic.ReplicationFactor)
		if topic.ReplicationFactor != refused {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.CreateTopicsResponse)
		answer := kmsg.NewCreateTopicsResponseTopic()
		answer.Topic, answer.ErrorCode, answer.ErrorMessage = topic.Topic, refusal.Code, kmsg.StringPtr(message)
		response.Topics = append(response.Topics, answer)
		return response, nil, true
	})
	return func() []int16 { return all }
}

// Heartbeats on a source before 2.4, which has no default, and a policy that wants the brokers' default.
func TestOwn_triesAnotherFactor(t *testing.T) {
	for name, test := range map[string]struct {
		own     Own
		refusal *kerr.Error
		message string
		want    []int16
		fails   bool
	}{
		"no default":            {Own{ReplicationFactor: -1, Brokers: 1}, kerr.InvalidReplicationFactor, "", []int16{-1, 1}, false},
		"a policy of its own":   {Own{Brokers: 1}, kerr.PolicyViolation, "Topic replication factor must be 3", []int16{1, -1}, false},
		"another policy":        {Own{Brokers: 1}, kerr.PolicyViolation, "no such name", []int16{1}, true},
		"a broker is down":      {Own{Brokers: 1}, kerr.InvalidReplicationFactor, "larger than available brokers", []int16{1}, true},
		"the config's is wrong": {Own{ReplicationFactor: 1, Brokers: 1}, kerr.PolicyViolation, "replication factor", []int16{1}, true},
	} {
		cluster := kafkatest.New(t)
		tried := factors(cluster, test.want[0], test.refusal, test.message)
		test.own.Name, test.own.Partitions = "heartbeats", 1
		created, _, err := test.own.Create(t.Context(), kafkatest.Client(t, cluster), "primary")
		if created == test.fails || (err != nil) != test.fails {
			t.Errorf("%s: created %v, %v", name, created, err)
		}
		if got := tried(); !slices.Equal(got[:min(len(got), len(test.want))], test.want) {
			t.Errorf("%s: tried %d, want %d", name, got, test.want)
		}
	}
}

// A copy is created with what the source has.
func TestTopics_copiesHaveTheReplicasOfTheirSource(t *testing.T) {
	test := newTopicsTest(t, nil, kfake.NumBrokers(3))
	if _, _, err := test.source.AddNode(1, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := kadm.NewClient(kafkatest.Client(t, test.source)).CreateTopic(t.Context(), 1, 2, nil, "a"); err != nil {
		t.Fatal(err)
	}
	pairs, _ := test.selectTopics()
	if len(pairs) != 1 || pairs[0].Replicas != 2 {
		t.Fatalf("got %+v", pairs)
	}
	tried := factors(test.target, 0, kerr.PolicyViolation, "")
	test.createMissing()
	if got := tried(); !slices.Equal(got, []int16{2}) {
		t.Errorf("created with %d", got)
	}
}
