package verify_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/replicatortest"
	"github.com/milena-kafka/milena/replicator/verify"
)

// noHeartbeats leaves out the topic heartbeats, which is copied and verified like any other.
func noHeartbeats(f *config.Flow) { f.Heartbeats = false }

// options are those of a verification of the flow between two fake clusters.
func options(c *replicatortest.Clusters, changes ...func(*config.Flow)) verify.Options {
	parsed := c.Config(changes...)
	return verify.Options{Patience: 3 * time.Second, Clusters: client.Clusters{
		Flow: parsed.Flows[0], Source: parsed.Clusters[replicatortest.SourceAlias], Target: parsed.Clusters[replicatortest.TargetAlias], Log: slog.New(slog.DiscardHandler),
	}}
}

// run verifies and returns the result.
func run(t *testing.T, o verify.Options) *verify.Report {
	t.Helper()
	v, err := verify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return v.Report()
}

func wantEqual(t *testing.T, r *verify.Report, records int64) {
	t.Helper()
	if r.Result != verify.Equal || r.Records != records {
		t.Errorf("%s, %d records, want %d; not copied: %v", r.Result, r.Records, records, r.NotCopied)
		for _, p := range r.Partitions {
			t.Logf("%+v", p)
		}
	}
}

// partitionOf is the result of one partition.
func partitionOf(t *testing.T, r *verify.Report, topic string, partition int32) verify.Partition {
	t.Helper()
	for _, p := range r.Partitions {
		if p.Topic == topic && p.Partition == partition {
			return p
		}
	}
	t.Fatalf("no %s-%d in %+v", topic, partition, r.Partitions)
	return verify.Partition{}
}

// A flow copies plain, transactional and compacted topics while they are written and while they are verified. There is never a difference, and the
// verification writes nothing.
func TestVerifyBesideARunningFlow(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 2)
	c.Source.CreateTopic("orders", 3)
	c.Source.CreateTopic("payments", 1)
	c.Source.CreateTopic("empty", 1)
	x := c.Source.Transactions("payer")
	for i := range 20 {
		x.WriteCopies("payments", []*kgo.Record{{Key: fmt.Append(nil, i), Value: []byte("paid")}, {Value: []byte{}}}, i%2 == 0)
	}
	f := c.Start(noHeartbeats, replicatortest.FastJournal)
	stop := c.Source.Load("orders", 3)
	f.UntilProgress("orders", 300)
	f.UntilJournaled("payments")
	seen := int64(0)
	for range 5 {
		r := run(t, options(c))
		if r.Result != verify.Equal || r.Records < seen || r.ByBytes == 0 {
			t.Fatalf("%s, %d records, before %d: %+v", r.Result, r.Records, seen, r.Partitions)
		}
		if p := partitionOf(t, r, "payments", 0); p.Records != 20 || p.Aborted != 20 {
			t.Errorf("payments: %+v", p)
		}
		seen = r.Records
		f.UntilProgress("orders", 100)
	}
	stop()
	f.UntilJournaled("orders")
	f.Stop()
	before := []map[string]string{c.Source.State(), c.Target.State()}
	r := run(t, options(c))
	var total int64
	for _, end := range c.Source.EndOffsets("orders") {
		total += end
	}
	wantEqual(t, r, total+20)
	for i, cluster := range []*replicatortest.Cluster{c.Source, c.Target} {
		if after := cluster.State(); !maps.Equal(before[i], after) {
			t.Errorf("before %v, after %v", before[i], after)
		}
	}
}

// A record that another producer writes to the copy is found once the map is behind it.
func TestVerifyFindsAForeignRecord(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 30, "early")
	f := c.Start(noHeartbeats, replicatortest.OnAnomaly("foreign_write", "skip"))
	f.UntilJournaled("orders")
	f.Stop()
	c.Target.Write(&kgo.Record{Topic: "a.orders", Partition: 1, Value: []byte("foreign")})
	f = c.Start(noHeartbeats, replicatortest.OnAnomaly("foreign_write", "skip"))
	c.Source.Produce("orders", 2, 30, "late")
	f.UntilJournaled("orders")
	f.Stop()
	r := run(t, options(c))
	wantEqual(t, r, 120)
	if p := partitionOf(t, r, "orders", 1); p.Skipped != 1 {
		t.Errorf("the accepted record is not counted: %+v", p)
	}
}

