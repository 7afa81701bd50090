package replicator

import (
	"cmp"
	"fmt"
	"slices"
)

// do lets an event happen, and then what each instance can do at any time. It returns what is wrong with the world then.
func (g *groupWorld) do(e event) string {
	problem := g.happen(e)
	g.rebalance()
	if problem = cmp.Or(problem, g.goOn()); problem != "" {
		return problem
	}
	for s, w := range g.shards {
		w.dropRefused()
		if len(w.partitions[0].late) > 0 {
			return fmt.Sprintf("shard %d: a batch lands that was sent before the shard was fenced", s)
		}
	}
	return ""
}

func (g *groupWorld) happen(e event) string {
	in := g.instances[e.owner]
	switch e.what {
	case "marker":
		return g.writeMarker(e.at, e.n)
	case "deliver":
		return g.deliver(e.at, e.n)
	case "forget":
		g.forget(e.at)
	case "answer":
		return g.shards[e.at].answer(in.held[e.at], 0, 0)
	case "lose":
		g.used.doubts++
		g.shards[e.at].lose(in.held[e.at], 0)
	case "doubt", "record":
		in.held[0].shard.ownership.doubt()
	case "reclaim":
		g.reclaim(e.owner, e.at)
	case "fence":
		return g.fence(e.owner, e.at)
	case "end":
		return g.endFence(e.owner, e.at)
	case "journal":
		return g.writeJournal(e.owner, e.at)
	default:
		return g.change(e.owner, in, e)
	}
	return ""
}

// deliver lets a request arrive. The answer is there at once, unless nobody waits for it, or the instance is paused or hands the shard over.
func (g *groupWorld) deliver(s, n int) string {
	w := g.shards[s]
	r := w.partitions[0].network[n]
	problem := w.deliver(0, n)
	in := g.instances[r.instance]
	if problem != "" || r.stale || g.fine || !in.isAwake() || in.handing[s] {
		return problem
	}
	return w.answer(in.held[s], 0, 0)
}

// dropRefused ends the requests that a broker will refuse, and for whose answers nobody waits.
func (w *world) dropRefused() {
	p := &w.partitions[0]
	refused := func(r *simRequest) bool { return r.stale && !r.unwritten && p.known && r.sent.epoch() < p.epoch }
	if slices.ContainsFunc(p.network, refused) {
		p.network = slices.DeleteFunc(slices.Clone(p.network), refused)
	}
}

// change is what happens to an instance as a process or as a member of the group.
func (g *groupWorld) change(i int, in *simInstance, e event) string {
	switch e.what {
	case "start":
		in.running, in.how = true, joining
		if g.isAlone(i) {
			g.claim(i)
		}
	case "claim":
		g.used.claims++
		g.claim(i)
	case "crash":
		g.used.crashes++
		g.end(i)
	case "pause", "block":
		g.setUnwritten(i, e.n == 1 || e.what == "block")
		in.asleep, in.blocked = in.asleep || e.what == "pause", in.blocked || e.what == "block"
		if e.what == "pause" {
			g.used.pauses++
		} else {
			g.used.blocks++
		}
	case "wake":
		in.asleep = false
		if !in.blocked {
			g.write(i)
		}
	case "unblock":
		in.blocked = false
		g.write(i)
	case "expire":
		g.used.expiries++
		g.remove(i)
	case "join":
		g.join(i)
	case "move":
		g.used.moves++
		g.wanted[e.n] = i
		if g.broken.earlyGrant {
			g.granted[e.n] = nobody
		}
	case "assign":
		return g.assign(i, in)
	case "lost":
		g.lose(i, in)
	case "revoke":
		g.beginHandOver(i, "revoke", func(s int) bool { return in.shards[s] && g.wanted[s] != i })
	case "leave":
		g.used.leaves++
		g.beginHandOver(i, "leave", func(int) bool { return true })
	case "handed":
		return g.endHandOver(i, in)
	}
	return ""
}

// write hands what has waited in an instance to the kernel. If the lease has expired, or the shard is given up, it is not sent.
func (g *groupWorld) write(i int) {
	if !g.instances[i].lease && !g.broken.noLease {
		g.dropUnwritten(i, anyRequest)
	}
	if !g.broken.sendsGivenUp {
		g.dropUnwritten(i, isStale)
	}
	g.setUnwritten(i, false)
}

// claim is Flow.claim.
func (g *groupWorld) claim(i int) {
	g.instances[i].how = claimed
	for s := range g.shards {
		g.hold(i, s)
	}
}

