package replicator

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// refreshEvery bounds how often metadata is asked for early: many partitions may see the same leader move.
const refreshEvery = 100 * time.Millisecond

// topology is what both clusters looked like when they were asked last, and the loops that follow from it.
type topology struct {
	mu             sync.Mutex
	source, target topics.View
	sourceID       atomic.Pointer[string]
	targetID       atomic.Pointer[string]
	sourceAsked    time.Time
	targetAsked    time.Time
	links          map[string]*topicLink // by source topic
	partitions     map[offsets.TopicPartition]*partition
	sourceBrokers  map[sourceLoop]*sourceBroker
	brokersMu      sync.RWMutex // guards targetBrokers alone: it is looked up under a partition's lock
	targetBrokers  map[int32]*targetBroker
	firstSync      bool                                             // no sync of topics has succeeded yet
	early          chan struct{}                                    // an early sync of topics is wanted
	start          func(source *sourceBroker, target *targetBroker) // nil until the loops may run
}

func newTopology() topology {
	return topology{
		firstSync: true, early: make(chan struct{}, 1),
		links: make(map[string]*topicLink), partitions: make(map[offsets.TopicPartition]*partition),
		sourceBrokers: make(map[sourceLoop]*sourceBroker), targetBrokers: make(map[int32]*targetBroker),
	}
}

func (t *topology) endFirstSync() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.firstSync = false
}

func (t *topology) setSource(c topics.View) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.source = c
	t.sourceID.Store(&c.ClusterID)
}

func (t *topology) setTarget(c topics.View) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.target = c
	t.targetID.Store(&c.ClusterID)
}

func (f *Flow) sourceView() topics.View {
	f.topology.mu.Lock()
	defer f.topology.mu.Unlock()
	return f.topology.source
}

func (f *Flow) targetView() topics.View {
	f.topology.mu.Lock()
	defer f.topology.mu.Unlock()
	return f.topology.target
}

// sourceID and targetID are the cluster ids, empty until the clusters were reached. They take no lock: they are needed under others.
func (f *Flow) sourceID() string { return loadString(&f.topology.sourceID) }
func (f *Flow) targetID() string { return loadString(&f.topology.targetID) }

func loadString(p *atomic.Pointer[string]) string {
	if s := p.Load(); s != nil {
		return *s
	}
	return ""
}

// targetLeader is the broker that leads a target partition, -1 when nobody does or the partition is unknown.
func (f *Flow) targetLeader(tp offsets.TopicPartition) int32 {
	return f.targetView().Leader(tp)
}

// refreshSource asks the source for its metadata now, unless that was done a moment ago, and lets the loops follow.
func (f *Flow) refreshSource(ctx context.Context) {
	if !f.claimRefresh(&f.topology.sourceAsked) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	view, err := topics.Read(ctx, f.source)
	if err != nil {
		f.log.Debug("source metadata", "err", err)
		return
	}
	f.topology.setSource(view)
	f.follow()
	if f.topologyChanged() {
		f.refreshTargetSoon()
	}
}

// refreshTarget is the same for the target.
func (f *Flow) refreshTarget(ctx context.Context) {
	if !f.claimRefresh(&f.topology.targetAsked) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	view, err := topics.Read(ctx, f.target)
	if err != nil {
		f.log.Debug("target metadata", "err", err)
		return
	}
	f.topology.setTarget(view)
	f.follow()
}

func (f *Flow) claimRefresh(asked *time.Time) bool {
	f.topology.mu.Lock()
	defer f.topology.mu.Unlock()
	if time.Since(*asked) < refreshEvery {
		return false
	}
	*asked = time.Now()
	return true
}

// refreshTargetSoon wants an early pass of the topics loop, which asks both clusters.
func (f *Flow) refreshTargetSoon() {
	select {
	case f.topology.early <- struct{}{}:
	default:
	}
}

// topologyChanged says that a known topic has another id now: it was deleted and made again, which the next pass must look at.
func (f *Flow) topologyChanged() bool {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, link := range t.links {
		if info, ok := t.source.ByName[name]; ok && info.ID != link.sourceID {
			return true
		}
	}
	return false
}

// partitions returns all partitions of the flow, in no order.
func (f *Flow) partitions() []*partition {
	f.topology.mu.Lock()
	defer f.topology.mu.Unlock()
	return slices.Collect(maps.Values(f.topology.partitions))
}

// startBrokers lets the broker loops run: those that exist and those that follow() finds later.
func (f *Flow) startBrokers(ctx context.Context) {
	t := &f.topology
	t.mu.Lock()
	t.start = func(source *sourceBroker, target *targetBroker) {
		if source != nil {
			f.background.Go(func() { source.loop(ctx) })
		}
		if target != nil {
			for _, w := range f.produceWires {
				f.background.Go(func() { target.send(f.hard, w) })
			}
		}
	}
	for _, b := range t.sourceBrokers {
		t.start(b, nil)
	}
	for _, b := range t.targetBrokers {
		t.start(nil, b)
	}
	t.mu.Unlock()
	f.follow()
}

