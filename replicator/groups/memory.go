package groups

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// memory is what the syncer remembers of all groups between two syncs, in a form that stays small with a million positions. The maps are
// guarded by mu. A *groupMemory is used by one goroutine at a time.
type memory struct {
	seed maphash.Seed

	mu     sync.Mutex
	number map[string]uint32 // of a topic on the target
	topics []topicMemory     // by number
	groups map[string]*groupMemory
}

type topicMemory struct {
	name string
	id   [16]byte // of the topic on the target that the parts describe
}

// groupMemory is what is remembered of one group.
type groupMemory struct {
	name string
	// read is a hash of the committed offsets on the source, as they were when the group was last synced, at looked.
	read   uint64
	looked time.Time
	// settled says that the next sync has nothing to do if it reads the same offsets.
	settled   bool
	positions int // in copied partitions
	refusals  []Refusal
	parts     []part // by topic and partition
}

// part is what is remembered of a group in one partition.
type part struct {
	topic     uint32
	partition int32
	// checkpoint is what was written last, if checkpointed.
	checkpoint struct {
		source, target int64
		metadata       uint64 // its hash
	}
	// put is where the group was put and before where it stood before that, both noted in the journal, if placed. Of is the offset on
	// the source that put translates.
	of, put, before int64

	checkpointed, placed bool
	// unnoted says that the commit of put was acknowledged, so that before is put, and the journal does not say so yet.
	unnoted bool
	// refused is 1 + the index of the refusal in [policy.Refusals], 0 if there is none.
	refused uint8
}

func newMemory() *memory {
	return &memory{seed: maphash.MakeSeed(), number: make(map[string]uint32), groups: make(map[string]*groupMemory)}
}

// topicNumber returns the number of a topic on the target. The id is that of a topic that is not known yet.
func (m *memory) topicNumber(name string, id [16]byte) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.number[name]
	if !ok {
		n = uint32(len(m.topics))
		m.number[name] = n
		m.topics = append(m.topics, topicMemory{name: name, id: id})
	}
	return n
}

// known returns the topics on the target, by number.
func (m *memory) known() []topicMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.topics[:len(m.topics):len(m.topics)]
}

// group returns the memory of a group, which is made if there is none.
func (m *memory) group(name string) *groupMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.groups[name]
	if g == nil {
		g = &groupMemory{name: name}
		m.groups[name] = g
	}
	return g
}

// size returns how many positions a group had when it was last synced.
func (m *memory) size(name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.groups[name]; g != nil {
		return len(g.parts)
	}
	return 0
}

// all returns all groups. No group may be in use.
func (m *memory) all() []*groupMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*groupMemory, 0, len(m.groups))
	for _, g := range m.groups {
		list = append(list, g)
	}
	return list
}

// forgetCheckpoints makes the next sync write all checkpoints. No group may be in use.
func (m *memory) forgetCheckpoints() {
	for _, g := range m.all() {
		g.settled = false
		for i := range g.parts {
			g.parts[i].checkpointed = false
		}
	}
}

// setTopicIDs takes the ids of the topics on the target. What was noted about a topic that was deleted and created again says nothing about
// the new one. No group may be in use.
func (m *memory) setTopicIDs(idOf func(topic string) [16]byte) {
	m.mu.Lock()
	changed := make(map[uint32]bool)
	for i := range m.topics {
		t := &m.topics[i]
		id := idOf(t.name)
		if offsets.IsAnotherTopic(t.id, id) {
			changed[uint32(i)] = true
		}
		if id != [16]byte{} { // otherwise it is not known
			t.id = id
		}
	}
	m.mu.Unlock()
	if len(changed) == 0 {
		return
	}
	for _, g := range m.all() {
		g.settled = false
		for i := range g.parts {
			if changed[g.parts[i].topic] {
				g.parts[i].placed, g.parts[i].checkpointed = false, false
			}
		}
	}
}

// find returns the index of a part, or the index at which it belongs.
func (g *groupMemory) find(topic uint32, partition int32) (int, bool) {
	return slices.BinarySearchFunc(g.parts, part{topic: topic, partition: partition}, comparePartitions)
}

func comparePartitions(a, b part) int {
	return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
}

// of returns a copy of a part, empty if nothing is remembered.
func (g *groupMemory) of(topic uint32, partition int32) part {
	if i, ok := g.find(topic, partition); ok {
		return g.parts[i]
	}
	return part{topic: topic, partition: partition}
}

// remember replaces the parts by those of the positions of a sync. What is noted of other partitions stays.
func (g *groupMemory) remember(positions []*position) {
	parts := make([]part, 0, len(positions))
	for _, p := range positions {
		parts = append(parts, p.part)
	}
	slices.SortFunc(parts, comparePartitions)
	for _, old := range g.parts {
		if _, now := slices.BinarySearchFunc(parts[:len(positions)], old, comparePartitions); !now && old.placed {
			old.checkpointed, old.refused = false, 0
			parts = append(parts, old)
		}
	}
	slices.SortFunc(parts, comparePartitions)
	g.parts, g.positions = slices.Clip(parts), len(positions)
	g.refusals = refusals(positions)
}

// place takes what the journal says of a part.
func (g *groupMemory) place(topic uint32, o offsets.PlacedOffset) {
	p := part{topic: topic, partition: o.Partition}
	i, ok := g.find(topic, o.Partition)
	if ok {
		p = g.parts[i]
	} else {
		g.parts = slices.Insert(g.parts, i, p)
	}
	p.placed, p.of, p.put, p.before = true, o.Source, o.Put, o.Before
	g.parts[i] = p
}

// unplace forgets that the group was put in a topic.
func (g *groupMemory) unplace(topic uint32) {
	for i := range g.parts {
		if g.parts[i].topic == topic {
			g.parts[i].placed = false
		}
	}
}

// placedOffset is what the journal says of the part.
func (p *part) placedOffset() offsets.PlacedOffset {
	return offsets.PlacedOffset{Partition: p.partition, Source: p.of, Put: p.put, Before: p.before}
}

// refusedBefore is why the position was refused in the sync before.
func (p *part) refusedBefore() policy.Refusal {
	if p.refused == 0 {
		return ""
	}
	return policy.Refusals()[p.refused-1]
}

func refusalNumber(r policy.Refusal) uint8 {
	return uint8(1 + slices.Index(policy.Refusals(), r)) //nolint:gosec // there are few refusals, and 0 if it is none
}

// remove forgets groups.
func (m *memory) remove(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		delete(m.groups, name)
	}
}
