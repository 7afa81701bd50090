package replicator

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// clone returns a copy of a world that shares nothing with it that changes.
func (w *world) clone() *world {
	c := *w
	partitions := make(map[*partition]*partition)
	c.owners = make([]*owner, len(w.owners))
	for n, o := range w.owners {
		c.owners[n] = o.clone(w.product, partitions)
	}
	requests := make(map[*simRequest]*simRequest)
	cloneAll := func(list []*simRequest) []*simRequest {
		list = slices.Clone(list)
		for n, r := range list {
			if requests[r] == nil {
				copied := *r
				copied.sent.partition = partitions[r.sent.partition] // nil if its owner lives no more
				requests[r] = &copied
			}
			list[n] = requests[r]
		}
		return list
	}
	for i := range c.partitions {
		p := &c.partitions[i]
		p.network, p.log, p.copied, p.late = cloneAll(p.network), slices.Clip(p.log), slices.Clip(p.copied), slices.Clip(p.late)
	}
	c.journal.records, c.journal.network = slices.Clone(w.journal.records), slices.Clone(w.journal.network)
	for _, o := range c.owners {
		for i := range o.sent {
			o.sent[i] = cloneAll(o.sent[i])
		}
	}
	return &c
}

func (o *owner) clone(m *modelProduct, partitions map[*partition]*partition) *owner {
	c := *o
	c.shard = m.newShard()
	c.shard.fencer, c.shard.sequence, c.shard.inJournal = o.shard.fencer, o.shard.sequence, o.shard.inJournal
	c.shard.ownership.state.Store(o.shard.ownership.state.Load())
	for i, p := range o.partitions {
		c.partitions[i] = p.clone(c.shard)
		c.shard.add(c.partitions[i])
		partitions[p] = c.partitions[i]
	}
	recoveries := make(map[*recovery]*recovery)
	cloneOf := func(r *recovery) *recovery {
		if r == nil || recoveries[r] != nil {
			return recoveries[r]
		}
		n := &recovery{flow: r.flow, shard: c.shard, reload: r.reload, loaded: r.loaded, mark: r.mark, producerID: r.producerID, producerEpoch: r.producerEpoch}
		for _, p := range r.known {
			n.known = append(n.known, partitions[p])
		}
		for _, p := range r.fresh {
			n.fresh = append(n.fresh, partitions[p])
		}
		recoveries[r] = n
		return n
	}
	c.recovery = cloneOf(o.recovery)
	for _, p := range c.partitions {
		p.recovery = cloneOf(p.recovery)
	}
	return &c
}

func (p *partition) clone(s *shard) *partition {
	c := newPartition(p.topic, p.number, s, p.listed)
	c.state, c.anomaly, c.placement, c.outside, c.recovery = p.state, p.anomaly, p.placement, p.outside, p.recovery
	changed := c.progress.changed
	c.cursor, c.outbox, c.progress = p.cursor, p.outbox, p.progress
	if c.progress.changed = changed; c.progress.noted {
		changed()
	}
	c.outbox.queue, c.progress.unsettled, c.progress.record.Gaps = slices.Clone(p.queue), slices.Clone(p.unsettled), slices.Clone(p.record.Gaps)
	if p.offsets != nil {
		c.progress.offsets = cloneMap(p.offsets)
	}
	if p.refused != nil {
		first := *p.refused
		c.outbox.refused = &first
	}
	return c
}

// cloneMap builds a map again. All that it may have besides is what has changed since it was journaled: its end, or also its only chunk.
func cloneMap(m *offsets.Map) *offsets.Map {
	c := offsets.NewMap(m.Start())
	for s := range m.Segments() {
		_ = c.Append(s.Source, s.Target, s.Count) // in order, as in m
	}
	markJournaled := func() {
		all, _ := c.Changed()
		c.MarkJournaled(all)
	}
	changes, changed := m.Changed()
	if len(changes.Chunks) == 0 {
		markJournaled()
	}
	if _ = c.Advance(m.End()); !changed {
		markJournaled()
	}
	return c
}

// addKey adds what the owner has besides its partitions.
func (o *owner) addKey(k *keyWriter) {
	k.add(int(o.step), int(o.shard.sequence))
	k.addEpoch(o.epoch)
	k.addBools(o.claimed, o.shard.ownership.isOwned(), o.shard.ownership.isCertain())
}

