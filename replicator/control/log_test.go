package control_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// topicWith returns a log of a control topic that has the values as records of their own.
func topicWith(t *testing.T, values ...string) (*kfake.Cluster, *kgo.Client, *control.Log) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, control.TopicName("f")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic(control.TopicName("f")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	for _, value := range values {
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return c, cl, control.NewLog(cl, "b", "f")
}

// pretend lets the cluster say that the topic ends at an offset, and answer fetches from another one on with nothing and this high watermark.
func pretend(c *kfake.Cluster, end, from, high int64) {
	c.ControlKey(int16(kmsg.ListOffsets), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked := request.(*kmsg.ListOffsetsRequest)
		if asked.Topics[0].Partitions[0].Timestamp != -1 {
			return nil, nil, false
		}
		response := asked.ResponseKind().(*kmsg.ListOffsetsResponse)
		topic := kmsg.NewListOffsetsResponseTopic()
		topic.Topic = asked.Topics[0].Topic
		partition := kmsg.NewListOffsetsResponseTopicPartition()
		partition.Offset = end
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	c.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked := request.(*kmsg.FetchRequest)
		if len(asked.Topics) == 0 || asked.Topics[0].Partitions[0].FetchOffset < from {
			return nil, nil, false
		}
		response := asked.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = asked.Topics[0].Topic, asked.Topics[0].TopicID
		partition := kmsg.NewFetchResponseTopicPartition()
		partition.HighWatermark, partition.LastStableOffset = high, high
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
}

// The topic was deleted and created again, and a write finds that out first. Who reads it must know, too: what held is in the state of the old one.
func TestReaderKnowsThatTheTopicIsAnotherOne(t *testing.T) {
	t.Parallel()
	_, cl, log := topicWith(t, "one", "two")
	none := func(control.Record) {}
	if err := log.ReadAll(t.Context(), none); err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(cl)
	if _, err := admin.DeleteTopic(t.Context(), control.TopicName("f")); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, control.TopicName("f")); err != nil {
		t.Fatal(err)
	}
	entry := control.Entry{Key: "event/x", Value: []byte(`{}`)}
	err := log.Write(t.Context(), entry)
	for ; errors.Is(err, kerr.UnknownTopicID); err = log.Write(t.Context(), entry) { // until the client asks again for the topic
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	if !errors.Is(err, control.ErrAnotherLog) {
		t.Fatalf("the write: %v", err)
	}
	if err := log.Write(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	if err := log.ReadAll(t.Context(), none); !errors.Is(err, control.ErrAnotherLog) {
		t.Errorf("the reader has not been told: %v", err)
	}
	records := 0
	if err := log.ReadAll(t.Context(), func(control.Record) { records++ }); err != nil || records != 1 {
		t.Errorf("%v, %d records", err, records)
	}
}

// The last records of a compacted topic may be gone. Its leader then says that there is nothing up to the end.
func TestReadAllEndsBeforeAMissingTail(t *testing.T) {
	t.Parallel()
	c, _, l := topicWith(t, "1", "2", "3")
	pretend(c, 8, 3, 8)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n := 0
	if err := l.ReadAll(ctx, func(control.Record) { n++ }); err != nil || n != 3 {
		t.Errorf("%d records, %v", n, err)
	}
}

// A leader that does not know the end yet proves nothing: what is behind may be a pause.
func TestReadAllBelievesNoLeaderThatLags(t *testing.T) {
	t.Parallel()
	c, _, l := topicWith(t, "1", "2", "3")
	pretend(c, 8, 3, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := l.ReadAll(ctx, func(control.Record) {}); err == nil {
		t.Error("the end is believed")
	}
}

// A small record that decompresses to a lot is one that is ignored, and what is behind it is read.
func TestReadABatchThatDecompressesToTooMuch(t *testing.T) {
	t.Parallel()
	c, cl, l := topicWith(t, "1")
	bomb, err := recordbatch.Encode([]recordbatch.Record{{Timestamp: 1, Value: bytes.Repeat([]byte("x"), 64<<20)}}, recordbatch.Gzip)
	if err != nil {
		t.Fatal(err)
	}
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis = -1, 5000
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID = control.TopicName("f"), c.TopicInfo(control.TopicName("f")).TopicID
	partition := kmsg.NewProduceRequestTopicPartition()
	partition.Records = bomb
	topic.Partitions = append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	response, err := cl.Broker(0).Request(t.Context(), request)
	if err != nil || response.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("%v %+v", err, response)
	}
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("2")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var got []control.Record
	if err := l.ReadAll(t.Context(), func(r control.Record) { got = append(got, r) }); err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	if got[1].Unreadable == nil || got[1].Value != nil || string(got[2].Value) != "2" {
		t.Errorf("%v", got)
	}
	var s control.State
	if err := s.Apply(got[1]); err == nil || !strings.Contains(err.Error(), "cannot be decoded") || errors.Unwrap(err) == nil {
		t.Errorf("%v", err)
	}
}

// What an entry was decided on after reading goes with its record.
func TestEntriesKeepUpToWhereTheTopicWasRead(t *testing.T) {
	t.Parallel()
	_, _, l := topicWith(t, "1")
	if err := l.Write(t.Context(), control.Entry{Key: "a", ReadTo: 7}, control.Entry{Key: "b", Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	var got []control.Record
	if err := l.ReadAll(t.Context(), func(r control.Record) { got = append(got, r) }); err != nil || len(got) != 3 || got[1].ReadTo != 7 || got[1].Value != nil || got[2].ReadTo != 0 {
		t.Errorf("%v, %v", got, err)
	}
}
