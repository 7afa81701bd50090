package diverged_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/diverged"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// exportTopic exports into topics of the target.
func (s *story) exportTopic(r *diverged.Report, names ...string) (*diverged.Exported, error) {
	s.t.Helper()
	return diverged.Export(s.t.Context(), s.clusters(), diverged.Options{Format: diverged.Topic, Topics: names}, r)
}

// mustHaveExported checks that a topic of the target has the records of the source from an offset on, once each, in order, and with their offsets.
func (s *story) mustHaveExported(topic string, partitions int32, from int64) {
	s.t.Helper()
	source, target := s.Source.Records(topic, partitions), s.Target.Records(diverged.TopicName("a-b", topic), partitions)
	for n := range partitions {
		wanted := slices.DeleteFunc(source[n], func(r *kgo.Record) bool { return r.Offset < from })
		if len(wanted) != len(target[n]) {
			s.t.Fatalf("%s-%d: %d records are exported, want %d", topic, n, len(target[n]), len(wanted))
		}
		for i, r := range target[n] {
			w := wanted[i]
			own := len(w.Headers)
			if !bytes.Equal(r.Key, w.Key) || (r.Key == nil) != (w.Key == nil) || !bytes.Equal(r.Value, w.Value) || (r.Value == nil) != (w.Value == nil) || !r.Timestamp.Equal(w.Timestamp) {
				s.t.Errorf("record %d is %v, want %v", i, r, w)
			}
			if len(r.Headers) != own+2 || fmt.Sprint(r.Headers[:own]) != fmt.Sprint(w.Headers) || r.Headers[own].Key != diverged.HeaderOffset || string(r.Headers[own].Value) != strconv.FormatInt(w.Offset, 10) {
				s.t.Errorf("record %d has the headers %v, want those of %v", i, r.Headers, w)
			}
		}
	}
}

// An export into a topic is cut in the middle, and repeated, and repeated again: each record is there once. Then the source has more.
func TestAnExportThatWasCutIsCompleted(t *testing.T) {
	for name, change := range map[string]func(*config.Flow){"in transactions": func(*config.Flow) {}, "lease": replicatortest.WithoutTransactions} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t, 2, nil, change)
			s.kill(func() { s.Source.Produce("orders", 2, 30, "unjournaled") })
			for range 25 { // more than one transaction
				s.Source.Produce("orders", 2, 1000, "never copied")
			}
			r := s.list()
			if r.Records != 50_000 {
				t.Fatalf("%d records", r.Records)
			}
			name := diverged.TopicName("a-b", "orders")
			s.Target.CreateTopic(name, 1) // as an export of an earlier source that had fewer partitions
			requests := 0
			s.Target.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				s.Target.KeepControl()
				if requests++; requests == 4 {
					s.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: name, Err: kerr.TopicAuthorizationFailed, Count: 1})
				}
				return nil, nil, false
			})
			cut, err := s.exportTopic(r)
			if !errors.Is(err, kerr.TopicAuthorizationFailed) || cut.Records == 50_000 {
				t.Fatalf("the export is not cut: %+v, %v", cut, err)
			}
			written := len(s.Target.Records(name, 1)[0])
			if written == 0 || written >= 25_000 {
				t.Fatalf("%d records were written before the cut", written)
			}
			done, err := s.exportTopic(r)
			if err != nil || done.Records != 50_000 || done.Before != int64(written) || !slices.Equal(done.Topics, []string{name}) {
				t.Fatalf("the second export is %+v, %v; written before: %d", done, err, written)
			}
			s.mustHaveExported("orders", 2, 40)
			if done, err = s.exportTopic(r); err != nil || done.Records != 50_000 || done.Before != 50_000 {
				t.Errorf("the third export is %+v, %v", done, err)
			}
			s.mustHaveExported("orders", 2, 40)

			s.Source.Produce("orders", 2, 5, "more")
			if done, err = s.exportTopic(s.list()); err != nil || done.Records != 50_010 || done.Before != 50_000 {
				t.Errorf("the export of a source that has more is %+v, %v", done, err)
			}
			s.mustHaveExported("orders", 2, 40)
		})
	}
}

// An export is killed with a transaction open. The next one fences it, and what it had not committed does not count.
func TestAnExportFencesTheOneBefore(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil)
	s.flow.Stop()
	s.Source.Produce("orders", 1, 20, "never copied")
	r := s.list()
	name := diverged.TopicName("a-b", "orders")
	s.Target.CreateTopic(name, 1)
	killed := s.Target.Transactions("milena.a-b.diverged")
	killed.Begin()
	killed.Write(&kgo.Record{Topic: name, Value: []byte("not committed"), Headers: []kgo.RecordHeader{{Key: diverged.HeaderOffset, Value: []byte("10")}}})
	if done, err := s.exportTopic(r); err != nil || done.Records != 20 || done.Before != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	s.mustHaveExported("orders", 1, 10)
}

