package replicatortest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Cluster is a fake Kafka cluster with a client. Its methods that return no error fail the test instead. The embedded cluster has the rest of
// kfake: Fault, ControlKey, ShufflePartitionLeaders and more.
type Cluster struct {
	*kfake.Cluster
	Client *kgo.Client // produces to the partition that a record names
	Admin  *kadm.Client

	t        testing.TB
	requests *interceptor
	hideOnce sync.Once
}

// NewCluster starts a fake cluster that is closed at the end of the test. Like a broker, it refuses a producer whose epoch was passed (KIP-360).
func NewCluster(t testing.TB, id string, brokers int) *Cluster {
	t.Helper()
	c := &Cluster{t: t, requests: &interceptor{}}
	var err error
	if c.Cluster, err = kfake.NewCluster(kfake.NumBrokers(brokers), kfake.ClusterID(id), kfake.ListenFn(c.requests.listen(t.Context()))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.requests.epochs.guard(c.Cluster)
	c.Client = c.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))
	c.Admin = kadm.NewClient(c.Client)
	return c
}

// testClientID is that of the clients of tests.
const testClientID = "the-test"

// newClient connects one more client, closed at the end of the test at the latest.
func (c *Cluster) newClient(opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	versions := kversion.Stable() // with names of topics, which work also while the cluster hides ids
	versions.SetMaxKeyVersion(int16(kmsg.Fetch), versionByID-1)
	versions.SetMaxKeyVersion(int16(kmsg.Produce), versionByID-1)
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.ClientID(testClientID), kgo.MaxVersions(versions)}, opts...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.Close)
	return cl
}

// CreateTopic creates a topic with the given configs, as name and value in turn.
func (c *Cluster) CreateTopic(name string, partitions int32, configs ...string) {
	c.t.Helper()
	set := make(map[string]*string)
	for config := range slices.Chunk(configs, 2) {
		set[config[0]] = &config[1]
	}
	if _, err := c.Admin.CreateTopic(c.t.Context(), partitions, 1, set, name); err != nil {
		c.t.Fatalf("create topic %s: %v", name, err)
	}
}

// DeleteTopic deletes a topic. The client forgets its id.
func (c *Cluster) DeleteTopic(name string) {
	c.t.Helper()
	if err := c.Cluster.DeleteTopic(name); err != nil {
		c.t.Fatalf("delete topic %s: %v", name, err)
	}
	c.Client.PurgeTopicsFromClient(name)
}

// RecreateTopic deletes a topic and creates an empty one of that name. No flow creates it in between.
func (c *Cluster) RecreateTopic(name string, partitions int32) {
	c.t.Helper()
	c.requests.creations.Lock()
	defer c.requests.creations.Unlock()
	c.DeleteTopic(name)
	c.CreateTopic(name, partitions)
	c.Client.PurgeTopicsFromClient(name)
}

// AddPartitions grows a topic to the given number of partitions.
func (c *Cluster) AddPartitions(topic string, partitions int) {
	c.t.Helper()
	responses, err := c.Admin.UpdatePartitions(c.t.Context(), partitions, topic)
	if err = errors.Join(err, responses.Error()); err != nil {
		c.t.Fatalf("grow topic %s: %v", topic, err)
	}
	c.Client.PurgeTopicsFromClient(topic) // it remembers the old count
}