// Both sides delete records: what they have in common is verified, and the report says so.
func TestVerifyWhatBothSidesHave(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	for range 5 {
		c.Source.Produce("orders", 2, 20, "some")
	}
	f := c.Start(noHeartbeats)
	f.UntilJournaled("orders")
	f.Stop()
	c.Source.DeleteRecords("orders", 0, 30)
	deleted := c.TargetOffset("orders", 1, 55)
	c.Target.DeleteRecords("a.orders", 1, deleted)
	r := run(t, options(c))
	wantEqual(t, r, 70+45)
	for partition, want := range []string{"the source has deleted what is below offset 30", fmt.Sprintf("the target has deleted what is below its offset %d", deleted)} {
		if p := partitionOf(t, r, "orders", int32(partition)); len(p.Notes) != 1 || p.Notes[0] != want {
			t.Errorf("notes: %q, want %q", p.Notes, want)
		}
	}
	c.Target.DeleteRecords("a.orders", 0, c.Target.EndOffsets("a.orders")[0])
	const want = "the target has deleted all that was copied, and the source still has offsets [30, 100)"
	if p := partitionOf(t, run(t, options(c)), "orders", 0); p.Result != verify.NotVerified || p.NotVerified != want {
		t.Errorf("a copy that was deleted: %+v", p)
	}
}

// Of a range of time that is not copied yet nothing is compared, which is not the same as equal.
func TestVerifyWhatIsNotCopiedYet(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	begin := time.Now().Add(-2 * time.Hour)
	write := func(records int, at time.Time) {
		for range records {
			c.Source.Write(&kgo.Record{Topic: "orders", Value: []byte("v"), Timestamp: at})
		}
	}
	write(10, begin)
	f := c.Start(noHeartbeats)
	f.UntilJournaled("orders")
	f.Stop()
	write(5, begin.Add(10*time.Minute)) // so that what is asked for begins behind the journal
	write(5, begin.Add(time.Hour))
	o := options(c)
	o.Question.From = begin.Add(30 * time.Minute)
	p := partitionOf(t, run(t, o), "orders", 0)
	if want := "nothing from source offset 15 on is in the journal yet: the copy ends at 10"; p.Result != verify.NotVerified || p.NotVerified != want {
		t.Errorf("%+v", p)
	}
}

// What is behind the journal is not verified, and the report says up to where it is.
func TestVerifyUpToTheJournal(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "early")
	f := c.Start(noHeartbeats)
	f.UntilJournaled("orders")
	f.Stop()
	c.Source.Produce("orders", 1, 5, "late")
	c.Source.CreateTopic("new", 1)
	c.Source.Produce("new", 1, 1, "new")
	r := run(t, options(c))
	if r.Result != verify.NotVerified || r.Records != 20 {
		t.Errorf("%s, %d records", r.Result, r.Records)
	}
	if p := partitionOf(t, r, "orders", 0); p.Result != verify.Equal || p.Verified.SourceTo != 20 || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "the source ends at offset 25") {
		t.Errorf("%+v", p)
	}
	if p := partitionOf(t, r, "new", 0); p.Result != verify.NotVerified || !strings.Contains(p.NotVerified, "has not begun to copy it") {
		t.Errorf("%+v", p)
	}
	only := options(c)
	only.Question.Topics = []string{"orders"}
	wantEqual(t, run(t, only), 20)
	only.Question.Topics = []string{"orders", "nothing"}
	v, err := verify.New(only)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "copies no topic nothing of cluster a") {
		t.Errorf("a topic that does not exist: %v", err)
	}
}

// A topic that was created anew on either side is not taken for the one that the map is about.
func TestVerifyARecreatedTopic(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 20, "early")
			f := c.Start(noHeartbeats)
			f.UntilJournaled("orders")
			f.Stop()
			if side == "source" {
				c.Source.RecreateTopic("orders", 1)
				c.Source.Produce("orders", 1, 20, "other")
			} else {
				c.Target.RecreateTopic("a.orders", 1)
				c.Target.Produce("a.orders", 1, 20, "other")
			}
			if p := partitionOf(t, run(t, options(c)), "orders", 0); p.Result != verify.NotVerified || !strings.Contains(p.NotVerified, "earlier topic") {
				t.Errorf("%+v", p)
			}
		})
	}
}

// A range of time is that of the source's records.
func TestVerifyARangeOfTime(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	for i := range 60 {
		c.Source.Write(&kgo.Record{Topic: "orders", Value: fmt.Append(nil, i), Timestamp: begin.Add(time.Duration(i) * time.Minute)})
	}
	f := c.Start(noHeartbeats)
	f.UntilJournaled("orders")
	f.Stop()
	for _, q := range []struct {
		from, to time.Time
		records  int64
	}{
		{begin.Add(10 * time.Minute), begin.Add(20 * time.Minute), 10},
		{begin.Add(50 * time.Minute), time.Time{}, 10},
		{time.Time{}, begin.Add(5 * time.Minute), 5},
		{begin.Add(2 * time.Hour), time.Time{}, 0},
		{time.Time{}, begin, 0},
		{begin, begin.Add(2 * time.Hour), 60},
	} {
		o := options(c)
		o.Question.From, o.Question.To = q.from, q.to
		wantEqual(t, run(t, o), q.records)
	}
}

// memory is a store in memory.
type memory struct {
	mu       sync.Mutex
	document *verify.Document
	removed  bool
}

func (m *memory) Load(context.Context) (*verify.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.document, nil
}

