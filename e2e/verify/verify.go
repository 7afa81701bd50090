// Package verify compares the records of a source and a target cluster. Every test that copies ends here.
package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// Options select what is compared.
type Options struct {
	// Topics of the source.
	Topics []string
	// Name returns the name of a topic on the target; nil means the same name.
	Name func(string) string
	// Until compares topics that still grow: of a topic in it, only source records below these ends are compared, and further records on the
	// target are ignored. All other topics are compared up to both ends.
	Until map[string]Ends
	// Uncommitted compares all records of the source, including those of aborted transactions.
	Uncommitted bool
	// Concurrency is how many partitions are compared at the same time, at least 4.
	Concurrency int
}

// Report is the result of a comparison.
type Report struct {
	Partitions int
	// Records is how many records are equal, Bytes the size of their keys, values and headers.
	Records, Bytes int64
	// Differences holds the first difference of each partition that has one.
	Differences []string
	Took        time.Duration
}

// Run compares the committed records of each partition with those of its copy, in order: key, value, headers, timestamp, and what is null.
// Each partition stops at its first difference. An error means that the comparison is incomplete; differences are no error.
func Run(ctx context.Context, source, target *kgo.Client, o Options) (Report, error) {
	start := time.Now()
	if o.Name == nil {
		o.Name = func(topic string) string { return topic }
	}
	r := &run{Options: o, source: source, target: target}
	r.group, ctx = errgroup.WithContext(ctx)
	r.group.SetLimit(max(o.Concurrency, 4))
	for _, topic := range o.Topics {
		if err := r.compareTopic(ctx, topic); err != nil {
			r.group.Go(func() error { return err }) // which ends the others
			break
		}
	}
	err := r.group.Wait()
	slices.Sort(r.report.Differences)
	r.report.Records, r.report.Bytes, r.report.Took = r.records.Load(), r.bytes.Load(), time.Since(start)
	return r.report, err
}

// run is one call of Run.
type run struct {
	Options
	source, target *kgo.Client
	group          *errgroup.Group // one function per partition
	records, bytes atomic.Int64

	mu     sync.Mutex
	report Report // its differences, under mu
}

func (r *run) differ(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Differences = append(r.report.Differences, fmt.Sprintf(format, args...))
}

// compareTopic compares the partitions that exist and starts the comparison of each.
func (r *run) compareTopic(ctx context.Context, topic string) error {
	sourceEnds, err := ReadEnds(ctx, r.source, topic)
	if err != nil {
		return err
	}
	until, bounded := r.Until[topic]
	if bounded {
		sourceEnds.End = until.End
	}
	remote := r.Name(topic)
	targetEnds, err := ReadEnds(ctx, r.target, remote)
	if err != nil {
		r.differ("%s: %v", topic, err)
		return nil
	}
	logAppendTime, err := usesLogAppendTime(ctx, r.target, remote)
	if err != nil {
		return err
	}
	for partition, end := range targetEnds.End {
		if _, ok := sourceEnds.End[partition]; !ok && end > 0 {
			r.differ("%s[%d] has records and does not exist on the source", remote, partition)
		}
	}
	for partition := range sourceEnds.End {
		r.report.Partitions++
		if _, ok := targetEnds.End[partition]; !ok {
			r.differ("%s[%d] does not exist on the target", remote, partition)
			continue
		}
		c := &comparison{
			source:        &reader{client: r.source, topic: topic, partition: partition, next: sourceEnds.Start[partition], end: sourceEnds.End[partition], uncommitted: r.Uncommitted},
			target:        &reader{client: r.target, topic: remote, partition: partition, next: targetEnds.Start[partition], end: targetEnds.End[partition]},
			logAppendTime: logAppendTime,
			bounded:       bounded,
		}
		r.group.Go(func() error { return r.comparePartition(ctx, c) })
	}
	return nil
}

func (r *run) comparePartition(ctx context.Context, c *comparison) error {
	difference, err := c.run(ctx)
	r.records.Add(c.records)
	r.bytes.Add(c.bytes)
	if difference != "" {
		r.differ("%s", difference)
	}
	return err
}

// usesLogAppendTime reports whether a topic has message.timestamp.type=LogAppendTime.
func usesLogAppendTime(ctx context.Context, client *kgo.Client, topic string) (bool, error) {
	configs, err := kadm.NewClient(client).DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return false, err
	}
	config, err := configs.On(topic, nil)
	if err != nil {
		return false, err
	}
	for _, c := range config.Configs {
		if c.Key == "message.timestamp.type" {
			return c.MaybeValue() == "LogAppendTime", nil
		}
	}
	return false, nil
}

// comparison reads one partition on both sides, record by record.
type comparison struct {
	source, target *reader
	logAppendTime  bool
	bounded        bool // the target may hold records beyond the end of source
	records, bytes int64
	hash           maphash.Hash
	// equal is a ring of the last equal source records, to recognize a duplicate.
	equal [1 << 14]seen
}

type seen struct {
	digest uint64
	offset int64
	used   bool
}

// run returns a description of the first difference, or nothing.
func (c *comparison) run(ctx context.Context) (string, error) {
	for {
		s, err := c.source.read(ctx)
		if err != nil || s == nil && c.bounded {
			return "", err
		}
		t, err := c.target.read(ctx)
		if err != nil {
			return "", err
		}
		switch {
		case s == nil && t == nil:
			return "", nil
		case s != nil && t != nil:
			if what := c.compare(s, t); what != "" {
				explanation, err := c.explain(ctx, s, t)
				return c.describe(s, t, what, explanation), err
			}
			c.equal[c.records%int64(len(c.equal))] = seen{digest(&c.hash, s), s.Offset, true}
			c.records++
			c.bytes += int64(len(s.Key) + len(s.Value))
			for _, h := range s.Headers {
				c.bytes += int64(len(h.Key) + len(h.Value))
			}
		case t == nil:
			return c.describe(s, nil, "records are missing at the target's end", ""), nil
		default:
			explanation, err := c.explain(ctx, nil, t)
			return c.describe(nil, t, "the target has records beyond the source's end", explanation), err
		}
	}
}

