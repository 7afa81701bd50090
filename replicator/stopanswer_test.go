package replicator_test

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/membership"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// mute joins an instance that has shards of the flow and answers to nothing.
func mute(t *testing.T, c *replicatortest.Clusters) {
	t.Helper()
	assigned := make(chan struct{}, 100)
	none := func(error) {}
	member, err := membership.Join(t.Context(), membership.Config{
		Options: []kgo.Opt{kgo.SeedBrokers(c.Target.ListenAddrs()...)}, Cluster: "b", Group: membership.GroupName("a-b"), Topic: offsets.JournalTopic("a-b"), Instance: "mute",
		Info: func() membership.Info { return membership.Info{Version: "test", Process: "mute"} },
		Assigned: func(shards []int32) {
			if len(shards) > 0 {
				assigned <- struct{}{}
			}
		},
		Settled: func() {}, Revoked: func([]int32) {}, Lost: none, Failed: none, Retried: none, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Close)
	replicatortest.Await(t, "the mute instance has shards", assigned)
}

// The coordinator does not say at first which instances have shards. One of them answers that the flow has stopped, and another one does not: it is missed.
func TestStopWaitsForInstancesThatAreNotKnownAtFirst(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(replicatortest.FastJournal)
	flow.UntilReady()
	mute(t, c)
	hidden := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeGroups}, Group: membership.GroupName("a-b"), Err: kerr.GroupAuthorizationFailed, Count: -1})
	time.AfterFunc(time.Second, func() { hidden.Remove() })
	s := c.SubmitWithin(4*time.Second, replicatortest.NewDecision(control.StopFlow, control.Scope{Kind: control.Flow}))
	if len(s.Outcomes) != 1 || !slices.Equal(s.Missing, []string{"mute"}) || s.Unknown != "" {
		t.Errorf("%+v", s)
	}
}

// An instance that begins after the others have answered has read that the flow is stopped, and says so, too: whoever asked waits for all with shards.
func TestInstanceThatBeginsWhileTheFlowIsStoppedAnswers(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Instance = "one"
	one := c.Start(replicatortest.FastJournal)
	one.UntilReady()
	s := c.Decide(control.Done, control.StopFlow, control.Scope{Kind: control.Flow})
	c.Instance = "two"
	c.Start(replicatortest.FastJournal)
	replicatortest.Eventually(t, "the second instance answers", func() (bool, string) {
		o, ok := c.ControlState().Outcome(s.Decisions[0].ID, "two")
		return ok && o.Result == control.Done, o.Detail
	})
}
