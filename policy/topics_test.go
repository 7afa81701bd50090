package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

// prefixFlow is a flow with the config's defaults.
func prefixFlow() config.Flow {
	return config.Flow{
		Topics:        []string{".*"},
		TopicsExclude: []string{`mm2.*\.internal`, `.*\.replica`, `__.*`},
		Naming:        "prefix",
		Separator:     ".",
	}
}

func mustTopics(t *testing.T, f config.Flow, source, target string) *policy.Topics {
	t.Helper()
	topics, err := policy.NewTopics(f, source, target)
	if err != nil {
		t.Fatal(err)
	}
	return topics
}

func TestTopics_Target(t *testing.T) {
	with := func(change func(*config.Flow)) config.Flow {
		f := prefixFlow()
		change(&f)
		return f
	}
	prefix := prefixFlow()
	only := with(func(f *config.Flow) { f.Topics = []string{`orders|pay\..*`}; f.TopicsExclude = []string{`pay\.secret`} })
	underscore := with(func(f *config.Flow) { f.Separator = "_" })
	identity := with(func(f *config.Flow) { f.Naming = "identity" })
	rename := with(func(f *config.Flow) {
		f.Naming = "rename"
		f.Rename = map[string]string{"orders": "eu-orders", "dr.orders": "back", "gone.replica": "x"}
	})
	tableOnly := with(func(f *config.Flow) {
		f.Naming, f.Topics, f.Rename = "rename", nil, map[string]string{"orders": "orders"}
	})
	nothing := with(func(f *config.Flow) { f.Topics = nil })
	noHeartbeats := with(func(f *config.Flow) { f.TopicsExclude = []string{`(.*\.)?heartbeats`} })

	tests := []struct {
		name   string
		flow   config.Flow
		source string
		target string
		reason policy.Reason
	}{
		{"prefix", prefix, "orders", "primary.orders", ""},
		{"prefix keeps hops of others", prefix, "c.orders", "primary.c.orders", ""},
		{"dotted names are not hops of this flow", prefix, "orders.v1", "primary.orders.v1", ""},
		{"custom separator", underscore, "orders", "primary_orders", ""},
		{"custom separator, dots are plain", underscore, "dr.orders", "primary_dr.orders", ""},
		{"custom separator, cycle", underscore, "dr_orders", "", policy.ReasonCycle},

		{"whole names only", only, "orders-2", "", policy.ReasonNotSelected},
		{"whole names only, in front", only, "my-orders", "", policy.ReasonNotSelected},
		{"second alternative", only, "pay.eu", "primary.pay.eu", ""},
		{"exclude wins", only, "pay.secret", "", policy.ReasonExcluded},
		{"MirrorMaker 2's replica rule", prefix, "orders.replica", "", policy.ReasonExcluded},
		{"an empty list selects nothing", nothing, "orders", "", policy.ReasonNotSelected},

		{"cycle, direct", prefix, "dr.orders", "", policy.ReasonCycle},
		{"cycle, through another cluster", prefix, "c.dr.orders", "", policy.ReasonCycle},
		{"cycle, last part is the topic itself", prefix, "orders.dr", "primary.orders.dr", ""},
		{"cycle, alias is not a prefix of a hop", prefix, "dr2.orders", "primary.dr2.orders", ""},

		{"journal of milena", prefix, "milena.a-b.journal", "", policy.ReasonInternal},
		{"control topic of milena", prefix, "milena.a-b.control", "", policy.ReasonInternal},
		{"control topic without a flow is a user's", prefix, "milena.control", "primary.milena.control", ""},
		{"export of diverged records", prefix, "milena.a-b.diverged.orders", "", policy.ReasonInternal},
		{"export under identity", identity, "milena.a-b.diverged.orders", "", policy.ReasonInternal},
		{"export without a flow is a user's", prefix, "milena.diverged.orders", "primary.milena.diverged.orders", ""},
		{"journal without a flow is a user's", prefix, "milena.journal", "primary.milena.journal", ""},
		{"offset syncs", prefix, "mm2-offset-syncs.dr.internal", "", policy.ReasonInternal},
		{"offset syncs, custom separator", underscore, "mm2-offset-syncs_dr_internal", "", policy.ReasonInternal},
		{"offset syncs, KIP-949 keeps dots", underscore, "mm2-offset-syncs.dr.internal", "", policy.ReasonInternal},
		{"checkpoints", prefix, "c.checkpoints.internal", "", policy.ReasonInternal},
		{"checkpoints, custom separator", underscore, "c_checkpoints_internal", "", policy.ReasonInternal},
		{"connect offsets", prefix, "mm2-offsets.dr.internal", "", policy.ReasonInternal},
		{"connect configs, custom separator", underscore, "mm2-configs.dr.internal", "", policy.ReasonInternal},
		{"broker topics", prefix, "__consumer_offsets", "", policy.ReasonInternal},
		{"hidden topics", prefix, ".x", "", policy.ReasonInternal},
		{"KIP-1074: users may end names in internal", prefix, "payments.internal", "primary.payments.internal", ""},
		{"KIP-1074: with a dash too", prefix, "payments-internal", "primary.payments-internal", ""},
		{"a name that would become MM2's on the target", prefix, "checkpoints.internal", "", policy.ReasonInternal},

		{"heartbeats need no selection", only, "heartbeats", "primary.heartbeats", ""},
		{"nor do heartbeats of others", only, "c.heartbeats", "primary.c.heartbeats", ""},
		{"heartbeats cycle", only, "dr.heartbeats", "", policy.ReasonCycle},
		{"heartbeats can be excluded", noHeartbeats, "heartbeats", "", policy.ReasonExcluded},
		{"a user's heartbeats are ordinary", only, "device-heartbeats", "", policy.ReasonNotSelected},

		{"identity", identity, "orders", "orders", ""},
		{"identity has no cycles by name", identity, "dr.orders", "dr.orders", ""},
		{"identity keeps the prefix of heartbeats", identity, "heartbeats", "primary.heartbeats", ""},
		{"identity, a user's heartbeats keep their name", identity, "device-heartbeats", "device-heartbeats", ""},
		{"identity, heartbeats do not go back", identity, "dr.heartbeats", "", policy.ReasonCycle},
		{"identity, internal", identity, "milena.x.journal", "", policy.ReasonInternal},

		{"rename", rename, "orders", "eu-orders", ""},
		{"rename has no cycles by name", rename, "dr.orders", "back", ""},
		{"rename, not in the table", rename, "payments", "", policy.ReasonNotRenamed},
		{"rename, exclude wins", rename, "gone.replica", "", policy.ReasonExcluded},
		{"rename, heartbeats are ordinary", rename, "heartbeats", "", policy.ReasonNotRenamed},
		{"rename, the table is the list", tableOnly, "orders", "orders", ""},

		{"249 characters", prefix, strings.Repeat("x", 249-8), "primary." + strings.Repeat("x", 249-8), ""},
		{"250 characters", prefix, strings.Repeat("x", 250-8), "", policy.ReasonNameTooLong},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			topics := mustTopics(t, test.flow, "primary", "dr")
			target, reason := topics.Target(test.source)
			if target != test.target || reason != test.reason {
				t.Errorf("Target(%q) = %q, %q; want %q, %q", test.source, target, reason, test.target, test.reason)
			}
			if reason != "" {
				return
			}
			if source, ok := topics.Source(target); !ok || source != test.source {
				t.Errorf("Source(%q) = %q, %v; want %q", target, source, ok, test.source)
			}
		})
	}
}

