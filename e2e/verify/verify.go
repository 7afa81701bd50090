// Package verify compares what a source and a target cluster hold. Every test that copies ends here.
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

// Options say what is compared.
type Options struct {
	// Topics of the source.
	Topics []string
	// Name gives the target's name of a topic; nil means the same.
	Name func(string) string
	// Until bounds the comparison of a topic while it still grows: only source records below these ends are compared, and what the
	// target holds behind them is not looked at. A topic that is not named is compared to both of its ends.
	Until map[string]Ends
	// Uncommitted compares all records of the source, those of transactions that were aborted too.
	Uncommitted bool
	// Concurrency is how many partitions are compared at a time; 4 if zero.
	Concurrency int
}

// Report is what a comparison found.
type Report struct {
	Partitions int
	// Records and Bytes that are equal: bytes of keys, values and headers.
	Records, Bytes int64
	// Differences holds the first difference of each partition that has one.
	Differences []string
	Took        time.Duration
}

// Run reads the committed records of each partition of the topics on both sides, in step, and compares them in order: key, value,
// headers, timestamp, and what is null. Each partition stops at its first difference.
func Run(ctx context.Context, source, target *kgo.Client, o Options) (Report, error) {
	start := time.Now()
	name := o.Name
	if name == nil {
		name = func(t string) string { return t }
	}
	var (
		report         Report
		records, bytes atomic.Int64
		mu             sync.Mutex
	)
	differ := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		report.Differences = append(report.Differences, fmt.Sprintf(format, args...))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(o.Concurrency, 4))
	for _, topic := range o.Topics {
		sourceEnds, err := ReadEnds(ctx, source, topic)
		if err != nil {
			return report, err
		}
		until, bounded := o.Until[topic]
		if bounded {
			sourceEnds.End = until.End
		}
		copied := name(topic)
		targetEnds, err := ReadEnds(ctx, target, copied)
		if err != nil {
			differ("%s: %v", topic, err)
			continue
		}
		logAppendTime, err := usesLogAppendTime(ctx, target, copied)
		if err != nil {
			return report, err
		}
		for partition, end := range targetEnds.End {
			if _, ok := sourceEnds.End[partition]; !ok && end > 0 {
				differ("%s[%d] exists on the target only, with records", copied, partition)
			}
		}
		for partition := range sourceEnds.End {
			report.Partitions++
			if _, ok := targetEnds.End[partition]; !ok {
				differ("%s[%d] does not exist on the target", copied, partition)
				continue
			}
			g.Go(func() error {
				c := comparison{
					source:        &reader{client: source, topic: topic, partition: partition, next: sourceEnds.Start[partition], end: sourceEnds.End[partition], uncommitted: o.Uncommitted},
					target:        &reader{client: target, topic: copied, partition: partition, next: targetEnds.Start[partition], end: targetEnds.End[partition]},
					logAppendTime: logAppendTime,
					bounded:       bounded,
				}
				difference, err := c.run(ctx)
				records.Add(c.records)
				bytes.Add(c.bytes)
				if difference != "" {
					differ("%s", difference)
				}
				return err
			})
		}
	}
	err := g.Wait()
	slices.Sort(report.Differences)
	report.Records, report.Bytes, report.Took = records.Load(), bytes.Load(), time.Since(start)
	return report, err
}

// usesLogAppendTime reports whether the topic's broker sets the timestamps.
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

// comparison walks through one partition on both sides.
type comparison struct {
	source, target *reader
	logAppendTime  bool
	bounded        bool // the end of source is not where the comparison ends for target
	records, bytes int64
	hash           maphash.Hash
	// before are digests of the source records that were equal last, by which a record that came twice is recognised.
	before [1 << 14]seen
}

type seen struct {
	digest uint64
	offset int64
	used   bool
}

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
			c.before[c.records%int64(len(c.before))] = seen{digest(&c.hash, s), s.Offset, true}
			c.records++
			c.bytes += int64(len(s.Key) + len(s.Value))
			for _, h := range s.Headers {
				c.bytes += int64(len(h.Key) + len(h.Value))
			}
		case t == nil:
			return c.describe(s, nil, "records are missing at the target's end", ""), nil
		default:
			explanation, err := c.explain(ctx, nil, t)
			return c.describe(nil, t, "the target goes on behind the source's end", explanation), err
		}
	}
}

// compare says in which respect two records differ.
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

// explain finds out whether t came twice, or what is missing before it; the source record that should have been there is s.
// It may read on in the source.
func (c *comparison) explain(ctx context.Context, s, t *kgo.Record) (string, error) {
	want := digest(&c.hash, t)
	for _, b := range c.before {
		if b.used && b.digest == want {
			return fmt.Sprintf("the target repeats source offset %d, which it already has", b.offset), nil
		}
	}
	if s == nil {
		return "nothing near looks like it: a foreign write?", nil
	}
	first, missing := s.Offset, 0
	for s != nil && missing < 200_000 {
		if digest(&c.hash, s) == want {
			return fmt.Sprintf("%d records from source offset %d on are missing, then it goes on with source offset %d", missing, first, s.Offset), nil
		}
		var err error
		if s, err = c.source.read(ctx); err != nil {
			return "", err
		}
		missing++
	}
	return "nothing near looks like it", nil
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

// digest covers what a copy keeps, without the timestamp, which a broker may set.
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

// Content is the number of committed records that a topic's partition holds, and a digest of them in order, with their offsets.
type Content struct {
	Records int64
	Digest  uint64
}

// Contents reads a topic, for comparing it with itself later.
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

// Sequence reads the committed records of one partition and hands each to do; an error of do ends it.
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
