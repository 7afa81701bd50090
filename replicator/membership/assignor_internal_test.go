package membership

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const journal = "journal"

func TestInfo(t *testing.T) {
	info := Info{Version: "v1.2.3", Weights: map[int32]int64{10: 5, 2: 7}}
	if got, want := string(info.encode()), `{"v":"v1.2.3","w":{"10":5,"2":7}}`; got != want {
		t.Errorf("want %s, got %s", want, got)
	}
	for _, test := range []struct {
		data string
		want Info
	}{
		{`{"v":"v1.2.3","w":{"2":7,"10":5}}`, info},
		{`{"v":"v2","rack":{"a":[1]}}`, Info{Version: "v2"}},
		{`{"v":"v2","w":"heavy"}`, Info{}},
		{`{"v":"v2","w":{"2":1e99}}`, Info{}},
		{"\x00\x01\x02", Info{}},
		{`null`, Info{}},
		{"", Info{}},
	} {
		if d := cmp.Diff(test.want, decodeInfo([]byte(test.data))); d != "" {
			t.Errorf("%q: %s", test.data, d)
		}
	}
}

// fakeMember is a member of a fakeGroup.
type fakeMember struct {
	id         string
	generation int32 // of its last assignment
	owned      []int32
	info       Info
	userData   []byte // instead of info
}

func (m *fakeMember) joins(t *testing.T) kmsg.JoinGroupResponseMember {
	t.Helper()
	a := newAssignor(func() Info { return m.info })
	var assigned map[string][]int32
	if m.owned != nil {
		assigned = map[string][]int32{journal: slices.Clone(m.owned)}
	}
	data := a.JoinGroupMetadata([]string{journal}, assigned, m.generation)
	if m.userData != nil {
		var meta kmsg.ConsumerMemberMetadata
		if err := meta.ReadFrom(data); err != nil {
			t.Fatal(err)
		}
		meta.UserData = m.userData
		data = meta.AppendTo(nil)
	}
	return kmsg.JoinGroupResponseMember{MemberID: m.id, ProtocolMetadata: data}
}

// rebalance is one round of the group protocol: all members join, the leader plans, and each member gets its assignment.
func rebalance(t *testing.T, leader *assignor, shards int, members ...*fakeMember) (assigned map[string][]int32) {
	t.Helper()
	var joined []kmsg.JoinGroupResponseMember
	for _, m := range members {
		joined = append(joined, m.joins(t))
	}
	b, topics, err := leader.MemberBalancer(joined)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := topics[journal]; !ok || len(topics) != 1 {
		t.Fatalf("the group is of topics %v", topics)
	}
	plan, err := b.(kgo.GroupMemberBalancerOrError).BalanceOrError(map[string]int32{journal: int32(shards)})
	if err != nil {
		t.Fatal(err)
	}
	assigned = make(map[string][]int32)
	for _, a := range plan.IntoSyncAssignment() {
		got, err := leader.ParseSyncAssignment(a.MemberAssignment)
		if err != nil {
			t.Fatal(err)
		}
		assigned[a.MemberID] = got[journal]
	}
	return assigned
}

