package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// Plan is what a flow would do if it were started now.
type Plan struct {
	Flow            string `json:"flow"`
	SourceClusterID string `json:"source_cluster_id"`
	TargetClusterID string `json:"target_cluster_id"`
	// Topics are those that are copied, sorted by source name.
	Topics []Topic `json:"topics"`
	// ACLs are absent when they are not copied.
	ACLs *ACLs `json:"acls,omitempty"`
	// Skipped are the source topics that the flow does not ask for or must not copy.
	Skipped []Skip `json:"skipped"`
	// TakeOver says what a MirrorMaker 2 has left to go on with; empty when the flow takes nothing over.
	TakeOver string `json:"take_over,omitempty"`
	// Refused are sentences about what cannot work until a person changes something. A flow with any should not be started.
	Refused []string `json:"refused"`
	// Warnings are sentences about what works less well than it might.
	Warnings []string `json:"warnings"`
}

// Topic is one topic that is copied.
type Topic struct {
	Source string `json:"source"`
	Target string `json:"target"`
	// Partitions is the source topic's count.
	Partitions int `json:"partitions"`
	// Action is create, grow (the target topic lacks partitions) or copy (it is there).
	Action string `json:"action"`
	// Configs are those that the target topic is created with ("name=value") or that change on it ("name: old -> new").
	Configs []string `json:"configs"`
}

// ACLs are the ACLs of the target that would change, each as a clause.
type ACLs struct {
	Create []string `json:"create"`
	Delete []string `json:"delete"`
	// InStep is how many are as on the source.
	InStep int `json:"in_step"`
}

// Skip is one source topic that is not copied.
type Skip struct {
	Topic string `json:"topic"`
	// Reason is the end of a sentence that begins with the topic's name.
	Reason string `json:"reason"`
}

// checkTimeout bounds how long Check waits for one cluster to be reached.
const checkTimeout = 15 * time.Second

// check collects the plan of one flow.
type check struct {
	clusters                   client.Clusters
	flow                       config.Flow
	sourceClient, targetClient *kgo.Client
	topics                     *topics.Syncer
	source, target             topics.View
	pairs                      []topics.Pair
	configs                    map[string][]string // by target name
	compacted                  map[string]bool     // target topics
	colliding                  map[string]bool     // source topics that are refused as a group
	plan                       *Plan
}

// Check reaches both clusters and works out what the flow would do, asking brokers to validate without acting: it changes
// nothing and fences nobody, so it may run beside the flow itself. An error means that there is no plan: a cluster that
// cannot be reached, bad options, or one cluster on both sides. Everything else that cannot work is in Plan.Refused.
func Check(ctx context.Context, o client.Clusters) (*Plan, error) {
	source, target, err := o.Open()
	if err != nil {
		return nil, err
	}
	defer source.Close()
	defer target.Close()
	c, err := newCheck(ctx, o, source, target)
	if err != nil {
		return nil, err
	}
	c.checkTransactions(ctx)
	c.checkTakeOver(ctx)
	c.list()
	return c.plan, nil
}

// Inspection is a plan with what it was made from.
type Inspection struct {
	Plan           *Plan
	Source, Target topics.View
	Pairs          []topics.Pair
	Compacted      map[string]bool // target topics
}

// Inspect makes a plan like Check, but asks nothing that leaves a trace: the question for a transaction coordinator makes brokers create
// the topic __transaction_state. The plan says nothing about transactions or a migration.
func Inspect(ctx context.Context, o client.Clusters, source, target *kgo.Client) (*Inspection, error) {
	c, err := newCheck(ctx, o, source, target)
	if err != nil {
		return nil, err
	}
	c.list()
	return &Inspection{Plan: c.plan, Source: c.source, Target: c.target, Pairs: c.pairs, Compacted: c.compacted}, nil
}

