package diverged

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
)

func sortPartitions(list []*partition) {
	slices.SortFunc(list, func(a, b *partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// place is where a partition diverges: the source offsets from from on are not on the target, and nobody knows of [doubtFrom, from).
type place struct {
	from, doubtFrom int64
	why             string // there is a doubt; empty if there is none
	ahead           int64  // offsets, at least, that were copied and that the source has lost
}

// certain is a place without a doubt.
func certain(from int64) place { return place{from: from, doubtFrom: from} }

// doubtful is a place of which nothing is certain below an offset.
func doubtful(doubtFrom, from int64, format string, args ...any) place {
	return place{from: from, doubtFrom: doubtFrom, why: fmt.Sprintf(format, args...)}
}

// examine finds out where a partition diverges, and counts what is there.
func (l *listing) examine(ctx context.Context, p *partition) {
	at, err := l.place(ctx, p)
	if err != nil {
		p.found.Problem = err.Error()
		return
	}
	at.from = min(at.from, p.sourceEnd)
	at.doubtFrom = min(at.doubtFrom, at.from)
	p.found.From, p.found.To, p.found.Ahead = max(at.from, p.sourceStart), p.sourceEnd, at.ahead
	p.found.Gone = p.found.From - at.from
	if at.why != "" {
		if d := (Doubt{From: max(at.doubtFrom, p.sourceStart), To: p.found.From, Why: at.why}); d.From < d.To {
			p.found.Doubt = &d
		} else {
			p.found.note("%s", at.why) // about nothing that the source has
		}
		if deleted := min(p.sourceStart, at.from) - at.doubtFrom; deleted > 0 {
			p.found.note("the source has deleted %d offsets from %d on of which it is not known whether they were copied", deleted, at.doubtFrom)
		}
	}
	l.countFound(ctx, p)
}

// place finds out where a partition diverges. An error is why nothing can be said, as a sentence.
func (l *listing) place(ctx context.Context, p *partition) (place, error) {
	if p.shard.err != nil {
		return place{}, fmt.Errorf("its part of the journal cannot be read: %w", p.shard.err)
	}
	if int(p.Partition) >= len(p.pair.Source.Partitions) {
		return l.lost(p), nil
	}
	if err := l.setBounds(p); err != nil {
		return place{}, err
	}
	state := p.state
	switch {
	case state == nil:
		return l.unlisted(p), nil
	case offsets.IsAnotherTopic(state.SourceTopicID, p.pair.Source.ID):
		p.found.note("the source topic was deleted and created again since it was copied, up to offset %d: nothing of the new one was copied", state.End.Source)
		return certain(p.sourceStart), nil
	case !p.hasCopy():
		return doubtful(state.Start.Source, p.sourceEnd, "the journal lists the partition, and %s-%d is not to be seen on cluster %s: it was deleted, or milena's user may not describe it",
			p.pair.TargetName, p.Partition, l.target.alias), nil
	case offsets.IsAnotherTopic(state.TargetTopicID, p.pair.Target.ID):
		p.found.note("topic %s was deleted and created again on cluster %s: the copies of what is below offset %d are gone", p.pair.TargetName, l.target.alias, state.End.Source)
		return certain(p.sourceStart), nil
	case p.targetEnd < state.End.Target:
		return l.targetTruncated(ctx, p), nil
	}
	if at, found := l.sourceTruncated(ctx, p); found {
		return at, nil
	}
	return l.matchTail(ctx, p)
}

// hasCopy reports whether the partition is to be seen on the target.
func (p *partition) hasCopy() bool { return int(p.Partition) < len(p.pair.Target.Partitions) }

// lost is the place of a partition that the source does not have any more.
func (l *listing) lost(p *partition) place {
	if p.state == nil {
		return certain(0)
	}
	p.found.note("the partition is not to be seen on cluster %s: it was deleted, or milena's user may not describe it; it was copied up to offset %d", l.source.alias, p.state.End.Source)
	return certain(0)
}

// setBounds takes the bounds of both logs.
func (l *listing) setBounds(p *partition) error {
	source, target, unlisted := l.bounds.Of(p.pair, p.Partition)
	if unlisted != nil && (unlisted.Side == offsets.Source || p.state != nil && p.hasCopy()) {
		return fmt.Errorf("the bounds of the %s log are not known: %w", unlisted.Side, unlisted.Err)
	}
	p.sourceStart, p.sourceEnd, p.sourceHigh = source.Start, source.End, source.End
	p.targetStart, p.targetEnd = target.Start, target.End
	if l.stable == nil {
		return nil
	}
	stable, ok := l.stable[p.TopicPartition]
	if !ok {
		return fmt.Errorf("the last stable offset of the source log is not known: %w", l.unstable[p.TopicPartition])
	}
	if stable < p.sourceEnd {
		p.found.Open = p.sourceEnd - stable
		p.sourceEnd = stable
	}
	return nil
}

// unlisted is the place of a partition that the journal does not list: milena has copied nothing of it. Records that the target has nevertheless are of
// MirrorMaker 2, or of producers there.
func (l *listing) unlisted(p *partition) place {
	flow := &l.clusters.Flow
	switch own := flow.Naming != config.NamingIdentity && !flow.Provenance; {
	case !p.hasCopy() || p.targetStart == p.targetEnd:
	case own || flow.MigrateFrom != "":
		return doubtful(p.sourceStart, p.sourceEnd, "the journal does not list the partition, and topic %s of cluster %s has records in it: milena did not copy them, but MirrorMaker 2 may have",
			p.pair.TargetName, l.target.alias)
	}
	return certain(p.sourceStart)
}

// targetTruncated is the place of a partition whose copy ends before what was journaled. Nothing behind that is there, but what was copied up to it may be gone too.
func (l *listing) targetTruncated(ctx context.Context, p *partition) place {
	doubtFrom := p.state.Start.Source
	journal := offsets.NewJournal(l.target.client, offsets.JournalTopic(l.clusters.Flow.Name), offsets.JournalOptions{Log: l.clusters.Log})
	if at, err := journal.Reading().Reverse(ctx, p.TopicPartition, p.targetEnd); err == nil {
		doubtFrom = at.Source
	}
	return doubtful(doubtFrom, p.state.End.Source, "%s-%d ends at offset %d, and was copied up to %d: the target has lost records, and may have others in their place", p.pair.TargetName, p.Partition, p.targetEnd, p.state.End.Target)
}

// sourceTruncated asks where the leader epoch ends that was copied last (KIP-320). If that is before the end of what was copied, the source has lost the
// rest of it, and has other records behind.
func (l *listing) sourceTruncated(ctx context.Context, p *partition) (at place, truncated bool) {
	epoch, end := p.state.LeaderEpoch, p.state.End.Source
	if epoch < 0 || end == 0 || end <= p.sourceStart {
		return place{}, false
	}
	known, ends, err := l.epochEnd(ctx, p, epoch)
	switch {
	case err != nil:
		p.found.note("it is not known whether the source was truncated: %v", l.source.explain(err))
	case ends < 0: // the brokers keep no epochs
	case ends < end:
		p.found.note("the source was truncated at offset %d, and was copied up to %d: what it has from there on is not what was copied", ends, end)
		return place{from: ends, doubtFrom: ends, ahead: end - ends}, true
	case known < epoch:
		return doubtful(p.sourceStart, p.sourceEnd, "the log of the source does not have leader epoch %d, which was copied: it is another log", epoch), true
	}
	return place{}, false
}

// epochEnd returns the largest leader epoch of the source that is not above the given one, and the offset behind it; -1 if it is not known.
func (l *listing) epochEnd(ctx context.Context, p *partition, epoch int32) (known int32, end int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request := kmsg.NewPtrOffsetForLeaderEpochRequest()
	request.ReplicaID = -1
	topic, partition := kmsg.NewOffsetForLeaderEpochRequestTopic(), kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	partition.Partition, partition.CurrentLeaderEpoch, partition.LeaderEpoch = p.Partition, -1, epoch
	topic.Topic, topic.Partitions = p.Topic, append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(ctx, l.source.client.Broker(int(l.source.view().Leader(p.TopicPartition))))
	if err != nil {
		return -1, -1, err
	}
	for _, t := range response.Topics {
		for _, rp := range t.Partitions {
			return rp.LeaderEpoch, rp.EndOffset, kerr.ErrorForCode(rp.ErrorCode)
		}
	}
	return -1, -1, fmt.Errorf("the response does not name %s", p.TopicPartition)
}
