package replicator

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/topics"
)

// refreshEvery limits how often metadata is read early, because many partitions may notice the same move of a leader.
const refreshEvery = 100 * time.Millisecond

// topology is the newest metadata of both clusters, with the partitions of the flow and the brokers that lead them.
type topology struct {
	mu             sync.Mutex
	source, target topics.View
	sourceReader   topics.Reader
	targetReader   topics.Reader
	sourceID       atomic.Pointer[string]
	targetID       atomic.Pointer[string]
	sourceRead     time.Time             // when an early refresh of the source began
	targetRead     time.Time             // likewise of the target
	links          map[string]*topicLink // by source topic
	partitions     map[offsets.TopicPartition]*partition
	sorted         []*partition                       // the same by topic and number, nil if that changed
	unbegun        map[offsets.TopicPartition]unbegun // wanted, and not in partitions
	notCopied      map[string]string                  // selected source topics that are not copied, or not completely, with the reason
	sourceBrokers  map[sourceLoop]*sourceBroker
	brokersMu      sync.RWMutex // guards targetBrokers only, which are read with a partition's lock held
	targetBrokers  map[targetLane]*targetBroker
	replicaSets    map[uint64]int32 // of the target, numbered as they were found
	sourceLines    longLines
	targetLanes    spreads
	syncing        sync.Mutex                                       // held while partitions are added
	made           creation                                         // by the last topic sync; guarded by syncing
	existed        map[string]int                                   // partitions by source topic in the first topic sync
	firstSync      bool                                             // no topic sync has succeeded yet
	settled        settledViews                                     // of the last topic sync, if it left nothing to do
	early          chan struct{}                                    // requests an early topic sync
	start          func(source *sourceBroker, target *targetBroker) // starts the loops of a broker; nil until startBrokers
}

// settledViews are metadata of both clusters to which nothing is to be done, as long as it stays the same.
type settledViews struct{ source, target topics.View }

func newTopology() topology {
	return topology{
		firstSync: true, early: make(chan struct{}, 1),
		links: make(map[string]*topicLink), partitions: make(map[offsets.TopicPartition]*partition),
		sourceBrokers: make(map[sourceLoop]*sourceBroker), targetBrokers: make(map[targetLane]*targetBroker),
		replicaSets: make(map[uint64]int32), sourceLines: make(longLines), targetLanes: make(spreads),
	}
}

// endFirstSync records that a topic sync has succeeded. From then on, start: latest does not apply to new topics.
func (t *topology) endFirstSync(pairs []topics.Pair) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.firstSync {
		return
	}
	t.firstSync, t.existed = false, make(map[string]int, len(pairs))
	for _, pair := range pairs {
		t.existed[pair.Source.Name] = len(pair.Source.Partitions)
	}
}

// isOld reports whether start: latest applies to a partition: it existed when this process started, whoever held its shard, or the flow was never
// ready with it. The lock is held.
func (t *topology) isOld(tp offsets.TopicPartition, known bool) bool {
	return t.firstSync && !known || t.unbegun[tp].first || int(tp.Partition) < t.existed[tp.Topic]
}

// isFirstSync reports whether no topic sync has succeeded yet.
func (t *topology) isFirstSync() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.firstSync
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

// sourceID and targetID are the cluster ids, empty until the flow has connected. They take no lock, because they are needed with others
// held.
func (f *Flow) sourceID() string { return loadString(&f.topology.sourceID) }
func (f *Flow) targetID() string { return loadString(&f.topology.targetID) }

func loadString(p *atomic.Pointer[string]) string {
	if s := p.Load(); s != nil {
		return *s
	}
	return ""
}

// addresses returns where the brokers of both clusters are, by the newest metadata.
func (f *Flow) addresses() addresses {
	return addresses{
		source: func(broker int32) string { return f.sourceView().Brokers[broker] },
		target: func(broker int32) string { return f.targetView().Brokers[broker] },
	}
}

// targetLeader returns the broker that leads a target partition, -1 if it has no leader or is unknown.
func (f *Flow) targetLeader(tp offsets.TopicPartition) int32 {
	return f.targetView().Leader(tp)
}

// readTopics reads the metadata of both clusters. It does not change the views of the flow.
func (f *Flow) readTopics(ctx context.Context) (source, target topics.View, err error) {
	if source, err = f.topology.sourceReader.Read(ctx, f.source); err != nil {
		return source, target, f.options.SourceError(err)
	}
	if target, err = f.topology.targetReader.Read(ctx, f.target); err != nil {
		return source, target, f.options.TargetError(err)
	}
	return source, target, nil
}

// refreshSource reads the metadata of the source, unless that was done within refreshEvery, and follows moved leaders. It reports whether it
// tried to read.
func (f *Flow) refreshSource(ctx context.Context) (read bool) {
	if !f.claimRefresh(&f.topology.sourceRead) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	view, err := f.topology.sourceReader.Read(ctx, f.source)
	if err != nil {
		f.log.Debug("source metadata", "err", err)
		return true
	}
	if f.sourceView().Is(view) {
		f.takeOverFenceable() // that also depends on time
		return true
	}
	f.topology.setSource(view)
	f.followLeaders()
	if f.topologyChanged() {
		f.syncTopicsSoon()
	}
	return true
}