// newCheck finds out all of the plan that is asked for without a trace: the question for a transaction coordinator is not, as it makes
// brokers create the topic __transaction_state. What is copied is yet to be listed.
func newCheck(ctx context.Context, o client.Clusters, source, target *kgo.Client) (*check, error) {
	c := &check{
		clusters: o, flow: o.Flow, sourceClient: source, targetClient: target, plan: &Plan{Flow: o.Flow.Name},
		configs: map[string][]string{}, compacted: map[string]bool{}, colliding: map[string]bool{},
	}
	var err error
	if c.topics, err = topics.NewSyncer(source, target, o.Flow, o.Log); err != nil {
		return nil, err
	}
	if _, err := policy.NewAnomalies(o.Flow.Anomalies); err != nil {
		return nil, fmt.Errorf("flow %s: %w", o.Flow.Name, err)
	}
	if err := c.reach(ctx); err != nil {
		return nil, err
	}
	c.choose()
	c.validateCreates(ctx)
	c.compareConfigs(ctx)
	c.compareACLs(ctx)
	c.checkJournal(ctx)
	c.checkRights(ctx)
	c.checkBookkeeping(ctx)
	return c, nil
}

// reach reads both clusters, so that two that are down are both in the error.
func (c *check) reach(ctx context.Context) error {
	read := func(cl *kgo.Client) (topics.View, error) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		return topics.Read(ctx, cl)
	}
	var sourceErr, targetErr error
	c.source, sourceErr = read(c.sourceClient)
	c.target, targetErr = read(c.targetClient)
	if err := errors.Join(c.clusters.SourceError(sourceErr), c.clusters.TargetError(targetErr)); err != nil {
		return err
	}
	if c.source.ClusterID != "" && c.source.ClusterID == c.target.ClusterID {
		return fmt.Errorf("flow %s: %s and %s are the same cluster (id %s); a flow needs two: check the brokers of both clusters",
			c.flow.Name, c.flow.Source, c.flow.Target, c.source.ClusterID)
	}
	c.plan.SourceClusterID, c.plan.TargetClusterID = c.source.ClusterID, c.target.ClusterID
	return nil
}

// choose sorts the source's topics into copied, skipped and refused.
func (c *check) choose() {
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
	for _, collision := range c.topics.Rules.Collisions(names) {
		absent := func(name string) bool { return !c.target.ByName[name].Exists() }
		// Of one name, pair has refused them already; beside each other they may stand if they do already.
		if len(collision.Targets) > 1 && slices.ContainsFunc(collision.Targets, absent) {
			c.refuse("%s", collision.Explain())
			for _, name := range collision.Sources {
				c.colliding[name] = true
			}
		}
	}
	if len(c.pairs) == 0 {
		c.warn("no topic of cluster %s is selected; check topics, topics_exclude, and that milena's user may DESCRIBE and READ the topics", c.flow.Source)
	}
}

// validateCreates asks the target's controller whether it would create and grow what is missing.
func (c *check) validateCreates(ctx context.Context) {
	wanted := slices.DeleteFunc(slices.Clone(c.pairs), func(p topics.Pair) bool { return c.colliding[p.Source.Name] })
	preview := c.topics.PreviewCreates(ctx, wanted, c.pairs)
	for _, p := range wanted {
		for _, name := range preview.Unknown[p.TargetName] {
			c.warn("topic %s is created without %s, which cluster %s does not know", p.TargetName, name, c.flow.Target)
		}
	}
	maps.Copy(c.configs, preview.Configs)
	c.refuseAll(preview.Errors)
}

// compareConfigs finds what differs on the target topics that exist, and asks whether it may be altered.
func (c *check) compareConfigs(ctx context.Context) {
	preview := c.topics.PreviewConfigs(ctx, c.pairs)
	for _, p := range c.pairs {
		limits := preview.Limits[p.TargetName]
		c.compacted[p.TargetName] = limits.Compacted
		if kind := limits.CompressionType; kind != "" && kind != "producer" {
			c.warn("topic %s on cluster %s has compression.type %s: its brokers decompress and rebuild batches of another codec; `producer` spares them that", p.TargetName, c.flow.Target, kind)
		}
		for _, name := range preview.Unknown[p.TargetName] {
			c.warn("topic %s does not get %s, which cluster %s does not know", p.TargetName, name, c.flow.Target)
		}
	}
	maps.Copy(c.configs, preview.Configs)
	c.refuseAll(preview.Errors)
}

