package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// Plan is what a flow would do if it were started now.
type Plan struct {
	Flow            string `json:"flow"`
	SourceClusterID string `json:"source_cluster_id"`
	TargetClusterID string `json:"target_cluster_id"`
	// Topics are the topics to copy, sorted by source name.
	Topics []Topic `json:"topics"`
	// ACLs are absent when they are not copied.
	ACLs *ACLs `json:"acls,omitempty"`
	// Skipped are the source topics that are not selected or must not be copied.
	Skipped []Skip `json:"skipped"`
	// Migration is a clause about the progress of MirrorMaker 2 that was found; empty if the flow does not migrate.
	Migration string `json:"migration,omitempty"`
	// Refused are sentences about what cannot work until it is fixed. A flow with any of them should not be started.
	Refused []string `json:"refused"`
	// Warnings are sentences about what works, but less well than it could.
	Warnings []string `json:"warnings"`
	// Unused are the items of the flow's lists of topics and groups that select nothing.
	Unused []policy.UnusedItem `json:"unused"`
}

// Topic is one topic to copy.
type Topic struct {
	Source string `json:"source"`
	Target string `json:"target"`
	// Partitions is the number of partitions of the source topic.
	Partitions int `json:"partitions"`
	// Action is create, grow (the target topic lacks partitions) or copy (it is complete).
	Action topics.Action `json:"action"`
	// Configs are the configs that the target topic is created with ("name=value") or that change on it ("name: old -> new").
	Configs []string `json:"configs"`
}

// ACLs are the ACLs on the target that would change, each as a clause.
type ACLs struct {
	Create []string `json:"create"`
	Delete []string `json:"delete"`
	// InStep counts the ACLs that are the same as on the source.
	InStep int `json:"in_step"`
}

// Skip is one source topic that is not copied.
type Skip struct {
	Topic string `json:"topic"`
	// Reason is the end of a sentence that begins with the topic's name.
	Reason string `json:"reason"`
}

// checkTimeout is how long Check waits for one cluster to answer.
const checkTimeout = 15 * time.Second

// check computes the plan of one flow, step by step.
type check struct {
	clusters                   client.Clusters
	flow                       config.Flow
	sourceClient, targetClient *kgo.Client
	topics                     *topics.Syncer
	source, target             topics.View
	pairs                      []topics.Pair
	configs                    map[string][]string // by target topic
	compacted                  map[string]bool     // target topics
	colliding                  map[string]bool     // source topics that are refused because their target names collide
	plan                       *Plan
}

// Check connects to both clusters and computes the plan. An error means that there is none: a cluster does not answer, an option is wrong, or
// both sides are the same cluster. Everything else that cannot work is in [Plan.Refused].
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
	c.checkBrokers(ctx)
	c.checkCertificates(time.Now())
	c.checkTransactions(ctx)
	c.checkMigration(ctx)
	c.checkInstances(ctx)
	c.checkGroups(ctx)
	c.list()
	return c.plan, nil
}

// Inspection is a plan and the metadata that it was computed from.
type Inspection struct {
	Plan           *Plan
	Source, Target topics.View
	Pairs          []topics.Pair
	Compacted      map[string]bool // target topics
}

// Inspect computes a plan like Check, but without the checks of transactions, of a migration and of groups. It leaves no trace on either cluster: looking up
// a transaction coordinator would make brokers create the topic __transaction_state.
func Inspect(ctx context.Context, o client.Clusters, source, target *kgo.Client) (*Inspection, error) {
	c, err := newCheck(ctx, o, source, target)
	if err != nil {
		return nil, err
	}
	c.list()
	return &Inspection{Plan: c.plan, Source: c.source, Target: c.target, Pairs: c.pairs, Compacted: c.compacted}, nil
}

// newCheck runs the checks that leave no trace on either cluster, which are all but those of Check itself. The topics of the plan are not listed yet.
func newCheck(ctx context.Context, o client.Clusters, source, target *kgo.Client) (*check, error) {
	c := &check{
		clusters: o, flow: o.Flow, sourceClient: source, targetClient: target, plan: &Plan{Flow: o.Flow.Name},
		configs: map[string][]string{}, compacted: map[string]bool{}, colliding: map[string]bool{},
	}
	var err error
	if c.topics, err = topics.NewSyncer(source, target, o.Flow, o.Log); err != nil {
		return nil, err
	}
	if _, err := policy.NewAnomalies(o.Flow); err != nil {
		return nil, fmt.Errorf("flow %s: %w", o.Flow.Name, err)
	}
	if err := c.reach(ctx); err != nil {
		return nil, err
	}
	c.selectTopics()
	c.validateCreates(ctx)
	c.compareConfigs(ctx)
	c.compareACLs(ctx)
	c.checkJournal(ctx)
	c.checkControl(ctx)
	c.checkRights(ctx)
	c.checkInternalTopics(ctx)
	return c, nil
}

// reach reads the metadata of both clusters. If both are down, the error names both.
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
		return fmt.Errorf("flow %s: %s and %s are the same cluster (id %s); check the brokers of both",
			c.flow.Name, c.flow.Source, c.flow.Target, c.source.ClusterID)
	}
	c.plan.SourceClusterID, c.plan.TargetClusterID = c.source.ClusterID, c.target.ClusterID
	return nil
}

// list adds the topics to copy to the plan, in the order of their names.
func (c *check) list() {
	for _, p := range c.pairs {
		configs := c.configs[p.TargetName]
		slices.Sort(configs)
		c.plan.Topics = append(c.plan.Topics, Topic{p.Source.Name, p.TargetName, len(p.Source.Partitions), p.Action(), configs})
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

// counted is n with a noun in its singular or plural.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
