package page

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/membership"
)

// noon is now in the stories of this file.
func noon() time.Time { return time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC) }

// inStep is a flow of three partitions that is well: everything was copied a second ago.
func inStep() replicator.Status {
	s := replicator.Status{
		Flow: "a-b", Source: "a", Target: "b", Ready: true, Shards: map[string]int{"owned": 4}, LagRecords: ptr(int64(0)), Fence: "transactions",
		Instance: replicator.InstanceStatus{ID: "i", State: "assigned", Held: 4, Shards: 4, Syncs: true},
	}
	for i := range int32(3) {
		s.Partitions = append(s.Partitions, replicator.PartitionStatus{
			Topic: "orders", TargetTopic: "a.orders", Partition: i, State: "replicating", Begun: true, SourceSeen: noon(), LagRecords: ptr(int64(0)), LagSeconds: ptr(0.0),
		})
	}
	return s
}

// lose makes the partitions lack records, of which the source was seen and the copy was complete at some times.
func lose(s *replicator.Status, missing int64, complete, seen time.Time) {
	s.RPO = offsets.RPO{}
	for i, p := range s.Partitions {
		b := offsets.Behind{Topic: p.Topic, Partition: p.Partition, Acked: 100, SourceEnd: 100, Complete: complete, Seen: seen}
		if i == 0 {
			b.SourceEnd += missing
		}
		s.RPO.Add(b)
	}
	objective := 30 * time.Second
	s.RPO.Settle(&objective, noon())
}

func decide(s *replicator.Status, what control.Verb) {
	s.Control.InForce = append(s.Control.InForce, replicator.DecisionStatus{What: what, Scope: wholeFlow(), Who: "bob", Since: noon().Add(-time.Hour)})
}

