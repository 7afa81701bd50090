package diverged

import (
	"context"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// counted is how many records a part of the source has, and the size of their batches.
type counted struct{ records, bytes int64 }

// countFound counts the records of a partition that diverge, and those of its doubt.
func (l *listing) countFound(ctx context.Context, p *partition) {
	if d := p.found.Doubt; d != nil {
		if c, err := l.count(ctx, p, d.From, d.To); err == nil {
			d.Records, d.Bytes = &c.records, c.bytes
		}
	}
	c, err := l.count(ctx, p, p.found.From, p.found.To)
	if err != nil {
		p.found.Problem = "its records could not be counted: " + err.Error()
		return
	}
	p.found.Records, p.found.Bytes = &c.records, c.bytes
}

// count counts the records of a part of a partition that were not aborted and did not come from the target. A batch is decoded only if it may have others.
func (l *listing) count(ctx context.Context, p *partition, from, to int64) (c counted, err error) {
	r := l.sourceRange(p, from, to)
	err = l.source.records(ctx, r, func(b recordbatch.Batch) error {
		n := int64(b.Count)
		if l.marks != nil || b.Magic < 2 || b.BaseOffset < from || b.NextOffset() > to {
			records, err := l.wanted(b, r)
			if err != nil {
				return err
			}
			n = int64(len(records))
		} else if err := b.Verify(); err != nil {
			return err
		}
		if n > 0 {
			c.records, c.bytes = c.records+n, c.bytes+int64(len(b.Bytes))
		}
		return nil
	})
	return c, err
}

func (l *listing) sourceRange(p *partition, from, to int64) logRange {
	return logRange{TopicPartition: p.TopicPartition, id: p.pair.Source.ID, isolation: l.isolation, from: from, to: to}
}

// wanted returns the records of a batch that are in a part of the source, and did not come from the target.
func (l *listing) wanted(b recordbatch.Batch, r logRange) ([]recordbatch.Record, error) {
	records, err := recordbatch.Decode(b.Bytes)
	if err != nil {
		return nil, err
	}
	kept := records[:0]
	for i := range records {
		if o := records[i].Offset; o < r.from || o >= r.to || l.marks != nil && !l.marks.Allows(&records[i]) {
			continue
		}
		kept = append(kept, records[i])
	}
	return kept, nil
}
