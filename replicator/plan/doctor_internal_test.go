package plan

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/kafkatest"
	"github.com/milena-kafka/milena/replicator/topics"
)

// diagnose runs the doctor on the clusters of a test.
func (test *checkTest) diagnose() *Diagnosis {
	test.t.Helper()
	diagnosis, err := Doctor(test.t.Context(), test.Clusters)
	if err != nil {
		test.t.Fatal(err)
	}
	return diagnosis
}

// produce writes records with this timestamp to partition 0 of a topic.
func (test *checkTest) produce(cluster *kfake.Cluster, topic string, at time.Time, n int, opts ...kgo.Opt) {
	test.t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		test.t.Fatal(err)
	}
	defer cl.Close()
	for range n {
		if err := cl.ProduceSync(test.t.Context(), &kgo.Record{Key: []byte("k"), Value: []byte(strings.Repeat("v", 1000)), Timestamp: at}).FirstErr(); err != nil {
			test.t.Fatal(err)
		}
	}
}

// wantFindings fails the test unless the findings are these, in this order: severity, id, cluster and topic, then a text of what it means, and one of what
// mends it.
func wantFindings(t *testing.T, d *Diagnosis, want ...[3]string) {
	t.Helper()
	for i, f := range d.Findings {
		key := strings.TrimSpace(strings.Join([]string{string(f.Severity), string(f.ID), f.Cluster, f.Topic}, " "))
		if i >= len(want) {
			t.Errorf("not expected: %s: %+v", key, f)
			continue
		}
		if key != want[i][0] || !strings.Contains(f.Meaning, want[i][1]) || !strings.Contains(f.Mend+" "+f.Command, want[i][2]) {
			t.Errorf("%+v\nwant %q", f, want[i])
		}
	}
	for i := len(d.Findings); i < len(want); i++ {
		t.Errorf("not found: %q", want[i])
	}
}

func noConfigsSync(f *config.Flow) { f.ConfigsSync, f.GroupsSync = false, true }

// The doctor finds nothing on clusters on which nothing is wrong, and changes nothing.
func TestDoctor_healthy(t *testing.T) {
	test := newCheckTest(t, noConfigsSync)
	test.create(test.source, "new", 3, map[string]string{"cleanup.policy": "compact"})
	test.create(test.source, "there", 1, map[string]string{"retention.ms": "86400000"})
	test.produce(test.source, "there", time.Now(), 3)
	test.create(test.target, "primary.there", 1, map[string]string{"retention.ms": "86400000"})
	before := test.targetTopics()
	wantFindings(t, test.diagnose())
	after := test.targetTopics()
	delete(after, "__transaction_state") // as check
	if len(after) != len(before) {
		t.Errorf("topics of the target: %v, before %v", after, before)
	}
}

