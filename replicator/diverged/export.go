package diverged

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// Format is what records are exported as.
type Format string

// The formats.
const (
	// JSONLines writes a line per record, see [Line].
	JSONLines Format = "jsonl"
	// Topic writes the records of each topic into a topic of the target, see [TopicName].
	Topic Format = "topic"
)

// Options are what is exported, and how.
type Options struct {
	// Topics are names of topics of the source; none means all that the report has.
	Topics []string
	// Doubtful also exports the records of which it is not known whether they are on the target.
	Doubtful bool
	Format   Format
	// Writer receives the lines of JSONLines.
	Writer io.Writer
}

// Exported is what an export did. It is printed as JSON.
type Exported struct {
	// Records is how many of the records were exported, Before how many of these an earlier export had written.
	Records int64 `json:"records"`
	Before  int64 `json:"before"`
	// Topics are the topics of the target that have them, by name.
	Topics []string `json:"topics,omitempty"`
	// Warnings are sentences about configs that the topics do not have.
	Warnings []string `json:"warnings,omitempty"`
}

// part is what is exported of one partition.
type part struct {
	*partition
	logRange
	records int64 // how many the report says there are
}

// sink takes the records of an export, partition by partition.
type sink interface {
	// begin prepares for a partition. Records below the returned source offset are there already: so many of those that the part has.
	begin(ctx context.Context, p part) (next, before int64, err error)
	// add takes the records of a batch, in order.
	add(ctx context.Context, p part, b recordbatch.Batch, records []recordbatch.Record) error
	// end makes sure that all records of the partition are written.
	end(ctx context.Context, p part) error
}

// Export exports the records that a report lists. It reads the source, by topic and partition, and blocks until all are written. The result is never nil, and says what was exported
// up to an error. There is an error if a partition could not be counted, unless it is of another topic, if the source is not as it was listed, or if what was read
// differs in number from what was listed. An export into topics may then be repeated: it goes on where it was cut.
func Export(ctx context.Context, c client.Clusters, o Options, r *Report) (*Exported, error) {
	done := &Exported{}
	if err := o.check(c, r); err != nil {
		return done, err
	}
	l, err := open(c)
	if err != nil {
		return done, err
	}
	defer l.close()
	if err := l.connect(ctx); err != nil {
		return done, err
	}
	parts, err := l.parts(o, r)
	if err != nil {
		return done, err
	}
	var to sink = &lines{writer: o.Writer}
	if o.Format == Topic {
		topic, err := newTopicSink(l, done)
		if err != nil {
			return done, err
		}
		defer topic.close()
		to = topic
	}
	for _, p := range parts {
		if err := l.export(ctx, to, p, done); err != nil {
			return done, err
		}
	}
	return done, nil
}

// check returns what is wrong with the options.
func (o Options) check(c client.Clusters, r *Report) error {
	switch {
	case r.Flow != c.Flow.Name:
		return fmt.Errorf("the report is about flow %s, not %s", r.Flow, c.Flow.Name)
	case o.Format == JSONLines && o.Writer == nil:
		return errors.New("JSON lines need a writer")
	case o.Format != JSONLines && o.Format != Topic:
		return fmt.Errorf("there is no format %q: choose %s or %s", o.Format, JSONLines, Topic)
	}
	var unknown []string
	for _, name := range o.Topics {
		if !slices.ContainsFunc(r.Partitions, func(p Partition) bool { return p.Topic == name }) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("flow %s lists no topic %s of cluster %s: name topics of the source that the config selects", r.Flow, strings.Join(unknown, ", "), r.Source)
	}
	return nil
}

// parts returns what is exported. Without records there is nothing.
func (l *listing) parts(o Options, r *Report) (list []part, err error) {
	view := l.source.view()
	if r.SourceClusterID != view.ClusterID {
		return nil, fmt.Errorf("the report is about cluster %s, and %s is %s now: list again", r.SourceClusterID, r.Source, view.ClusterID)
	}
	for i := range r.Partitions {
		p := &r.Partitions[i]
		if len(o.Topics) > 0 && !slices.Contains(o.Topics, p.Topic) {
			continue
		}
		from, records, err := o.wanted(p)
		if err != nil {
			return nil, err
		}
		if records == 0 {
			continue
		}
		topic := view.ByName[p.Topic]
		if int(p.Partition) >= len(topic.Partitions) || p.TopicID != "" && topicID(topic.ID) != p.TopicID {
			return nil, fmt.Errorf("topic %s of cluster %s is not the one that was listed: it was deleted, or created again; list again", p.Topic, r.Source)
		}
		of := &partition{TopicPartition: offsets.TopicPartition{Topic: p.Topic, Partition: p.Partition}, found: p}
		of.pair.Source = topic
		list = append(list, part{of, l.sourceRange(of, from, p.To), records})
	}
	return list, nil
}

// wanted returns from which offset on a partition is exported, and how many records that are.
func (o Options) wanted(p *Partition) (from, records int64, err error) {
	if p.Records == nil {
		return 0, 0, fmt.Errorf("%s-%d cannot be exported: %s; export the other topics, or list again", p.Topic, p.Partition, p.Problem)
	}
	from, records = p.From, *p.Records
	if o.Doubtful && p.Doubt != nil {
		if p.Doubt.Records == nil {
			return 0, 0, fmt.Errorf("%s-%d cannot be exported with its doubt: its records could not be counted; list again", p.Topic, p.Partition)
		}
		from, records = p.Doubt.From, records+*p.Doubt.Records
	}
	return from, records, nil
}

// export exports one partition, and checks that it has what was listed.
func (l *listing) export(ctx context.Context, to sink, p part, done *Exported) error {
	next, before, err := to.begin(ctx, p)
	if err != nil {
		return err
	}
	records := before
	r := p.logRange
	r.from = max(r.from, next)
	err = l.source.records(ctx, r, func(b recordbatch.Batch) error {
		found, err := l.wanted(b, r)
		if err != nil || len(found) == 0 {
			return err
		}
		records += int64(len(found))
		return to.add(ctx, p, b, found)
	})
	if ended := to.end(ctx, p); err == nil { // also after an error: what was read counts
		err = ended
	}
	if err != nil {
		return fmt.Errorf("export %s: %w", p.logRange.TopicPartition, err)
	}
	done.Records, done.Before = done.Records+records, done.Before+before
	if records != p.records {
		return fmt.Errorf("%s has %d records from offset %d to %d, and %d were listed: the source has changed since, by retention or a log cleaner%s; list and export again",
			p.logRange.TopicPartition, records, p.from, p.to, p.records, hintBefore(before))
	}
	return nil
}

// hintBefore names another cause if an earlier export has written records.
func hintBefore(before int64) string {
	if before == 0 {
		return ""
	}
	return ", or what the topic of an earlier export has is not what was listed: delete that topic"
}
