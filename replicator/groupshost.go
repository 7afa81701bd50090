package replicator

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/topics"
)

// groupsHost gives package groups access to the flow. It implements groups.Host.
type groupsHost struct{ flow *Flow }

func (h groupsHost) Leads() bool  { return h.flow.leads() }
func (h groupsHost) Writes() bool { return h.flow.lease.holds() }
func (h groupsHost) RefreshSoon() { h.flow.syncTopicsSoon() }

func (h groupsHost) Elsewhere(source offsets.TopicPartition) bool { return h.flow.elsewhere(source) }

func (h groupsHost) Copy(source offsets.TopicPartition) (groups.Copy, bool) {
	h.flow.topology.mu.Lock()
	defer h.flow.topology.mu.Unlock()
	p, ok := h.flow.topology.partitions[source]
	return p, ok
}

func (h groupsHost) Copies() []groups.Copy {
	partitions := h.flow.partitions()
	copies := make([]groups.Copy, len(partitions))
	for i, p := range partitions {
		copies[i] = p
	}
	return copies
}

func (h groupsHost) View(side offsets.Side) topics.View {
	if side == offsets.Source {
		return h.flow.sourceView()
	}
	return h.flow.targetView()
}

// maxNotes is how many entries are written at a time. The shard's lock is held meanwhile, and the journal is to be written in between.
const maxNotes = 1000

// Note implements groups.Host. It writes with the producer of shard 0, so that a fenced owner cannot note anything either.
func (h groupsHost) Note(ctx context.Context, entries []offsets.Entry) error {
	for some := range slices.Chunk(entries, maxNotes) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := h.flow.writeNotes(some); err != nil {
			return err
		}
	}
	return nil
}

// writeNotes writes entries to the journal partition of shard 0.
func (f *Flow) writeNotes(entries []offsets.Entry) error {
	s := f.held.get(offsets.LineagePartition)
	if s == nil {
		return errors.New("another instance has shard 0")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ownership.isCertain() || s.fencer.open || !f.lease.holds() {
		return errors.New("shard 0 is being taken over")
	}
	w := newJournalWriter(s, nil)
	for _, e := range entries {
		entry := newJournalEntry(e)
		entry.what = "positions of a group"
		w.put(entry)
	}
	_, err := f.writeShardJournal(w)
	return err
}

// leads reports whether this process does the work that only one process may do. That is the owner of shard 0 while its lease is valid.
func (f *Flow) leads() bool {
	zero := f.held.get(0)
	return zero != nil && zero.ownership.isOwned() && f.lease.holds()
}

// groupsDeps returns the dependencies of package groups with a config and the rules of its topics.
func (f *Flow) groupsDeps(l *live, rules *policy.Topics) groups.Deps {
	clusters := f.options.Clusters
	clusters.Flow, clusters.Reverse = l.Flow, l.reverse
	clusters.Log = f.log
	d := groups.Deps{
		Clusters: clusters, Host: groupsHost{f}, Topics: rules, Paused: func() bool { return f.controls.groupsPause() != nil }, Stopped: f.isStopped,
		SourceClient: f.groupsSource, TargetClient: f.groupsTarget, SourceMetadata: &f.topology.sourceReader, TargetMetadata: &f.topology.targetReader, Throttles: f.throttles, Warn: f.warn, Span: f.span,
		Metrics: groups.Metrics{
			Syncs:             f.metrics.syncs.MustCurryWith(prometheus.Labels{"pass": "groups"}),
			CheckpointLatency: f.metrics.checkpoints,
			Commits:           f.metrics.groupCommits,
			Refusals:          f.metrics.groupRefusals,
			Records:           f.metrics.internalRecords,
			RecordErrors:      f.metrics.internalErrors,
		},
	}
	if f.migrates() {
		d.Migration = &f.migration
	}
	return d
}

// TopicIDs implements groups.Copy.
func (p *partition) TopicIDs() (source, target [16]byte) {
	ids := p.topic.getIDs()
	return ids.source, ids.target
}

// MapStart implements groups.Copy.
func (p *partition) MapStart() (target int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsets == nil {
		return 0, false
	}
	_, target = p.offsets.Start()
	return target, true
}

// Forward implements groups.Copy.
func (p *partition) Forward(source int64) (target int64, copied bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsets == nil || p.stage != mapDurable {
		return 0, false, groups.ErrRecovering
	}
	if p.isRewritten() {
		return 0, false, groups.ErrRewritten
	}
	target, _, err = p.offsets.Forward(source)
	var late *offsets.NotCopiedError
	var early *offsets.BeforeStartError
	switch {
	case errors.As(err, &late):
		_, end := p.offsets.End()
		return end, false, nil
	case errors.As(err, &early) && !early.Forgotten && p.record.Start.Target == 0:
		return 0, true, nil // the copy has nothing before its first record
	}
	return target, true, err
}

// isRewritten reports whether the partition is halted because the log of either side was replaced or truncated. Offsets then no longer refer
// to the records that the map describes. The partition's lock is held.
func (p *partition) isRewritten() bool {
	return p.state == halted && p.anomaly != nil && groups.IsRewritten(p.anomaly.kind)
}

// LastSync implements groups.Copy. Until a partition is recovered, its map ends where the journal ends, which may be before the last
// offset-sync of an earlier owner.
func (p *partition) LastSync() (offsets.OffsetSync, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsets == nil || !p.state.isRecovered() {
		return offsets.OffsetSync{}, false
	}
	_, end := p.offsets.End()
	source, exact, err := p.offsets.Reverse(end - 1)
	return offsets.OffsetSync{Topic: p.topic.source, Partition: p.number, Source: source, Target: end - 1}, err == nil && exact
}
