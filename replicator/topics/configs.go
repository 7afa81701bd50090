package topics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// MaxProblems is how many problems of one kind a status lists at most.
const MaxProblems = 20

// ConfigsStatus is the result of the last sync of topic configs.
type ConfigsStatus struct {
	// Changed is how many configs were altered on the target since the previous sync ended.
	Changed int `json:"changed"`
	// LastPass is when the last sync began. Took is its duration in seconds.
	LastPass time.Time `json:"last_pass,omitzero"`
	Took     float64   `json:"took_seconds"`
	// Problems describe configs that could not be compared or altered.
	Problems []string `json:"problems,omitempty"`
}

// Limits are the effective configs that decide how batches are copied: those of the target topic, and how the source cleans its log.
type Limits struct {
	// MaxMessageBytes is the size of the largest batch; 0 if unknown.
	MaxMessageBytes int32
	// MinInSyncReplicas is how many replicas must be in sync for a write; 0 if unknown.
	MinInSyncReplicas int32
	// LogAppendTime says that the broker replaces timestamps with its append time.
	LogAppendTime bool
	// CompressionType, unless it is `producer`, makes the broker recompress batches with another codec.
	CompressionType string
	// Compacted topics refuse records without a key.
	Compacted bool
	// TimestampBefore and TimestampAfter are how far the timestamp of a record may be before and after the broker's clock, in milliseconds; 0
	// if that is not limited.
	TimestampBefore, TimestampAfter int64
	// TimestampBeforeBy and TimestampAfterBy are the names of the configs that limit them, empty if none does.
	TimestampBeforeBy, TimestampAfterBy string
	// DeleteRetention is how long the target keeps tombstones; 0 if unknown.
	DeleteRetention time.Duration
	// SourceNotCompacted says that the log of the source topic is known not to be compacted.
	SourceNotCompacted bool
	// SourceRetention is how long the source keeps records; 0 if it keeps them by size only, or for ever, or if that is not known.
	SourceRetention time.Duration
	// SourceDeleteRetention is how long the source keeps tombstones; 0 if unknown.
	SourceDeleteRetention time.Duration
}

// SyncConfigs makes the configs of existing remote topics equal to those of their source topics, unless the flow does not sync configs. It
// alters only differences and logs each change. It returns the limits in force afterwards and the errors, both by target name; a topic
// without limits has an error.
func (t *Syncer) SyncConfigs(ctx context.Context, pairs []Pair) (limits map[string]Limits, errs map[string]error) {
	limits, errs = map[string]Limits{}, map[string]error{}
	pairs = slices.DeleteFunc(slices.Clone(pairs), func(p Pair) bool { return !p.Target.Exists() })
	parts := 1 + len(pairs)/topicsPerRequest
	for part := range slices.Chunk(pairs, topicsPerRequest) {
		target := requestTopics(ctx, t.target, t.flow.Target, TargetNames(part))
		source := requestTopics(ctx, t.source, t.flow.Source, SourceNames(part))
		sums := sumConfigs(&target, &source)
		found := t.settled.of(sums)
		if found == nil {
			var settled bool
			if found, settled = t.syncPart(ctx, part, &target, &source, errs); settled {
				t.settled.add(sums, found, parts)
			}
		}
		maps.Copy(limits, found)
	}
	return limits, errs
}

// syncPart syncs the configs of topics from what both clusters say about them. It reports whether nothing was to be done, so that nothing is to be
// done either as long as they say the same. It adds to errs.
func (t *Syncer) syncPart(ctx context.Context, part []Pair, targetSays, sourceSays *describedTopics, errs map[string]error) (limits map[string]Limits, settled bool) {
	target, targetErrs := targetSays.decode()
	maps.Copy(errs, targetErrs)
	source, sourceErrs := sourceSays.decode()
	unknown := map[string][]string{}
	changes := t.differences(part, source, sourceErrs, target, unknown, errs)
	if t.Alters != nil && !t.Alters() {
		return limitsIn(part, target, source), len(changes)+len(targetErrs)+len(sourceErrs) == 0
	}
	for name, configs := range unknown {
		t.warnUnknown(name, configs)
	}
	changed := t.alter(ctx, changes, apply, errs)
	if len(changed) > 0 {
		// Only the target knows the default that replaces a deleted value.
		again, againErrs := describeTopics(ctx, t.target, t.flow.Target, changed)
		for _, name := range changed {
			delete(target, name)
			if err := againErrs[name]; err != nil {
				errs[name] = errors.Join(errs[name], err)
				continue
			}
			target[name] = again[name]
		}
	}
	return limitsIn(part, target, source), len(changes)+len(targetErrs)+len(sourceErrs) == 0
}

