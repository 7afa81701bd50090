package recovery_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/recovery"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// pair are two clusters with a flow in each direction.
type pair struct {
	*replicatortest.Clusters
	t           *testing.T
	there, back client.Clusters
	forth, home *replicatortest.Flow
}

func newPair(t *testing.T, changes ...func(*config.Flow)) *pair {
	t.Helper()
	p := &pair{Clusters: replicatortest.NewClusters(t, 1), t: t}
	p.GroupsBack = []string{".*"}
	p.Source.CreateTopic("orders", 2)
	p.Target.CreateTopic("orders", 2)
	changes = append([]func(*config.Flow){replicatortest.FastJournal, replicatortest.FastGroups, replicatortest.FastTopics}, changes...)
	p.forth, p.home = p.Start(changes...), p.StartReverse(changes...)
	p.there, p.back = p.AsCommand(), p.ReverseAsCommand()
	return p
}

func (p *pair) ready() {
	p.t.Helper()
	p.forth.UntilReady()
	p.home.UntilReady()
	p.forth.UntilCopied("orders")
	p.home.UntilCopied("orders")
}

func (p *pair) options() recovery.Options {
	return recovery.Options{Who: "alice", Reason: "a test", Freeze: freeze.None, MaxLag: 1000}
}

func (p *pair) switchOver(from client.Clusters, to client.Clusters) (*recovery.Report, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	o := p.options()
	o.Watch = func(e recovery.Event) { p.t.Logf("%+v", e) }
	return recovery.SwitchOver(ctx, from, &to, o)
}

// Clients move to the target and back home, and groups continue at the record that they have not read.
func TestSwitchOverAndBack(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.Source.Commit("billing", "orders", 0, 50)
	p.Source.Commit("billing", "orders", 1, 100)
	p.ready()
	report, err := p.switchOver(p.there, p.back)
	if err != nil {
		t.Fatalf("%v\n%+v", err, report)
	}
	if report.State != control.RecoveryDone || report.Groups != 1 || report.Positions != 2 || report.Clients == nil {
		t.Errorf("%+v", report)
	}
	if at, _ := p.Target.Committed("billing", "a.orders", 0); at != p.TargetOffset("orders", 0, 50) {
		t.Errorf("the group is at %d", at)
	}
	if d := p.ControlState().Stopped(); d == nil {
		t.Error("the flow is not stopped")
	}
	p.Target.Commit("billing", "a.orders", 0, p.TargetOffset("orders", 0, 80))
	p.Target.Produce("orders", 2, 100, "second")
	p.home.UntilCopied("orders")
	if report, err = p.switchOver(p.back, p.there); err != nil {
		t.Fatalf("%v\n%+v", err, report)
	}
	if at, _ := p.Source.Committed("billing", "orders", 0); at != 80 {
		t.Errorf("at home, the group is at %d", at)
	}
	if d := p.ControlState().Stopped(); d != nil {
		t.Errorf("the flow is stopped: %+v", d)
	}
	p.Source.Produce("orders", 2, 100, "third")
	p.forth.UntilCopied("orders")
	p.Verify("orders", "a.orders", 2)
}

// The history of a flow has its switchovers.
func TestHistoryHasSwitchovers(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.ready()
	if _, err := p.switchOver(p.there, p.back); err != nil {
		t.Fatal(err)
	}
	h, err := fleet.ReadHistory(t.Context(), p.there, fleet.HistoryFilter{Kinds: []string{fleet.KindRecovery}})
	if err != nil || len(h.Entries) != 1 {
		t.Fatalf("%v: %+v", err, h)
	}
	if r := h.Entries[0].Recovery; r.What != "switchover" || r.Who != "alice" || r.State != control.RecoveryDone || r.Held {
		t.Errorf("%+v", r)
	}
}

// A group reads on in the copy until just before the switchover back, sooner than the next sync of groups: it continues at home where it is.
func TestSwitchBackAtOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t, func(f *config.Flow) { f.GroupsInterval = time.Hour })
	p.Source.Produce("orders", 2, 100, "first")
	p.Source.Commit("billing", "orders", 0, 50)
	p.ready()
	if report, err := p.switchOver(p.there, p.back); err != nil {
		t.Fatalf("%v\n%+v", err, report)
	}
	p.Target.Commit("billing", "a.orders", 0, p.TargetOffset("orders", 0, 80))
	report, err := p.switchOver(p.back, p.there)
	if err != nil || report.Groups != 1 || report.Positions != 1 {
		t.Fatalf("%v\n%+v", err, report)
	}
	if at, _ := p.Source.Committed("billing", "orders", 0); at != 80 {
		t.Errorf("at home, the group is at %d", at)
	}
}

// A group that has read only copies has no home to go back to. The switchover says so and is undone, until the group is put there by hand.
func TestSwitchBackOfAGroupWithoutHome(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.ready()
	if report, err := p.switchOver(p.there, p.back); err != nil {
		t.Fatalf("%v\n%+v", err, report)
	}
	p.Target.Commit("audit", "a.orders", 1, p.TargetOffset("orders", 1, 30))
	report, err := p.switchOver(p.back, p.there)
	if err == nil || report.State == control.RecoveryDone || !strings.Contains(err.Error(), "milena translate --flow a-b --group audit --reverse --commit") {
		t.Fatalf("%v\n%+v", err, report)
	}
	p.Source.Commit("audit", "orders", 1, 30)
	if report, err = p.switchOver(p.back, p.there); err != nil || report.Positions != 1 {
		t.Fatalf("%v\n%+v", err, report)
	}
}

