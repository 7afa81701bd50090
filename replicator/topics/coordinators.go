package topics

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// coordinatorLog is a topic in which brokers keep what a kind of coordinator knows. They create it when a client first looks for such a coordinator.
type coordinatorLog struct {
	topic, users   string
	factor, minISR string // the brokers' configs of its replication factor and its min.insync.replicas
}

// ExplainTransactions says which broker config keeps a cluster from having transactions, given the error of a request to a transaction
// coordinator or for one, nil if a coordinator was found. It returns nil if no config is found that is wrong.
func ExplainTransactions(ctx context.Context, client *kgo.Client, cluster string, failure error) error {
	log := coordinatorLog{"__transaction_state", "transactions", "transaction.state.log.replication.factor", "transaction.state.log.min.isr"}
	return log.explain(ctx, client, cluster, failure)
}

// ExplainGroups is ExplainTransactions for consumer groups and their coordinators.
func ExplainGroups(ctx context.Context, client *kgo.Client, cluster string, failure error) error {
	log := coordinatorLog{"__consumer_offsets", "consumer groups", "offsets.topic.replication.factor", minInSync}
	return log.explain(ctx, client, cluster, failure)
}

const minInSync = "min.insync.replicas"

func (l coordinatorLog) explain(ctx context.Context, client *kgo.Client, cluster string, failure error) error {
	missing := errors.Is(failure, kerr.CoordinatorNotAvailable)
	if failure != nil && !missing {
		return nil
	}
	admin := kadm.NewClient(client)
	metadata, err := admin.Metadata(ctx, l.topic)
	if err != nil {
		return nil //nolint:nilerr // the cluster does not answer at all, which the caller knows
	}
	topic := metadata.Topics[l.topic]
	configs, readable := l.configs(ctx, admin, metadata)
	if len(topic.Partitions) == 0 {
		if !missing || topic.Err != nil && !errors.Is(topic.Err, kerr.UnknownTopicOrPartition) {
			return nil // no Kafka broker, or the rights are missing, or it is being created
		}
		return l.explainMissing(cluster, len(metadata.Brokers), configs.factor, readable)
	}
	for _, p := range topic.Partitions.Sorted() {
		// Brokers ask for no more replicas in sync than there are replicas.
		if need := min(configs.minISR, len(p.Replicas)); len(p.ISR) < need {
			return fmt.Errorf("the brokers of cluster %s refuse writes to the topic %s, which %s need: partition %d has %d replicas in sync, and %s asks for %d; start the other brokers",
				cluster, l.topic, l.users, p.Partition, len(p.ISR), l.minISR, need)
		}
	}
	return nil
}

// explainMissing says why the topic cannot be created, nil if that is not known.
func (l coordinatorLog) explainMissing(cluster string, brokers, factor int, readable bool) error {
	switch {
	case factor > brokers:
		set := fmt.Sprintf("set %s to at most %d", l.factor, brokers)
		if l.minISR != minInSync {
			set += fmt.Sprintf(" and %s accordingly", l.minISR)
		}
		return fmt.Errorf("the brokers of cluster %s cannot create the topic %s, which %s need: it is to have %d replicas, and the number of brokers is %d; %s in the brokers' server.properties, and restart them",
			cluster, l.topic, l.users, factor, brokers, set)
	case !readable:
		return fmt.Errorf("the brokers of cluster %s have not created the topic %s, which %s need: check that %s (3 by default) is at most the number of brokers, %d",
			cluster, l.topic, l.users, l.factor, brokers)
	}
	return nil
}

// coordinatorConfigs are 0 where they are not known.
type coordinatorConfigs struct{ factor, minISR int }

// configs reads the configs of the topic from a broker, and from the topic if it exists. Readable says whether the broker showed its configs.
func (l coordinatorLog) configs(ctx context.Context, admin *kadm.Client, metadata kadm.Metadata) (configs coordinatorConfigs, readable bool) {
	number := func(described kadm.ResourceConfigs, err error, name string) int {
		for _, resource := range described {
			for _, c := range resource.Configs {
				if n, atoiErr := strconv.Atoi(c.MaybeValue()); err == nil && atoiErr == nil && c.Key == name {
					return n
				}
			}
		}
		return 0
	}
	if ids := metadata.Brokers.NodeIDs(); len(ids) > 0 {
		described, err := admin.DescribeBrokerConfigs(ctx, ids[0])
		configs.factor = number(described, err, l.factor)
		configs.minISR = number(described, err, l.minISR)
	}
	readable = configs.factor > 0
	if len(metadata.Topics[l.topic].Partitions) > 0 {
		described, err := admin.DescribeTopicConfigs(ctx, l.topic)
		if n := number(described, err, minInSync); n > 0 {
			configs.minISR = n
		}
	}
	return configs, readable
}