func (m *memory) Save(_ context.Context, document *verify.Document) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.document = document
	return nil
}

func (m *memory) Remove(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.document, m.removed = nil, true
	return nil
}

// A run that is interrupted goes on where it was: nothing that was verified is read again, and the sums are those of one run. Its rate is kept.
func TestVerifyGoesOn(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	var mu sync.Mutex
	lowest := make(map[int32]int64)
	c.Source.Observe(func(_ string, request kmsg.Request) {
		if fetch, ok := request.(*kmsg.FetchRequest); ok {
			mu.Lock()
			defer mu.Unlock()
			for _, topic := range fetch.Topics {
				for _, p := range topic.Partitions {
					if offset, ok := lowest[p.Partition]; !ok || p.FetchOffset < offset {
						lowest[p.Partition] = p.FetchOffset
					}
				}
			}
		}
	})
	c.Source.CreateTopic("orders", 2)
	value := make([]byte, 10_000)
	const records = 400 // of a partition; a fetch has about 100
	for range records {
		_, _ = rand.Read(value)
		for p := range int32(2) {
			c.Source.Write(&kgo.Record{Topic: "orders", Partition: p, Value: value})
		}
	}
	f := c.Start(noHeartbeats)
	f.UntilJournaled("orders")
	f.Stop()
	o := options(c)
	store := &memory{}
	o.Store, o.Rate = store, 2_000_000
	v, err := verify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r := replicatortest.Run(t, v.Run, v.Progress)
	at := r.Until("a part of both partitions is verified", func(p verify.Progress) bool { return p.Offsets >= 80 })
	if took := time.Since(began); at.Bytes-2*2_000_000 > int64(took.Seconds()*2_000_000) {
		t.Errorf("%d bytes in %v", at.Bytes, took)
	}
	r.Cancel()
	if err := r.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted run returned: %v", err)
	}
	if p := v.Report(); p.Result != verify.NotVerified {
		t.Errorf("an interrupted run: %+v", p)
	}
	mu.Lock()
	clear(lowest)
	mu.Unlock()
	o.Rate = 0
	wantEqual(t, run(t, o), 2*records)
	mu.Lock()
	defer mu.Unlock()
	sum := int64(0)
	for partition := range int32(2) {
		if offset, ok := lowest[partition]; ok {
			sum += offset
		} else {
			sum += records // it was complete
		}
	}
	if sum < at.Offsets {
		t.Errorf("the second run began at %v, and the first one had verified %d offsets", lowest, at.Offsets)
	}
	if !store.removed {
		t.Error("the progress of a complete run is kept")
	}
}

// Leaders move while their logs are read: the new ones are found.
func TestVerifyFollowsLeaders(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 3)
	c.Source.CreateTopic("orders", 4)
	value := make([]byte, 20_000)
	const records = 200 // of a partition; a fetch has about 50
	for range records {
		_, _ = rand.Read(value)
		for p := range int32(4) {
			c.Source.Write(&kgo.Record{Topic: "orders", Partition: p, Value: value})
		}
	}
	f := c.Start(noHeartbeats)
	f.UntilJournaled("orders")
	f.Stop()
	o := options(c)
	o.Rate, o.Patience = 4_000_000, time.Minute
	v, err := verify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := replicatortest.Run(t, v.Run, v.Progress)
	ended := make(chan error, 1)
	go func() { ended <- r.Wait() }()
	for running := true; running; { // it takes three seconds at that rate
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		case <-time.After(300 * time.Millisecond):
			c.Source.ShufflePartitionLeaders()
			c.Target.ShufflePartitionLeaders()
		}
	}
	wantEqual(t, v.Report(), 4*records)
}

// The progress of another verification is not taken for this one's.
func TestVerifyRefusesTheProgressOfAnotherQuestion(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	for _, document := range []string{
		`{"version":1,"flow":"x"}`, `{"version":1,"flow":"a-b","question":{"topics":["orders"],"sample":1}}`, `{"version":1,"flow":"a-b","question":{"sample":0.5}}`,
		`{"version":1,"flow":"a-b","question":{"sample":1,"to":"2026-01-31T15:04:05Z"}}`,
	} {
		o := options(c)
		var d verify.Document
		if err := json.Unmarshal([]byte(document), &d); err != nil {
			t.Fatal(err)
		}
		o.Store = &memory{document: &d}
		v, err := verify.New(o)
		if err != nil {
			t.Fatal(err)
		}
		var other *verify.OtherQuestionError
		if err := v.Run(t.Context()); !errors.As(err, &other) {
			t.Errorf("%s: %v", document, err)
		}
	}
}

// A cluster that does not answer is an error and not a result.
func TestVerifyWithoutACluster(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	o := options(c)
	c.Source.Close()
	v, err := verify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := v.Run(ctx); err == nil || len(v.Report().Partitions) > 0 {
		t.Errorf("without a source: %v", err)
	}
}
