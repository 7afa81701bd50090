package replicator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// chunksInJournal counts the chunks of a partition that the journal has.
func chunksInJournal(t *testing.T, c *replicatortest.Clusters, topic string) int {
	t.Helper()
	chunks := make(map[int64]bool)
	for _, records := range c.Target.Records(offsets.JournalTopic("a-b"), 1) {
		for _, r := range records {
			entry, err := offsets.DecodeJournal(r.Key, r.Value)
			if err != nil {
				t.Fatal(err)
			}
			switch e := entry.(type) {
			case *offsets.Chunk:
				if e.Topic == topic {
					chunks[e.First] = true
				}
			case *offsets.Tombstone:
				if e.Topic == topic {
					delete(chunks, e.First)
				}
			}
		}
	}
	return len(chunks)
}

// writeHoles writes n records of which every second one is compacted away, so that the map gets a segment for each of the others.
func writeHoles(c *replicatortest.Clusters, topic string, n, round int) {
	var records []*kgo.Record
	for i := range n {
		key := fmt.Sprint("replaced ", round)
		if i%2 == 0 {
			key = fmt.Sprint(round, "-", i)
		}
		records = append(records, &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(key)})
	}
	c.Source.Write(records...)
	c.Source.Write(&kgo.Record{Topic: topic, Key: []byte("the last batch is never cleaned")})
	c.Source.Compact()
}

// oneShard journals into one partition, often.
func oneShard(f *config.Flow) { f.Shards, f.JournalInterval = 1, 100*time.Millisecond }

// A topic with retention is copied for long, by one process after the other. Its journal keeps what describes the records that are left, and every
// one of them translates exactly both ways.
func TestJournalOfATopicWithRetentionStaysBounded(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1, "cleanup.policy", "compact,delete")
	const rounds, chunks = 3, 4
	var sourceEnd int64
	for round := range rounds {
		writeHoles(c, "orders", 2*chunks*offsets.ChunkSegments, round)
		flow := c.Start(oneShard)
		flow.UntilCopied("orders")
		flow.Stop()
		if n := chunksInJournal(t, c, "orders"); n < chunks {
			t.Fatalf("round %d: the journal has %d chunks", round, n)
		}
		targetEnd := c.Target.EndOffsets("a.orders")[0]
		sourceEnd = c.Source.EndOffsets("orders")[0]
		c.Source.DeleteRecords("orders", 0, sourceEnd-offsets.ChunkSegments)
		c.Target.DeleteRecords("a.orders", 0, targetEnd-offsets.ChunkSegments/4)
		flow = c.Start(oneShard)
		replicatortest.Eventually(t, "the journal is pruned", func() (bool, string) {
			n := chunksInJournal(t, c, "orders")
			return n <= 2, fmt.Sprint(n, " chunks")
		})
		flow.Stop()
		verifyJournal(t, c, "orders", sourceEnd-offsets.ChunkSegments)
	}
	stalledGroups(t, c, sourceEnd-offsets.ChunkSegments)
}

// stalledGroups translates groups that stopped before both logs begin: they continue with what is left, in both directions.
func stalledGroups(t *testing.T, c *replicatortest.Clusters, sourceStart int64) {
	t.Helper()
	starts, err := c.Target.Admin.ListStartOffsets(t.Context(), "a.orders")
	if err != nil {
		t.Fatal(err)
	}
	start, _ := starts.Lookup("a.orders", 0)
	c.Source.Commit("stalled", "orders", 0, 10)
	flow := c.Start(oneShard, replicatortest.FastGroups)
	c.Target.AwaitCommitted("stalled", "a.orders", 0, start.Offset)
	flow.Stop()
	translator := openTranslator(t, c, oneShard)
	forward, _, err := translator.Group(t.Context(), "stalled")
	if err != nil || len(forward) != 1 || forward[0].Err != nil || forward[0].Target != start.Offset || forward[0].Exact {
		t.Errorf("the stalled group: %+v, %v; want %d", forward, err, start.Offset)
	}
	c.Target.Commit("stalled here", "a.orders", 0, 10)
	back, err := translator.ReverseGroup(t.Context(), "stalled here")
	if err != nil || len(back) != 1 || back[0].Err != nil || back[0].Source > sourceStart || back[0].Source <= 10 || back[0].Exact {
		t.Errorf("the group that stalled here: %+v, %v; want at most %d", back, err, sourceStart)
	}
}

// verifyJournal compares the translations of the records that are left with the logs.
func verifyJournal(t *testing.T, c *replicatortest.Clusters, topic string, sourceStart int64) {
	t.Helper()
	j := offsets.NewJournal(c.Target.Client, offsets.JournalTopic("a-b"), offsets.JournalOptions{MaxAge: time.Hour})
	source, copied := c.Source.Records(topic, 1)[0], c.Target.Records("a."+topic, 1)[0]
	if len(copied) == 0 || len(source) < len(copied) {
		t.Fatalf("%d records are left on the source, %d on the target", len(source), len(copied))
	}
	source = source[len(source)-len(copied):]
	for i, r := range copied {
		if string(source[i].Value) != string(r.Value) {
			t.Fatalf("record %d of the target is %q, on the source %q", r.Offset, r.Value, source[i].Value)
		}
		forward, err := j.Forward(t.Context(), topic, 0, source[i].Offset)
		if err != nil || !forward.Exact || forward.Target != r.Offset {
			t.Fatalf("forward %d: %+v, %v; want %d", source[i].Offset, forward, err, r.Offset)
		}
		reverse, err := j.Reverse(t.Context(), topic, 0, r.Offset)
		if err != nil || !reverse.Exact || reverse.Source != source[i].Offset {
			t.Fatalf("reverse %d: %+v, %v; want %d", r.Offset, reverse, err, source[i].Offset)
		}
	}
	if got, err := j.Forward(t.Context(), topic, 0, sourceStart); err != nil {
		t.Errorf("the start of the source: %+v, %v", got, err)
	}
	// A group that stopped before both logs begin continues with the first record that is left.
	if got, err := j.Forward(t.Context(), topic, 0, 0); err != nil || got.Exact || got.Target > copied[0].Offset {
		t.Errorf("an offset that is long gone: %+v, %v", got, err)
	}
}
