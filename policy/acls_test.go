package policy_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

// acl parses "ALLOW READ alice orders". A + after the name means a prefix, and @host after the principal a host.
func acl(t *testing.T, text string) policy.ACL {
	t.Helper()
	words := strings.Fields(text)
	if len(words) != 4 || (words[0] != "ALLOW" && words[0] != "DENY") {
		t.Fatalf("%q is not an ACL", text)
	}
	principal, host, ok := strings.Cut(words[2], "@")
	if !ok {
		host = "*"
	}
	name, prefixed := strings.CutSuffix(words[3], "+")
	return policy.ACL{Name: name, Prefixed: prefixed, Principal: "User:" + principal, Host: host, Operation: words[1], Deny: words[0] == "DENY"}
}

func acls(t *testing.T, texts []string) []policy.ACL {
	t.Helper()
	var list []policy.ACL
	for _, text := range texts {
		list = append(list, acl(t, text))
	}
	return list
}

func short(list []policy.ACL) []string {
	var texts []string
	for _, a := range list {
		text, host := "ALLOW ", ""
		if a.Deny {
			text = "DENY "
		}
		if a.Host != "*" {
			host = "@" + a.Host
		}
		text += a.Operation + " " + strings.TrimPrefix(a.Principal, "User:") + host + " " + a.Name
		if a.Prefixed {
			text += "+"
		}
		texts = append(texts, text)
	}
	return texts
}

// aclCase is a flow from primary to dr in one state of both clusters.
type aclCase struct {
	name           string
	naming         string
	rename         map[string]string
	topics         []string // of the source
	foreign        []string // other topics of the target
	source, target []string
	remove         bool
	literal, admin bool
	create, delete []string
	inStep, notes  int
}

func (c aclCase) diff(t *testing.T) policy.ACLDiff {
	t.Helper()
	flow := config.DefaultFlow("primary", "dr")
	flow.TopicsExclude = append(flow.TopicsExclude, "secret")
	if c.naming != "" {
		flow.Naming, flow.Rename = c.naming, c.rename
	}
	rules, err := policy.NewTopics(flow, "primary", "dr")
	if err != nil {
		t.Fatal(err)
	}
	state := policy.ACLState{Source: acls(t, c.source), Target: acls(t, c.target), Copied: map[string]string{}, TargetTopics: c.foreign, Remove: c.remove, Literal: c.literal, Admin: c.admin}
	for _, topic := range c.topics {
		if target, reason := rules.Target(topic); reason == "" {
			state.Copied[topic] = target
		}
	}
	state.TargetTopics = slices.AppendSeq(slices.Clone(c.foreign), maps.Values(state.Copied))
	diff := rules.DiffACLs(state)
	// A second diff must find nothing to create or delete.
	after := slices.DeleteFunc(slices.Concat(state.Target, diff.Create), func(a policy.ACL) bool { return slices.Contains(diff.Delete, a) })
	state.Target = after
	if again := rules.DiffACLs(state); len(again.Create)+len(again.Delete) > 0 {
		t.Errorf("a second diff still has %v and %v", short(again.Create), short(again.Delete))
	}
	return diff
}

func runACLCases(t *testing.T, cases []aclCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			diff := c.diff(t)
			if d := cmp.Diff(c.create, short(diff.Create)); d != "" {
				t.Errorf("create -want +got:\n%s", d)
			}
			if d := cmp.Diff(c.delete, short(diff.Delete)); d != "" {
				t.Errorf("delete -want +got:\n%s", d)
			}
			if diff.InStep != c.inStep || len(diff.Notes) != c.notes {
				t.Errorf("%d in step, want %d; notes %q, want %d", diff.InStep, c.inStep, diff.Notes, c.notes)
			}
		})
	}
}

