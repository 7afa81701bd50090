package membership

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const mib = 1 << 20

func TestWeights(t *testing.T) {
	for _, test := range []struct {
		name  string
		known map[int32]int64
		want  []int64
	}{
		{"none is known", nil, slices.Repeat([]int64{littleLoad + 1}, 3)},
		{"all are known", map[int32]int64{0: 100 * mib, 1: 200 * mib, 2: 300 * mib}, []int64{120 * mib, 220 * mib, 320 * mib}},
		{"an unknown one is average", map[int32]int64{0: 100 * mib, 1: 300 * mib}, []int64{120 * mib, 320 * mib, 220 * mib}},
		{"an idle one has the base", map[int32]int64{0: 0, 1: 300 * mib, 2: 300 * mib}, []int64{20 * mib, 320 * mib, 320 * mib}},
		{"little makes little difference", map[int32]int64{0: 1, 1: 5000, 2: 300}, []int64{littleLoad + 1, littleLoad + 5000, littleLoad + 300}},
		{"of a shard that is not there", map[int32]int64{0: 10 * mib, 9: 1000 * mib}, slices.Repeat([]int64{11 * mib}, 3)},
		{"absurd", map[int32]int64{0: math.MaxInt64, 1: math.MaxInt64, 2: math.MaxInt64}, slices.Repeat([]int64{maxLoad + maxLoad/10}, 3)},
	} {
		t.Run(test.name, func(t *testing.T) {
			weight := weights(numbered(3), test.known)
			if got := []int64{weight(0), weight(1), weight(2)}; !slices.Equal(got, test.want) {
				t.Errorf("want %v, got %v", test.want, got)
			}
		})
	}
}

