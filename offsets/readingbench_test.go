package offsets_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
)

// A large flow: partitions of topics in the partitions of a journal.
const (
	readingJournal = 64
	readingTopics  = 100
	readingAll     = 1_000_000 // positions
)

// BenchmarkReading translates a million positions in 6,400 partitions, a quarter of them above what is journaled. It reports also how long it takes
// to read the journal for the first time, when nothing is new and when all partitions have changed.
func BenchmarkReading(b *testing.B) {
	c := newCluster(b)
	c.create("milena.a-b.journal", readingJournal)
	all := c.journalsMany()
	j := offsets.NewJournal(c.client, "milena.a-b.journal", offsets.JournalOptions{})
	read := func() (*offsets.Reading, float64) {
		began := time.Now()
		r := j.Reading()
		r.Prepare(b.Context(), all)
		return r, float64(time.Since(began).Microseconds()) / 1000
	}
	_, first := read()
	r, idle := read()
	b.ResetTimer()
	for range b.N {
		for i := range int64(readingAll) {
			tp, at := all[i%int64(len(all))], i%1000
			if i%4 == 0 {
				at = 10_000
			}
			_, _ = r.State(b.Context(), tp)
			_, _ = r.Forward(b.Context(), tp, at)
		}
	}
	b.StopTimer()
	c.journalsMany()
	_, changed := read()
	b.ReportMetric(first, "ms/first-reading")
	b.ReportMetric(idle, "ms/idle-reading")
	b.ReportMetric(changed, "ms/reading-of-all")
}

// journalsMany writes the maps of many partitions, with some holes.
func (c *cluster) journalsMany() (all []offsets.TopicPartition) {
	c.t.Helper()
	var records []*kgo.Record
	for i := range readingTopics * readingJournal {
		tp := offsets.TopicPartition{Topic: fmt.Sprintf("topic-%02d", i/readingJournal), Partition: int32(i % readingJournal)}
		all = append(all, tp)
		m := offsets.NewMap(0, 0)
		for run := range int64(20) {
			mustAppend(c.t, m, run*100, run*101, 90)
		}
		state := offsets.PartitionState{Topic: tp.Topic, Partition: tp.Partition, TargetTopic: "a." + tp.Topic, LeaderEpoch: -1}
		changes, _ := m.Changed()
		for _, e := range []entry{state.Apply(changes)[0], &state} {
			records = append(records, &kgo.Record{
				Topic: "milena.a-b.journal", Partition: offsets.ShardOf(tp.Topic, tp.Partition, readingJournal), Key: e.AppendKey(nil), Value: e.AppendValue(nil),
			})
		}
	}
	if err := c.client.ProduceSync(c.t.Context(), records...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
	return all
}
