package topics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// creator creates topics on one cluster. Every config but cleanup.policy is a wish: a topic is created without those that the cluster does not
// know or that its policies refuse. Without its cleanup.policy a topic is never created: retention would delete records of a compacted topic
// (KAFKA-12254).
type creator struct {
	client  *kgo.Client
	cluster string            // alias
	known   map[string]string // the configs that the cluster knows, with its defaults; empty if unknown
	how     mode
	limit   *requestLimit
	left    func(LeftOut) // is called for each config that is left out
	// otherwise is the replication factor to try if the cluster refuses the first one; 0 for none.
	otherwise int16
}

// LeftOut is a config that a topic is created without.
type LeftOut struct {
	Topic, Config string
	// Err is the refusal of the cluster, nil if it does not know the config.
	Err error
}

// String is a sentence.
func (l LeftOut) String() string {
	if l.Err == nil {
		return fmt.Sprintf("topic %s is created without %s, a config that the cluster does not know", l.Topic, l.Config)
	}
	return fmt.Sprintf("topic %s is created without %s, which the cluster refuses: %v", l.Topic, l.Config, l.Err)
}

// create creates topics and returns the names of those that were created. A topic that exists is neither created nor an error.
func (c *creator) create(ctx context.Context, wanted []kmsg.CreateTopicsRequestTopic, errs map[string]error) (created []string) {
	partitions := func(topic kmsg.CreateTopicsRequestTopic) int { return int(topic.NumPartitions) }
	inParts(c.limit, wanted, partitions, func(part []kmsg.CreateTopicsRequestTopic) (tooLarge bool) {
		var made []string
		made, tooLarge = c.createPart(ctx, part, errs)
		created = append(created, made...)
		return tooLarge
	})
	return created
}

// createPart creates topics with one request. A topic that is refused because of its configs is sent again without those that are not
// accepted, as one unknown key fails the whole topic (KAFKA-13255). Each repetition drops at least one key, so they end. If tooLarge, nothing
// was created, and a smaller request might pass.
func (c *creator) createPart(ctx context.Context, part []kmsg.CreateTopicsRequestTopic, errs map[string]error) (created []string, tooLarge bool) {
	answers, err := c.send(ctx, part, c.how)
	if err != nil {
		for _, topic := range part {
			errs[topic.Topic] = AdminError(c.cluster, "create", topic.Topic, err, nil)
		}
		return nil, false
	}
	if len(part) > 1 && refusedAsAWhole(answers) {
		return nil, true
	}
	var again []kmsg.CreateTopicsRequestTopic
	for _, topic := range part {
		answer, ok := answers[topic.Topic]
		switch {
		case !ok:
			errs[topic.Topic] = AdminError(c.cluster, "create", topic.Topic, errors.New("the response does not include the topic"), nil)
		case answer.err == nil:
			created = append(created, topic.Topic)
		case errors.Is(answer.err, kerr.TopicAlreadyExists):
			// Created by an operator or another instance since the metadata was read.
		case c.otherwise != 0 && c.otherwise != topic.ReplicationFactor && isOtherReplicas(topic.ReplicationFactor, answer):
			topic.ReplicationFactor = c.otherwise
			again = append(again, topic)
		default:
			if less, ok := c.withFewerConfigs(ctx, topic, answer); ok {
				again = append(again, less)
				continue
			}
			errs[topic.Topic] = AdminError(c.cluster, "create", topic.Topic, answer.err, answer.message)
		}
	}
	if len(again) > 0 {
		created = append(created, c.create(ctx, again, errs)...)
	}
	return created, len(created) == 0 && refusedAsAWhole(answers)
}

// answer is what a cluster says about one topic of an admin request.
type answer struct {
	err     error
	message *string
}

// send sends one request and returns the answers by topic.
func (c *creator) send(ctx context.Context, part []kmsg.CreateTopicsRequestTopic, how mode) (map[string]answer, error) {
	request := kmsg.NewPtrCreateTopicsRequest()
	request.Topics, request.TimeoutMillis, request.ValidateOnly = part, adminTimeoutMillis, bool(how)
	response, err := c.client.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	answers := make(map[string]answer, len(part))
	for _, topic := range response.(*kmsg.CreateTopicsResponse).Topics {
		answers[topic.Topic] = answer{kerr.ErrorForCode(topic.ErrorCode), topic.ErrorMessage}
	}
	return answers, nil
}

// withFewerConfigs returns a refused topic without the configs that caused the refusal; false if there are no such configs.
func (c *creator) withFewerConfigs(ctx context.Context, topic kmsg.CreateTopicsRequestTopic, refusal answer) (kmsg.CreateTopicsRequestTopic, bool) {
	invalid := errors.Is(refusal.err, kerr.InvalidConfig)
	if invalid {
		if less, ok := c.withoutUnknown(topic, refusal.message); ok {
			return less, true
		}
	}
	if !invalid && !errors.Is(refusal.err, kerr.PolicyViolation) {
		return topic, false
	}
	return c.withoutRefused(ctx, topic, refusal)
}

