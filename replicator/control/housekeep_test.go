package control_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/control"
)

// logged is a topic with a state that reads it.
type logged struct {
	t     *testing.T
	state control.State
	next  int64
	log   []control.Entry
}

// newest returns the newest record of each key, as compaction leaves it.
func (l *logged) newest() (list []control.Entry) {
	for i, e := range l.log {
		if !slices.ContainsFunc(l.log[i+1:], func(o control.Entry) bool { return o.Key == e.Key }) {
			list = append(list, e)
		}
	}
	return list
}

func (l *logged) append(entries ...control.Entry) {
	l.t.Helper()
	for _, e := range entries {
		if err := l.state.Apply(control.Record{Offset: l.next, Key: []byte(e.Key), Value: e.Value, ReadTo: e.ReadTo}); err != nil {
			l.t.Fatal(err)
		}
		l.next++
		l.log = append(l.log, e)
	}
}

func (l *logged) nonsense(key, value string) {
	l.t.Helper()
	if err := l.state.Apply(control.Record{Offset: l.next, Key: []byte(key), Value: []byte(value)}); err == nil {
		l.t.Fatalf("%s is taken", key)
	}
	l.next++
	l.log = append(l.log, control.Entry{Key: key, Value: []byte(value)})
}

// Housekeeping that was decided on before somebody decided otherwise does not count, whatever it does: what was decided is written again at once.
func TestHousekeepingOvertakesNoDecision(t *testing.T) {
	t.Parallel()
	pause := decision(control.Pause, control.OfTopic("orders"), "1-pause", 0)
	resume := decision(control.Resume, control.OfTopic("orders"), "0-resume", -2*control.HistoryAge)
	later := decision(control.Pause, control.OfTopic("orders"), "2-later", time.Hour)
	end := decision(control.Resume, control.OfTopic("orders"), "2-resume", time.Hour)
	key := pause.Entries()[0].Key
	for name, test := range map[string]struct {
		before     control.Decision
		nonsense   bool
		concurrent control.Entry
		want       string // the decision that holds
	}{
		"a tombstone of what is old, and a pause":        {resume, false, later.Entries()[0], later.ID},
		"a pause that is written again, and a resume":    {pause, true, end.Entries()[0], ""},
		"a pause that is written again, and another one": {pause, true, later.Entries()[0], later.ID},
		"a pause that is written again, and a tombstone": {pause, true, control.Entry{Key: key}, ""},
	} {
		l := &logged{t: t}
		l.append(test.before.Entries()...)
		if test.nonsense {
			l.nonsense(key, "nonsense")
		}
		entries := l.state.Housekeep(noon)
		if len(entries) == 0 {
			t.Fatalf("%s: nothing is to be done", name)
		}
		l.append(test.concurrent)
		holds := func(s *control.State) string {
			if d := s.PauseOf(control.OfTopic("orders"), noon); d != nil {
				return d.ID
			}
			return ""
		}
		l.append(entries...)
		if got := holds(&l.state); got != test.want || !l.state.IsUrgent() {
			t.Errorf("%s: %q holds, want %q, and it is urgent: %v", name, got, test.want, l.state.IsUrgent())
		}
		again := l.state.Housekeep(noon)
		l.append(again...)
		if got := holds(&l.state); got != test.want || l.state.IsUrgent() {
			t.Errorf("%s: once it is written again, %q holds", name, got)
		}
		compacted := control.State{} // has the newest record of each key
		for _, e := range again {
			if err := compacted.Apply(control.Record{Key: []byte(e.Key), Value: e.Value, ReadTo: e.ReadTo}); err != nil {
				t.Fatal(err)
			}
		}
		if got := holds(&compacted); got != test.want {
			t.Errorf("%s: after compaction, %q holds", name, got)
		}
	}
}

// Nonsense is deleted, so that the next start reads and names it no more. What a newer milena wrote is left alone.
func TestNonsenseIsDeleted(t *testing.T) {
	t.Parallel()
	l := &logged{t: t}
	done := decision(control.Retry, control.OfTopic("orders"), "done", 0)
	l.append(done.Entries()...)
	l.nonsense("a key of somebody", "x")
	l.nonsense("decision/pause/flow", "pause!")
	l.nonsense("outcome/nobody", "{}")
	l.nonsense("history/done", "spoiled")
	l.nonsense("of a newer milena", `{"v":2}`)
	if n, _ := l.state.Ignored(); n != 5 {
		t.Errorf("%d are ignored", n)
	}
	entries := l.state.Housekeep(noon)
	got := make(map[string]bool)
	for _, e := range entries {
		got[e.Key] = e.Value != nil
	}
	want := map[string]bool{"a key of somebody": false, "decision/pause/flow": false, "outcome/nobody": false, "history/done": true}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	l.append(entries...)
	if rest := l.state.Housekeep(noon); len(rest) > 0 {
		t.Errorf("once more: %v", rest)
	}
	l.state.Settle()
	if n, last := l.state.Ignored(); n != 1 || last[0].Offset != 6 {
		t.Errorf("after the next start, %d are ignored: %v", n, last)
	}
}

