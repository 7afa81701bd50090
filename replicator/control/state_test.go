package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/control"
)

func TestWidestPauseCovers(t *testing.T) {
	t.Parallel()
	flow, topic, part := control.Scope{Kind: control.Flow}, control.OfTopic("orders"), control.OfPartition(orders)
	other := offsets.TopicPartition{Topic: "orders", Partition: 4}
	bills := offsets.TopicPartition{Topic: "bills", Partition: 3}
	var s control.State
	want := func(what string, ofOrders, ofOther, ofBills string) {
		t.Helper()
		for tp, id := range map[offsets.TopicPartition]string{orders: ofOrders, other: ofOther, bills: ofBills} {
			got := ""
			if d := s.Paused(tp, noon); d != nil {
				got = d.ID
			}
			if got != id {
				t.Errorf("%s: %s is paused by %q, want %q", what, tp, got, id)
			}
		}
	}
	want("nothing", "", "", "")
	apply(t, &s, decision(control.Pause, part, "part", 0))
	want("a partition", "part", "", "")
	apply(t, &s, decision(control.Pause, topic, "topic", 0))
	want("its topic too", "topic", "topic", "")
	apply(t, &s, decision(control.Pause, flow, "flow", 0))
	want("the flow too", "flow", "flow", "flow")
	apply(t, &s, decision(control.Resume, topic, "r1", 0))
	want("the topic is resumed under the flow", "flow", "flow", "flow")
	apply(t, &s, decision(control.Resume, flow, "r2", 0))
	want("the partition is left", "part", "", "")
	if n := len(s.InForce(noon)); n != 1 {
		t.Errorf("%d hold", n)
	}
	if err := s.Apply(control.Record{Key: []byte("decision/pause/partition/orders/3")}); err != nil {
		t.Fatal(err)
	}
	want("a tombstone", "", "", "")
	apply(t, &s, decision(control.Pause, control.Scope{Kind: control.Groups}, "groups", 0))
	want("the groups", "", "", "")
	if s.PauseOf(control.Scope{Kind: control.Groups}, noon) == nil {
		t.Error("the groups are not paused")
	}
}

func TestPauseEndsByItself(t *testing.T) {
	t.Parallel()
	d := decision(control.Pause, control.OfTopic("orders"), "one", 0)
	d.Until = noon.Add(time.Hour)
	var s control.State
	apply(t, &s, d)
	if end := s.NextEnd(noon); !end.Equal(d.Until) {
		t.Errorf("it ends at %v", end)
	}
	before, after := noon.Add(time.Hour-time.Millisecond), noon.Add(time.Hour)
	if s.Paused(orders, before) == nil || s.Paused(orders, after) != nil || !s.NextEnd(after).IsZero() {
		t.Error("it does not end at until")
	}
	// A process that was last alive before the end has not read since the pause began; one that was alive after it has.
	if since := s.PausedSince(orders, noon.Add(time.Minute), after); !since.Equal(noon) {
		t.Errorf("paused since %v", since)
	}
	if since := s.PausedSince(orders, after.Add(time.Minute), after.Add(time.Hour)); !since.IsZero() {
		t.Errorf("a pause that was over counts since %v", since)
	}
}

// A resume keeps when the pause began that it ended.
func TestPausedSinceBeforeAResume(t *testing.T) {
	t.Parallel()
	var s control.State
	resume := decision(control.Resume, control.OfPartition(orders), "two", 3*time.Hour)
	resume.Began = noon
	apply(t, &s, resume)
	if since := s.PausedSince(orders, noon.Add(time.Hour), noon.Add(4*time.Hour)); !since.Equal(noon) {
		t.Errorf("resumed while no process ran: paused since %v", since)
	}
	if since := s.PausedSince(orders, noon.Add(3*time.Hour+time.Minute), noon.Add(4*time.Hour)); !since.IsZero() {
		t.Errorf("resumed while a process ran: paused since %v", since)
	}
}

// Compaction deletes what nonsense replaces, so it is written again.
func TestSpoiledDecisionsAreWrittenAgain(t *testing.T) {
	t.Parallel()
	d := decision(control.Pause, control.OfTopic("orders"), "one", 0)
	var s control.State
	apply(t, &s, d)
	if err := s.Apply(control.Record{Key: []byte(d.Entries()[0].Key), Value: []byte("nonsense")}); err == nil {
		t.Fatal("nonsense is taken")
	}
	entries := s.Housekeep(noon)
	if len(entries) != 1 || entries[0].Key != d.Entries()[0].Key || string(entries[0].Value) != string(d.Entries()[0].Value) {
		t.Fatalf("%v", entries)
	}
	if err := s.Apply(control.Record{Key: []byte(entries[0].Key), Value: entries[0].Value}); err != nil {
		t.Fatal(err)
	}
	if entries := s.Housekeep(noon); len(entries) != 0 {
		t.Errorf("written once more: %v", entries)
	}
}

