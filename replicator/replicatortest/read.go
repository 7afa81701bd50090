package replicatortest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// EndOffsets are the end offsets of a topic's partitions.
func (c *Cluster) EndOffsets(topic string) map[int32]int64 {
	c.t.Helper()
	listed, err := c.Admin.ListEndOffsets(c.t.Context(), topic)
	if err = errors.Join(err, listed.Error()); err != nil {
		c.t.Fatalf("list end offsets of %s: %v", topic, err)
	}
	ends := make(map[int32]int64)
	for _, o := range listed[topic] {
		ends[o.Partition] = o.Offset
	}
	return ends
}

// Records reads the committed records that the first partitions of a topic hold now, without control records.
func (c *Cluster) Records(topic string, partitions int32) map[int32][]*kgo.Record {
	c.t.Helper()
	return c.read(topic, partitions, kgo.ReadCommitted())
}

// UncommittedRecords is like Records but includes records of aborted transactions.
func (c *Cluster) UncommittedRecords(topic string, partitions int32) map[int32][]*kgo.Record {
	c.t.Helper()
	return c.read(topic, partitions, kgo.ReadUncommitted())
}

func (c *Cluster) read(topic string, partitions int32, isolation kgo.IsolationLevel) map[int32][]*kgo.Record {
	c.t.Helper()
	ends := c.EndOffsets(topic)
	begin := make(map[int32]kgo.Offset)
	open := make(map[int32]int64)
	for part := range partitions {
		if end := ends[part]; end > 0 {
			begin[part], open[part] = kgo.NewOffset().At(0), end
		}
	}
	read := make(map[int32][]*kgo.Record)
	if len(open) == 0 {
		return read
	}
	// Control records are kept so that a partition that ends with a marker is seen to end.
	reader := c.newClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: begin}), kgo.FetchIsolationLevel(isolation),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond))
	defer reader.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), Patience)
	defer cancel()
	for len(open) > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			c.t.Fatalf("read %s: %v; not read to the end: %v", topic, err, open)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				read[r.Partition] = append(read[r.Partition], r)
			}
			if r.Offset+1 >= open[r.Partition] {
				delete(open, r.Partition)
			}
		})
	}
	return read
}

// Texts are the Records of a topic as text: key, value, headers and timestamp, without offset.
func (c *Cluster) Texts(topic string, partitions int32) map[int32][]string {
	c.t.Helper()
	texts := make(map[int32][]string)
	for part, list := range c.Records(topic, partitions) {
		for _, r := range list {
			texts[part] = append(texts[part], fmt.Sprintf("%s|%s|%s|%d", r.Key, r.Value, r.Headers, r.Timestamp.UnixMilli()))
		}
	}
	return texts
}

// AwaitRecords waits until a topic exists and has n records, and returns at least those.
func (c *Cluster) AwaitRecords(topic string, n int) []*kgo.Record {
	c.t.Helper()
	reader := c.newClient(kgo.ConsumeTopics(topic), kgo.MetadataMinAge(10*time.Millisecond), kgo.MetadataMaxAge(100*time.Millisecond))
	defer reader.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), Patience)
	defer cancel()
	var list []*kgo.Record
	for len(list) < n {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			c.t.Fatalf("not within %v: %d records of %s; there are %d", Patience, n, topic, len(list))
		}
		list = append(list, fetches.Records()...)
	}
	return list
}

// State is what a write could change of a cluster: the end offset of each partition, and the names of the groups.
func (c *Cluster) State() map[string]string {
	c.t.Helper()
	ends, err := c.Admin.ListEndOffsets(c.t.Context())
	groups, groupsErr := c.Admin.ListGroups(c.t.Context())
	if err = errors.Join(err, groupsErr); err != nil {
		c.t.Fatal(err)
	}
	state := map[string]string{"groups": fmt.Sprint(groups.Groups())}
	ends.Each(func(o kadm.ListedOffset) { state[fmt.Sprintf("%s-%d", o.Topic, o.Partition)] = fmt.Sprint(o.Offset) })
	return state
}
