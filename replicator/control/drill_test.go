package control_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

// apply applies the records of a recovery, as if they had been read.
func applyRecovery(t *testing.T, s *control.State, r control.Recovery) {
	t.Helper()
	for _, e := range r.Entries(s.ReadTo()) {
		if err := s.Apply(control.Record{Offset: s.ReadTo(), Key: []byte(e.Key), Value: e.Value, ReadTo: e.ReadTo}); err != nil {
			t.Fatalf("%s: %v", e.Key, err)
		}
	}
}

// A drill does not replace a switchover that runs. Of many drills that failed, the newest stay, and the last one that was passed.
func TestDrillsAreKept(t *testing.T) {
	t.Parallel()
	s := &control.State{}
	switchover := control.NewRecovery("switchover", "alice", "a process")
	switchover.Document = []byte(`{}`)
	applyRecovery(t, s, switchover)
	ended := func(i int, passed bool) string {
		r := control.NewRecovery(control.Drill, "bob", "another process")
		r.ID, r.Document, r.State = fmt.Sprintf("20261128T120000.%03dZ-00000000", i), []byte(`{}`), control.RecoveryDone
		r.Drilled = &control.Drilled{Passed: passed}
		applyRecovery(t, s, r)
		return r.ID
	}
	passed := ended(0, true)
	newest := ""
	for i := range control.MaxRecoveries + 9 {
		newest = ended(i+1, false)
	}
	if r := s.Recovery(); r == nil || r.ID != switchover.ID {
		t.Fatalf("%+v", r)
	}
	if r := s.RecoveryOf(control.Drill); r == nil || r.ID != newest {
		t.Fatalf("%+v", r)
	}
	entries := s.Housekeep(time.Now())
	for _, e := range entries {
		if err := s.Apply(control.Record{Offset: s.ReadTo(), Key: []byte(e.Key), Value: e.Value, ReadTo: e.ReadTo}); err != nil {
			t.Fatal(err)
		}
	}
	last, good := s.LastDrills()
	if len(entries) != 9 || len(s.Recoveries()) != control.MaxRecoveries+1 || last == nil || last.ID != newest || good == nil || good.ID != passed {
		t.Errorf("%d are deleted, %d stay: %+v, %+v", len(entries), len(s.Recoveries()), last, good)
	}
	for key, what := range map[string]string{"recovery/current": control.Drill, "recovery/drill": "switchover"} {
		wrong := control.NewRecovery(what, "bob", "another process")
		wrong.Document = []byte(`{}`)
		if err := s.Apply(control.Record{Offset: s.ReadTo(), Key: []byte(key), Value: wrong.Entries(s.ReadTo())[0].Value}); err == nil {
			t.Errorf("a %s counts under %s", what, key)
		}
	}
}

// Two drills begin at once: one of them counts.
func TestOneDrillAtATime(t *testing.T) {
	t.Parallel()
	s := &control.State{}
	began := func(who string) control.Recovery {
		r := control.NewRecovery(control.Drill, who, who)
		r.Document = []byte(`{}`)
		return r
	}
	applyRecovery(t, s, began("earlier"))
	first, second := began("alice"), began("bob")
	readTo := s.ReadTo()
	for _, r := range []control.Recovery{first, second} {
		e := r.Entries(readTo)[0]
		if err := s.Apply(control.Record{Offset: s.ReadTo(), Key: []byte(e.Key), Value: e.Value, ReadTo: e.ReadTo}); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.RecoveryOf(control.Drill); r.Who != "alice" {
		t.Errorf("the drill of %s counts", r.Who)
	}
}
