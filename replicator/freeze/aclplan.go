package freeze

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// planACLs plans a freeze by ACLs.
func planACLs(ctx context.Context, client *kgo.Client, o Options, p *Plan) error {
	bindings, err := describeACLs(ctx, client)
	switch {
	case errors.Is(err, kerr.SecurityDisabled):
		p.refuse("authorizer", "cluster %s has no authorizer (authorizer.class.name is empty), so ACLs stop nobody; use --freeze quota, or --freeze none and stop the producers yourself", o.Cluster)
		return nil
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		p.refuse("rights", "the ACLs of cluster %s cannot be read; grant DESCRIBE and ALTER on the cluster to milena's user", o.Cluster)
		return nil
	case err != nil:
		return fmt.Errorf("describe ACLs of cluster %s: %w", o.Cluster, err)
	}
	a := newAccess(bindings, o.Principals)
	p.ok("authorizer", "cluster %s has an authorizer, and %s on topics", o.Cluster, counted(len(bindings), "ACL"))
	if err := planRights(ctx, client, o, p); err != nil {
		return err
	}
	brokers, err := describeBrokers(ctx, client)
	if err != nil {
		return fmt.Errorf("describe configs of the brokers of cluster %s: %w", o.Cluster, err)
	}
	if a.hidden = brokers.everyone; brokers.superUsers {
		p.note("super users of cluster %s pass all ACLs and are not stopped; brokers do not tell who they are (super.users)", o.Cluster)
	}
	if brokers.unreadable {
		p.note("the configs of the brokers of cluster %s cannot be read; DESCRIBE_CONFIGS on the cluster would tell more about its authorizer", o.Cluster)
	}
	if c := brokers.foreignAuthorizer; c != "" {
		p.note("the authorizer of cluster %s is %s, which may allow what ACLs deny", o.Cluster, c)
	}
	if a.rights, err = topicRights(ctx, client, o.Topics); err != nil {
		return fmt.Errorf("read the rights of milena on cluster %s: %w", o.Cluster, err)
	}
	a.plan(o, p)
	return nil
}

// planRights checks that milena may create and delete ACLs.
func planRights(ctx context.Context, client *kgo.Client, o Options, p *Plan) error {
	request := kmsg.NewPtrDescribeClusterRequest()
	request.IncludeClusterAuthorizedOperations = true
	response, err := request.RequestWith(ctx, client)
	if ctx.Err() != nil {
		return err
	}
	switch {
	case err != nil || response.ErrorCode != 0 || response.ClusterAuthorizedOperations == noRights: // before Kafka 2.8
		p.note("it is not known whether milena may change ACLs of cluster %s, which needs ALTER on the cluster", o.Cluster)
	case response.ClusterAuthorizedOperations&(1<<kmsg.ACLOperationAlter) == 0:
		p.refuse("rights", "milena may not change ACLs of cluster %s; grant ALTER on the cluster to milena's user", o.Cluster)
	default:
		p.ok("rights", "milena may change ACLs of cluster %s", o.Cluster)
	}
	return nil
}

// plan decides on the ACLs of each topic.
func (a *access) plan(o Options, p *Plan) {
	super := a.superUser()
	if a.open = a.everyoneAllowed(super); o.Everyone != nil {
		if a.open = no; *o.Everyone {
			a.open = yes
		}
	}
	a.whole = !o.Writes || super == yes
	if !a.whole && len(o.Principals) == 0 {
		p.refuse("principal", "milena writes to the topics of cluster %s while they are frozen, and its principal there is not known; name it, or make it a super user", o.Cluster)
		return
	}
	var all []TopicACLs
	var unclear, wild, mute []string
	for _, topic := range o.Topics {
		rights, known := a.rights[topic]
		switch covered := len(a.covering(topic)) > 0; {
		case o.Writes && known && rights&(1<<kmsg.ACLOperationWrite) == 0:
			mute = append(mute, topic)
		case !covered && a.open == unknown:
			unclear = append(unclear, topic)
		case a.whole:
			all = append(all, a.divide(topic, a.freezeWhole(topic)))
		case slices.Contains(a.writers(topic), everyone):
			wild = append(wild, topic)
		default:
			all = append(all, a.divide(topic, a.freezeExcept(topic)))
		}
	}
	if len(mute) > 0 {
		p.refuse("milena's rights", "milena is to write to %s of cluster %s while they are frozen and may not; grant WRITE to milena's user", named(mute), o.Cluster)
	}
	if len(unclear) > 0 {
		p.refuse("topics without ACL", "no ACL of cluster %s applies to %s. The brokers do not tell whether allow.everyone.if.no.acl.found is true, in which case a first ACL takes READ away from everyone; say which it is, or give these topics the ACLs that they need",
			o.Cluster, named(unclear))
	}
	if len(wild) > 0 {
		p.refuse("topics of everyone", "an ACL of cluster %s allows %s to write to %s, and a DENY for everyone would stop milena too; replace it by ACLs of the producers' principals, make milena a super user, or use --freeze quota",
			o.Cluster, everyone, named(wild))
	}
	if p.Memory.ACLs = merge(all); p.OK() {
		a.describe(o, p)
	}
}

// describe says what the planned ACLs do.
func (a *access) describe(o Options, p *Plan) {
	principals, create, found, opened := map[string]bool{}, 0, 0, 0
	var idle []string
	for _, t := range p.Memory.ACLs {
		create += len(t.Create) * len(t.Topics)
		found += len(t.Found) * len(t.Topics)
		grants := slices.Concat(t.Create, t.Found)
		for _, g := range grants {
			if g.Deny {
				principals[g.Principal] = true
			}
		}
		switch {
		case len(grants) == 0:
			idle = append(idle, t.Topics...)
		case slices.ContainsFunc(grants, func(g Grant) bool { return !g.Deny }):
			opened += len(t.Topics)
		}
	}
	who := "everyone"
	if !a.whole {
		who = "all but " + strings.Join(o.Principals, " and ")
	}
	if denied := slices.Sorted(maps.Keys(principals)); !a.whole && len(denied) > 0 {
		who += " (" + named(denied) + ")"
	}
	p.ok("topics", "WRITE is taken away from %s on %s of cluster %s: %s to create, %d there already", who, counted(len(o.Topics), "topic"), o.Cluster, counted(create, "ACL"), found)
	if len(idle) > 0 {
		p.note("no ACL allows anyone to write to %s, so nothing is changed there", named(idle))
	}
	if opened > 0 {
		p.note("%s without an ACL, so open to everyone (allow.everyone.if.no.acl.found): ACLs that allow everyone everything but WRITE keep readers there", counted(opened, "topic"))
	}
	if !a.whole {
		p.note("a principal that is allowed to write later is not denied; the freeze then holds no longer, which is checked")
	}
}
