package topics

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// SmallSegmentBytes is segment.bytes of a topic of milena's own that has small segments.
const SmallSegmentBytes = 16 << 20

// Own is a topic that milena keeps for itself on a cluster: the journal, heartbeats, checkpoints, offset-syncs or an export. All but exports are compacted, and
// their other configs are wishes: a topic is created without those that the cluster refuses.
type Own struct {
	Name       string
	Partitions int32
	// ReplicationFactor is that of the flow, 0 if it has none: then the topic has three replicas, as far as there are brokers.
	ReplicationFactor int16
	// Brokers is the number of brokers of the cluster, 0 if it is not known: then its brokers decide.
	Brokers int
	// SmallSegments keeps a topic short that grows fast, because compaction skips the active segment.
	SmallSegments bool
	// Keeps is set if every record is kept for ever as it was sent, instead of the newest one of each key.
	Keeps bool
	// MaxMessageBytes is max.message.bytes, 0 for the default of the cluster.
	MaxMessageBytes int32
}

// Journal is the journal topic of a flow, on a target with so many brokers.
func Journal(f config.Flow, target View) Own {
	return Own{Name: offsets.JournalTopic(f.Name), Partitions: f.Shards, ReplicationFactor: f.ReplicationFactor, Brokers: len(target.Brokers), SmallSegments: true}
}

// Create creates the topic on a cluster unless it exists, and returns the configs that were left out.
func (o Own) Create(ctx context.Context, client *kgo.Client, cluster string) (created bool, left []LeftOut, err error) {
	return o.create(ctx, client, cluster, apply)
}

// Preview checks whether a cluster would create the topic, and returns the configs that would be left out. The error is an *OldFormatError if the
// topic could not be written, as far as the brokers show their configs.
func (o Own) Preview(ctx context.Context, client *kgo.Client, cluster string) ([]LeftOut, error) {
	_, left, err := o.create(ctx, client, cluster, validateOnly)
	if version := defaultFormat(ctx, client); err == nil && policy.IsOldFormat(version) {
		err = &OldFormatError{o.Name, cluster, version}
	}
	return left, err
}

// defaultFormat returns the record format of new topics, empty if it is not known.
func defaultFormat(ctx context.Context, client *kgo.Client) string {
	admin := kadm.NewClient(client)
	brokers, err := admin.ListBrokers(ctx)
	if err != nil || len(brokers) == 0 {
		return ""
	}
	described, err := admin.DescribeBrokerConfigs(ctx, brokers[0].NodeID)
	if err != nil {
		return ""
	}
	for _, resource := range described {
		for _, c := range resource.Configs {
			if c.Key == "log."+policy.RecordFormat {
				return c.MaybeValue()
			}
		}
	}
	return ""
}

func (o Own) create(ctx context.Context, client *kgo.Client, cluster string, how mode) (created bool, left []LeftOut, err error) {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions = o.Name, o.Partitions
	topic.Configs = requestConfigs(o.configs())
	c := creator{client: client, cluster: cluster, how: how, limit: &requestLimit{}, left: func(l LeftOut) { left = append(left, l) }}
	topic.ReplicationFactor, c.otherwise = o.replicas()
	errs := map[string]error{}
	created = len(c.create(ctx, []kmsg.CreateTopicsRequestTopic{topic}, errs)) > 0
	return created, left, errs[o.Name]
}

// configs are those that the topic is created with.
func (o Own) configs() map[string]string {
	configs := map[string]string{"cleanup.policy": "compact"}
	if o.SmallSegments {
		configs["segment.bytes"], configs["segment.ms"] = strconv.Itoa(SmallSegmentBytes), strconv.FormatInt(time.Hour.Milliseconds(), 10)
	}
	if o.Keeps {
		always := strconv.Itoa(math.MaxInt64)
		configs = map[string]string{
			"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "message.timestamp.type": "CreateTime",
			"message.timestamp.before.max.ms": always, "message.timestamp.after.max.ms": always,
		}
	}
	if o.MaxMessageBytes > 0 {
		configs["max.message.bytes"] = strconv.Itoa(int(o.MaxMessageBytes))
	}
	return configs
}

// NotCompactedError means that a topic of milena's own loses records to retention.
type NotCompactedError struct {
	Topic, Cluster, Policy string
	Brokers                []string // bootstrap addresses
}

func (e *NotCompactedError) Error() string {
	return fmt.Sprintf("topic %s on cluster %s has cleanup.policy=%s, so retention deletes what milena must keep; run: kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config cleanup.policy=compact",
		e.Topic, e.Cluster, e.Policy, strings.Join(e.Brokers, ","), e.Topic)
}

// OldFormatError means that a topic of milena's own has a record format in which it cannot be written.
type OldFormatError struct{ Topic, Cluster, Version string }

func (e *OldFormatError) Error() string {
	return fmt.Sprintf("topic %s on cluster %s has message.format.version=%s, and before 0.11 there are neither idempotent producers nor markers of transactions; set log.message.format.version in the brokers' server.properties to 0.11.0 or later, or remove it, and restart them",
		e.Topic, e.Cluster, e.Version)
}

// Check returns a *NotCompactedError if the existing topic is not compacted or loses records to retention, and an *OldFormatError if it cannot be
// written. Any other error means that this is not known, for example for lack of DESCRIBE_CONFIGS.
func (o Own) Check(ctx context.Context, client *kgo.Client, cluster string, brokers []string) error {
	described, errs := describeTopics(ctx, client, cluster, []string{o.Name})
	for _, c := range described[o.Name] {
		switch {
		case c.Name == "cleanup.policy" && strings.TrimSpace(c.Value) != "compact":
			return &NotCompactedError{o.Name, cluster, c.Value, brokers}
		case c.Name == policy.RecordFormat && policy.IsOldFormat(c.Value):
			return &OldFormatError{o.Name, cluster, c.Value}
		}
	}
	return errs[o.Name]
}
