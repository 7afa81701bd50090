package offsets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// JournalVisitor receives how far a flow is, from all of its journal. One goroutine at a time calls it for a shard; shards are read in parallel.
type JournalVisitor struct {
	// Start is called before the first entry of a shard, and again if its journal partition was created anew: everything before is void.
	Start func(shard int32)
	// Visit receives every [ShardState], [Owner], [PartitionState] and [Horizon], and every [Tombstone] of one of them, in the order of the log, also those that
	// newer ones replace. At is the timestamp of the record.
	Visit func(shard int32, e Entry, at time.Time)
}

// VisitJournal reads a journal from its start to its current end, and keeps nothing of it. Chunks are passed over undecoded, so the memory does
// not depend on the length of the history. It blocks until then. The first result has a place per shard: why it was not read to its end, or nil.
// A *[VersionError] is one of these. The second result is why the journal was not read at all, such as a *[NoJournalError].
func VisitJournal(ctx context.Context, client *kgo.Client, journal string, log *slog.Logger, v JournalVisitor) ([]error, error) {
	topic := &topicLeaders{client: client, topic: journal}
	var shards []int32
	err := topic.retry(ctx, "find", func(l *leaders) error {
		if len(l.nodes) == 0 {
			return kerr.LeaderNotAvailable
		}
		shards = make([]int32, len(l.nodes))
		return nil
	})
	if isUnknownTopic(err) {
		return nil, &NoJournalError{Topic: journal}
	}
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(shards))
	for k := range shards {
		shards[k] = int32(k)
	}
	_ = inParallel(shards, func(k int32) error { // each shard has its own error
		sink := &shardVisitor{visitor: v, shard: k, journal: journal, log: log}
		skipped := func(e *kgo.ErrDecompressTooLarge) {
			log.Warn("skipping a batch that decompresses to too much", "topic", journal, "partition", k, "offset", e.Offset)
		}
		errs[k] = newLogTail(topic, k, skipped).follow(ctx, sink)
		return nil
	})
	return errs, nil
}

// shardVisitor passes one partition of a journal to a visitor.
type shardVisitor struct {
	visitor JournalVisitor
	shard   int32
	journal string
	log     *slog.Logger
}

func (s *shardVisitor) reset() { s.visitor.Start(s.shard) }

func (*shardVisitor) publish(time.Time) {}

func (s *shardVisitor) add(records []*kgo.Record) error {
	for _, r := range records {
		if len(r.Key) == 0 || !isProgress(Kind(r.Key[0])) {
			continue
		}
		entry, err := DecodeJournal(r.Key, r.Value)
		var newer *VersionError
		switch {
		case err == nil:
			s.visitor.Visit(s.shard, entry, r.Timestamp)
		case errors.As(err, &newer):
			return fmt.Errorf("journal %s-%d at offset %d: %w", s.journal, s.shard, r.Offset, err)
		default: // an older state is less, never wrong
			s.log.Warn("skipping unreadable journal record", "topic", s.journal, "partition", s.shard, "offset", r.Offset, "err", err)
		}
	}
	return nil
}

// isProgress reports whether entries of a kind say how far a flow is.
func isProgress(k Kind) bool {
	return k == KindShard || k == KindOwner || k == KindPartition || k == KindHorizon
}
