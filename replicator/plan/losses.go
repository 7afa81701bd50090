package plan

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/topics"
)

// The parts of a retention at which a lag becomes a finding, the worst first.
const (
	lagError   = 0.9
	lagWarning = 0.5
)

// behind are the partitions that the journal lists and that are not copied to their end.
type behind struct {
	at   map[offsets.TopicPartition]int64 // the next offset to copy
	ends map[offsets.TopicPartition]int64
}

// examineLag compares how far each partition is copied with what the source is about to delete. The age of the first record that is not copied is found
// by asking which offset is the first one that is younger than a part of the retention, so no record is read.
func (d *doctor) examineLag(ctx context.Context) {
	report, err := fleet.Read(ctx, d.clusters)
	if err != nil {
		d.notExamined(d.targetSide(), "how far the topics are copied", fmt.Sprintf("READ on topic %s", offsets.JournalTopic(d.flow.Name)), err)
		return
	}
	b := behind{make(map[offsets.TopicPartition]int64), make(map[offsets.TopicPartition]int64)}
	lagging := make(map[string]bool)
	for _, p := range report.Partitions {
		if p.Journaled == nil || p.LagRecords == nil || *p.LagRecords == 0 {
			continue
		}
		tp := offsets.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		b.at[tp], b.ends[tp], lagging[p.Topic] = *p.Journaled, *p.SourceEnd, true
	}
	var pairs []topics.Pair
	for _, p := range d.pairs {
		if lagging[p.Source.Name] {
			pairs = append(pairs, p)
		}
	}
	if len(pairs) == 0 {
		return
	}
	starts, err := kadm.NewClient(d.sourceClient).ListStartOffsets(ctx, topics.SourceNames(pairs)...)
	if err != nil {
		d.notExamined(d.sourceSide(), "what the source has deleted", "DESCRIBE on the topics", err)
		return
	}
	lost := d.examineLost(pairs, b, starts)
	d.examineAges(ctx, pairs, b, lost)
	d.examineBytes(ctx, pairs, b, starts, lost)
}

// examineLost looks for records that the source deleted before they were copied, and returns the topics that had them.
func (d *doctor) examineLost(pairs []topics.Pair, b behind, starts kadm.ListedOffsets) map[string]bool {
	lost := make(map[string]bool)
	for _, p := range pairs {
		records, partitions := int64(0), 0
		for n := range p.Source.Partitions {
			start, ok := starts.Lookup(p.Source.Name, int32(n))
			at, listed := b.at[offsets.TopicPartition{Topic: p.Source.Name, Partition: int32(n)}]
			if ok && listed && start.Err == nil && start.Offset > at {
				records, partitions = records+start.Offset-at, partitions+1
			}
		}
		if partitions > 0 {
			lost[p.Source.Name] = true
			d.add(Finding{
				ID: RetentionLag, Severity: SeverityError, Cluster: d.flow.Source, Topic: p.Source.Name,
				Meaning: fmt.Sprintf("The source has deleted %d offsets in %s before they were copied.", records, counted(partitions, "partition")),
				Mend:    "Decide on the anomaly retention_gap, and keep records longer until the flow has caught up:", Command: d.keepLonger(p),
			})
		}
	}
	return lost
}

// keepLonger is the command that doubles how long the source keeps the records of a topic.
func (d *doctor) keepLonger(p topics.Pair) string {
	kept, limited := retention(d.expected[p.Source.Name].Source)
	if !limited {
		kept = 7 * 24 * time.Hour
	}
	return alterTopic(d.sourceSide().config, p.Source.Name, "retention.ms", strconv.FormatInt(doubled(kept.Milliseconds()), 10))
}

func doubled(n int64) int64 {
	if n > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return 2 * n
}

// limit is for how long the source keeps something of some topics.
type limit struct {
	kept time.Duration
	id   FindingID
}

