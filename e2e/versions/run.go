package versions

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// Options of a run.
type Options struct {
	Jars   kafka.Jars
	Binary string // milena's, see daemon.Build
	Dir    string // of data and logs
}

// Result is what a run has found.
type Result struct {
	Records   int64 // that are equal on both sides
	Positions int   // of groups that are where they have to be
	Took      time.Duration
}

// Run copies plain, compacted and transactional topics, and one of record format v1 where the source has it, from one age to another. Milena is
// killed in the middle. Nothing is lost, nothing is there twice, and groups are where they have to be.
func Run(t *testing.T, o Options, source, target Age) (r Result) {
	t.Helper()
	began := time.Now()
	s := newScene(t, o, source.Options, target.Options)
	ctx := t.Context()
	s.compact()
	s.createTopic(plain, 4, 1)
	s.createTopic(transactions, 2, 1)
	w := s.writer(load.Options{Topic: plain, Partitions: 4, Shapes: []load.Shape{load.Sized(200), load.Headers}})
	s.check(w.Write(ctx, 200))
	committed, err := load.Transactions(ctx, s.source, load.Options{Topic: transactions, Partitions: 2, Shapes: []load.Shape{load.Sized(200)}}, 15, 20)
	s.check(err)
	writeOld := func(int) int64 { return 0 }
	if source.OldFormat {
		s.createTopic(old, 2, 1, "message.format.version=0.10.2")
		writeOld = s.oldFormat(2)
	}
	written := writeOld(50)
	if source.NewGroups {
		s.joinNewGroups()
	}
	s.newMilena(o, nil)
	if source.NewGroups {
		s.checkNamesNewGroups()
	}

	stream := w.Stream(ctx, 500)
	s.startMilena()
	for range 2 { // the second time there is a journal
		written += writeOld(50)
		s.waitProgress()
		s.milena.Kill()
		s.startMilena()
	}
	written += writeOld(50)
	s.waitProgress()
	acked, err := stream.Stop(ctx)
	s.check(err)
	r.Records = s.verify(acked + committed + written)
	r.Positions = s.checkGroups()
	if source.NewGroups {
		s.statusNamesNewGroups()
	}
	s.stopMilena()
	r.Took = time.Since(began)
	t.Logf("%s -> %s: %d records and %d positions of groups are right, %.0f s", source.Name, target.Name, r.Records, r.Positions, r.Took.Seconds())
	return r
}

// compact creates a topic in whose log the cleaner has left holes, and then keeps it from cleaning, so that both sides stay equal.
func (s *scene) compact() {
	s.t.Helper()
	ctx, admin := s.t.Context(), kadm.NewClient(s.sourceClient)
	s.createTopic(compacted, 1, 1, "cleanup.policy=compact", "segment.ms=200", "min.cleanable.dirty.ratio=0.01")
	shapes := make([]load.Shape, 7) // so many keys
	for i := range shapes {
		shapes[i] = load.Keyed(fmt.Sprint("key-", i), load.Sized(100))
	}
	w := s.writer(load.Options{Topic: compacted, Partitions: 1, Shapes: shapes, BatchBytes: 1 << 10})
	const n = 200
	s.check(w.Write(ctx, n))
	s.until(30*time.Second, "the cleaner has left holes", func() (bool, string) {
		s.check(w.Write(ctx, 1)) // rolls the segment: the cleaner leaves the active one alone
		c, err := verify.Contents(ctx, s.sourceClient, compacted)
		s.check(err)
		return c[0].Records < n/2, fmt.Sprint(c)
	})
	// The request that replaces all configs is the one that brokers before 2.3 have.
	policy, never := "compact", "86400000"
	altered, err := admin.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}, {Name: "min.compaction.lag.ms", Value: &never}}, compacted)
	s.check(err)
	_, err = altered.On(compacted, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	s.check(err)
}

// oldFormat returns a function that writes n records to each partition of topic old, as a producer does that knows neither headers nor
// idempotence, and returns how many that are.
func (s *scene) oldFormat(partitions int) func(n int) int64 {
	s.t.Helper()
	cl := s.client(s.source, kgo.DisableIdempotentWrite(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	next := 0
	return func(n int) int64 {
		s.t.Helper()
		var records []*kgo.Record
		for range n * partitions {
			records = append(records, &kgo.Record{Topic: old, Partition: int32(next % partitions), Key: fmt.Append(nil, next), Value: fmt.Append(nil, "old ", next)})
			next++
		}
		s.check(cl.ProduceSync(s.t.Context(), records...).FirstErr())
		return int64(len(records))
	}
}