func TestTopics_Source_refusesTopicsOfOthers(t *testing.T) {
	prefix := mustTopics(t, prefixFlow(), "primary", "dr")
	for _, target := range []string{"orders", "primary.", "primary", "primary.dr.orders", "primary.__x", "primaryorders"} {
		if source, ok := prefix.Source(target); ok {
			t.Errorf("Source(%q) = %q; the flow writes no such topic", target, source)
		}
	}
}

func TestTopics_aliasWithSeparator(t *testing.T) {
	topics := mustTopics(t, prefixFlow(), "us.west", "us.east")
	if target, reason := topics.Target("us.east.orders"); reason != policy.ReasonCycle {
		t.Errorf("Target = %q, %q; want a cycle", target, reason)
	}
	if target, _ := topics.Target("us.orders"); target != "us.west.us.orders" {
		t.Errorf("Target = %q", target)
	}
}

func TestNewTopics_refuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*config.Flow)
		want   []string
	}{
		{"all bad expressions", func(f *config.Flow) { f.Topics, f.TopicsExclude = []string{"ok", "(", "a)(b"}, []string{"*"} }, []string{`topics[1]: "("`, `topics[2]: "a)(b"`, `topics_exclude[0]: "*"`}},
		{"naming", func(f *config.Flow) { f.Naming = "suffix" }, []string{`naming: "suffix"`}},
		{"no separator", func(f *config.Flow) { f.Separator = "" }, []string{`separator: ""`}},
		{"bad separator", func(f *config.Flow) { f.Separator = "/" }, []string{`separator: "/"`}},
		{"rename without table", func(f *config.Flow) { f.Naming = "rename" }, []string{"rename: the table is empty"}},
		{
			"rename of two into one", func(f *config.Flow) {
				f.Naming, f.Rename = "rename", map[string]string{"a": "x", "b": "x", "c": "", "d": "__x", "e": "sp ace", "f": ".."}
			},
			[]string{`rename.b: target name "x" is used for a`, "rename.c: target name is empty", `rename.d: target name "__x" is that of an internal`, `rename.e: target name "sp ace" may only have`, `rename.f: target name ".." is not allowed`},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := prefixFlow()
			test.change(&f)
			_, err := policy.NewTopics(f, "primary", "dr")
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
		})
	}
	if _, err := policy.NewTopics(prefixFlow(), "a b", "dr"); err == nil {
		t.Error("an alias with a space is accepted as a prefix")
	}
	if _, err := policy.NewTopics(prefixFlow(), "", "dr"); err == nil {
		t.Error("an empty alias is accepted as a prefix")
	}
}