// remove ends the session of a member.
func (g *groupWorld) remove(i int) {
	g.instances[i].member = 0
	for s := range g.shards {
		if g.wanted[s] == i {
			g.wanted[s] = nobody
		}
		if g.granted[s] == i {
			g.granted[s] = nobody
		}
	}
}

// join joins the group. If the last process of the instance is still a member, this one gets its place.
func (g *groupWorld) join(i int) {
	in := g.instances[i]
	for _, other := range g.instances {
		in.member = max(in.member, other.member, other.id, other.inbox)
	}
	in.member++
	in.inbox, in.arrives = in.member, make([]bool, len(g.shards))
	for s := range g.shards {
		in.arrives[s] = g.granted[s] == i
	}
}

// rebalance lets the group assign what nobody has.
func (g *groupWorld) rebalance() {
	for s := range g.shards {
		for i, in := range g.instances {
			if g.wanted[s] == nobody && in.member != 0 {
				g.wanted[s] = i
			}
		}
		i := g.wanted[s]
		if i == nobody || g.granted[s] != nobody {
			continue
		}
		in := g.instances[i]
		g.granted[s] = i
		if in.inbox != in.member {
			in.inbox, in.arrives = in.member, slices.Clone(in.shards)
		}
		in.arrives = slices.Clone(in.arrives)
		in.arrives[s] = true
	}
}

// assign is Flow.assigned.
func (g *groupWorld) assign(i int, in *simInstance) string {
	in.id, in.inbox, in.shards = in.inbox, 0, slices.Clone(in.arrives)
	if in.how == claimed && !g.broken.keepsClaim && !in.lease {
		for s := range g.shards {
			g.giveUp(i, s) // others may have had it
		}
	}
	in.how = assigned
	g.beginHandOver(i, "assign", func(s int) bool { return !in.shards[s] })
	if !in.isHanding() {
		return g.endHandOver(i, in)
	}
	return ""
}

// lose is Flow.lost.
func (g *groupWorld) lose(i int, in *simInstance) {
	lost := in.shards
	in.id, in.inbox, in.shards = 0, 0, make([]bool, len(g.shards))
	if !slices.Contains(lost, true) {
		return
	}
	if in.how == assigned {
		in.how = joining
	}
	for s := range g.shards {
		if lost[s] {
			g.giveUp(i, s)
		}
	}
}

// beginHandOver begins to hand shards over: nothing more is sent, and no takeover goes on.
func (g *groupWorld) beginHandOver(i int, after string, of func(s int) bool) {
	in := g.instances[i]
	in.after, in.handing = after, slices.Clone(in.handing)
	for s, o := range in.held {
		in.handing[s] = (o != nil || after != "assign") && of(s)
		if o != nil && in.handing[s] {
			o.partitions[0].closeLocked()
		}
	}
	if after == "leave" { // also if it holds nothing
		in.handing[0] = true
	}
}

// endHandOver gives up the shards that are handed over. The batches in flight are answered, or it has taken too long.
func (g *groupWorld) endHandOver(i int, in *simInstance) string {
	over := in.handing
	in.handing = make([]bool, len(g.shards))
	for s, o := range in.held {
		if o == nil || !over[s] {
			continue
		}
		if in.lease && o.step == stepIdle && o.shard.ownership.isCertain() && o.partitions[0].progress.hasChanges() {
			if problem := g.writeJournal(i, s); problem != "" {
				return problem
			}
		}
		g.giveUp(i, s)
	}
	switch in.after {
	case "assign":
		for s, mine := range in.shards {
			if mine {
				g.hold(i, s)
			}
		}
	case "revoke":
		in.shards = slices.Clone(in.shards)
		for s := range g.shards {
			if over[s] {
				in.shards[s] = false
				if in.isMember() && g.granted[s] == i {
					g.granted[s] = nobody
				}
			}
		}
	case "leave":
		g.remove(i)
		g.end(i)
	}
	return ""
}

// forget lets so much time pass that no request is on its way, and that the lease expires of who cannot confirm it. Then a broker forgets a producer.
func (g *groupWorld) forget(s int) {
	g.used.forgets++
	for i, in := range g.instances {
		if !in.isAwake() && in.member != 0 {
			g.remove(i)
		}
		confirmed := g.broken.anyMember && in.id != 0 || in.how == assigned && in.isMember() || in.how == claimed && g.ownsZero(i)
		in.lease = in.lease && in.isAwake() && confirmed || g.broken.noLease
	}
	w := g.shards[s]
	w.used.forgets = 1
	p := &w.partitions[0]
	p.known = false
	p.network = slices.DeleteFunc(slices.Clone(p.network), func(r *simRequest) bool { return !r.unwritten })
}