// Configs of copies that change or refuse records are found, with the command that mends them on the right cluster.
func TestDoctor_copies(t *testing.T) {
	test := newCheckTest(t, noConfigsSync)
	for topic, configs := range map[string]map[string]string{
		"codecs": {"compression.type": "gzip"},
		"same":   {"compression.type": "lz4"},
		"empty":  {"compression.type": "lz4"},
		"stamps": {"message.timestamp.type": "LogAppendTime"},
		"short":  {"retention.ms": "60000"},
		"early":  {"message.timestamp.before.max.ms": "60000"},
		"sizes":  {"max.message.bytes": "100000"},
	} {
		test.create(test.source, topic, 1, nil)
		test.create(test.target, "primary."+topic, 1, configs)
		if topic != "empty" {
			test.produce(test.source, topic, time.Now().Add(-time.Hour), 2, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
		}
	}
	target := "kafka-configs.sh --bootstrap-server " + test.target.ListenAddrs()[0] + " --alter --entity-type topics --entity-name primary."
	wantFindings(t, test.diagnose(),
		[3]string{"warning message-size dr primary.sizes", "batches of 1048588 bytes and its copy of 100000", target + "sizes --add-config max.message.bytes=1048588"},
		[3]string{"warning recompression dr primary.codecs", "compress the batches, whose codec is lz4, anew", target + "codecs --add-config compression.type=producer"},
		[3]string{"warning recompression dr primary.empty", "compress batches of other codecs anew", target + "empty --add-config compression.type=producer"},
		[3]string{"warning timestamp-type dr primary.stamps", "replace the timestamps", target + "stamps --add-config message.timestamp.type=CreateTime"},
		[3]string{"warning timestamp-limit dr primary.early", "Partition 0 of source topic early has records, such as that at offset 0", target + "early --add-config message.timestamp.before.max.ms=9223372036854775807"},
		[3]string{"warning shorter-retention dr primary.short", "retention.ms of the copy, 1m0s", target + "short --add-config retention.ms=604800000"},
	)
}

// Older brokers have one limit for both directions. What lifts it is a config that they know.
func TestDoctor_timestampLimitOfOlderBrokers(t *testing.T) {
	test := newCheckTest(t, noConfigsSync)
	test.create(test.source, "early", 1, nil)
	test.produce(test.source, "early", time.Now().Add(-time.Hour), 1)
	test.create(test.target, "primary.early", 1, map[string]string{"message.timestamp.difference.max.ms": "60000"})
	wantFindings(t, test.diagnose(),
		[3]string{"warning timestamp-limit dr primary.early", "beyond message.timestamp.difference.max.ms", "--add-config message.timestamp.difference.max.ms=9223372036854775807"})
}

// A config that the flow copies has to be mended on the source topic: the next sync would undo it on the copy. What the sync itself mends is no finding.
func TestDoctor_mendsWhereItLasts(t *testing.T) {
	test := newCheckTest(t, func(f *config.Flow) { f.ConfigsExclude = []string{"segment.ms"} })
	test.create(test.source, "synced", 1, map[string]string{"retention.ms": "604800000"})
	test.produce(test.source, "synced", time.Now().Add(-time.Hour), 1)
	test.create(test.target, "primary.synced", 1, map[string]string{"retention.ms": "1000"})
	wantFindings(t, test.diagnose())

	d := examined()
	synced := topics.Pair{Source: topics.Topic{Name: "synced"}, TargetName: "primary.synced", Target: topics.Topic{Name: "primary.synced"}}
	missing := topics.Pair{Source: topics.Topic{Name: "new"}, TargetName: "primary.new"}
	for _, c := range []struct {
		pair   topics.Pair
		config string
		mend   string
	}{
		{synced, "retention.ms", "Do so, by a config of the source topic, which the flow copies: kafka-configs.sh --bootstrap-server b:9092 --alter --entity-type topics --entity-name synced --add-config retention.ms=1"},
		{missing, "retention.ms", "Do so, by a config of the source topic, which the flow copies: kafka-configs.sh --bootstrap-server b:9092 --alter --entity-type topics --entity-name new --add-config retention.ms=1"},
		{synced, "segment.ms", "Do so: kafka-configs.sh --bootstrap-server b:9092 --alter --entity-type topics --entity-name primary.synced --add-config segment.ms=1"},
		{missing, "segment.ms", "Do so, once the copy exists: kafka-configs.sh --bootstrap-server b:9092 --alter --entity-type topics --entity-name primary.new --add-config segment.ms=1"},
	} {
		var err error
		if d.topics, err = topics.NewSyncer(nil, nil, test.Flow, test.Log); err != nil {
			t.Fatal(err)
		}
		d.diagnosis.Findings = nil
		d.mendCopy(Finding{Mend: "Do so"}, c.pair, c.config, "1")
		if f := d.diagnosis.Findings[0]; f.Mend+" "+f.Command != c.mend {
			t.Errorf("%s %s\nwant %s", f.Mend, f.Command, c.mend)
		}
	}
}

// The topics that milena and MirrorMaker 2 keep for themselves must be as they create them.
func TestDoctor_internalTopics(t *testing.T) {
	test := newCheckTest(t, noConfigsSync)
	test.create(test.source, "a", 1, nil)
	journal := offsets.JournalTopic(test.Flow.Name)
	test.create(test.target, journal, 7, map[string]string{"cleanup.policy": "delete"})
	test.create(test.target, "heartbeats", 2, map[string]string{"cleanup.policy": "compact"})
	test.create(test.source, "heartbeats", 1, map[string]string{"cleanup.policy": "delete"})
	wantFindings(t, test.diagnose(),
		[3]string{"error internal-topic-config dr " + journal, "The journal has 7 partitions and the config says shards: 4", "Set shards of the flow to 7."},
		[3]string{"error internal-topic-config dr " + journal, "The topic has cleanup.policy=delete", "--entity-name " + journal + " --add-config cleanup.policy=compact"},
		[3]string{"warning internal-topic-config dr heartbeats", "The topic has 2 partitions", "kafka-topics.sh --bootstrap-server " + test.target.ListenAddrs()[0] + " --delete --topic heartbeats"},
		[3]string{"warning internal-topic-config dr " + journal, "segment.bytes=104857600", "--add-config segment.bytes=16777216"},
		[3]string{"warning internal-topic-config primary heartbeats", "cleanup.policy=delete", test.source.ListenAddrs()[0] + " --alter --entity-type topics --entity-name heartbeats"},
	)
}

// What milena may not look at is a note that says which right is missing, and does not hide the rest.
func TestDoctor_missingRights(t *testing.T) {
	test := newCheckTest(t, noConfigsSync)
	test.create(test.source, "a", 1, nil)
	test.create(test.source, "b", 1, nil)
	test.create(test.target, "primary.a", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	test.source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "b", Err: kerr.TopicAuthorizationFailed, Count: -1})
	test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeClientQuotas}, TopLevel: true, Err: kerr.ClusterAuthorizationFailed, Count: -1})
	diagnosis := test.diagnose()
	wantFindings(t, diagnosis,
		[3]string{"warning timestamp-type dr primary.a", "", ""},
		[3]string{"note not-examined dr", "It is not known which quotas of cluster dr apply to milena", "Grant milena's user DESCRIBE_CONFIGS on the cluster."},
		[3]string{"note not-examined primary", "which configs 1 topic of cluster primary have, such as b", "Grant milena's user DESCRIBE_CONFIGS on the topics."},
	)
	if n := diagnosis.Errors(); n != 0 {
		t.Errorf("%d errors", n)
	}
}

