package control_test

import (
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/control"
)

func number(n int64) *int64 { return &n }

var (
	noon   = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	orders = offsets.TopicPartition{Topic: "orders", Partition: 3}
)

// decision is one that is right, of a time after noon.
func decision(what control.Verb, scope control.Scope, id string, after time.Duration) control.Decision {
	return control.Decision{Version: control.Version, ID: id, What: what, Scope: scope, Who: "alice@host", When: noon.Add(after), Why: "a test"}
}

// The bytes of the records never change: they are in topics.
func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	pause := decision(control.Pause, control.OfPartition(orders), "one", 0)
	pause.Until = noon.Add(2 * time.Hour)
	skip := decision(control.Skip, control.OfPartition(orders), "two", time.Second)
	skip.From, skip.To = number(10), number(12)
	halted := decision(control.Skip, control.OfPartition(orders), "six", 0)
	halted.Halt = &control.Halt{Kind: "retention_gap", From: 20, To: 30}
	throttle := decision(control.Throttle, control.OfTopic("orders"), "three", 0)
	throttle.Rate = 1 << 20
	resume := decision(control.Resume, control.Scope{Kind: control.Flow}, "four", 0)
	resume.Began, resume.Why = noon.Add(-time.Hour), ""
	adopt := decision(control.Adopt, control.Scope{Kind: control.Group, Group: "a/b"}, "five", 0)
	event := control.Event{ID: "e1", What: control.Takeover, Instance: "milena-1", When: noon, Last: noon.Add(5 * time.Second), Count: 22, Why: "the process started", Detail: "shards 0-21", TookMillis: 140}
	outcome := control.Outcome{ID: "one", Instance: "milena-1", When: noon, Result: control.Done, Detail: "paused 1 partition"}
	head := `{"v":1,"id":"`
	tail := `"who":"alice@host","when":"2026-03-01T12:00:0`
	for _, test := range []struct {
		name       string
		entry      control.Entry
		key, value string
	}{
		{"pause", pause.Entries()[0], "decision/pause/partition/orders/3", head + `one","what":"pause","scope":{"kind":"partition","topic":"orders","partition":3},` + tail + `0Z","why":"a test","until":"2026-03-01T14:00:00Z"}`},
		{"history", pause.Entries()[1], "history/one", head + `one","what":"pause","scope":{"kind":"partition","topic":"orders","partition":3},` + tail + `0Z","why":"a test","until":"2026-03-01T14:00:00Z"}`},
		{"skip", skip.Entries()[0], "decision/skip/partition/orders/3", head + `two","what":"skip","scope":{"kind":"partition","topic":"orders","partition":3},` + tail + `1Z","why":"a test","from":10,"to":12}`},
		{"skip of a halt", halted.Entries()[0], "decision/skip/partition/orders/3", head + `six","what":"skip","scope":{"kind":"partition","topic":"orders","partition":3},` + tail + `0Z","why":"a test","halt":{"kind":"retention_gap","from":20,"to":30}}`},
		{"throttle", throttle.Entries()[0], "decision/throttle/topic/orders", head + `three","what":"throttle","scope":{"kind":"topic","topic":"orders"},` + tail + `0Z","why":"a test","rate":1048576}`},
		{"resume", resume.Entries()[0], "decision/pause/flow", head + `four","what":"resume","scope":{"kind":"flow"},` + tail + `0Z","began":"2026-03-01T11:00:00Z"}`},
		{"adopt", adopt.Entries()[0], "decision/adopt/group/a/b", head + `five","what":"adopt","scope":{"kind":"group","group":"a/b"},` + tail + `0Z","why":"a test"}`},
		{"event", event.Entry(), "event/e1", `{"v":1,"id":"e1","what":"takeover","instance":"milena-1","when":"2026-03-01T12:00:00Z","last":"2026-03-01T12:00:05Z","count":22,"why":"the process started","detail":"shards 0-21","took_ms":140}`},
		{"outcome", outcome.Entry(), "outcome/one/milena-1", `{"v":1,"id":"one","instance":"milena-1","when":"2026-03-01T12:00:00Z","result":"done","detail":"paused 1 partition"}`},
	} {
		if test.entry.Key != test.key || string(test.entry.Value) != test.value {
			t.Errorf("%s:\n%s\n%s\nwant\n%s\n%s", test.name, test.entry.Key, test.entry.Value, test.key, test.value)
		}
		var s control.State
		if err := s.Apply(control.Record{Key: []byte(test.key), Value: []byte(test.value)}); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A record that is not a decision changes nothing, and the error says why.
func TestNonsenseIsIgnored(t *testing.T) {
	t.Parallel()
	const key = "decision/pause/flow"
	good := func(change func(*control.Decision)) string {
		d := decision(control.Pause, control.Scope{Kind: control.Flow}, "x", 0)
		change(&d)
		return string(d.Entries()[0].Value)
	}
	for name, test := range map[string]struct{ key, value, want string }{
		"another key":        {"orders", `{}`, "is not one of milena"},
		"no key":             {"", `{}`, "is not one of milena"},
		"a long key":         {"decision/" + strings.Repeat("x", 2000), `{}`, "the key has"},
		"a long value":       {key, `{"v":1,"id":"` + strings.Repeat("x", 9000) + `"}`, "the value has"},
		"not JSON":           {key, "pause!", "not a record of milena"},
		"an array":           {key, "[]", "not a record of milena"},
		"null":               {key, "null", "no version"},
		"two objects":        {key, `{"v":1}{"v":1}`, "not a record of milena"},
		"not UTF-8":          {key, "{\"v\":1,\"id\":\"\xff\"}", "not UTF-8"},
		"a newer version":    {key, `{"v":2,"what":{"a":1}}`, "upgrade it"},
		"a bare version":     {key, `{"v":1}`, "id"},
		"an unknown verb":    {key, good(func(d *control.Decision) { d.What = "explode" }), "explode cannot be about the flow"},
		"an unknown scope":   {key, good(func(d *control.Decision) { d.Scope.Kind = "galaxy" }), "no scope"},
		"nobody":             {key, good(func(d *control.Decision) { d.Who = "" }), "who is missing"},
		"an escape sequence": {key, good(func(d *control.Decision) { d.Why = "\x1b[2J" }), "cannot be printed"},
		"another time":       {key, good(func(d *control.Decision) { d.When = time.Time{}.Add(time.Second) }), "when is not a time"},
		"an end before":      {key, good(func(d *control.Decision) { d.Until = d.When }), "until is not after when"},
		"a path as a topic":  {"decision/pause/topic/../x", good(func(d *control.Decision) { d.Scope = control.OfTopic("../x") }), "not the name of a topic"},
		"a wrong partition": {"decision/pause/partition/a/-1", good(func(d *control.Decision) {
			d.Scope = control.OfPartition(offsets.TopicPartition{Topic: "a", Partition: -1})
		}), "no partition -1"},
		"the key of another":  {"decision/pause/topic/orders", good(func(*control.Decision) {}), "is not that of the value"},
		"a scope with more":   {key, good(func(d *control.Decision) { d.Scope.Topic = "orders" }), "fields of another"},
		"a rate":              {key, good(func(d *control.Decision) { d.Rate = 5 }), "cannot have rate"},
		"offsets":             {key, good(func(d *control.Decision) { d.From, d.To = number(1), number(2) }), "cannot have from"},
		"a skip of nothing":   {"decision/skip/partition/orders/3", good(func(d *control.Decision) { d.What, d.Scope = control.Skip, control.OfPartition(orders) }), "names neither offsets"},
		"a history of others": {"history/y", good(func(*control.Decision) {}), "is not that of the value"},
		"an outcome of what":  {"outcome/x", `{}`, "has no instance"},
		"a strange outcome":   {"outcome/x/i", `{"v":1,"id":"x","instance":"i","when":"2026-03-01T12:00:00Z","result":"perhaps"}`, "no result"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s control.State
			first := decision(control.Pause, control.Scope{Kind: control.Flow}, "first", 0)
			apply(t, &s, first)
			err := s.Apply(control.Record{Offset: 7, Key: []byte(test.key), Value: []byte(test.value)})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if d := s.Paused(orders, noon); d == nil || d.ID != "first" {
				t.Errorf("the pause is %+v", d)
			}
			s.Settle()
			if n, last := s.Ignored(); n != 1 || last[0].Offset != 7 {
				t.Errorf("%d ignored: %v", n, last)
			}
		})
	}
}

// apply takes decisions as they are read from the topic.
func apply(t *testing.T, s *control.State, list ...control.Decision) {
	t.Helper()
	for _, d := range list {
		for _, e := range d.Entries() {
			if err := s.Apply(control.Record{Key: []byte(e.Key), Value: e.Value}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func FuzzApply(f *testing.F) {
	d := decision(control.Pause, control.OfPartition(orders), "one", 0)
	for _, e := range d.Entries() {
		f.Add([]byte(e.Key), e.Value)
	}
	f.Add([]byte("outcome/one/i"), control.Outcome{ID: "one", Instance: "i", When: noon, Result: control.Done}.Entry().Value)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var s control.State
		apply(t, &s, d)
		if s.Apply(control.Record{Key: key, Value: value}) != nil && s.Paused(orders, noon) == nil {
			t.Fatal("an ignored record has ended a pause")
		}
		s.Housekeep(noon)
		s.InForce(noon)
	})
}
