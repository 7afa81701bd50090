package replicator

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// lateMarkers finds out why the marker of a fence is not at the end of a log. It usually comes: its broker is slow, or the partition is below
// min.insync.replicas. But a coordinator leaves out a partition that it finds no leader of, and DeleteRecords deletes a marker like any record. Then
// the coordinator misses no marker, reads find none all the same, and only another fence writes one.
type lateMarkers struct {
	shard *shard

	// What the coordinator said last: in which partitions of the fence the marker is missing.
	asked   time.Time
	known   bool
	missing kadm.TopicsSet
}

// isLost reports whether the marker that a tail waits for will not come. Reads of the tail have found nothing since a time.
func (l *lateMarkers) isLost(ctx context.Context, t *logTail, since time.Time) bool {
	pause := l.shard.flow.options.Pauses.Marker
	if time.Since(since) < pause {
		return false
	}
	if time.Since(l.asked) >= pause {
		l.ask(ctx)
	}
	_, missing := l.missing[t.partition.Topic][t.partition.Partition]
	switch {
	case missing || !l.known:
		t.settled = time.Time{}
		return false
	case t.settled.Before(since): // not settled yet, or something was read in between
		t.settled = l.asked
		return false
	case time.Since(t.settled) < pause:
		return false // a new leader shows a marker late that the old one has acknowledged
	}
	l.shard.flow.warn("the marker of a fence is missing, fencing again", "shard", l.shard.number, "err",
		fmt.Errorf("%s on cluster %s has no marker of producer %d behind offset %d", t.partition, l.shard.flow.config.Target, t.mark.producerID, t.next))
	return true
}

// ask asks the coordinator which partitions of the fence lack its marker (KIP-664). Brokers before 3.0 do not tell.
func (l *lateMarkers) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, statesPatience)
	defer cancel()
	id := l.shard.fencer.transactionalID
	all, err := kadm.NewClient(l.shard.flow.target).DescribeTransactions(ctx, id)
	described, ok := all[id]
	l.asked, l.known, l.missing = time.Now(), ok && err == nil && described.Err == nil, described.Topics
	if !l.known {
		l.shard.flow.log.Debug("describe transactions", "shard", l.shard.number, "err", err)
	}
}
