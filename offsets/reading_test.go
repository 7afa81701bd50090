package offsets_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// countReadings counts how often the end of a journal partition is asked for.
func (c *cluster) countReadings() *atomic.Int64 {
	var n atomic.Int64
	c.fake.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		n.Add(1)
		return nil, nil, false
	})
	return &n
}

// A reading reads the journal forward once, however many offsets are above what it has. The next one has what was journaled meanwhile.
func TestAReadingReadsTheJournalForwardOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-b.journal", shards)
	k := newCopier(c, "orders", 1)
	k.copies(20)
	k.journals()
	tp := offsets.TopicPartition{Topic: "orders"}
	j := offsets.NewJournal(c.client, "milena.a-b.journal", offsets.JournalOptions{})
	if _, err := j.Reading().Forward(t.Context(), tp, 0); err != nil {
		t.Fatal(err)
	}
	first := k.end
	readings := c.countReadings()
	r := j.Reading()
	r.Prepare(t.Context(), []offsets.TopicPartition{tp, tp, {Topic: "orders", Partition: shards}}) // all in one partition of the journal
	k.copies(20)
	k.journals()
	w := model{records: k.records, end: k.end}
	var late *offsets.NotCopiedError
	for s := int64(0); s <= k.end.Source; s++ {
		got, err := r.Forward(t.Context(), tp, s)
		if s > first.Source {
			if !errors.As(err, &late) || late.End != first.Source || got.End != first {
				t.Fatalf("forward %d, which was copied after the reading began: %+v, %v", s, got, err)
			}
			continue
		}
		if want, exact := w.translate(s, source, target); err != nil || s < first.Source && (got.Target != want || got.Exact != exact) {
			t.Fatalf("forward %d: %+v, %v; want %d, %v", s, got, err, want, exact)
		}
	}
	var unknown *offsets.NotReplicatedError
	if _, err := r.State(t.Context(), offsets.TopicPartition{Topic: "orders", Partition: shards}); !errors.As(err, &unknown) {
		t.Errorf("a partition that is not journaled: %v", err)
	}
	if n := readings.Load(); n != 1 {
		t.Errorf("the journal was read forward %d times", n)
	}
	r = j.Reading()
	state, err := r.State(t.Context(), tp)
	if err != nil || state.End != k.end {
		t.Errorf("the next reading: %+v, %v", state, err)
	}
	if got, err := r.Forward(t.Context(), tp, k.end.Source); err != nil || got.Target != k.end.Target {
		t.Errorf("the next reading translates the end to %+v, %v", got, err)
	}
}

// The segments of a map are found one after the other, up to its end, over all of its chunks, also while few of them fit into memory. The result is
// what was copied, record by record, and Reverse agrees.
func TestAReadingFindsSegments(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-b.journal", shards)
	k := newCopier(c, "orders", 7)
	tp := offsets.TopicPartition{Topic: "orders"}
	k.copies(3*offsets.ChunkSegments + 5)
	k.journals()
	r := offsets.NewJournal(c.client, "milena.a-b.journal", offsets.JournalOptions{Memory: 1}).Reading()
	journaled := k.end
	wanted := slices.Clone(k.records)
	k.copies(3) // not journaled
	var found []offsets.Pair
	for next := int64(0); ; {
		s, err := r.Segment(t.Context(), tp, next)
		if err != nil {
			t.Fatalf("segment at %d: %v", next, err)
		}
		if s.Count == 0 {
			break
		}
		for n := range s.Count {
			found = append(found, offsets.Pair{Source: s.Source + n, Target: s.Target + n})
		}
		if again, err := r.Segment(t.Context(), tp, s.SourceEnd()-1); err != nil || again != s {
			t.Fatalf("the segment of its last offset is %+v, %v; want %+v", again, err, s)
		}
		if back, err := r.Reverse(t.Context(), tp, s.Target); err != nil || back.Source != s.Source || !back.Exact {
			t.Fatalf("reverse %d: %+v, %v", s.Target, back, err)
		}
		next = s.SourceEnd()
	}
	if !slices.Equal(found, wanted) {
		t.Errorf("%d records are in segments, %d are copied", len(found), len(wanted))
	}
	if s, err := r.Segment(t.Context(), tp, journaled.Source+1000); err != nil || s.Count != 0 {
		t.Errorf("behind the end: %+v, %v", s, err)
	}
	var unknown *offsets.NotReplicatedError
	if _, err := r.Segment(t.Context(), offsets.TopicPartition{Topic: "none"}, 0); !errors.As(err, &unknown) {
		t.Errorf("a topic that is not copied: %v", err)
	}
}

// Before the start of a map there is no segment, and the error says where it begins.
func TestAReadingHasNoSegmentsFromBeforeTheStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-b.journal", shards)
	k := newCopier(c, "orders", 1)
	k.end = offsets.Pair{Source: 100, Target: 50}
	k.m = offsets.NewMap(100, 50)
	k.copies(3)
	k.journals()
	var early *offsets.BeforeStartError
	r := offsets.NewJournal(c.client, "milena.a-b.journal", offsets.JournalOptions{}).Reading()
	if _, err := r.Segment(t.Context(), offsets.TopicPartition{Topic: "orders"}, 99); !errors.As(err, &early) || early.Begin != (offsets.Pair{Source: 100, Target: 50}) {
		t.Errorf("from before the start: %v", err)
	}
}

// A log start that is not known to be there is left to the caller.
func TestAReadingDoesNotTranslateFromBeforeTheStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-b.journal", shards)
	c.create("a.orders", 1)
	k := newCopier(c, "orders", 1)
	k.end = offsets.Pair{Source: 100, Target: 50}
	k.m = offsets.NewMap(100, 50)
	k.copies(3)
	k.journals()
	var early *offsets.BeforeStartError
	j := offsets.NewJournal(c.client, "milena.a-b.journal", offsets.JournalOptions{})
	if _, err := j.Reading().Forward(t.Context(), offsets.TopicPartition{Topic: "orders"}, 99); !errors.As(err, &early) || early.Begin.Target < 50 {
		t.Errorf("from before the start: %v", err)
	}
}

// A journal that cannot be read is not asked again for each question.
func TestAReadingThatFailsIsNotRepeated(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-b.journal", shards)
	k := newCopier(c, "orders", 1)
	k.copies(3)
	k.journals()
	var asked atomic.Int64
	c.fake.ControlKey(int16(kmsg.ListOffsets), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		asked.Add(1)
		request := r.(*kmsg.ListOffsetsRequest)
		response := request.ResponseKind().(*kmsg.ListOffsetsResponse)
		topic := kmsg.NewListOffsetsResponseTopic()
		topic.Topic = request.Topics[0].Topic
		partition := kmsg.NewListOffsetsResponseTopicPartition()
		partition.Partition, partition.ErrorCode = request.Topics[0].Partitions[0].Partition, kerr.TopicAuthorizationFailed.Code
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	tp := offsets.TopicPartition{Topic: "orders"}
	r := offsets.NewJournal(c.client, "milena.a-b.journal", offsets.JournalOptions{}).Reading()
	r.Prepare(t.Context(), []offsets.TopicPartition{tp})
	before := asked.Load()
	for range 10 {
		if _, err := r.Forward(t.Context(), tp, 1); !errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Fatalf("forward: %v", err)
		}
		if _, err := r.State(t.Context(), tp); !errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Fatalf("state: %v", err)
		}
	}
	if n := asked.Load(); before == 0 || n != before {
		t.Errorf("the journal was asked %d times, then %d times", before, n)
	}
}
