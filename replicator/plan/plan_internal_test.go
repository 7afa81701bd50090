package plan

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// checkTest is the check of one flow from primary to dr between two fake clusters.
type checkTest struct {
	client.Clusters
	t              *testing.T
	source, target *kfake.Cluster
}

func newCheckTest(t *testing.T, change func(*config.Flow), targetOpts ...kfake.Opt) *checkTest {
	t.Helper()
	test := &checkTest{t: t, source: kafkatest.New(t, kfake.ClusterID("S")), target: kafkatest.New(t, append(targetOpts, kfake.ClusterID("T"))...)}
	flow := config.Flow{
		ConfigsSync: true, Heartbeats: true, Checkpoints: true,
		Name: "primary-dr", Source: "primary", Target: "dr", Topics: []string{".*"}, TopicsExclude: []string{"hidden"},
		Naming: config.NamingPrefix, Separator: ".", Shards: 4,
	}
	if change != nil {
		change(&flow)
	}
	test.Clusters = client.Clusters{
		Flow: flow, Source: config.Cluster{Brokers: test.source.ListenAddrs()}, Target: config.Cluster{Brokers: test.target.ListenAddrs()},
		Log: slog.New(slog.DiscardHandler),
	}
	return test
}

func (test *checkTest) create(cluster *kfake.Cluster, topic string, partitions int32, configs map[string]string) {
	test.t.Helper()
	kafkatest.CreateTopic(test.t, cluster, topic, partitions, configs)
}

func (test *checkTest) check() *Plan {
	test.t.Helper()
	plan, err := Check(test.t.Context(), test.Clusters)
	if err != nil {
		test.t.Fatal(err)
	}
	return plan
}

// targetTopics returns the number of partitions of each topic on the target.
func (test *checkTest) targetTopics() map[string]int {
	test.t.Helper()
	details, err := kadm.NewClient(kafkatest.Client(test.t, test.target)).ListTopicsWithInternal(test.t.Context())
	if err != nil {
		test.t.Fatal(err)
	}
	topics := map[string]int{}
	for name, topic := range details {
		topics[name] = len(topic.Partitions)
	}
	return topics
}

func wantLines(t *testing.T, what string, lines []string, want ...string) {
	t.Helper()
	if len(lines) != len(want) {
		t.Errorf("%s: %d lines, want %d:\n%s", what, len(lines), len(want), strings.Join(lines, "\n"))
	}
	for _, text := range want {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, text) }) {
			t.Errorf("no %[2]q in the %[1]s:\n%[3]s", what, text, strings.Join(lines, "\n"))
		}
	}
}

func TestPlan(t *testing.T) {
	test := newCheckTest(t, nil)
	test.create(test.source, "new", 3, map[string]string{"cleanup.policy": "compact", "retention.ms": "5"})
	test.create(test.source, "there", 1, map[string]string{"retention.ms": "5"})
	test.create(test.source, "small", 4, nil)
	test.create(test.source, "hidden", 1, nil)
	test.create(test.source, "dr.back", 1, nil)
	test.create(test.target, "primary.there", 2, map[string]string{"segment.ms": "9", "compression.type": "lz4"})
	test.create(test.target, "primary.small", 2, nil)
	before := test.targetTopics()

	plan := test.check()
	want := &Plan{
		Flow: "primary-dr", SourceClusterID: "S", TargetClusterID: "T",
		Topics: []Topic{
			{"new", "primary.new", 3, "create", []string{"cleanup.policy=compact", "retention.ms=5"}},
			{"small", "primary.small", 4, "grow", nil},
			{"there", "primary.there", 1, "copy", []string{"delete segment.ms (9)", "retention.ms: 604800000 -> 5"}},
		},
		Skipped: []Skip{
			{"dr.back", "comes from the target cluster, so copying it back would create a cycle"},
			{"hidden", "matches topics_exclude"},
		},
		Warnings: []string{"topic primary.there on cluster dr has compression.type lz4: its brokers recompress batches of other codecs; set it to `producer` to avoid that"},
	}
	if diff := gocmp.Diff(want, plan); diff != "" {
		t.Error(diff)
	}
	if diff := gocmp.Diff(before, test.targetTopics()); diff != "" {
		t.Errorf("check changed the target: %s", diff)
	}
	if diff := gocmp.Diff(map[string]string{"segment.ms": "9", "compression.type": "lz4"}, kafkatest.TopicConfigs(t, kafkatest.Client(t, test.target), "primary.there")); diff != "" {
		t.Errorf("check changed configs: %s", diff)
	}
}