// follow gives every partition the leaders that the views name, makes the loops of new brokers and wakes them.
func (f *Flow) follow() {
	t := &f.topology
	t.mu.Lock()
	led := make(map[int32][]*partition)
	var waiting []*partition
	for _, p := range t.partitions {
		info, ok := t.source.ByName[p.topic.source]
		present := ok && info.ID == p.topic.sourceID && int(p.number) < len(info.Partitions)
		p.mu.Lock()
		p.sourceGone = !present
		p.sourceLeader = -1
		if present && info.Partitions[p.number].Err == nil {
			p.sourceLeader, p.sourceLeaderEpoch = info.Partitions[p.number].Leader, info.Partitions[p.number].LeaderEpoch
		}
		p.targetLeader = t.target.Leader(p.remote())
		if p.outbox.sendable() {
			waiting = append(waiting, p)
		}
		source, target := p.sourceLeader, p.targetLeader
		p.mu.Unlock()
		if source >= 0 {
			led[source] = append(led[source], p)
		}
		if target >= 0 {
			f.ensureTargetBroker(target)
		}
	}
	loops := f.divide(led)
	for loop, b := range t.sourceBrokers {
		b.adopt(loops[loop])
	}
	t.mu.Unlock()
	for _, p := range waiting {
		f.schedule(p)
	}
}

// divide gives the partitions of each leader to its loops. The topology's lock is held.
func (f *Flow) divide(led map[int32][]*partition) map[sourceLoop][]*partition {
	loops := make(map[sourceLoop][]*partition)
	for leader, partitions := range led {
		n := min(int32(1+len(partitions)/loopPartitions), sourceLoops)
		for _, p := range partitions {
			loop := sourceLoop{leader, offsets.ShardOf(p.topic.source, p.number, n)}
			p.mu.Lock()
			p.sourceLoop = loop
			p.mu.Unlock()
			loops[loop] = append(loops[loop], p)
			f.ensureSourceBroker(loop)
		}
	}
	return loops
}

// ensureSourceBroker makes a loop the first time it has something to fetch. The topology's lock is held.
func (f *Flow) ensureSourceBroker(loop sourceLoop) {
	t := &f.topology
	if t.sourceBrokers[loop] != nil {
		return
	}
	b := &sourceBroker{flow: f, sourceLoop: loop, wire: f.fetchWires[loop.number], wake: make(chan struct{}, 1)}
	t.sourceBrokers[loop] = b
	if t.start != nil {
		t.start(b, nil)
	}
}

// ensureTargetBroker is the same for the target. The topology's lock is held.
func (f *Flow) ensureTargetBroker(id int32) {
	t := &f.topology
	if t.targetBrokers[id] != nil {
		return
	}
	b := &targetBroker{flow: f, id: id, wake: make(chan struct{}, produceConnections)}
	t.brokersMu.Lock()
	t.targetBrokers[id] = b
	t.brokersMu.Unlock()
	if t.start != nil {
		t.start(nil, b)
	}
}

// adopt takes the partitions that a loop has now and keeps the order of those it had.
func (b *sourceBroker) adopt(led []*partition) {
	b.mu.Lock()
	wanted := make(map[*partition]bool, len(led))
	for _, p := range led {
		wanted[p] = true
	}
	list := make([]*partition, 0, len(led))
	for _, p := range b.partitions {
		if wanted[p] {
			list = append(list, p)
			delete(wanted, p)
		}
	}
	for _, p := range led {
		if wanted[p] {
			list = append(list, p)
		}
	}
	b.partitions = list
	b.mu.Unlock()
	b.poke()
}

// wakeSource tells the loop that fetches a partition that the partition may be fetched again.
func (f *Flow) wakeSource(p *partition) {
	p.mu.Lock()
	loop := p.sourceLoop
	p.mu.Unlock()
	f.topology.mu.Lock()
	b := f.topology.sourceBrokers[loop]
	f.topology.mu.Unlock()
	if b != nil {
		b.poke()
	}
}

// targetBroker is nil for a broker that leads nothing.
func (f *Flow) targetBroker(id int32) *targetBroker {
	t := &f.topology
	t.brokersMu.RLock()
	defer t.brokersMu.RUnlock()
	return t.targetBrokers[id]
}

// fetchShare is what one loop may ask for at a time, so that idle polls of many do not hold the whole budget.
func (f *Flow) fetchShare() int64 {
	t := &f.topology
	t.mu.Lock()
	loops := max(1, len(t.sourceBrokers))
	t.mu.Unlock()
	return min(wire.MaxFetchBytes, max(f.budget.limit/int64(2*loops), 256<<10))
}
