package freeze

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
)

// parse reads bindings such as "ALLOW WRITE alice orders", where orders+ is a prefix. A fifth word is the host.
func parse(t *testing.T, texts []string) (all []policy.ACL) {
	t.Helper()
	for _, text := range texts {
		words := append(strings.Fields(text), "*")
		name, prefixed := strings.CutSuffix(words[3], "+")
		all = append(all, policy.ACL{Deny: words[0] == "DENY", Operation: words[1], Principal: "User:" + words[2], Name: name, Prefixed: prefixed, Host: words[4]})
	}
	return all
}

// texts are the grants of a topic as "DENY WRITE alice"; those that exist end in "exists".
func texts(t TopicACLs) (all []string) {
	for i, grants := range [][]Grant{t.Create, t.Found} {
		for _, g := range grants {
			text := "ALLOW "
			if g.Deny {
				text = "DENY "
			}
			all = append(all, text+g.Operation+" "+strings.TrimPrefix(g.Principal, "User:")+[]string{"", " exists"}[i])
		}
	}
	return all
}

const allRights int32 = 1<<kmsg.ACLOperationRead | 1<<kmsg.ACLOperationWrite | 1<<kmsg.ACLOperationCreate | 1<<kmsg.ACLOperationDelete |
	1<<kmsg.ACLOperationAlter | 1<<kmsg.ACLOperationDescribe | 1<<kmsg.ACLOperationDescribeConfigs | 1<<kmsg.ACLOperationAlterConfigs

const readWrite int32 = 1<<kmsg.ACLOperationRead | 1<<kmsg.ACLOperationWrite | 1<<kmsg.ACLOperationDescribe