func TestDoctor_transactions(t *testing.T) {
	test := newCheckTest(t, noConfigsSync)
	test.create(test.source, "a", 1, nil)
	test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.TransactionalIDAuthorizationFailed, Count: -1})
	diagnosis := test.diagnose()
	if !slices.ContainsFunc(diagnosis.Findings, func(f Finding) bool {
		return f.ID == TransactionLog && f.Severity == SeverityError && strings.Contains(f.Meaning, "grant WRITE on transactional ids with the prefix milena.primary-dr.")
	}) {
		t.Errorf("%+v", diagnosis.Findings)
	}
}

// A flow that does without transactions on a target that has them is a warning.
func TestDoctor_fence(t *testing.T) {
	test := newCheckTest(t, func(f *config.Flow) { noConfigsSync(f); f.Fence = config.FenceLease })
	test.create(test.source, "a", 1, nil)
	wantFindings(t, test.diagnose(), [3]string{"warning transaction-log dr", "Cluster dr has transactions; remove fence: lease", "remove fence: lease"})
}

// A cluster that does not answer is the only finding, also if both do not.
func TestDoctor_unreachable(t *testing.T) {
	test := newCheckTest(t, nil)
	test.Source.Brokers = []string{"127.0.0.1:1"}
	wantFindings(t, test.diagnose(), [3]string{"error cluster-unreachable primary", "Cluster primary (127.0.0.1:1): connection refused", "Check that the broker runs"})
	test.Target = test.Source
	wantFindings(t, test.diagnose(),
		[3]string{"error cluster-unreachable dr", "connection refused", "Check that"}, [3]string{"error cluster-unreachable primary", "connection refused", "Check that"})
	test.Source.Brokers = test.target.ListenAddrs()
	test.Target = test.Source
	wantFindings(t, test.diagnose(), [3]string{"error cluster-unreachable primary", "are the same cluster (id T)", "Check the brokers of both."})
}

