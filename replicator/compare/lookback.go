package compare

import (
	"context"

	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// After this many searches in a row that found nothing, only one record in searchOneIn is searched for.
	maxFailedSearches = 20
	searchOneIn       = 100
)

// lookBack is the search for target records in the source before the window. A MirrorMaker 2 that was killed continues up to a minute earlier,
// or where it first began if it had no connector offset.
type lookBack struct {
	pending  bool  // the first waiting record is to be searched for
	searched int64 // target offset below which records were searched for
	failures int   // searches in a row that found nothing
}

// worthwhile says that the record at a target offset should be searched for, the last of so many in a row that are not on the source.
func (l *lookBack) worthwhile(target int64, unmatched int) bool {
	return target >= l.searched && (l.failures < maxFailedSearches || unmatched%searchOneIn == 0)
}

// finished takes the result of a search: the source offset of a record, or -1.
func (l *lookBack) finished(target, source int64) {
	l.pending, l.searched = false, target+1
	if l.failures++; source >= 0 {
		l.failures = 0
	}
}

// lookBack searches the source before the window for target records that are not in it.
func (l *logs) lookBack(ctx context.Context) {
	for _, p := range l.partitions {
		if !p.search.pending || ctx.Err() != nil {
			continue
		}
		source, err := l.find(ctx, p, p.waiting[0])
		if err != nil {
			l.stale.Store(true)
			continue
		}
		p.rewindTo(source)
	}
}

// find returns the offset of a record before the window, -1 if it is not there. It reads one fetch response, from the first record that is not
// older.
func (l *logs) find(ctx context.Context, p *partition, r targetRecord) (int64, error) {
	leader := l.topology.sourceView.Leader(p.source.TopicPartition)
	from, err := wire.ListOffset(ctx, l.topology.source, leader, p.source.TopicPartition, r.timestamp)
	if start, ok := p.matcher.WindowStart(); err != nil || from < 0 || !ok || from >= start {
		return -1, err
	}
	rp, err := l.sourceSide.fetchOne(ctx, leader, p.source.fetchFrom(from))
	if err != nil || rp == nil {
		return -1, err
	}
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return -1, err
		}
		if batch.Attributes.Control() {
			continue
		}
		records, err := recordbatch.Decode(batch.Bytes)
		if err != nil {
			return -1, err
		}
		for i := range records {
			if records[i].Offset >= from && p.hasher.Hash(&records[i]) == r.hash {
				return records[i].Offset, nil
			}
		}
	}
	return -1, nil
}