// refreshTarget does the same with the target.
func (f *Flow) refreshTarget(ctx context.Context) (read bool) {
	if !f.claimRefresh(&f.topology.targetRead) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	view, err := f.topology.targetReader.Read(ctx, f.target)
	if err != nil {
		f.log.Debug("target metadata", "err", err)
		return true
	}
	if f.targetView().Is(view) {
		f.takeOverFenceable()
		return true
	}
	f.topology.setTarget(view)
	f.followLeaders()
	return true
}

// settle records that a topic sync succeeded. If it left nothing to do either, the next one has nothing to do until metadata changes, or the config. That of
// the sync must still be in force, which is asked with the lock held.
func (t *topology) settle(source, target topics.View, inForce func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.unbegun) == 0 && !t.missesTopics() && inForce() {
		t.settled = settledViews{source, target}
	}
}

// unsettle lets the next topic sync do all of its work.
func (t *topology) unsettle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settled = settledViews{}
}

// missesTopics reports whether a topic of the flow is not found on the source, which its retirement counts. The lock is held.
func (t *topology) missesTopics() bool {
	for _, link := range t.links {
		if link.missed > 0 {
			return true
		}
	}
	return false
}

// isSettled reports whether nothing is to be done to these views, and the flow follows them.
func (t *topology) isSettled(source, target topics.View) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.settled.source.Is(source) && t.settled.target.Is(target) && t.source.Is(source) && t.target.Is(target)
}

// claimRefresh reports whether the caller may refresh metadata, and sets the time of the last refresh.
func (f *Flow) claimRefresh(last *time.Time) bool {
	f.topology.mu.Lock()
	defer f.topology.mu.Unlock()
	if time.Since(*last) < refreshEvery {
		return false
	}
	*last = time.Now()
	return true
}

// topologyChanged reports whether a source topic has another id now because it was recreated. The next topic sync must handle that.
func (f *Flow) topologyChanged() bool {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, link := range t.links {
		if info, ok := t.source.ByName[name]; ok && offsets.IsAnotherTopic(info.ID, link.getIDs().source) {
			return true
		}
	}
	return false
}

// partitions returns all partitions of the flow, by topic and number. The list is shared and must not be changed.
func (f *Flow) partitions() []*partition {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sorted == nil {
		t.sorted = slices.SortedFunc(maps.Values(t.partitions), func(a, b *partition) int {
			return cmp.Or(cmp.Compare(a.topic.source, b.topic.source), cmp.Compare(a.number, b.number))
		})
	}
	return t.sorted
}

// put adds a partition. The lock is held, here and in the next function.
func (t *topology) put(p *partition) { t.partitions[p.source()], t.sorted = p, nil }

// drop removes a partition.
func (t *topology) drop(tp offsets.TopicPartition) {
	delete(t.partitions, tp)
	t.sorted = nil
}

// partition returns a partition of the flow, nil if there is none of that name.
func (f *Flow) partition(source offsets.TopicPartition) *partition {
	f.topology.mu.Lock()
	defer f.topology.mu.Unlock()
	return f.topology.partitions[source]
}

// startBrokers starts the loops of all known brokers, and lets followLeaders start those of later ones.
func (f *Flow) startBrokers(ctx context.Context) {
	t := &f.topology
	t.mu.Lock()
	t.start = func(source *sourceBroker, target *targetBroker) {
		if source != nil {
			f.background.Go(func() { source.loop(ctx) })
		}
		if target != nil {
			f.background.Go(func() { target.send(f.hard, f.produceLines[target.number]) })
		}
	}
	for _, b := range t.sourceBrokers {
		t.start(b, nil)
	}
	for _, b := range t.targetBrokers {
		t.start(nil, b)
	}
	t.mu.Unlock()
	f.followLeaders()
}

// followLeaders sets the leaders of all partitions from the metadata, starts the loops of new brokers, and assigns the partitions to the
// loops.
func (f *Flow) followLeaders() {
	t := &f.topology
	t.mu.Lock()
	led := make(map[int32][]*partition)
	var sendable []*partition
	for _, p := range t.partitions {
		copied := t.target.Partition(p.remote())
		source, ok := p.place(t.source, t.target, f.ensureTargetBroker(copied, p.topic.target, p.number))
		if ok {
			sendable = append(sendable, p)
		}
		if source >= 0 {
			led[source] = append(led[source], p)
		}
	}
	loops := f.assignLoops(led)
	for loop, b := range t.sourceBrokers {
		b.setPartitions(loops[loop])
	}
	t.mu.Unlock()
	for _, p := range sendable {
		f.schedule(p)
	}
	f.takeOverFenceable()
}

// takeOverFenceable requests takeovers for partitions that were left outside and can be fenced now.
func (f *Flow) takeOverFenceable() {
	now := time.Now()
	for _, s := range f.held.all() {
		if s.ownership.isOwned() && slices.ContainsFunc(s.waiting(), func(p *partition) bool { return p.isFenceable(now) }) {
			f.requestTakeover(s)
		}
	}
}