func TestDoctor_groups(t *testing.T) {
	test := newCheckTest(t, func(f *config.Flow) { f.GroupsSync, f.Groups = true, []string{".*"} })
	test.create(test.source, "a", 1, nil)
	test.source.ControlKey(int16(kmsg.ListGroups), func(request kmsg.Request) (kmsg.Response, error, bool) {
		test.source.KeepControl()
		response := request.ResponseKind().(*kmsg.ListGroupsResponse)
		for _, g := range [][3]string{{"billing", "consumer", "Classic"}, {"next", "consumer", "Consumer"}, {"shared", "share", "Share"}, {"app", "streams", "Streams"}} {
			listed := kmsg.NewListGroupsResponseGroup()
			listed.Group, listed.ProtocolType, listed.GroupType, listed.GroupState = g[0], g[1], g[2], "Empty"
			response.Groups = append(response.Groups, listed)
		}
		return response, nil, true
	})
	notes := [][3]string{
		{"note group-not-followed primary", "Group app is not followed: it is a Streams group", "Let the application build its state anew on the target."},
		{"note group-not-followed primary", "Group shared is not followed: it is a share group", "Set share.auto.offset.reset"},
	}
	wantFindings(t, test.diagnose(), notes...)

	test.target = kafkatest.New(t, kfake.ClusterID("T"), kfake.MaxVersions(kversion.V3_5_0()))
	test.Target.Brokers = test.target.ListenAddrs()
	wantFindings(t, test.diagnose(), append([][3]string{{"warning group-protocol dr", "1 group of the source, such as next", "set group.protocol=classic"}}, notes...)...)
}

// Of the quotas that match, brokers take the most specific one, for each kind.
func TestDoctor_quotas(t *testing.T) {
	name := func(s string) *string { return &s }
	component := func(kind string, name *string) kadm.ClientQuotaEntityComponent {
		return kadm.ClientQuotaEntityComponent{Type: kind, Name: name}
	}
	quotaOf := func(key string, value float64, entity ...kadm.ClientQuotaEntityComponent) kadm.DescribedClientQuota {
		return kadm.DescribedClientQuota{Entity: entity, Values: kadm.ClientQuotaValues{{Key: key, Value: value}}}
	}
	all := kadm.DescribedClientQuotas{
		quotaOf("producer_byte_rate", 1, component("client-id", nil)),
		quotaOf("producer_byte_rate", 2, component("client-id", name("milena"))),
		quotaOf("producer_byte_rate", 3, component("user", nil)),
		quotaOf("producer_byte_rate", 4, component("user", nil), component("client-id", name("milena"))),
		quotaOf("producer_byte_rate", 5, component("user", name("copier"))),
		quotaOf("producer_byte_rate", 6, component("user", name("copier")), component("client-id", nil)),
		quotaOf("producer_byte_rate", 7, component("user", name("other")), component("client-id", name("milena"))),
		quotaOf("connection_creation_rate", 8, component("ip", nil)),
		quotaOf("request_percentage", 9, component("client-id", nil)),
	}
	for _, c := range []struct {
		user, id string
		want     []float64
	}{
		{"copier", "milena", []float64{6, 9}},
		{"", "milena", []float64{4, 9}},
		{"ANONYMOUS", "else", []float64{3, 9}},
	} {
		var got []float64
		for _, q := range applying(all, c.user, c.id) {
			got = append(got, q.value)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("user %q, client id %s: %v, want %v", c.user, c.id, got, c.want)
		}
	}
	if flags := entityFlags(kadm.ClientQuotaEntity{component("user", name("it's me")), component("client-id", nil)}); flags != ` --entity-type users --entity-name 'it'\''s me' --entity-type clients --entity-default` {
		t.Error(flags)
	}
}

// examined is a doctor without clusters, for what is judged from what they said.
func examined() *doctor {
	test := config.Cluster{Brokers: []string{"b:9092"}}
	d := &doctor{check: &check{flow: config.Flow{Source: "primary", Target: "dr"}}, diagnosis: &Diagnosis{}, now: time.Now()}
	d.on = [2]*side{{name: "source", alias: "primary", config: test}, {name: "target", alias: "dr", config: test}}
	return d
}