// compareACLs finds which ACLs would change. Copying goes on without them, so what is missing is a warning.
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
		// milena's own operations; who its user is, only brokers know.
		if binding.Deny && binding.Principal == "User:*" && slices.Contains([]string{"ALL", "WRITE", "READ", "DESCRIBE"}, binding.Operation) {
			c.warn("%s comes along with the ACLs, and stops milena too, unless its user is a super user of cluster %s", binding, c.flow.Target)
		}
	}
	for _, binding := range diff.Delete {
		c.plan.ACLs.Delete = append(c.plan.ACLs.Delete, binding.String())
	}
	request := kmsg.NewPtrDescribeClusterRequest()
	request.IncludeClusterAuthorizedOperations = true // KIP-430; KIP-700 since 2.8
	answer, err := c.targetClient.Request(ctx, request)
	if err != nil {
		return // a broker that does not know this request: the rights show when ACLs are created
	}
	rights := answer.(*kmsg.DescribeClusterResponse).ClusterAuthorizedOperations
	if rights != math.MinInt32 && rights&(1<<kmsg.ACLOperationAlter) == 0 {
		c.warn("ACLs on cluster %s cannot be changed: grant ALTER on the cluster to milena's user, or turn acls off", c.flow.Target)
	}
}

// checkJournal: its partitions are the flow's shards for ever.
func (c *check) checkJournal(ctx context.Context) {
	name := offsets.JournalTopic(c.flow.Name)
	if journal := c.target.ByName[name]; journal.Exists() {
		if len(journal.Partitions) != int(c.flow.Shards) {
			c.refuse("journal topic %s on cluster %s has %d partitions, the config says shards: %d; set shards to %d",
				name, c.flow.Target, len(journal.Partitions), c.flow.Shards, len(journal.Partitions))
		}
		return
	}
	c.refuseAll(c.topics.PreviewCreate(ctx, name, c.flow.Shards, cmp.Or(c.flow.ReplicationFactor, -1)).Errors)
}

// checkRights asks brokers what this user may do with the topics that exist (KIP-430). Rights on topics that are yet to
// be created cannot be asked for.
func (c *check) checkRights(ctx context.Context) {
	sources := topics.SourceNames(c.pairs)
	var targets []string
	for _, p := range c.pairs {
		if p.Target.Exists() {
			targets = append(targets, p.TargetName)
		}
	}
	if journal := offsets.JournalTopic(c.flow.Name); c.target.ByName[journal].Exists() {
		targets = append(targets, journal)
	}
	c.checkRightsOn(ctx, c.sourceClient, c.flow.Source, sources, c.refuse, kmsg.ACLOperationRead)
	c.checkRightsOn(ctx, c.targetClient, c.flow.Target, targets, c.refuse, kmsg.ACLOperationRead, kmsg.ACLOperationWrite)
}

// checkBookkeeping looks at MirrorMaker 2's topics, as far as they exist. Copying goes on without them, so what is missing is a warning.
func (c *check) checkBookkeeping(ctx context.Context) {
	names := c.clusters.InternalTopics()
	books := map[string][]string{c.flow.Target: {names.Checkpoints(c.flow.Source)}}
	if c.flow.HeartbeatsInterval > 0 {
		books[c.flow.Source] = append(books[c.flow.Source], offsets.HeartbeatsTopic)
		books[c.flow.Target] = append(books[c.flow.Target], offsets.HeartbeatsTopic)
	}
	switch c.flow.OffsetSyncs {
	case config.OffsetSyncsTarget:
		books[c.flow.Target] = append(books[c.flow.Target], names.OffsetSyncs(c.flow.Source))
	case config.OffsetSyncsSource:
		books[c.flow.Source] = append(books[c.flow.Source], names.OffsetSyncs(c.flow.Target))
	}
	for _, side := range []struct {
		alias  string
		client *kgo.Client
		view   topics.View
	}{{c.flow.Source, c.sourceClient, c.source}, {c.flow.Target, c.targetClient, c.target}} {
		there := slices.DeleteFunc(books[side.alias], func(topic string) bool { return !side.view.ByName[topic].Exists() })
		c.checkRightsOn(ctx, side.client, side.alias, there, c.warn, kmsg.ACLOperationWrite)
		for _, topic := range there {
			if n := len(side.view.ByName[topic].Partitions); n != 1 {
				c.warn("topic %s on cluster %s has %d partitions; MirrorMaker 2 and its clients read the first one only", topic, side.alias, n)
			}
		}
	}
}

