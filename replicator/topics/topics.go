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

// topicsPerRequest bounds admin requests: a controller handles the topics of one request in one go, and answers of
// DescribeConfigs take some 3 KB a topic.
const topicsPerRequest = 100

// adminTimeoutMillis is what the controller may take for creating topics or partitions before it answers.
const adminTimeoutMillis = 15_000

// Pair is one selected source topic and its twin on the target.
type Pair struct {
	Source     Topic
	TargetName string
	Target     Topic // zero while it does not exist yet
}

// Refusal is a topic that the user asked for and that cannot be copied. What the user did not ask for is no refusal.
type Refusal struct {
	Topic  string
	Reason string // the end of a sentence that begins with the topic's name
}

// Syncer are the passes over the metadata and configs of both clusters. It starts nothing and waits for nothing but
// answers; passes may run at once. Each does what it can: a topic that fails is in the errors, by its target name, and
// the others are done.
type Syncer struct {
	source, target *kgo.Client
	Rules          *policy.Topics
	configs        policy.ConfigFilter
	flow           config.Flow
	log            *slog.Logger
	Changed        func(configs int) // told after configs were altered; may be nil

	mu     sync.Mutex
	warned map[string]bool // what was logged already, for conditions that stay
}

// NewSyncer compiles the flow's rules; it talks to nobody.
func NewSyncer(source, target *kgo.Client, flow config.Flow, log *slog.Logger) (*Syncer, error) {
	rules, rulesErr := policy.NewTopics(flow, flow.Source, flow.Target)
	filter, filterErr := policy.NewConfigFilter(flow)
	if err := errors.Join(rulesErr, filterErr); err != nil {
		return nil, fmt.Errorf("flow %s: %w", flow.Name, err)
	}
	return &Syncer{source: source, target: target, Rules: rules, configs: filter, flow: flow, log: log, warned: map[string]bool{}}, nil
}

// Select is pure: which topics are copied, under which names, and which twins exist. Pairs are sorted by source name.
// Several topics with one target name are all refused: to begin with any of them would mix their records later.
func (t *Syncer) Select(source, target View) (pairs []Pair, refused []Refusal) {
	names := slices.Sorted(maps.Keys(source.ByName))
	mixed := map[string]string{}
	for _, c := range t.Rules.Collisions(names) {
		if len(c.Targets) > 1 {
			continue // '.' against '_': the target's controller refuses the second one, if it does
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
			refused = append(refused, Refusal{name, "has no partitions yet, says the source"})
		default:
			pairs = append(pairs, Pair{Source: source.ByName[name], TargetName: targetName, Target: target.ByName[targetName]})
		}
	}
	return pairs, refused
}

// CreateMissing creates the twins that do not exist and adds the partitions that they lack; it never deletes and never
// shrinks. Created and grown are target names. What another one created or added meanwhile is neither an error nor ours.
func (t *Syncer) CreateMissing(ctx context.Context, pairs []Pair) (created, grown []string, errs map[string]error) {
	errs = map[string]error{}
	missing, small := t.incomplete(pairs)
	known := t.knownConfigs(ctx, missing, pairs)
	for part := range slices.Chunk(missing, topicsPerRequest) {
		created = append(created, t.create(ctx, t.plan(ctx, part, errs), known, createNow, errs)...)
	}
	for part := range slices.Chunk(small, topicsPerRequest) {
		grown = append(grown, t.grow(ctx, part, createNow, errs)...)
	}
	return created, grown, errs
}

// incomplete are the pairs whose target topic is missing, and those whose target topic lacks partitions.
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

// Action is what has to be done to a target topic before it can be written.
type Action string

const (
	// Create means that the target topic does not exist.
	Create Action = "create"
	// Grow means that it lacks partitions.
	Grow Action = "grow"
	// Copy means that it is there.
	Copy Action = "copy"
)

// Action says what the target topic needs.
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

// mode says whether a request acts or only asks whether it would be accepted.
type mode bool

const (
	createNow    mode = false
	validateOnly mode = true
)

// plan makes the requests for the twins of one chunk. A source topic whose configs cannot be read is not created at all:
// born with the default cleanup.policy, a compacted topic's copy would lose by retention what it must keep.
func (t *Syncer) plan(ctx context.Context, missing []Pair, errs map[string]error) []kmsg.CreateTopicsRequestTopic {
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

// create sends the planned topics and answers the names of those that were created. A topic that is refused for its
// configs is sent again without those that the target does not know, as one unknown key fails the whole topic
// (KAFKA-13255); each round leaves out at least one key, so it ends.
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
				// Created between our look and our request, by a person or by another instance.
			default:
				if again, ok := t.withLess(ctx, byName[answered.Topic], known, how, err, answered.ErrorMessage); ok {
					planned = append(planned, again)
					continue
				}
				errs[answered.Topic] = t.adminError("create", answered.Topic, err, answered.ErrorMessage)
			}
		}
	}
	return created
}