func TestDoctor_versions(t *testing.T) {
	broker := func(v *kversion.Versions) brokerAnswer {
		response := kmsg.NewPtrApiVersionsResponse()
		v.EachMaxKeyVersion(func(key, most int16) {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = key, most
			response.ApiKeys = append(response.ApiKeys, k)
		})
		return brokerAnswer{versions: response}
	}
	for name, c := range map[string]struct {
		brokers map[int32]brokerAnswer
		side    int
		want    [][3]string
	}{
		"one version":  {map[int32]brokerAnswer{1: broker(kversion.V3_9_0()), 2: broker(kversion.V3_9_0())}, 1, nil},
		"two versions": {map[int32]brokerAnswer{1: broker(kversion.V3_9_0()), 2: broker(kversion.V4_0_0())}, 1, [][3]string{{"warning mixed-versions dr", "brokers 2 have v4.0", "Finish the upgrade"}}},
		"old target":   {map[int32]brokerAnswer{1: broker(kversion.V2_6_0())}, 1, [][3]string{{"warning broker-version dr", "The Kafka of brokers 1 is older than 2.8, and such a target", "Kafka 2.8 or later"}}},
		"old source":   {map[int32]brokerAnswer{1: broker(kversion.V1_0_0())}, 0, [][3]string{{"warning broker-version primary", "older than 1.1, and such a source", "Kafka 1.1 or later"}}},
		"source":       {map[int32]brokerAnswer{1: broker(kversion.V2_6_0()), 2: {err: kerr.NetworkException}}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := examined()
			d.on[c.side].brokers = c.brokers
			d.examineVersions(d.on[c.side])
			wantFindings(t, d.diagnosis, c.want...)
		})
	}
}

func TestDoctor_replicas(t *testing.T) {
	partition := func(leader, replicas, inSync int32) topics.Partition {
		return topics.Partition{Leader: leader, Replicas: replicas, InSync: inSync}
	}
	for name, c := range map[string]struct {
		partitions []topics.Partition
		minISR     int
		want       [][3]string
	}{
		"whole":            {[]topics.Partition{partition(1, 3, 3)}, 2, nil},
		"one replica":      {[]topics.Partition{partition(1, 1, 1)}, 1, nil},
		"offline":          {[]topics.Partition{partition(1, 3, 3), partition(-1, 3, 0)}, 2, [][3]string{{"error offline dr t", "Partitions 1 have no leader", "kafka-topics.sh --bootstrap-server b:9092 --describe --topic t"}}},
		"behind":           {[]topics.Partition{partition(1, 3, 2)}, 2, [][3]string{{"warning under-replicated dr t", "Partitions 0 have replicas that are not in sync", "--describe"}}},
		"below min ISR":    {[]topics.Partition{partition(1, 3, 1)}, 2, [][3]string{{"error below-min-isr dr t", "min.insync.replicas=2 asks for", "--describe"}, {"warning under-replicated dr t", "", ""}}},
		"min ISR too high": {[]topics.Partition{partition(1, 2, 2)}, 3, [][3]string{{"warning min-isr dr t", "min.insync.replicas=3 is more than the 2 replicas", "--add-config min.insync.replicas=1"}}},
		"min ISR of all":   {[]topics.Partition{partition(1, 3, 3)}, 3, [][3]string{{"warning min-isr dr t", "as many as the replicas", "--add-config min.insync.replicas=2"}}},
		"min ISR unknown":  {[]topics.Partition{partition(1, 3, 3)}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := examined()
			topic := topics.Topic{Name: "t", Partitions: c.partitions}
			d.examineLeaders(d.targetSide(), topic)
			d.judgeMinISR(d.targetSide(), topic, c.minISR)
			d.diagnosis.sort()
			wantFindings(t, d.diagnosis, c.want...)
		})
	}
}

// Copies with fewer replicas than their source, and topics of milena's own with one on a cluster of several brokers.
func TestDoctor_fewReplicas(t *testing.T) {
	test := newCheckTest(t, nil)
	if _, _, err := test.source.AddNode(1, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := test.target.AddNode(1, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := kadm.NewClient(kafkatest.Client(t, test.source)).CreateTopic(t.Context(), 1, 2, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(kafkatest.Client(t, test.target))
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "primary.orders"); err != nil {
		t.Fatal(err)
	}
	compact := "compact"
	if _, err := admin.CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &compact}, "heartbeats"); err != nil {
		t.Fatal(err)
	}
	diagnosis := test.diagnose()
	diagnosis.Findings = slices.DeleteFunc(diagnosis.Findings, func(f Finding) bool { return strings.HasPrefix(f.Topic, "__") })
	wantFindings(t, diagnosis,
		[3]string{"warning single-replica dr heartbeats", "one replica on a cluster of 2 brokers", "up to 2"},
		[3]string{"warning fewer-replicas dr primary.orders", "The copy has 1 replica and its source has 2", "kafka-reassign-partitions.sh, up to 2"})
}

