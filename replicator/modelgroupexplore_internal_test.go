package replicator

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// clone returns a copy of a world that shares nothing with it that changes.
func (g *groupWorld) clone() *groupWorld {
	c := *g
	c.shards, c.instances = make([]*world, len(g.shards)), make([]*simInstance, len(g.instances))
	c.wanted, c.granted = slices.Clone(g.wanted), slices.Clone(g.granted)
	for i, in := range g.instances {
		copied := *in
		copied.held, copied.released = make([]*owner, len(in.held)), slices.Clone(in.released)
		c.instances[i] = &copied
	}
	for s, w := range g.shards {
		c.shards[s] = w.clone()
		for i, in := range g.instances {
			if in.held[s] != nil {
				c.instances[i].held[s] = c.shards[s].owners[slices.Index(w.owners, in.held[s])]
			}
		}
	}
	return &c
}

// key identifies the state of the world: what can follow depends on nothing else.
func (g *groupWorld) key() [sha256.Size]byte {
	k := keyWriter{bytes: make([]byte, 0, 1024)}
	u := g.used
	k.add(u.moves, u.pauses, u.blocks, u.expiries, u.crashes, u.leaves, u.doubts, u.claims, u.forgets, g.record, g.reclaims)
	k.add(g.wanted...)
	k.add(g.granted...)
	for _, in := range g.instances {
		k.addBools(in.running, in.asleep, in.blocked, in.lease, in.member != 0, in.id != 0, in.inbox != 0, in.id == in.member, in.inbox == in.member)
		k.addBools(in.shards...)
		k.addBools(in.handing...)
		if in.inbox != 0 {
			k.addBools(in.arrives...)
		}
		k.add(int(in.how), len(in.after))
	}
	for s, w := range g.shards {
		k.epoch = w.epoch
		k.add(-3)
		k.bytes = append(k.bytes, w.partitionKey(0)...)
		k.addBools(w.markers[modelJournal], w.adding[modelJournal])
		k.addLog(w.journal.fencedLog)
		for _, in := range g.instances {
			k.addBools(in.held[s] != nil)
			if o := in.released[s]; o != nil {
				o.addKey(&k)
				o.addPartitionKey(&k, 0)
			}
			if o := in.held[s]; o != nil {
				k.add(slices.Index(w.owners, o))
				o.addKey(&k)
				k.addBools(o.partitions[0].closed)
			}
		}
	}
	return sha256.Sum256(k.bytes)
}

// problem returns what is wrong with a world in which nothing more must happen: each shard must be held by the instance to which the group has
// assigned it, and by no other one, and everything must be copied.
func (g *groupWorld) problem(choices []event) string {
	if slices.ContainsFunc(choices, func(e event) bool { return !e.optional }) {
		return ""
	}
	for s, w := range g.shards {
		for i, in := range g.instances {
			if (in.held[s] != nil) != (g.granted[s] == i) {
				return fmt.Sprintf("shard %d is assigned to instance %d, and instance %d holds it: %v", s, g.granted[s], i, in.held[s] != nil)
			}
		}
		if g.granted[s] == nobody {
			return fmt.Sprintf("nobody has shard %d", s)
		}
		p, of := &w.partitions[0], g.instances[g.granted[s]].held[s].partitions[0]
		if of.acked != g.sourceEnd() || of.state != replicating {
			return fmt.Sprintf("shard %d ends with %d batches, acknowledged up to %d, %s", s, len(p.copied), of.acked, of.state)
		}
	}
	return ""
}

// groupExplorer visits every state once.
type groupExplorer struct {
	groupBounds
	broken  broken
	product *modelProduct
	seen    map[[sha256.Size]byte]bool
	problem string
}

// exploreGroup tries everything, until it finds a problem.
func exploreGroup(b groupBounds, wrong broken) *groupExplorer {
	e := &groupExplorer{groupBounds: b, broken: wrong, product: newModelProduct(false), seen: make(map[[sha256.Size]byte]bool)}
	e.explore(newGroupWorld(b, wrong, e.product), nil)
	return e
}