// examineAges compares the age of the first record that is not copied with retention.ms and, for compacted topics, with delete.retention.ms.
func (d *doctor) examineAges(ctx context.Context, pairs []topics.Pair, b behind, lost map[string]bool) {
	byLimit := make(map[limit][]topics.Pair)
	for _, p := range pairs {
		configs := d.expected[p.Source.Name].Source
		if kept, limited := retention(configs); limited && !lost[p.Source.Name] {
			byLimit[limit{kept, RetentionLag}] = append(byLimit[limit{kept, RetentionLag}], p)
		}
		if ms, err := strconv.ParseInt(configs["delete.retention.ms"], 10, 64); err == nil && strings.Contains(configs["cleanup.policy"], "compact") {
			byLimit[limit{millis(ms), TombstonesLag}] = append(byLimit[limit{millis(ms), TombstonesLag}], p)
		}
	}
	for l, pairs := range byLimit {
		if err := d.examineLimit(ctx, l, pairs, b); err != nil {
			d.notExamined(d.sourceSide(), "how old the records are that are not copied", "DESCRIBE on the topics", err)
			return
		}
	}
}

// examineLimit looks at the topics that have the same limit.
func (d *doctor) examineLimit(ctx context.Context, l limit, pairs []topics.Pair, b behind) error {
	type risk struct {
		part       float64
		partitions int
	}
	risks := make(map[string]risk)
	for _, part := range []float64{lagWarning, lagError} { // the worst last
		young, _, err := d.olderThan(ctx, topics.SourceNames(pairs), time.Duration(part*float64(l.kept)))
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if n := b.older(p, young); n > 0 {
				risks[p.Source.Name] = risk{part, n}
			}
		}
	}
	var at []topics.Pair
	for _, p := range pairs {
		if _, found := risks[p.Source.Name]; found {
			at = append(at, p)
		}
	}
	enough, err := d.enough(ctx, at, l.kept, b)
	for _, p := range at {
		r := risks[p.Source.Name]
		d.judgeAge(p, l, r.part, r.partitions, enough[p.Source.Name])
	}
	return err
}

// mostDoublings is how often a limit is doubled at most.
const mostDoublings = 12

// enough returns how long the source would have to keep the records of each topic so that none is at risk: the limit, doubled as often as it takes.
func (d *doctor) enough(ctx context.Context, pairs []topics.Pair, kept time.Duration, b behind) (map[string]time.Duration, error) {
	long := make(map[string]time.Duration)
	for _, p := range pairs {
		long[p.Source.Name] = kept
	}
	for range mostDoublings {
		if len(pairs) == 0 {
			break
		}
		kept = time.Duration(doubled(int64(kept)))
		young, _, err := d.olderThan(ctx, topics.SourceNames(pairs), time.Duration(lagWarning*float64(kept)))
		if err != nil {
			return long, err
		}
		var still []topics.Pair
		for _, p := range pairs {
			long[p.Source.Name] = kept
			if b.older(p, young) > 0 {
				still = append(still, p)
			}
		}
		pairs = still
	}
	return long, nil
}

// older counts the partitions of a pair that have to copy records before those that are young.
func (b behind) older(p topics.Pair, young kadm.ListedOffsets) (n int) {
	for i := range p.Source.Partitions {
		first, ok := young.Lookup(p.Source.Name, int32(i))
		at, listed := b.at[offsets.TopicPartition{Topic: p.Source.Name, Partition: int32(i)}]
		if ok && listed && first.Err == nil && at < first.Offset {
			n++
		}
	}
	return n
}

func (d *doctor) judgeAge(p topics.Pair, l limit, part float64, partitions int, enough time.Duration) {
	f := Finding{ID: l.id, Severity: SeverityWarning, Cluster: d.flow.Source, Topic: p.Source.Name}
	if part == lagError {
		f.Severity = SeverityError
	}
	left := time.Duration((1 - part) * float64(l.kept))
	if l.id == TombstonesLag {
		f.Meaning = fmt.Sprintf("%s not copied up to records older than %.0f %% of delete.retention.ms (%s): tombstones may be cleaned within %s, before they are copied, and the copy would keep keys that are deleted.",
			sentenceStart(partitions), 100*part, span(l.kept), span(left))
		f.Mend = "Keep tombstones longer until the flow has caught up:"
		f.Command = alterTopic(d.sourceSide().config, p.Source.Name, "delete.retention.ms", strconv.FormatInt(enough.Milliseconds(), 10))
	} else {
		f.Meaning = fmt.Sprintf("%s not copied up to records older than %.0f %% of retention.ms (%s): the source deletes them within %s.", sentenceStart(partitions), 100*part, span(l.kept), span(left))
		f.Mend = "Keep records longer until the flow has caught up:"
		f.Command = alterTopic(d.sourceSide().config, p.Source.Name, "retention.ms", strconv.FormatInt(enough.Milliseconds(), 10))
	}
	d.add(f)
}

