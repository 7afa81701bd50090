package replicator

import (
	"fmt"

	"github.com/milena-kafka/milena/replicator/membership"
)

// InstanceStatus is this process among the instances of the flow.
type InstanceStatus struct {
	// ID is the instance id. It is empty with instances: one.
	ID string `json:"id,omitempty"`
	// State is alone (instances: one), joining, claimed (alone in the group, which has not assigned yet), assigned, or standby: assigned nothing.
	State string `json:"state"`
	// Problem is why this instance cannot join the group, empty if it is in it. One that has claimed the shards copies all the same.
	Problem string `json:"problem,omitempty"`
	// Held counts the shards of this instance, and Shards those of the flow.
	Held   int   `json:"held"`
	Shards int32 `json:"shards"`
	// Syncs says that this instance has shard 0, so that it creates and configures topics, translates groups, and writes heartbeats.
	Syncs bool `json:"syncs"`
	// Instances are all members of the group, as it was last described.
	Instances []membership.Instance `json:"instances,omitempty"`
}

func (f *Flow) instanceStatus() InstanceStatus {
	s := InstanceStatus{ID: f.instance.id, State: f.instance.how().String(), Held: len(f.held.all()), Shards: f.config.Shards, Syncs: f.isDoer()}
	if f.instance.isAssigned() && s.Held == 0 {
		s.State = "standby"
	}
	if f.instance.how() == alone {
		s.ID = ""
	}
	if text := f.instance.problem.Load(); text != nil && !f.instance.isAssigned() {
		s.Problem = fmt.Sprintf("not in group %s on cluster %s: %s", f.instance.group, f.config.Target, *text)
	}
	if group := f.instance.seen.Load(); group != nil {
		s.Instances = group.Instances
	}
	return s
}