func TestPlan_refuses(t *testing.T) {
	test := newCheckTest(t, func(f *config.Flow) {
		f.Naming, f.Rename = config.NamingRename, map[string]string{"a": "x.y", "b": "x_y", "forbidden": "f", "undescribed": "u", "grow": "g", "alter": "h"}
	})
	for name := range test.Flow.Rename {
		test.create(test.source, name, 2, map[string]string{"retention.ms": "5"})
	}
	test.create(test.target, "g", 1, map[string]string{"retention.ms": "5"})
	test.create(test.target, "h", 2, nil)
	test.create(test.target, "milena.primary-dr.journal", 7, nil)
	denied := func(cluster *kfake.Cluster, key kmsg.Key, topic string) {
		fault := kfake.Fault{Keys: []kmsg.Key{key}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: -1}
		if key == kmsg.DescribeConfigs || key == kmsg.IncrementalAlterConfigs {
			fault.Topic, fault.Resource = "", topic
		}
		cluster.Fault(fault)
	}
	denied(test.target, kmsg.CreateTopics, "f")
	denied(test.source, kmsg.DescribeConfigs, "undescribed")
	denied(test.target, kmsg.CreatePartitions, "g")
	denied(test.target, kmsg.IncrementalAlterConfigs, "h")
	test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.TransactionalIDAuthorizationFailed, Count: -1})

	plan := test.check()
	wantLines(t, "refusals", plan.Refused,
		"topics a, b would be copied to x.y, x_y, which have the same name in Kafka",
		"create topic f on cluster dr: not allowed; grant CREATE",
		"describe configs of topic undescribed on cluster primary: not allowed; grant DESCRIBE_CONFIGS",
		"add partitions to topic g on cluster dr: not allowed; grant ALTER",
		"alter configs of topic h on cluster dr: not allowed; grant ALTER_CONFIGS",
		"journal topic milena.primary-dr.journal on cluster dr has 7 partitions, the config says shards: 4; set shards to 7",
		"--alter --entity-type topics --entity-name milena.primary-dr.journal --add-config cleanup.policy=compact",
		"transactional id milena.primary-dr.0 on cluster dr: grant WRITE on transactional ids with the prefix milena.primary-dr.",
	)
}

func TestPlan_checksRights(t *testing.T) {
	right := func(resource kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: resource, Name: name, Pattern: kmsg.ACLResourcePatternTypePrefixed, Operation: operation, Allow: true}
	}
	topic := kmsg.ACLResourceTypeTopic
	test := newCheckTest(t, nil, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "milena", "s3cret",
		right(topic, "primary.", kmsg.ACLOperationRead), right(topic, "primary.", kmsg.ACLOperationAlterConfigs),
		right(kmsg.ACLResourceTypeTransactionalId, "milena.", kmsg.ACLOperationWrite), right(kmsg.ACLResourceTypeGroup, "milena.", kmsg.ACLOperationDescribe),
	))
	test.create(test.source, "a", 1, nil)
	test.create(test.source, "b", 1, nil)
	test.create(test.target, "primary.a", 1, nil)
	o := test.Clusters
	o.Target.SASL = &config.SASL{Mechanism: "PLAIN", Username: "milena", Password: "s3cret"}
	plan, err := Check(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, "refusals", plan.Refused,
		"create topic primary.b on cluster dr: not allowed; grant CREATE",
		"create topic milena.primary-dr.journal on cluster dr: not allowed; grant CREATE",
		"topic primary.a on cluster dr: grant WRITE to milena's user",
		"milena may not READ group milena.primary-dr on cluster dr",
	)
	const uncontrolled = "the flow runs and cannot be controlled (pause, retry, skip): "
	wantLine(t, "warnings", plan.Warnings, uncontrolled+"create topic milena.primary-dr.control on cluster dr: not allowed; grant CREATE")
	test.create(test.target, "milena.primary-dr.control", 1, map[string]string{"cleanup.policy": "delete"})
	if plan, err = Check(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	wantLine(t, "warnings", plan.Warnings, uncontrolled)
}

// wantLine wants one of the lines to contain a text.
func wantLine(t *testing.T, what string, lines []string, text string) {
	t.Helper()
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, text) }) {
		t.Errorf("no %q in the %s:\n%s", text, what, strings.Join(lines, "\n"))
	}
}

func TestPlan_nothingSelected(t *testing.T) {
	test := newCheckTest(t, func(f *config.Flow) { f.Topics = []string{"absent"} })
	test.create(test.source, "a", 1, nil)
	plan := test.check()
	wantLines(t, "warnings", plan.Warnings, "no topic of cluster primary is selected")
	wantLines(t, "refusals", plan.Refused)
}

