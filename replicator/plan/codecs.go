package plan

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// examineCodecs looks for copies whose brokers compress batches anew. That depends on the codec of the batches, so the last batch of the source is read.
func (d *doctor) examineCodecs(ctx context.Context) {
	var wanting []topics.Pair // those whose brokers want a codec of their own
	for _, p := range d.pairs {
		if kind := d.expected[p.Source.Name].Limits.CompressionType; kind != "" && kind != "producer" {
			wanting = append(wanting, p)
		}
	}
	if len(wanting) == 0 {
		return
	}
	codecs, err := d.lastCodecs(ctx, topics.SourceNames(wanting))
	if err != nil {
		d.notExamined(d.sourceSide(), "which codecs the batches of the source have", "READ on the topics", err)
	}
	for _, p := range wanting {
		kind, codec := d.expected[p.Source.Name].Limits.CompressionType, codecs[p.Source.Name]
		if codec == kind || codec == "none" && kind == "uncompressed" {
			continue
		}
		batches := "batches of other codecs"
		if codec != "" {
			batches = fmt.Sprintf("the batches, whose codec is %s,", codec)
		}
		d.mendCopy(Finding{
			ID:      Recompression,
			Meaning: fmt.Sprintf("The copy has compression.type=%s, so its brokers compress %s anew, which costs them CPU.", kind, batches),
			Mend:    "Let the copy keep the batches as they are",
		}, p, "compression.type", "producer")
	}
}

// lastCodecs reads the last record of one partition of each source topic, and returns the codecs of their batches. Topics without records are absent.
func (d *doctor) lastCodecs(ctx context.Context, names []string) (map[string]string, error) {
	codecs := make(map[string]string)
	admin := kadm.NewClient(d.sourceClient)
	starts, err := admin.ListStartOffsets(ctx, names...)
	if err != nil {
		return codecs, err
	}
	ends, err := admin.ListEndOffsets(ctx, names...)
	if err != nil {
		return codecs, err
	}
	at := make(map[string]map[int32]kgo.Offset)
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(end.Topic, end.Partition)
		if ok && start.Err == nil && end.Err == nil && end.Offset > start.Offset && at[end.Topic] == nil {
			at[end.Topic] = map[int32]kgo.Offset{end.Partition: kgo.NewOffset().At(end.Offset - 1)}
		}
	})
	return codecs, d.readCodecs(ctx, at, codecs)
}

// readCodecs adds the codec of the batch at each offset. A batch of control records, or one that compaction has emptied, has no record to read, so it gives up
// after a while.
func (d *doctor) readCodecs(ctx context.Context, at map[string]map[int32]kgo.Offset, codecs map[string]string) error {
	if len(at) == 0 {
		return nil
	}
	opts, err := client.Options(d.sourceSide().config, &client.Dials{}, d.clusters.Log)
	if err != nil {
		return err
	}
	reader, err := kgo.NewClient(append(opts, kgo.ConsumePartitions(at), kgo.FetchMaxPartitionBytes(64<<10))...)
	if err != nil {
		return err
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	for len(codecs) < len(at) {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return errs[0].Err
		}
		fetches.EachRecord(func(r *kgo.Record) { codecs[r.Topic] = codecName(r.Attrs.CompressionType()) })
	}
	return nil
}

// codecName is the codec as compression.type has it.
func codecName(codec uint8) string {
	names := []string{"none", "gzip", "snappy", "lz4", "zstd"}
	if int(codec) < len(names) {
		return names[codec]
	}
	return fmt.Sprintf("codec %d", codec)
}