// The verdict answers whether the target can take over, and what would be lost. It says yes only if that is known, and null for what nobody knows.
func TestVerdict(t *testing.T) {
	second := noon().Add(-time.Second)
	type want struct {
		state    State
		can      Answer
		lose     any // number, or nil: not known
		complete bool
		sentence string
		command  string
	}
	for name, test := range map[string]struct {
		change func(*replicator.Status)
		want   want
	}{
		"all is copied": {func(s *replicator.Status) { lose(s, 0, second, noon()) }, want{
			StateCopying, Yes, 0, true, "Yes: b has everything that a had at 2026-03-01 11:59:59 UTC; no record that was seen would be lost.", "milena switchover -c FILE --reason TEXT",
		}},
		"some records are on the way": {func(s *replicator.Status) { lose(s, 12, second, noon()) }, want{
			StateCopying, Yes, 12, true, "at most 12 records that were seen on a would be lost.", "milena switchover -c FILE --reason TEXT",
		}},
		"a partition is halted": {func(s *replicator.Status) {
			s.Partitions[1].State, s.Partitions[1].Anomaly = "halted", &replicator.AnomalyState{Kind: "truncated"}
			lose(s, 881, noon().Add(-7*time.Minute), noon())
		}, want{StateHalted, Yes, 881, true, "The objective of 30 s is missed. 1 partition is halted and not copied since.", "milena switchover -c FILE --reason TEXT"}},
		"the source is gone": {func(s *replicator.Status) {
			for i := range s.Partitions {
				s.Partitions[i].LagRecords, s.Partitions[i].SourceSeen = nil, noon().Add(-time.Minute)
			}
			lose(s, 5, noon().Add(-70*time.Second), noon().Add(-time.Minute))
		}, want{
			StateSourceDark, Yes, nil, true, "at most 5 records that were seen on a would be lost; what was written to a since 2026-03-01 11:59:00 UTC is not known.",
			"milena failover -c FILE --reason TEXT",
		}},
		"the target is gone": {func(s *replicator.Status) { s.LeaseRanOut = true; lose(s, 5, second, noon()) }, want{
			StateTargetDark, No, nil, false, "No: the target, cluster b, does not answer.", "",
		}},
		"it has failed over": {func(s *replicator.Status) { decide(s, control.FailOver); lose(s, 5, second, noon()) }, want{
			StateFailedOver, No, nil, false, "No: the flow has failed over already, since 2026-03-01 11:00:00 UTC by bob, and clients use b.", "",
		}},
		"somebody stopped it": {func(s *replicator.Status) { decide(s, control.StopFlow); lose(s, 0, second, noon()) }, want{
			StateStopped, Unknown, 0, true, "What was written to a since then is not on b.", "",
		}},
		"somebody paused it": {func(s *replicator.Status) { decide(s, control.Pause); lose(s, 7, second, noon()) }, want{
			StatePaused, Yes, 7, true, "at most 7 records", "milena switchover -c FILE --reason TEXT",
		}},
		"a switchover is under way": {func(s *replicator.Status) {
			s.Control.Recovery = &control.RecoveryStatus{What: "switchover", Who: "alice", State: control.RecoveryRuns, Step: "drain", Held: true}
			lose(s, 0, second, noon())
		}, want{StateCopying, No, nil, false, "No: a switchover by alice is under way, at step drain.", ""}},
		"a drill is under way, which keeps nobody from anything": {func(s *replicator.Status) {
			s.Control.Recovery = &control.RecoveryStatus{What: control.Drill, Who: "alice", State: control.RecoveryRuns, Step: "read", Held: true}
			lose(s, 0, second, noon())
		}, want{StateCopying, Yes, 0, true, "Yes: ", "milena switchover -c FILE --reason TEXT"}},
		"the first copy is not finished": {func(s *replicator.Status) { lose(s, 4000, time.Time{}, noon()) }, want{
			StateCopying, No, 4000, false, "No: 3 partitions were never completely copied yet; at most 4000 records that were seen on a would be lost.", "",
		}},
		"nothing is known of a partition": {func(s *replicator.Status) { lose(s, 3, second, noon()); s.RPO.AddUnknown("orders") }, want{
			StateCopying, Unknown, nil, false, "Not known: nothing is known of 1 partition.", "",
		}},
		"it has just begun": {func(s *replicator.Status) {
			s.Ready, s.Partitions, s.Shards = false, nil, map[string]int{"starting": 4}
		}, want{StateStarting, Unknown, nil, false, "Not known: no partition is copied yet", ""}},
		"another instance has most of it": {func(s *replicator.Status) { s.Instance.Held = 1; lose(s, 3, second, noon()) }, want{
			StateCopying, Unknown, nil, false, "Not known here: this instance copies 1 of 4 shards. Of these, b has everything", "",
		}},
		"another instance has all of it": {func(s *replicator.Status) {
			s.Instance.Held, s.Instance.State, s.Partitions = 0, "standby", nil
		}, want{StateStandby, Unknown, nil, false, "Not known here: this instance copies nothing. milena status -c FILE says it for the flow.", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			s := inStep()
			test.change(&s)
			f := newFlow(&s, commands{}, false, noon())
			v, command := f.Verdict, ""
			if v.Command != nil {
				command = *v.Command
			}
			if f.State != test.want.state || v.CanFailOver != test.want.can || (v.CompleteUpTo != nil) != test.want.complete || command != test.want.command {
				t.Errorf("%s, %s, complete up to %v, %q", f.State, v.CanFailOver, v.CompleteUpTo, command)
			}
			if got := textOf(v.WouldLoseRecords); got != fmt.Sprint(test.want.lose) {
				t.Errorf("would lose %s, want %v", got, test.want.lose)
			}
			if !strings.Contains(v.Sentence, test.want.sentence) {
				t.Errorf("%s", v.Sentence)
			}
		})
	}
}

// textOf is a number as text, <nil> if it is not known.
func textOf(n *int64) string {
	if n == nil {
		return "<nil>"
	}
	return fmt.Sprint(*n)
}