func TestPlan_fails(t *testing.T) {
	test := newCheckTest(t, nil)
	for _, c := range []struct {
		name   string
		change func(*client.Clusters)
		want   []string
	}{
		{"one cluster on both sides", func(o *client.Clusters) { o.Target = o.Source }, []string{"primary and dr are the same cluster (id S)"}},
		{
			"both down", func(o *client.Clusters) {
				o.Source.Brokers, o.Target.Brokers = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
			},
			[]string{"cluster primary (127.0.0.1:1): connection refused", "cluster dr (127.0.0.1:2): connection refused"},
		},
		{"a bad file", func(o *client.Clusters) { o.Target.TLS = &config.TLS{CAFile: "/absent"} }, []string{"clusters.dr.tls.ca_file", "/absent"}},
		{"a bad expression", func(o *client.Clusters) { o.Flow.Topics = []string{"("} }, []string{"flow primary-dr: topics[0]"}},
		{"a bad action", func(o *client.Clusters) { o.Flow.Anomalies = map[string]string{"shrunk": "restart"} }, []string{"flow primary-dr: anomalies.shrunk"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := test.Clusters
			c.change(&o)
			_, err := Check(t.Context(), o)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q: %v", want, err)
				}
			}
		})
	}
}

func TestPlan_acls(t *testing.T) {
	test := newCheckTest(t, func(f *config.Flow) { f.ACLs, f.ACLsDelete = true, true })
	test.create(test.source, "orders", 1, nil)
	source, target := kafkatest.Client(t, test.source), kafkatest.Client(t, test.target)
	kafkatest.Grant(t, source, "ALLOW", "ALL", "alice", "*")
	kafkatest.Grant(t, source, "ALLOW", "READ", "dave", "orders")
	kafkatest.Grant(t, target, "ALLOW", "READ", "dave", "primary.orders")
	kafkatest.Grant(t, target, "ALLOW", "READ", "bob", "primary.orders")
	before := kafkatest.TopicACLs(t, target)
	want := &ACLs{
		Create: []string{"ALLOW READ to User:alice on topics with prefix primary."},
		Delete: []string{"ALLOW READ to User:bob on topic primary.orders"}, InStep: 1,
	}
	if diff := gocmp.Diff(want, test.check().ACLs); diff != "" {
		t.Error(diff)
	}
	if diff := gocmp.Diff(before, kafkatest.TopicACLs(t, target)); diff != "" {
		t.Errorf("check changed ACLs: %s", diff)
	}
	kafkatest.Grant(t, source, "DENY", "WRITE", "*", "orders")
	wantLines(t, "warnings", test.check().Warnings, "ACL DENY WRITE to User:* on topic primary.orders would also deny milena")
	test.Flow.ACLs = false
	if plan := test.check(); plan.ACLs != nil {
		t.Errorf("acls is false, but the plan has %+v", plan.ACLs)
	}
}

// If ACLs cannot be copied, that is a warning: records are copied without them.
func TestPlan_aclsCannotBeCopied(t *testing.T) {
	for _, c := range []struct {
		name string
		side func(*checkTest) *kfake.Cluster
		err  *kerr.Error
		want string
	}{
		{"a source without authorizer", func(test *checkTest) *kfake.Cluster { return test.source }, kerr.SecurityDisabled, "ACLs are not copied: cluster primary has no authorizer"},
		{"a target without authorizer", func(test *checkTest) *kfake.Cluster { return test.target }, kerr.SecurityDisabled, "ACLs are not copied: cluster dr has no authorizer"},
		{"no right to describe ACLs", func(test *checkTest) *kfake.Cluster { return test.source }, kerr.ClusterAuthorizationFailed, "describe ACLs on cluster primary: not allowed; grant DESCRIBE on the cluster to milena's user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := newCheckTest(t, func(f *config.Flow) { f.ACLs = true })
			test.create(test.source, "orders", 1, nil)
			cluster := c.side(test)
			cluster.ControlKey(int16(kmsg.DescribeACLs), func(request kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				answer := request.ResponseKind().(*kmsg.DescribeACLsResponse)
				answer.ErrorCode = c.err.Code
				return answer, nil, true
			})
			wantLines(t, "warnings", test.check().Warnings, c.want)
		})
	}
}

// Copies with fewer replicas than their source are named, whether they exist or not.
func TestPlan_namesFewerReplicas(t *testing.T) {
	test := newCheckTest(t, nil)
	test.create(test.source, "single", 1, nil)
	if _, _, err := test.source.AddNode(1, 0); err != nil {
		t.Fatal(err)
	}
	source := kadm.NewClient(kafkatest.Client(t, test.source))
	for _, topic := range []string{"new", "new2", "old"} {
		if _, err := source.CreateTopic(t.Context(), 1, 2, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	test.create(test.target, "primary.old", 1, nil)
	wantLines(t, "warnings", test.check().Warnings,
		"1 topic of cluster primary, such as primary.old: its copy has 1 replica, 1 fewer than its source; cluster dr has 1 broker",
		"2 topics of cluster primary, such as primary.new: its copy would have 1 replica, 1 fewer than its source; cluster dr has 1 broker",
	)
}