func TestBalance(t *testing.T) {
	for _, test := range []struct {
		name    string
		weights []int64
		holders []holder
		want    map[string][]int32
	}{
		{
			"the first member gets all", slices.Repeat([]int64{1}, 4),
			[]holder{{"a", nil}},
			map[string][]int32{"a": {0, 1, 2, 3}},
		},
		{
			"equal counts at the start", slices.Repeat([]int64{1}, 5),
			[]holder{{"a", nil}, {"b", nil}},
			map[string][]int32{"a": {0, 2, 4}, "b": {1, 3}},
		},
		{
			"a second member gets half", slices.Repeat([]int64{1}, 6),
			[]holder{{"a", []int32{0, 1, 2, 3, 4, 5}}, {"b", nil}},
			map[string][]int32{"a": {3, 4, 5}, "b": {0, 1, 2}},
		},
		{
			"the others get what a member has left", slices.Repeat([]int64{1}, 6),
			[]holder{{"a", []int32{0, 2}}, {"c", []int32{4, 5}}},
			map[string][]int32{"a": {0, 1, 2}, "c": {3, 4, 5}},
		},
		{
			"more members than shards", slices.Repeat([]int64{1}, 2),
			[]holder{{"a", nil}, {"b", []int32{0, 1}}, {"c", nil}},
			map[string][]int32{"a": {0}, "b": {1}, "c": nil},
		},
		{
			"counts that differ by one stay", slices.Repeat([]int64{1}, 5),
			[]holder{{"a", []int32{0, 1}}, {"b", []int32{2, 3, 4}}},
			map[string][]int32{"a": {0, 1}, "b": {2, 3, 4}},
		},
		{
			"a fifth too much stays",
			[]int64{30, 30, 60, 40, 40},
			[]holder{{"a", []int32{0, 1, 2}}, {"b", []int32{3, 4}}},
			map[string][]int32{"a": {0, 1, 2}, "b": {3, 4}},
		},
		{
			"more moves, in as few shards as possible",
			[]int64{5, 5, 20, 30, 80, 30, 30},
			[]holder{{"a", []int32{0, 1, 2, 3, 4}}, {"b", []int32{5, 6}}},
			map[string][]int32{"a": {0, 1, 2, 4}, "b": {3, 5, 6}},
		},
		{
			"a shard that fills a member stays and the others leave it",
			[]int64{100, 10, 10, 10, 10},
			[]holder{{"a", []int32{0, 1, 2}}, {"b", []int32{3, 4}}},
			map[string][]int32{"a": {0}, "b": {1, 2, 3, 4}},
		},
		{
			"a shard that fills a member does not move to an empty one",
			[]int64{100, 1},
			[]holder{{"a", []int32{0}}, {"b", []int32{1}}, {"c", nil}},
			map[string][]int32{"a": {0}, "b": {1}, "c": nil},
		},
		{
			"shards of another topic do not count", slices.Repeat([]int64{1}, 2),
			[]holder{{"a", []int32{7, 8, 9}}, {"b", []int32{0}}},
			map[string][]int32{"a": {1}, "b": {0}},
		},
		{"no shards", nil, []holder{{"a", nil}}, map[string][]int32{"a": nil}},
		{"no members", []int64{1}, nil, map[string][]int32{}},
		{
			"weights of zero",
			[]int64{0, 0},
			[]holder{{"a", []int32{0, 1}}, {"b", nil}},
			map[string][]int32{"a": {1}, "b": {0}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := balance(numbered(len(test.weights)), test.holders, weighing(test.weights))
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// Instances join and leave at random, while loads change a little or much.
func TestBalanceUnderChanges(t *testing.T) {
	const steps = 60
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		shards := 1 + rnd.IntN(128)
		loads := func() []int64 { return slices.Repeat([]int64{1}, shards) }
		switch seed % 3 {
		case 1:
			loads = func() []int64 { return zipf(rnd, shards) }
		case 2:
			loads = func() []int64 { return even(rnd, shards) }
		}
		current, holders, born := loads(), []holder{{"m0", nil}}, 1
		for step := range steps {
			what := fmt.Sprintf("seed %d, step %d, %d members, %d shards", seed, step, len(holders), shards)
			weight := weighing(current)
			planned := balance(numbered(shards), holders, weight)
			mustBeComplete(t, what, shards, holders, planned)
			mustBeFair(t, what, current, planned)
			if again := balance(numbered(shards), holders, weight); !cmp.Equal(planned, again) {
				t.Fatalf("%s: two plans from equal arguments: %v and %v", what, planned, again)
			}
			holders = holding(holders, planned)
			if again := balance(numbered(shards), holders, weight); len(moved(holders, again)) > 0 {
				t.Fatalf("%s: shards %v move although nothing has changed: %v, then %v", what, moved(holders, again), planned, again)
			}
			switch n := rnd.IntN(4); {
			case n == 0 && len(holders) < 12:
				holders = append(holders, holder{fmt.Sprintf("m%d", born), nil})
				born++
				mustMoveToNewOnly(t, what+", one joins", current, holders)
			case n == 1 && len(holders) > 1:
				i := rnd.IntN(len(holders))
				holders = slices.Delete(holders, i, i+1)
				mustMoveLittle(t, what+", one leaves", current, holders)
			case n == 2:
				current = loads()
			}
		}
	}
}

func mustBeComplete(t *testing.T, what string, shards int, holders []holder, planned map[string][]int32) {
	t.Helper()
	if len(planned) != len(holders) {
		t.Fatalf("%s: a plan for %d members", what, len(planned))
	}
	var all []int32
	for _, h := range holders {
		all = append(all, planned[h.id]...)
	}
	if slices.Sort(all); !slices.Equal(all, numbered(shards)) {
		t.Fatalf("%s: not every shard once: %v", what, planned)
	}
}

// mustBeFair checks that counts differ by one at most if all weigh the same. Else nobody carries more than the slack allows, or than one shard
// that no plan can divide.
func mustBeFair(t *testing.T, what string, weights []int64, planned map[string][]int32) {
	t.Helper()
	heaviest, total := slices.Max(weights), int64(0)
	for _, w := range weights {
		total += w
	}
	var loads, counts []int64
	for _, shards := range planned {
		loads = append(loads, loadOf(weights, shards))
		counts = append(counts, int64(len(shards)))
	}
	mean := total / int64(len(planned))
	if slices.Min(weights) == heaviest {
		if slices.Max(counts)-slices.Min(counts) > 1 {
			t.Fatalf("%s: counts differ by more than one: %v", what, planned)
		}
		return
	}
	if limit := mean + mean/slackShare + heaviest; slices.Max(loads) > limit {
		t.Fatalf("%s: a load of %d, but %d is the mean and %d the heaviest shard: %v", what, slices.Max(loads), mean, heaviest, planned)
	}
}

// mustMoveToNewOnly checks that what moves when a member has joined, the last one, goes to it and is its share.
func mustMoveToNewOnly(t *testing.T, what string, weights []int64, holders []holder) {
	t.Helper()
	planned := balance(numbered(len(weights)), holders, weighing(weights))
	joined := planned[holders[len(holders)-1].id]
	if slices.Min(weights) != slices.Max(weights) {
		mean := loadOf(weights, numbered(len(weights))) / int64(len(holders))
		if load := loadOf(weights, moved(holders, planned)); load > loadOf(weights, joined)+mean/2+slices.Max(weights) {
			t.Fatalf("%s: a load of %d moves, with a mean of %d: from %v to %v", what, load, mean, holders, planned)
		}
		return
	}
	if n := len(moved(holders, planned)); n != len(joined) || n > len(weights)/len(holders) {
		t.Fatalf("%s: %d shards move, %d of them to the new one", what, n, len(joined))
	}
}

// mustMoveLittle checks that little moves but the shards of the member that has left, and nothing if all weigh the same.
func mustMoveLittle(t *testing.T, what string, weights []int64, holders []holder) {
	t.Helper()
	planned, limit := balance(numbered(len(weights)), holders, weighing(weights)), int64(0)
	if slices.Min(weights) != slices.Max(weights) {
		limit = loadOf(weights, numbered(len(weights)))/int64(len(holders))/2 + slices.Max(weights)
	}
	if load := loadOf(weights, moved(holders, planned)); load > limit {
		t.Fatalf("%s: a load of %d of others moves, but %d may: from %v to %v", what, load, limit, holders, planned)
	}
}

func numbered(n int) []int32 {
	shards := make([]int32, n)
	for i := range shards {
		shards[i] = int32(i)
	}
	return shards
}

func weighing(weights []int64) func(int32) int64 {
	return func(shard int32) int64 { return weights[shard] }
}

func holding(holders []holder, planned map[string][]int32) []holder {
	var after []holder
	for _, h := range holders {
		after = append(after, holder{h.id, planned[h.id]})
	}
	return after
}

// moved returns the shards that have a holder and get another one.
func moved(holders []holder, planned map[string][]int32) (shards []int32) {
	for _, h := range holders {
		for _, shard := range h.owned {
			if !slices.Contains(planned[h.id], shard) {
				shards = append(shards, shard)
			}
		}
	}
	return shards
}

func loadOf(weights []int64, shards []int32) (load int64) {
	for _, shard := range shards {
		load += weights[shard]
	}
	return load
}

// zipf returns loads of which the k-th largest is 1/k of the largest, in random order.
func zipf(rnd *rand.Rand, shards int) []int64 {
	loads := make([]int64, shards)
	for i, k := range rnd.Perm(shards) {
		loads[i] = int64(100_000_000 / (k + 1))
	}
	return loads
}

func even(rnd *rand.Rand, shards int) []int64 {
	loads := make([]int64, shards)
	for i := range loads {
		loads[i] = 900_000 + rnd.Int64N(200_000)
	}
	return loads
}