func TestDoctor_clocks(t *testing.T) {
	before := time.Unix(1000, 0)
	after := before.Add(2 * time.Second)
	for _, c := range []struct {
		clock time.Time
		off   time.Duration
		want  [][3]string
	}{
		{before.Add(time.Second), 0, nil},
		{after.Add(5 * time.Second), 5 * time.Second, nil},
		{after.Add(time.Minute), time.Minute, [][3]string{{"warning clock-skew dr", "controller 3 is 1m0s ahead of the clock here", "chronyc makestep"}}},
		{before.Add(-time.Minute), -time.Minute, [][3]string{{"warning clock-skew dr", "1m0s behind the clock here", "chronyc makestep"}}},
	} {
		d := examined()
		off := skew(before, c.clock, after)
		if off != c.off {
			t.Errorf("skew of %v is %v, want %v", c.clock, off, c.off)
		}
		d.judgeClock(d.targetSide(), 3, off)
		wantFindings(t, d.diagnosis, c.want...)
	}
}

func TestDoctor_certificates(t *testing.T) {
	for name, c := range map[string]struct {
		until  time.Time
		change func(*config.TLS)
		want   [][3]string
	}{
		"good for long": {until: time.Now().Add(99 * 24 * time.Hour)},
		"in ten days": {
			until: time.Now().Add(10 * 24 * time.Hour),
			want:  [][3]string{{"warning certificate-expires dr", `The certificate "serial number 7" of broker 0 (127.0.0.1:`, "Issue a new certificate"}},
		},
		"another CA": {
			until: time.Now().Add(99 * 24 * time.Hour), change: func(c *config.TLS) { c.CAFile = "" },
			want: [][3]string{{"error cluster-unreachable dr", "is not signed by a CA that the system trusts", "tls.ca_file"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := selfSigned(t, c.until)
			pair, err := tls.X509KeyPair(text, text)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "both.pem")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			test := newCheckTest(t, noConfigsSync, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
			test.create(test.source, "a", 1, nil)
			test.Target.TLS = &config.TLS{CAFile: file}
			if c.change != nil {
				c.change(test.Target.TLS)
			}
			wantFindings(t, test.diagnose(), c.want...)
		})
	}
}

// A broker that cannot be reached is named with its address, and with what to check. If its certificate is why, that is said instead.
func TestDoctor_reach(t *testing.T) {
	d := examined()
	s := d.targetSide()
	s.explain = func(err error) error { return fmt.Errorf("cluster dr: %w; check the network", err) }
	d.examineReach(s, "broker 2 (b:9093) of the target", brokerAnswer{err: kerr.NetworkException})
	d.examineReach(s, "broker 3 (b:9094) of the target", brokerAnswer{})
	if !d.examineCertificate(s, "broker 4 (b:9095) of the target", client.Presented{Invalid: errors.New("the certificate is for others; issue another one")}) {
		t.Error("an invalid certificate is not why a broker cannot be reached")
	}
	d.diagnosis.sort()
	wantFindings(t, d.diagnosis,
		[3]string{"error broker-unreachable dr", "Partitions that broker 2 (b:9093) of the target leads wait, because it cannot be reached from here: Cluster dr: ", "Check the network."},
		[3]string{"error certificate-invalid dr", "broker 4 (b:9095) of the target leads wait, because its certificate is refused: The certificate is for others.", "Issue another one."},
	)
}

// With TLS or SASL, Kafka's tools need a file with the login.
func TestTool(t *testing.T) {
	c := config.Cluster{Brokers: []string{"a:1", "b:2"}}
	if got := alterTopic(c, "t", "retention.ms", "5"); got != "kafka-configs.sh --bootstrap-server a:1,b:2 --alter --entity-type topics --entity-name t --add-config retention.ms=5" {
		t.Error(got)
	}
	c.TLS = &config.TLS{}
	if got := tool("kafka-topics.sh", c, "--describe"); got != "kafka-topics.sh --bootstrap-server a:1,b:2 --command-config client.properties --describe" {
		t.Error(got)
	}
}

// An interrupted examination is no diagnosis.
func TestDoctor_interrupted(t *testing.T) {
	test := newCheckTest(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := Doctor(ctx, test.Clusters); err == nil {
		t.Errorf("%+v", d)
	}
}
