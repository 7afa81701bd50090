package replicator_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// leftOut is a decision about the source offsets [from, to).
func leftOut(from, to int64) func(*control.Decision) {
	return func(d *control.Decision) { d.From, d.To = &from, &to }
}

// asHalted lets a decision to skip name what halts a partition, as the command does.
func asHalted(f *replicatortest.Flow, topic string, partition int32) func(*control.Decision) {
	a := f.UntilHalted(topic, partition)
	return func(d *control.Decision) { d.Halt = &control.Halt{Kind: a.Kind, From: a.From, To: max(a.From, a.To)} }
}

// wantGap checks that the ledger of a partition ends with a gap.
func wantGap(t *testing.T, f *replicatortest.Flow, kind, action string, from, to int64) {
	t.Helper()
	gaps := replicatortest.Partitions(f.Status(), "orders")[0].Gaps
	if len(gaps) == 0 {
		t.Fatal("the ledger is empty")
	}
	if g := gaps[len(gaps)-1]; g.Kind != kind || g.Action != action || g.From != from || g.To != to {
		t.Errorf("the ledger ends with %+v, want %s %s %d to %d", g, kind, action, from, to)
	}
}

// wantAfterRestart checks that a flow that is started again has nothing to say about the partition.
func wantAfterRestart(t *testing.T, c *replicatortest.Clusters, f *replicatortest.Flow) {
	t.Helper()
	f.Stop()
	f = c.Start(keepMessageLimit)
	f.UntilCopied("orders")
	if n := f.Metric("milena_anomalies_total", "topic", "orders", "action", "halt"); n > 0 {
		t.Errorf("%v anomalies after a restart", n)
	}
}

// gapped is a flow whose partition lost the records 20 to 29 before they were copied.
func gapped(t *testing.T) (*replicatortest.Clusters, *replicatortest.Flow, []string) {
	t.Helper()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "copied")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Source.Produce("orders", 1, 20, "later")
	source := c.Source.Texts("orders", 1)[0]
	c.Source.DeleteRecords("orders", 0, 30)
	flow = c.Start()
	flow.UntilHaltedBy("retention_gap", "orders", 0)
	return c, flow, append(source[:20:20], source[30:]...)
}

// A retry of what was not mended halts again and says so. A skip continues without a restart.
func TestSkipOfARetentionGap(t *testing.T) {
	t.Parallel()
	c, flow, want := gapped(t)
	s := c.Decide(control.Failed, control.Retry, replicatortest.TP("orders", 0))
	if d := s.Outcomes[0].Detail; !strings.Contains(d, "halted again at offset 20: retention_gap") {
		t.Errorf("the answer is %q", d)
	}
	flow.UntilHalted("orders", 0)
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 0), asHalted(flow, "orders", 0))
	flow.UntilCopied("orders")
	wantGap(t, flow, "retention_gap", "skip", 20, 30)
	replicatortest.MustEqual(t, "the copy without its gap", want, c.Target.Texts("a.orders", 1)[0])
	wantAfterRestart(t, c, flow)
}

// Offsets are left out up to one that a person names: never beyond the end of the source, never what nobody has seen, and by whom is in the ledger.
func TestSkipToAnOffset(t *testing.T) {
	t.Parallel()
	c, flow, want := gapped(t)
	tp := replicatortest.TP("orders", 0)
	for _, test := range []struct {
		from, to int64
		want     string
	}{{20, 41, "ends at offset 40 on the source"}, {25, 35, "nobody has seen"}} {
		s := c.Decide(control.Refused, control.Skip, tp, leftOut(test.from, test.to))
		if d := s.Outcomes[0].Detail; !strings.Contains(d, test.want) {
			t.Errorf("the answer is %q", d)
		}
	}
	c.Decide(control.Done, control.Skip, tp, leftOut(20, 32))
	flow.UntilCopied("orders")
	wantGap(t, flow, "retention_gap", "skip", 20, 32)
	gaps := replicatortest.Partitions(flow.Status(), "orders")[0].Gaps
	if d := gaps[len(gaps)-1].Detail; !strings.Contains(d, "left out by alice: a test") {
		t.Errorf("the ledger says %q", d)
	}
	replicatortest.MustEqual(t, "the copy", append(want[:20:20], want[22:]...), c.Target.Texts("a.orders", 1)[0])
	wantAfterRestart(t, c, flow)
}

