package membership

import (
	"cmp"
	"slices"
)

// holder is a member of the group with the shards that it holds now.
type holder struct {
	id    string
	owned []int32
}

const (
	// An idle shard weighs a tenth of an average one, as it has partitions to keep in sync too, and never less than littleLoad: a thousandth of what a
	// core copies. So shards without much to copy are divided by their number, and chance does not move them.
	idleShare  = 10
	littleLoad = 100 << 10
	// An instance may carry a fifth more or less than its share before a shard moves: a move interrupts the shard.
	slackShare = 5
	// A load counts at most this much, so that sums stay within an int64 whatever others report.
	maxLoad = 1 << 48
)

// weights returns what each shard weighs: its load, and a base. A shard whose load is not known has the average load.
func weights(shards []int32, known map[int32]int64) func(shard int32) int64 {
	var sum, count int64
	for _, shard := range shards {
		if load, ok := known[shard]; ok {
			sum += min(load, maxLoad)
			count++
		}
	}
	average := int64(1)
	if count > 0 {
		average = max(sum/count, 1)
	}
	base := max(average/idleShare, littleLoad)
	return func(shard int32) int64 {
		if load, ok := known[shard]; ok {
			return base + min(load, maxLoad)
		}
		return base + average
	}
}

// balance gives every shard to one member. A shard stays with its holder unless that carries too much. Equal arguments have equal results.
func balance(shards []int32, members []holder, weight func(shard int32) int64) map[string][]int32 {
	result := make(map[string][]int32, len(members))
	if len(members) == 0 {
		return result
	}
	p := newPlan(shards, members, weight)
	p.give(p.keep(members))
	// Each move makes the sum of the squared loads smaller, so there is a last one.
	for p.move() {
		p.begun = true
	}
	for _, m := range p.members {
		slices.Sort(m.shards)
		result[m.id] = m.shards
	}
	return result
}

// plan is an assignment in the making.
type plan struct {
	weight  map[int32]int64
	heavy   []int32 // all shards, the heaviest first
	members []*share
	fair    int64 // the load that each member should carry
	slack   int64
	begun   bool // a shard was moved
}

// share is what one member gets.
type share struct {
	id     string
	order  int
	shards []int32
	load   int64
}

func newPlan(shards []int32, members []holder, weight func(shard int32) int64) *plan {
	p := &plan{weight: make(map[int32]int64, len(shards)), heavy: slices.Clone(shards)}
	var rest int64
	for _, shard := range shards {
		p.weight[shard] = max(weight(shard), 1)
		rest += p.weight[shard]
	}
	slices.SortFunc(p.heavy, func(a, b int32) int {
		return cmp.Or(cmp.Compare(p.weight[b], p.weight[a]), cmp.Compare(a, b))
	})
	for i, m := range members {
		p.members = append(p.members, &share{id: m.id, order: i})
	}
	// A shard that weighs more than a fair share fills a member. The other members share the rest.
	sharing := int64(len(members))
	for _, shard := range p.heavy {
		if sharing == 1 || p.weight[shard] <= rest/sharing {
			break
		}
		rest -= p.weight[shard]
		sharing--
	}
	p.fair = rest / sharing
	if n := len(p.heavy); n > 0 && p.weight[p.heavy[0]] != p.weight[p.heavy[n-1]] {
		p.slack = p.fair / slackShare
	} // else the loads are not known, and only equal counts are fair
	return p
}

// keep leaves each shard with its holder, and returns the others, the heaviest first.
func (p *plan) keep(members []holder) (free []int32) {
	owner := make(map[int32]*share)
	for i, m := range members {
		for _, shard := range m.owned {
			owner[shard] = p.members[i]
		}
	}
	for _, shard := range p.heavy {
		if m := owner[shard]; m != nil {
			p.add(m, shard)
		} else {
			free = append(free, shard)
		}
	}
	return free
}

// give gives each free shard to the member that carries least.
func (p *plan) give(free []int32) {
	for _, shard := range free {
		p.add(slices.MinFunc(p.members, byLoad), shard)
	}
}

// move moves a shard to the member that carries least, if that evens out the loads. The first move needs a member that is off its fair share by
// more than the slack. From there on moves go on until no two members differ by more, so that the next change of a load does not begin them again.
func (p *plan) move() bool {
	to := slices.MinFunc(p.members, byLoad)
	donors := slices.Clone(p.members)
	slices.SortFunc(donors, func(a, b *share) int { return byLoad(b, a) })
	for _, from := range donors {
		fair := from.load <= p.fair+p.slack && to.load >= p.fair-p.slack
		if from.load-to.load <= p.slack || fair && !p.begun {
			return false // and those behind carry less
		}
		if shard, ok := p.pick(from, to); ok {
			from.shards = slices.DeleteFunc(from.shards, func(s int32) bool { return s == shard })
			from.load -= p.weight[shard]
			p.add(to, shard)
			return true
		}
	}
	return false
}

// pick returns the shard whose move brings both members nearest to their fair share, and so needs the fewest moves after it. A shard that is as
// heavy as the gap between the members would only swap them.
func (p *plan) pick(from, to *share) (best int32, ok bool) {
	gap := from.load - to.load
	ideal := min(from.load-p.fair, p.fair-to.load)
	if ideal <= 0 {
		ideal = gap / 2
	}
	distance := func(shard int32) int64 { return max(p.weight[shard]-ideal, ideal-p.weight[shard]) }
	for _, shard := range from.shards {
		worth := gap-p.weight[shard] > p.slack/4
		if worth && (!ok || distance(shard) < distance(best)) {
			best, ok = shard, true
		}
	}
	return best, ok
}

func (p *plan) add(m *share, shard int32) {
	m.shards = append(m.shards, shard)
	m.load += p.weight[shard]
}

// byLoad orders members by load. Of equal ones the earlier is the first to get a shard and the last to lose one.
func byLoad(a, b *share) int {
	return cmp.Or(cmp.Compare(a.load, b.load), cmp.Compare(len(a.shards), len(b.shards)), cmp.Compare(a.order, b.order))
}