// The topic stays short, whatever happens to it: what is old or too much goes, with its outcomes, and nothing that still counts.
func TestHousekeep(t *testing.T) {
	t.Parallel()
	var s control.State
	put := func(d control.Decision) {
		apply(t, &s, d)
		e := control.Outcome{ID: d.ID, Instance: "i", When: d.When, Result: control.Done}.Entry()
		if err := s.Apply(control.Record{Key: []byte(e.Key), Value: e.Value}); err != nil {
			t.Fatal(err)
		}
	}
	put(decision(control.Pause, control.OfTopic("orders"), "0-holds", 0))
	put(decision(control.Resume, control.OfTopic("bills"), "0-over", 0))
	put(decision(control.Retry, control.OfPartition(orders), "0-done", 0))
	skip := decision(control.Skip, control.OfPartition(orders), "0-skip", 0)
	skip.Halt = &control.Halt{Kind: "retention_gap", From: 20, To: 30}
	put(skip)
	now := noon.Add(control.HistoryAge + time.Hour)
	for i := range control.MaxHistory + 5 {
		put(decision(control.Retry, control.Scope{Kind: control.Flow}, fmt.Sprintf("1-%05d", i), control.HistoryAge))
	}
	gone := make(map[string]bool)
	for _, e := range s.Housekeep(now) {
		if e.Value != nil {
			t.Errorf("%s is written", e.Key)
		}
		gone[e.Key] = true
		if err := s.Apply(control.Record{Key: []byte(e.Key)}); err != nil {
			t.Fatal(err)
		}
	}
	for key, want := range map[string]bool{
		"decision/pause/topic/orders": false, "outcome/0-holds/i": false, "history/0-holds": true,
		"decision/pause/topic/bills": true, "outcome/0-over/i": true,
		"decision/retry/partition/orders/3": true, "decision/skip/partition/orders/3": false,
		"history/1-00004": true, "outcome/1-00004/i": true, "history/1-00005": false, "outcome/1-00005/i": false,
	} {
		if gone[key] != want {
			t.Errorf("%s is deleted: %v", key, gone[key])
		}
	}
	if rest := s.Housekeep(now); len(rest) != 0 || len(s.History()) != control.MaxHistory {
		t.Errorf("%d more, and a history of %d", len(rest), len(s.History()))
	}
}

func TestTooManyDecisions(t *testing.T) {
	t.Parallel()
	var s control.State
	var err error
	for i := 0; i <= control.MaxDecisions && err == nil; i++ {
		d := decision(control.Pause, control.OfTopic(fmt.Sprintf("t-%d", i)), "x", 0)
		e := d.Entries()[0]
		err = s.Apply(control.Record{Key: []byte(e.Key), Value: e.Value})
	}
	if err == nil || !strings.Contains(err.Error(), "decisions already") || len(s.InForce(noon)) != control.MaxDecisions {
		t.Errorf("%v, and %d hold", err, len(s.InForce(noon)))
	}
}

// What a newer milena has decided is not undone: the older decision that it replaces is not written again.
func TestDecisionsOfANewerVersionAreLeftAlone(t *testing.T) {
	t.Parallel()
	d := decision(control.Pause, control.OfTopic("orders"), "one", 0)
	key := []byte(d.Entries()[0].Key)
	var s control.State
	apply(t, &s, d)
	if err := s.Apply(control.Record{Key: key, Value: []byte("nonsense")}); err == nil {
		t.Fatal("nonsense is taken")
	}
	if err := s.Apply(control.Record{Key: key, Value: []byte(`{"v":2,"id":7,"scope":"orders"}`)}); err == nil || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("%v", err)
	}
	if entries := s.Housekeep(noon); len(entries) != 0 {
		t.Errorf("the older decision is written over the newer one: %v", entries)
	}
}

// A pause that replaces another one, or that begins under another scope before that one ends, continues it: nothing was read in between.
func TestPausedSinceTheFirstOfSeveralPauses(t *testing.T) {
	t.Parallel()
	var s control.State
	again := decision(control.Pause, control.OfTopic("orders"), "three", 72*time.Hour)
	again.Began = noon.Add(24 * time.Hour)
	apply(t, &s, again)
	alive, now := noon.Add(73*time.Hour), noon.Add(74*time.Hour)
	if since := s.PausedSince(orders, alive, now); !since.Equal(again.Began) {
		t.Errorf("a pause that was made longer began at %v", since)
	}
	flow := decision(control.Resume, control.Scope{Kind: control.Flow}, "two", 48*time.Hour)
	flow.Began = noon
	apply(t, &s, flow)
	if since := s.PausedSince(orders, alive, now); !since.Equal(noon) {
		t.Errorf("paused with the flow first, and since %v", since)
	}
	flow.When = noon.Add(23 * time.Hour)
	apply(t, &s, flow)
	if since := s.PausedSince(orders, alive, now); !since.Equal(again.Began) {
		t.Errorf("read for an hour in between, and paused since %v", since)
	}
}