func TestDiffACLs_operations(t *testing.T) {
	topics := []string{"orders", "secret", "dr.back"}
	runACLCases(t, []aclCase{
		{name: "read is copied", topics: topics, source: []string{"ALLOW READ alice orders"}, create: []string{"ALLOW READ alice primary.orders"}},
		{name: "write is not", topics: topics, source: []string{"ALLOW WRITE alice orders"}},
		{name: "everything becomes read", topics: topics, source: []string{"ALLOW ALL alice orders"}, create: []string{"ALLOW READ alice primary.orders"}},
		{
			name: "ALL and READ become one binding", topics: topics, source: []string{"ALLOW ALL alice orders", "ALLOW READ alice orders"},
			create: []string{"ALLOW READ alice primary.orders"},
		},
		{
			name: "denials are copied as they are", topics: topics, source: []string{"DENY ALL bob orders", "DENY WRITE carol@10.0.0.1 orders"},
			create: []string{"DENY ALL bob primary.orders", "DENY WRITE carol@10.0.0.1 primary.orders"},
		},
		{
			name: "other operations are copied with principal and host", topics: topics,
			source: []string{"ALLOW DESCRIBE * orders", "ALLOW DESCRIBE_CONFIGS alice@::1 orders", "ALLOW CREATE alice orders"},
			create: []string{"ALLOW DESCRIBE * primary.orders", "ALLOW CREATE alice primary.orders", "ALLOW DESCRIBE_CONFIGS alice@::1 primary.orders"},
		},
		{
			name: "rights to change or delete a topic are not copied, denials of them are", topics: topics,
			source: []string{"ALLOW DELETE alice *", "ALLOW ALTER alice orders", "ALLOW ALTER_CONFIGS alice ord+", "DENY DELETE bob orders"},
			create: []string{"DENY DELETE bob primary.orders"},
		},
		{
			name: "rights to change or delete a topic are copied if asked for", topics: topics, admin: true,
			source: []string{"ALLOW DELETE alice orders", "ALLOW ALTER_CONFIGS alice@::1 orders"},
			create: []string{"ALLOW ALTER_CONFIGS alice@::1 primary.orders", "ALLOW DELETE alice primary.orders"},
		},
		{
			name: "as MirrorMaker 2, only what is allowed on single topics", topics: topics, literal: true,
			source: []string{"ALLOW READ alice orders", "ALLOW READ bob ord+", "ALLOW ALL carol *", "DENY READ dave ord+", "DENY READ erin *"},
			create: []string{"DENY READ erin primary.+", "DENY READ dave primary.ord+", "ALLOW READ alice primary.orders"},
		},
		{name: "topics that are not copied", topics: topics, source: []string{"ALLOW READ alice secret", "ALLOW READ alice __consumer_offsets", "ALLOW READ alice dr.back"}},
		{name: "a topic that does not exist yet gets nothing but denials", topics: topics, source: []string{"ALLOW READ alice later", "DENY READ bob later"}, create: []string{"DENY READ bob primary.later"}},
		{
			name: "existing bindings are not created", topics: topics, source: []string{"ALLOW READ alice orders", "ALLOW READ bob orders"},
			target: []string{"ALLOW READ alice primary.orders"}, create: []string{"ALLOW READ bob primary.orders"}, inStep: 1,
		},
		{
			name: "deletions are off by default", topics: topics, source: []string{"ALLOW READ alice orders"},
			target: []string{"ALLOW READ alice primary.orders", "ALLOW READ mallory primary.orders"}, inStep: 1,
		},
	})
}

