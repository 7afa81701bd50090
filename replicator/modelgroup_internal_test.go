package replicator

import "slices"

// The model of the group runs several instances of one flow. Each shard is a world of its own, with the real parts of the owners that hold it. The
// group assigns shards in two phases, and takes them from instances that it has not heard of. An instance may claim all shards while the group is
// empty, be paused at any point, wake much later, and go on with what it believes. One groupWorld is one state of everything.
//
// A shard has one partition here: what several do is in the model of takeovers.
type groupWorld struct {
	groupBounds
	used    groupBounds
	broken  broken
	product *modelProduct

	shards    []*world
	instances []*simInstance
	reclaims  int   // how often an instance that claimed all shards has fenced one again
	record    int   // the instance in the owner record of shard 0
	wanted    []int // by shard: to which instance the group wants to assign it
	granted   []int // by shard: which instance has it, as far as the group knows
}

const nobody = -1

// groupBounds limit how often something happens.
type groupBounds struct {
	instances, shards int
	batches           int  // of the source that are copied, 0 for all
	settled           bool // the first instance has everything at the beginning, and the others are members; else all of them start
	fine              bool // the steps of a fence are events of their own, and answers come late

	moves    int // of a shard to another member
	pauses   int // of an instance
	blocks   int // of the connections to the brokers of an instance, which goes on otherwise
	expiries int // of a session
	crashes  int // of an instance, which starts again
	leaves   int // clean stops of an instance, which starts again
	doubts   int // requests whose answer is lost
	claims   int // after the first one of each process
	forgets  int // times that a long time passes and brokers forget a producer
}

// broken is what is wrong with an engine, to prove that the model notices it.
type broken struct {
	noLease     bool // a request is sent whenever it can be
	anyMember   bool // the lease is confirmed although the session has expired
	anyFence    bool // a fence of one shard confirms the lease while the group assigns
	earlyGrant  bool // a shard is assigned to the next instance before the last one has given it up
	noFence     bool // the first fence of a shard that was assigned is left out
	reused      bool // a shard that is held again is the value that it was
	noConfirm   bool // a shard that was fenced is fenced again without asking the group
	keepsFenced bool // a shard that was fenced by another instance goes on with what this one knows of it

	keepsFencedClaim bool // the same before the group has assigned
	keepsClaim       bool // a shard that was claimed and is assigned goes on, although the lease has expired in between
	sendsGivenUp     bool // what waits in the client is sent although its shard was given up, as long as the lease of the process holds
}

// simInstance is one instance. The member is its side of the membership.
type simInstance struct {
	running  bool
	asleep   bool
	blocked  bool // requests with batches are not handed to the kernel
	lease    bool // it holds
	how      holding
	held     []*owner
	released []*owner // what was held last

	member  int    // id in the eyes of the group, 0: none
	id      int    // under which shards were assigned, 0: none
	shards  []bool // that were assigned
	inbox   int    // id under which an assignment is on its way, 0: none
	arrives []bool // the shards of that

	handing []bool // shards that are being handed over
	after   string // what happened to begin that
}

func newGroupWorld(b groupBounds, wrong broken, product *modelProduct) *groupWorld {
	g := &groupWorld{groupBounds: b, broken: wrong, product: product, record: nobody}
	for range b.shards {
		w := newWorld(bounds{rivals: 1}, product) // answers are events of their own
		w.used.rivals = 1
		g.shards = append(g.shards, w)
		g.wanted, g.granted = append(g.wanted, nobody), append(g.granted, nobody)
	}
	for range b.instances {
		g.instances = append(g.instances, &simInstance{})
		g.end(len(g.instances) - 1)
	}
	if b.settled {
		g.settle()
	}
	return g
}

// settle lets the first instance start, and the others join. Nothing is copied yet.
func (g *groupWorld) settle() {
	for i, in := range g.instances {
		in.running, in.how = true, joining
		for _, what := range []string{"join", "assign"} {
			g.do(event{what: what, owner: i})
		}
	}
}

