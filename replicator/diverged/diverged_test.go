package diverged_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/diverged"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// story is a flow from a to b that copies, until it is killed with what it copied last not journaled.
type story struct {
	*replicatortest.Clusters
	t       *testing.T
	flow    *replicatortest.Flow
	changes []func(*config.Flow)
}

func identity(f *config.Flow) { f.Naming = config.NamingIdentity }

func committed(f *config.Flow) { f.Isolation = config.ReadCommitted }

// begin starts a flow that copies one topic, whose first records are journaled.
func begin(t *testing.T, partitions int32, configs []string, changes ...func(*config.Flow)) *story {
	t.Helper()
	s := &story{t: t, Clusters: replicatortest.NewClusters(t, 1), changes: append(changes, func(f *config.Flow) { f.Heartbeats = false })}
	s.ShutdownTimeout = time.Second // the journal cannot be written at the end
	s.Source.CreateTopic("orders", partitions, configs...)
	s.Source.Produce("orders", partitions, 10, "journaled")
	s.flow = s.Start(append(s.changes, replicatortest.FastJournal)...)
	s.flow.UntilCopied("orders")
	s.flow.UntilJournaled("orders")
	return s
}

// kill lets the flow copy some records more, of which the journal learns nothing, and ends it.
func (s *story) kill(write func()) {
	s.t.Helper()
	fault := s.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: offsets.JournalTopic("a-b"), Err: kerr.TopicAuthorizationFailed, Count: -1})
	write()
	s.flow.UntilCopied("orders")
	s.flow.Cancel()
	_ = s.flow.Wait() // it could not journal
	fault.Remove()
	states, err := offsets.NewJournal(s.Target.Client, offsets.JournalTopic("a-b"), offsets.JournalOptions{}).States(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, state := range states {
		if state.Topic == "orders" && state.End.Source != 10 {
			s.t.Fatalf("the journal is not older than the copy: %+v", state.End)
		}
	}
}

func (s *story) clusters() client.Clusters {
	parsed := s.Config(s.changes...)
	return client.Clusters{
		Flow: parsed.Flows[0], Source: parsed.Clusters[replicatortest.SourceAlias], Target: parsed.Clusters[replicatortest.TargetAlias], Log: slog.New(slog.DiscardHandler),
	}
}

func (s *story) list() *diverged.Report {
	s.t.Helper()
	before := []map[string]string{s.Source.State(), s.Target.State()}
	r, err := diverged.List(s.t.Context(), s.clusters())
	if err != nil {
		s.t.Fatal(err)
	}
	for i, c := range []*replicatortest.Cluster{s.Source, s.Target} {
		if after := c.State(); !maps.Equal(before[i], after) {
			s.t.Errorf("a list has written: before %v, after %v", before[i], after)
		}
	}
	return r
}

// want is what a partition is to have.
type want struct {
	from, to, records, gone, ahead int64
}

func (s *story) mustHave(r *diverged.Report, topic string, partition int32, w want) *diverged.Partition {
	s.t.Helper()
	for i := range r.Partitions {
		p := &r.Partitions[i]
		if p.Topic != topic || p.Partition != partition {
			continue
		}
		if p.Records == nil {
			s.t.Fatalf("not counted: %s", text(p))
		}
		if got := (want{p.From, p.To, *p.Records, p.Gone, p.Ahead}); got != w {
			s.t.Errorf("%s-%d is %+v, want %+v: %s", topic, partition, got, w, text(p))
		}
		if (p.Bytes > 0) != (w.records > 0) {
			s.t.Errorf("%d records have %d bytes", w.records, p.Bytes)
		}
		return p
	}
	s.t.Fatalf("no %s-%d: %s", topic, partition, text(r))
	return nil
}

func (s *story) mustBeCertain(r *diverged.Report) {
	s.t.Helper()
	if !r.IsCertain() {
		s.t.Errorf("the report is not certain: %s", text(r))
	}
}

