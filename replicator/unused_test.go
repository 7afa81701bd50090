package replicator_test

import (
	"strings"
	"testing"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// unused is what a status says of the items that select nothing.
func unused(s replicator.Status) string {
	var lines []string
	for _, u := range s.Unused {
		lines = append(lines, u.String())
	}
	return strings.Join(lines, "\n")
}

// An item of a list that selects nothing is in the log and in the status until it selects something.
func TestUnusedItemsAreToldUntilTheySelectSomething(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.CreateTopic("__audit", 1)
	c.Source.Produce("orders", 1, 10, "before")
	c.Source.Commit("billing", "orders", 0, 5)
	flow := c.Start(replicatortest.FastTopics, replicatortest.FastGroups, func(f *config.Flow) {
		f.Topics, f.Groups = []string{"orders", "paymnets", "__audit", `late\..*`}, []string{`"billing"`}
	})
	want := `topics: "paymnets" is no topic that milena can see
topics: "__audit" is left out: it is an internal topic of Kafka, Connect, MirrorMaker 2 or milena
topics: "late\\..*" matches no topic yet
groups: "\"billing\"" matches no group, because its quotes are part of the expression; remove them`
	flow.Until("all items are told", func(s replicator.Status) bool { return s.Ready && unused(s) == want })
	flow.UntilLogged(`item=paymnets`)
	flow.UntilLogged(`item="\"billing\""`)
	c.Source.CreateTopic("payments", 1)
	flow.Until("a topic is suggested", func(s replicator.Status) bool { return strings.Contains(unused(s), `did you mean "payments"?`) })
	c.Source.CreateTopic("late.one", 1)
	c.Source.CreateTopic("paymnets", 1)
	flow.Until("nothing but what stays left out", func(s replicator.Status) bool {
		return len(s.Unused) == 2 && s.Unused[0].Item == "__audit" && s.Unused[1].List == "groups"
	})
}
