package topics

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Preview is what a sync would change on the target. Maps are by target name.
type Preview struct {
	// Configs are the configs of a topic to create ("name=value") and the changes to an existing one ("name: old -> new").
	Configs map[string][]string
	// Unknown are configs of the source topic that are left out because the target does not know them.
	Unknown map[string][]string
	// Limits are the limits of existing topics.
	Limits map[string]Limits
	// Errors are the requests that failed or that the target would refuse.
	Errors map[string]error
}

func newPreview() *Preview {
	return &Preview{Configs: map[string][]string{}, Unknown: map[string][]string{}, Limits: map[string]Limits{}, Errors: map[string]error{}}
}

// PreviewCreates checks, with requests that only validate, whether the target would create the missing topics of pairs and add the missing
// partitions. The argument all holds all selected pairs: their existing topics show which configs the target knows.
func (t *Syncer) PreviewCreates(ctx context.Context, pairs, all []Pair) *Preview {
	p := newPreview()
	missing, small := t.incomplete(pairs)
	known := t.knownConfigs(ctx, missing, all)
	for part := range slices.Chunk(missing, topicsPerRequest) {
		planned := t.planCreates(ctx, part, p.Errors)
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

// PreviewCreate checks whether the target would create one topic.
func (t *Syncer) PreviewCreate(ctx context.Context, name string, partitions int32, replicationFactor int16) *Preview {
	p := newPreview()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, replicationFactor
	t.create(ctx, []kmsg.CreateTopicsRequestTopic{topic}, nil, validateOnly, p.Errors)
	return p
}

// PreviewConfigs compares the configs of the existing target topics, unless the flow does not sync configs, and checks whether the target
// would accept the changes.
func (t *Syncer) PreviewConfigs(ctx context.Context, pairs []Pair) *Preview {
	p := newPreview()
	existing := slices.DeleteFunc(slices.Clone(pairs), func(pair Pair) bool { return !pair.Target.Exists() })
	for part := range slices.Chunk(existing, topicsPerRequest) {
		target, targetErrs := describeTopics(ctx, t.target, t.flow.Target, TargetNames(part))
		maps.Copy(p.Errors, targetErrs)
		for name, described := range target {
			p.Limits[name] = limitsOf(described)
		}
		changes := t.differences(ctx, part, target, p.Unknown, p.Errors)
		for name, diff := range changes {
			for _, change := range diff {
				p.Configs[name] = append(p.Configs[name], describeChange(change))
			}
		}
		t.alter(ctx, changes, validateOnly, p.Errors)
	}
	return p
}