func text(v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// export exports as JSON lines.
func (s *story) export(r *diverged.Report, doubtful bool) []diverged.Line {
	s.t.Helper()
	var out strings.Builder
	done, err := diverged.Export(s.t.Context(), s.clusters(), diverged.Options{Format: diverged.JSONLines, Writer: &out, Doubtful: doubtful}, r)
	if err != nil {
		s.t.Fatal(err)
	}
	var read []diverged.Line
	for line := range strings.Lines(out.String()) {
		var l diverged.Line
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		read = append(read, l)
	}
	if int64(len(read)) != done.Records {
		s.t.Errorf("%d lines, and %d records were exported", len(read), done.Records)
	}
	return read
}

// texts are records as Texts of a cluster has them.
func texts(read []diverged.Line) map[int32][]string {
	found := make(map[int32][]string)
	for _, l := range read {
		var headers []kgo.RecordHeader
		for _, h := range l.Headers {
			headers = append(headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		found[l.Partition] = append(found[l.Partition], fmt.Sprintf("%s|%s|%s|%d", l.Key, l.Value, headers, l.TimestampMS))
	}
	return found
}

// The source dies with 500 records that were never copied, while the journal is older than the copy. Exactly these are listed and exported, also if producers go on in the
// same topic on the target.
func TestWhatWasNeverCopiedIsListedAndExported(t *testing.T) {
	for name, change := range map[string]func(*config.Flow){"prefix": func(*config.Flow) {}, "identity": identity, "lease": replicatortest.WithoutTransactions} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t, 2, nil, change)
			s.kill(func() { s.Source.Produce("orders", 2, 30, "unjournaled") })
			s.Source.Produce("orders", 2, 250, "never copied")
			copied := "a.orders"
			if name == "identity" {
				copied = "orders"
				s.Target.Produce(copied, 2, 70, "produced on the target")
			}
			r := s.list()
			s.mustBeCertain(r)
			for n := range int32(2) {
				p := s.mustHave(r, "orders", n, want{from: 40, to: 290, records: 250})
				if !p.Listed || p.TargetTopic != copied || p.TopicID == "" {
					t.Errorf("%s", text(p))
				}
			}
			if r.Records != 500 || r.JournaledAt.IsZero() || r.SourceClusterID == "" {
				t.Errorf("the sum is %s", text(r))
			}
			wanted := s.Source.Texts("orders", 2)
			for n := range wanted {
				wanted[n] = wanted[n][40:]
			}
			replicatortest.MustEqual(t, "the export", wanted[0], texts(s.export(r, false))[0])
			replicatortest.MustEqual(t, "the export", wanted[1], texts(s.export(r, true))[1])
			if got := s.list(); got.Records != 500 {
				t.Errorf("listed again, there are %d records", got.Records)
			}
		})
	}
}

// Nothing diverges after a clean stop.
func TestACompleteCopyHasNothingDiverged(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil)
	s.flow.Stop()
	r := s.list()
	s.mustBeCertain(r)
	s.mustHave(r, "orders", 0, want{from: 10, to: 10})
	if lines := s.export(r, true); len(lines) > 0 {
		t.Errorf("exported: %v", lines)
	}
}

// A topic that was created after the last refresh was never copied, and neither was a new partition. A topic that is not selected is no concern of the flow.
func TestTopicsThatWereNeverCopiedDivergeAsAWhole(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil, func(f *config.Flow) { f.TopicsExclude = append(f.TopicsExclude, "secret") })
	s.flow.Stop()
	s.Source.CreateTopic("late", 2)
	s.Source.CreateTopic("secret", 1)
	s.Source.Produce("late", 2, 7, "late")
	s.Source.Produce("secret", 1, 7, "secret")
	s.Source.AddPartitions("orders", 2)
	s.Source.Write(&kgo.Record{Topic: "orders", Partition: 1, Value: []byte("first")})
	r := s.list()
	s.mustBeCertain(r)
	for n := range int32(2) {
		if p := s.mustHave(r, "late", n, want{to: 7, records: 7}); p.Listed {
			t.Errorf("%s", text(p))
		}
	}
	s.mustHave(r, "orders", 0, want{from: 10, to: 10})
	s.mustHave(r, "orders", 1, want{to: 1, records: 1})
	if len(r.Partitions) != 4 {
		t.Errorf("%s", text(r))
	}
}

// Aborted records do not diverge, and markers are no records. What is behind an open transaction cannot be read yet.
func TestAbortedRecordsDoNotDiverge(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil, committed)
	x := s.Source.Transactions("writer")
	records := []*kgo.Record{{Key: []byte("a"), Value: []byte("1")}, {Value: []byte{}}}
	s.kill(func() {
		x.WriteCopies("orders", records, kgo.TryAbort)
		x.WriteCopies("orders", records, kgo.TryCommit)
	})
	copied := s.Source.EndOffsets("orders")[0] - 1 // the marker behind the last copied record is no record
	x.WriteCopies("orders", records, kgo.TryAbort)
	x.WriteCopies("orders", records, kgo.TryCommit)
	x.WriteCopies("orders", records, kgo.TryAbort)
	end := s.Source.EndOffsets("orders")[0]
	x.Begin()
	x.Write(&kgo.Record{Topic: "orders", Value: []byte("open")})
	r := s.list()
	s.mustBeCertain(r)
	p := s.mustHave(r, "orders", 0, want{from: copied, to: end, records: 2})
	if p.Open != 1 {
		t.Errorf("%d offsets are behind the open transaction", p.Open)
	}
	lines := s.export(r, false)
	if len(lines) != 2 || string(lines[0].Key) != "a" || lines[1].Key != nil || lines[1].Value == nil {
		t.Errorf("exported: %+v", lines)
	}
}

