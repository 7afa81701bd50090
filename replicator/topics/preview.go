package topics

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
)

// Preview is what a sync would do to topics of the target. Maps are by target name.
type Preview struct {
	// Configs are those that a topic is created with ("name=value") or that change on it ("name: old -> new").
	Configs map[string][]string
	// Unknown are configs of the source topic that the target does not know, and that are left out.
	Unknown map[string][]string
	// Limits are those of topics that exist.
	Limits map[string]Limits
	// Errors are the target's refusals.
	Errors map[string]error
}

func newPreview() *Preview {
	return &Preview{Configs: map[string][]string{}, Unknown: map[string][]string{}, Limits: map[string]Limits{}, Errors: map[string]error{}}
}

// PreviewCreates asks the target's controller whether it would create the missing topics of pairs, and add the missing partitions. All are
// the pairs that exist, too: what the target knows is seen in them.
func (t *Syncer) PreviewCreates(ctx context.Context, pairs, all []Pair) *Preview {
	p := newPreview()
	missing, small := t.incomplete(pairs)
	known := t.knownConfigs(ctx, missing, all)
	for part := range slices.Chunk(missing, topicsPerRequest) {
		planned := t.plan(ctx, part, p.Errors)
		for _, topic := range planned {
			for _, c := range topic.Configs {
				if len(known) > 0 && !known[c.Name] {
					p.Unknown[topic.Topic] = append(p.Unknown[topic.Topic], c.Name)
					continue
				}
				p.Configs[topic.Topic] = append(p.Configs[topic.Topic], c.Name+"="+*c.Value)
			}
		}
		t.create(ctx, planned, known, validateOnly, p.Errors)
	}
	for part := range slices.Chunk(small, topicsPerRequest) {
		t.grow(ctx, part, validateOnly, p.Errors)
	}
	return p
}

// PreviewCreate asks the target's controller whether it would create one topic.
func (t *Syncer) PreviewCreate(ctx context.Context, name string, partitions int32, replicationFactor int16) *Preview {
	p := newPreview()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, replicationFactor
	t.create(ctx, []kmsg.CreateTopicsRequestTopic{topic}, nil, validateOnly, p.Errors)
	return p
}

// PreviewConfigs compares the configs of the target topics that exist, and asks whether those that differ may be altered.
func (t *Syncer) PreviewConfigs(ctx context.Context, pairs []Pair) *Preview {
	p := newPreview()
	existing := slices.DeleteFunc(slices.Clone(pairs), func(pair Pair) bool { return !pair.Target.Exists() })
	for part := range slices.Chunk(existing, topicsPerRequest) {
		source, sourceErrs := describeTopics(ctx, t.source, t.flow.Source, SourceNames(part))
		target, targetErrs := describeTopics(ctx, t.target, t.flow.Target, TargetNames(part))
		changes := map[string][]policy.ConfigChange{}
		for _, pair := range part {
			name := pair.TargetName
			if err := errors.Join(sourceErrs[pair.Source.Name], targetErrs[name]); err != nil {
				p.Errors[name] = err
				continue
			}
			described := target[name]
			p.Limits[name] = limitsOf(described)
			p.Unknown[name] = policy.UnknownConfigs(source[pair.Source.Name], configNames(described), t.configs)
			if diff := policy.DiffConfigs(source[pair.Source.Name], described, t.configs); len(diff) > 0 {
				changes[name] = diff
			}
			for _, change := range changes[name] {
				p.Configs[name] = append(p.Configs[name], describeChange(change))
			}
		}
		t.alter(ctx, changes, validateOnly, p.Errors)
	}
	return p
}
