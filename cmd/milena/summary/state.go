package summary

import (
	"cmp"
	"slices"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
)

// The states of a topic, as people see them.
const (
	InStep     = "in_step"
	Copying    = "copying"     // a moment behind, as a busy topic is
	CatchingUp = "catching_up" // more than that
	Throttled  = "throttled"   // behind, and somebody limits its rate
	Draining   = "draining"    // milena stops, and waits for batches in flight
	Paused     = "paused"      // by somebody
	Waiting    = "waiting"     // for a cluster, or for milena itself
	Stopped    = "stopped"     // no instance copies it, or somebody stopped the flow
	Differs    = "differs"     // the verification in the background found a difference
	Halted     = "halted"      // by an anomaly; somebody must decide
)

// StateOf is what a partition contributes to the state of its topic, and the note about it.
func StateOf(p replicator.PartitionStatus) (state, note string) {
	switch {
	case p.Anomaly != nil:
		return Halted, p.Anomaly.Kind
	case p.State == "halted":
		return Halted, ""
	case p.Paused != nil && (p.Paused.What == control.StopFlow || p.Paused.What == control.FailOver):
		return Stopped, p.Paused.Who
	case p.State == "paused" && p.Paused != nil:
		return Paused, p.Paused.Who
	case p.State == "paused":
		return Paused, ""
	case p.State != "replicating" && p.Wait != nil:
		return Waiting, string(p.Wait.Reason)
	case p.State != "replicating":
		return Waiting, p.State
	case p.LagRecords == nil:
		return Waiting, "lag unknown"
	case p.Verified.Problem() != "":
		return Differs, ""
	case p.LagSeconds != nil && *p.LagSeconds > AttentionSeconds:
		return CatchingUp, ""
	case *p.LagRecords > 0:
		return Copying, ""
	}
	return InStep, ""
}

// Severity orders the states: what is worse has more. It is -1 of what is no state.
func Severity(state string) int {
	return slices.Index([]string{InStep, Copying, CatchingUp, Throttled, Draining, Paused, Waiting, Differs, Stopped, Halted}, state)
}

// Worse returns the worse of two states.
func Worse(a, b string) string {
	if Severity(a) > Severity(b) {
		return a
	}
	return b
}

// Throttles has who limits the rate of a scope, such as topic orders.
type Throttles map[string]string

// ThrottlesOf finds the throttles among the decisions that hold.
func ThrottlesOf(inForce []replicator.DecisionStatus) Throttles {
	found := make(Throttles)
	for _, d := range inForce {
		if d.What == control.Throttle {
			found[d.Scope] = d.Who
		}
	}
	return found
}

// Of is who limits the rate of a topic, or of the whole flow; empty if nobody does.
func (t Throttles) Of(topic string) string {
	return cmp.Or(t[control.OfTopic(topic).String()], t[control.Scope{Kind: control.Flow}.String()])
}