// addPartitionKey adds what the owner has of a partition.
func (o *owner) addPartitionKey(k *keyWriter, i int) {
	p := o.partitions[i]
	k.add(-2, int(p.state), int(p.acked), int(p.journaled), int(p.next), int(p.targetEnd), int(p.sequence), len(p.queue), p.inFlight, len(p.unsettled), int(p.touched-p.clean))
	k.addEpoch(p.producerEpoch)
	k.addBools(p.continued, p.producer.known, p.confirmed, p.refused != nil, o.recovery != nil && slices.Contains(o.recovery.known, p))
	k.add(int(p.producer.Sequence))
	k.addEpoch(p.producer.Epoch)
	for _, u := range p.unsettled {
		k.add(int(u.count), int(u.next))
	}
	if p.state == recovering {
		k.addEpoch(p.recovery.mark.epoch)
	}
	if p.offsets != nil {
		for s := range p.offsets.Segments() {
			k.add(int(s.Source), int(s.Target), int(s.Count))
		}
	}
	for _, r := range o.sent[i] {
		k.addRequest(r)
		k.addBools(r.sent.generation == p.generation)
	}
}

// explorer visits every state once, and counts the schedules that lead from it to an end.
type explorer struct {
	bounds
	product   *modelProduct
	schedules map[[32]byte]float64
	visited   int
	problem   string
}

// longestPath is more events than any world needs to end.
const longestPath = 200

// replayEvery is how often the path to a state is replayed from the beginning, to prove that its copy is the same.
const replayEvery = 100

func (e *explorer) explore(w *world, path []event) (schedules float64) {
	key := w.key()
	if n, ok := e.schedules[key]; ok {
		return n
	}
	if e.visited++; e.visited%replayEvery == 0 && e.replay(path).key() != key {
		e.problem = fmt.Sprintf("the copy of a world is another one, after %v", path)
	}
	choices := w.choices()
	if problem := w.problem(choices); problem != "" {
		e.problem = fmt.Sprintf("%s\nafter %v", problem, path)
	} else if len(path) > longestPath {
		e.problem = fmt.Sprintf("the world never ends, after %v", path)
	}
	for n, choice := range choices {
		if e.problem != "" {
			return 0
		}
		next, longer := w, append(slices.Clip(path), choice)
		if n < len(choices)-1 {
			next = w.clone()
		}
		if problem := next.do(choice); problem != "" {
			e.problem = fmt.Sprintf("%s\nafter %v", problem, longer)
			return 0
		}
		schedules += e.explore(next, longer)
	}
	e.schedules[key] = max(schedules, 1)
	return e.schedules[key]
}

func (e *explorer) replay(path []event) *world {
	w := newWorld(e.bounds, e.product)
	for _, next := range path {
		w.do(next)
	}
	return w
}

// withRaceDetector says that the tests are built with the race detector.
var withRaceDetector bool

// Every order of fence, marker, produce, acknowledgement, journal, lost answer, crash and second owner, for two partitions and three batches:
// nothing is lost, nothing is twice, everything is in order, every map is exact, and no earlier owner writes the journal. A batch that a broker
// accepts after its owner was replaced, because it has forgotten the producer or there are no transactions, is noticed. MILENA_MODEL=deep tries more, for many minutes.
func TestModelOfTakeovers(t *testing.T) {
	if withRaceDetector {
		t.Skip("a world has one goroutine, and the race detector makes it twenty times slower")
	}
	tests := []struct {
		bounds
		states int // less would mean that the model no longer tries everything
	}{
		{bounds{crashes: 1}, 7_000},
		{bounds{doubts: 1}, 1_900},
		{bounds{rivals: 1}, 55_000},
		{bounds{rivals: 1, forgets: 1}, 9_500},
		{bounds{refuses: 1}, 50},
		{bounds{refuses: 1, forgets: 1}, 120},
		{bounds{refuses: 1, doubts: 1}, 9_000},
		{bounds{claims: true, crashes: 1}, 10_000},
		{bounds{claims: true, doubts: 1}, 1_800},
		{bounds{claims: true, rivals: 1}, 20_000},
	}
	if os.Getenv("MILENA_MODEL") == "deep" {
		for _, b := range []bounds{{crashes: 1, doubts: 1}, {rivals: 1, doubts: 1}, {rivals: 1, crashes: 1}, {rivals: 1, forgets: 1, doubts: 1}} {
			tests = append(tests, tests[0])
			tests[len(tests)-1].bounds = b
		}
	}
	var group sync.WaitGroup
	for _, test := range tests {
		group.Go(func() {
			start := time.Now()
			e := &explorer{bounds: test.bounds, product: newModelProduct(test.claims), schedules: make(map[[32]byte]float64)}
			n := e.explore(newWorld(test.bounds, e.product), nil)
			t.Logf("%+v: %.3g schedules in %d states, %.1f s", test.bounds, n, len(e.schedules), time.Since(start).Seconds())
			if e.problem != "" {
				t.Errorf("%+v: %s", test.bounds, e.problem)
			} else if len(e.schedules) < test.states {
				t.Errorf("%+v: %d states, want at least %d", test.bounds, len(e.schedules), test.states)
			}
		})
	}
	group.Wait()
}