func (e *groupExplorer) explore(g *groupWorld, path []event) {
	key := g.key()
	if e.seen[key] {
		return
	}
	e.seen[key] = true
	if n := len(e.seen); n%replayEvery == 0 && e.replay(path).key() != key {
		e.problem = fmt.Sprintf("the copy of a world is another one, after %v", path)
	}
	choices := g.choices()
	if problem := g.problem(choices); problem != "" {
		e.problem = fmt.Sprintf("%s\nafter %v", problem, path)
	} else if len(path) > longestPath {
		e.problem = fmt.Sprintf("the world never ends, after %v", path)
	}
	for n, choice := range choices {
		if e.problem != "" {
			return
		}
		next, longer := g, append(slices.Clip(path), choice)
		if n < len(choices)-1 {
			next = g.clone()
		}
		if problem := next.do(choice); problem != "" {
			e.problem = fmt.Sprintf("%s\nafter %v", problem, longer)
			return
		}
		e.explore(next, longer)
	}
}

func (e *groupExplorer) replay(path []event) *groupWorld {
	g := newGroupWorld(e.groupBounds, e.broken, e.product)
	for _, next := range path {
		g.do(next)
	}
	return g
}

// Two or three instances that join, claim, are assigned shards, hand them over, lose them, and are paused, in every order: nothing is lost, nothing
// is twice, every map is exact, the journal never goes back, and in the end whom the group has assigned a shard holds it, nobody else does, and
// all is copied. MILENA_MODEL=deep tries more, for many minutes.
func TestModelOfTheGroup(t *testing.T) {
	if withRaceDetector {
		t.Skip("a world has one goroutine, and the race detector makes it twenty times slower")
	}
	tests := []struct {
		groupBounds
		states int // less would mean that the model no longer tries everything
	}{
		{groupBounds{instances: 2, shards: 1, settled: true, moves: 2, doubts: 1}, 10_000},
		{groupBounds{instances: 2, shards: 1, batches: 2, settled: true, pauses: 1, expiries: 1, forgets: 1}, 10_000},
		{groupBounds{instances: 2, shards: 1, batches: 2, settled: true, crashes: 1, moves: 1}, 1_000},
		{groupBounds{instances: 2, shards: 1, batches: 2, settled: true, leaves: 1, moves: 1}, 500},
		{groupBounds{instances: 2, shards: 1, batches: 2, settled: true, blocks: 1, moves: 1, forgets: 1}, 200},
		{groupBounds{instances: 2, shards: 1, batches: 2}, 10_000},
		{groupBounds{instances: 2, shards: 2, batches: 1, settled: true, moves: 1}, 600},
		{groupBounds{instances: 3, shards: 1, batches: 1, settled: true, pauses: 1, expiries: 1, forgets: 1}, 5_000},
	}
	if os.Getenv("MILENA_MODEL") == "deep" {
		for _, b := range []groupBounds{
			{instances: 2, shards: 1, settled: true, fine: true, moves: 1, doubts: 1},
			{instances: 2, shards: 1, settled: true, crashes: 1, expiries: 1},
			{instances: 2, shards: 1, settled: true, pauses: 1, expiries: 1, moves: 1, forgets: 1},
			{instances: 3, shards: 1, batches: 2, settled: true, pauses: 1, expiries: 1, moves: 1, forgets: 1},
			{instances: 2, shards: 1, batches: 2, blocks: 1, expiries: 1, forgets: 1},
			{instances: 2, shards: 1, batches: 2, pauses: 1, forgets: 1, moves: 1},
			{instances: 2, shards: 1, claims: 1},
			{instances: 2, shards: 2, batches: 1, settled: true, pauses: 1, expiries: 1, forgets: 1},
			{instances: 2, shards: 2, batches: 1},
		} {
			tests = append(tests, tests[0])
			tests[len(tests)-1].groupBounds, tests[len(tests)-1].states = b, 0
		}
	}
	var group sync.WaitGroup
	for _, test := range tests {
		group.Go(func() {
			start := time.Now()
			e := exploreGroup(test.groupBounds, broken{})
			t.Logf("%+v: %d states, %.1f s", test.groupBounds, len(e.seen), time.Since(start).Seconds())
			if e.problem != "" {
				t.Errorf("%+v: %s", test.groupBounds, e.problem)
			} else if len(e.seen) < test.states {
				t.Errorf("%+v: %d states, want at least %d", test.groupBounds, len(e.seen), test.states)
			}
		})
	}
	group.Wait()
}

