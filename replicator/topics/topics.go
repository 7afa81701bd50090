package topics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

// topicsPerRequest limits admin requests: a controller handles all topics of a request at once, and a DescribeConfigs response takes about
// 3 KB per topic.
const topicsPerRequest = 100

// adminTimeoutMillis is how long the controller may take to create topics or partitions before it answers.
const adminTimeoutMillis = 15_000

// Pair is one selected source topic and its remote topic on the target.
type Pair struct {
	Source     Topic
	TargetName string
	Target     Topic // zero while the remote topic does not exist
}

// Refusal is a topic that the config selects but that cannot be copied.
type Refusal struct {
	Topic  string
	Reason string // continues a sentence that begins with the name of the topic
}

// Syncer creates the remote topics of one flow and keeps their partitions and configs in sync with the source. Each method does as much as
// it can: a topic that fails is reported in the errors, by target name, and the others proceed. A Syncer is safe for concurrent use.
type Syncer struct {
	// Rules select topics and name the remote topics. Read only.
	Rules *policy.Topics
	// Changed is called with the number of configs that were altered on a topic; may be nil. Set it before the first sync.
	Changed func(configs int)

	source, target *kgo.Client
	configs        policy.ConfigFilter
	flow           config.Flow
	log            *slog.Logger

	mu     sync.Mutex
	warned map[string]bool // warnings that were logged already
}

// NewSyncer creates a Syncer. It sends no request. The error says which topic or config pattern of the flow is invalid.
func NewSyncer(source, target *kgo.Client, flow config.Flow, log *slog.Logger) (*Syncer, error) {
	rules, rulesErr := policy.NewTopics(flow, flow.Source, flow.Target)
	filter, filterErr := policy.NewConfigFilter(flow)
	if err := errors.Join(rulesErr, filterErr); err != nil {
		return nil, fmt.Errorf("flow %s: %w", flow.Name, err)
	}
	return &Syncer{source: source, target: target, Rules: rules, configs: filter, flow: flow, log: log, warned: map[string]bool{}}, nil
}

// Select decides which topics are copied and under which names, and finds the remote topics that exist. It sends no request. Pairs are
// sorted by source name. Source topics that share one target name are all refused: to copy any of them would mix their records later.
func (t *Syncer) Select(source, target View) (pairs []Pair, refused []Refusal) {
	names := slices.Sorted(maps.Keys(source.ByName))
	mixed := map[string]string{}
	for _, c := range t.Rules.Collisions(names) {
		if len(c.Targets) > 1 {
			continue // names that differ in '.' and '_' only: the target refuses the second one if it minds
		}
		for _, name := range c.Sources {
			mixed[name] = c.Explain()
		}
	}
	for _, name := range names {
		targetName, reason := t.Rules.Target(name)
		switch {
		case reason == policy.ReasonNameTooLong:
			refused = append(refused, Refusal{name, reason.Explain()})
		case reason != "":
		case mixed[name] != "":
			refused = append(refused, Refusal{name, "is not copied: " + mixed[name]})
		case len(source.ByName[name].Partitions) == 0:
			refused = append(refused, Refusal{name, "has no partitions yet on the source"})
		default:
			pairs = append(pairs, Pair{Source: source.ByName[name], TargetName: targetName, Target: target.ByName[targetName]})
		}
	}
	return pairs, refused
}

// CreateMissing creates the remote topics that do not exist and adds the partitions that they lack. It never deletes anything. The
// results are target names. A topic or partition that someone else has created in the meantime is neither an error nor in the results.
func (t *Syncer) CreateMissing(ctx context.Context, pairs []Pair) (created, grown []string, errs map[string]error) {
	errs = map[string]error{}
	missing, small := t.incomplete(pairs)
	known := t.knownConfigs(ctx, missing, pairs)
	for part := range slices.Chunk(missing, topicsPerRequest) {
		created = append(created, t.create(ctx, t.planCreates(ctx, part, errs), known, apply, errs)...)
	}
	for part := range slices.Chunk(small, topicsPerRequest) {
		grown = append(grown, t.grow(ctx, part, apply, errs)...)
	}
	return created, grown, errs
}

// incomplete returns the pairs whose remote topic is missing, and those whose remote topic lacks partitions.
func (t *Syncer) incomplete(pairs []Pair) (missing, small []Pair) {
	for _, p := range pairs {
		switch p.Action() {
		case Create:
			missing = append(missing, p)
		case Grow:
			small = append(small, p)
		case Copy:
		}
	}
	return missing, small
}

// Action is what must be done to a remote topic before it can be written.
type Action string

const (
	// Create means that the remote topic does not exist.
	Create Action = "create"
	// Grow means that the remote topic lacks partitions.
	Grow Action = "grow"
	// Copy means that the remote topic is complete.
	Copy Action = "copy"
)

// Action returns what must be done to the remote topic.
func (p Pair) Action() Action {
	switch {
	case !p.Target.Exists():
		return Create
	case len(p.Target.Partitions) < len(p.Source.Partitions):
		return Grow
	default:
		return Copy
	}
}

