package plan

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// Of three groups on both clusters milena put one and MirrorMaker 2 is not known to have put any.
func TestCheckNamesGroupsThatStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	test := newCheckTest(t, func(f *config.Flow) { f.GroupsSync, f.Groups = true, []string{".*"} })
	test.Reverse = []config.Flow{config.DefaultFlow("dr", "primary")}
	test.create(test.source, "orders", 1, nil)
	test.create(test.target, "primary.orders", 1, nil)
	test.create(test.target, offsets.JournalTopic("primary-dr"), 4, map[string]string{"cleanup.policy": "compact"})
	source, target := kafkatest.Client(t, test.source), kafkatest.Client(t, test.target)
	commit := func(cl *kgo.Client, group, topic string, at int64) {
		var o kadm.Offsets
		o.Add(kadm.Offset{Topic: topic, At: at, LeaderEpoch: -1})
		if err := kadm.NewClient(cl).CommitAllOffsets(t.Context(), group, o); err != nil {
			t.Fatal(err)
		}
	}
	for _, group := range []string{"put", "moved", "theirs"} {
		commit(source, group, "orders", 5)
		commit(target, group, "primary.orders", 7)
	}
	commit(source, "new", "orders", 5)
	commit(target, "moved", "primary.orders", 8)
	manual, err := kgo.NewClient(kgo.SeedBrokers(test.target.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer manual.Close()
	placed := []offsets.PlacedOffset{{Source: 5, Put: 7, Before: 7}}
	for _, e := range []offsets.Entry{
		&offsets.Lineage{}, &offsets.GroupPositions{Group: "put", Topic: "primary.orders", Placed: placed}, &offsets.GroupPositions{Group: "moved", Topic: "primary.orders", Placed: placed},
	} {
		if err := manual.ProduceSync(t.Context(), &kgo.Record{Topic: offsets.JournalTopic("primary-dr"), Key: e.AppendKey(nil), Value: e.AppendValue(nil)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	warnings := strings.Join(test.check().Warnings, "\n")
	for _, want := range []string{
		"2 groups on cluster dr with committed offsets that milena did not put there, and leaves where they are: moved, theirs",
		"groups that consume copies on cluster primary are not moved back to their home on cluster dr: groups_back is not set",
	} {
		if !strings.Contains(warnings, want) {
			t.Errorf("check does not say %q:\n%s", want, warnings)
		}
	}
}

// Items of the lists that select nothing are in the plan, and do not keep the flow from running.
func TestCheckNamesItemsThatSelectNothing(t *testing.T) {
	test := newCheckTest(t, func(f *config.Flow) {
		f.Topics, f.TopicsExclude, f.Groups = []string{"orders", "paymnets", `late\..*`, "__audit"}, nil, []string{"biling"}
	})
	for _, topic := range []string{"orders", "payments", "__audit"} {
		test.create(test.source, topic, 1, nil)
	}
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: "orders", At: 0, LeaderEpoch: -1})
	if err := kadm.NewClient(kafkatest.Client(t, test.source)).CommitAllOffsets(t.Context(), "billing", o); err != nil {
		t.Fatal(err)
	}
	plan := test.check()
	var got []string
	for _, u := range plan.Unused {
		got = append(got, u.String())
	}
	wantLines(t, "unused", got,
		`topics: "paymnets" is no topic that milena can see; did you mean "payments"?`,
		`topics: "late\\..*" matches no topic yet`,
		`topics: "__audit" is left out: it is an internal topic`,
		`groups: "biling" is no group that milena can see; did you mean "billing"?`,
	)
	wantLines(t, "refusals", plan.Refused)
}

func TestCheckNamesGroupsThatAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, sync := range []bool{true, false} {
		test := newCheckTest(t, func(f *config.Flow) {
			f.GroupsSync, f.Groups, f.GroupsExclude = sync, []string{".*"}, []string{"left-out"}
		})
		test.create(test.source, "orders", 1, nil)
		groups := map[string]string{"billing": "consumer", "queue": "share", "totals": "streams", "left-out": "share"}
		for i := range groupsShown {
			groups["workers-"+string(rune('a'+i))] = "connect"
		}
		kafkatest.AnswerGroups(test.source, groups)
		warnings := strings.Join(test.check().Warnings, "\n")
		for _, want := range []string{
			"group queue on cluster primary is not followed: it is a share group (KIP-932)", "group totals on cluster primary is not followed: it is a Streams group (KIP-1071)",
			"group workers-a on cluster primary is not followed: it consists of Connect workers", "2 more groups on cluster primary are not followed, as they are no consumer groups",
		} {
			if !strings.Contains(warnings, want) {
				t.Errorf("check does not say %q:\n%s", want, warnings)
			}
		}
		if strings.Contains(warnings, "left-out") || strings.Contains(warnings, "billing") {
			t.Errorf("check names groups that are followed or left out:\n%s", warnings)
		}
	}
}
