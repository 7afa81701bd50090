package topics

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// topicsTest is one flow from primary to dr between two fake clusters.
type topicsTest struct {
	*Syncer
	t              *testing.T
	source, target *kfake.Cluster
	log            bytes.Buffer
}

func testFlow() config.Flow {
	return config.Flow{
		ConfigsSync: true,
		Name:        "primary-dr", Source: "primary", Target: "dr", Topics: []string{".*"}, TopicsExclude: []string{"hidden"},
		Naming: config.NamingPrefix, Separator: ".", Shards: 4,
	}
}

func newTopicsTest(t *testing.T, change func(*config.Flow), targetOpts ...kfake.Opt) *topicsTest {
	t.Helper()
	test := &topicsTest{t: t, source: kafkatest.New(t, kfake.ClusterID("S")), target: kafkatest.New(t, append(targetOpts, kfake.ClusterID("T"))...)}
	flow := testFlow()
	if change != nil {
		change(&flow)
	}
	var err error
	test.Syncer, err = NewSyncer(
		testClient(t, config.Cluster{Brokers: test.source.ListenAddrs()}), testClient(t, config.Cluster{Brokers: test.target.ListenAddrs()}),
		flow, slog.New(slog.NewTextHandler(&test.log, nil)),
	)
	if err != nil {
		t.Fatal(err)
	}
	return test
}