// end ends the process of an instance.
func (g *groupWorld) end(i int) {
	in := g.instances[i]
	for s := range in.held {
		g.giveUp(i, s)
	}
	g.dropUnwritten(i, anyRequest)
	n := len(g.shards)
	*in = simInstance{
		member: in.member, held: make([]*owner, n), released: make([]*owner, n), shards: make([]bool, n), arrives: make([]bool, n), handing: make([]bool, n),
	}
}

// hold holds a shard that is not held.
func (g *groupWorld) hold(i, s int) {
	in, w := g.instances[i], g.shards[s]
	if in.held[s] != nil {
		return
	}
	o := g.product.newOwner()
	o.partitions[1].retire()
	if last := in.released[s]; g.broken.reused && last != nil {
		o = last.clone(g.product, make(map[*partition]*partition))
		o.partitions[0].outbox.closed = false
		o.partitions[0].doubtLocked()
	}
	in.held[s] = o
	w.owners = append(w.owners, o)
}

// giveUp ends all work on a shard. What is on its way may still arrive.
func (g *groupWorld) giveUp(i, s int) {
	in, w := g.instances[i], g.shards[s]
	if in.held[s] == nil {
		return
	}
	if g.broken.reused {
		in.released[s] = in.held[s].clone(g.product, make(map[*partition]*partition))
		in.released[s].sent[0] = nil
	}
	w.end(slices.Index(w.owners, in.held[s]))
	in.held[s] = nil
}

// dropUnwritten ends requests that wait in an instance.
func (g *groupWorld) dropUnwritten(i int, which func(*simRequest) bool) {
	for s, w := range g.shards {
		mine := func(r *simRequest) bool { return r.instance == i && r.unwritten && which(r) }
		p := &w.partitions[0]
		if !slices.ContainsFunc(p.network, mine) {
			continue
		}
		p.network = slices.DeleteFunc(slices.Clone(p.network), mine)
		if o := g.instances[i].held[s]; o != nil {
			w.lose(o, 0)
		}
	}
}

func anyRequest(*simRequest) bool { return true }

func isStale(r *simRequest) bool { return r.stale }

// setUnwritten says whether the requests that have not arrived wait in the instance.
func (g *groupWorld) setUnwritten(i int, unwritten bool) {
	for _, w := range g.shards {
		for _, r := range w.partitions[0].network {
			if r.instance == i {
				r.unwritten = unwritten
			}
		}
	}
}

func (in *simInstance) isAwake() bool { return in.running && !in.asleep }

func (in *simInstance) isHanding() bool { return slices.Contains(in.handing, true) }

// isMember reports whether a heartbeat with the id under which shards were assigned succeeds.
func (in *simInstance) isMember() bool { return in.id != 0 && in.id == in.member }

// choices are the events that can be next.
func (g *groupWorld) choices() (list []event) {
	for s := range g.shards {
		list = append(list, g.choicesOfShard(s)...)
	}
	for i, in := range g.instances {
		list = append(list, g.choicesOfGroup(i, in)...)
		if !in.isAwake() {
			continue
		}
		for s, o := range in.held {
			if o != nil {
				list = append(list, g.choicesOfOwner(i, s, o)...)
			}
		}
	}
	// Before a long time has passed, whoever is awake has done what it does.
	if slices.ContainsFunc(list, func(e event) bool { return !e.optional && e.what != "wake" && e.what != "unblock" }) {
		return list
	}
	for s := range g.shards {
		if g.used.forgets < g.forgets && g.isLate(s) {
			list = append(list, event{what: "forget", at: s, optional: true})
		}
	}
	return list
}

// isLate reports whether something may still be sent that the broker refuses only because it knows the producer.
func (g *groupWorld) isLate(s int) bool {
	p := &g.shards[s].partitions[0]
	for _, in := range g.instances {
		if o := in.held[s]; p.known && o != nil && o.shard.ownership.isOwned() && o.epoch < p.marked {
			return true
		}
	}
	return p.known && slices.ContainsFunc(p.network, func(r *simRequest) bool { return r.unwritten && r.sent.epoch() < p.marked })
}

