package replicator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// ListEndsEvery is how often the source ends of partitions are listed that no fetch has confirmed since: those that are halted, wait, or
	// have a full queue, and those whose broker does not answer.
	listEndsEvery = 5 * time.Second
	// UnseenAfter is how old the source end of a partition may be. Then its lag is not known, and the flow is not ready. It is longer than a
	// broker takes to fail over and than its requests take to time out.
	unseenAfter = 20 * time.Second
)

// sourceTroubles are the source brokers that do not answer, with the last error.
type sourceTroubles struct {
	mu       sync.Mutex
	byBroker map[int32]error
}

func (t *sourceTroubles) set(broker int32, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byBroker == nil {
		t.byBroker = make(map[int32]error)
	}
	if err == nil {
		delete(t.byBroker, broker)
	} else {
		t.byBroker[broker] = err
	}
}

func (t *sourceTroubles) of(broker int32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byBroker[broker]
}

// endsLoop lists the source ends that no fetch confirms.
func (f *Flow) endsLoop(ctx context.Context) {
	client.Every(ctx, listEndsEvery, func(now time.Time) { f.listEnds(ctx, now) })
}

// listEnds lists the source ends that no fetch has confirmed within listEndsEvery, from all brokers in parallel.
func (f *Flow) listEnds(ctx context.Context, now time.Time) {
	unconfirmed := make(map[int32][]*partition)
	for _, p := range f.partitions() {
		p.mu.Lock()
		if p.sourceLeader >= 0 && !p.sourceGone && now.Sub(p.sourceSeen) >= listEndsEvery {
			unconfirmed[p.sourceLeader] = append(unconfirmed[p.sourceLeader], p)
		}
		p.mu.Unlock()
	}
	var wait sync.WaitGroup
	for leader, list := range unconfirmed {
		wait.Go(func() { f.listEndsOf(ctx, leader, list) })
	}
	wait.Wait()
}

// listEndsOf lists the source ends of partitions that a broker leads.
func (f *Flow) listEndsOf(ctx context.Context, leader int32, list []*partition) {
	began := time.Now()
	names := make([]offsets.TopicPartition, len(list))
	for i, p := range list {
		names[i] = p.source()
	}
	ends, err := topics.ListEnds(ctx, f.source, leader, f.isolation, names)
	marks := ends
	if err == nil && f.isolation == wire.ReadCommitted {
		marks, err = topics.ListEnds(ctx, f.source, leader, wire.ReadUncommitted, names)
	}
	if ctx.Err() != nil {
		return
	}
	f.troubles.set(leader, err)
	for i, p := range list {
		end, ok := ends[names[i]]
		mark, marked := marks[names[i]]
		if !ok || !marked {
			continue
		}
		p.mu.Lock()
		if p.sourceSeen.Before(began) { // a fetch since then knows better
			p.cursor.setSourceEnd(end, mark-end, began)
			p.seeLocked(began)
		}
		p.mu.Unlock()
	}
}

// readableEnd returns the end of the readable log: the last stable offset with read_committed (KIP-98), else the high watermark.
func (f *Flow) readableEnd(rp *kmsg.FetchResponseTopicPartition) int64 {
	if f.isolation == wire.ReadCommitted && rp.LastStableOffset >= 0 {
		return rp.LastStableOffset
	}
	return rp.HighWatermark
}

// isSourceSeen reports whether the source end of the partition is known, or is not looked for because the source no longer has the partition.
// The partition's lock is held.
func (p *partition) isSourceSeen(now time.Time) bool {
	return p.sourceSeen.IsZero() || p.sourceEnd >= 0 && now.Sub(p.sourceSeen) <= unseenAfter
}

// whyUnseen is why the source end of a partition is not known, as a clause without the partition.
func (f *Flow) whyUnseen(p *partition) string {
	p.mu.Lock()
	leader, gone := p.sourceLeader, p.sourceGone
	p.mu.Unlock()
	switch err := f.troubles.of(leader); {
	case gone:
		return fmt.Sprintf("cluster %s does not list the partition any more", f.config.Source)
	case leader < 0:
		return fmt.Sprintf("no broker of the source, cluster %s, leads the partition", f.config.Source)
	case err != nil:
		return fmt.Sprintf("source broker %d: %v", leader, f.options.SourceError(err))
	default:
		return fmt.Sprintf("source broker %d does not answer", leader)
	}
}