// compare describes how two records differ; it returns nothing if they are equal.
func (c *comparison) compare(s, t *kgo.Record) string {
	same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	switch {
	case !same(s.Key, t.Key):
		return "the keys differ"
	case !same(s.Value, t.Value):
		return "the values differ"
	case len(s.Headers) != len(t.Headers):
		return "the headers differ in number"
	}
	for i, h := range s.Headers {
		if h.Key != t.Headers[i].Key || !same(h.Value, t.Headers[i].Value) {
			return fmt.Sprintf("header %d differs", i)
		}
	}
	wantType := int8(0)
	if c.logAppendTime {
		wantType = 1
	} else if s.Timestamp.UnixMilli() != t.Timestamp.UnixMilli() {
		return "the timestamps differ"
	}
	if got := t.Attrs.TimestampType(); got != wantType {
		return fmt.Sprintf("the target record's timestamp type is %d, its topic's is %d", got, wantType)
	}
	return ""
}

// explain finds out whether the target record t is a duplicate, or which records are missing before it. The source record s was expected;
// it is nil at the source's end. It may read more of the source.
func (c *comparison) explain(ctx context.Context, s, t *kgo.Record) (string, error) {
	want := digest(&c.hash, t)
	for _, b := range c.equal {
		if b.used && b.digest == want {
			return fmt.Sprintf("the target repeats source offset %d: a duplicate", b.offset), nil
		}
	}
	if s == nil {
		return "no source record nearby is equal: a foreign write?", nil
	}
	first, missing := s.Offset, 0
	for s != nil && missing < 200_000 {
		if digest(&c.hash, s) == want {
			return fmt.Sprintf("%d records are missing, from source offset %d; the target continues with source offset %d", missing, first, s.Offset), nil
		}
		var err error
		if s, err = c.source.read(ctx); err != nil {
			return "", err
		}
		missing++
	}
	return "no source record nearby is equal", nil
}

func (c *comparison) describe(s, t *kgo.Record, what, explanation string) string {
	text := fmt.Sprintf("%s[%d]: %s, after %d equal records\n  source %s\n  target %s", c.source.topic, c.source.partition, what, c.records, show(s), show(t))
	if explanation != "" {
		text += "\n  " + explanation
	}
	return text
}

func show(r *kgo.Record) string {
	if r == nil {
		return "(no record)"
	}
	brief := func(b []byte) string {
		if b == nil {
			return "null"
		}
		return fmt.Sprintf("%d bytes %.40q", len(b), b)
	}
	headers := make([]string, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = h.Key + "=" + brief(h.Value)
	}
	return fmt.Sprintf("offset %d, %s (type %d), producer %d/%d, key %s, value %s, headers [%s]",
		r.Offset, r.Timestamp.UTC().Format("2006-01-02T15:04:05.000"), r.Attrs.TimestampType(), r.ProducerID, r.ProducerEpoch, brief(r.Key), brief(r.Value), strings.Join(headers, ", "))
}

// digest covers key, value and headers. Timestamps are left out, because brokers may set them.
func digest(h hash.Hash64, r *kgo.Record) uint64 {
	h.Reset()
	part := func(b []byte) {
		var n [5]byte // length, and whether it is null
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		if b == nil {
			n[4] = 1
		}
		_, _ = h.Write(n[:]) // never fails
		_, _ = h.Write(b)
	}
	part(r.Key)
	part(r.Value)
	for _, header := range r.Headers {
		part([]byte(header.Key))
		part(header.Value)
	}
	return h.Sum64()
}

// Content is how many committed records a partition holds, and a digest of them, their offsets and timestamps, in order.
type Content struct {
	Records int64
	Digest  uint64
}

// Contents reads a whole topic, to find out later whether it has changed.
func Contents(ctx context.Context, client *kgo.Client, topic string) (map[int32]Content, error) {
	ends, err := ReadEnds(ctx, client, topic)
	if err != nil {
		return nil, err
	}
	contents := map[int32]Content{}
	for partition, end := range ends.End {
		r := &reader{client: client, topic: topic, partition: partition, next: ends.Start[partition], end: end}
		h, one := fnv.New64a(), fnv.New64a()
		var c Content
		for {
			rec, err := r.read(ctx)
			if err != nil {
				return nil, err
			}
			if rec == nil {
				break
			}
			c.Records++
			_, _ = fmt.Fprintf(h, "%d.%d.%d.", rec.Offset, rec.Timestamp.UnixMilli(), digest(one, rec))
		}
		c.Digest = h.Sum64()
		contents[partition] = c
	}
	return contents, nil
}

// Sequence reads the committed records of one partition and calls do for each, until do returns an error.
func Sequence(ctx context.Context, client *kgo.Client, topic string, partition int32, do func(*kgo.Record) error) error {
	ends, err := ReadEnds(ctx, client, topic)
	if err != nil {
		return err
	}
	end, ok := ends.End[partition]
	if !ok {
		return errors.New("no such partition")
	}
	r := &reader{client: client, topic: topic, partition: partition, next: ends.Start[partition], end: end}
	for {
		rec, err := r.read(ctx)
		if rec == nil || err != nil {
			return err
		}
		if err := do(rec); err != nil {
			return err
		}
	}
}