func testClient(t *testing.T, c config.Cluster) *kgo.Client {
	t.Helper()
	opts, err := client.Options(c, &client.Dials{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func (test *topicsTest) create(cluster *kfake.Cluster, topic string, partitions int32, configs map[string]string) {
	test.t.Helper()
	if err := cluster.CreateTopic(topic, partitions, configs); err != nil {
		test.t.Fatal(err)
	}
}

// selectTopics reads both clusters and selects topics.
func (test *topicsTest) selectTopics() ([]Pair, []Refusal) {
	test.t.Helper()
	source, err := Read(test.t.Context(), test.Syncer.source)
	if err != nil {
		test.t.Fatal(err)
	}
	return test.Select(source, test.targetTopics())
}

func (test *topicsTest) targetTopics() View {
	test.t.Helper()
	target, err := Read(test.t.Context(), test.Syncer.target)
	if err != nil {
		test.t.Fatal(err)
	}
	return target
}

// createMissing calls CreateMissing once and fails the test on errors.
func (test *topicsTest) createMissing() (created, grown []string) {
	test.t.Helper()
	pairs, _ := test.selectTopics()
	created, grown, errs := test.CreateMissing(test.t.Context(), pairs)
	if len(errs) > 0 {
		test.t.Fatal(errs)
	}
	slices.Sort(created)
	return created, grown
}

// dynamic returns the configs that are set on a target topic itself.
func (test *topicsTest) dynamic(topic string) map[string]string {
	test.t.Helper()
	return kafkatest.TopicConfigs(test.t, test.Syncer.target, topic)
}

func TestTopics_read(t *testing.T) {
	cluster := kafkatest.New(t, kfake.NumBrokers(3), kfake.ClusterID("S"))
	for topic, partitions := range map[string]int32{"a": 1, "b": 7, "__x": 2} {
		if err := cluster.CreateTopic(topic, partitions, nil); err != nil {
			t.Fatal(err)
		}
	}
	read, err := Read(t.Context(), testClient(t, config.Cluster{Brokers: cluster.ListenAddrs()}))
	if err != nil {
		t.Fatal(err)
	}
	if read.ClusterID != "S" || len(read.ByName) != 3 || len(read.Brokers) != 3 {
		t.Errorf("read %+v", read)
	}
	b := read.ByName["b"]
	if b.Name != "b" || b.ID == ([16]byte{}) || len(b.Partitions) != 7 || len(read.ByName["__x"].Partitions) != 2 {
		t.Errorf("b = %+v", b)
	}
	for n, p := range b.Partitions {
		if p.Leader != cluster.LeaderFor("b", int32(n)) || p.LeaderEpoch < 0 || p.Err != nil {
			t.Errorf("b-%d = %+v", n, p)
		}
	}
}

// Brokers list partitions in any order, and omit some while a topic is being created.
func TestTopics_readGaps(t *testing.T) {
	topic := kmsg.NewMetadataResponseTopic()
	topic.Topic = kmsg.StringPtr("a")
	for _, n := range []int32{2, 0} {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition, p.Leader, p.LeaderEpoch, p.ErrorCode = n, 7, n, kerr.ReplicaNotAvailable.Code
		topic.Partitions = append(topic.Partitions, p)
	}
	want := []Partition{{Leader: 7}, {Leader: -1, LeaderEpoch: -1, Err: kerr.LeaderNotAvailable}, {Leader: 7, LeaderEpoch: 2}}
	got := readTopic(&topic).Partitions
	if len(got) != len(want) {
		t.Fatalf("partitions = %+v", got)
	}
	for n := range want {
		if got[n].Leader != want[n].Leader || got[n].LeaderEpoch != want[n].LeaderEpoch || !errors.Is(got[n].Err, want[n].Err) {
			t.Errorf("partition %d = %+v, want %+v", n, got[n], want[n])
		}
	}
}

func TestTopics_select(t *testing.T) {
	test := newTopicsTest(t, func(f *config.Flow) { f.Naming = config.NamingIdentity })
	one := []Partition{{Leader: 1}}
	source, target := View{ByName: map[string]Topic{}}, View{ByName: map[string]Topic{}}
	for _, name := range []string{"b", "a", "hidden", "__x", "heartbeats", "primary.heartbeats", "milena.primary-dr.journal"} {
		source.ByName[name] = Topic{Name: name, Partitions: one}
	}
	source.ByName["empty"] = Topic{Name: "empty"}
	target.ByName["a"] = Topic{Name: "a", Partitions: one}

	pairs, refused := test.Select(source, target)
	var got []string
	for _, p := range pairs {
		got = append(got, p.Source.Name+">"+p.TargetName+">"+p.Target.Name)
	}
	if diff := cmp.Diff([]string{"a>a>a", "b>b>"}, got); diff != "" {
		t.Error(diff)
	}
	var topics []string
	for _, r := range refused {
		topics = append(topics, r.Topic)
		if r.Reason == "" {
			t.Errorf("%s is refused without a reason", r.Topic)
		}
	}
	if diff := cmp.Diff([]string{"empty", "heartbeats", "primary.heartbeats"}, topics); diff != "" {
		t.Error(diff)
	}
}

func TestTopics_createAndGrow(t *testing.T) {
	test := newTopicsTest(t, func(f *config.Flow) { f.ConfigsExclude = []string{`min\.insync\.replicas`} })
	test.create(test.source, "orders", 3, map[string]string{"cleanup.policy": "compact", "compression.type": "lz4", "min.insync.replicas": "2"})
	test.create(test.source, "plain", 1, nil)
	test.create(test.source, "hidden", 1, nil)

	created, grown := test.createMissing()
	if diff := cmp.Diff([]string{"primary.orders", "primary.plain"}, created); diff != "" || len(grown) > 0 {
		t.Error(diff, grown)
	}
	if n := len(test.targetTopics().ByName["primary.orders"].Partitions); n != 3 {
		t.Errorf("%d partitions", n)
	}
	if diff := cmp.Diff(map[string]string{"cleanup.policy": "compact"}, test.dynamic("primary.orders")); diff != "" {
		t.Error(diff)
	}
	if created, grown := test.createMissing(); len(created)+len(grown) > 0 {
		t.Errorf("a second call created %v and grew %v", created, grown)
	}

	// The source topic grows. The other remote topic has more partitions than its source, which is left alone.
	if _, err := kadm.NewClient(test.Syncer.source).UpdatePartitions(t.Context(), 5, "orders"); err != nil {
		t.Fatal(err)
	}
	if _, err := kadm.NewClient(test.Syncer.target).UpdatePartitions(t.Context(), 4, "primary.plain"); err != nil {
		t.Fatal(err)
	}
	if created, grown := test.createMissing(); len(created) > 0 || !slices.Equal(grown, []string{"primary.orders"}) {
		t.Errorf("created %v, grown %v", created, grown)
	}
	view := test.targetTopics()
	if n, m := len(view.ByName["primary.orders"].Partitions), len(view.ByName["primary.plain"].Partitions); n != 5 || m != 4 {
		t.Errorf("%d and %d partitions", n, m)
	}
}

func TestTopics_replicationFactor(t *testing.T) {
	for factor, want := range map[int16]int16{0: 1, 1: 1, -1: -1} {
		test := newTopicsTest(t, func(f *config.Flow) { f.ReplicationFactor = factor })
		sent := make(chan int16, 1)
		test.target.ControlKey(int16(kmsg.CreateTopics), func(request kmsg.Request) (kmsg.Response, error, bool) {
			sent <- request.(*kmsg.CreateTopicsRequest).Topics[0].ReplicationFactor
			return nil, nil, false
		})
		test.create(test.source, "a", 1, nil)
		test.createMissing()
		if got := <-sent; got != want {
			t.Errorf("replication_factor %d is sent as %d, want %d", factor, got, want)
		}
	}
}

func TestTopics_createdBySomeoneElse(t *testing.T) {
	test := newTopicsTest(t, nil)
	test.create(test.source, "a", 2, nil)
	pairs, _ := test.selectTopics()
	test.create(test.target, "primary.a", 2, nil)
	created, _, errs := test.CreateMissing(t.Context(), pairs)
	if len(created) > 0 || len(errs) > 0 {
		t.Errorf("created %v, errors %v", created, errs)
	}
}

func TestTopics_oneFailsTheOthersProceed(t *testing.T) {
	test := newTopicsTest(t, nil)
	for _, name := range []string{"a", "bad", "undescribed", "z"} {
		test.create(test.source, name, 1, nil)
	}
	test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "primary.bad", Err: kerr.PolicyViolation, Count: -1})
	test.source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "undescribed", Err: kerr.TopicAuthorizationFailed, Count: -1})
	pairs, _ := test.selectTopics()
	created, _, errs := test.CreateMissing(t.Context(), pairs)
	slices.Sort(created)
	if diff := cmp.Diff([]string{"primary.a", "primary.z"}, created); diff != "" {
		t.Error(diff)
	}
	wantErrors(t, errs, map[string]string{
		"primary.bad":         "create topic primary.bad on cluster dr: POLICY_VIOLATION",
		"primary.undescribed": "describe configs of topic undescribed on cluster primary: not allowed; grant DESCRIBE_CONFIGS on the topic",
	})
	if test.targetTopics().ByName["primary.undescribed"].Exists() {
		t.Error("a topic was created without its configs")
	}
}

