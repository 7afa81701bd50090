package groups

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// lineageOf reads what the journal says of groups, by group and topic.
func (w *world) lineageOf() map[string][]offsets.PlacedOffset {
	w.t.Helper()
	placed := make(map[string][]offsets.PlacedOffset)
	reader := offsets.NewLineageReader(w.host.target, w.host.journal, w.deps.Log, func() {}, func(e offsets.Entry) {
		switch e := e.(type) {
		case *offsets.GroupPositions:
			placed[e.Group+" "+e.Topic] = e.Placed
		case *offsets.Tombstone:
			delete(placed, e.Group+" "+e.Topic)
		}
	})
	if err := reader.Follow(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return placed
}

func (s *Status) reasons() map[string]string {
	reasons := make(map[string]string)
	for _, r := range s.Refusals {
		reasons[r.Group] = r.Reason
	}
	return reasons
}

func TestOnlyPositionsThatMilenaPutAreMoved(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		first, own    int64 // committed on the target by milena through the source, and then there by others; -1: not
		second        int64 // committed on the source
		want          int64
		refused, meta string
	}{
		{"none", -1, -1, 40, 45, "", "m"},
		{"put, forward", 40, -1, 60, 65, "", "m"},
		{"put, backward", 40, -1, 10, 15, "", "m"},
		{"consumed further", 40, 70, 60, 70, "own", "theirs"},
		{"consumed further than the source ever was", 40, 99, 60, 99, "own", "theirs"},
		{"moved back by a person", 40, 20, 60, 20, "own", "theirs"},
		{"never put, behind", -1, 20, 40, 20, "own", "theirs"},
		{"never put, ahead", -1, 80, 40, 80, "own", "theirs"},
		{"never put, at the same offset", -1, 45, 40, 45, "own", "theirs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.copies("orders", 5, 100)
			s := w.newSyncer()
			if c.first >= 0 {
				w.commit(w.host.source, "app", "orders", c.first)
				w.sync(s)
				if at := w.committed(w.host.target, "app", "a.orders"); at != c.first+5 {
					t.Fatalf("first committed at %d", at)
				}
			}
			if c.own >= 0 {
				var o kadm.Offsets
				o.Add(kadm.Offset{Topic: "a.orders", At: c.own, LeaderEpoch: -1, Metadata: "theirs"})
				if err := kadm.NewClient(w.host.target).CommitAllOffsets(t.Context(), "app", o); err != nil {
					t.Fatal(err)
				}
			}
			w.commit(w.host.source, "app", "orders", c.second)
			status := w.sync(s)
			list, err := offsets.CommittedOffsets(t.Context(), w.host.target, "app", "b")
			if err != nil || len(list) != 1 || list[0].At != c.want || list[0].Metadata != c.meta {
				t.Errorf("committed %+v, %v; want %d %q", list, err, c.want, c.meta)
			}
			if got := status.reasons()["app"]; got != c.refused {
				t.Errorf("refused as %q, want %q", got, c.refused)
			}
			if n := counted(t, w.deps.Metrics.Refusals.WithLabelValues("own")); (n == 1) != (c.refused == "own") {
				t.Errorf("%v refusals counted", n)
			}

			// The same holds for the next process, which knows no more than the journal says.
			w.commit(w.host.source, "app", "orders", c.second+1)
			w.sync(w.newSyncer())
			want := c.want
			if c.refused == "" {
				want++
			}
			if at := w.committed(w.host.target, "app", "a.orders"); at != want {
				t.Errorf("after a restart at %d, want %d", at, want)
			}
		})
	}
}

// A process that is killed between the note and the commit, or between the commit and its answer, leaves a position that the next one knows.
func TestAKillBetweenNoteAndCommitKeepsTheLineage(t *testing.T) {
	t.Parallel()
	for _, landed := range []bool{false, true} {
		t.Run(fmt.Sprintf("landed %v", landed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.copies("orders", 5, 100)
			w.commit(w.host.source, "app", "orders", 40)
			w.sync(w.newSyncer())
			w.commit(w.host.source, "app", "orders", 60)
			if landed { // the commit lands behind the back of the process
				w.host.afterNote = func() { w.commit(w.host.target, "app", "a.orders", 65) }
			}
			w.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.NotCoordinator, Count: 1})
			s := w.newSyncer()
			s.deps.Flow.Checkpoints = false
			if err := s.sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.host.afterNote = nil
			w.commit(w.host.source, "app", "orders", 70)
			status := w.sync(w.newSyncer())
			if at := w.committed(w.host.target, "app", "a.orders"); at != 75 || status.Refused != 0 {
				t.Errorf("committed at %d, want 75: %+v", at, status)
			}
		})
	}
}

func TestWithoutANoteNothingIsCommitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 5, 100)
	s := w.newSyncer()
	s.checkpoints = nil
	w.sync(s)
	w.commit(w.host.source, "app", "orders", 40)
	w.host.noteErr = errors.New("fenced")
	for range 2 {
		if err := s.sync(t.Context()); !errors.Is(err, w.host.noteErr) {
			t.Errorf("the sync: %v", err)
		}
	}
	if at := w.committed(w.host.target, "app", "a.orders"); at != -1 {
		t.Errorf("committed at %d without a note", at)
	}
	w.host.noteErr = nil
	w.sync(s)
	if at := w.committed(w.host.target, "app", "a.orders"); at != 45 {
		t.Errorf("committed at %d, want 45", at)
	}
}

