package topics

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/policy"
)

// Expected are the effective configs of a source topic and of its copy, by name.
type Expected struct {
	// Source is nil if it is not known.
	Source map[string]string
	// Copy is what the copy has once the flow has created it and has synced its configs. A config whose value is not known, such as a default of the
	// target that the flow goes back to, is absent.
	Copy map[string]string
	// Limits follow from Copy and Source.
	Limits Limits
}

// Expect returns what configs the topics of pairs and their copies have, by the name of the source topic. The errors are by topic name.
func (t *Syncer) Expect(ctx context.Context, pairs []Pair) (expected map[string]Expected, sourceErrs, targetErrs map[string]error) {
	expected = make(map[string]Expected, len(pairs))
	missing, existing := make([]Pair, 0, len(pairs)), make([]Pair, 0, len(pairs))
	for _, p := range pairs {
		if p.Target.Exists() {
			existing = append(existing, p)
		} else {
			missing = append(missing, p)
		}
	}
	source, sourceErrs := Describe(ctx, t.source, t.flow.Source, SourceNames(pairs))
	target, targetErrs := Describe(ctx, t.target, t.flow.Target, TargetNames(existing))
	known := t.knownConfigs(ctx, missing, pairs)
	for _, p := range missing {
		described, ok := source[p.Source.Name]
		if !ok {
			continue
		}
		values := maps.Clone(known)
		if values == nil {
			values = make(map[string]string)
		}
		maps.DeleteFunc(values, func(_, value string) bool { return value == "" })
		maps.Copy(values, policy.CreateConfigs(described, known, t.configs))
		expected[p.Source.Name] = newExpected(described, values)
	}
	changes := t.differences(existing, source, sourceErrs, target, map[string][]string{}, map[string]error{})
	for _, p := range existing {
		described, ok := target[p.TargetName]
		if !ok {
			continue
		}
		values := effective(described)
		for _, c := range changes[p.TargetName] {
			if c.Delete {
				delete(values, c.Name)
			} else {
				values[c.Name] = c.To
			}
		}
		expected[p.Source.Name] = newExpected(source[p.Source.Name], values)
	}
	return expected, sourceErrs, targetErrs
}

func newExpected(source []policy.TopicConfig, values map[string]string) Expected {
	e := Expected{Copy: values}
	list := make([]policy.TopicConfig, 0, len(values))
	for name, value := range values {
		list = append(list, policy.TopicConfig{Name: name, Value: value})
	}
	e.Limits = limitsOf(list)
	if source != nil {
		e.Source = effective(source)
		e.Limits.setSource(source)
	}
	return e
}

// effective returns configs by name, without those that brokers do not send.
func effective(configs []policy.TopicConfig) map[string]string {
	values := make(map[string]string, len(configs))
	for _, c := range configs {
		if !c.Sensitive {
			values[c.Name] = c.Value
		}
	}
	return values
}

// Describe returns all configs of topics of a cluster, including defaults. Each topic is in one of the two results.
func Describe(ctx context.Context, client *kgo.Client, cluster string, names []string) (described map[string][]policy.TopicConfig, errs map[string]error) {
	described, errs = make(map[string][]policy.TopicConfig, len(names)), map[string]error{}
	for part := range slices.Chunk(names, topicsPerRequest) {
		some, failed := describeTopics(ctx, client, cluster, part)
		maps.Copy(described, some)
		maps.Copy(errs, failed)
	}
	return described, errs
}

// Passes reports whether a config that is set on the source topic of a pair reaches the copy, when it is created or later.
func (t *Syncer) Passes(p Pair, config string) bool {
	return !t.configs.Excludes(config) && (t.flow.ConfigsSync || !p.Target.Exists())
}