func wantErrors(t *testing.T, errs map[string]error, want map[string]string) {
	t.Helper()
	if len(errs) != len(want) {
		t.Errorf("errors of %v", slices.Sorted(maps.Keys(errs)))
	}
	for name, text := range want {
		if errs[name] == nil || !strings.Contains(errs[name].Error(), text) {
			t.Errorf("error of %s: %v; want %q", name, errs[name], text)
		}
	}
}

// A vendor-specific config must not prevent the creation of a topic (KAFKA-13255).
func TestTopics_unknownConfigIsLeftOut(t *testing.T) {
	for _, message := range []string{"Unknown topic config name: vendor.validation", ""} {
		t.Run("message "+message, func(t *testing.T) {
			test := newTopicsTest(t, nil)
			test.create(test.source, "a", 1, map[string]string{"vendor.validation": "true", "retention.ms": "5"})
			test.create(test.source, "plain", 1, nil)
			if message == "" { // then what the target knows is seen in another topic of it
				test.create(test.target, "primary.plain", 1, nil)
			}
			test.target.ControlKey(int16(kmsg.CreateTopics), func(request kmsg.Request) (kmsg.Response, error, bool) {
				response := request.ResponseKind().(*kmsg.CreateTopicsResponse)
				for _, topic := range request.(*kmsg.CreateTopicsRequest).Topics {
					answer := kmsg.NewCreateTopicsResponseTopic()
					answer.Topic, answer.ErrorCode, answer.ErrorMessage = topic.Topic, kerr.InvalidConfig.Code, &message
					response.Topics = append(response.Topics, answer)
				}
				return response, nil, true // once; then kfake itself accepts
			})
			pairs, _ := test.selectTopics()
			pairs = slices.DeleteFunc(pairs, func(p Pair) bool { return message != "" && p.Source.Name == "plain" })
			created, _, errs := test.CreateMissing(t.Context(), pairs)
			if !slices.Equal(created, []string{"primary.a"}) || len(errs) > 0 {
				t.Fatalf("created %v, errors %v", created, errs)
			}
			if diff := cmp.Diff(map[string]string{"retention.ms": "5"}, test.dynamic("primary.a")); diff != "" {
				t.Error(diff)
			}
			if log := test.log.String(); strings.Count(log, "vendor.validation") != 1 {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

func TestTopics_invalidConfigIsNotRetriedForever(t *testing.T) {
	test := newTopicsTest(t, nil)
	test.create(test.source, "a", 1, map[string]string{"retention.ms": "5"})
	test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.InvalidConfig, Count: -1})
	pairs, _ := test.selectTopics()
	_, _, errs := test.CreateMissing(t.Context(), pairs)
	wantErrors(t, errs, map[string]string{"primary.a": "create topic primary.a on cluster dr: INVALID_CONFIG"})
}

// Policies of the target do not always name the refused config.
func TestTopics_refusedConfigIsLeftOut(t *testing.T) {
	test := newTopicsTest(t, nil)
	test.create(test.source, "a", 1, map[string]string{"cleanup.policy": "compact", "retention.ms": "5", "segment.ms": "9"})
	test.create(test.source, "b", 1, map[string]string{"segment.bytes": "1000000"})
	refuse := func(config string) func(kmsg.Request) bool {
		return func(request kmsg.Request) bool {
			return slices.ContainsFunc(request.(*kmsg.CreateTopicsRequest).Topics, func(topic kmsg.CreateTopicsRequestTopic) bool {
				return topic.Topic == "primary.a" && slices.ContainsFunc(topic.Configs, func(c kmsg.CreateTopicsRequestTopicConfig) bool { return c.Name == config })
			})
		}
	}
	test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "primary.a", Err: kerr.PolicyViolation, Count: -1, When: refuse("segment.ms")})
	if created, _ := test.createMissing(); !slices.Equal(created, []string{"primary.a", "primary.b"}) {
		t.Errorf("created %v", created)
	}
	if diff := cmp.Diff(map[string]string{"cleanup.policy": "compact", "retention.ms": "5"}, test.dynamic("primary.a")); diff != "" {
		t.Error(diff)
	}
	if text := test.log.String(); strings.Count(text, "the target refuses it") != 1 || !strings.Contains(text, "config=segment.ms") {
		t.Errorf("log:\n%s", text)
	}

	// Without its cleanup.policy, a remote topic would lose records.
	other := newTopicsTest(t, nil)
	other.create(other.source, "a", 1, map[string]string{"cleanup.policy": "compact", "retention.ms": "5"})
	other.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "primary.a", Err: kerr.PolicyViolation, Count: -1, When: refuse("cleanup.policy")})
	pairs, _ := other.selectTopics()
	_, _, errs := other.CreateMissing(t.Context(), pairs)
	wantErrors(t, errs, map[string]string{"primary.a": "create topic primary.a on cluster dr: POLICY_VIOLATION"})
	wantErrors(t, other.PreviewCreates(t.Context(), pairs, pairs).Errors, map[string]string{"primary.a": "create topic primary.a on cluster dr: POLICY_VIOLATION"})
}