func TestDiffACLs_patterns(t *testing.T) {
	prefix, everything := []string{"ALLOW READ alice orders-+", "DENY READ bob orders-+"}, []string{"ALLOW ALL alice *", "DENY READ bob *"}
	topics := []string{"orders-eu", "orders-us", "stock", "secret"}
	one := func(names ...string) []string {
		var list []string
		for _, permission := range []string{"DENY READ bob ", "ALLOW READ alice "} {
			for _, name := range names {
				list = append(list, permission+name)
			}
		}
		return list
	}
	runACLCases(t, []aclCase{
		{name: "a prefix under prefix naming", topics: topics, source: prefix, create: one("primary.orders-+")},
		{name: "all topics under prefix naming", topics: topics, source: everything, create: one("primary.+")},
		{name: "a prefix of nothing that is copied", topics: []string{"stock"}, source: prefix, create: []string{"DENY READ bob primary.orders-+"}},
		{name: "a prefix under identity", naming: "identity", topics: topics, source: prefix, create: one("orders-+")},
		{
			name: "a prefix under identity that covers a local topic of the target", naming: "identity", topics: topics, foreign: []string{"orders-local"},
			source: prefix, create: one("orders-eu", "orders-us"), notes: 1,
		},
		{
			name: "a prefix under identity that covers only a local topic of the target", naming: "identity", topics: []string{"stock"}, foreign: []string{"orders-local"},
			source: prefix,
		},
		{
			name: "a name under identity that is a local topic of the target", naming: "identity", topics: []string{"stock"}, foreign: []string{"orders-local"},
			source: []string{"ALLOW READ alice orders-local", "DENY READ bob orders-local"},
		},
		{
			name: "heartbeats keep the alias under identity", naming: "identity", topics: []string{"heartbeats"},
			source: []string{"ALLOW READ alice heart+", "ALLOW READ carol heartbeats"}, create: []string{"ALLOW READ alice primary.heartbeats", "ALLOW READ carol primary.heartbeats"}, notes: 1,
		},
		{name: "all topics under identity", naming: "identity", topics: topics, foreign: []string{"local"}, source: everything, create: one("orders-eu", "orders-us", "stock")},
		{
			name: "a prefix under a rename table", naming: "rename", rename: map[string]string{"orders-eu": "x-eu", "orders-us": "x-us", "stock": "orders-x"},
			topics: topics, source: prefix, create: one("x-eu", "x-us"),
		},
		{
			name: "all topics under a rename table", naming: "rename", rename: map[string]string{"orders-eu": "x-eu", "stock": "y"},
			topics: topics, source: everything, create: one("x-eu", "y"),
		},
	})
}

func TestDiffACLs_deletions(t *testing.T) {
	topics := []string{"orders", "stock"}
	source := []string{"ALLOW READ alice orders"}
	runACLCases(t, []aclCase{
		{
			name: "revoked on the source", topics: topics, remove: true, source: source,
			target: []string{"ALLOW READ bob primary.orders", "DENY READ carol primary.stock", "ALLOW READ bob primary.sto+", "ALLOW READ bob primary.+"},
			create: []string{"ALLOW READ alice primary.orders"},
			delete: []string{"DENY READ carol primary.stock", "ALLOW READ bob primary.+", "ALLOW READ bob primary.orders", "ALLOW READ bob primary.sto+"},
		},
		{
			name: "bindings of other topics are kept", topics: topics, remove: true, source: source, foreign: []string{"local"},
			target: []string{
				"ALLOW READ bob local", "ALLOW READ bob *", "ALLOW READ bob prim+", "ALLOW READ bob orders", "ALLOW READ bob primary.secret",
				"ALLOW READ bob primary.__x", "DENY READ bob other.+",
			},
			create: []string{"ALLOW READ alice primary.orders"},
		},
		{
			name: "bindings of principals that may write to remote topics are kept, as milena's own", topics: topics, remove: true, source: source,
			target: []string{
				"ALLOW WRITE milena primary.+", "ALLOW READ milena primary.+", "ALLOW CREATE milena primary.+", "ALLOW ALTER milena primary.orders",
				"ALLOW ALL admin *", "DENY READ admin primary.orders", "ALLOW WRITE fixer primary.orders", "ALLOW READ fixer primary.orders", "ALLOW READ fixer primary.stock",
			},
			create: []string{"ALLOW READ alice primary.orders"},
			delete: []string{"ALLOW READ fixer primary.stock"},
		},
		{
			name: "bindings of other flows' topics are kept while the source has them", topics: topics, remove: true, source: []string{"ALLOW READ alice payroll-+"},
			target: []string{"ALLOW READ alice primary.payroll-+"}, inStep: 1,
		},
		{
			name: "a remote topic whose source topic is gone keeps what the source still grants", topics: []string{"stock"}, remove: true, source: source,
			target: []string{"ALLOW READ alice primary.orders", "ALLOW READ bob primary.orders"}, inStep: 1, delete: []string{"ALLOW READ bob primary.orders"},
		},
		{name: "a source without any binding deletes nothing", topics: topics, remove: true, target: []string{"ALLOW READ bob primary.orders"}},
		{
			name: "under identity only on topics that are copied", naming: "identity", topics: topics, remove: true, source: source, foreign: []string{"local", "stock-local"},
			target: []string{"ALLOW READ bob orders", "ALLOW READ bob ord+", "ALLOW READ bob local", "ALLOW READ bob stock+", "ALLOW READ bob gone", "ALLOW READ bob *"},
			create: []string{"ALLOW READ alice orders"}, delete: []string{"ALLOW READ bob ord+", "ALLOW READ bob orders"},
		},
		{
			name: "under a rename table only on its topics by name", naming: "rename", rename: map[string]string{"orders": "x"}, topics: topics, remove: true, source: source,
			target: []string{"ALLOW READ bob x", "ALLOW READ bob x+", "ALLOW READ bob stock"},
			create: []string{"ALLOW READ alice x"}, delete: []string{"ALLOW READ bob x"},
		},
	})
}

