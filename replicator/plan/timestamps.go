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

// outsideTimestamp is a record of a source topic, as listed, whose timestamp its copy would refuse.
type outsideTimestamp struct {
	kadm.ListedOffset
	copied string // the topic on the target
	config string // its limit
}

// checkTimestamps warns of records that a target topic would refuse for their timestamps.
func (c *check) checkTimestamps(ctx context.Context, limits map[string]topics.Limits) {
	for _, o := range c.outsideTimestamps(ctx, limits) {
		c.warn("topic %s has records in partition %d, such as that at offset %d, whose timestamps are beyond %s of topic %s on cluster %s; if they are not copied yet, the partition halts with record_refused: raise that config",
			o.Topic, o.Partition, o.Offset, o.config, o.copied, c.flow.Target)
	}
}

// outsideTimestamps finds, for each topic and limit, a record that a target topic would refuse for its timestamp, as far as the source's index of timestamps
// shows them. Only topics that somebody else created or altered have limits: milena creates them without.
func (c *check) outsideTimestamps(ctx context.Context, limits map[string]topics.Limits) (outside []outsideTimestamp) {
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
		outside = append(outside, c.outside(starts, func(start kadm.ListedOffset) bool {
			first, ok := accepted.Lookup(start.Topic, start.Partition)
			return ok && first.Err == nil && first.Offset > start.Offset
		}, func(name string) string { return limits[name].TimestampBeforeBy })...)
	}
	if len(late) == 0 {
		return outside
	}
	newest, err := admin.ListMaxTimestampOffsets(ctx, late...)
	if err != nil {
		return outside // brokers before 3.0 do not tell the newest timestamp (KIP-734)
	}
	return append(outside, c.outside(newest, func(record kadm.ListedOffset) bool {
		name, _ := c.topics.Rules.Target(record.Topic)
		return record.Timestamp > now+limits[name].TimestampAfter
	}, func(name string) string { return limits[name].TimestampAfterBy })...)
}

// outside returns one record of each topic for which is returns true. By returns the config that limits a topic of the target.
func (c *check) outside(listed kadm.ListedOffsets, is func(kadm.ListedOffset) bool, by func(copied string) string) (found []outsideTimestamp) {
	var all []kadm.ListedOffset
	listed.Each(func(o kadm.ListedOffset) { all = append(all, o) })
	slices.SortFunc(all, func(a, b kadm.ListedOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	known := map[string]bool{}
	for _, o := range all {
		if o.Err != nil || known[o.Topic] || !is(o) {
			continue
		}
		known[o.Topic] = true
		name, _ := c.topics.Rules.Target(o.Topic)
		found = append(found, outsideTimestamp{o, name, by(name)})
	}
	return found
}