// Between the first look and the commit somebody consumes on the target.
func TestTheTargetIsLookedAtAgainBeforeTheCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 5, 100)
	w.commit(w.host.source, "app", "orders", 40)
	s := w.newSyncer()
	w.sync(s)
	w.commit(w.host.source, "app", "orders", 60)
	w.host.afterNote = func() { w.commit(w.host.target, "app", "a.orders", 50) }
	status := w.sync(s)
	if at := w.committed(w.host.target, "app", "a.orders"); at != 50 || status.reasons()["app"] != "own" {
		t.Errorf("committed at %d, want 50: %+v", at, status)
	}
}

// MirrorMaker 2 writes checkpoints and commits at different times: what it committed need not be the newest checkpoint.
func TestPositionsOfMirrorMakerAreAdoptedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
	kafkatestCheckpoints(w, "newest", 10, 20, 30)
	kafkatestCheckpoints(w, "older", 10, 20, 30)
	kafkatestCheckpoints(w, "consumed", 10, 20, 30)
	w.commit(w.host.target, "newest", "a.orders", 30)
	w.commit(w.host.target, "older", "a.orders", 20)
	w.commit(w.host.target, "consumed", "a.orders", 25)
	w.commit(w.host.target, "unknown", "a.orders", 30)
	groups := []string{"newest", "older", "consumed", "unknown"}
	for _, group := range groups {
		w.commit(w.host.source, group, "orders", 40)
	}
	status := w.sync(w.newSyncer())
	want := map[string]int64{"newest": 40, "older": 40, "consumed": 25, "unknown": 30}
	for _, group := range groups {
		if at := w.committed(w.host.target, group, "a.orders"); at != want[group] {
			t.Errorf("%s is at %d, want %d", group, at, want[group])
		}
	}
	if diff := cmp.Diff(map[string]string{"consumed": "own", "unknown": "own"}, status.reasons()); diff != "" {
		t.Error(diff)
	}

	// By now there is a checkpoint of the flow's own for each. It says nothing about who put the group there.
	w.commit(w.host.target, "unknown", "a.orders", 40)
	w.commit(w.host.source, "unknown", "orders", 50)
	w.sync(w.newSyncer())
	if at := w.committed(w.host.target, "unknown", "a.orders"); at != 40 {
		t.Errorf("the position was adopted by the flow's own checkpoint: at %d", at)
	}
}

// kafkatestCheckpoints writes checkpoints of a group as MirrorMaker 2 does.
func kafkatestCheckpoints(w *world, group string, positions ...int64) {
	w.t.Helper()
	const topic = "a.checkpoints.internal"
	if _, err := kadm.NewClient(w.host.target).CreateTopic(w.t.Context(), 1, 1, nil, topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		w.t.Fatal(err)
	}
	for _, at := range positions {
		c := offsets.Checkpoint{Group: group, Topic: "a.orders", Source: at, Target: at}
		if err := w.host.target.ProduceSync(w.t.Context(), &kgo.Record{Topic: topic, Key: c.AppendKey(nil), Value: c.AppendValue(nil)}).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestTheLineageOfAGroupThatIsGoneIsDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
	w.copies("stock", 0, 100)
	for _, group := range []string{"stays", "expired", "gone"} {
		w.commit(w.host.source, group, "orders", 40)
		w.commit(w.host.source, group, "stock", 40)
	}
	s := w.newSyncer()
	w.sync(s)
	w.sync(s) // notes that the commits have succeeded
	onSource, onTarget := kadm.NewClient(w.host.source), kadm.NewClient(w.host.target)
	if _, err := onSource.DeleteGroups(t.Context(), "expired", "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := onTarget.DeleteGroups(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	w.host.mu.Lock()
	delete(w.host.copies, offsets.TopicPartition{Topic: "stock"})
	w.host.mu.Unlock()
	if _, err := onTarget.DeleteTopics(t.Context(), "a.stock"); err != nil {
		t.Fatal(err)
	}
	w.sync(s)
	put := []offsets.PlacedOffset{{Source: 40, Put: 40, Before: 40}}
	want := map[string][]offsets.PlacedOffset{"stays a.orders": put, "expired a.orders": put}
	if diff := cmp.Diff(want, w.lineageOf()); diff != "" {
		t.Error(diff)
	}
}

func TestTheLineageOfATopicDoesNotApplyToItsSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.copies("orders", 0, 100)
	w.commit(w.host.source, "app", "orders", 40)
	s := w.newSyncer()
	w.sync(s)
	if _, err := kadm.NewClient(w.host.target).DeleteTopics(t.Context(), "a.orders"); err != nil {
		t.Fatal(err)
	}
	w.host.target.PurgeTopicsFromClient("a.orders")
	if _, err := kadm.NewClient(w.host.target).CreateTopic(t.Context(), 1, 1, nil, "a.orders"); err != nil {
		t.Fatal(err)
	}
	w.fill("a.orders", 100)
	c.target = w.host.View(offsets.Target).ByName["a.orders"].ID
	w.commit(w.host.target, "app", "a.orders", 40) // by its own consumers, at the number that milena put in the deleted topic
	w.commit(w.host.source, "app", "orders", 60)
	for _, syncer := range []*Syncer{s, w.newSyncer()} {
		status := w.sync(syncer)
		if at := w.committed(w.host.target, "app", "a.orders"); at != 40 || status.reasons()["app"] != "own" {
			t.Errorf("committed at %d, want 40: %+v", at, status)
		}
	}
}
