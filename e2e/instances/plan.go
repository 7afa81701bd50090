package instances

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/milena-kafka/milena/e2e/proxy"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	Kill           Kind = "kill -9"
	Freeze         Kind = "SIGSTOP"
	CutCoordinator Kind = "cut off the coordinator's broker"
	CutTarget      Kind = "cut off the target"
	CutSource      Kind = "cut off the source"
	Restart        Kind = "planned restart"
	StartOne       Kind = "one more starts and stops"
	StartTwo       Kind = "two more start at once and stop"
	StartAll       Kind = "all stop and start at once"
	KillBroker     Kind = "kill -9 of a target broker"
	RestartBroker  Kind = "planned restart of a target broker"
)

// weights are how often each kind occurs, in percent.
func weights() map[Kind]int {
	return map[Kind]int{
		Kill: 22, Freeze: 15, CutCoordinator: 10, CutTarget: 10, CutSource: 6, Restart: 12, StartOne: 7, StartTwo: 5, StartAll: 4, KillBroker: 5, RestartBroker: 4,
	}
}

// Fault is one fault of a plan. What a kind does not use is zero.
type Fault struct {
	Kind     Kind
	Instance int        // which one it hits
	Broker   int        // id
	Mode     proxy.Mode // of a cut
	// Lasts is how long a process is dead or frozen, or a network is cut.
	Lasts time.Duration
	// Overlap begins the next fault After this one began. Otherwise it begins After this one is over.
	Overlap bool
	After   time.Duration
}

func (f Fault) String() string {
	s := string(f.Kind)
	switch f.Kind {
	case Kill, Freeze, Restart:
		s = fmt.Sprintf("%s of instance %d", f.Kind, f.Instance)
	case CutCoordinator, CutTarget, CutSource:
		s = fmt.Sprintf("instance %d %s (%s)", f.Instance, f.Kind, f.Mode)
	case KillBroker, RestartBroker:
		s = fmt.Sprintf("%s: %d", f.Kind, f.Broker)
	case StartOne, StartTwo, StartAll:
	}
	s += fmt.Sprintf(", for %v", f.Lasts.Round(time.Millisecond))
	if f.Overlap {
		s += fmt.Sprintf(", the next after %v", f.After.Round(time.Millisecond))
	}
	return s
}

// plan is the endless list of the faults of a seed. The first ones are one of each kind.
type plan struct {
	random    *rand.Rand
	instances int
	first     []Kind
}

func newPlan(seed uint64, instances int) *plan {
	p := &plan{random: rand.New(rand.NewPCG(seed, 3)), instances: instances, first: kinds()}
	p.random.Shuffle(len(p.first), func(i, j int) { p.first[i], p.first[j] = p.first[j], p.first[i] })
	return p
}

// kinds are all kinds, sorted.
func kinds() []Kind {
	var list []Kind
	for k := range weights() {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func (p *plan) next() Fault {
	if len(p.first) > 0 {
		k := p.first[0]
		p.first = p.first[1:]
		return p.fault(k)
	}
	all := weights()
	for pick := p.random.IntN(100); ; {
		for _, k := range kinds() {
			if pick -= all[k]; pick < 0 {
				return p.fault(k)
			}
		}
	}
}

func (p *plan) between(least, most time.Duration) time.Duration {
	return least + time.Duration(p.random.Int64N(int64(most-least)))
}

// fault returns a random fault of a kind.
func (p *plan) fault(k Kind) Fault {
	f := Fault{Kind: k, Instance: p.random.IntN(p.instances), Broker: 1 + p.random.IntN(targetBrokers), After: p.between(time.Second, 4*time.Second)}
	modes := []proxy.Mode{proxy.Refuse, proxy.BlackHole, proxy.HalfOpen, proxy.DropResponses, proxy.Cut}
	f.Mode = modes[p.random.IntN(len(modes))]
	switch k {
	case Kill:
		f.Lasts = p.between(0, 10*time.Second)
	case Freeze:
		f.Lasts = p.between(time.Second, 20*time.Second)
	case CutCoordinator, CutTarget, CutSource:
		f.Lasts = p.between(time.Second, 15*time.Second)
	case Restart:
		f.Lasts = p.between(0, time.Second)
	case StartOne, StartTwo:
		f.Lasts = p.between(2*time.Second, 8*time.Second)
	case StartAll, KillBroker, RestartBroker:
		f.Lasts = p.between(0, 3*time.Second)
	}
	if p.random.IntN(4) == 0 {
		f.Overlap, f.After = true, p.between(0, f.Lasts+time.Second)
	}
	return f
}