// Records of a paused partition are left out, and those of one that is being copied are not.
func TestSkipOfAPausedPartition(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "first")
	flow := c.Start()
	flow.UntilCopied("orders")
	tp := replicatortest.TP("orders", 0)
	c.Decide(control.Done, control.Pause, tp)
	c.Source.Produce("orders", 1, 10, "second")
	flow.UntilPartitions("the end of the source is known", "orders", 1, func(p replicator.PartitionStatus) bool { return *p.SourceEnd == 20 })
	c.Decide(control.Done, control.Skip, tp, leftOut(10, 15))
	untilPaused(flow, "orders", 0)
	wantGap(t, flow, "left_out", "skip", 10, 15)
	flow.Stop()
	flow = c.Start()
	if p := untilPaused(flow, "orders", 0); p.Acked != 15 {
		t.Errorf("after a restart, the copy ends at %d", p.Acked)
	}
	c.Decide(control.Done, control.Resume, tp)
	flow.UntilCopied("orders")
	source := c.Source.Texts("orders", 1)[0]
	replicatortest.MustEqual(t, "the copy", append(source[:10:10], source[15:]...), c.Target.Texts("a.orders", 1)[0])
	c.Source.Produce("orders", 1, 10, "third")
	s := c.Submit(replicatortest.NewDecision(control.Skip, tp, leftOut(20, 100)))
	if o := s.Outcomes[0]; o.Result != control.Refused || !strings.Contains(o.Detail, "pause it first") {
		t.Errorf("%+v", o)
	}
}

// A record that is too large is copied by a retry once the limit is raised, or left out by a skip, which leaves out no neighbour.
func TestRepairOfARecordThatIsTooLarge(t *testing.T) {
	for name, skips := range map[string]bool{"retry": false, "skip": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 1)
			c.Target.CreateTopic("a.orders", 1, "max.message.bytes", "2000")
			var records []*kgo.Record
			for i := range 30 {
				value := make([]byte, 200)
				if i == 20 || i == 25 {
					value = make([]byte, 5000)
				}
				_, _ = rand.Read(value) // nothing that compresses
				records = append(records, &kgo.Record{Topic: "orders", Key: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil, "%x", value)})
			}
			c.Source.Write(records...)
			want := c.Source.Texts("orders", 1)[0]
			flow := c.Start(keepMessageLimit)
			flow.UntilHaltedBy("record_too_large", "orders", 0)
			if skips {
				c.Decide(control.Failed, control.Skip, replicatortest.TP("orders", 0), asHalted(flow, "orders", 0)) // the next one of the batch halts
				if a := flow.UntilHaltedBy("record_too_large", "orders", 0); a.From != 25 {
					t.Errorf("the second halt is at %d", a.From)
				}
				c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 0), asHalted(flow, "orders", 0))
				want = slices.Concat(want[:20], want[21:25], want[26:])
			} else {
				c.Target.SetTopicConfig("a.orders", "max.message.bytes", "1000000")
				c.Decide(control.Done, control.Retry, control.Scope{Kind: control.Flow})
			}
			flow.UntilCopied("orders")
			replicatortest.MustEqual(t, "the copy", want, c.Target.Texts("a.orders", 1)[0])
			wantAfterRestart(t, c, flow)
		})
	}
}

// A record that the target refuses is left out by a skip, and its neighbours are not.
func TestSkipOfARefusedRecord(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	refuseBad(c, kerr.InvalidRecord, true)
	c.Source.CreateTopic("orders", 1)
	writeWithBad(c, 10, 4)
	flow := c.Start()
	flow.UntilHaltedBy("record_refused", "orders", 0)
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 0), asHalted(flow, "orders", 0))
	flow.UntilCopied("orders")
	source := c.Source.Texts("orders", 1)[0]
	replicatortest.MustEqual(t, "the copy", append(source[:4:4], source[5:]...), c.Target.Texts("a.orders", 1)[0])
	wantAfterRestart(t, c, flow)
}

func TestSkipOfAForeignWrite(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	flow := c.Start()
	flow.UntilCopied("orders")
	c.Target.Produce("a.orders", 1, 1, "foreign")
	c.Source.Produce("orders", 1, 10, "after")
	flow.UntilHaltedBy("foreign_write", "orders", 0)
	c.Decide(control.Failed, control.Retry, control.OfTopic("orders"))
	s := c.Decide(control.Refused, control.Skip, replicatortest.TP("orders", 0), leftOut(10, 12))
	if d := s.Outcomes[0].Detail; !strings.Contains(d, "without --to") {
		t.Errorf("the answer is %q", d)
	}
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 0), asHalted(flow, "orders", 0))
	flow.UntilCopied("orders")
	got := slices.DeleteFunc(c.Target.Texts("a.orders", 1)[0], func(s string) bool { return bytes.Contains([]byte(s), []byte("foreign")) })
	replicatortest.MustEqual(t, "the copy around the foreign record", c.Source.Texts("orders", 1)[0], got)
	wantAfterRestart(t, c, flow)
}