// choicesOfShard are the markers and requests that may arrive.
func (g *groupWorld) choicesOfShard(s int) (list []event) {
	w := g.shards[s]
	for of, pending := range w.markers {
		if pending && g.fine {
			list = append(list, event{what: "marker", at: s, n: of})
		}
	}
	if w.markers.any() && !g.fine {
		list = append(list, event{what: "marker", at: s, n: nobody})
	}
	p := &w.partitions[0]
	for n, r := range p.network {
		if !r.unwritten && !p.isBehindAnother(n) {
			list = append(list, event{what: "deliver", at: s, n: n, optional: r.stale})
		}
	}
	return list
}

// choicesOfGroup are what can happen to an instance as a member of the group, and as a process.
func (g *groupWorld) choicesOfGroup(i int, in *simInstance) (list []event) {
	add := func(what string, n int, possible, optional bool) {
		if possible {
			list = append(list, event{what: what, owner: i, n: n, optional: optional})
		}
	}
	add("start", 0, !in.running && (i == 0 || g.instances[i-1].running), false) // all are alike at the beginning
	add("wake", 0, in.asleep, false)
	add("expire", 0, in.member != 0 && g.used.expiries < g.expiries, true)
	if !in.isAwake() {
		return list
	}
	add("unblock", 0, in.blocked, false)
	add("crash", 0, g.used.crashes < g.crashes, true)
	waits := g.hasRequests(i)
	holds := func(o *owner) bool { return o != nil }
	add("pause", 0, g.used.pauses < g.pauses && slices.ContainsFunc(in.held, holds), true)
	add("pause", 1, g.used.pauses < g.pauses && waits, true)
	add("block", 0, g.used.blocks < g.blocks && !in.blocked && waits, true)
	if in.isHanding() {
		add("handed", 0, true, false)
		return list
	}
	add("leave", 0, g.used.leaves < g.leaves, true)
	add("lost", 0, in.id != 0 && in.member != in.id, false)
	add("assign", 0, in.inbox != 0, false)
	add("join", 0, in.id == 0 && in.inbox == 0, false)
	zero := in.held[0]
	add("doubt", 0, in.how == claimed && !in.lease && zero != nil && zero.shard.ownership.isCertain(), false)
	add("claim", 0, in.how == joining && g.isAlone(i) && g.used.claims < g.claims, true)
	if in.isMember() {
		revoked := func(s int) bool { return in.shards[s] && g.wanted[s] != i }
		add("revoke", 0, slices.ContainsFunc(g.numbers(), revoked), false)
	}
	for s := range g.shards {
		add("move", s, in.member != 0 && g.wanted[s] != i && g.used.moves < g.moves, true)
	}
	return list
}

func (g *groupWorld) numbers() []int {
	list := make([]int, len(g.shards))
	for s := range list {
		list[s] = s
	}
	return list
}

// hasRequests reports whether requests of an instance have not arrived.
func (g *groupWorld) hasRequests(i int) bool {
	return slices.ContainsFunc(g.shards, func(w *world) bool {
		return slices.ContainsFunc(w.partitions[0].network, func(r *simRequest) bool { return r.instance == i })
	})
}

// isAlone reports whether the group has no other member.
func (g *groupWorld) isAlone(i int) bool {
	for k, other := range g.instances {
		if k != i && other.member != 0 {
			return false
		}
	}
	return true
}

