package replicator

import (
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

// ControlStatus is what people decided about a flow, as far as this instance knows.
type ControlStatus struct {
	// Problem is why the flow cannot be controlled, empty if it can. It copies all the same.
	Problem string `json:"problem,omitempty"`
	// InForce are the pauses and throttles that hold.
	InForce []DecisionStatus `json:"in_force,omitempty"`
	// Recovery is a switchover, a failover or the like that has not ended.
	Recovery *control.RecoveryStatus `json:"recovery,omitempty"`
	// Frozen are the clusters whose producers a switchover has stopped, and that may not write yet.
	Frozen []control.Frozen `json:"frozen,omitempty"`
	// Drill is the last drill of the flow, absent if there was none.
	Drill *DrillStatus `json:"drill,omitempty"`
	// Ignored counts the records of the control topic that are no decisions, and LastIgnored has the last few of them.
	Ignored     int               `json:"ignored,omitempty"`
	LastIgnored []control.Ignored `json:"last_ignored,omitempty"`
}

// DecisionStatus is a decision that holds.
type DecisionStatus struct {
	ID    string       `json:"id"`
	What  control.Verb `json:"what"`
	Scope string       `json:"scope"` // such as topic orders
	Who   string       `json:"who"`   // as the one who decided says
	Why   string       `json:"why,omitempty"`
	Since time.Time    `json:"since,omitzero"` // absent if the config says so
	Until time.Time    `json:"until,omitzero"` // when it ends by itself
	// BytesPerSecond is the rate of a throttle.
	BytesPerSecond int64 `json:"bytes_per_second,omitempty"`
}

func statusOf(d *control.Decision) *DecisionStatus {
	if d == nil {
		return nil
	}
	return &DecisionStatus{ID: d.ID, What: d.What, Scope: d.Scope.String(), Who: d.Who, Why: d.Why, Since: d.When, Until: d.Until, BytesPerSecond: d.Rate}
}

// maxInForce bounds the list of a status. Each partition has its own pause too.
const maxInForce = 200

func (c *controls) status(now time.Time) ControlStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ControlStatus{Problem: c.problem, Frozen: c.state.Frozen(), Drill: c.state.Drill()}
	s.Ignored, s.LastIgnored = c.state.Ignored()
	if r := c.state.Recovery(); r != nil && r.IsOpen() {
		s.Recovery = r.Status(now)
	}
	for _, d := range c.state.InForce(now) {
		if len(s.InForce) == maxInForce {
			break
		}
		s.InForce = append(s.InForce, *statusOf(d))
	}
	return s
}

// isControllable reports whether this process can do what people decide.
func (c *controls) isControllable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problem == ""
}

// statePaused is the state of a partition that would be replicated if it was not paused.
const statePaused = "paused"

// stateNameLocked is the state of the partition as people see it. The partition's lock is held.
func (p *partition) stateNameLocked() string {
	if p.pause != nil && p.state == replicating {
		return statePaused
	}
	return p.state.String()
}
