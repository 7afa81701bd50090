package replicator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/membership"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// The coordinator does not say at first which instances have shards. One of them answers that the flow has stopped, and another one does not: it is missed.
func TestStopWaitsForInstancesThatAreNotKnownAtFirst(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(replicatortest.FastJournal)
	flow.UntilReady()
	c.Mute("mute")
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

// A flow that is stopped changes no config either, also when it begins: the copies may have others, as clients use them now.
func TestStoppedFlowChangesNoConfig(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(replicatortest.FastJournal, replicatortest.FastTopics)
	flow.UntilReady()
	c.Decide(control.Done, control.FailOver, control.Scope{Kind: control.Flow})
	flow.Stop()
	c.Target.SetTopicConfig("a.orders", "retention.ms", "123456789")
	flow = c.Start(replicatortest.FastJournal, replicatortest.FastTopics)
	flow.UntilTopicSyncs(3)
	if value, _ := c.Target.TopicConfig("a.orders", "retention.ms"); value != "123456789" {
		t.Errorf("retention.ms of the copy is %s", value)
	}
}

// The shards of an instance are not fenced yet, so an earlier one may still write. The answer that nothing is in flight comes only once they are.
func TestStopWaitsForFences(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	unfenced := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorNotAvailable, Count: -1})
	flow := c.Start(replicatortest.FastJournal)
	flow.Until("it has shards", func(s replicator.Status) bool { return s.Instance.Held > 0 })
	c.Decide(control.Done, control.Pause, control.OfTopic("other")) // it acts on decisions
	const flushed = 5 * time.Second                                 // longer than a journal is waited for that cannot be written
	stop := replicatortest.NewDecision(control.StopFlow, control.Scope{Kind: control.Flow})
	if s := c.SubmitWithin(flushed, stop); len(s.Outcomes) > 0 {
		t.Errorf("%+v", s.Outcomes)
	}
	unfenced.Remove()
	replicatortest.Eventually(t, "the instance answers", func() (bool, string) {
		all := c.ControlState().Outcomes(stop.ID)
		return len(all) == 1 && strings.HasSuffix(all[0].Detail, "nothing is in flight"), fmt.Sprintf("%+v", all)
	})
}

// A partition that the source does not have any more is stopped like any other. The answer comes although it is only found after the stop.
func TestStopOfAPartitionThatIsGone(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 10, "first")
	flow := c.Start(replicatortest.FastJournal)
	flow.UntilCopied("orders")
	flow.Stop()
	c.Source.RecreateTopic("orders", 1)
	stop := replicatortest.NewDecision(control.StopFlow, control.Scope{Kind: control.Flow})
	c.SubmitWithin(0, stop)
	c.Start(replicatortest.FastJournal)
	replicatortest.Eventually(t, "the instance answers", func() (bool, string) {
		return len(c.ControlState().Outcomes(stop.ID)) == 1, ""
	})
}