// A log cleaner has removed records of the source: before the end of the copy, and behind it.
func TestACompactedTopicHasHoles(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, []string{"cleanup.policy", "compact"})
	s.kill(func() { s.Source.Produce("orders", 1, 20, "unjournaled") })
	s.Source.Produce("orders", 1, 40, "twice")
	s.Source.Produce("orders", 1, 40, "twice")
	s.Source.Produce("orders", 1, 1, "last") // the last batch is never compacted
	s.Source.Compact()
	left := s.Source.Texts("orders", 1)[0]
	r := s.list()
	s.mustBeCertain(r)
	s.mustHave(r, "orders", 0, want{from: 30, to: 111, records: 41})
	replicatortest.MustEqual(t, "the export", left[len(left)-41:], texts(s.export(r, false))[0])
}

// Retention of the source has deleted what was never copied: how many offsets is said.
func TestWhatRetentionHasDeletedIsGone(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil)
	s.kill(func() { s.Source.Produce("orders", 1, 20, "unjournaled") })
	s.Source.Produce("orders", 1, 50, "never copied")
	s.Source.DeleteRecords("orders", 0, 42)
	r := s.list()
	s.mustBeCertain(r)
	s.mustHave(r, "orders", 0, want{from: 42, to: 80, records: 38, gone: 12})
	s.Source.DeleteRecords("orders", 0, 80)
	s.mustHave(s.list(), "orders", 0, want{from: 80, to: 80, gone: 50})
	if _, err := diverged.Export(t.Context(), s.clusters(), diverged.Options{Format: diverged.JSONLines, Writer: &strings.Builder{}}, r); err == nil || !strings.Contains(err.Error(), "38 were listed") {
		t.Errorf("an export of records that are gone says %v", err)
	}
}

// The target has deleted the end of the copy before it was journaled, and nothing tells how much that was: a doubt.
func TestWhatIsNotKnownIsADoubt(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil)
	s.kill(func() { s.Source.Produce("orders", 1, 20, "unjournaled") })
	s.Source.Produce("orders", 1, 50, "never copied")
	end := s.Target.EndOffsets("a.orders")[0]
	s.Target.DeleteRecords("a.orders", 0, end)
	r := s.list()
	if r.IsCertain() || r.Doubtful != 1 {
		t.Fatalf("%s", text(r))
	}
	p := s.mustHave(r, "orders", 0, want{from: 30, to: 80, records: 50})
	if p.Doubt.From != 10 || p.Doubt.To != 30 || *p.Doubt.Records != 20 || p.Doubt.Why == "" {
		t.Errorf("%s", text(p))
	}
	if n := len(s.export(r, false)); n != 50 {
		t.Errorf("%d records are exported without the doubt", n)
	}
	if n := len(s.export(r, true)); n != 70 {
		t.Errorf("%d records are exported with the doubt", n)
	}
}

// The source has come back with less than was copied: by its leader epochs it was truncated, and what it has from there on is not what was copied.
func TestATruncatedSourceDivergesFromWhereItWasTruncated(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil)
	s.flow.Stop()
	s.Source.Produce("orders", 1, 5, "since")
	for ends, w := range map[int64]want{6: {from: 6, to: 15, records: 9, ahead: 4}, 15: {from: 10, to: 15, records: 5}} {
		s.answerEpochs(0, ends)
		r := s.list()
		s.mustBeCertain(r)
		s.mustHave(r, "orders", 0, w)
	}
	s.answerEpochs(-1, 15)
	r := s.list()
	if p := s.mustHave(r, "orders", 0, want{from: 15, to: 15}); p.Doubt == nil || p.Doubt.From != 0 {
		t.Errorf("a log without the epoch that was copied: %s", text(p))
	}
}

// answerEpochs lets the source say once where a leader epoch ends, which a fake cluster cannot truncate.
func (s *story) answerEpochs(epoch int32, end int64) {
	s.Source.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r := request.(*kmsg.OffsetForLeaderEpochRequest)
		response := r.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		topic, partition := kmsg.NewOffsetForLeaderEpochResponseTopic(), kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		topic.Topic = r.Topics[0].Topic
		partition.LeaderEpoch, partition.EndOffset = epoch, end
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
}

