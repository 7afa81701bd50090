package faults

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/milena-kafka/milena/e2e/proxy"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	KillMilena    Kind = "kill -9 of milena"
	KillAtBurst   Kind = "kill -9 of milena within 100 ms after a burst"
	StopMilena    Kind = "clean stop of milena"
	FreezeMilena  Kind = "SIGSTOP of milena"
	KillBroker    Kind = "kill -9 of a broker"
	FreezeBroker  Kind = "SIGSTOP of a broker"
	Network       Kind = "network"
	MoveLeaders   Kind = "leader moves"
	DeleteSource  Kind = "records deleted on the source"
	DeleteTarget  Kind = "records deleted on the target"
	RecreateTopic Kind = "topic recreated"
)

// Side is a cluster.
type Side int

// The two clusters.
const (
	Source Side = iota
	Target
)

func (s Side) String() string { return [...]string{"source", "target"}[s] }

// Fault is one fault of a plan. What a kind does not use is zero.
type Fault struct {
	Kind   Kind
	Side   Side
	Broker int        // id
	Mode   proxy.Mode // of a network fault
	// Lasts is how long the fault lasts: how long a process is dead or frozen, or a network is broken.
	Lasts time.Duration
	// Kill is when milena is killed during the fault, counted from its beginning, or from the first record of the burst; never if 0.
	Kill time.Duration
	// After is how long the load runs undisturbed before the next fault.
	After time.Duration
	// Share is which part of the records a deletion affects, 0 to 1.
	Share float64
}

func (f Fault) String() string {
	s := string(f.Kind)
	switch f.Kind {
	case KillBroker, FreezeBroker:
		s = fmt.Sprintf("%s, %s %d", f.Kind, f.Side, f.Broker)
	case Network:
		s = fmt.Sprintf("%s: %s, %s", f.Kind, f.Side, f.Mode)
	case MoveLeaders:
		s = fmt.Sprintf("%s, %s", f.Kind, f.Side)
	case DeleteSource, DeleteTarget:
		s = fmt.Sprintf("%s, %.0f %%", f.Kind, 100*f.Share)
	case KillMilena, KillAtBurst, StopMilena, FreezeMilena, RecreateTopic:
	}
	s += fmt.Sprintf(", for %v", f.Lasts.Round(time.Millisecond))
	if f.Kill > 0 {
		s += fmt.Sprintf(", milena killed after %v", f.Kill.Round(time.Millisecond))
	}
	return s
}

// weights are how often each kind occurs, in percent.
func weights() []struct {
	kind   Kind
	weight int
} {
	return []struct {
		kind   Kind
		weight int
	}{
		{KillMilena, 22},
		{KillAtBurst, 10},
		{StopMilena, 4},
		{FreezeMilena, 6},
		{KillBroker, 8},
		{FreezeBroker, 6},
		{Network, 26},
		{MoveLeaders, 6},
		{DeleteSource, 4},
		{DeleteTarget, 4},
		{RecreateTopic, 4},
	}
}

// Plan returns the n faults of a seed. The first ones are one of each kind, so that a short plan has them all.
func Plan(seed uint64, n int) []Fault {
	r := rand.New(rand.NewPCG(seed, 1))
	kinds := make([]Kind, 0, n)
	for _, w := range weights() {
		kinds = append(kinds, w.kind)
	}
	for len(kinds) < n {
		pick := r.IntN(100)
		for _, w := range weights() {
			if pick -= w.weight; pick < 0 {
				kinds = append(kinds, w.kind)
				break
			}
		}
	}
	kinds = kinds[:n]
	r.Shuffle(n, func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	plan := make([]Fault, 0, n)
	for _, k := range kinds {
		plan = append(plan, newFault(r, k))
	}
	return plan
}

// newFault returns a random fault of a kind.
func newFault(r *rand.Rand, k Kind) Fault {
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(r.Int64N(int64(most-least)))
	}
	f := Fault{Kind: k, Side: Side(r.IntN(2)), Broker: 1 + r.IntN(brokers), After: between(50*time.Millisecond, 900*time.Millisecond)}
	kill := func(one int) { // one in so many faults has a kill in it
		if r.IntN(one) == 0 {
			f.Kill = between(time.Millisecond, f.Lasts)
		}
	}
	switch k {
	case KillMilena:
		f.Lasts = between(0, 400*time.Millisecond)
		if r.IntN(4) == 0 {
			f.After = between(0, 250*time.Millisecond) // the next fault hits it while it starts
		}
	case KillAtBurst:
		f.Lasts = between(0, 3*time.Second) // time for the cleaner
		f.Kill = between(0, 100*time.Millisecond)
	case StopMilena:
		f.Lasts = between(0, time.Second)
	case FreezeMilena:
		f.Lasts = between(200*time.Millisecond, 4*time.Second)
		if r.IntN(4) == 0 {
			f.Lasts += lease
		}
	case KillBroker:
		f.Lasts = between(0, 3*time.Second)
		kill(3)
	case FreezeBroker:
		f.Lasts = between(500*time.Millisecond, 6*time.Second)
		kill(3)
	case Network:
		modes := []proxy.Mode{proxy.Refuse, proxy.BlackHole, proxy.HalfOpen, proxy.Slow, proxy.DropResponses, proxy.Cut}
		f.Mode, f.Lasts = modes[r.IntN(len(modes))], between(100*time.Millisecond, 4*time.Second)
		kill(4)
	case MoveLeaders:
		f.Lasts = between(0, time.Second)
		kill(3)
	case DeleteSource, DeleteTarget:
		f.Lasts, f.Share = between(0, time.Second), r.Float64()
		if r.IntN(2) == 0 {
			f.Share = 1
		}
		f.Kill = 1 // it is dead while the records are deleted, so that the tail which was not journaled is among them
		if r.IntN(3) == 0 {
			f.Kill = 0
		}
	case RecreateTopic:
		f.Lasts = between(0, 2*time.Second)
		kill(3)
	}
	return f
}
