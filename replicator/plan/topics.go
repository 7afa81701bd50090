package plan

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/topics"
)

// selectTopics divides the source's topics into copied, skipped and refused ones.
func (c *check) selectTopics() {
	var refused []topics.Refusal
	c.pairs, refused = c.topics.Select(c.source, c.target)
	for _, r := range refused {
		c.refuse("topic %s %s", r.Topic, r.Reason)
	}
	names := slices.Sorted(maps.Keys(c.source.ByName))
	for _, name := range names {
		if _, reason := c.topics.Rules.Target(name); reason != "" && reason != policy.ReasonNameTooLong {
			c.plan.Skipped = append(c.plan.Skipped, Skip{name, reason.Explain()})
		}
	}
	c.plan.Unused = c.topics.Rules.Unused(names)
	for _, collision := range c.topics.Rules.Collisions(names) {
		absent := func(name string) bool { return !c.target.ByName[name].Exists() }
		// Select has already refused topics that share one target name. Names that Kafka treats as the same may coexist if both topics exist.
		if len(collision.Targets) > 1 && slices.ContainsFunc(collision.Targets, absent) {
			c.refuse("%s", collision.Explain())
			for _, name := range collision.Sources {
				c.colliding[name] = true
			}
		}
	}
	c.warnOfFewerReplicas()
	if len(c.pairs) == 0 {
		c.warn("no topic of cluster %s is selected; check topics and topics_exclude, and that milena's user has DESCRIBE and READ on the topics", c.flow.Source)
	}
}

// warnOfFewerReplicas names the copies that have fewer replicas than their source, or would be created with fewer.
func (c *check) warnOfFewerReplicas() {
	type change struct {
		from, to int32
		exists   bool
	}
	topics := make(map[change][]string)
	for _, p := range c.pairs {
		if from, to, fewer := p.Fewer(); fewer {
			key := change{from, to, p.Target.Exists()}
			topics[key] = append(topics[key], p.TargetName)
		}
	}
	order := func(a, b change) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), strings.Compare(topics[a][0], topics[b][0]))
	}
	for _, key := range slices.SortedFunc(maps.Keys(topics), order) {
		does := "would have"
		if key.exists {
			does = "has"
		}
		c.warn("%s of cluster %s, such as %s: its copy %s %s, %d fewer than its source; cluster %s has %s",
			counted(len(topics[key]), "topic"), c.flow.Source, topics[key][0], does, counted(int(key.to), "replica"), key.from-key.to, c.flow.Target, counted(len(c.target.Brokers), "broker"))
	}
}

// validateCreates asks the target's controller whether it would create the missing topics and partitions.
func (c *check) validateCreates(ctx context.Context) {
	wanted := slices.DeleteFunc(slices.Clone(c.pairs), func(p topics.Pair) bool { return c.colliding[p.Source.Name] })
	preview := c.topics.PreviewCreates(ctx, wanted, c.pairs)
	for _, p := range wanted {
		for _, name := range preview.Unknown[p.TargetName] {
			c.warn("topic %s would be created without %s, a config that cluster %s does not know", p.TargetName, name, c.flow.Target)
		}
	}
	for _, l := range preview.LeftOut {
		c.warn("%s", l)
	}
	maps.Copy(c.configs, preview.Configs)
	c.refuseAll(preview.Errors)
}

// compareConfigs compares the configs of the target topics that exist, and asks whether those that differ may be altered.
func (c *check) compareConfigs(ctx context.Context) {
	preview := c.topics.PreviewConfigs(ctx, c.pairs)
	for _, p := range c.pairs {
		limits := preview.Limits[p.TargetName]
		c.compacted[p.TargetName] = limits.Compacted
		if kind := limits.CompressionType; kind != "" && kind != "producer" {
			c.warn("topic %s on cluster %s has compression.type %s: its brokers recompress batches of other codecs; set it to `producer` to avoid that", p.TargetName, c.flow.Target, kind)
		}
		for _, name := range preview.Unknown[p.TargetName] {
			c.warn("config %[2]s is not copied to topic %[1]s: cluster %[3]s does not know it", p.TargetName, name, c.flow.Target)
		}
	}
	maps.Copy(c.configs, preview.Configs)
	c.checkTimestamps(ctx, preview.Limits)
	for _, name := range slices.Sorted(maps.Keys(preview.Errors)) {
		say := c.refuse
		if err := preview.Errors[name]; errors.Is(err, kerr.PolicyViolation) || errors.Is(err, kerr.InvalidConfig) {
			say = c.warn // the topic is copied without the config
		}
		say("%v", preview.Errors[name])
	}
}

// compareACLs finds which ACLs would change. Records are copied without them, so problems are warnings.
func (c *check) compareACLs(ctx context.Context) {
	if !c.flow.ACLs {
		return
	}
	diff, err := topics.NewACLs(c.topics, nil).Compare(ctx, c.source, c.target, nil)
	if err != nil {
		c.warn("%v", err)
		return
	}
	for _, note := range diff.Notes {
		c.warn("%s", note)
	}
	c.plan.ACLs = &ACLs{Create: []string{}, Delete: []string{}, InStep: diff.InStep}
	for _, binding := range diff.Create {
		c.plan.ACLs.Create = append(c.plan.ACLs.Create, binding.String())
		// The operations that milena needs. Only the brokers know whether its user is a super user.
		if binding.Deny && binding.Principal == "User:*" && slices.Contains([]string{"ALL", "WRITE", "READ", "DESCRIBE"}, binding.Operation) {
			c.warn("ACL %s would also deny milena, unless its user is a super user of cluster %s", binding, c.flow.Target)
		}
	}
	for _, binding := range diff.Delete {
		c.plan.ACLs.Delete = append(c.plan.ACLs.Delete, binding.String())
	}
	request := kmsg.NewPtrDescribeClusterRequest()
	request.IncludeClusterAuthorizedOperations = true // KIP-430; KIP-700 since 2.8
	answer, err := c.targetClient.Request(ctx, request)
	if err != nil {
		return // the broker does not support the request; missing rights show when ACLs are created
	}
	rights := answer.(*kmsg.DescribeClusterResponse).ClusterAuthorizedOperations
	if rights != math.MinInt32 && rights&(1<<kmsg.ACLOperationAlter) == 0 {
		c.warn("ACLs on cluster %s cannot be changed: grant ALTER on the cluster to milena's user, or set acls to false", c.flow.Target)
	}
}