// limitsIn returns the limits that configs of topics contain.
func limitsIn(part []Pair, target, source map[string][]policy.TopicConfig) map[string]Limits {
	limits := make(map[string]Limits, len(part))
	for _, p := range part {
		if described, ok := target[p.TargetName]; ok {
			l := limitsOf(described)
			l.setSource(source[p.Source.Name])
			limits[p.TargetName] = l
		}
	}
	return limits
}

// differences returns the changes by which the target topics follow the source, none if the flow does not sync configs. The arguments source
// and target have the configs of topics; those of the source that the target does not know are added to unknown.
func (t *Syncer) differences(pairs []Pair, source map[string][]policy.TopicConfig, sourceErrs map[string]error,
	target map[string][]policy.TopicConfig, unknown map[string][]string, errs map[string]error,
) map[string][]policy.ConfigChange {
	changes := map[string][]policy.ConfigChange{}
	if !t.flow.ConfigsSync {
		return changes
	}
	for _, p := range pairs {
		if err := sourceErrs[p.Source.Name]; err != nil {
			errs[p.TargetName] = errors.Join(err, errs[p.TargetName])
			continue
		}
		described, ok := target[p.TargetName]
		if !ok {
			continue
		}
		unknown[p.TargetName] = policy.UnknownConfigs(source[p.Source.Name], configNames(described), t.configs)
		if c := policy.DiffConfigs(source[p.Source.Name], described, t.configs); len(c) > 0 {
			changes[p.TargetName] = c
		}
	}
	return changes
}

// alter sends the changes of many topics in one request and returns the topics that changed. A broker refuses all changes of a topic because
// of one bad value, so the changes of a refused topic are retried one by one.
func (t *Syncer) alter(ctx context.Context, changes map[string][]policy.ConfigChange, how mode, errs map[string]error) (changed []string) {
	if len(changes) == 0 {
		return nil
	}
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	request.ValidateOnly = bool(how)
	for name, c := range changes {
		request.Resources = append(request.Resources, alterResource(name, c))
	}
	answer, err := t.target.Request(ctx, request)
	if err != nil {
		for name := range changes {
			errs[name] = t.adminError("alter configs of", name, err, nil)
		}
		return nil
	}
	for _, resource := range answer.(*kmsg.IncrementalAlterConfigsResponse).Resources {
		name := resource.ResourceName
		err := kerr.ErrorForCode(resource.ErrorCode)
		switch {
		case err == nil:
			changed = append(changed, name)
			if how == apply {
				t.logChanges(name, changes[name])
			}
		case len(changes[name]) > 1 && !errors.Is(err, kerr.TopicAuthorizationFailed) && !errors.Is(err, kerr.UnknownTopicOrPartition):
			if t.alterOneByOne(ctx, name, changes[name], how, errs) {
				changed = append(changed, name)
			}
		default:
			errs[name] = t.alterError(name, changes[name], err, resource.ErrorMessage)
		}
	}
	return changed
}

// alterOneByOne reports whether any of the changes was accepted. Refused changes are in errs.
func (t *Syncer) alterOneByOne(ctx context.Context, name string, changes []policy.ConfigChange, how mode, errs map[string]error) bool {
	var refused []error
	for _, change := range changes {
		alone := map[string]error{}
		t.alter(ctx, map[string][]policy.ConfigChange{name: {change}}, how, alone)
		if alone[name] != nil {
			refused = append(refused, alone[name])
		}
	}
	if len(refused) > 0 {
		errs[name] = errors.Join(refused...)
	}
	return len(refused) < len(changes)
}

func (t *Syncer) alterError(name string, changes []policy.ConfigChange, err error, message *string) error {
	err = t.adminError("alter configs of", name, err, message)
	if len(changes) != 1 || errors.Is(err, kerr.TopicAuthorizationFailed) {
		return err
	}
	return fmt.Errorf("%s: %w (add it to configs_exclude to leave it alone)", describeChange(changes[0]), err)
}

func (t *Syncer) logChanges(name string, changes []policy.ConfigChange) {
	if t.Changed != nil {
		t.Changed(len(changes))
	}
	for _, c := range changes {
		if c.Delete {
			t.log.Info("topic config deleted, as on the source", "cluster", t.flow.Target, "topic", name, "config", c.Name, "was", c.From)
			continue
		}
		t.log.Info("topic config set, as on the source", "cluster", t.flow.Target, "topic", name, "config", c.Name, "was", c.From, "now", c.To)
	}
}

func describeChange(c policy.ConfigChange) string {
	if c.Delete {
		return fmt.Sprintf("delete %s (%s)", c.Name, c.From)
	}
	return fmt.Sprintf("%s: %s -> %s", c.Name, c.From, c.To)
}

