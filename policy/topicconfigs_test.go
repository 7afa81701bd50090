package policy_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

func set(name, value string) policy.TopicConfig {
	return policy.TopicConfig{Name: name, Value: value, Dynamic: true}
}

func inherited(name, value string) policy.TopicConfig {
	return policy.TopicConfig{Name: name, Value: value}
}

func mustFilter(t *testing.T, expressions ...string) policy.ConfigFilter {
	t.Helper()
	f, err := policy.NewConfigFilter(config.Flow{ConfigsExclude: expressions})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDiffConfigs(t *testing.T) {
	type configs = []policy.TopicConfig
	tests := []struct {
		name           string
		source, target configs
		exclude        []string
		want           []policy.ConfigChange
	}{
		{name: "nothing", source: configs{inherited("retention.ms", "1")}, target: configs{inherited("retention.ms", "2")}},
		{name: "same", source: configs{set("retention.ms", "1")}, target: configs{set("retention.ms", "1")}},
		{
			name: "set", source: configs{set("retention.ms", "1")}, target: configs{inherited("retention.ms", "2")},
			want: []policy.ConfigChange{{Name: "retention.ms", From: "2", To: "1"}},
		},
		{
			name: "set although it equals the default, which may change", source: configs{set("retention.ms", "1")}, target: configs{inherited("retention.ms", "1")},
			want: []policy.ConfigChange{{Name: "retention.ms", From: "1", To: "1"}},
		},
		{
			name: "changed, sorted", source: configs{set("retention.ms", "1"), set("cleanup.policy", "compact")}, target: configs{set("retention.ms", "2"), set("cleanup.policy", "delete")},
			want: []policy.ConfigChange{{Name: "cleanup.policy", From: "delete", To: "compact"}, {Name: "retention.ms", From: "2", To: "1"}},
		},
		{
			name: "an empty value is a value", source: configs{set("x", "")}, target: configs{inherited("x", "a")},
			want: []policy.ConfigChange{{Name: "x", From: "a"}},
		},
		{
			name: "deleted", source: configs{inherited("retention.ms", "1")}, target: configs{set("retention.ms", "2")},
			want: []policy.ConfigChange{{Name: "retention.ms", From: "2", Delete: true}},
		},
		{name: "a key that the source does not know stays", source: configs{}, target: configs{set("vendor.key", "2")}},
		{name: "a key that the target does not know is left out", source: configs{set("vendor.key", "2")}, target: configs{inherited("retention.ms", "2")}},
		{
			name:   "compression stays the producer's",
			source: configs{set("compression.type", "gzip")}, target: configs{inherited("compression.type", "producer")},
		},
		{name: "compression of the target is not deleted", source: configs{inherited("compression.type", "producer")}, target: configs{set("compression.type", "zstd")}},
		{
			name:   "an old record format is that of the source's log only",
			source: configs{set("message.format.version", "0.10.2")}, target: configs{inherited("message.format.version", "2.8-IV1")},
		},
		{
			name:   "a copy in an old record format could hold nothing that milena writes",
			source: configs{set("message.format.version", "0.10.2")}, target: configs{set("message.format.version", "0.10.2")},
			want: []policy.ConfigChange{{Name: "message.format.version", From: "0.10.2", Delete: true}},
		},
		{
			name: "also if the source does not know the config", source: configs{}, target: configs{set("message.format.version", "0.10.2")},
			want: []policy.ConfigChange{{Name: "message.format.version", From: "0.10.2", Delete: true}},
		},
		{
			name: "unless it is left alone", exclude: []string{"message.format.version"},
			source: configs{set("message.format.version", "0.10.2")}, target: configs{set("message.format.version", "0.10.2")},
		},
		{
			name:   "throttles name other brokers",
			source: configs{set("leader.replication.throttled.replicas", "*"), set("follower.replication.throttled.replicas", "*")},
			target: configs{inherited("leader.replication.throttled.replicas", ""), inherited("follower.replication.throttled.replicas", "")},
		},
		{
			name:   "what the data path needs is copied",
			source: configs{set("max.message.bytes", "5"), set("message.timestamp.type", "LogAppendTime")},
			target: configs{inherited("max.message.bytes", "1"), inherited("message.timestamp.type", "CreateTime")},
			want: []policy.ConfigChange{
				{Name: "max.message.bytes", From: "1", To: "5"},
				{Name: "message.timestamp.type", From: "CreateTime", To: "LogAppendTime"},
			},
		},
		{
			name:   "the largest batch is not lowered: the source may hold larger ones",
			source: configs{set("max.message.bytes", "5")}, target: configs{set("max.message.bytes", "9")},
		},
		{
			name:   "the largest batch that an operator raised stays",
			source: configs{inherited("max.message.bytes", "5")}, target: configs{set("max.message.bytes", "9")},
		},
		{
			name:   "the largest batch that an operator raised stays below the default of the source's brokers",
			source: configs{inherited("max.message.bytes", "99")}, target: configs{set("max.message.bytes", "9")},
		},
		{
			name:   "limits of timestamps are those of the target: a record that the source holds may be older than its limit",
			source: configs{set("message.timestamp.before.max.ms", "604800000"), set("message.timestamp.difference.max.ms", "604800000"), inherited("message.timestamp.after.max.ms", "3600000")},
			target: configs{inherited("message.timestamp.before.max.ms", "9"), inherited("message.timestamp.difference.max.ms", "9"), set("message.timestamp.after.max.ms", "9")},
		},
		{
			name: "excluded: not set, not deleted", exclude: []string{`retention\..*`, "min.insync.replicas"},
			source: configs{set("retention.ms", "1"), inherited("min.insync.replicas", "1")},
			target: configs{inherited("retention.ms", "2"), set("min.insync.replicas", "2")},
		},
		{
			name: "exclude matches whole names", exclude: []string{"retention"},
			source: configs{set("retention.ms", "1")}, target: configs{inherited("retention.ms", "2")},
			want: []policy.ConfigChange{{Name: "retention.ms", From: "2", To: "1"}},
		},
		{name: "sensitive values are not known", source: configs{{Name: "k", Dynamic: true, Sensitive: true}}, target: configs{inherited("k", "2")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			filter := mustFilter(t, test.exclude...)
			got := policy.DiffConfigs(test.source, test.target, filter)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if again := policy.DiffConfigs(test.source, apply(test.target, got), filter); len(again) > 0 {
				t.Errorf("a second diff still has %v", again)
			}
		})
	}
}

// apply changes configs as a broker does.
func apply(target []policy.TopicConfig, changes []policy.ConfigChange) []policy.TopicConfig {
	var after []policy.TopicConfig
	for _, c := range target {
		for _, change := range changes {
			if change.Name == c.Name {
				c.Value, c.Dynamic = change.To, !change.Delete
			}
		}
		after = append(after, c)
	}
	return after
}

// A new copy accepts records of any time.
func TestCreateConfigs_timestamps(t *testing.T) {
	const before, after, difference, widest = "message.timestamp.before.max.ms", "message.timestamp.after.max.ms", "message.timestamp.difference.max.ms", "9223372036854775807"
	source := []policy.TopicConfig{set(before, "604800000"), set("retention.ms", "1")}
	filter := mustFilter(t)
	for name, test := range map[string]struct{ known, want map[string]string }{
		"Kafka 4: an hour ahead":           {map[string]string{before: widest, after: "3600000"}, map[string]string{after: widest}},
		"narrow brokers":                   {map[string]string{before: "1000", after: "3600000"}, map[string]string{before: widest, after: widest}},
		"Kafka 3.9":                        {map[string]string{before: widest, after: widest, difference: "1000"}, nil},
		"Kafka 3.5":                        {map[string]string{difference: "1000"}, map[string]string{difference: widest}},
		"a default that is not known":      {map[string]string{before: "", after: widest}, map[string]string{before: widest}},
		"a target that is not known":       {nil, nil},
		"a target that knows none of them": {map[string]string{"retention.ms": "7"}, nil},
	} {
		want := map[string]string{"retention.ms": "1"}
		maps.Copy(want, test.want)
		if diff := cmp.Diff(want, policy.CreateConfigs(source, test.known, filter)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestCreateConfigs(t *testing.T) {
	source := []policy.TopicConfig{
		set("cleanup.policy", "compact"), set("compression.type", "lz4"), set("message.format.version", "0.10.2"), set("vendor.key", "1"), set("min.insync.replicas", "2"),
		inherited("retention.ms", "5"),
		{Name: "secret", Dynamic: true, Sensitive: true},
	}
	filter := mustFilter(t, `min\.insync\.replicas`)
	if diff := cmp.Diff(map[string]string{"cleanup.policy": "compact", "vendor.key": "1"}, policy.CreateConfigs(source, nil, filter)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"vendor.key"}, policy.UnknownConfigs(source, map[string]bool{"cleanup.policy": true}, filter)); diff != "" {
		t.Error(diff)
	}
}

func TestNewConfigFilter_refuses(t *testing.T) {
	if _, err := policy.NewConfigFilter(config.Flow{ConfigsExclude: []string{"("}}); err == nil || !strings.Contains(err.Error(), "configs_exclude[0]") {
		t.Errorf("err = %v", err)
	}
	if _, err := policy.NewConfigFilter(config.Flow{}); err != nil {
		t.Error(err)
	}
}

// KIP-894: the remote topic behaves like its source, whatever the defaults of the target are.
func TestConfigs_defaultsFromSource(t *testing.T) {
	flow := config.DefaultFlow("a", "b")
	flow.UseDefaultsFrom = config.DefaultsFromSource
	filter, err := policy.NewConfigFilter(flow)
	if err != nil {
		t.Fatal(err)
	}
	source := []policy.TopicConfig{
		set("cleanup.policy", "compact"), inherited("retention.ms", "1"), inherited("segment.ms", "2"), inherited("max.message.bytes", "3"),
		inherited("min.insync.replicas", "2"), inherited("compression.type", "producer"), inherited("vendor.key", "x"),
		{Name: "secret", Sensitive: true},
	}
	want := map[string]string{"cleanup.policy": "compact", "retention.ms": "1", "segment.ms": "2", "max.message.bytes": "3", "vendor.key": "x"}
	if diff := cmp.Diff(want, policy.CreateConfigs(source, nil, filter)); diff != "" {
		t.Errorf("created with -want +got\n%s", diff)
	}
	target := []policy.TopicConfig{
		set("cleanup.policy", "compact"), set("retention.ms", "9"), inherited("segment.ms", "2"), set("max.message.bytes", "3"),
		set("min.insync.replicas", "1"), inherited("compression.type", "producer"), inherited("secret", ""),
	}
	changes := []policy.ConfigChange{{Name: "retention.ms", From: "9", To: "1"}, {Name: "segment.ms", From: "2", To: "2"}}
	if diff := cmp.Diff(changes, policy.DiffConfigs(source, target, filter)); diff != "" {
		t.Errorf("changes -want +got\n%s", diff)
	}
	if unknown := policy.UnknownConfigs(source, map[string]bool{}, filter); len(unknown) != 1 || unknown[0] != "cleanup.policy" {
		t.Errorf("unknown to the target: %q; unknown defaults must not be reported", unknown)
	}
}
