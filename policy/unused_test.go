package policy_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

// Every item that selects nothing is named, with what somebody may have meant. A pattern that may match later is a notice.
func TestTopics_Unused(t *testing.T) {
	names := []string{"orders", "orders-v2", "payments", "Invoices", "clicks.eu", "clicks.us", "__audit", "orders.b.v1", "geo", "geo.internal", "logs-1"}
	for item, want := range map[string]string{
		".*":                "",
		"orders":            "",
		"orders|payments":   "",
		`clicks\..*`:        "",
		"clicks.eu":         "",
		"heartbeats":        `topics: "heartbeats" is no topic that milena can see`,
		"paymnets":          `topics: "paymnets" is no topic that milena can see; did you mean "payments"?`,
		"orders|paymnets":   `topics: "paymnets" is no topic that milena can see; did you mean "payments"?`,
		"(orders|paymnets)": `topics: "paymnets" is no topic that milena can see; did you mean "payments"?`,
		"invoices":          `topics: "invoices" is no topic that milena can see; did you mean "Invoices"?`,
		"clicks":            `topics: "clicks" is no topic that milena can see, because an item matches whole names; to select those that begin with it, such as clicks.eu, use clicks.*`,
		"clicks.*":          "",
		"logs-*":            `topics: "logs-*" matches no topic, because * only repeats the character before it; use logs-.*`,
		"'orders'":          `topics: "'orders'" matches no topic, because its quotes are part of the expression; remove them`,
		`"orders`:           `topics: "\"orders" matches no topic, because its quotes are part of the expression; remove them`,
		"orders;payments":   `topics: "orders;payments" matches no topic, because a ; separates nothing; separate items with commas`,
		"orders payments":   `topics: "orders payments" matches no topic, because of its blank; separate items with commas, and end a line that continues with nothing behind the backslash`,
		"warehouse":         `topics: "warehouse" is no topic that milena can see`,
		`warehouse\..*`:     `notice topics: "warehouse\\..*" matches no topic yet`,
		`ware(house|hut)`:   `notice topics: "ware(house|hut)" matches no topic yet`,
		"__audit":           `topics: "__audit" is left out: it is an internal topic of Kafka, Connect, MirrorMaker 2 or milena`,
		"orders.b.v1":       `topics: "orders.b.v1" is left out: it comes from the target cluster, so copying it back would create a cycle`,
		`__a.*`:             `topics: "__a.*" matches only topics that are left out: __audit is an internal topic of Kafka, Connect, MirrorMaker 2 or milena`,
		"geo":               `topics: "geo" is left out: it matches topics_exclude`,
	} {
		f := prefixFlow()
		f.Topics, f.TopicsExclude = []string{item}, append(f.TopicsExclude, "geo")
		var got string
		for _, u := range mustTopics(t, f, "a", "b").Unused(names) {
			if u.Notice {
				got += "notice "
			}
			got += u.String()
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", item, got, want)
		}
	}
}

// What MirrorMaker 2 and milena exclude by default need not match anything.
func TestTopics_Unused_excludes(t *testing.T) {
	f := prefixFlow()
	f.TopicsExclude = append(f.TopicsExclude, `.*[\-\.]internal`, "(.*\\.)?heartbeats", "paymnets", "secret-.*")
	want := []policy.UnusedItem{
		{List: "topics_exclude", Item: "paymnets", Reason: `is no topic that milena can see; did you mean "payments"?`},
		{List: "topics_exclude", Item: "secret-.*", Reason: "matches no topic yet", Notice: true},
	}
	if diff := cmp.Diff(want, mustTopics(t, f, "a", "b").Unused([]string{"payments"})); diff != "" {
		t.Error(diff)
	}
}

func TestTopics_Unused_rename(t *testing.T) {
	f := prefixFlow()
	f.Naming, f.Topics, f.Rename = "rename", nil, map[string]string{"orders": "o", "paymnets": "p", "geo.replica": "g"}
	want := []policy.UnusedItem{
		{List: "rename", Item: "geo.replica", Reason: "is left out: it matches topics_exclude"},
		{List: "rename", Item: "paymnets", Reason: `is no topic that milena can see; did you mean "payments"?`},
	}
	if diff := cmp.Diff(want, mustTopics(t, f, "a", "b").Unused([]string{"geo.replica", "orders", "payments"})); diff != "" {
		t.Error(diff)
	}
}

func TestGroups_Unused(t *testing.T) {
	f := config.DefaultFlow("a", "b")
	f.Groups, f.GroupsBack = []string{`"billing"`, "billing", "fraud-.*", "my group"}, []string{"biling"}
	groups, err := policy.NewGroups(f)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range groups.Unused([]string{"billing", "my group"}) {
		got = append(got, u.String())
	}
	want := []string{
		`groups: "\"billing\"" matches no group, because its quotes are part of the expression; remove them`,
		`groups: "fraud-.*" matches no group yet`,
		`groups_back: "biling" is no group that milena can see; did you mean "billing"?`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