// mode says whether a request changes the target or only validates the change.
type mode bool

const (
	apply        mode = false
	validateOnly mode = true
)

// planCreates builds the creations of missing remote topics. A topic whose source configs cannot be read is not created: with the default
// cleanup.policy, retention would delete records of a compacted topic.
func (t *Syncer) planCreates(ctx context.Context, missing []Pair, errs map[string]error) []kmsg.CreateTopicsRequestTopic {
	described, failed := describeTopics(ctx, t.source, t.flow.Source, SourceNames(missing))
	replicas := t.flow.ReplicationFactor
	if replicas == 0 {
		replicas = -1 // the brokers' default (KIP-464)
	}
	planned := make([]kmsg.CreateTopicsRequestTopic, 0, len(missing))
	for _, p := range missing {
		if err := failed[p.Source.Name]; err != nil {
			errs[p.TargetName] = err
			continue
		}
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic = p.TargetName
		topic.NumPartitions = int32(len(p.Source.Partitions))
		topic.ReplicationFactor = replicas
		configs := policy.CreateConfigs(described[p.Source.Name], t.configs)
		for _, name := range slices.Sorted(maps.Keys(configs)) {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = name, kmsg.StringPtr(configs[name])
			topic.Configs = append(topic.Configs, c)
		}
		planned = append(planned, topic)
	}
	return planned
}

// create sends the planned topics and returns the names of those that were created. A topic that is refused because of its configs is sent
// again without those that the target does not accept, as one unknown key fails the whole topic (KAFKA-13255). Each iteration drops at
// least one key, so the loop ends.
func (t *Syncer) create(ctx context.Context, planned []kmsg.CreateTopicsRequestTopic, known map[string]bool, how mode, errs map[string]error) (created []string) {
	for len(planned) > 0 {
		request := kmsg.NewPtrCreateTopicsRequest()
		request.Topics, request.TimeoutMillis, request.ValidateOnly = planned, adminTimeoutMillis, bool(how)
		answer, err := t.target.Request(ctx, request)
		if err != nil {
			for _, topic := range planned {
				errs[topic.Topic] = t.adminError("create", topic.Topic, err, nil)
			}
			return created
		}
		byName := map[string]kmsg.CreateTopicsRequestTopic{}
		for _, topic := range planned {
			byName[topic.Topic] = topic
		}
		planned = nil
		for _, answered := range answer.(*kmsg.CreateTopicsResponse).Topics {
			err := kerr.ErrorForCode(answered.ErrorCode)
			switch {
			case err == nil:
				created = append(created, answered.Topic)
			case errors.Is(err, kerr.TopicAlreadyExists):
				// Created by an operator or another instance since the metadata was read.
			default:
				if again, ok := t.withFewerConfigs(ctx, byName[answered.Topic], known, how, err, answered.ErrorMessage); ok {
					planned = append(planned, again)
					continue
				}
				errs[answered.Topic] = t.adminError("create", answered.Topic, err, answered.ErrorMessage)
			}
		}
	}
	return created
}

// withFewerConfigs returns a refused topic without the configs that caused the refusal; false if there are no such configs.
func (t *Syncer) withFewerConfigs(ctx context.Context, topic kmsg.CreateTopicsRequestTopic, known map[string]bool, how mode, err error, message *string) (kmsg.CreateTopicsRequestTopic, bool) {
	invalid := errors.Is(err, kerr.InvalidConfig)
	if invalid {
		if less, ok := t.withoutUnknown(topic, known, message); ok {
			return less, true
		}
	}
	// Managed Kafka services control some configs themselves (KIP-133). A preview reports the refusal instead.
	if how == validateOnly || (!invalid && !errors.Is(err, kerr.PolicyViolation)) {
		return topic, false
	}
	return t.withoutRefused(ctx, topic)
}

// withoutRefused validates each config of a topic separately, because an error does not always name the refused config. A remote topic is
// never created without its cleanup.policy: retention would delete records of a compacted topic (KAFKA-12254).
func (t *Syncer) withoutRefused(ctx context.Context, topic kmsg.CreateTopicsRequestTopic) (kmsg.CreateTopicsRequestTopic, bool) {
	refuses := func(configs ...kmsg.CreateTopicsRequestTopicConfig) bool {
		alone := topic
		alone.Configs = configs
		errs := map[string]error{}
		t.create(ctx, []kmsg.CreateTopicsRequestTopic{alone}, nil, validateOnly, errs)
		return len(errs) > 0
	}
	if len(topic.Configs) == 0 || refuses() {
		return topic, false // the refusal is not about configs
	}
	var kept []kmsg.CreateTopicsRequestTopicConfig
	for _, c := range topic.Configs {
		switch {
		case !refuses(c):
			kept = append(kept, c)
		case c.Name == "cleanup.policy":
			return topic, false
		default:
			t.warnOnce("refused", topic.Topic, c.Name, "topic config left out: the target refuses it; add it to configs_exclude to leave it alone")
		}
	}
	less := len(kept) < len(topic.Configs)
	topic.Configs = kept
	return topic, less
}

