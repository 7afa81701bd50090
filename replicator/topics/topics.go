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
	Replicas   int16 // of the remote topic if it is created; -1 or 0 where the brokers decide
	most       int16 // replicas that the target has brokers for, 0 if Replicas is what the config says
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
	// Alters reports whether this process alters configs; nil means always. Otherwise they are only compared. Set it before the first sync.
	Alters func() bool

	source, target *kgo.Client
	configs        policy.ConfigFilter
	flow           config.Flow
	log            *slog.Logger

	creates, grows requestLimit // learned from refusals of the target
	refusals       refusals
	settled        settledConfigs

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
			pair := Pair{Source: source.ByName[name], TargetName: targetName, Target: target.ByName[targetName]}
			pair.Replicas, pair.most = copyReplicas(t.flow, pair.Source, target)
			pairs = append(pairs, pair)
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
	for part := range slices.Chunk(t.refusals.due(missing, errs), topicsPerRequest) {
		created = append(created, t.creator(known, apply).create(ctx, t.planCreates(ctx, part, known, errs), errs)...)
	}
	grown = t.grow(ctx, t.refusals.due(small, errs), apply, errs)
	t.refusals.note(slices.Concat(missing, small), errs)
	return created, grown, errs
}

// creator creates topics on the target.
func (t *Syncer) creator(known map[string]string, how mode) *creator {
	c := &creator{client: t.target, cluster: t.flow.Target, known: known, how: how, limit: &t.creates, left: t.warnLeftOut}
	if t.flow.ReplicationFactor == 0 {
		c.otherwise = byBrokers
	}
	return c
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
func (t *Syncer) planCreates(ctx context.Context, missing []Pair, known map[string]string, errs map[string]error) []kmsg.CreateTopicsRequestTopic {
	described, failed := describeTopics(ctx, t.source, t.flow.Source, SourceNames(missing))
	planned := make([]kmsg.CreateTopicsRequestTopic, 0, len(missing))
	for _, p := range missing {
		if err := failed[p.Source.Name]; err != nil {
			errs[p.TargetName] = err
			continue
		}
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic = p.TargetName
		topic.NumPartitions = int32(len(p.Source.Partitions))
		topic.ReplicationFactor = p.writable(known)
		topic.Configs = requestConfigs(policy.CreateConfigs(described[p.Source.Name], known, t.configs))
		planned = append(planned, topic)
	}
	return planned
}

// warnUnknown warns about configs that the target does not know.
func (t *Syncer) warnUnknown(targetName string, names []string) {
	for _, name := range names {
		t.warnLeftOut(LeftOut{Topic: targetName, Config: name})
	}
}

// warnLeftOut logs a warning unless the same topic and config had one before.
func (t *Syncer) warnLeftOut(l LeftOut) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := l.Topic + " " + l.Config
	if t.warned[key] {
		return
	}
	t.warned[key] = true
	if l.Err == nil {
		t.log.Warn("topic config left out: the target does not know it", "cluster", t.flow.Target, "topic", l.Topic, "config", l.Config)
		return
	}
	t.log.Warn("topic config left out: the target refuses it; add it to configs_exclude to leave it alone", "cluster", t.flow.Target, "topic", l.Topic, "config", l.Config, "err", l.Err)
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