// The rows say what is wrong, where and why, worst first, with the command that mends it.
func TestAttention(t *testing.T) {
	s := inStep()
	lose(&s, 0, noon().Add(-time.Minute), noon())
	hint := policy.RecordTooLarge.Hint(policy.Place{Topic: "orders", Partition: 1, Target: "a.orders"})
	s.Partitions[1].State, s.Partitions[1].Anomaly = "halted", &replicator.AnomalyState{Kind: "record_too_large", Detail: "record 7 has 2 MB", Hint: hint}
	s.Partitions[2].LagSeconds = ptr(75.0)
	s.ConfigRefused = "flows[0]: unknown key \"topic\""
	s.Control.Recovery = &control.RecoveryStatus{What: "switchover", Who: "alice", State: control.RecoveryRuns, Step: "drain"}
	s.Control.InForce = []replicator.DecisionStatus{{What: control.Pause, Scope: "topic clicks", Who: "bob", Since: noon()}, {What: control.Throttle, Scope: wholeFlow(), Who: "bob", BytesPerSecond: 5}}
	s.NotCopied = map[string]string{"secret": "create topic a.secret: POLICY_VIOLATION", "orders": "partition 1: halted"}
	s.Groups = &groups.Status{Groups: 2, LastPass: noon(), Refusals: []groups.Refusal{{Group: "g", Reason: "metadata", Text: "group g has too much metadata", Detail: "orders-0", Partitions: 1}, {Group: "h", Reason: "own", Text: "group h consumes there", Partitions: 1}}}
	s.Certificates = []string{"cluster b: certificate expires"}
	f := newFlow(&s, commands{flow: "a-b"}, false, noon())
	var got []string
	for _, a := range f.Attention {
		command := ""
		if a.Command != nil {
			command = " | " + *a.Command
		}
		got = append(got, fmt.Sprintf("%s | %s | %s%s", a.Severity, a.What, a.Where, command))
	}
	want := []string{
		"bad | config refused | config file | milena check -c FILE",
		"bad | RPO missed | flow a-b",
		"bad | switchover broken off | flow a-b | milena switchover -c FILE --flow a-b",
		"bad | halted (record_too_large) | orders-1 | kafka-configs.sh --bootstrap-server TARGET --alter --entity-type topics --entity-name a.orders --add-config max.message.bytes=SIZE",
		"bad | waiting | topic secret",
		"bad | group not committed | group g",
		"warning | certificate | flow a-b",
		"warning | replicating | orders-2",
		"notice | group not committed | group h",
		"notice | paused | topic clicks | milena resume -c FILE --flow a-b --topic clicks",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if f.AllIsWell || f.Partitions.Attention != 2 || f.Partitions.Halted != 1 || f.Partitions.CatchingUp+f.Partitions.Throttled != 1 || f.AttentionMore != 0 {
		t.Errorf("%+v, all is well: %v", f.Partitions, f.AllIsWell)
	}
	halted := f.Attention[3]
	if halted.Cause != "record 7 has 2 MB" || halted.Topic != "orders" || *halted.Partition != 1 || !strings.Contains(*halted.Hint, "`milena retry -c FILE --flow a-b --partition orders-1`") {
		t.Errorf("%+v", halted)
	}
	if f.Throttle.BytesPerSecond == nil || *f.Throttle.BytesPerSecond != 5 || len(f.Decisions) != 2 {
		t.Errorf("%+v %+v", f.Throttle, f.Decisions)
	}
}

// A flow that is well needs no attention, also while something is paused.
func TestAllIsWell(t *testing.T) {
	s := inStep()
	lose(&s, 0, noon().Add(-time.Second), noon())
	f := newFlow(&s, commands{}, false, noon())
	if !f.AllIsWell || len(f.Attention) != 0 || f.Partitions.InStep != 3 || f.TopicsTotal != 1 || f.GroupsTotal != nil {
		t.Errorf("%+v", f)
	}
	s.Partitions[0].State, s.Partitions[0].Paused = "paused", &replicator.DecisionStatus{What: control.Pause}
	s.Control.InForce = []replicator.DecisionStatus{{What: control.Pause, Scope: "partition orders-0", Who: "bob"}}
	if f := newFlow(&s, commands{}, false, noon()); !f.AllIsWell || f.Partitions.Paused != 1 || len(f.Attention) != 1 || f.Attention[0].Severity != Notice {
		t.Errorf("%+v", f)
	}
}

// However much is wrong, the first screen stays small, and says how much it leaves out.
func TestTheViewIsBounded(t *testing.T) {
	s := inStep()
	s.Partitions = nil
	hint := policy.Truncated.Hint(policy.Place{Topic: "orders", Target: "a.orders"})
	for i := range int32(10_000) {
		s.Partitions = append(s.Partitions, replicator.PartitionStatus{
			Topic: fmt.Sprintf("t%d", i), State: "halted", Begun: true, Anomaly: &replicator.AnomalyState{Kind: "truncated", Detail: "offsets were lost", Hint: hint},
		})
	}
	s.NotCopied = map[string]string{}
	for i := range 1000 {
		s.NotCopied[fmt.Sprintf("x%d", i)] = "POLICY_VIOLATION"
	}
	for range 500 {
		s.Control.InForce = append(s.Control.InForce, replicator.DecisionStatus{What: control.Pause, Scope: "topic x"})
	}
	f := newFlow(&s, commands{}, false, noon())
	body, err := json.Marshal(f)
	if err != nil || len(body) > 64<<10 {
		t.Errorf("%v, %d bytes", err, len(body))
	}
	if n := len(f.Attention); n != maxAttention || f.AttentionMore < 10_000+1000-maxAttention {
		t.Errorf("%d rows and %d more", n, f.AttentionMore)
	}
}

// What is not known is null.
func TestUnknownIsNull(t *testing.T) {
	body, err := json.Marshal(newFlow(&replicator.Status{Flow: "a-b", Source: "a", Target: "b"}, commands{}, false, noon()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"would_lose_records":null`, `"complete_up_to":null`, `"missing_records":null`, `"lag":{"records":null,"seconds":null,`, `"groups_total":null`,
		`"throughput":{"bytes_per_second":null,"records_per_second":null}`, `"latency":{"p50_seconds":null,"p99_seconds":null}`, `"last_drill":null`,
		`"recovery":null`, `"attention":[]`, `"instances":[]`, `"not_ready":[]`, `"decisions":[]`, `"config_refused":null`,
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
}

// Rates are over the last ten seconds, and not known before there are two readings, nor after a flow began anew.
func TestRates(t *testing.T) {
	var m meter
	at := func(seconds int) time.Time { return noon().Add(time.Duration(seconds) * time.Second) }
	m.add(reading{at: at(0), records: 1000, bytes: 5000})
	if tp, _ := m.lately(at(0)); tp.RecordsPerSecond != nil {
		t.Errorf("%v records/s by one reading", *tp.RecordsPerSecond)
	}
	for i := 1; i <= 30; i++ {
		m.add(reading{at: at(i), records: 1000 + int64(i)*20, bytes: 5000 + int64(i)*100})
	}
	if tp, l := m.lately(at(30)); *tp.RecordsPerSecond != 20 || *tp.BytesPerSecond != 100 || l.P99 != nil || len(m.readings) != 11 {
		t.Errorf("%v records/s, %v bytes/s, latency %v, %d readings", *tp.RecordsPerSecond, *tp.BytesPerSecond, l.P99, len(m.readings))
	}
	m.add(reading{at: at(31)})
	if tp, _ := m.lately(at(31)); tp.RecordsPerSecond != nil {
		t.Errorf("%v records/s of a flow that began anew", *tp.RecordsPerSecond)
	}
}

// All instances are listed, and this one is marked.
func TestInstances(t *testing.T) {
	s := inStep()
	s.Instance.Held = 1
	s.Instance.Instances = []membership.Instance{{ID: "j", Host: "10.0.0.2", Version: "1.0", Shards: []int32{1, 2, 3}}, {ID: "i", Host: "10.0.0.1", Version: "1.0"}}
	f := newFlow(&s, commands{}, false, noon())
	if len(f.Instances) != 2 || !f.Instances[0].This || f.Instances[0].Shards != nil || f.Instances[1].This || *f.Instances[1].Shards != 3 || f.Instance.Share != 0.25 {
		t.Errorf("%+v %+v", f.Instances, f.Instance)
	}
}