func alterResource(name string, changes []policy.ConfigChange) kmsg.IncrementalAlterConfigsRequestResource {
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, name
	for _, change := range changes {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op = change.Name, kmsg.IncrementalAlterConfigOpDelete
		if !change.Delete {
			c.Op, c.Value = kmsg.IncrementalAlterConfigOpSet, kmsg.StringPtr(change.To)
		}
		resource.Configs = append(resource.Configs, c)
	}
	return resource
}

// knownConfigs returns the topic configs that the target knows, with the default of its brokers if that is known. They are read from one of its
// topics: the journal, __consumer_offsets or an existing remote topic. The result is empty if no topic is missing or none can be described.
// Broker configs are no substitute: they have other names.
func (t *Syncer) knownConfigs(ctx context.Context, missing, pairs []Pair) map[string]string {
	if len(missing) == 0 {
		return nil
	}
	candidates := []string{offsets.JournalTopic(t.flow.Name), "__consumer_offsets"}
	for _, p := range pairs {
		if p.Target.Exists() {
			candidates = append(candidates, p.TargetName)
			break
		}
	}
	described, _ := describeTopics(ctx, t.target, t.flow.Target, candidates)
	for _, configs := range described {
		known := make(map[string]string, len(configs))
		for _, c := range configs {
			known[c.Name] = ""
			if !c.Dynamic {
				known[c.Name] = c.Value
			}
		}
		return known
	}
	return nil
}

func configNames(configs []policy.TopicConfig) map[string]bool {
	names := make(map[string]bool, len(configs))
	for _, c := range configs {
		names[c.Name] = true
	}
	return names
}

// timestampLimit reads a limit of timestamps, and returns the name of its config. Kafka has no word for none: that is 0 and no name.
func timestampLimit(c policy.TopicConfig) (limit int64, by string) {
	if n, err := strconv.ParseInt(c.Value, 10, 64); err == nil && n != math.MaxInt64 {
		return n, c.Name
	}
	return 0, ""
}

func limitsOf(configs []policy.TopicConfig) Limits {
	var limits Limits
	var difference policy.TopicConfig
	for _, c := range configs {
		switch c.Name {
		case "max.message.bytes":
			if n, err := strconv.ParseInt(c.Value, 10, 32); err == nil {
				limits.MaxMessageBytes = int32(n)
			}
		case "min.insync.replicas":
			if n, err := strconv.ParseInt(c.Value, 10, 32); err == nil {
				limits.MinInSyncReplicas = int32(n)
			}
		case "message.timestamp.type":
			limits.LogAppendTime = c.Value == "LogAppendTime"
		case "message.timestamp.difference.max.ms": // until Kafka 3.9
			difference = c
		case "message.timestamp.before.max.ms":
			limits.TimestampBefore, limits.TimestampBeforeBy = timestampLimit(c)
		case "message.timestamp.after.max.ms":
			limits.TimestampAfter, limits.TimestampAfterBy = timestampLimit(c)
		case "compression.type":
			limits.CompressionType = c.Value
		case "cleanup.policy":
			limits.Compacted = IsCompacted(c.Value)
		case "delete.retention.ms":
			limits.DeleteRetention = milliseconds(c.Value)
		}
	}
	limits.setDifference(difference)
	return limits
}

// setDifference takes a message.timestamp.difference.max.ms, which counts where the newer configs do not limit.
func (l *Limits) setDifference(c policy.TopicConfig) {
	if l.TimestampBefore == 0 {
		l.TimestampBefore, l.TimestampBeforeBy = timestampLimit(c)
	}
	if l.TimestampAfter == 0 {
		l.TimestampAfter, l.TimestampAfterBy = timestampLimit(c)
	}
}

// setSource adds how the source cleans its log, as far as it is known.
func (l *Limits) setSource(configs []policy.TopicConfig) {
	deletes := false
	defer func() {
		if !deletes {
			l.SourceRetention = 0
		}
	}()
	for _, c := range configs {
		switch c.Name {
		case "cleanup.policy":
			l.SourceNotCompacted, deletes = !IsCompacted(c.Value), has(c.Value, "delete")
		case "retention.ms":
			l.SourceRetention = max(0, milliseconds(c.Value))
		case "delete.retention.ms":
			l.SourceDeleteRetention = milliseconds(c.Value)
		}
	}
}

// milliseconds returns a config that is a number of milliseconds, 0 if it is not one.
func milliseconds(value string) time.Duration {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(min(n, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// IsCompacted reports whether a cleanup.policy, a list, contains compact.
func IsCompacted(cleanup string) bool { return has(cleanup, "compact") }

func has(cleanup, policy string) bool {
	return slices.Contains(strings.Split(strings.ReplaceAll(cleanup, " ", ""), ","), policy)
}
