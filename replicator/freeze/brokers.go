package freeze

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/client"
)

// noRights is what a broker answers that does not tell rights.
const noRights = math.MinInt32

// brokerConfigs are what the configs of the brokers say about ACLs.
type brokerConfigs struct {
	everyone          bool   // allow.everyone.if.no.acl.found may be true on a broker
	superUsers        bool   // there are super users
	unreadable        bool   // milena may not read the configs of a broker
	foreignAuthorizer string // the class of an authorizer that is not Kafka's
}

// describeBrokers asks all brokers. Without the right to do so, anything is possible.
//
// Brokers know neither allow.everyone.if.no.acl.found nor super.users as configs of their own, because they belong to the authorizer: they list
// them if they are in the file, and hide the value.
func describeBrokers(ctx context.Context, client *kgo.Client) (found brokerConfigs, err error) {
	resources, err := askConfigs(ctx, client, "authorizer.class.name", "super.users", "allow.everyone.if.no.acl.found")
	if err != nil {
		return found, err
	}
	for _, resource := range resources {
		if resource.ErrorCode != 0 {
			found.unreadable, found.everyone, found.superUsers = true, true, true
			continue
		}
		for _, c := range resource.Configs {
			found.add(c)
		}
	}
	return found, nil
}

// askConfigs asks all brokers for configs.
func askConfigs(ctx context.Context, client *kgo.Client, names ...string) ([]kmsg.DescribeConfigsResponseResource, error) {
	request := kmsg.NewPtrDescribeConfigsRequest()
	metadata, err := kadm.NewClient(client).BrokerMetadata(ctx) // ListBrokers asks for all topics, and fails if one may not be seen
	if err != nil {
		return nil, err
	}
	for _, b := range metadata.Brokers.NodeIDs() {
		resource := kmsg.NewDescribeConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(b))
		resource.ConfigNames = names
		request.Resources = append(request.Resources, resource)
	}
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	return response.Resources, nil
}

const maxIdle = "connections.max.idle.ms"

// longestIdle is after how long each broker has closed a connection that it has muted, 0 if one never does so or does not tell. What the client has sent
// meanwhile is not carried out then.
func longestIdle(ctx context.Context, client *kgo.Client) (time.Duration, error) {
	resources, err := askConfigs(ctx, client, maxIdle)
	if err != nil {
		return 0, err
	}
	return longestOf(resources), nil
}

func longestOf(resources []kmsg.DescribeConfigsResponseResource) (longest time.Duration) {
	for _, resource := range resources {
		i := slices.IndexFunc(resource.Configs, func(c kmsg.DescribeConfigsResponseResourceConfig) bool { return c.Name == maxIdle && c.Value != nil })
		if i < 0 {
			return 0
		}
		millis, err := strconv.ParseInt(*resource.Configs[i].Value, 10, 64)
		if err != nil || millis <= 0 {
			return 0
		}
		longest = max(longest, time.Duration(millis)*time.Millisecond)
	}
	return longest
}

func (f *brokerConfigs) add(c kmsg.DescribeConfigsResponseResourceConfig) {
	switch c.Name {
	case "allow.everyone.if.no.acl.found":
		f.everyone = f.everyone || c.Value == nil || *c.Value != "false"
	case "super.users":
		f.superUsers = f.superUsers || c.Value == nil || *c.Value != ""
	case "authorizer.class.name":
		if c.Value != nil && *c.Value != "" && !strings.HasPrefix(*c.Value, "org.apache.kafka.") && !strings.HasPrefix(*c.Value, "kafka.security.") {
			f.foreignAuthorizer = *c.Value
		}
	}
}

// topicsPerRequest is the largest number of topics in one request for rights.
const topicsPerRequest = 100

// topicRights returns what milena may do with topics, as bits of operations (KIP-430). A topic that it may not see has none. Missing are topics
// that do not exist, and all if the brokers do not tell.
func topicRights(ctx context.Context, client *kgo.Client, topics []string) (map[string]int32, error) {
	rights := make(map[string]int32, len(topics))
	for part := range slices.Chunk(topics, topicsPerRequest) {
		request := kmsg.NewPtrMetadataRequest()
		request.IncludeTopicAuthorizedOperations = true
		for _, name := range part {
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = kmsg.StringPtr(name)
			request.Topics = append(request.Topics, topic)
		}
		response, err := request.RequestWith(ctx, client)
		if err != nil {
			return nil, err
		}
		for _, topic := range response.Topics {
			switch {
			case topic.Topic == nil:
			case topic.ErrorCode == kerr.TopicAuthorizationFailed.Code:
				rights[*topic.Topic] = 0
			case topic.ErrorCode == 0 && topic.AuthorizedOperations != noRights:
				rights[*topic.Topic] = topic.AuthorizedOperations
			}
		}
	}
	return rights, nil
}

// spreadWait is how long a change may take to reach all brokers. It travels with the metadata, in milliseconds.
const spreadWait = 15 * time.Second

// spreadPoll is how often a broker is asked for it.
const spreadPoll = 20 * time.Millisecond

// waitSpread waits until a change is in force on all brokers, of which one is asked by there.
func waitSpread(ctx context.Context, cl *kgo.Client, cluster string, there func(context.Context, kmsg.Requestor) error) error {
	metadata, err := kadm.NewClient(cl).BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("list brokers of cluster %s: %w", cluster, err)
	}
	ctx, cancel := context.WithTimeout(ctx, spreadWait)
	defer cancel()
	for _, id := range metadata.Brokers.NodeIDs() {
		for last := error(nil); ; {
			err := there(ctx, cl.Broker(int(id)))
			if err == nil {
				break
			}
			if ctx.Err() == nil || last == nil {
				last = err // not that the last request was broken off
			}
			if client.Sleep(ctx, spreadPoll) != nil {
				return fmt.Errorf("broker %d, %v after the change: %w", id, spreadWait, last)
			}
		}
	}
	return nil
}
