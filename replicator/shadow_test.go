package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/compare"
)

// shadowed is a pair whose source another program copies, record by record as MirrorMaker 2 does.
type shadowed struct {
	*pair
	writes *writes
	whole  bool // compare each copy from its beginning
}

// writes are the requests of milena that change anything.
type writes struct {
	mu   sync.Mutex
	list []string
	all  int
}

// sees notes what is not on the list of requests that leave no trace.
func (w *writes) sees(client string, request kmsg.Request) {
	if client != "milena" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all++
	harmless := false
	switch r := request.(type) {
	case *kmsg.ApiVersionsRequest, *kmsg.FetchRequest, *kmsg.ListOffsetsRequest, *kmsg.DescribeConfigsRequest, *kmsg.DescribeClusterRequest:
		harmless = true
	case *kmsg.MetadataRequest:
		harmless = !r.AllowAutoTopicCreation
	case *kmsg.CreateTopicsRequest:
		harmless = r.ValidateOnly
	case *kmsg.CreatePartitionsRequest:
		harmless = r.ValidateOnly
	case *kmsg.IncrementalAlterConfigsRequest:
		harmless = r.ValidateOnly
	}
	if !harmless {
		w.list = append(w.list, fmt.Sprintf("%T %+v", request, request))
	}
}

func newShadowed(t *testing.T) *shadowed {
	t.Helper()
	s := &shadowed{writes: &writes{}}
	s.pair = newPair(t, 2)
	s.sourceTrap.sees, s.targetTrap.sees = s.writes.sees, s.writes.sees
	t.Cleanup(func() {
		s.writes.mu.Lock()
		defer s.writes.mu.Unlock()
		if s.writes.all == 0 {
			t.Error("no request was seen")
		}
		for _, request := range s.writes.list {
			t.Errorf("milena sent what may leave a trace: %s", request)
		}
	})
	return s
}

// createBoth creates a topic and the copy that MirrorMaker 2 would make.
func (s *shadowed) createBoth(name string, partitions int32) {
	s.t.Helper()
	s.createTopic(name, partitions)
	if _, err := s.targetAdm.CreateTopic(s.t.Context(), partitions, 1, nil, "a."+name); err != nil {
		s.t.Fatal(err)
	}
}

// mirror copies records of one partition to the target, from the one with this number on, and gives the target offset of each.
func (s *shadowed) mirror(topic string, partition int32, records []*kgo.Record) []int64 {
	s.t.Helper()
	var at []int64
	for _, r := range records {
		if r.Attrs.IsControl() {
			continue
		}
		c := &kgo.Record{Topic: "a." + topic, Partition: partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}
		if err := s.targetCl.ProduceSync(s.t.Context(), c).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
		at = append(at, c.Offset)
	}
	return at
}

// sourceRecords are all that a partition of the source holds, those of aborted transactions too.
func (s *shadowed) sourceRecords(topic string, partition int32) []*kgo.Record {
	s.t.Helper()
	ends, err := s.sourceAdm.ListEndOffsets(s.t.Context(), topic)
	if err != nil {
		s.t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, partition)
	reader, err := kgo.NewClient(kgo.SeedBrokers(s.source.ListenAddrs()...), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(0)}}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var list []*kgo.Record
	for next := int64(0); next < end.Offset; {
		for _, r := range reader.PollFetches(ctx).Records() {
			list, next = append(list, r), r.Offset+1
		}
		if ctx.Err() != nil {
			s.t.Fatalf("%s-%d is not read to %d", topic, partition, end.Offset)
		}
	}
	return list
}

// sync writes one of MirrorMaker 2's offset-syncs.
func (s *shadowed) sync(o offsets.OffsetSync) {
	s.t.Helper()
	topic := offsets.Names{}.OffsetSyncs("a")
	_, _ = s.targetAdm.CreateTopic(s.t.Context(), 1, 1, nil, topic)
	r := &kgo.Record{Topic: topic, Key: o.AppendKey(nil), Value: o.AppendValue(nil)}
	if err := s.targetCl.ProduceSync(s.t.Context(), r).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
}