func TestSkipOfATargetThatIsNotEmpty(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "ours")
	c.Target.CreateTopic("a.orders", 1)
	c.Target.Produce("a.orders", 1, 1, "foreign")
	before := c.Target.Texts("a.orders", 1)[0]
	flow := c.Start()
	flow.UntilHaltedBy("target_not_empty", "orders", 0)
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 0), asHalted(flow, "orders", 0))
	flow.UntilCopied("orders")
	replicatortest.MustEqual(t, "the copy behind what was there", append(before, c.Source.Texts("orders", 1)[0]...), c.Target.Texts("a.orders", 1)[0])
	wantAfterRestart(t, c, flow)
}

// The new topic is appended to the copy of the old one, or only what comes later is.
// A healthy partition is copied again behind what the copy has: once, whatever happens to the process.
// A partition that the source does not have any more is left as it is, also after a restart.
// A topic that is created again with fewer partitions while the flow runs is noticed at once.
// Before any process runs, a decision waits for it. What concerns nothing is refused.
func TestDecisionsWaitForAProcess(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "first")
	submission := c.SubmitWithin(0, replicatortest.NewDecision(control.Pause, control.OfTopic("orders")))
	if submission.Running || len(submission.Outcomes) > 0 {
		t.Errorf("%+v", submission)
	}
	flow := c.Start()
	untilPaused(flow, "orders", 0)
	replicatortest.Eventually(t, "the process answers", func() (bool, string) {
		state := c.ControlState()
		return len(state.Outcomes(submission.Decisions[0].ID)) == 1, ""
	})
	c.Decide(control.Refused, control.Retry, replicatortest.TP("bills", 7))
}

// What the source holds now is copied from where it was truncated.
func TestSkipOfATruncation(t *testing.T) {
	for name, more := range map[string]int{"grown again": 5, "nothing is behind it": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			skipTruncation(t, more)
		})
	}
}

// skipTruncation is about a source whose log is cut at offset 6, and then has that many records more than were copied.
func skipTruncation(t *testing.T, more int) {
	t.Helper()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "first")
	flow := c.Start(replicatortest.FastJournal)
	flow.UntilJournaled("orders")
	flow.Stop()
	c.Source.Produce("orders", 1, more, "second")
	want := c.Source.Texts("orders", 1)[0]
	want = append(want[:10:10], want[6:]...) // the source's log is the same again; kfake cannot truncate it, so answers say that it was, until it is read from there
	id := c.Source.TopicInfo("orders").TopicID
	var rewound atomic.Bool
	c.Source.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.Source.KeepControl()
		r := request.(*kmsg.FetchRequest)
		if len(r.Topics) != 1 || r.Topics[0].TopicID != id || len(r.Topics[0].Partitions) != 1 {
			return nil, nil, false
		}
		at := r.Topics[0].Partitions[0].FetchOffset
		if at == 6 {
			rewound.Store(true)
		}
		if at != 10 || rewound.Load() {
			return nil, nil, false
		}
		response := r.ResponseKind().(*kmsg.FetchResponse)
		topic, partition := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		topic.TopicID = id
		partition.HighWatermark, partition.LastStableOffset = 10+int64(more), 10+int64(more)
		partition.DivergingEpoch.Epoch, partition.DivergingEpoch.EndOffset = 0, 6
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	flow = c.Start(func(f *config.Flow) { f.Heartbeats = false })
	if a := flow.UntilHaltedBy("truncated", "orders", 0); a.From != 6 {
		t.Errorf("%+v", a)
	}
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 0), asHalted(flow, "orders", 0))
	flow.UntilCopied("orders")
	replicatortest.MustEqual(t, "the copy", want, c.Target.Texts("a.orders", 1)[0])
	wantAfterRestart(t, c, flow)
}

