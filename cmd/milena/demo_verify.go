package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// verified is how much is equal on both sides.
type verified struct {
	records    int64
	partitions int
}

// verifyCopy reads every topic of the source and its remote topic, which targetName names, and compares them by partition. The
// error lists all partitions that differ.
func verifyCopy(ctx context.Context, source, target []string, targetName func(string) string) (verified, error) {
	want, err := digestAll(ctx, source, func(string) bool { return true })
	if err != nil {
		return verified{}, fmt.Errorf("read the source: %w", err)
	}
	wanted := make(map[string]bool)
	for tp := range want {
		wanted[targetName(tp.topic)] = true
	}
	got, err := digestAll(ctx, target, func(topic string) bool { return wanted[topic] })
	if err != nil {
		return verified{}, fmt.Errorf("read the target: %w", err)
	}
	var result verified
	var wrong []error
	for _, tp := range slices.SortedFunc(maps.Keys(want), comparePartitions) {
		copied := topicPartition{targetName(tp.topic), tp.partition}
		if err := compareDigests(tp, want[tp], got[copied]); err != nil {
			wrong = append(wrong, err)
		} else {
			result.records += want[tp].records
			result.partitions++
		}
		delete(got, copied)
	}
	for _, tp := range slices.SortedFunc(maps.Keys(got), comparePartitions) {
		wrong = append(wrong, fmt.Errorf("%s-%d on the target has no source partition", tp.topic, tp.partition))
	}
	return result, errors.Join(wrong...)
}

// compareDigests is nil if a partition and its copy have the same records in the same order. The digest of the copy is nil if
// there is no copy.
func compareDigests(tp topicPartition, want, got *digest) error {
	switch {
	case got == nil:
		return fmt.Errorf("%s-%d was not copied", tp.topic, tp.partition)
	case got.records != want.records:
		return fmt.Errorf("%s-%d has %s, its copy has %d", tp.topic, tp.partition, count(want.records, "record"), got.records)
	case !bytes.Equal(got.sum.Sum(nil), want.sum.Sum(nil)):
		return fmt.Errorf("%s-%d and its copy have %s each, but not the same records in the same order", tp.topic, tp.partition, count(want.records, "record"))
	default:
		return nil
	}
}

func comparePartitions(a, b topicPartition) int {
	if c := strings.Compare(a.topic, b.topic); c != 0 {
		return c
	}
	return int(a.partition - b.partition)
}

// digestAll reads the chosen topics of a cluster from the beginning to the present end. It uses a plain consumer and none of
// milena's code.
func digestAll(ctx context.Context, brokers []string, chosen func(topic string) bool) (map[topicPartition]*digest, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ClientID("milena-demo-verify"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords()) // transaction markers have offsets too: without them the last offset might never appear
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, err := endOffsets(ctx, kadm.NewClient(client))
	if err != nil {
		return nil, err
	}
	r := &reading{digests: make(map[topicPartition]*digest), unread: make(map[topicPartition]int64)}
	client.AddConsumePartitions(r.begin(ends, chosen))
	for len(r.unread) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, fmt.Errorf("%s not read to the end: %w", count(len(r.unread), "partition"), err)
		}
		var failed error
		fetches.EachError(func(topic string, partition int32, err error) {
			failed = fmt.Errorf("%s-%d: %w", topic, partition, err)
		})
		if failed != nil {
			return nil, failed
		}
		fetches.EachRecord(r.add)
	}
	return r.digests, nil
}

// reading is the progress of digestAll.
type reading struct {
	digests map[topicPartition]*digest
	unread  map[topicPartition]int64 // partitions that are not read to the end, and their ends (exclusive)
}

// begin notes the chosen partitions and returns where to consume those that are not empty.
func (r *reading) begin(ends map[topicPartition]int64, chosen func(topic string) bool) map[string]map[int32]kgo.Offset {
	starts := make(map[string]map[int32]kgo.Offset)
	for tp, end := range ends {
		if !chosen(tp.topic) {
			continue
		}
		r.digests[tp] = &digest{sum: sha256.New()}
		if end == 0 {
			continue
		}
		r.unread[tp] = end
		if starts[tp.topic] == nil {
			starts[tp.topic] = make(map[int32]kgo.Offset)
		}
		starts[tp.topic][tp.partition] = kgo.NewOffset().AtStart()
	}
	return starts
}

func (r *reading) add(record *kgo.Record) {
	tp := topicPartition{record.Topic, record.Partition}
	end, ok := r.unread[tp]
	if !ok || record.Offset >= end {
		return
	}
	if !record.Attrs.IsControl() {
		r.digests[tp].add(record)
	}
	if record.Offset+1 >= end {
		delete(r.unread, tp)
	}
}

// digest identifies the records of one partition in their order: equal digests mean equal keys, values, headers and timestamps
// in the same order. Keeping the records themselves would take too much memory.
type digest struct {
	records int64
	sum     hash.Hash
}

// add appends one record. Each field is preceded by its length, so that two different sequences of records never give the same
// input. A null field and an empty one differ.
func (d *digest) add(r *kgo.Record) {
	d.records++
	var b []byte
	b = binary.AppendVarint(b, r.Timestamp.UnixMilli())
	b = appendField(b, r.Key)
	b = appendField(b, r.Value)
	b = binary.AppendVarint(b, int64(len(r.Headers)))
	for _, h := range r.Headers {
		b = appendField(b, []byte(h.Key))
		b = appendField(b, h.Value)
	}
	_, _ = d.sum.Write(b) // a hash never fails
}

func appendField(b, field []byte) []byte {
	if field == nil {
		return binary.AppendVarint(b, -1)
	}
	b = binary.AppendVarint(b, int64(len(field)))
	return append(b, field...)
}