// withoutUnknown returns a topic without the configs that the target does not know; false if that drops none. The other topics of the
// target show which configs it knows, if there are any; the error message always names one unknown key.
func (t *Syncer) withoutUnknown(topic kmsg.CreateTopicsRequestTopic, known map[string]bool, message *string) (kmsg.CreateTopicsRequestTopic, bool) {
	var kept []kmsg.CreateTopicsRequestTopicConfig
	var dropped []string
	for _, c := range topic.Configs {
		// The text is from LogConfig.validateNames, unchanged since 0.9.
		named := message != nil && strings.HasSuffix(strings.TrimSpace(*message), "Unknown topic config name: "+c.Name)
		if named || (len(known) > 0 && !known[c.Name]) {
			dropped = append(dropped, c.Name)
			continue
		}
		kept = append(kept, c)
	}
	topic.Configs = kept
	if len(dropped) > 0 {
		t.warnUnknown(topic.Topic, dropped)
	}
	return topic, len(dropped) > 0
}

// warnUnknown warns about configs that the target does not know, once each.
func (t *Syncer) warnUnknown(targetName string, names []string) {
	for _, name := range names {
		t.warnOnce("unknown", targetName, name, "topic config left out: the target does not know it")
	}
}

// warnOnce logs a warning unless the same topic and config had one for the same reason before.
func (t *Syncer) warnOnce(why, targetName, name, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if key := why + " " + targetName + " " + name; !t.warned[key] {
		t.warned[key] = true
		t.log.Warn(text, "cluster", t.flow.Target, "topic", targetName, "config", name) //nolint:sloglint // the text is the caller's constant
	}
}

// grow adds the partitions that the remote topics lack, and returns the names of the topics that grew.
func (t *Syncer) grow(ctx context.Context, pairs []Pair, how mode, errs map[string]error) (grown []string) {
	request := kmsg.NewPtrCreatePartitionsRequest()
	request.TimeoutMillis, request.ValidateOnly = adminTimeoutMillis, bool(how)
	for _, p := range pairs {
		topic := kmsg.NewCreatePartitionsRequestTopic()
		topic.Topic, topic.Count = p.TargetName, int32(len(p.Source.Partitions))
		request.Topics = append(request.Topics, topic)
	}
	answer, err := t.target.Request(ctx, request)
	if err != nil {
		for _, p := range pairs {
			errs[p.TargetName] = t.adminError("add partitions to", p.TargetName, err, nil)
		}
		return nil
	}
	for _, answered := range answer.(*kmsg.CreatePartitionsResponse).Topics {
		err := kerr.ErrorForCode(answered.ErrorCode)
		switch {
		case err == nil:
			grown = append(grown, answered.Topic)
		case errors.Is(err, kerr.InvalidPartitions):
			// It has as many by now. Too many for the cluster has another code.
		default:
			errs[answered.Topic] = t.adminError("add partitions to", answered.Topic, err, answered.ErrorMessage)
		}
	}
	return grown
}

func (t *Syncer) adminError(operation, topic string, err error, message *string) error {
	return AdminError(t.flow.Target, operation, topic, err, message)
}

// AdminError wraps the error of an admin request about one topic: it names the operation, the topic, the cluster and, if a right is missing,
// what to grant. The message is that of the response; it may be nil. The rights were verified with Kafka's StandardAuthorizer by removing them
// one at a time: brokers answer TOPIC_AUTHORIZATION_FAILED even where CREATE on the cluster would suffice.
func AdminError(cluster, operation, topic string, err error, message *string) error {
	rights := map[string]string{
		"create":              "CREATE on the topic or on the cluster",
		"add partitions to":   "ALTER on the topic",
		"describe configs of": "DESCRIBE_CONFIGS on the topic",
		"alter configs of":    "ALTER_CONFIGS on the topic",
		"check the rights on": "DESCRIBE on the topic",
	}
	where := fmt.Sprintf("%s topic %s on cluster %s", operation, topic, cluster)
	detail := ""
	if message != nil {
		detail = strings.TrimSpace(*message)
	}
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fmt.Errorf("%s: not allowed; grant %s to milena's user: %w", where, rights[operation], err)
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return fmt.Errorf("%s: %s; set replication_factor (replication.factor in an mm2.properties) to at most the number of brokers: %w", where, cmp.Or(detail, "too many replicas"), err)
	case errors.Is(err, kerr.InvalidTopicException) && strings.Contains(detail, "collide"):
		return fmt.Errorf("%s: %s; Kafka treats '.' and '_' as equal in metric names: exclude or rename one of the topics: %w", where, detail, err)
	case detail != "":
		return fmt.Errorf("%s: %s: %w", where, detail, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// SourceNames returns the source names of pairs.
func SourceNames(pairs []Pair) []string {
	names := make([]string, len(pairs))
	for i, p := range pairs {
		names[i] = p.Source.Name
	}
	return names
}

// TargetNames returns the target names of pairs, existing or not.
func TargetNames(pairs []Pair) []string {
	names := make([]string, len(pairs))
	for i, p := range pairs {
		names[i] = p.TargetName
	}
	return names
}