// position writes one of MirrorMaker 2's positions.
func (s *shadowed) position(topic string, offset int64) {
	s.t.Helper()
	positions := "mm2-offsets.a.internal"
	_, _ = s.targetAdm.CreateTopic(s.t.Context(), 1, 1, nil, positions)
	key := fmt.Appendf(nil, `["MirrorSourceConnector",{"cluster":"a","partition":0,"topic":%q}]`, topic)
	if err := s.targetCl.ProduceSync(s.t.Context(), &kgo.Record{Topic: positions, Key: key, Value: fmt.Appendf(nil, `{"offset":%d}`, offset)}).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
}

// comparing is milena in shadow mode.
type comparing struct {
	t    *testing.T
	c    *compare.Comparison
	stop context.CancelFunc
	done chan error
}

func (s *shadowed) compare(change func(*client.Clusters)) *comparing {
	s.t.Helper()
	o := client.Clusters{
		Flow: config.Flow{
			Name: "a-b", Source: "a", Target: "b", Topics: []string{".*"}, Naming: "prefix", Separator: ".", Start: "earliest",
			Isolation: "read_committed", OffsetSyncs: config.OffsetSyncsTarget, Shards: 4, ReplicationFactor: 1, Anomalies: map[string]string{},
		},
		Source: config.Cluster{Brokers: s.source.ListenAddrs()}, Target: config.Cluster{Brokers: s.target.ListenAddrs()},
		Log: slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if change != nil {
		change(&o)
	}
	c, err := compare.New(o, s.whole)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	r := &comparing{s.t, c, cancel, make(chan error, 1)}
	go func() { r.done <- c.Run(ctx) }()
	s.t.Cleanup(func() { r.end() })
	return r
}

// end stops the comparison and gives what came of it.
func (r *comparing) end() *compare.Report {
	r.t.Helper()
	r.stop()
	err := <-r.done
	r.done <- err
	if err != nil {
		r.t.Errorf("the comparison ended with: %v", err)
	}
	return r.c.Report()
}

func (r *comparing) until(what string, ok func(*compare.Report) bool) *compare.Report {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s := r.c.Report()
		if ok(s) {
			return s
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not within %s: %s; last: %+v", patience, what, *s)
		}
		select {
		case err := <-r.done:
			r.done <- err
			r.t.Fatalf("the comparison ended while waiting for %s: %v", what, err)
		case <-tick.C:
		}
	}
}

func (r *comparing) equal(records int64) *compare.Report {
	r.t.Helper()
	return r.until(fmt.Sprintf("%d records are equal", records), func(s *compare.Report) bool { return s.Records.Equal == records })
}

// differences fails unless there is one sentence with each of these parts, in this order, and no other.
func differences(t *testing.T, s *compare.Report, parts ...string) {
	t.Helper()
	ok := len(s.Differences) == len(parts)
	for i := range min(len(parts), len(s.Differences)) {
		ok = ok && strings.Contains(s.Differences[i], parts[i])
	}
	if !ok {
		t.Errorf("differences:\n%s\nwant:\n%s", strings.Join(s.Differences, "\n"), strings.Join(parts, "\n"))
	}
}

// clusterState is all that a write could change of a cluster.
func clusterState(t *testing.T, adm *kadm.Client) map[string]string {
	t.Helper()
	ends, err := adm.ListEndOffsets(t.Context())
	groups, groupsErr := adm.ListGroups(t.Context())
	if err = errors.Join(err, groupsErr); err != nil {
		t.Fatal(err)
	}
	state := map[string]string{"groups": fmt.Sprint(groups.Groups())}
	ends.Each(func(o kadm.ListedOffset) { state[fmt.Sprintf("%s-%d", o.Topic, o.Partition)] = fmt.Sprint(o.Offset) })
	return state
}

// transaction writes n records in one transaction and ends it.
func (s *shadowed) transaction(topic, tag string, how kgo.TransactionEndTry, n int) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.source.ListenAddrs()...), kgo.TransactionalID(tag), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	for i := range n {
		if err := cl.ProduceSync(s.t.Context(), &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%s-%d", tag, i)}).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := cl.EndTransaction(s.t.Context(), how); err != nil {
		s.t.Fatal(err)
	}
}
