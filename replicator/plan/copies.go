package plan

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/replicator/topics"
)

// mendCopy adds a finding about the copy of a pair, which is mended by a config. If the flow copies the config, it has to be set on the source topic: on the
// copy, the next sync would undo it.
func (d *doctor) mendCopy(f Finding, p topics.Pair, config, value string) {
	f.Cluster, f.Topic, f.Severity = d.flow.Target, p.TargetName, SeverityWarning
	switch {
	case d.topics.Passes(p, config):
		f.Mend += ", by a config of the source topic, which the flow copies:"
		f.Command = alterTopic(d.sourceSide().config, p.Source.Name, config, value)
	case !p.Target.Exists():
		f.Mend += ", once the copy exists:"
		f.Command = alterTopic(d.targetSide().config, p.TargetName, config, value)
	default:
		f.Mend += ":"
		f.Command = alterTopic(d.targetSide().config, p.TargetName, config, value)
	}
	d.add(f)
}

// examineSizes compares the largest batches that the topics of a pair accept.
func (d *doctor) examineSizes(context.Context) {
	for _, p := range d.pairs {
		e := d.expected[p.Source.Name]
		from, fromErr := strconv.ParseInt(e.Source["max.message.bytes"], 10, 64)
		to, toErr := strconv.ParseInt(e.Copy["max.message.bytes"], 10, 64)
		if fromErr != nil || toErr != nil || from <= to {
			continue
		}
		d.mendCopy(Finding{
			ID:      MessageSize,
			Meaning: fmt.Sprintf("The source topic accepts batches of %d bytes and its copy of %d: larger batches are split, and a partition halts at a record that is larger.", from, to),
			Mend:    "Raise the limit of the copy",
		}, p, "max.message.bytes", strconv.FormatInt(from, 10))
	}
}

// examineTimestamps looks for copies that replace timestamps, refuse records for them, or delete records at once.
func (d *doctor) examineTimestamps(ctx context.Context) {
	limits := make(map[string]topics.Limits, len(d.pairs))
	for _, p := range d.pairs {
		e := d.expected[p.Source.Name]
		limits[p.TargetName] = e.Limits
		if e.Limits.LogAppendTime && e.Source != nil && e.Source["message.timestamp.type"] != "LogAppendTime" {
			d.mendCopy(Finding{
				ID:      TimestampType,
				Meaning: "The copy has message.timestamp.type=LogAppendTime, so its brokers replace the timestamps of the records with the time of copying.",
				Mend:    "Let the copy keep the timestamps",
			}, p, "message.timestamp.type", "CreateTime")
		}
	}
	for _, o := range d.outsideTimestamps(ctx, limits) {
		d.add(Finding{
			ID: TimestampLimit, Severity: SeverityWarning, Cluster: d.flow.Target, Topic: o.copied,
			Meaning: fmt.Sprintf("Partition %d of source topic %s has records, such as that at offset %d, whose timestamps are beyond %s of the copy; if they are not copied yet, the partition halts with record_refused.",
				o.Partition, o.Topic, o.Offset, o.config),
			Mend: "Lift the limit of the copy:", Command: alterTopic(d.targetSide().config, o.copied, o.config, strconv.FormatInt(math.MaxInt64, 10)),
		})
	}
	d.examineRetention(ctx)
}

// examineRetention looks for copies whose retention is shorter than that of their source, and for source records that are older.
func (d *doctor) examineRetention(ctx context.Context) {
	shorter := make(map[time.Duration][]string) // source topics by the retention of their copies
	pairs := make(map[string]topics.Pair)
	for _, p := range d.pairs {
		e := d.expected[p.Source.Name]
		to, limited := retention(e.Copy)
		from, fromLimited := retention(e.Source)
		if limited && !e.Limits.LogAppendTime && e.Source != nil && (!fromLimited || from > to) {
			shorter[to] = append(shorter[to], p.Source.Name)
			pairs[p.Source.Name] = p
		}
	}
	for kept, names := range shorter {
		_, older, err := d.olderThan(ctx, names, kept)
		if err != nil {
			d.notExamined(d.sourceSide(), "whether records of the source are older than the retention of their copies", "DESCRIBE on the topics", err)
		}
		for _, name := range older {
			p := pairs[name]
			d.mendCopy(Finding{
				ID:      ShorterRetention,
				Meaning: fmt.Sprintf("The source topic has records that are older than retention.ms of the copy, %s: they are copied and then deleted at once, and consumers that fail over do not find them.", span(kept)),
				Mend:    "Keep records as long as on the source",
			}, p, "retention.ms", d.expected[name].Source["retention.ms"])
		}
	}
}

// retention returns for how long a topic keeps records. It is not limited if the topic does not delete them by time, or if it is not known.
func retention(configs map[string]string) (kept time.Duration, limited bool) {
	ms, err := strconv.ParseInt(configs["retention.ms"], 10, 64)
	if err != nil || ms < 0 || !strings.Contains(configs["cleanup.policy"], "delete") {
		return 0, false
	}
	return millis(ms), true
}

// millis is a number of milliseconds, or the longest duration.
func millis(ms int64) time.Duration {
	return time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// olderThan returns which of the source topics have records that are older, sorted, and the first offset of each partition that is not older.
func (d *doctor) olderThan(ctx context.Context, names []string, age time.Duration) (young kadm.ListedOffsets, older []string, err error) {
	admin := kadm.NewClient(d.sourceClient)
	starts, err := admin.ListStartOffsets(ctx, names...)
	if err != nil {
		return nil, nil, err
	}
	if young, err = admin.ListOffsetsAfterMilli(ctx, d.now.Add(-age).UnixMilli(), names...); err != nil {
		return nil, nil, err
	}
	found := map[string]bool{}
	starts.Each(func(start kadm.ListedOffset) {
		first, ok := young.Lookup(start.Topic, start.Partition)
		if ok && first.Err == nil && start.Err == nil && first.Offset > start.Offset && !found[start.Topic] {
			found[start.Topic] = true
			older = append(older, start.Topic)
		}
	})
	slices.Sort(older)
	return young, older, nil
}

// span is a duration, in days if it is long.
func span(d time.Duration) string {
	if days := d / (24 * time.Hour); days >= 3 {
		return fmt.Sprintf("%d days", days)
	}
	return d.Round(time.Second).String()
}