// What cannot be deleted costs bounded memory.
func TestMuchNonsenseIsBounded(t *testing.T) {
	t.Parallel()
	l := &logged{t: t}
	for i := range 3000 {
		l.nonsense(fmt.Sprintf("key-%d", i), "x")
	}
	if n := len(l.state.Housekeep(noon)); n != 1000 {
		t.Errorf("%d are to be deleted", n)
	}
	if err := l.state.Apply(control.Record{Offset: l.next, Unreadable: errors.New("it decompresses to too much")}); err == nil {
		t.Error("a batch that cannot be decoded is taken")
	}
	if n := len(l.state.Housekeep(noon)); n != 1000 {
		t.Errorf("%d are to be deleted", n)
	}
}

// Events are kept by number and age, and those that are alike are one.
func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	l := &logged{t: t}
	for i := range control.MaxEvents + 20 {
		at := noon.Add(time.Duration(i) * time.Second)
		l.append(control.Event{ID: fmt.Sprintf("e%05d", i), What: control.Takeover, Instance: "i", When: at, Count: 1}.Entry())
	}
	l.append(control.Event{ID: "old", What: control.Start, Instance: "i", When: noon.Add(-control.HistoryAge), Count: 1}.Entry())
	entries := l.state.Housekeep(noon.Add(time.Hour))
	if len(entries) != 21 {
		t.Errorf("%d are deleted", len(entries))
	}
	l.append(entries...)
	if events := l.state.Events(); len(events) != control.MaxEvents || events[0].ID != "e00020" {
		t.Errorf("%d are left, from %s on", len(events), events[0].ID)
	}
	if last := l.state.LastEvent("i"); last.ID != fmt.Sprintf("e%05d", control.MaxEvents+19) || l.state.LastEvent("i", control.Stop) != nil {
		t.Errorf("the last one is %v", last)
	}
	one := control.Event{What: control.Takeover, Instance: "i", When: noon, Count: 1, TookMillis: 9, Detail: "first"}
	two := control.Event{What: control.Takeover, Instance: "i", When: noon.Add(time.Second), Count: 3, TookMillis: 5, Detail: "second"}
	if !one.IsLike(&two) {
		t.Error("they are not alike")
	}
	if one.Add(&two); one.Count != 4 || one.TookMillis != 9 || one.Detail != "second" || !one.Last.Equal(two.When) {
		t.Errorf("%+v", one)
	}
}

// Nonsense under the key of progress is deleted once, or replaced by the progress that it replaced.
func TestNonsenseInProgress(t *testing.T) {
	t.Parallel()
	l := &logged{t: t}
	run := control.NewRun("ab", "alice", []byte(`{"a":1}`))
	tp := offsets.TopicPartition{Topic: "orders", Partition: 3}
	own := control.OwnEntry(tp, &control.Verified{Upto: 7, Checked: noon, Pass: noon})
	part := run.PartEntry(tp, []byte(`{"n":1}`))
	l.append(run.Entry(), part, own)
	for _, key := range []string{run.Entry().Key, part.Key, own.Key, "verify/NONE", "verify/NONE/x", "verify/ab/x y/orders/1", "verify/ab/x/orders", "verified/none", "verified/"} {
		l.nonsense(key, "x")
	}
	l.append(l.state.Housekeep(noon)...)
	if rest := l.state.Housekeep(noon); len(rest) > 0 {
		t.Errorf("once more: %v", rest)
	}
	compacted := control.State{}
	for _, e := range l.newest() {
		if err := compacted.Apply(control.Record{Key: []byte(e.Key), Value: e.Value}); err != nil {
			t.Error(err)
		}
	}
	for name, s := range map[string]*control.State{"the state": &l.state, "the topic": &compacted} {
		if _, parts, ok := s.RunOf("ab", run.When); !ok || len(parts) != 1 || string(parts[0]) != `{"n":1}` {
			t.Errorf("%s has lost the run: %v, %s", name, ok, parts)
		}
		if v, ok := s.Own(tp); !ok || v.Upto != 7 {
			t.Errorf("%s has lost what was verified", name)
		}
	}
}

// What the flow verified is kept as long as somebody verifies the partition.
func TestVerifiedOfTopicsThatAreGoneIsDeleted(t *testing.T) {
	t.Parallel()
	l := &logged{t: t}
	gone, kept := offsets.TopicPartition{Topic: "gone"}, offsets.TopicPartition{Topic: "kept"}
	l.append(
		control.OwnEntry(gone, &control.Verified{Upto: 7, Checked: noon.Add(-control.ProgressAge - time.Minute), Pass: noon.Add(-2 * control.ProgressAge)}),
		control.OwnEntry(kept, &control.Verified{Upto: 7, Checked: noon.Add(-control.ProgressAge + time.Minute), Pass: noon.Add(-2 * control.ProgressAge)}),
	)
	l.append(l.state.Housekeep(noon)...)
	if rest := l.state.Housekeep(noon); len(rest) > 0 {
		t.Errorf("once more: %v", rest)
	}
	if _, ok := l.state.Own(gone); ok {
		t.Error("that of a topic that is gone is kept")
	}
	if _, ok := l.state.Own(kept); !ok {
		t.Error("that of a topic that is verified is deleted")
	}
}
