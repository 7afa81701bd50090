package plan

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/replicator/topics"
)

// checkTimestamps warns of records that a target topic would refuse for their timestamps, as far as the source's index of timestamps shows them.
// Only topics that somebody else created or altered have limits: milena creates them without.
func (c *check) checkTimestamps(ctx context.Context, limits map[string]topics.Limits) {
	now, admin := time.Now().UnixMilli(), kadm.NewClient(c.sourceClient)
	var late []string                // source topics whose copies limit how far ahead a timestamp may be
	earliest := map[int64][]string{} // source topics by the oldest timestamp that their copies accept
	for _, p := range c.pairs {
		l := limits[p.TargetName]
		if l.TimestampBefore > 0 && l.TimestampBefore < now && !l.LogAppendTime {
			earliest[now-l.TimestampBefore] = append(earliest[now-l.TimestampBefore], p.Source.Name)
		}
		if l.TimestampAfter > 0 && l.TimestampAfter < math.MaxInt64-now && !l.LogAppendTime {
			late = append(late, p.Source.Name)
		}
	}
	for oldest, names := range earliest {
		starts, startErr := admin.ListStartOffsets(ctx, names...)
		accepted, err := admin.ListOffsetsAfterMilli(ctx, oldest, names...)
		if startErr != nil || err != nil {
			continue // brokers that cannot be reached are warned of elsewhere
		}
		c.warnTimestamps(starts, "message.timestamp.before.max.ms", func(start kadm.ListedOffset) bool {
			first, ok := accepted.Lookup(start.Topic, start.Partition)
			return ok && first.Err == nil && first.Offset > start.Offset
		})
	}
	if len(late) == 0 {
		return
	}
	newest, err := admin.ListMaxTimestampOffsets(ctx, late...)
	if err != nil {
		return // brokers before 3.0 do not tell the newest timestamp (KIP-734)
	}
	c.warnTimestamps(newest, "message.timestamp.after.max.ms", func(record kadm.ListedOffset) bool {
		name, _ := c.topics.Rules.Target(record.Topic)
		return record.Timestamp > now+limits[name].TimestampAfter
	})
}

// warnTimestamps warns once of each topic that has a partition for which outside returns true.
func (c *check) warnTimestamps(listed kadm.ListedOffsets, config string, outside func(kadm.ListedOffset) bool) {
	var all []kadm.ListedOffset
	listed.Each(func(o kadm.ListedOffset) { all = append(all, o) })
	slices.SortFunc(all, func(a, b kadm.ListedOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	warned := map[string]bool{}
	for _, o := range all {
		if o.Err != nil || warned[o.Topic] || !outside(o) {
			continue
		}
		warned[o.Topic] = true
		name, _ := c.topics.Rules.Target(o.Topic)
		c.warn("topic %s has records in partition %d, such as that at offset %d, whose timestamps are beyond %s of topic %s on cluster %s; if they are not copied yet, the partition halts with record_refused: raise that config",
			o.Topic, o.Partition, o.Offset, config, name, c.flow.Target)
	}
}