func TestTopics_missingRights(t *testing.T) {
	test := newTopicsTest(t, nil)
	for _, name := range []string{"create", "grow", "alter"} {
		test.create(test.source, name, 2, map[string]string{"retention.ms": "5"})
	}
	test.create(test.target, "primary.grow", 1, nil)
	test.create(test.target, "primary.alter", 2, nil)
	test.target.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.CreateTopics, kmsg.CreatePartitions, kmsg.IncrementalAlterConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1,
	})
	pairs, _ := test.selectTopics()
	created, grown, errs := test.CreateMissing(t.Context(), pairs)
	if len(created)+len(grown) > 0 {
		t.Errorf("created %v, grown %v", created, grown)
	}
	wantErrors(t, errs, map[string]string{
		"primary.create": "create topic primary.create on cluster dr: not allowed; grant CREATE on the topic or on the cluster",
		"primary.grow":   "add partitions to topic primary.grow on cluster dr: not allowed; grant ALTER on the topic",
	})
	limits, errs := test.SyncConfigs(t.Context(), pairs)
	wantErrors(t, errs, map[string]string{
		"primary.alter": "alter configs of topic primary.alter on cluster dr: not allowed; grant ALTER_CONFIGS on the topic",
		"primary.grow":  "grant ALTER_CONFIGS",
	})
	if limits["primary.alter"].MaxMessageBytes == 0 {
		t.Error("a topic whose configs may not be altered has no limits, but it can still be copied")
	}
}

