package recovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// comparer reads the next record of positions on both clusters.
type comparer struct {
	*drill
	from, to *logs
	until    time.Time // then, what does not match is found

	mu      sync.Mutex // of what follows, and of what is found
	configs map[string]copyConfigs
}

// copyConfigs are what the configs of a topic of the target mean for a comparison.
type copyConfigs struct {
	compacted   bool
	ignoreTimes bool // the broker sets the timestamps
}

// isolationOf is the isolation level with which consumers read both clusters.
func (d *drill) isolationOf() int8 {
	if d.clusters.Flow.Isolation == config.ReadCommitted {
		return wire.ReadCommitted
	}
	return wire.ReadUncommitted
}

func (d *drill) targetLogs(ctx context.Context) (*logs, error) {
	return newLogs(ctx, d.target, d.clusters.TargetError, d.isolationOf())
}

// compare reads, for each position, what a consumer would read next on either cluster.
func (d *drill) compare(ctx context.Context) (string, error) {
	c := &comparer{drill: d, configs: make(map[string]copyConfigs)}
	var err error
	if c.to, err = d.targetLogs(ctx); err != nil {
		return "", err
	}
	if c.from, err = newLogs(ctx, d.source, d.clusters.SourceError, d.isolationOf()); err != nil {
		return "", err
	}
	if err := c.readConfigs(ctx); err != nil {
		return "", err
	}
	c.until = time.Now().Add(behindWait + d.clusters.Flow.JournalInterval)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(drillWorkers)
	total := 0
	for _, g := range d.groups {
		for _, o := range g.checked {
			total++
			work.Go(func() error { return c.check(ctx, g, o) })
		}
	}
	if err := work.Wait(); err != nil {
		return "", err
	}
	return counted(total, "position"), nil
}

// readConfigs reads which topics of the target are compacted, and where the broker sets the timestamps.
func (c *comparer) readConfigs(ctx context.Context) error {
	names := make(map[string]bool)
	for _, g := range c.groups {
		for _, o := range g.checked {
			names[o.TargetTopic] = true
		}
	}
	for name := range names {
		described, err := kadm.NewClient(c.target).DescribeTopicConfigs(ctx, name)
		if err != nil {
			return c.clusters.TargetError(err)
		}
		of := copyConfigs{}
		for _, r := range described {
			if r.Err != nil {
				return fmt.Errorf("read the configs of topic %s of cluster %s: %w", name, c.clusters.Flow.Target, r.Err)
			}
			for _, entry := range r.Configs {
				switch entry.Key {
				case "cleanup.policy":
					of.compacted = topics.IsCompacted(entry.MaybeValue())
				case "message.timestamp.type":
					of.ignoreTimes = entry.MaybeValue() == "LogAppendTime"
				}
			}
		}
		c.configs[name] = of
	}
	return nil
}

// outcome is what came of one comparison.
type outcome uint8

const (
	isSame   outcome = iota // a consumer reads the same record
	isEnd                   // there is nothing to read on either side
	isBehind                // the record is not copied yet
	isGone                  // one side has deleted what the other one has
	isWrong                 // a finding
)

// BehindWait is how long, in all, records may take to be copied and journaled, besides an interval of the journal.
const behindWait = 4 * time.Second

// check compares the next record of one position. What may only be a moment behind is looked at again.
func (c *comparer) check(ctx context.Context, g *drilledGroup, o offsets.GroupOffset) error {
	for {
		result, why, err := c.compareNext(ctx, o)
		if err != nil {
			return err
		}
		if (result == isBehind || result == isWrong) && time.Now().Before(c.until) {
			if err := client.Sleep(ctx, lookEvery); err != nil {
				return err
			}
			continue
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		switch result {
		case isSame:
			g.result.Same++
		case isEnd:
			g.result.End++
		case isBehind:
			g.result.Behind++
			c.notef("group %s: %s", o.Group, why)
		case isGone:
			g.result.Gone++
			c.notef("group %s: %s", o.Group, why)
		case isWrong:
			c.finding(FindingRecord, o.Group, "%s", why)
		}
		return nil
	}
}

// pairOf are the partitions of a position.
func pairOf(o *offsets.GroupOffset) (source, target offsets.TopicPartition) {
	return offsets.TopicPartition{Topic: o.Topic, Partition: o.Partition}, offsets.TopicPartition{Topic: o.TargetTopic, Partition: o.Partition}
}

// compareNext reads the target first: what comes to it meanwhile, the source has too.
func (c *comparer) compareNext(ctx context.Context, o offsets.GroupOffset) (outcome, string, error) {
	source, target := pairOf(&o)
	if o.Source > o.End.Source { // the copy, or what the journal has of it, was behind the group
		switch err := c.again(ctx, &o); {
		case isNotCopied(err):
			return isBehind, fmt.Sprintf("offset %d of %s is not copied yet; a consumer would begin at the end of the copy", o.Source, source), nil
		case err != nil:
			return isWrong, "", err
		}
	}
	there, err := c.to.next(ctx, target, o.Target)
	if err != nil {
		return isWrong, "", err
	}
	here, err := c.from.next(ctx, source, o.Source)
	if err != nil {
		return isWrong, "", err
	}
	switch {
	case here.record == nil && there.record == nil:
		return isEnd, "", nil
	case here.record != nil && there.record != nil && c.isCopy(target.Topic, here.record, there.record):
		return isSame, "", nil
	case here.record == nil:
		return c.onlyThere(ctx, o, there.record)
	}
	return c.different(ctx, o, here.record, there)
}

// again translates a position again.
func (c *comparer) again(ctx context.Context, o *offsets.GroupOffset) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := c.translator.Offset(ctx, o.Topic, o.Partition, o.Source)
	if err == nil {
		o.Target, o.Exact, o.End = now.Target, now.Exact, now.End
	}
	return err
}