// In any state of both clusters, ACLs must not allow more on a topic of the target than on the topic it is copied
// from.
func FuzzDiffACLsNeverWiden(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Add(uint64(0x123456789abcdef), uint64(0xfedcba987654321))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		names := []string{"o", "or", "orders", "orders-eu", "p", "heartbeats"}
		patterns := []string{"*", "o+", "or+", "orders-+", "p+", "heart+", "o", "orders", "heartbeats", "primary.heartbeats", "primary.+"}
		pick := func(from []string, bits uint64) (chosen []string) {
			for i, s := range from {
				if bits>>i&1 == 1 {
					chosen = append(chosen, s)
				}
			}
			return chosen
		}
		for _, naming := range []string{"prefix", "identity", "rename"} {
			flow := config.DefaultFlow("primary", "dr")
			flow.Naming, flow.TopicsExclude = naming, []string{"p"}
			if naming == "rename" {
				flow.Rename = map[string]string{"o": "orders", "orders": "o", "p": "q"}
			}
			rules, err := policy.NewTopics(flow, "primary", "dr")
			if err != nil {
				t.Fatal(err)
			}
			state := policy.ACLState{Copied: map[string]string{}}
			for _, name := range pick(names, a) {
				if target, reason := rules.Target(name); reason == "" {
					state.Copied[name] = target
				}
			}
			state.TargetTopics = slices.AppendSeq(pick([]string{"local", "o-local", "orders-local", "heartbeats"}, a>>8), maps.Values(state.Copied))
			for _, pattern := range pick(patterns, b) {
				state.Source = append(state.Source, acl(t, "ALLOW READ alice "+pattern))
			}
			for _, pattern := range pick(patterns, b>>16) {
				state.Source = append(state.Source, acl(t, "DENY READ alice "+pattern))
			}
			after := rules.DiffACLs(state).Create
			back := map[string]string{}
			for source, target := range state.Copied {
				back[target] = source
			}
			for _, topic := range state.TargetTopics {
				source, isCopy := back[topic]
				want := isCopy && mayRead(state.Source, source)
				if got := mayRead(after, topic); got != want {
					t.Errorf("%s: topic %s (copy of %q): may be read is %v, want %v\nsource %v\ntarget %v", naming, topic, source, got, want, short(state.Source), short(after))
				}
				if !isCopy && slices.ContainsFunc(after, func(a policy.ACL) bool { return covers(a, topic) }) {
					t.Errorf("%s: topic %s, which is not a remote topic, is covered by %v", naming, topic, short(after))
				}
			}
		}
	})
}

func covers(a policy.ACL, topic string) bool {
	if a.Prefixed {
		return strings.HasPrefix(topic, a.Name)
	}
	return a.Name == "*" || a.Name == topic
}

// mayRead decides as Kafka's authorizer does.
func mayRead(list []policy.ACL, topic string) bool {
	allowed := false
	for _, a := range list {
		if covers(a, topic) {
			if a.Deny {
				return false
			}
			allowed = true
		}
	}
	return allowed
}