// place sets the leaders and topic ids of the partition from metadata. It returns the leader on the source, -1 if there is none, and whether a
// batch waits to be sent.
func (p *partition) place(source, target topics.View, lane *targetBroker) (sourceLeader int32, sendable bool) {
	from, to := source.ByName[p.topic.source], target.ByName[p.topic.target]
	now, known := topicIDs{from.ID, to.ID}, p.topic.getIDs()
	present := from.Exists() && !offsets.IsAnotherTopic(from.ID, known.source) && int(p.number) < len(from.Partitions)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !known.isAnother(now) && from.Exists() && to.Exists() { // else requests go to the topics that they were meant for, and fail
		p.topic.learnIDs(now)
		p.progress.learnIDs(now)
		p.requestIDs = now
	}
	p.sourceGone = !present
	p.sourceLeader = -1
	if present && from.Partitions[p.number].Err == nil {
		p.sourceLeader, p.sourceLeaderEpoch = from.Partitions[p.number].Leader, from.Partitions[p.number].LeaderEpoch
	}
	copied := target.Partition(p.remote())
	if lane == nil {
		p.setTargetLocked(copied, targetLane{}, nil)
	} else {
		p.setTargetLocked(copied, lane.targetLane, lane.account)
	}
	return p.sourceLeader, p.sendableLocked()
}

// assignLoops divides the partitions of each leader among its loops. The topology's lock is held.
func (f *Flow) assignLoops(led map[int32][]*partition) map[sourceLoop][]*partition {
	loops, t := make(map[sourceLoop][]*partition), &f.topology
	for leader, partitions := range led {
		n := int32(min(1+len(partitions)/loopPartitions, nearLoops))
		if t.sourceLines.isLong(leader) {
			n = int32(min(len(partitions), sourceLoops))
		}
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

// ensureSourceBroker creates a loop when it gets its first partition. The topology's lock is held.
func (f *Flow) ensureSourceBroker(loop sourceLoop) {
	t := &f.topology
	if t.sourceBrokers[loop] != nil {
		return
	}
	b := &sourceBroker{flow: f, sourceLoop: loop, lines: f.fetchLines[loop.number], wake: make(chan struct{}, 1)}
	t.sourceBrokers[loop] = b
	if t.start != nil {
		t.start(b, nil)
	}
}

// ensureTargetBroker returns the lane of a copy, nil if the copy has no leader. It creates the lane for its first partition. The topology's
// lock is held.
func (f *Flow) ensureTargetBroker(copied topics.Partition, topic string, number int32) *targetBroker {
	t := &f.topology
	if copied.Leader < 0 {
		return nil
	}
	group, ok := t.replicaSets[copied.ReplicaSet]
	if !ok {
		group = int32(len(t.replicaSets)) % laneGroups
		t.replicaSets[copied.ReplicaSet] = group
	}
	first := targetLane{copied.Leader, group * lanesOfGroup}
	lane := first
	lane.number += offsets.ShardOf(topic, number, t.targetLanes.of(copied.Leader).lanes)
	if b := t.targetBrokers[lane]; b != nil {
		return b
	}
	b := &targetBroker{flow: f, targetLane: lane, trip: f.produceLines[lane.number].RoundTrip, account: t.accountOf(first), wake: make(chan struct{}, 1)}
	t.brokersMu.Lock()
	t.targetBrokers[lane] = b
	t.brokersMu.Unlock()
	if t.start != nil {
		t.start(nil, b)
	}
	return b
}

// accountOf returns the account of a group of lanes, which starts with this one: the same replicas hang at the same time. The lock is held.
func (t *topology) accountOf(first targetLane) *account {
	for lane := first; lane.number < first.number+lanesOfGroup; lane.number++ {
		if b := t.targetBrokers[lane]; b != nil {
			return b.account
		}
	}
	return &account{}
}

// setPartitions sets the partitions of a loop. Those that it already had keep their order.
func (b *sourceBroker) setPartitions(led []*partition) {
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
	b.wakeUp()
}

// wakeSource wakes the loop that fetches a partition, because the partition may have become fetchable.
func (f *Flow) wakeSource(p *partition) {
	p.mu.Lock()
	loop := p.sourceLoop
	p.mu.Unlock()
	f.topology.mu.Lock()
	b := f.topology.sourceBrokers[loop]
	f.topology.mu.Unlock()
	if b != nil {
		b.wakeUp()
	}
}

// wakeSources wakes all loops.
func (f *Flow) wakeSources() {
	f.topology.mu.Lock()
	defer f.topology.mu.Unlock()
	for _, b := range f.topology.sourceBrokers {
		b.wakeUp()
	}
}

// targetBroker returns a lane to a broker of the target, nil if there has been no partition for it.
func (f *Flow) targetBroker(lane targetLane) *targetBroker {
	t := &f.topology
	t.brokersMu.RLock()
	defer t.brokersMu.RUnlock()
	return t.targetBrokers[lane]
}