// The topic of an export keeps everything for ever and takes the largest records. No flow copies it, whatever it selects.
func TestTheTopicOfAnExport(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, []string{"max.message.bytes", "3000000", "cleanup.policy", "compact"}, replicatortest.FastTopics)
	s.flow.Stop()
	old := time.UnixMilli(1_000_000)
	writer, err := kgo.NewClient(kgo.SeedBrokers(s.Source.ListenAddrs()...), kgo.ProducerBatchMaxBytes(3_000_000))
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	err = writer.ProduceSync(t.Context(),
		&kgo.Record{Topic: "orders", Key: []byte("large"), Value: bytes.Repeat([]byte("0123456789abcdef"), 100_000), Timestamp: old},
		&kgo.Record{Topic: "orders", Key: []byte("null"), Timestamp: time.Now().Add(48 * time.Hour)},
		&kgo.Record{Topic: "orders", Key: []byte{}, Value: []byte{}, Headers: []kgo.RecordHeader{{Key: diverged.HeaderOffset, Value: []byte("17")}, {Key: "null"}}},
	).FirstErr()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.exportTopic(s.list()); err != nil {
		t.Fatal(err)
	}
	s.mustHaveExported("orders", 1, 10)
	name := diverged.TopicName("a-b", "orders")
	for config, want := range map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": "3001024"} {
		if value, own := s.Target.TopicConfig(name, config); value != want || !own {
			t.Errorf("%s is %s", config, value)
		}
	}
	s.Target.CreateTopic("selected", 1)
	s.Target.Produce("selected", 1, 1, "selected")
	back := s.StartReverse(func(f *config.Flow) { f.Topics = []string{".*"} })
	back.UntilReady()
	back.Until("the other topic is copied", func(replicator.Status) bool { return len(s.Source.Records("b.selected", 1)[0]) == 1 })
	if s.Source.TopicInfo("b."+name) != nil {
		t.Error("the export is copied back")
	}
}

// What cannot be exported is refused with the reason.
func TestWhatCannotBeExported(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil)
	s.flow.Stop()
	s.Source.Produce("orders", 1, 5, "never copied")
	r := s.list()
	var out bytes.Buffer
	for text, o := range map[string]diverged.Options{
		"no topic other of":  {Format: diverged.JSONLines, Writer: &out, Topics: []string{"orders", "other"}},
		"there is no format": {Format: "csv"},
		"need a writer":      {Format: diverged.JSONLines},
	} {
		if _, err := diverged.Export(t.Context(), s.clusters(), o, r); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", o, err, text)
		}
	}
	uncounted := *r
	uncounted.Partitions = slices.Clone(r.Partitions)
	uncounted.Partitions[0].Records, uncounted.Partitions[0].Problem = nil, "it could not be read"
	if _, err := s.exportTopic(&uncounted); err == nil || !strings.Contains(err.Error(), "it could not be read") {
		t.Errorf("a partition that was not counted: %v", err)
	}
	name := diverged.TopicName("a-b", "orders")
	s.Target.CreateTopic(name, 1)
	s.Target.Write(&kgo.Record{Topic: name, Value: []byte("of somebody")})
	if _, err := s.exportTopic(r); err == nil || !strings.Contains(err.Error(), "not of this export") {
		t.Errorf("a topic with other records: %v", err)
	}
	s.Target.DeleteTopic(name)
	if _, err := s.exportTopic(r); err != nil {
		t.Fatal(err)
	}
	s.Source.RecreateTopic("orders", 1)
	s.Source.Produce("orders", 1, 15, "new")
	if _, err := s.exportTopic(r); err == nil || !strings.Contains(err.Error(), "is not the one that was listed") {
		t.Errorf("a topic that was created again: %v", err)
	}
	if _, err := s.exportTopic(s.list()); err == nil || !strings.Contains(err.Error(), "another one of that name") {
		t.Errorf("an export of the topic before: %v", err)
	}
}

// Every key, value and header survives a line: null, empty, text and bytes.
func TestALineIsLossless(t *testing.T) {
	t.Parallel()
	s := begin(t, 1, nil)
	s.flow.Stop()
	values := [][]byte{nil, {}, []byte("text"), []byte(`<"quoted" & \ é ` + "\u2028\n>"), {0xff, 0x00, 0xfe}, []byte("\x00")}
	var records []*kgo.Record
	for i, key := range values {
		for j, value := range values {
			records = append(records, &kgo.Record{
				Topic: "orders", Key: key, Value: value, Timestamp: time.UnixMilli(int64(1000*i + j)),
				Headers: []kgo.RecordHeader{{Key: "h", Value: value}, {Key: "h", Value: key}, {Key: "\xff", Value: key}},
			})
		}
	}
	s.Source.Write(records...)
	lines := s.export(s.list(), false)
	if len(lines) != len(records) {
		t.Fatalf("%d lines of %d records", len(lines), len(records))
	}
	for i, l := range lines {
		w := records[i]
		same := l.Topic == "orders" && l.Offset == int64(10+i) && sameBytes(l.Key, w.Key) && sameBytes(l.Value, w.Value) && len(l.Headers) == 3 && l.TimestampMS == w.Timestamp.UnixMilli() && l.TimestampType == "create"
		for j := range l.Headers {
			same = same && l.Headers[j].Key == w.Headers[j].Key && sameBytes(l.Headers[j].Value, w.Headers[j].Value)
		}
		if at, err := time.Parse(time.RFC3339Nano, *l.Timestamp); !same || err != nil || !at.Equal(w.Timestamp) {
			t.Errorf("%+v is not %+v", l, w)
		}
	}
	line, err := json.Marshal(diverged.Line{Topic: "orders", Offset: 17, TimestampMS: -1, TimestampType: "create", Key: diverged.Bytes("<a>"), Headers: []diverged.LineHeader{{Key: "trace", Value: diverged.Bytes{0xff, 0}}}})
	want := `{"topic":"orders","partition":0,"offset":17,"timestamp":null,"timestamp_ms":-1,"timestamp_type":"create","key":"\u003ca\u003e","value":null,"headers":[{"key":"trace","value_base64":"/wA="}]}`
	if err != nil || string(line) != want {
		t.Errorf("a line is %s, %v, want %s", line, err, want)
	}
}

func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
