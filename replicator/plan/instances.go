package plan

import (
	"context"
	"errors"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/membership"
	"github.com/milena-kafka/milena/replicator/topics"
)

// checkInstances checks whether this process may join the group of the flow's instances, or whether others do that it must not run beside. On a
// cluster that never had a group, the first request for its coordinator creates the topic that the coordinator needs.
func (c *check) checkInstances(ctx context.Context) {
	name := membership.GroupName(c.flow.Name)
	var group membership.Group
	err := findCoordinator(ctx, func(ctx context.Context) (err error) {
		group, err = membership.Describe(ctx, c.targetClient, name)
		return err
	})
	if cause := topics.ExplainGroups(ctx, c.targetClient, c.flow.Target, err); cause != nil {
		c.explainNoGroups(cause)
		return
	}
	if c.flow.Instances == config.InstancesOne {
		if n := len(group.Instances); err == nil && n > 0 {
			c.refuse("the flow has instances: one, and %s of it run as group %s on cluster %s, such as %s; stop them, or remove instances: one",
				counted(n, "instance"), name, c.flow.Target, group.Instances[0].ID)
		}
		return
	}
	switch {
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		c.refuse("%v; or set instances: one, and run one process", err)
	case err != nil:
		c.warn("it is not known whether this process may join group %s on cluster %s: %v", name, c.flow.Target, err)
	case !c.mayJoin(ctx, name):
		c.refuse("milena may not READ group %s on cluster %s, so it cannot share the flow with other instances; grant READ, or set instances: one, and run one process", name, c.flow.Target)
	}
}

// explainNoGroups says what a flow lacks on a target that can have no groups, for a cause.
func (c *check) explainNoGroups(cause error) {
	switch {
	case c.flow.Instances == config.InstancesOne:
		c.warn("%v; until then no group is moved there", cause)
	case c.flow.Fence == config.FenceLease:
		c.refuse("%v; with fence: lease nothing is copied until then", cause)
	default:
		c.warn("%v; until then no group is moved there, and this process copies without other instances that would replace it", cause)
	}
}

// mayJoin asks the group's coordinator for milena's rights (KIP-430). A broker that does not tell them has no objection.
func (c *check) mayJoin(ctx context.Context, group string) bool {
	request := kmsg.NewPtrDescribeGroupsRequest()
	request.Groups, request.IncludeAuthorizedOperations = []string{group}, true
	response, err := request.RequestWith(ctx, c.targetClient)
	if err != nil || len(response.Groups) != 1 {
		return true
	}
	rights := response.Groups[0].AuthorizedOperations
	return rights == math.MinInt32 || rights == 0 || rights&(1<<kmsg.ACLOperationRead) != 0
}
