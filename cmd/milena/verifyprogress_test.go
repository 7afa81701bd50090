package main

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/verify"
)

// keptStore is the store of a command that verifies everything.
func keptStore(t *testing.T, path string, last time.Duration) *topicStore {
	t.Helper()
	c, err := config.Load(path, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	s := &topicStore{clusters: silent(c, c.Flows[0]), slot: progressSlot(verify.Question{Sample: 1}, last), who: "anna@host", warn: func(err error) { t.Error(err) }}
	t.Cleanup(func() { s.close() })
	return s
}

// half is the progress of a run that has verified the first three of five records.
func half(t *testing.T, path string, target *kgo.Client) *verify.Document {
	t.Helper()
	c, err := config.Load(path, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	source, other, err := silent(c, c.Flows[0]).Open()
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	defer other.Close()
	d := &verify.Document{Header: verify.Header{Version: 1, Flow: "a-b", Began: time.Date(2026, time.January, 2, 3, 4, 5, 0, time.UTC), Source: "one", Target: "two", Question: verify.Question{Sample: 1}, Seed: 7}}
	p := verify.Saved{Position: offsets.Pair{Source: 3, Target: 3}, Found: verify.Partition{Topic: "orders", TargetTopic: "a.orders", Result: verify.Equal, Verified: &verify.Range{SourceTo: 3, TargetTo: 3}}}
	p.Found.Records, p.Found.ByContent = 3, 3
	for cl, of := range map[*kgo.Client]struct {
		topic string
		id    *[16]byte
	}{source: {"orders", &p.SourceID}, target: {"a.orders", &p.TargetID}} {
		listed, err := kadm.NewClient(cl).ListTopics(t.Context(), of.topic)
		if err != nil {
			t.Fatal(err)
		}
		*of.id = listed[of.topic].ID
	}
	d.Partitions = []verify.Saved{p}
	return d
}

// What one command keeps in the control topic, the next one of the same question finds, and says so. It is gone when that one is complete.
func TestVerifyGoesOnFromTheControlTopic(t *testing.T) {
	t.Parallel()
	path, target := verifiedClusters(t, "x", "1", "2", "3", "4") // a difference in what was verified before
	want := half(t, path, target)
	first := keptStore(t, path, 0)
	if d, err := first.Load(t.Context()); d != nil || err != nil {
		t.Fatalf("%v, %v", d, err)
	}
	before := *want
	before.Partitions = slices.Clone(want.Partitions)
	before.Partitions[0].Position.Source = 1
	for _, d := range []*verify.Document{&before, want, want} {
		if err := first.Save(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := keptStore(t, path, 0).Load(t.Context()); err != nil || !reflect.DeepEqual(d, want) {
		t.Fatalf("%v\n%+v\n%+v", err, d, want)
	}
	if d, err := keptStore(t, path, time.Hour).Load(t.Context()); d != nil || err != nil {
		t.Errorf("the progress of another question: %+v, %v", d, err)
	}
	code, stdout, stderr := milena(t, "verify", "-c", path)
	says := "verify: goes on from the progress in topic milena.a-b.control on cluster b: 1 partition begun, 60% of the offsets verified, since 2026-01-02T03:04:05Z; --restart begins anew\n"
	if code != exitClean || stderr != says || !strings.Contains(stdout, "5 records equal") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	if d, err := keptStore(t, path, 0).Load(t.Context()); d != nil || err != nil {
		t.Errorf("the progress of a complete run is kept: %+v, %v", d, err)
	}
}

// --restart begins anew, in the control topic and in a file.
func TestVerifyBeginsAnew(t *testing.T) {
	t.Parallel()
	path, target := verifiedClusters(t, "x", "1", "2", "3", "4")
	kept := half(t, path, target)
	in, state := keptStore(t, path, 0), stateFile{file(t, "")}
	if _, err := in.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []verify.Store{in, state} {
		if err := s.Save(t.Context(), kept); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{nil, {"--state", state.path}} {
		code, stdout, stderr := milena(t, append([]string{"verify", "-c", path, "--restart"}, args...)...)
		if code != exitFailed || !strings.Contains(stdout, "from source offset 0") || strings.Contains(stderr, "goes on") {
			t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
		}
		if d, err := keptStore(t, path, 0).Load(t.Context()); d != nil || err != nil {
			t.Errorf("the progress before is kept: %+v, %v", d, err)
		}
	}
}

// A run whose progress cannot be kept says so once, and verifies all the same.
func TestVerifyWhoseProgressCannotBeKept(t *testing.T) {
	t.Parallel()
	path, target := verifiedClusters(t, "0", "1", "2", "3", "4")
	s := keptStore(t, path, 0)
	var warned []string
	s.warn = func(err error) { warned = append(warned, err.Error()) }
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what is written fails
	for range 3 {
		if err := s.Save(ctx, half(t, path, target)); err != nil {
			t.Errorf("verify fails because its progress is not kept: %v", err)
		}
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "the progress is not kept") {
		t.Errorf("%q", warned)
	}
	if err := s.Save(t.Context(), half(t, path, target)); err != nil {
		t.Fatal(err)
	}
	if d, err := keptStore(t, path, 0).Load(t.Context()); err != nil || d == nil || len(d.Partitions) != 1 {
		t.Errorf("what failed is not written again: %+v, %v", d, err)
	}
}