// The model can fail: each engine that is broken loses, repeats, goes back, or never comes to rest.
func TestModelOfTheGroupFindsWhatIsBroken(t *testing.T) {
	if withRaceDetector {
		t.Skip("a world has one goroutine, and the race detector makes it twenty times slower")
	}
	moves := groupBounds{instances: 2, shards: 1, batches: 2, settled: true, moves: 2}
	expiry := groupBounds{instances: 2, shards: 1, batches: 2, settled: true, pauses: 1, expiries: 1, forgets: 1}
	blocked := groupBounds{instances: 2, shards: 1, batches: 2, settled: true, blocks: 1, moves: 1, forgets: 1}
	start := groupBounds{instances: 2, shards: 1, batches: 2}
	tests := map[string]struct {
		groupBounds
		broken
		want string
	}{
		"no lease":                            {expiry, broken{noLease: true}, "was sent before the shard was fenced"},
		"the lease of an expired session":     {expiry, broken{anyMember: true}, "was sent before the shard was fenced"},
		"a batch of a shard that is given up": {blocked, broken{sendsGivenUp: true}, "was sent before the shard was fenced"},
		"assigned before it is given up":      {moves, broken{earlyGrant: true}, "never ends"},
		"assigned without a fence":            {moves, broken{noFence: true}, ""},
		"a shard value that is used again":    {moves, broken{reused: true, keepsFenced: true}, ""},
		"fenced again without a confirmation": {expiry, broken{noConfirm: true}, "never ends"},
		"another one copied in between":       {expiry, broken{keepsFenced: true}, ""},
		"another one claimed it in between":   {start, broken{keepsFenced: true}, ""},
	}
	if os.Getenv("MILENA_MODEL") == "deep" {
		test := tests["another one claimed it in between"]
		test.groupBounds, test.broken = groupBounds{instances: 2, shards: 2, batches: 1}, broken{keepsFencedClaim: true}
		tests["another one claimed one shard of two"] = test
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := exploreGroup(test.groupBounds, test.broken)
			if e.problem == "" || !strings.Contains(e.problem, test.want) {
				t.Errorf("%d states, found %q, want %q", len(e.seen), e.problem, test.want)
			}
			t.Logf("%d states: %s", len(e.seen), e.problem)
		})
	}
}

// What needs many rare events is not found by trying everything in a small world, but the sound engine must come to rest after them, too.
func TestModelOfTheGroupAfterRareEvents(t *testing.T) {
	tests := map[string]struct {
		groupBounds
		broken
		events []string // what, instance, shard
	}{
		"a claim is assigned late, and another instance has had the shard": {
			groupBounds{instances: 2, shards: 1, batches: 2, pauses: 1, forgets: 1, moves: 1},
			broken{keepsClaim: true},
			[]string{
				"start 0", "fence 0 0", "pause 0", "marker 0 0", "start 1", "fence 1 0", "marker 0 0", "join 1", "assign 1", "deliver 0 0", "deliver 0 0",
				"forget 0 0", "wake 0", "join 0", "move 0", "revoke 1", "handed 1", "assign 0",
			},
		},
		"a shard that nobody else has fenced yet is fenced by an instance that has lost both": {
			groupBounds{instances: 2, shards: 2, batches: 1, settled: true, pauses: 2, expiries: 1, forgets: 1, doubts: 1},
			broken{anyFence: true},
			[]string{
				"fence 0 1", "marker 0 1", "lose 0 1", "fence 0 0", "pause 0", "marker 0 0", "expire 0", "assign 1", "fence 1 0", "marker 0 0", "deliver 0 0",
				"pause 1", "forget 0 0", "wake 0", "fence 0 1",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if problem := newGroupWorld(test.groupBounds, broken{}, newModelProduct(false)).rest(test.events); problem != "" {
				t.Error(problem)
			}
			if problem := newGroupWorld(test.groupBounds, test.broken, newModelProduct(false)).rest(test.events); problem == "" {
				t.Errorf("the model does not notice %+v", test.broken)
			} else {
				t.Log(problem)
			}
		})
	}
}

// rest lets events happen, and then all that must.
func (g *groupWorld) rest(events []string) string {
	for _, name := range events {
		choices := g.choices()
		n := slices.IndexFunc(choices, func(e event) bool { return strings.HasPrefix(e.String(), name+" ") })
		if n < 0 {
			return fmt.Sprintf("%s is not possible, but %v", name, choices)
		}
		if problem := g.do(choices[n]); problem != "" {
			return problem
		}
	}
	for range longestPath {
		choices := g.choices()
		n := slices.IndexFunc(choices, func(e event) bool { return !e.optional })
		if n < 0 {
			return g.problem(choices)
		}
		if problem := g.do(choices[n]); problem != "" {
			return problem
		}
	}
	return "the world never ends"
}