// withLess is a topic that was refused without the configs that it was refused for, or false if it cannot be made so.
func (t *Syncer) withLess(ctx context.Context, topic kmsg.CreateTopicsRequestTopic, known map[string]bool, how mode, err error, message *string) (kmsg.CreateTopicsRequestTopic, bool) {
	invalid := errors.Is(err, kerr.InvalidConfig)
	if invalid {
		if less, ok := t.withoutUnknown(topic, known, message); ok {
			return less, true
		}
	}
	// Providers of Kafka keep some configs for themselves (KIP-133). A check tells that instead.
	if how == validateOnly || (!invalid && !errors.Is(err, kerr.PolicyViolation)) {
		return topic, false
	}
	return t.withoutRefused(ctx, topic)
}

// withoutRefused asks for each config of a topic by itself whether the target takes it, as its answer does not always name the culprit. A
// copy is not made without cleanup.policy: it would lose by retention what it must keep (KAFKA-12254).
func (t *Syncer) withoutRefused(ctx context.Context, topic kmsg.CreateTopicsRequestTopic) (kmsg.CreateTopicsRequestTopic, bool) {
	refuses := func(configs ...kmsg.CreateTopicsRequestTopicConfig) bool {
		alone := topic
		alone.Configs = configs
		errs := map[string]error{}
		t.create(ctx, []kmsg.CreateTopicsRequestTopic{alone}, nil, validateOnly, errs)
		return len(errs) > 0
	}
	if len(topic.Configs) == 0 || refuses() {
		return topic, false // it is not about configs
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

// withoutUnknown is the topic without the configs that the target does not know, or false if that leaves out nothing.
// What the target knows is seen in its other topics, if there are any; the broker's message names one key in any case.
func (t *Syncer) withoutUnknown(topic kmsg.CreateTopicsRequestTopic, known map[string]bool, message *string) (kmsg.CreateTopicsRequestTopic, bool) {
	var kept []kmsg.CreateTopicsRequestTopicConfig
	var dropped []string
	for _, c := range topic.Configs {
		// LogConfig.validateNames, unchanged since 0.9.
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

// warnUnknown logs each config once that the target does not know.
func (t *Syncer) warnUnknown(targetName string, names []string) {
	for _, name := range names {
		t.warnOnce("unknown", targetName, name, "topic config left out: the target does not know it")
	}
}

func (t *Syncer) warnOnce(why, targetName, name, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if key := why + " " + targetName + " " + name; !t.warned[key] {
		t.warned[key] = true
		t.log.Warn(text, "cluster", t.flow.Target, "topic", targetName, "config", name) //nolint:sloglint // the text is the caller's constant
	}
}

// grow adds the partitions that the source topics have more, and answers the names of the topics that grew.
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
			// It has as many by now. Fewer is impossible, and too many for the cluster has another code.
		default:
			errs[answered.Topic] = t.adminError("add partitions to", answered.Topic, err, answered.ErrorMessage)
		}
	}
	return grown
}

// AdminError is a sentence about one topic of the target: the operation, the topic, and the right that is needed.
func (t *Syncer) adminError(operation, topic string, err error, message *string) error {
	return AdminError(t.flow.Target, operation, topic, err, message)
}

// AdminError names the cluster too. Rights are by Kafka's StandardAuthorizer, found by removing them one by one: brokers
// answer TOPIC_AUTHORIZATION_FAILED also where the cluster's CREATE would do.
func AdminError(cluster, operation, topic string, err error, message *string) error {
	rights := map[string]string{
		"create":                "CREATE on the topic or on the cluster",
		"add partitions to":     "ALTER on the topic",
		"describe configs of":   "DESCRIBE_CONFIGS on the topic",
		"alter configs of":      "ALTER_CONFIGS on the topic",
		"ask for our rights on": "DESCRIBE on the topic",
	}
	where := fmt.Sprintf("%s topic %s on cluster %s", operation, topic, cluster)
	detail := ""
	// The message of an error without one is the code's own text in other words.
	if message != nil {
		detail = strings.TrimSpace(*message)
	}
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fmt.Errorf("%s: not allowed; grant %s to milena's user: %w", where, rights[operation], err)
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return fmt.Errorf("%s: %s; set replication_factor (replication.factor in an mm2.properties) to at most the number of brokers: %w", where, cmp.Or(detail, "too many replicas"), err)
	case errors.Is(err, kerr.InvalidTopicException) && strings.Contains(detail, "collide"):
		return fmt.Errorf("%s: %s; Kafka takes '.' and '_' for the same in metric names: exclude one of the topics or rename it: %w", where, detail, err)
	case detail != "":
		return fmt.Errorf("%s: %s: %w", where, detail, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// SourceNames are the source names of pairs.
func SourceNames(pairs []Pair) []string {
	names := make([]string, len(pairs))
	for i, p := range pairs {
		names[i] = p.Source.Name
	}
	return names
}

// TargetNames are the target names of pairs, existing or not.
func TargetNames(pairs []Pair) []string {
	names := make([]string, len(pairs))
	for i, p := range pairs {
		names[i] = p.TargetName
	}
	return names
}