// choicesOfOwner are the next steps of an instance with a shard that it holds.
func (g *groupWorld) choicesOfOwner(i, s int, o *owner) (list []event) {
	in, w := g.instances[i], g.shards[s]
	if sent := o.sent[0]; len(sent) > 0 {
		if sent[0].answered { // answers come in order
			list = append(list, event{what: "answer", owner: i, at: s})
		}
		if g.used.doubts < g.doubts && !sent[0].unwritten {
			list = append(list, event{what: "lose", owner: i, at: s, optional: true})
		}
	}
	if in.handing[s] {
		return list
	}
	certain := o.shard.ownership.isCertain()
	switch {
	case o.step == stepAdd, o.step == stepEnd:
		list = append(list, event{what: "end", owner: i, at: s})
	case o.step == stepRead:
	case g.isReplaced(i, s) && (len(o.shard.waiting()) > 0 || !certain || o.step == stepFence):
		if g.mayReclaim(i, s) {
			list = append(list, event{what: "reclaim", owner: i, at: s})
		}
	case o.step == stepFence, len(o.shard.waiting()) > 0, !certain:
		if !w.markers.any() && (o.shard.ownership.isOwned() || g.mayClaim(i, s)) {
			list = append(list, event{what: "fence", owner: i, at: s})
		}
	}
	if s == 0 && o.step == stepIdle && certain && in.lease && o.epoch < w.epoch && !w.markers[modelJournal] {
		list = append(list, event{what: "record", owner: i}) // of the owner: the write is refused
	}
	if o.step == stepIdle && certain && in.lease && o.partitions[0].progress.hasChanges() && g.mattersJournal(s, o) {
		list = append(list, event{what: "journal", owner: i, at: s, optional: true})
	}
	return list
}

// mattersJournal reports whether it makes a difference that an owner writes the journal: another one may read it, or it learns that it was fenced.
func (g *groupWorld) mattersJournal(s int, o *owner) bool {
	u, b := g.used, g.groupBounds
	return o.epoch < g.shards[s].epoch || u.moves < b.moves || u.expiries < b.expiries || u.crashes < b.crashes || u.leaves < b.leaves ||
		g.wanted[s] != g.granted[s] || len(g.shards[s].owners) > 1 || slices.ContainsFunc(g.instances, func(in *simInstance) bool { return !in.isMember() })
}

// isReplaced reports whether the coordinator refuses the next request of an owner, because it knows a newer epoch.
func (g *groupWorld) isReplaced(i, s int) bool {
	o := g.instances[i].held[s]
	return o.epoch != g.shards[s].epoch && (o.claimed || o.step == stepAdd || o.step == stepEnd)
}

// mayClaim is Flow.mayClaim.
func (g *groupWorld) mayClaim(i, s int) bool {
	in := g.instances[i]
	if in.how == assigned {
		return in.lease
	}
	return s == 0 || g.ownsZero(i)
}

// ownsZero reports whether the journal of shard 0 accepts a write.
func (g *groupWorld) ownsZero(i int) bool {
	in, w := g.instances[i], g.shards[0]
	zero := in.held[0]
	return zero != nil && in.lease && zero.step == stepIdle && zero.shard.ownership.isCertain() && zero.epoch == w.epoch && !w.markers[modelJournal]
}

// mayReclaim reports whether an owner that was fenced finds out what to do.
func (g *groupWorld) mayReclaim(i, s int) bool {
	in := g.instances[i]
	if in.how == assigned {
		return in.isMember() || g.broken.noConfirm
	}
	if g.record != i {
		return true
	}
	if s > 0 {
		return g.reclaims < 2 || in.inbox == 0 && in.member != 0 // it does not go on for ever without being assigned
	}
	for k, other := range g.instances { // it waits for the owner record of another one
		if k != i && other.isAwake() && other.held[0] != nil && other.held[0].epoch == g.shards[0].epoch {
			return false
		}
	}
	return true
}

// reclaim is Flow.reclaim.
func (g *groupWorld) reclaim(i, s int) {
	in := g.instances[i]
	o := in.held[s]
	if in.how != assigned && s > 0 {
		g.reclaims = min(g.reclaims+1, 2)
	}
	switch {
	case in.how != assigned && g.record != i && g.record != nobody:
		in.how = joining
		for k := range in.held {
			g.giveUp(i, k)
		}
		return
	case in.how == assigned && !g.broken.keepsFenced, in.how != assigned && !g.broken.keepsFencedClaim: // others may have copied
		g.giveUp(i, s)
		g.hold(i, s)
		return
	}
	o.claimed = false
	o.shard.fencer.disown()
	if o.step != stepIdle {
		o.step = stepFence
	}
}