func TestTopics_Collisions(t *testing.T) {
	prefix := mustTopics(t, prefixFlow(), "primary", "dr")
	identity := prefixFlow()
	identity.Naming = "identity"
	rename := prefixFlow()
	rename.Naming, rename.Rename = "rename", map[string]string{"a": "x.y", "b": "x_y", "c": "z"}

	tests := []struct {
		name    string
		topics  *policy.Topics
		sources []string
		want    []policy.Collision
	}{
		{"none", prefix, []string{"a", "b", "a.b"}, nil},
		{"a duplicate name is one topic", prefix, []string{"a", "a"}, nil},
		{"dot and underscore", prefix, []string{"z", "a.b", "a_b"}, []policy.Collision{{Sources: []string{"a.b", "a_b"}, Targets: []string{"primary.a.b", "primary.a_b"}}}},
		{"topics that are not copied do not collide", prefix, []string{"dr.b", "dr_b"}, nil},
		{
			"two topics into one", mustTopics(t, identity, "primary", "dr"),
			[]string{"heartbeats", "primary.heartbeats"},
			[]policy.Collision{{Sources: []string{"heartbeats", "primary.heartbeats"}, Targets: []string{"primary.heartbeats"}}},
		},
		{"by the table", mustTopics(t, rename, "p", "d"), []string{"a", "b", "c"}, []policy.Collision{{Sources: []string{"a", "b"}, Targets: []string{"x.y", "x_y"}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := test.topics.Collisions(test.sources)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			for _, c := range got {
				if !strings.Contains(c.Explain(), c.Sources[1]) {
					t.Errorf("Explain() = %q", c.Explain())
				}
			}
		})
	}
}

// A record must never come back to a cluster that it has been in, and copying must end, whatever flows a user
// configures.
func TestTopics_cyclesAndChainsEnd(t *testing.T) {
	shapes := map[string][][2]string{
		"both directions":        {{"a", "b"}, {"b", "a"}},
		"cycle":                  {{"a", "b"}, {"b", "c"}, {"c", "a"}},
		"cycle, both directions": {{"a", "b"}, {"b", "c"}, {"c", "a"}, {"b", "a"}, {"c", "b"}, {"a", "c"}},
		"chain":                  {{"a", "b"}, {"b", "c"}, {"c", "d"}},
		"star":                   {{"a", "b"}, {"c", "b"}, {"d", "b"}, {"b", "a"}, {"b", "c"}, {"b", "d"}},
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range 20 {
		var flows [][2]string
		for range 2 + random.IntN(10) {
			source, target := string(rune('a'+random.IntN(5))), string(rune('a'+random.IntN(5)))
			if source != target {
				flows = append(flows, [2]string{source, target})
			}
		}
		shapes[fmt.Sprintf("random %d: %v", i, flows)] = flows
	}
	for name, flows := range shapes {
		t.Run(name, func(t *testing.T) {
			for _, separator := range []string{".", "_", "--"} {
				copyToFixpoint(t, flows, separator)
			}
		})
	}
}

// copyToFixpoint lets every flow copy every topic name until no cluster gets a new one. Each topic records the
// clusters that its records have been in.
func copyToFixpoint(t *testing.T, flows [][2]string, separator string) {
	t.Helper()
	clusters := map[string]map[string][]string{} // alias -> topic -> clusters visited, in order
	for _, flow := range flows {
		for _, alias := range flow {
			clusters[alias] = map[string][]string{
				"t-" + alias: {alias}, "orders.v1": {alias}, "orders_v2": {alias}, "heartbeats": {alias},
			}
		}
	}
	f := prefixFlow()
	f.Separator = separator
	for changed, rounds := true, 0; changed; rounds++ {
		if rounds > len(clusters)+1 {
			t.Fatalf("separator %q: copying does not end: %d rounds", separator, rounds)
		}
		changed = false
		for _, flow := range flows {
			source, target := flow[0], flow[1]
			topics := mustTopics(t, f, source, target)
			for name, visited := range clusters[source] {
				copied, reason := topics.Target(name)
				been := slices.Contains(visited, target)
				if (reason == policy.ReasonCycle) != been {
					t.Fatalf("separator %q: %s on %s to %s: reason %q, but its records were in %v", separator, name, source, target, reason, visited)
				}
				if reason != "" || clusters[target][copied] != nil {
					continue
				}
				clusters[target][copied] = append(slices.Clone(visited), target)
				changed = true
			}
		}
	}
}
