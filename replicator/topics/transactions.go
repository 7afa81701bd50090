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

// transactionLog is the topic in which brokers keep transactions. They create it when a client first looks for a transaction coordinator.
const transactionLog = "__transaction_state"

// ExplainTransactions says which broker config keeps a cluster from having transactions, given the error of a request to a transaction
// coordinator or for one, nil if a coordinator was found. It returns nil if no config is found that is wrong.
func ExplainTransactions(ctx context.Context, client *kgo.Client, cluster string, failure error) error {
	missing := errors.Is(failure, kerr.CoordinatorNotAvailable)
	if failure != nil && !missing {
		return nil
	}
	admin := kadm.NewClient(client)
	metadata, err := admin.Metadata(ctx, transactionLog)
	if err != nil {
		return nil //nolint:nilerr // the cluster does not answer at all, which the caller knows
	}
	brokers := len(metadata.Brokers)
	topic := metadata.Topics[transactionLog]
	configs, readable := transactionConfigs(ctx, admin, metadata)
	if len(topic.Partitions) == 0 {
		if !missing || topic.Err != nil && !errors.Is(topic.Err, kerr.UnknownTopicOrPartition) {
			return nil // no Kafka broker, or the rights are missing, or it is being created
		}
		switch factor := configs.factor; {
		case factor > brokers:
			return fmt.Errorf("the brokers of cluster %s cannot create the topic %s, which transactions need: it is to have %d replicas, and there are %d brokers; set transaction.state.log.replication.factor to at most %d and transaction.state.log.min.isr accordingly in the brokers' server.properties, and restart them",
				cluster, transactionLog, factor, brokers, brokers)
		case !readable:
			return fmt.Errorf("the brokers of cluster %s have not created the topic %s, which transactions need: check that transaction.state.log.replication.factor (3 by default) is at most the number of brokers, %d",
				cluster, transactionLog, brokers)
		}
		return nil
	}
	for _, p := range topic.Partitions.Sorted() {
		// Brokers ask for no more replicas in sync than there are replicas.
		if need := min(configs.minISR, len(p.Replicas)); len(p.ISR) < need {
			return fmt.Errorf("the brokers of cluster %s refuse writes to the topic %s, which transactions need: partition %d has %d replicas in sync, and transaction.state.log.min.isr asks for %d; start the other brokers",
				cluster, transactionLog, p.Partition, len(p.ISR), need)
		}
	}
	return nil
}

// transactionLogConfigs are 0 where they are not known.
type transactionLogConfigs struct{ factor, minISR int }

// transactionConfigs reads the configs of the transaction log from a broker, and from the topic if it exists. Readable says whether the broker
// showed its configs.
func transactionConfigs(ctx context.Context, admin *kadm.Client, metadata kadm.Metadata) (configs transactionLogConfigs, readable bool) {
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
		configs.factor = number(described, err, "transaction.state.log.replication.factor")
		configs.minISR = number(described, err, "transaction.state.log.min.isr")
	}
	readable = configs.factor > 0
	if len(metadata.Topics[transactionLog].Partitions) > 0 {
		described, err := admin.DescribeTopicConfigs(ctx, transactionLog)
		if n := number(described, err, "min.insync.replicas"); n > 0 {
			configs.minISR = n
		}
	}
	return configs, readable
}