// SetTopicConfig sets one config of a topic.
func (c *Cluster) SetTopicConfig(topic, name, value string) {
	c.t.Helper()
	responses, err := c.Admin.AlterTopicConfigs(c.t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
	if err == nil {
		err = responses[0].Err
	}
	if err != nil {
		c.t.Fatalf("set %s of topic %s: %v", name, topic, err)
	}
}

// TopicConfig returns the value of a topic's config that is in force, and whether it is set on the topic itself.
func (c *Cluster) TopicConfig(topic, name string) (value string, own bool) {
	c.t.Helper()
	described, err := c.Admin.DescribeTopicConfigs(c.t.Context(), topic)
	if err == nil {
		_, err = described.On(topic, nil)
	}
	if err != nil {
		c.t.Fatalf("describe topic %s: %v", topic, err)
	}
	for _, entry := range described[0].Configs {
		if entry.Key == name {
			return entry.MaybeValue(), entry.Source == kmsg.ConfigSourceDynamicTopicConfig
		}
	}
	return "", false
}

// DeleteRecords deletes what a partition holds before an offset, as retention does.
func (c *Cluster) DeleteRecords(topic string, partition int32, before int64) {
	c.t.Helper()
	if err := c.Cluster.DeleteRecords(topic, partition, before); err != nil {
		c.t.Fatalf("delete records of %s-%d before %d: %v", topic, partition, before, err)
	}
}

// Write produces records and waits until all are acknowledged.
func (c *Cluster) Write(records ...*kgo.Record) {
	c.t.Helper()
	if err := c.Client.ProduceSync(c.t.Context(), records...).FirstErr(); err != nil {
		c.t.Fatalf("write %d records: %v", len(records), err)
	}
}

// Produce writes n records to each of the first partitions of a topic. The values are "tag-partition-number", numbered from 0.
func (c *Cluster) Produce(topic string, partitions int32, n int, tag string) {
	c.t.Helper()
	var records []*kgo.Record
	for i := range n {
		for part := range partitions {
			records = append(records, &kgo.Record{
				Topic: topic, Partition: part, Key: fmt.Appendf(nil, "%s-%d", tag, i), Value: fmt.Appendf(nil, "%s-%d-%d", tag, part, i),
				Headers: []kgo.RecordHeader{{Key: "tag", Value: []byte(tag)}},
			})
		}
	}
	c.Write(records...)
}

// Load produces small batches to each of the first partitions of a topic until the returned function is called or the test ends. That function
// blocks until the last batch is acknowledged.
func (c *Cluster) Load(topic string, partitions int32) (stop func()) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- c.load(ctx, topic, partitions) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				c.t.Errorf("the load on %s ended with: %v", topic, err)
			}
		})
	}
	c.t.Cleanup(stop)
	return stop
}

func (c *Cluster) load(ctx context.Context, topic string, partitions int32) error {
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		var records []*kgo.Record
		for n := range int32(5) {
			for part := range partitions {
				records = append(records, &kgo.Record{
					Topic: topic, Partition: part, Key: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil, "load-%d-%d-%d", part, i, n),
				})
			}
		}
		if err := c.Client.ProduceSync(context.WithoutCancel(ctx), records...).FirstErr(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// Transactions writes in transactions of one transactional id.
type Transactions struct {
	t  testing.TB
	cl *kgo.Client
}

// Transactions connects a transactional producer.
func (c *Cluster) Transactions(id string) *Transactions {
	c.t.Helper()
	return &Transactions{c.t, c.newClient(kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))}
}

// Begin begins a transaction.
func (x *Transactions) Begin() {
	x.t.Helper()
	if err := x.cl.BeginTransaction(); err != nil {
		x.t.Fatalf("begin a transaction: %v", err)
	}
}

// Write produces records in the current transaction and waits until all are acknowledged.
func (x *Transactions) Write(records ...*kgo.Record) {
	x.t.Helper()
	if err := x.cl.ProduceSync(x.t.Context(), records...).FirstErr(); err != nil {
		x.t.Fatalf("write %d records in a transaction: %v", len(records), err)
	}
}

// End commits or aborts the current transaction.
func (x *Transactions) End(how kgo.TransactionEndTry) {
	x.t.Helper()
	if err := x.cl.EndTransaction(x.t.Context(), how); err != nil {
		x.t.Fatalf("end a transaction: %v", err)
	}
}

// WriteCopies writes copies of the records to a topic, in one transaction.
func (x *Transactions) WriteCopies(topic string, records []*kgo.Record, how kgo.TransactionEndTry) {
	x.t.Helper()
	x.Begin()
	var copies []*kgo.Record
	for _, r := range records {
		copies = append(copies, copyOf(r, topic, r.Partition))
	}
	x.Write(copies...)
	x.End(how)
}

// copyOf is a record with the same content for another partition.
func copyOf(r *kgo.Record, topic string, partition int32) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}
}
