package replicator

import (
	"context"
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/mm2"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// maxScans is how many copies of MirrorMaker 2 are scanned at a time. Each scan may hold a window of some tens of MiB.
const maxScans = 4

// migrates reports whether the flow migrates from MirrorMaker 2.
func (f *Flow) migrates() bool { return f.config.MigrateFrom != "" }

// awaitMirrorMaker blocks until MirrorMaker 2 has stopped.
func (f *Flow) awaitMirrorMaker(ctx context.Context) error {
	if !f.migrates() || f.options.BesideMirrorMaker {
		return nil
	}
	err := mm2.AwaitStopped(ctx, f.options.Clusters, f.target, f.targetDials, func(err error) {
		text := err.Error()
		f.problem.Store(&text)
		f.warn("waiting for MirrorMaker 2 to stop", "at_most", mm2.DeadWorker, "err", err)
	})
	if _, runs := errors.AsType[*mm2.RunningError](err); runs {
		return &fatalError{err}
	}
	if err == nil {
		f.problem.Store(nil)
	}
	return err
}

// checkMigrateFrom returns a fatal error if migrate_from names a topic that does not exist, and there are copies to continue.
func (f *Flow) checkMigrateFrom(ctx context.Context) error {
	pairs, _ := f.live().topics.Select(f.sourceView(), f.targetView())
	wrong := topics.CheckMigrateFrom(f.config, f.targetView(), pairs)
	if wrong == nil {
		return nil
	}
	written, err := mm2.JournalIsWritten(ctx, f.target, f.config)
	if err == nil && !written {
		err = &fatalError{wrong}
	}
	return err
}

// migration is the migration from MirrorMaker 2. It reads the progress of MirrorMaker 2 once, when the first partition needs it. That is
// enough, because MirrorMaker 2 has stopped by then.
type migration struct {
	flow  *Flow
	scans *semaphore.Weighted // limits how many copies are scanned at a time

	mu       sync.Mutex
	progress *offsets.MM2Progress // nil until read
}

// read returns the progress of MirrorMaker 2: its connector offsets and offset-syncs.
func (m *migration) read(ctx context.Context) (*offsets.MM2Progress, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.progress != nil {
		return m.progress, nil
	}
	f := m.flow
	progress, err := mm2.ReadProgress(ctx, f.options.Clusters, f.source, f.target)
	if err != nil {
		return nil, err
	}
	f.log.Info("read the progress of MirrorMaker 2", "connector_offsets", len(progress.ConnectorOffsets), "partitions_with_offset_syncs", len(progress.OffsetSyncs), "unreadable", progress.Unreadable, "topic", f.config.MigrateFrom)
	if len(progress.ConnectorOffsets) == 0 {
		f.log.Warn("no connector offsets of MirrorMaker 2 were found; the copies are compared with the source", "why", topics.NoConnectorOffsets(f.config, f.targetView()))
	}
	m.progress = progress
	return progress, nil
}

// Forward translates a source offset below the beginning of the map with the offset-syncs of MirrorMaker 2. It returns false if no
// offset-sync is old enough, or if they cannot be read.
func (m *migration) Forward(ctx context.Context, tp offsets.TopicPartition, source int64) (target int64, ok bool) {
	progress, err := m.read(ctx)
	if err != nil {
		m.flow.warn("progress of MirrorMaker 2 cannot be read, retrying", "err", err)
		return 0, false
	}
	return progress.Forward(tp, source)
}

// migrate finds out how far MirrorMaker 2 copied a partition, and lets the partition continue there.
func (r *recovery) migrate(ctx context.Context, p *partition, t *logTail) error {
	f := r.flow
	progress, err := f.migration.read(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !p.setEndScan(cancel) {
		return nil
	}
	if err := f.migration.scans.Acquire(ctx, 1); err != nil {
		return p.unlessRetired(err)
	}
	defer f.migration.scans.Release(1)
	c := f.copyOf(p, t, progress)
	found, err := mm2.Scan(ctx, c)
	if err != nil {
		return p.unlessRetired(err)
	}
	if !f.applyVerdict(p, mm2.Decide(c, found), found) {
		return nil
	}
	return r.completeAt(p, found.End.Target)
}

// copyOf describes the partition for a scan.
func (f *Flow) copyOf(p *partition, t *logTail, progress *offsets.MM2Progress) mm2.Copy {
	c := mm2.Copy{
		Source: p.source(), Target: p.remote(), SourceLog: sourceLog{f, p}, TargetLog: targetLog{f, t},
		Isolation: f.isolation, ConnectorOffset: -1, OffsetSyncs: progress.OffsetSyncs[p.source()], Whole: f.options.RebuildMap,
	}
	if offset, ok := progress.ConnectorOffsets[p.source()]; ok {
		c.ConnectorOffset = offset
	}
	return c
}

// sourceLog is the log of a source partition. It implements mm2.SourceLog.
type sourceLog struct {
	flow      *Flow
	partition *partition
}

// Bounds implements mm2.SourceLog.
func (l sourceLog) Bounds(ctx context.Context) (start, end int64, err error) {
	return wire.Bounds(ctx, l.flow.source, l.partition.leaderOnSource(), l.partition.source())
}

// Read implements mm2.SourceLog.
func (l sourceLog) Read(ctx context.Context, offset int64, isolation int8) (*kmsg.FetchResponseTopicPartition, error) {
	rp, err := l.flow.fetchOne(ctx, l.partition, offset, -1, isolation)
	if err != nil || kerr.ErrorForCode(rp.ErrorCode) != nil {
		l.flow.refreshSource(ctx)
	}
	return rp, err
}

// targetLog is the log of a fenced target partition. It implements mm2.TargetLog.
type targetLog struct {
	flow *Flow
	tail *logTail
}

// Bounds implements mm2.TargetLog.
func (l targetLog) Bounds(ctx context.Context) (start, end int64, err error) {
	return wire.Bounds(ctx, l.flow.target, l.flow.targetLeader(l.tail.partition), l.tail.partition)
}

// ReadToMarker implements mm2.TargetLog.
func (l targetLog) ReadToMarker(ctx context.Context, from int64, visit func(recordbatch.Batch) error, dropped func(recordbatch.Header)) (int64, error) {
	copied := &logTail{
		partition: l.tail.partition, id: l.tail.id, from: from, mark: l.tail.mark, until: l.tail.until, committed: true, dropped: dropped,
		visit: func(h recordbatch.Header, batch []byte) error {
			return visit(recordbatch.Batch{Header: h, Bytes: batch})
		},
	}
	err := l.flow.readTails(ctx, []*logTail{copied}, func(*logTail) {})
	return copied.end, errors.Join(err, copied.err)
}

// setEndScan sets the function that ends a scan, or a replay, if the partition's topic is deleted. It would wait forever for its records.
// It returns false if the partition is not recovering any more.
func (p *partition) setEndScan(end context.CancelFunc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endScan = end
	return p.state == recovering
}

// unlessRetired returns the error of a scan or a replay, or nil if the partition is not recovering any more because its topic was deleted.
func (p *partition) unlessRetired(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != recovering {
		return nil
	}
	return err
}

// applyVerdict begins the partition's map with the findings of the scan, or raises the anomaly that the scan found. It returns false if the
// partition is halted.
func (f *Flow) applyVerdict(p *partition, v mm2.Verdict, found *mm2.Findings) bool {
	if v.Untouched {
		return true
	}
	if a := v.Anomaly; a != nil {
		action := policy.Halt
		if a.Halts {
			f.halt(p, a.Kind, a.Detail)
		} else {
			action = f.raise(p, a.Kind, a.From, a.To, a.Detail)
		}
		begin, ok := a.Begin(action, found)
		if !ok {
			return false
		}
		v.Begin, v.Next = begin, begin.Source
	}
	if err := p.migrateMap(v, found); err != nil {
		f.halt(p, policy.TargetNotEmpty, err.Error())
		return false
	}
	f.logMigrated(p, found)
	return true
}

// migrateMap begins the map with the records that MirrorMaker 2 copied.
func (p *partition) migrateMap(v mm2.Verdict, found *mm2.Findings) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != recovering {
		return nil
	}
	err := p.progress.migrate(v.Begin, found.Segments, v.Next, found.End.Target)
	p.cursor.reset(p.acked, p.doneEpoch)
	return err
}

// logMigrated logs a migrated partition: as a warning if its copy differs from the source, once per topic otherwise, and the rest at debug
// level.
func (f *Flow) logMigrated(p *partition, found *mm2.Findings) {
	f.metrics.migrated.Inc()
	attrs := append(p.logAttrs(), "next", p.acked, "connector_offset", found.ConnectorOffset, "compared", found.Records,
		"compared_from", found.From.Source, "duplicates", found.Duplicates, "unmatched", found.Unmatched, "missing", found.Missing)
	switch {
	case found.Records > 0 && (found.Missing > 0 || found.Duplicates > 0 || found.Unmatched > 0 || found.ConnectorOffset > p.acked):
		f.log.Warn("the copy of MirrorMaker 2 differs from its source; milena continues behind it", attrs...)
	case p.topic.migrated.CompareAndSwap(false, true):
		f.log.Info("continuing the copy of MirrorMaker 2", "topic", p.topic.source, "target_topic", p.topic.target)
		fallthrough
	default:
		f.log.Debug("continuing the copy of MirrorMaker 2", attrs...)
	}
}