func (g *groupWorld) fence(i, s int) string {
	in, w := g.instances[i], g.shards[s]
	o := in.held[s]
	if g.broken.noFence && w.epoch > 0 && !o.shard.ownership.isOwned() {
		return g.skipFence(o, w)
	}
	if w.fence(slices.Index(w.owners, o)); o.step == stepAdd && !g.fine {
		return g.endFence(i, s)
	}
	return ""
}

// skipFence begins with the journal, and the epoch of the last owner.
func (g *groupWorld) skipFence(o *owner, w *world) string {
	o.recovery = o.flow.newRecovery(o.shard)
	o.epoch, o.claimed = w.epoch, true
	o.recovery.mark = marker{modelProducer, w.epoch}
	o.recovery.producerID, o.recovery.producerEpoch = modelProducer, w.epoch
	return o.readJournal(w)
}

// endFence adds the partitions and ends the transaction.
func (g *groupWorld) endFence(i, s int) string {
	in, w := g.instances[i], g.shards[s]
	o := in.held[s]
	if g.isReplaced(i, s) {
		o.step = stepFence
		o.claimed = true // so that the next request of the fence finds out
		return ""
	}
	w.adding = markersFor{modelJournal: true}
	for _, p := range o.recovery.known {
		w.adding[p.number] = true
	}
	w.abort()
	problem := o.fenced(w)
	if in.how != assigned || g.broken.anyFence {
		in.lease = true
	}
	if s == 0 && o.step == stepIdle {
		g.record = i
	}
	return problem
}

func (g *groupWorld) writeMarker(s, of int) string {
	w := g.shards[s]
	if of == nobody {
		problem := ""
		for of, pending := range w.markers {
			if pending {
				problem = cmp.Or(problem, g.writeMarker(s, of))
			}
		}
		return problem
	}
	if problem := w.writeMarker(of); problem != "" || of != modelJournal || s > 0 {
		return problem
	}
	for i, in := range g.instances {
		if o := in.held[0]; o != nil && o.step == stepIdle && o.epoch == w.epoch {
			g.record = i
		}
	}
	return ""
}

func (g *groupWorld) writeJournal(i, s int) string {
	in, w := g.instances[i], g.shards[s]
	before := w.journaled()
	problem := w.writeJournal(in.held[s])
	if in.how != assigned && in.held[s].shard.ownership.isCertain() {
		in.lease = true
	}
	if after := w.journaled(); problem == "" && after < before {
		return fmt.Sprintf("shard %d: the journal goes back from source offset %d to %d", s, before, after)
	}
	return problem
}

// journaled is the source offset up to which the journal says that everything is copied.
func (w *world) journaled() (acked int) {
	if _, err := fmt.Sscan(w.journal.notes[0], &acked); err != nil {
		return -1
	}
	return acked
}

// goOn lets every instance do what it can do at any time: confirm its lease, settle the partitions whose log it can read, and send.
func (g *groupWorld) goOn() string {
	for i, in := range g.instances {
		if !in.isAwake() {
			continue
		}
		if in.how == assigned && (in.isMember() || g.broken.anyMember && in.id != 0) || g.broken.noLease {
			in.lease = true
		}
		for s, o := range in.held {
			if o == nil || in.handing[s] {
				continue
			}
			if problem := g.continueOwner(i, s); problem != "" {
				return fmt.Sprintf("instance %d, shard %d: %s", i, s, problem)
			}
		}
	}
	return ""
}

// sourceEnd is the source offset up to which is copied.
func (g *groupWorld) sourceEnd() int64 {
	return modelSource[cmp.Or(g.batches, len(modelSource))-1].NextOffset()
}

func (g *groupWorld) continueOwner(i, s int) string {
	in, w := g.instances[i], g.shards[s]
	o := in.held[s]
	p := o.partitions[0]
	if p.state == recovering {
		if problem := o.settle(&w.partitions[0], p); problem != "" {
			return problem
		}
	}
	for p.state == replicating && in.lease && (p.inFlight == 0 || p.confirmed && p.refused == nil) && p.next < g.sourceEnd() {
		w.send(o, 0)
		r := o.sent[0][len(o.sent[0])-1]
		r.instance, r.unwritten = i, in.blocked
	}
	return ""
}