func (c *comparer) isCopy(topic string, source, target *recordbatch.Record) bool {
	return differ(source, target, c.configs[topic].ignoreTimes) == ""
}

// onlyThere is about a record of the target at a position behind which the source has nothing: the source has deleted it, or it is no copy.
func (c *comparer) onlyThere(ctx context.Context, o offsets.GroupOffset, record *recordbatch.Record) (outcome, string, error) {
	of, err := c.reverse(ctx, &o, record.Offset)
	switch {
	case err == nil && of.Exact && of.Source >= o.Source && record.Offset < of.End.Target: // at the end, the two ends match
		return isGone, fmt.Sprintf("cluster %s has deleted what follows offset %d of %s-%d", c.clusters.Flow.Source, o.Source, o.Topic, o.Partition), nil
	case err == nil || isNotCopied(err):
		return isWrong, fmt.Sprintf("at offset %d of %s-%d, cluster %s has a record that is no copy of one at offset %d or later of %s-%d", record.Offset, o.TargetTopic, o.Partition,
			c.clusters.Flow.Target, o.Source, o.Topic, o.Partition), nil
	}
	return isWrong, "", err
}

// different is about a record of the source that is not what the target has at its position.
func (c *comparer) different(ctx context.Context, o offsets.GroupOffset, record *recordbatch.Record, there next) (outcome, string, error) {
	source, target := pairOf(&o)
	c.mu.Lock()
	of, err := c.translator.Offset(ctx, o.Topic, o.Partition, record.Offset)
	c.mu.Unlock()
	switch {
	case isNotCopied(err) && there.record == nil:
		return isBehind, fmt.Sprintf("the record at offset %d of %s is not copied yet", record.Offset, source), nil
	case err != nil:
		return isWrong, fmt.Sprintf("the record at offset %d of %s has no counterpart: %v", record.Offset, source, err), nil
	}
	again, err := c.to.next(ctx, target, of.Target)
	if err != nil {
		return isWrong, "", err
	}
	if again.record == nil || again.record.Offset != of.Target || !c.isCopy(target.Topic, record, again.record) {
		return c.lacks(o, record, of.Target, again)
	}
	// The copy is where it should be. What is before it on the target, the source must have had.
	if there.record == nil || there.record.Offset >= of.Target {
		return isSame, "", nil // it came meanwhile
	}
	back, err := c.reverse(ctx, &o, there.record.Offset)
	switch {
	case err != nil && !isNotCopied(err):
		return isWrong, "", err
	case err == nil && back.Exact && back.Source >= o.Source && back.Source < record.Offset:
		return isGone, fmt.Sprintf("cluster %s has deleted what is at offset %d of %s, and continues at %d", c.clusters.Flow.Source, back.Source, source, record.Offset), nil
	}
	return isWrong, fmt.Sprintf("at offset %d of %s, cluster %s has a record that is no copy of one at offset %d or later of %s", there.record.Offset, target, c.clusters.Flow.Target, o.Source, source), nil
}

// lacks is about a record of the source whose copy is not on the target.
func (c *comparer) lacks(o offsets.GroupOffset, record *recordbatch.Record, at int64, again next) (outcome, string, error) {
	source, target := pairOf(&o)
	switch {
	case again.record != nil && again.record.Offset == at:
		what := differ(record, again.record, c.configs[target.Topic].ignoreTimes)
		return isWrong, fmt.Sprintf("the record at offset %d of %s is not the one at offset %d of %s: the %s differs", at, target, record.Offset, source, what), nil
	case again.start > at:
		return isWrong, fmt.Sprintf("cluster %s has deleted the copy of the record at offset %d of %s, which the group has not read: the log of %s begins at %d", c.clusters.Flow.Target, record.Offset, source, target, again.start), nil
	case c.configs[target.Topic].compacted:
		return isGone, fmt.Sprintf("the log cleaner of cluster %s has deleted the copy of the record at offset %d of %s", c.clusters.Flow.Target, record.Offset, source), nil
	}
	return isWrong, fmt.Sprintf("the copy of the record at offset %d of %s should be at offset %d of %s, and there is none", record.Offset, source, at, target), nil
}

// reverse translates an offset of the target back.
func (c *comparer) reverse(ctx context.Context, o *offsets.GroupOffset, at int64) (offsets.Translation, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.translator.ReverseOffset(ctx, o.TargetTopic, o.Partition, at)
}

func isNotCopied(err error) bool {
	var late *offsets.NotCopiedError
	return errors.As(err, &late)
}