// A group whose position on the target a person has set is not moved. The switchover names it once, and the command that lets it follow.
func TestSwitchOverOfAGroupThatStandsElsewhere(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.ready()
	for n := range int32(2) {
		p.Target.Commit("billing", "a.orders", n, p.TargetOffset("orders", n, 10))
		p.Source.Commit("billing", "orders", n, 50)
	}
	report, err := p.switchOver(p.there, p.back)
	if err == nil || report.State != control.RecoveryUndone || strings.Count(err.Error(), "milena groups adopt billing --flow a-b --reason TEXT") != 1 || !strings.Contains(err.Error(), "(and 1 position like it)") {
		t.Fatalf("%v\n%+v", err, report)
	}
	p.Decide(control.Done, control.Adopt, control.Scope{Kind: control.Group, Group: "billing"})
	if report, err = p.switchOver(p.there, p.back); err != nil || report.Positions != 2 {
		t.Fatalf("%v\n%+v", err, report)
	}
}

// A member has read records and has not committed any. The switchover waits for it: without a position, it would read all of them again on the target.
func TestSwitchOverWaitsForAFirstCommit(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.ready()
	member, err := kgo.NewClient(kgo.SeedBrokers(p.Source.ListenAddrs()...), kgo.ConsumerGroup("slow"), kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	read := 0
	for read < 200 {
		read += member.PollFetches(t.Context()).NumRecords()
	}
	waited := false
	o := p.options()
	o.Watch = func(e recovery.Event) {
		if e.Step.Name == recovery.StepGroups && strings.Contains(e.Waiting, "slow (has committed nothing in orders-0)") && !waited {
			waited = true
			if err := member.CommitUncommittedOffsets(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	report, err := recovery.SwitchOver(ctx, p.there, &p.back, o)
	if err != nil || !waited || report.Positions != 2 {
		t.Fatalf("it waited: %v; %v\n%+v", waited, err, report)
	}
	for partition := range int32(2) {
		if at, _ := p.Target.Committed("slow", "a.orders", partition); at != p.TargetOffset("orders", partition, 100) {
			t.Errorf("the group is at %d", at)
		}
	}
}

// A group without members has an open transaction that commits a position: it may still move. The switchover waits until that has ended.
func TestSwitchOverWaitsForPositionsInATransaction(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.Source.Commit("billing", "orders", 0, 50)
	p.ready()
	id := "exactly-once"
	begin := kmsg.NewPtrInitProducerIDRequest()
	begin.TransactionalID, begin.TransactionTimeoutMillis = &id, 60_000
	producer, err := begin.RequestWith(t.Context(), p.Source.Client)
	if err != nil {
		t.Fatal(err)
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = id, producer.ProducerID, producer.ProducerEpoch, "billing"
	if _, err := add.RequestWith(t.Context(), p.Source.Client); err != nil {
		t.Fatal(err)
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group, commit.Generation = id, producer.ProducerID, producer.ProducerEpoch, "billing", -1
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = "orders", p.Source.TopicInfo("orders").TopicID
	partition := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	partition.Offset = 80
	topic.Partitions = append(topic.Partitions, partition)
	commit.Topics = append(commit.Topics, topic)
	if answer, err := commit.RequestWith(t.Context(), p.Source.Client); err != nil || answer.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("%v: %+v", err, answer)
	}
	waited := false
	o := p.options()
	o.Watch = func(e recovery.Event) {
		if e.Step.Name == recovery.StepGroups && strings.Contains(e.Waiting, "billing (a transaction is open") && !waited {
			waited = true
			end := kmsg.NewPtrEndTxnRequest()
			end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = id, producer.ProducerID, producer.ProducerEpoch, true
			if _, err := end.RequestWith(t.Context(), p.Source.Client); err != nil {
				t.Error(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	report, err := recovery.SwitchOver(ctx, p.there, &p.back, o)
	if err != nil || !waited {
		t.Fatalf("it waited: %v; %v\n%+v", waited, err, report)
	}
	if at, _ := p.Target.Committed("billing", "a.orders", 0); at != p.TargetOffset("orders", 0, 80) {
		t.Errorf("the group is at %d", at)
	}
}

// The flow back was failed over, and the switchover that has started it is undone: it is failed over again, and not only stopped.
func TestSwitchOverIsUndoneAfterTheFlowBackWasStarted(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.ready()
	d := control.New(control.FailOver, control.Scope{Kind: control.Flow}, "bob", "power")
	if _, err := control.Submit(t.Context(), p.back, time.Minute, d); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := p.options()
	o.Watch = func(e recovery.Event) {
		if e.Step.Name == recovery.StepReverse && e.Step.Result == recovery.OK {
			cancel()
		}
	}
	report, err := recovery.SwitchOver(ctx, p.there, &p.back, o)
	_, state, done, openErr := control.Open(t.Context(), p.back)
	if openErr != nil {
		t.Fatal(openErr)
	}
	defer done()
	if stopped := state.Stopped(); err == nil || report.State != control.RecoveryUndone || stopped == nil || stopped.What != control.FailOver {
		t.Errorf("%v: %+v\n%+v", err, stopped, report)
	}
	if p.ControlState().Stopped() != nil {
		t.Error("the flow is stopped")
	}
}