// rightsPerRequest bounds the topics of one question for rights.
const rightsPerRequest = 100

func (c *check) checkRightsOn(ctx context.Context, client *kgo.Client, alias string, names []string, say func(string, ...any), needed ...kmsg.ACLOperation) {
	for part := range slices.Chunk(names, rightsPerRequest) {
		request := kmsg.NewPtrMetadataRequest()
		request.IncludeTopicAuthorizedOperations = true
		for _, name := range part {
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = kmsg.StringPtr(name)
			request.Topics = append(request.Topics, topic)
		}
		answer, err := client.Request(ctx, request)
		if err != nil {
			c.warn("rights on cluster %s are not known: %v", alias, err)
			return
		}
		for _, topic := range answer.(*kmsg.MetadataResponse).Topics {
			switch {
			case topic.Topic == nil:
				continue
			case topic.ErrorCode != 0:
				say("%v", topics.AdminError(alias, "check the rights on", *topic.Topic, kerr.ErrorForCode(topic.ErrorCode), nil))
				continue
			case topic.AuthorizedOperations == math.MinInt32:
				continue // the broker does not say
			}
			for _, operation := range needed {
				if topic.AuthorizedOperations&(1<<operation) == 0 {
					say("topic %s on cluster %s: grant %s to milena's user", *topic.Topic, alias, operation)
				}
			}
		}
	}
}

// checkTransactions asks for the coordinator of a shard's transactional id, which needs DESCRIBE on it, as WRITE implies.
// InitProducerId would be the whole question, but it would fence a flow that runs.
func (c *check) checkTransactions(ctx context.Context) {
	admin := kadm.NewClient(c.targetClient)
	versions, err := admin.ApiVersions(ctx)
	if err != nil {
		c.warn("features of cluster %s are not known: %v", c.flow.Target, err)
		return
	}
	for _, broker := range versions.Sorted() {
		for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn, kmsg.IncrementalAlterConfigs} {
			if _, ok := broker.KeyMaxVersion(int16(key)); !ok && broker.Err == nil {
				c.warn("broker %d of cluster %s does not know %s requests (Kafka 2.3 does)", broker.NodeID, c.flow.Target, key.Name())
			}
		}
	}
	id := "milena." + c.flow.Name + ".0"
	response := admin.FindTxnCoordinators(ctx, id)[id]
	switch {
	case errors.Is(response.Err, kerr.TransactionalIDAuthorizationFailed):
		c.refuse("transactional id %s on cluster %s: grant WRITE on transactional ids with the prefix milena.%s. to milena's user", id, c.flow.Target, c.flow.Name)
	case response.Err != nil:
		c.warn("no transaction coordinator on cluster %s yet, as on a cluster that is new: %v", c.flow.Target, response.Err)
	}
}

// list writes the copied topics down, in the order of their names.
func (c *check) list() {
	for _, p := range c.pairs {
		configs := c.configs[p.TargetName]
		slices.Sort(configs)
		c.plan.Topics = append(c.plan.Topics, Topic{p.Source.Name, p.TargetName, len(p.Source.Partitions), string(p.Action()), configs})
	}
}

func (c *check) refuse(format string, args ...any) {
	c.plan.Refused = append(c.plan.Refused, fmt.Sprintf(format, args...))
}

func (c *check) refuseAll(errs map[string]error) {
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		c.refuse("%v", errs[name])
	}
}

func (c *check) warn(format string, args ...any) {
	c.plan.Warnings = append(c.plan.Warnings, fmt.Sprintf(format, args...))
}