func TestTopics_wholeRequestFails(t *testing.T) {
	test := newTopicsTest(t, nil)
	test.create(test.source, "a", 1, nil)
	pairs, _ := test.selectTopics()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, errs := test.CreateMissing(ctx, pairs)
	if err := errs["primary.a"]; !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestTopics_syncConfigs(t *testing.T) {
	test := newTopicsTest(t, nil)
	test.create(test.source, "a", 1, map[string]string{"cleanup.policy": "compact,delete", "max.message.bytes": "5000000", "compression.type": "gzip"})
	test.create(test.source, "same", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	test.create(test.target, "primary.a", 1, map[string]string{"retention.ms": "7"})
	test.create(test.target, "primary.same", 1, map[string]string{"message.timestamp.type": "LogAppendTime", "compression.type": "zstd"})
	test.create(test.source, "later", 1, nil) // has no remote topic yet
	alters := test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.IncrementalAlterConfigs}, Observe: true, Count: -1})

	pairs, _ := test.selectTopics()
	limits, errs := test.SyncConfigs(t.Context(), pairs)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	want := map[string]Limits{
		"primary.a":    {MaxMessageBytes: 5000000, MinInSyncReplicas: 1, CompressionType: "producer", Compacted: true, DeleteRetention: 24 * time.Hour, SourceRetention: 7 * 24 * time.Hour, SourceDeleteRetention: 24 * time.Hour},
		"primary.same": {MaxMessageBytes: 1048588, MinInSyncReplicas: 1, CompressionType: "zstd", LogAppendTime: true, DeleteRetention: 24 * time.Hour, SourceNotCompacted: true, SourceRetention: 7 * 24 * time.Hour, SourceDeleteRetention: 24 * time.Hour},
	}
	if diff := cmp.Diff(want, limits); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"cleanup.policy": "compact,delete", "max.message.bytes": "5000000"}, test.dynamic("primary.a")); diff != "" {
		t.Error(diff)
	}
	if n := strings.Count(test.log.String(), "as on the source"); n != 3 || strings.Contains(test.log.String(), "primary.same") {
		t.Errorf("want three changes with one line each:\n%s", test.log.String())
	}
	hits := alters.Hits()
	if again, errs := test.SyncConfigs(t.Context(), pairs); len(errs) > 0 || cmp.Diff(want, again) != "" || alters.Hits() != hits {
		t.Errorf("a second sync altered %d times, errors %v, limits %v", alters.Hits()-hits, errs, again)
	}
}

// Brokers refuse all changes of a topic because of one bad value.
func TestTopics_oneBadConfig(t *testing.T) {
	test := newTopicsTest(t, nil)
	test.create(test.source, "a", 1, map[string]string{"cleanup.policy": "compact", "retention.ms": "5", "segment.ms": "9"})
	test.create(test.target, "primary.a", 1, nil)
	test.target.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.IncrementalAlterConfigs}, Err: kerr.InvalidConfig, Count: -1,
		When: func(request kmsg.Request) bool {
			for _, c := range request.(*kmsg.IncrementalAlterConfigsRequest).Resources[0].Configs {
				if c.Name == "cleanup.policy" {
					return true
				}
			}
			return false
		},
	})
	pairs, _ := test.selectTopics()
	limits, errs := test.SyncConfigs(t.Context(), pairs)
	wantErrors(t, errs, map[string]string{"primary.a": "cleanup.policy: delete -> compact: alter configs of topic primary.a on cluster dr: INVALID_CONFIG"})
	if diff := cmp.Diff(map[string]string{"retention.ms": "5", "segment.ms": "9"}, test.dynamic("primary.a")); diff != "" {
		t.Error(diff)
	}
	if limits["primary.a"].Compacted {
		t.Error("limits are not those in force")
	}
}
