package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
)

// examineGroups looks at the selected groups of the source: which are not followed, and which use a protocol that the target does not have.
func (d *doctor) examineGroups(ctx context.Context) {
	if !d.flow.GroupsSync && !d.flow.Checkpoints {
		return
	}
	rules, err := policy.NewGroups(d.flow)
	if err != nil {
		return // check refuses it
	}
	s := d.sourceSide()
	groups, err := d.listGroups(ctx)
	if err != nil {
		d.notExamined(s, fmt.Sprintf("which groups cluster %s has", s.alias), "DESCRIBE on the groups", err)
	}
	var next []string // of KIP-848
	for _, g := range groups {
		switch {
		case !rules.Selected(g.Group):
		case !policy.Translatable(g.ProtocolType):
			why, todo, _ := strings.Cut(policy.ExplainProtocol(g.ProtocolType), "; ")
			if todo == "" {
				todo = "leave it out of groups of the flow"
			}
			d.add(Finding{
				ID: GroupNotFollowed, Severity: SeverityNote, Cluster: s.alias,
				Meaning: fmt.Sprintf("Group %s is not followed: it %s.", g.Group, why), Mend: sentence(todo),
			})
		case strings.EqualFold(g.GroupType, "consumer"):
			next = append(next, g.Group)
		}
	}
	if len(next) > 0 && len(d.targetSide().brokers) > 0 && !d.targetSide().knows(kmsg.ConsumerGroupHeartbeat) {
		d.add(Finding{
			ID: GroupProtocol, Severity: SeverityWarning, Cluster: d.flow.Target,
			Meaning: fmt.Sprintf("The protocol of KIP-848 is that of %s of the source, such as %s: the offsets are followed, but cluster %s does not have the protocol, so the consumers cannot join there.",
				counted(len(next), "group"), next[0], d.flow.Target),
			Mend: "Upgrade the cluster to Kafka 4.0 or later, or set group.protocol=classic in the consumers before they fail over.",
		})
	}
}

// listGroups lists the groups of the source with their types, sorted by name. Groups of brokers that do not answer are absent.
func (d *doctor) listGroups(ctx context.Context) (groups []kmsg.ListGroupsResponseGroup, failed error) {
	for _, shard := range d.sourceClient.RequestSharded(ctx, kmsg.NewPtrListGroupsRequest()) {
		err := shard.Err
		if err == nil {
			response := shard.Resp.(*kmsg.ListGroupsResponse)
			err = kerr.ErrorForCode(response.ErrorCode)
			groups = append(groups, response.Groups...)
		}
		if err != nil {
			failed = err
		}
	}
	slices.SortFunc(groups, func(a, b kmsg.ListGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
	return groups, failed
}
