package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Reach is whether a broker reaches the active controller of its cluster.
type Reach int

// What is known of a broker.
const (
	// ReachUnknown means that the broker does not answer, or cannot be asked: with ZooKeeper, and before Kafka 3.3.
	ReachUnknown Reach = iota
	// Reaches means that the active controller has answered through the broker.
	Reaches
	// ReachesNot means that the broker answers, and the active controller does not.
	ReachesNot
)

// SourceWithoutController says what follows for a source whose brokers do not reach the active controller.
const SourceWithoutController = "what they lead is still copied, but other brokers may lead it by now, and what those have taken since is not known"

// WithoutController is a clause that says which brokers of a cluster do not reach its active controller, and since when unless that is not known.
func WithoutController(alias string, brokers []int32, since time.Time) string {
	who, do := "brokers ", "do"
	if len(brokers) == 1 {
		who, do = "broker ", "does"
	}
	names := make([]string, len(brokers))
	for i, b := range brokers {
		names[i] = fmt.Sprint(b)
	}
	text := fmt.Sprintf("cluster %s: %s%s %s not reach the active controller", alias, who, strings.Join(names, ", "), do)
	if !since.IsZero() {
		text += " since " + since.UTC().Format(time.DateTime)
	}
	return text
}

// reachTimeout is how long the active controller may take. A broker that has none waits far longer for one.
const reachTimeout = 4 * time.Second

// ReachesController asks a broker for the state of its quorum (KIP-595), which the broker asks the active controller for. That the controller refuses to
// tell is an answer too, so no right is needed. The client should be for nothing else: a broker that waits for a controller answers nothing else
// on the connection meanwhile.
func ReachesController(ctx context.Context, cl *kgo.Client, broker int32) Reach {
	ctx, cancel := context.WithTimeout(ctx, 2*reachTimeout)
	defer cancel()
	b := cl.Broker(int(broker))
	alive := kmsg.NewPtrApiVersionsRequest()
	alive.ClientSoftwareName, alive.ClientSoftwareVersion = "milena", "1" // brokers refuse empty ones
	versions, err := alive.RequestWith(ctx, b)
	if err != nil || !slices.ContainsFunc(versions.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool { return k.ApiKey == int16(kmsg.DescribeQuorum) }) {
		return ReachUnknown
	}
	request := kmsg.NewPtrDescribeQuorumRequest()
	topic, partition := kmsg.NewDescribeQuorumRequestTopic(), kmsg.NewDescribeQuorumRequestTopicPartition()
	topic.Topic = "__cluster_metadata"
	topic.Partitions = append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	asking, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	response, err := request.RequestWith(asking, b)
	switch {
	case ctx.Err() != nil:
		return ReachUnknown
	case err != nil: // no answer, while the broker answered for itself a moment ago
		return ReachesNot
	}
	codes := []int16{response.ErrorCode}
	for _, t := range response.Topics {
		for _, p := range t.Partitions {
			codes = append(codes, p.ErrorCode)
		}
	}
	for _, code := range codes {
		switch code {
		case kerr.RequestTimedOut.Code, kerr.NotController.Code, kerr.NotLeaderForPartition.Code, kerr.BrokerNotAvailable.Code:
			return ReachesNot
		}
	}
	return Reaches
}