// Whoever floods the topic with outcomes costs bounded memory.
func TestTooManyOutcomes(t *testing.T) {
	t.Parallel()
	var s control.State
	taken, refused := 0, 0
	for id := range 1100 {
		for instance := range 100 {
			e := control.Outcome{ID: fmt.Sprintf("id-%d", id), Instance: fmt.Sprintf("i-%d", instance), When: noon, Result: control.Done}.Entry()
			if err := s.Apply(control.Record{Key: []byte(e.Key), Value: e.Value}); err != nil {
				refused++
			} else {
				taken++
			}
		}
	}
	if taken != 100_000 || refused != 10_000 {
		t.Errorf("%d are kept, %d are not", taken, refused)
	}
	e := control.Outcome{ID: "id-0", Instance: "i-0", When: noon, Result: control.Failed}.Entry()
	if err := s.Apply(control.Record{Key: []byte(e.Key), Value: e.Value}); err != nil {
		t.Errorf("one that replaces another is not taken: %v", err)
	}
}

// What held in a topic that is gone holds on, unless the next one decides otherwise.
func TestContinueAfterTheTopicIsGone(t *testing.T) {
	t.Parallel()
	var before, now control.State
	apply(t, &before, decision(control.Pause, control.OfTopic("orders"), "holds", 0))
	apply(t, &before, decision(control.Pause, control.OfTopic("bills"), "resumed", 0))
	apply(t, &before, decision(control.Retry, control.OfTopic("orders"), "done", 0))
	apply(t, &now, decision(control.Resume, control.OfTopic("bills"), "newer", 0))
	now.Continue(&before, noon)
	var keys []string
	for _, e := range now.Housekeep(noon) {
		keys = append(keys, e.Key)
	}
	if len(keys) != 1 || keys[0] != "decision/pause/topic/orders" || len(now.InForce(noon)) != 1 {
		t.Errorf("%s are written, and %d hold", keys, len(now.InForce(noon)))
	}
}

// The topic has lost its last records, and has what they replaced: that is no decision. A stop holds on, and what ended stays ended.
func TestContinueAfterTheEndOfTheTopicIsLost(t *testing.T) {
	t.Parallel()
	flow := control.Scope{Kind: control.Flow}
	old := decision(control.StartFlow, flow, "1-start", 0)
	stop := decision(control.FailOver, flow, "2-failover", time.Minute)
	var before, now control.State
	apply(t, &before, old)
	apply(t, &before, stop)
	apply(t, &now, old)
	now.Continue(&before, noon)
	if d := now.Stopped(); d == nil || d.ID != stop.ID {
		t.Fatalf("the flow goes on: %+v", d)
	}
	entries := now.Housekeep(noon)
	if len(entries) != 1 || entries[0].Key != stop.Entries()[0].Key {
		t.Errorf("%+v are written", entries)
	}
	apply(t, &before, decision(control.StartFlow, flow, "3-start", 2*time.Minute))
	var later control.State
	apply(t, &later, decision(control.StartFlow, flow, "4-new", 3*time.Minute))
	later.Continue(&before, noon)
	if d := later.Stopped(); d != nil {
		t.Errorf("the flow is stopped: %+v", d)
	}
}

// Commands that were done to many partitions leave room for other decisions.
func TestHousekeepOfManyCommands(t *testing.T) {
	t.Parallel()
	var s control.State
	for i := range control.MaxHistory + 10 {
		d := decision(control.RestartCopy, control.OfPartition(offsets.TopicPartition{Topic: "orders", Partition: int32(i)}), fmt.Sprintf("%05d", i), 0)
		apply(t, &s, d)
		if i == 3 {
			continue // it is not done yet
		}
		e := control.Outcome{ID: d.ID, Instance: "i", When: noon, Result: control.Done}.Entry()
		if err := s.Apply(control.Record{Key: []byte(e.Key), Value: e.Value}); err != nil {
			t.Fatal(err)
		}
	}
	gone := 0
	for _, e := range s.Housekeep(noon) {
		if strings.HasPrefix(e.Key, "decision/") {
			gone++
		}
		if e.Value != nil || e.Key == "decision/restart-copy/partition/orders/3" {
			t.Errorf("%s", e.Key)
		}
	}
	if gone != 9 {
		t.Errorf("%d are deleted", gone)
	}
}
