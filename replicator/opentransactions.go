package replicator

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// ListTransactionsEvery is how often open transactions are looked at. One that holds up a partition for longer is looked for.
	listTransactionsEvery = 5 * time.Second
	// TransactionsAtOnce is for how many partitions a look asks the source at most. The others follow in the next one.
	transactionsAtOnce = 100
)

// OpenTransaction is the transaction of the source before which nothing behind it can be read.
type OpenTransaction struct {
	// Since is when milena first saw that the source's last stable offset stands still.
	Since time.Time `json:"since"`
	// ProducerID and ProducerEpoch are those of the producer, and StartOffset is the first offset of the transaction. They are absent until the source has
	// told them (KIP-664), which needs READ on the topic.
	ProducerID    *int64 `json:"producer_id,omitempty"`
	ProducerEpoch *int32 `json:"producer_epoch,omitempty"`
	StartOffset   *int64 `json:"start_offset,omitempty"`
}

// standstill is an open transaction, and the last stable offset that it holds.
type standstill struct {
	OpenTransaction
	end int64
}

// standstills are the partitions that an open transaction holds up.
type standstills struct {
	mu          sync.Mutex
	byPartition map[*partition]standstill
}

// of returns the transaction that holds up a partition, nil if there is none or it is not seen yet. It returns a copy.
func (s *standstills) of(p *partition) *OpenTransaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, ok := s.byPartition[p]; ok {
		return &found.OpenTransaction
	}
	return nil
}

func (s *standstills) all() map[*partition]standstill {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPartition
}

func (s *standstills) set(all map[*partition]standstill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byPartition = all
}

// transactionsLoop looks for the transactions that hold up partitions.
func (f *Flow) transactionsLoop(ctx context.Context) {
	if f.isolation != wire.ReadCommitted {
		return // open transactions hold up nothing
	}
	client.Every(ctx, listTransactionsEvery, func(now time.Time) { f.standstills.set(f.lookForStandstills(ctx, now)) })
}

// lookForStandstills returns the partitions whose last stable offset stands still before a record. Those that did so at the last look are asked for.
func (f *Flow) lookForStandstills(ctx context.Context, now time.Time) map[*partition]standstill {
	before, still := f.standstills.all(), make(map[*partition]standstill)
	unknown, set := make(map[offsets.TopicPartition]*partition), kadm.TopicsSet{}
	for _, p := range f.partitions() {
		p.mu.Lock()
		end, open := p.sourceEnd, p.sourceOpen
		p.mu.Unlock()
		if open <= 0 {
			continue
		}
		known, ok := before[p]
		if !ok || known.end != end {
			known = standstill{OpenTransaction{Since: now}, end}
		} else if known.ProducerID == nil && len(unknown) < transactionsAtOnce {
			unknown[p.source()] = p
			set.Add(p.source().Topic, p.source().Partition)
		}
		still[p] = known
	}
	if len(unknown) == 0 {
		return still
	}
	described, err := kadm.NewClient(f.source).DescribeProducers(ctx, set)
	if err != nil {
		f.log.Debug("describe producers", "err", err)
	}
	for _, d := range described.SortedPartitions() {
		p := unknown[offsets.TopicPartition{Topic: d.Topic, Partition: d.Partition}]
		if p == nil {
			continue
		}
		s := still[p]
		for _, producer := range d.ActiveProducers {
			start := producer.CurrentTxnStartOffset
			if start >= 0 && (s.StartOffset == nil || start < *s.StartOffset) {
				id, epoch := producer.ProducerID, int32(producer.ProducerEpoch)
				s.ProducerID, s.ProducerEpoch, s.StartOffset = &id, &epoch, &start
			}
		}
		still[p] = s
	}
	return still
}