func TestPlan_acls(t *testing.T) {
	readOnly := readWrite &^ (1 << kmsg.ACLOperationWrite)
	true_, false_ := true, false
	milena := []string{"ALLOW READ milena *", "ALLOW WRITE milena *"}
	openExcept := []string{"ALLOW READ *", "ALLOW CREATE *", "ALLOW DELETE *", "ALLOW ALTER *", "ALLOW DESCRIBE *", "ALLOW DESCRIBE_CONFIGS *", "ALLOW ALTER_CONFIGS *", "ALLOW WRITE milena"}
	for _, c := range []struct {
		name     string
		bindings []string
		options  Options
		rights   map[string]int32
		hidden   bool
		want     map[string][]string // by topic
		refused  string
		note     string
	}{
		{
			name: "milena only reads", bindings: []string{"ALLOW WRITE alice orders", "ALLOW READ milena *"}, options: Options{Topics: []string{"orders", "stock"}},
			want: map[string][]string{"orders": {"DENY WRITE *"}, "stock": {"DENY WRITE *"}},
		},
		{
			name: "milena writes", options: Options{Topics: []string{"orders", "stock"}, Writes: true}, rights: map[string]int32{"orders": readWrite, "stock": readWrite},
			bindings: append([]string{"ALLOW WRITE alice orders", "ALLOW ALL bob ord+", "ALLOW WRITE carol * 10.0.0.1", "ALLOW READ erin *", "ALLOW WRITE zoe other", "ALLOW WRITE zoe orders-+", "DENY WRITE mallory orders"}, milena...),
			want:     map[string][]string{"orders": {"DENY WRITE alice", "DENY WRITE bob", "DENY WRITE carol"}, "stock": {"DENY WRITE carol"}},
		},
		{
			name: "what exists is not ours", options: Options{Topics: []string{"orders"}, Writes: true}, rights: map[string]int32{"orders": readWrite},
			bindings: append([]string{"ALLOW WRITE alice orders", "ALLOW WRITE bob orders", "DENY WRITE alice orders", "DENY WRITE bob orders 10.0.0.1", "DENY WRITE bob ord+"}, milena...),
			want:     map[string][]string{"orders": {"DENY WRITE bob", "DENY WRITE alice exists"}},
		},
		{
			name: "milena is a super user", options: Options{Topics: []string{"orders"}, Writes: true}, rights: map[string]int32{"orders": allRights},
			bindings: []string{"ALLOW WRITE alice orders"}, want: map[string][]string{"orders": {"DENY WRITE *"}},
		},
		{
			name: "everyone may write, and milena must", options: Options{Topics: []string{"orders"}, Writes: true}, rights: map[string]int32{"orders": readWrite},
			bindings: append([]string{"ALLOW WRITE * orders"}, milena...), refused: "replace it by ACLs of the producers' principals, make milena a super user, or use --freeze quota",
		},
		{
			name: "everyone may write, and milena need not", options: Options{Topics: []string{"orders"}}, bindings: []string{"ALLOW WRITE * *"},
			want: map[string][]string{"orders": {"DENY WRITE *"}},
		},
		{
			name: "milena may not write", options: Options{Topics: []string{"orders"}, Writes: true}, rights: map[string]int32{"orders": readOnly},
			bindings: []string{"ALLOW READ milena *"}, refused: "is to write to orders of cluster east while they are frozen and may not; grant WRITE",
		},
		{
			name: "nobody may write but milena", options: Options{Topics: []string{"orders"}, Writes: true}, rights: map[string]int32{"orders": readWrite},
			bindings: milena, want: map[string][]string{"orders": nil}, note: "no ACL allows anyone to write to orders",
		},
		{
			name: "a topic without ACL is open", options: Options{Topics: []string{"free", "orders"}}, hidden: true,
			bindings: []string{"ALLOW READ milena orders"}, rights: map[string]int32{"free": allRights, "orders": readOnly},
			want: map[string][]string{"free": {"ALLOW ALL *", "DENY WRITE *"}, "orders": {"DENY WRITE *"}}, note: "1 topic without an ACL, so open to everyone",
		},
		{
			name: "a topic without ACL is open, and milena writes", options: Options{Topics: []string{"free", "orders"}, Writes: true}, hidden: true,
			bindings: []string{"ALLOW READ milena orders", "ALLOW WRITE milena orders"}, rights: map[string]int32{"free": allRights, "orders": readWrite},
			want: map[string][]string{"free": openExcept, "orders": nil},
		},
		{
			name: "a topic without ACL is closed", options: Options{Topics: []string{"free", "orders"}}, hidden: true,
			bindings: []string{"ALLOW READ milena orders"}, rights: map[string]int32{"free": 0, "orders": readOnly},
			want: map[string][]string{"free": {"DENY WRITE *"}, "orders": {"DENY WRITE *"}},
		},
		{
			name: "a topic without ACL may be open: a super user cannot tell", options: Options{Topics: []string{"free", "orders"}}, hidden: true,
			bindings: []string{"ALLOW READ alice orders"}, rights: map[string]int32{"free": allRights, "orders": allRights},
			refused: "no ACL of cluster east applies to free.",
		},
		{
			name: "people say that it is open", options: Options{Topics: []string{"free"}, Everyone: &true_}, hidden: true,
			want: map[string][]string{"free": {"ALLOW ALL *", "DENY WRITE *"}},
		},
		{
			name: "people say that it is closed", options: Options{Topics: []string{"free"}, Everyone: &false_}, hidden: true,
			want: map[string][]string{"free": {"DENY WRITE *"}},
		},
		{
			name: "brokers do not have the key", options: Options{Topics: []string{"free"}},
			want: map[string][]string{"free": {"DENY WRITE *"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.options.Cluster = "east"; c.options.Principals == nil {
				c.options.Principals = []string{"User:milena"}
			}
			a, p := newAccess(parse(t, c.bindings), c.options.Principals), &Plan{}
			if a.hidden = c.hidden; c.rights != nil {
				a.rights = c.rights
			}
			a.plan(c.options, p)
			if said := fmt.Sprint(p.Rows); p.OK() != (c.refused == "") || !strings.Contains(said, c.refused) {
				t.Fatalf("want refusal %q, got %s", c.refused, said)
			}
			if c.note != "" && !strings.Contains(fmt.Sprint(p.Notes), c.note) {
				t.Errorf("notes %q", p.Notes)
			}
			got := map[string][]string{}
			for _, acls := range p.Memory.ACLs {
				for _, topic := range acls.Topics {
					got[topic] = texts(acls)
				}
			}
			if diff := cmp.Diff(c.want, got); p.OK() && diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The memory of a thousand topics and many principals fits into a record.
func TestMemory_topicsWithTheSameACLsAreOne(t *testing.T) {
	t.Parallel()
	bindings := []string{"ALLOW WRITE alice orders-0001"}
	for i := range 20 {
		bindings = append(bindings, fmt.Sprintf("ALLOW WRITE u%02d orders-+", i))
	}
	o := Options{Writes: true, Principals: []string{"User:milena"}}
	for i := range 1000 {
		o.Topics = append(o.Topics, fmt.Sprintf("orders-%04d", i))
	}
	p := &Plan{}
	newAccess(parse(t, bindings), o.Principals).plan(o, p)
	if n := len(p.Memory.ACLs); n != 2 || len(p.Memory.topics()) != 1000 {
		t.Errorf("%d elements, %d topics", n, len(p.Memory.topics()))
	}
	all := slices.Concat(p.Memory.created()...)
	if len(all) != 20*1000+1 {
		t.Errorf("%d bindings", len(all))
	}
	for _, request := range p.Memory.created() {
		if len(request) > aclsPerRequest {
			t.Errorf("a request has %d bindings", len(request))
		}
	}
}

func TestEffective_asBrokersLook(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	order := []Entity{
		{text("u"), text("c")},
		{text("u"), text("")},
		{text("u"), nil},
		{text(""), text("c")},
		{text(""), text("")},
		{text(""), nil},
		{nil, text("c")},
		{nil, text("")},
	}
	var all []quota
	for i, e := range order {
		all = append(all, quota{e, float64(i)})
	}
	for i := range order {
		if got := effective(all[i:], "u", "c"); got == nil || *got != float64(i) {
			t.Errorf("without the first %d: %v", i, got)
		}
	}
	if effective(nil, "u", "c") != nil {
		t.Error("a rate from nowhere")
	}
}
