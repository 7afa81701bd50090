package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// readCommitted is the isolation level of a list-offsets request that answers the last stable offset (KIP-98).
const readCommitted = 1

// picked are the partitions of a report, and the ends of their logs on the source.
type picked struct {
	partitions []Partition // by topic and number
	leaders    []int32     // of the partitions, -1 for none; nil if the source does not answer
	refused    []topics.Refusal
	isolation  int8
	asked      time.Time // when the ends were asked for
	alias      string
	explain    func(error) error

	mu   sync.Mutex
	ends map[int32]map[offsets.TopicPartition]int64 // by leader
	errs map[int32]error                            // by leader: of the first partition without an answer
	lost []int32                                    // leaders that do not reach the active controller, sorted
}

// pick chooses the partitions of the report: those of the selected topics, or, if the source does not answer, those that the journal lists.
func (r *reading) pick() *picked {
	p := &picked{alias: r.flow.Source, explain: r.clusters.SourceError, ends: make(map[int32]map[offsets.TopicPartition]int64), errs: make(map[int32]error)}
	if r.flow.Isolation == config.ReadCommitted {
		p.isolation = readCommitted
	}
	if r.dark != nil {
		p.partitions = r.journaledPartitions()
		return p
	}
	pairs, refused := r.syncer.Select(r.sourceView, r.targetView)
	p.refused = refused
	shrunk := r.shrunk()
	for _, pair := range pairs {
		for n := range pair.Source.Partitions {
			tp := offsets.TopicPartition{Topic: pair.Source.Name, Partition: int32(n)}
			p.partitions = append(p.partitions, Partition{Topic: tp.Topic, TargetTopic: pair.TargetName, Partition: tp.Partition})
			p.leaders = append(p.leaders, r.sourceView.Leader(tp))
		}
		for _, n := range shrunk[pair.Source.Name] {
			p.partitions = append(p.partitions, Partition{Topic: pair.Source.Name, TargetTopic: pair.TargetName, Partition: n})
			p.leaders = append(p.leaders, -1)
		}
	}
	return p
}

// journaledPartitions are the partitions of the journal whose topics the config selects. The horizon also has those that are not begun yet.
func (r *reading) journaledPartitions() (list []Partition) {
	add := func(tp offsets.TopicPartition) {
		if target, reason := r.syncer.Rules.Target(tp.Topic); reason == "" {
			list = append(list, Partition{Topic: tp.Topic, TargetTopic: target, Partition: tp.Partition})
		}
	}
	for _, s := range r.journal {
		for tp := range s.partitions {
			add(tp)
		}
		if s.horizon == nil {
			continue
		}
		for _, b := range s.horizon.Behind {
			tp := offsets.TopicPartition{Topic: b.Topic, Partition: b.Partition}
			if _, ok := s.partitions[tp]; !ok {
				add(tp)
			}
		}
	}
	slices.SortFunc(list, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return list
}

// listEnds lists the ends of the partitions, from all leaders in parallel.
func (p *picked) listEnds(ctx context.Context, source *kgo.Client) {
	p.asked = time.Now()
	byLeader := make(map[int32][]offsets.TopicPartition)
	for i, leader := range p.leaders {
		if leader >= 0 {
			byLeader[leader] = append(byLeader[leader], offsets.TopicPartition{Topic: p.partitions[i].Topic, Partition: p.partitions[i].Partition})
		}
	}
	var wait sync.WaitGroup
	for leader, list := range byLeader {
		wait.Go(func() {
			ends, err := topics.ListEnds(ctx, source, leader, p.isolation, list)
			lost := err == nil && client.ReachesController(ctx, source, leader) == client.ReachesNot
			p.mu.Lock()
			defer p.mu.Unlock()
			p.ends[leader], p.errs[leader] = ends, err
			if lost {
				p.lost = append(p.lost, leader)
			}
		})
	}
	wait.Wait()
	slices.Sort(p.lost)
}

// isLed reports whether the leader of the i-th partition reaches the active controller, or nothing is known of that. Else other brokers may lead it by now.
func (p *picked) isLed(i int) bool { return !slices.Contains(p.lost, p.leaders[i]) }

// end returns the end of the i-th partition on the source, or why it is not known. The reason is empty if the source does not answer at all.
func (p *picked) end(i int) (end int64, known bool, why string) {
	if p.leaders == nil {
		return 0, false, ""
	}
	leader := p.leaders[i]
	if leader < 0 {
		return 0, false, fmt.Sprintf("no broker of the source, cluster %s, leads the partition, so its lag is not known", p.alias)
	}
	end, known = p.ends[leader][offsets.TopicPartition{Topic: p.partitions[i].Topic, Partition: p.partitions[i].Partition}]
	if known {
		return end, true, ""
	}
	if err := p.errs[leader]; err != nil {
		return 0, false, fmt.Sprintf("its lag is not known: source broker %d: %v", leader, p.explain(err))
	}
	return 0, false, fmt.Sprintf("its lag is not known: source broker %d does not answer", leader)
}
