package topics

import (
	"context"
	"maps"
	"slices"
)

// Preview is what a sync would change on the target. Maps are by target name.
type Preview struct {
	// Configs are the configs of a topic to create ("name=value") and the changes to an existing one ("name: old -> new").
	Configs map[string][]string
	// Unknown are configs of the source topic that are left out because the target does not know them.
	Unknown map[string][]string
	// LeftOut are the configs that a topic would be created without because the target refuses them.
	LeftOut []LeftOut
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
	c := t.creator(known, validateOnly)
	left := map[[2]string]bool{} // topic and config
	c.left = func(l LeftOut) {
		left[[2]string{l.Topic, l.Config}] = true
		if l.Err == nil {
			p.Unknown[l.Topic] = append(p.Unknown[l.Topic], l.Config)
			return
		}
		p.LeftOut = append(p.LeftOut, l)
	}
	for part := range slices.Chunk(missing, topicsPerRequest) {
		planned := t.planCreates(ctx, part, known, p.Errors)
		for i := range planned {
			planned[i], _ = c.withoutUnknown(planned[i], nil)
		}
		c.create(ctx, planned, p.Errors)
		for _, topic := range planned {
			for _, config := range topic.Configs {
				if !left[[2]string{topic.Topic, config.Name}] {
					p.Configs[topic.Topic] = append(p.Configs[topic.Topic], config.Name+"="+*config.Value)
				}
			}
		}
	}
	t.grow(ctx, small, validateOnly, p.Errors)
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
		source, sourceErrs := describeTopics(ctx, t.source, t.flow.Source, SourceNames(part))
		changes := t.differences(part, source, sourceErrs, target, p.Unknown, p.Errors)
		for name, diff := range changes {
			for _, change := range diff {
				p.Configs[name] = append(p.Configs[name], describeChange(change))
			}
		}
		t.alter(ctx, changes, validateOnly, p.Errors)
	}
	return p
}