// The end of a copy that cannot be matched is skipped: nothing is copied twice.
func TestSkipOfAnUnmatchedEnd(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	flow.Stop()
	read := c.Target.SpoilTopic(kmsg.Fetch, "a.orders", replicatortest.DropRequest, 1)
	flow = c.Start()
	replicatortest.Await(t, "the takeover reads the copy", read)
	c.Target.SpoilTopic(kmsg.Fetch, "a.orders", replicatortest.DropRequest, 1000)
	c.Target.DeleteRecords("a.orders", 0, c.Target.EndOffsets("a.orders")[0])
	c.Source.Produce("orders", 1, 10, "after") // or nothing would be missing
	c.Target.Spoil(kmsg.Fetch, nil, replicatortest.DropRequest, 0)
	a := flow.UntilHaltedBy("unmatched", "orders", 0)
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 0), asHalted(flow, "orders", 0))
	c.Source.Produce("orders", 1, 10, "later")
	flow.UntilCopied("orders")
	source := c.Source.Texts("orders", 1)[0]
	replicatortest.MustEqual(t, "what is copied after the decision", source[a.To:], c.Target.Texts("a.orders", 1)[0])
	wantAfterRestart(t, c, flow)
}

// Tombstones that may be gone are skipped once.
func TestSkipOfCleanedTombstones(t *testing.T) {
	t.Parallel()
	c, flow := pausedOverACleaning(t, "1")
	flow.UntilHaltedBy("tombstones_cleaned", "users", 0)
	c.Decide(control.Failed, control.Retry, replicatortest.TP("users", 0))
	c.Decide(control.Done, control.Skip, replicatortest.TP("users", 0), asHalted(flow, "users", 0))
	flow.UntilCopied("users")
	flow.Stop()
	flow = c.Start()
	flow.UntilCopied("users") // what was skipped is decided
}

// What the source still has is copied again, whatever halted the partition.
// A halted partition that is paused too is repaired, and copied once it is resumed.
func TestRepairOfAPausedPartition(t *testing.T) {
	t.Parallel()
	c, flow, want := gapped(t)
	tp := replicatortest.TP("orders", 0)
	c.Decide(control.Done, control.Pause, tp)
	s := c.Decide(control.Done, control.Skip, tp, leftOut(20, 30))
	if d := s.Outcomes[0].Detail; d != "orders-0 goes on at offset 30 once it is resumed" {
		t.Errorf("%q", d)
	}
	untilPaused(flow, "orders", 0)
	c.Decide(control.Done, control.Resume, tp)
	flow.UntilCopied("orders")
	replicatortest.MustEqual(t, "the copy", want, c.Target.Texts("a.orders", 1)[0])
}

// A skip is about the anomaly that was seen when it was decided. Another one, also one that comes later, halts.
func TestSkipOfAnotherAnomaly(t *testing.T) {
	t.Parallel()
	c, flow, want := gapped(t)
	tp := replicatortest.TP("orders", 0)
	for _, other := range []control.Halt{{Kind: "foreign_write", From: 20, To: 20}, {Kind: "retention_gap", From: 10, To: 20}} {
		s := c.Decide(control.Refused, control.Skip, tp, func(d *control.Decision) { d.Halt = &other })
		if detail := s.Outcomes[0].Detail; !strings.Contains(detail, "halted by retention_gap at source offset 20 now, and the decision is about "+other.Kind) {
			t.Errorf("the answer is %q", detail)
		}
	}
	flow.UntilHaltedBy("retention_gap", "orders", 0)
	c.Decide(control.Done, control.Skip, tp, func(d *control.Decision) { d.Halt = &control.Halt{Kind: "retention_gap", From: 20, To: 25} }) // more is gone since
	flow.UntilCopied("orders")
	replicatortest.MustEqual(t, "the copy without its gap", want, c.Target.Texts("a.orders", 1)[0])
	flow.Stop()

	// As if the process had been killed before it could say what it did, and something else had happened since.
	id := c.ControlState().Skipped(offsets.TopicPartition{Topic: "orders"}).ID
	for _, o := range c.ControlState().Outcomes(id) {
		c.Target.Write(&kgo.Record{Topic: control.TopicName("a-b"), Key: []byte("outcome/" + id + "/" + o.Instance)})
	}
	c.Source.Produce("orders", 1, 10, "lost")
	c.Source.DeleteRecords("orders", 0, 45)
	flow = c.Start()
	flow.UntilHaltedBy("retention_gap", "orders", 0)
	replicatortest.Eventually(t, "the process answers", func() (bool, string) {
		list := c.ControlState().Outcomes(id)
		return len(list) == 1 && (list[0].Result == control.Refused || strings.Contains(list[0].Detail, "is not halted")), fmt.Sprint(list) // not yet
	})
	flow.UntilHaltedBy("retention_gap", "orders", 0)
}

// A skip of something else does not say that a partition may vanish.
// Each restart of a copy is in the ledger with who decided it, so that none is done again.
// A repair takes a compacted topic over again without a doubt about tombstones: the process has read it all the time.
// Whatever halts a partition, its copy is exact again once the target topic is deleted and copied again.