// Topics were deleted and created again on one side.
func TestRecreatedTopics(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil)
	s.flow.Stop()
	s.Source.RecreateTopic("orders", 1)
	s.Source.Produce("orders", 1, 3, "new")
	r := s.list()
	s.mustBeCertain(r)
	if p := s.mustHave(r, "orders", 0, want{to: 3, records: 3}); len(p.Notes) != 1 {
		t.Errorf("%s", text(p))
	}
	s.Source.DeleteTopic("orders")
	if p := s.mustHave(s.list(), "orders", 0, want{}); len(p.Notes) != 1 {
		t.Errorf("%s", text(p))
	}

	s = begin(t, 1, nil)
	s.flow.Stop()
	s.Target.RecreateTopic("a.orders", 1)
	r = s.list()
	s.mustBeCertain(r)
	if p := s.mustHave(r, "orders", 0, want{to: 10, records: 10}); len(p.Notes) != 1 {
		t.Errorf("%s", text(p))
	}
	s.Target.DeleteTopic("a.orders")
	if p := s.mustHave(s.list(), "orders", 0, want{from: 10, to: 10}); p.Doubt == nil || p.Doubt.From != 0 || p.Doubt.To != 10 {
		t.Errorf("a copy that is not to be seen: %s", text(p))
	}
}

// What an anomaly left out is a gap in front of the end of the copy.
func TestWhatAnAnomalyLeftOutIsAGap(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil, replicatortest.OnAnomaly("retention_gap", "skip"))
	s.flow.Stop()
	s.Source.Produce("orders", 1, 20, "lost")
	s.Source.DeleteRecords("orders", 0, 25)
	s.flow = s.Start(append(s.changes, replicatortest.FastJournal)...)
	s.flow.UntilCopied("orders")
	s.flow.UntilJournaled("orders")
	s.flow.Stop()
	s.Source.Produce("orders", 1, 2, "since")
	r := s.list()
	s.mustBeCertain(r)
	p := s.mustHave(r, "orders", 0, want{from: 30, to: 32, records: 2})
	if len(p.Gaps) != 1 || p.Gaps[0].Kind != "retention_gap" || p.Gaps[0].From != 10 || p.Gaps[0].To != 25 {
		t.Errorf("%s", text(p))
	}
}

// A record that came from the target is there already.
func TestWhatCameFromTheTargetDoesNotDiverge(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil, identity, func(f *config.Flow) { f.Provenance = true })
	s.kill(func() { s.Source.Produce("orders", 1, 20, "unjournaled") })
	s.Target.Produce("orders", 1, 8, "produced on the target")
	hop := kgo.RecordHeader{Key: "milena.hop", Value: []byte("target-cluster")}
	s.Source.Write(&kgo.Record{Topic: "orders", Value: []byte("back"), Headers: []kgo.RecordHeader{hop}}, &kgo.Record{Topic: "orders", Value: []byte("own")})
	r := s.list()
	s.mustBeCertain(r)
	s.mustHave(r, "orders", 0, want{from: 30, to: 32, records: 1})
	if lines := s.export(r, false); len(lines) != 1 || string(lines[0].Value) != "own" {
		t.Errorf("exported: %+v", lines)
	}
}

// A flow that still copies is named as the reason why nothing is listed; one that never ran has nothing to compare with.
func TestListNeedsAJournalThatStandsStill(t *testing.T) {
	t.Parallel()
	s := &story{t: t, Clusters: replicatortest.NewClusters(t, 1)}
	if _, err := diverged.List(t.Context(), s.clusters()); err == nil || !strings.Contains(err.Error(), "has no journal") {
		t.Errorf("without a journal: %v", err)
	}
	s = begin(t, 1, nil)
	stop := s.Source.Load("orders", 1)
	defer stop()
	s.flow.UntilProgress("orders", 20)
	replicatortest.Eventually(t, "a list meets a journal that moves", func() (bool, string) {
		r, err := diverged.List(t.Context(), s.clusters())
		if err != nil {
			t.Fatal(err)
		}
		p := r.Partitions[slices.IndexFunc(r.Partitions, func(p diverged.Partition) bool { return p.Topic == "orders" })]
		return p.Records == nil && strings.Contains(p.Problem, "stop the flow"), text(p)
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := diverged.List(ctx, s.clusters()); err == nil {
		t.Error("a list goes on without its context")
	}
}