// withoutUnknown returns a topic without the configs that the cluster does not know; false if that drops none. The other topics of the
// cluster show which configs it knows, if there are any; the error message always names one unknown key.
func (c *creator) withoutUnknown(topic kmsg.CreateTopicsRequestTopic, message *string) (kmsg.CreateTopicsRequestTopic, bool) {
	var kept []kmsg.CreateTopicsRequestTopicConfig
	for _, config := range topic.Configs {
		// The text is from LogConfig.validateNames, unchanged since 0.9.
		named := message != nil && strings.HasSuffix(strings.TrimSpace(*message), "Unknown topic config name: "+config.Name)
		if _, ok := c.known[config.Name]; named || (len(c.known) > 0 && !ok) {
			c.left(LeftOut{Topic: topic.Topic, Config: config.Name})
			continue
		}
		kept = append(kept, config)
	}
	dropped := len(kept) < len(topic.Configs)
	topic.Configs = kept
	return topic, dropped
}

// withoutRefused returns a topic without the configs that the cluster refuses, which managed Kafka services do with configs that they control
// themselves (KIP-133). It validates each config alone, because an error does not always name the refused one.
func (c *creator) withoutRefused(ctx context.Context, topic kmsg.CreateTopicsRequestTopic, refusal answer) (kmsg.CreateTopicsRequestTopic, bool) {
	isWish := func(config kmsg.CreateTopicsRequestTopicConfig) bool { return config.Name != "cleanup.policy" }
	required := slices.DeleteFunc(slices.Clone(topic.Configs), isWish)
	refused := func(configs []kmsg.CreateTopicsRequestTopicConfig) error {
		alone := topic
		alone.Configs = configs
		answers, err := c.send(ctx, []kmsg.CreateTopicsRequestTopic{alone}, validateOnly)
		if err != nil || answers[topic.Topic].err == nil {
			return err
		}
		return AdminError(c.cluster, "create", topic.Topic, answers[topic.Topic].err, answers[topic.Topic].message)
	}
	if len(required) == len(topic.Configs) || refused(required) != nil {
		return topic, false // the refusal is not about a wish
	}
	kept := required
	for _, config := range slices.DeleteFunc(slices.Clone(topic.Configs), func(config kmsg.CreateTopicsRequestTopicConfig) bool { return !isWish(config) }) {
		if err := refused(append(slices.Clone(required), config)); err != nil {
			c.left(LeftOut{topic.Topic, config.Name, err})
			continue
		}
		kept = append(kept, config)
	}
	if len(kept) == len(topic.Configs) { // each is accepted alone, but not all of them together
		for _, config := range topic.Configs {
			if isWish(config) {
				c.left(LeftOut{topic.Topic, config.Name, AdminError(c.cluster, "create", topic.Topic, refusal.err, refusal.message)})
			}
		}
		kept = required
	}
	topic.Configs = kept
	return topic, true
}

// requestConfigs are configs in the form of a request, by name.
func requestConfigs(configs map[string]string) []kmsg.CreateTopicsRequestTopicConfig {
	list := make([]kmsg.CreateTopicsRequestTopicConfig, 0, len(configs))
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = name, kmsg.StringPtr(configs[name])
		list = append(list, c)
	}
	return list
}

// grow adds the partitions that the remote topics lack, and returns the names of the topics that grew.
func (t *Syncer) grow(ctx context.Context, pairs []Pair, how mode, errs map[string]error) (grown []string) {
	missing := func(p Pair) int { return len(p.Source.Partitions) - len(p.Target.Partitions) }
	inParts(&t.grows, pairs, missing, func(part []Pair) (tooLarge bool) {
		request := kmsg.NewPtrCreatePartitionsRequest()
		request.TimeoutMillis, request.ValidateOnly = adminTimeoutMillis, bool(how)
		for _, p := range part {
			topic := kmsg.NewCreatePartitionsRequestTopic()
			topic.Topic, topic.Count = p.TargetName, int32(len(p.Source.Partitions))
			request.Topics = append(request.Topics, topic)
		}
		response, err := t.target.Request(ctx, request)
		if err != nil {
			for _, p := range part {
				errs[p.TargetName] = t.adminError("add partitions to", p.TargetName, err, nil)
			}
			return false
		}
		answers := make(map[string]answer, len(part))
		for _, topic := range response.(*kmsg.CreatePartitionsResponse).Topics {
			answers[topic.Topic] = answer{kerr.ErrorForCode(topic.ErrorCode), topic.ErrorMessage}
		}
		if len(part) > 1 && refusedAsAWhole(answers) {
			return true
		}
		for name, answer := range answers {
			switch {
			case answer.err == nil:
				grown = append(grown, name)
			case errors.Is(answer.err, kerr.InvalidPartitions):
				// It has as many by now. Too many for the cluster has another code.
			default:
				errs[name] = t.adminError("add partitions to", name, answer.err, answer.message)
			}
		}
		return refusedAsAWhole(answers)
	})
	return grown
}
