package main

import (
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

// verified is how much was compared and found equal.
type verified struct {
	records    int64
	partitions int
}

// digest stands for all records of one partition in their order. Equal digests of two partitions mean equal keys, values,
// headers and timestamps in the same order; the records themselves would fill the memory.
type digest struct {
	records int64
	sum     hash.Hash
}

// verifyCopy reads every topic of the source and its copy, whose name targetName gives, and compares them per partition.
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
		w, copied := want[tp], topicPartition{targetName(tp.topic), tp.partition}
		g := got[copied]
		delete(got, copied)
		switch {
		case g == nil:
			wrong = append(wrong, fmt.Errorf("%s-%d was not copied", tp.topic, tp.partition))
		case g.records != w.records:
			wrong = append(wrong, fmt.Errorf("%s-%d has %s, its copy has %d", tp.topic, tp.partition, count(w.records, "record"), g.records))
		case string(g.sum.Sum(nil)) != string(w.sum.Sum(nil)):
			wrong = append(wrong, fmt.Errorf("%s-%d and its copy have %s each, and they are not the same ones in the same order",
				tp.topic, tp.partition, count(w.records, "record")))
		default:
			result.records += w.records
			result.partitions++
		}
	}
	for _, tp := range slices.SortedFunc(maps.Keys(got), comparePartitions) {
		wrong = append(wrong, fmt.Errorf("%s-%d is a copy of nothing", tp.topic, tp.partition))
	}
	return result, errors.Join(wrong...)
}

func comparePartitions(a, b topicPartition) int {
	if c := strings.Compare(a.topic, b.topic); c != 0 {
		return c
	}
	return int(a.partition - b.partition)
}

// digestAll reads the chosen topics of a cluster from their beginning to where they end now. Each side is read by a plain
// consumer that knows nothing of milena.
func digestAll(ctx context.Context, brokers []string, chosen func(topic string) bool) (map[topicPartition]*digest, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ClientID("milena-demo-verify"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords()) // markers take offsets too: without them the end may never be seen
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, err := endOffsets(ctx, kadm.NewClient(client))
	if err != nil {
		return nil, err
	}
	digests := make(map[topicPartition]*digest)
	partitions := make(map[string]map[int32]kgo.Offset)
	left := make(map[topicPartition]int64)
	for tp, end := range ends {
		if !chosen(tp.topic) {
			continue
		}
		digests[tp] = &digest{sum: sha256.New()}
		if end == 0 {
			continue
		}
		left[tp] = end
		if partitions[tp.topic] == nil {
			partitions[tp.topic] = make(map[int32]kgo.Offset)
		}
		partitions[tp.topic][tp.partition] = kgo.NewOffset().AtStart()
	}
	client.AddConsumePartitions(partitions)
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, fmt.Errorf("%s not read to the end: %w", count(len(left), "partition"), err)
		}
		var failed error
		fetches.EachError(func(topic string, partition int32, err error) {
			failed = fmt.Errorf("%s-%d: %w", topic, partition, err)
		})
		if failed != nil {
			return nil, failed
		}
		fetches.EachRecord(func(r *kgo.Record) {
			tp := topicPartition{r.Topic, r.Partition}
			if end, ok := left[tp]; !ok || r.Offset >= end {
				return
			}
			if !r.Attrs.IsControl() {
				digests[tp].add(r)
			}
			if r.Offset+1 >= left[tp] {
				delete(left, tp)
			}
		})
	}
	return digests, nil
}

// add takes one record in. Lengths stand before the bytes, so that no two sequences of records give the same input; absent
// bytes and empty ones differ.
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