func TestClaims(t *testing.T) {
	for _, test := range []struct {
		name    string
		members []*fakeMember
		want    map[string][]int32
	}{
		{
			"the newer generation holds the shard",
			[]*fakeMember{{id: "a", generation: 3, owned: []int32{0, 1}}, {id: "b", generation: 4, owned: []int32{1, 2}}, {id: "c", generation: 4, owned: []int32{3, 4}}},
			map[string][]int32{"a": {0, 5}, "b": {1, 2}, "c": {3, 4}},
		},
		{
			"in any order",
			[]*fakeMember{{id: "a", generation: 4, owned: []int32{1, 2}}, {id: "b", generation: 3, owned: []int32{0, 1}}, {id: "c", generation: 4, owned: []int32{3, 4}}},
			map[string][]int32{"a": {1, 2}, "b": {0, 5}, "c": {3, 4}},
		},
		{
			"of equal generations none holds it, and it waits until both have let go", // c would get it, as it has none
			[]*fakeMember{{id: "a", generation: 4, owned: []int32{0, 1, 2}}, {id: "b", generation: 4, owned: []int32{2, 3, 4}}, {id: "c", generation: -1}},
			map[string][]int32{"a": {0, 1}, "b": {3, 4}, "c": {5}},
		},
		{
			"unknown shards of a member with garbage do not matter",
			[]*fakeMember{{id: "a", generation: 1, owned: []int32{0, 0, 1, 99, -1}, userData: []byte("garbage")}},
			map[string][]int32{"a": {0, 1, 2, 3, 4, 5}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if d := cmp.Diff(test.want, rebalance(t, newAssignor(nil), 6, test.members...)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTopicWithoutPartitionsIsAnError(t *testing.T) {
	leader := newAssignor(nil)
	m := &fakeMember{id: "a", owned: []int32{0, 1}}
	b, _, err := leader.MemberBalancer([]kmsg.JoinGroupResponseMember{m.joins(t)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.(kgo.GroupMemberBalancerOrError).BalanceOrError(map[string]int32{})
	if err == nil || !strings.Contains(err.Error(), "topic journal has no partitions") {
		t.Error(err)
	}
}

// A heavy shard goes to the member that the first round has moved it to, although nobody reports its load in the second.
func TestSecondRoundKnowsTheLoads(t *testing.T) {
	leader := newAssignor(nil)
	a := &fakeMember{id: "a", owned: []int32{0, 1, 2, 3}, info: Info{Weights: map[int32]int64{0: 1000 * mib, 1: 1000 * mib, 2: 10 * mib, 3: 10 * mib}}}
	b := &fakeMember{id: "b"}
	got := rebalance(t, leader, 4, a, b)
	if d := cmp.Diff(map[string][]int32{"a": {1, 2, 3}, "b": nil}, got); d != "" {
		t.Fatal(d)
	}
	if d := cmp.Diff(map[int32]int64{0: 1000 * mib}, leader.moving); d != "" {
		t.Fatal(d)
	}
	a.generation, a.owned, a.info = 1, []int32{1, 2, 3}, Info{Weights: map[int32]int64{1: 1000 * mib, 2: 10 * mib, 3: 10 * mib}}
	b.generation = 1
	got = rebalance(t, leader, 4, a, b)
	if d := cmp.Diff(map[string][]int32{"a": {1, 2, 3}, "b": {0}}, got); d != "" {
		t.Fatal(d)
	}
	if len(leader.moving) > 0 {
		t.Fatalf("still moving: %v", leader.moving)
	}
}

// Members join and leave, and loads change, at random. Each change settles within three rounds, no shard ever has two owners, and few shards
// return to the member that gave them up.
func TestRoundsSettle(t *testing.T) {
	const shards = 64
	taken, returned := 0, 0
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		loads := zipf(rnd, shards)
		leader := newAssignor(nil)
		members, born, generation := []*fakeMember{{id: "m0"}}, 1, int32(0)
		for step := range 40 {
			what := fmt.Sprintf("seed %d, step %d, %d members", seed, step, len(members))
			var gaveUp map[int32]string
			for round := 1; ; round++ {
				if round > 3 {
					t.Fatalf("%s: not settled after %d rounds", what, round-1)
				}
				for _, m := range members {
					m.info.Weights = make(map[int32]int64)
					for _, shard := range m.owned {
						m.info.Weights[shard] = loads[shard]
					}
				}
				assigned, revoked := rebalance(t, leader, shards, members...), make(map[int32]string)
				generation++
				for _, m := range members {
					for _, shard := range assigned[m.id] {
						for _, other := range members {
							if other != m && slices.Contains(other.owned, shard) {
								t.Fatalf("%s: shard %d is assigned to %s while %s owns it", what, shard, m.id, other.id)
							}
						}
						if gaveUp[shard] == m.id {
							returned++
						}
					}
				}
				for _, m := range members {
					for _, shard := range m.owned {
						if !slices.Contains(assigned[m.id], shard) {
							revoked[shard] = m.id
							taken++
						}
					}
					m.owned, m.generation = assigned[m.id], generation
				}
				if gaveUp = revoked; len(revoked) == 0 {
					break
				}
			}
			all := make(map[string][]int32)
			var holders []holder
			for _, m := range members {
				all[m.id], holders = m.owned, append(holders, holder{id: m.id})
			}
			mustBeComplete(t, what, shards, holders, all)
			switch n := rnd.IntN(5); {
			case n < 2 && len(members) < 6:
				members = append(members, &fakeMember{id: fmt.Sprintf("m%d", born), generation: -1})
				born++
			case n == 2 && len(members) > 1:
				i := rnd.IntN(len(members))
				members = slices.Delete(members, i, i+1)
			case n == 3:
				loads = zipf(rnd, shards)
			}
		}
	}
	t.Logf("%d shards were taken from a member, %d of them returned to it", taken, returned)
	if returned > taken/50 {
		t.Errorf("of %d shards that moved, %d returned", taken, returned)
	}
}
