package membership

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// TestFigures logs how even the loads of 64 unequal shards are, and how many shards move: equal counts against the plan by load.
func TestFigures(t *testing.T) {
	const shards, seeds = 64, 100
	equal := weighing(slices.Repeat([]int64{1}, shards))
	for _, members := range []int{2, 3, 4, 6, 8} {
		var start, join, leave [2]figures // by count, by load
		for seed := range uint64(seeds) {
			loads := zipf(rand.New(rand.NewPCG(seed, 1)), shards)
			weight := weights(numbered(shards), known(loads))
			for i, weight := range []func(int32) int64{equal, weight} {
				// All have started by count, as no load was known. Then the loads are known.
				holders := planned(group(members), equal)
				start[i].add(loads, holders, weight)
				// One member more, after the loads were known.
				holders = planned(planned(group(members-1), equal), weight)
				join[i].add(loads, append(holders, holder{id: "joins"}), weight)
				// One member less.
				holders = planned(planned(group(members+1), equal), weight)
				leave[i].add(loads, holders[1:], weight)
			}
		}
		for _, f := range []struct {
			what string
			by   [2]figures
		}{{"loads become known", start}, {"the last one joins", join}, {"one more has left", leave}} {
			t.Logf("%d members, %s: by count %v; by load %v", members, f.what, f.by[0], f.by[1])
		}
		// The heaviest shard is a fifth of the load, so that of six members or more one has more than its share in any plan.
		if limit := 1.3; members <= 4 && max(start[1].worst, join[1].worst, leave[1].worst) > limit {
			t.Errorf("%d members: a member has more than %v times the mean", members, limit)
		}
		if n := join[1].moved / seeds; n > shards/members+2 {
			t.Errorf("%d members: %d shards moved on average when one joined", members, n)
		}
	}
}

// figures are the load of the member with the most, as a multiple of the mean, and the shards that were taken from a member.
type figures struct {
	sum, worst   float64
	moved, plans int
	shards       int // the most that one member had
}

func (f *figures) add(loads []int64, holders []holder, weight func(int32) int64) {
	after := balance(numbered(len(loads)), holders, weight)
	var most int64
	for _, shards := range after {
		most = max(most, loadOf(loads, shards))
		f.shards = max(f.shards, len(shards))
	}
	ratio := float64(most) * float64(len(holders)) / float64(loadOf(loads, numbered(len(loads))))
	f.sum, f.worst = f.sum+ratio, max(f.worst, ratio)
	f.moved += len(moved(holders, after))
	f.plans++
}

func (f figures) String() string {
	return fmt.Sprintf("max/mean %.2f (worst %.2f), %.1f moved, at most %d shards each",
		f.sum/float64(f.plans), f.worst, float64(f.moved)/float64(f.plans), f.shards)
}

func group(members int) (holders []holder) {
	for i := range members {
		holders = append(holders, holder{id: "m" + strconv.Itoa(i)})
	}
	return holders
}

func planned(holders []holder, weight func(int32) int64) []holder {
	return holding(holders, balance(numbered(64), holders, weight))
}

func known(loads []int64) map[int32]int64 {
	known := make(map[int32]int64)
	for shard, load := range loads {
		known[int32(shard)] = load
	}
	return known
}
