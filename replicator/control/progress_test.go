package control_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/control"
)

// take applies entries as the log has them.
func take(t *testing.T, s *control.State, entries ...control.Entry) {
	t.Helper()
	for i, e := range entries {
		if err := s.Apply(control.Record{Offset: int64(i), Key: []byte(e.Key), Value: e.Value}); err != nil {
			t.Fatalf("%s: %v", e.Key, err)
		}
	}
}

// A run keeps the progress of each partition. What a later run of the same slot replaces is found no more, and tombstones are asked for it.
func TestRunsKeepTheirProgress(t *testing.T) {
	t.Parallel()
	var s control.State
	first, other := control.NewRun("ab", "anna@host", []byte(`{"seed":1}`)), control.NewRun("cd", "anna@host", []byte(`{}`))
	take(t, &s, first.Entry(), first.PartEntry(orders, []byte(`{"n":1}`)), first.PartEntry(orders, []byte(`{"n":2}`)), other.Entry(), other.PartEntry(orders, []byte(`{"n":3}`)))
	r, parts, ok := s.RunOf("ab", first.When)
	if !ok || r.Who != "anna@host" || string(r.Document) != `{"seed":1}` || len(parts) != 1 || string(parts[0]) != `{"n":2}` {
		t.Fatalf("%v %+v %s", ok, r, parts)
	}
	if entries := s.Housekeep(first.When); len(entries) != 0 {
		t.Errorf("what is kept is deleted: %v", entries)
	}
	second := control.NewRun("ab", "bert@host", []byte(`{}`))
	take(t, &s, second.Entry())
	if r, parts, _ := s.RunOf("ab", second.When); r.Who != "bert@host" || len(parts) != 0 {
		t.Errorf("%+v %s", r, parts)
	}
	entries := s.Housekeep(second.When)
	if len(entries) != 1 || entries[0].Value != nil || entries[0].Key != first.PartEntry(orders, nil).Key {
		t.Errorf("%+v", entries)
	}
	take(t, &s, entries...)
	take(t, &s, s.ForgetRun("ab")...)
	if _, _, ok := s.RunOf("ab", second.When); ok {
		t.Error("a run that was forgotten is there")
	}
	if _, parts, ok := s.RunOf("cd", second.When); !ok || len(parts) != 1 {
		t.Error("another run was forgotten")
	}
	late := second.When.Add(control.ProgressAge + time.Minute)
	if _, _, ok := s.RunOf("cd", late); ok {
		t.Error("a run that is too old is there")
	}
	take(t, &s, s.Housekeep(late)...)
	if entries := append(s.Housekeep(late), s.ForgetRun("cd")...); len(entries) != 0 {
		t.Errorf("what is too old is still there: %+v", entries)
	}
}

// The flow's own progress has one record for each partition. It is kept as long as somebody verifies the partition.
func TestOwnProgress(t *testing.T) {
	t.Parallel()
	var s control.State
	if _, ok := s.Own(orders); ok {
		t.Error("there is progress in an empty topic")
	}
	want := control.Verified{Version: 1, Upto: 17, Checked: noon, Pass: noon, Differing: 1, Differences: []string{"one"}, Progress: []byte(`{"n":1}`)}
	take(t, &s, control.OwnEntry(orders, &want))
	take(t, &s, s.Housekeep(noon.Add(control.ProgressAge))...)
	if got, ok := s.Own(orders); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %+v", ok, got)
	}
	take(t, &s, control.OwnEntry(orders, nil))
	if got, ok := s.Own(orders); ok {
		t.Errorf("%+v", got)
	}
}

// Nonsense changes nothing, and there is no more than the bounds allow.
func TestProgressIsBounded(t *testing.T) {
	t.Parallel()
	var s control.State
	run := control.NewRun("ab", "anna@host", []byte(`{}`))
	renamed := run.Entry()
	renamed.Key = "verify/cd"
	for _, e := range []control.Entry{
		renamed,
		{Key: "verify/xyz/1/orders/0", Value: []byte(`{"v":1}`)},
		{Key: "verify/ab/" + run.ID + "/orders", Value: []byte(`{"v":1}`)},
		{Key: "verify/ab/" + run.ID + "/orders/0", Value: []byte(`{}`)},
		{Key: "verified/orders/x", Value: []byte(`{"v":1}`)},
		{Key: "verify/ab", Value: []byte("nonsense")},
		run.PartEntry(orders, []byte(`"`+strings.Repeat("x", control.MaxProgressValue)+`"`)),
	} {
		if err := s.Apply(control.Record{Key: []byte(e.Key), Value: e.Value}); err == nil {
			t.Errorf("%.60s %.60s is taken", e.Key, e.Value)
		}
	}
	refused := 0
	for i := range int32(control.MaxProgress + 10) {
		e := run.PartEntry(offsets.TopicPartition{Topic: "orders", Partition: i}, json.RawMessage(`{}`))
		if s.Apply(control.Record{Key: []byte(e.Key), Value: e.Value}) != nil {
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("%d are refused", refused)
	}
	large, taken := strings.Repeat("x", 30<<10), 0
	for i := range 1200 {
		e := control.OwnEntry(offsets.TopicPartition{Topic: fmt.Sprint(i)}, &control.Verified{Why: large})
		if s.Apply(control.Record{Key: []byte(e.Key), Value: e.Value}) == nil {
			taken++
		}
	}
	if taken == 0 || taken*len(large) > 33<<20 {
		t.Errorf("%d of %d bytes are taken", taken, len(large))
	}
}

func TestChunks(t *testing.T) {
	t.Parallel()
	var entries []control.Entry
	for i := range 1000 {
		entries = append(entries, control.Entry{Key: fmt.Sprint(i), Value: make([]byte, (i%5)*4000)})
	}
	seen := 0
	for _, some := range control.Chunks(entries) {
		size := 0
		for _, e := range some {
			if e.Key != fmt.Sprint(seen) {
				t.Fatalf("entry %s is at %d", e.Key, seen)
			}
			seen++
			size += len(e.Key) + len(e.Value)
		}
		if len(some) > control.MaxEntries || size > 512<<10 {
			t.Errorf("%d entries of %d bytes", len(some), size)
		}
	}
	if seen != 1000 {
		t.Errorf("%d entries", seen)
	}
}