// sentenceStart is how many partitions are not copied, with the verb.
func sentenceStart(partitions int) string {
	if partitions == 1 {
		return "1 partition is"
	}
	return fmt.Sprintf("%d partitions are", partitions)
}

// examineBytes compares how much of a log is not copied with retention.bytes. Brokers tell the size of a log, and the part that is not copied is taken
// to be as large as its part of the offsets.
func (d *doctor) examineBytes(ctx context.Context, pairs []topics.Pair, b behind, starts kadm.ListedOffsets, lost map[string]bool) {
	limits, set := make(map[string]int64), kadm.TopicsSet{}
	for _, p := range pairs {
		configs := d.expected[p.Source.Name].Source
		n, err := strconv.ParseInt(configs["retention.bytes"], 10, 64)
		if err == nil && n > 0 && strings.Contains(configs["cleanup.policy"], "delete") && !lost[p.Source.Name] {
			limits[p.Source.Name] = n
			for i := range p.Source.Partitions {
				set.Add(p.Source.Name, int32(i))
			}
		}
	}
	if len(limits) == 0 {
		return
	}
	dirs, err := kadm.NewClient(d.sourceClient).DescribeAllLogDirs(ctx, set)
	if err != nil {
		d.notExamined(d.sourceSide(), "how large the logs of the source are", "DESCRIBE on the cluster", err)
	}
	sizes := make(map[offsets.TopicPartition]int64)
	dirs.Each(func(dir kadm.DescribedLogDir) {
		dir.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			tp := offsets.TopicPartition{Topic: p.Topic, Partition: p.Partition}
			sizes[tp] = max(sizes[tp], p.Size)
		})
	})
	for _, p := range pairs {
		if most := limits[p.Source.Name]; most > 0 {
			d.judgeBytes(p, most, b.largestLag(p, sizes, starts))
		}
	}
}

// largestLag estimates how many bytes the partition that is furthest behind has to copy.
func (b behind) largestLag(p topics.Pair, sizes map[offsets.TopicPartition]int64, starts kadm.ListedOffsets) (bytes int64) {
	for i := range p.Source.Partitions {
		tp := offsets.TopicPartition{Topic: p.Source.Name, Partition: int32(i)}
		start, ok := starts.Lookup(tp.Topic, tp.Partition)
		if at, listed := b.at[tp]; ok && listed && b.ends[tp] > start.Offset {
			bytes = max(bytes, int64(float64(sizes[tp])*float64(b.ends[tp]-at)/float64(b.ends[tp]-start.Offset)))
		}
	}
	return bytes
}

func (d *doctor) judgeBytes(p topics.Pair, most, bytes int64) {
	part := float64(bytes) / float64(most)
	if part < lagWarning {
		return
	}
	severity := SeverityWarning
	if part >= lagError {
		severity = SeverityError
	}
	d.add(Finding{
		ID: RetentionLag, Severity: severity, Cluster: d.flow.Source, Topic: p.Source.Name,
		Meaning: fmt.Sprintf("About %d bytes of a partition are not copied, %.0f %% of retention.bytes: the source deletes them once as many as are left to it are written.", bytes, 100*part),
		Mend:    "Keep more until the flow has caught up:", Command: alterTopic(d.sourceSide().config, p.Source.Name, "retention.bytes", strconv.FormatInt(doubled(most), 10)),
	})
}
