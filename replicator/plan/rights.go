package plan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/topics"
)

// checkJournal checks that the journal can be created, or that it is compacted and has one partition per shard: shards cannot change once it
// exists.
func (c *check) checkJournal(ctx context.Context) {
	journal := topics.Journal(c.flow, c.target)
	if existing := c.target.ByName[journal.Name]; existing.Exists() {
		if len(existing.Partitions) != int(c.flow.Shards) {
			c.refuse("journal topic %s on cluster %s has %d partitions, the config says shards: %d; set shards to %d",
				journal.Name, c.flow.Target, len(existing.Partitions), c.flow.Shards, len(existing.Partitions))
		}
		var wrong *topics.NotCompactedError
		var old *topics.OldFormatError
		switch err := journal.Check(ctx, c.targetClient, c.flow.Target, c.clusters.Target.Brokers); {
		case errors.As(err, &wrong), errors.As(err, &old):
			c.refuse("journal %v", err)
		case err != nil:
			c.warn("it is not known whether the journal is compacted: %v", err)
		}
		return
	}
	left, err := journal.Preview(ctx, c.targetClient, c.flow.Target)
	for _, l := range left {
		c.warn("%s", l)
	}
	if err != nil {
		c.refuse("%v", err)
	}
}

// checkControl checks that people can decide about the flow: that its control topic can be created, or read and written, and that it is compacted.
// Without it the flow copies all the same, so problems are warnings.
func (c *check) checkControl(ctx context.Context) {
	own := control.Own(c.flow.Name, c.flow.ReplicationFactor, len(c.target.Brokers))
	say := func(format string, args ...any) {
		c.warn("the flow runs and cannot be controlled (pause, retry, skip): %s", fmt.Sprintf(format, args...))
	}
	if !c.target.ByName[own.Name].Exists() {
		if _, err := own.Preview(ctx, c.targetClient, c.flow.Target); err != nil {
			say("%v; READ and WRITE are needed too", err)
		}
		return
	}
	c.checkRightsOn(ctx, c.targetClient, c.flow.Target, []string{own.Name}, say, kmsg.ACLOperationRead, kmsg.ACLOperationWrite)
	var wrong *topics.NotCompactedError
	if err := own.Check(ctx, c.targetClient, c.flow.Target, c.clusters.Target.Brokers); errors.As(err, &wrong) {
		c.warn("what people decided is lost after a while: %v", err)
	}
}

// checkRights asks brokers for milena's rights on the topics that exist (KIP-430). Brokers do not tell the rights on topics that do not exist
// yet.
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

// checkInternalTopics checks the internal topics of MirrorMaker 2 that milena writes, as far as they exist. Records are copied without them, so
// problems are warnings.
func (c *check) checkInternalTopics(ctx context.Context) {
	internal := c.internalTopics()
	for _, side := range []struct {
		alias  string
		client *kgo.Client
		view   topics.View
	}{{c.flow.Source, c.sourceClient, c.source}, {c.flow.Target, c.targetClient, c.target}} {
		existing := slices.DeleteFunc(internal[side.alias], func(topic string) bool { return !side.view.ByName[topic].Exists() })
		c.checkRightsOn(ctx, side.client, side.alias, existing, c.warn, kmsg.ACLOperationWrite)
		for _, topic := range existing {
			if n := len(side.view.ByName[topic].Partitions); n != 1 {
				c.warn("topic %s on cluster %s has %d partitions; MirrorMaker 2 and its clients only read the first one", topic, side.alias, n)
			}
		}
	}
}

// internalTopics are the internal topics of MirrorMaker 2 that the flow writes, by the alias of their cluster.
func (c *check) internalTopics() map[string][]string {
	names := c.clusters.InternalTopics()
	internal := map[string][]string{}
	if c.flow.Checkpoints {
		internal[c.flow.Target] = append(internal[c.flow.Target], names.Checkpoints(c.flow.Source))
	}
	if c.flow.Heartbeats {
		internal[c.flow.Source] = append(internal[c.flow.Source], offsets.HeartbeatsTopic)
		internal[c.flow.Target] = append(internal[c.flow.Target], offsets.HeartbeatsTopic)
	}
	switch c.flow.OffsetSyncs {
	case config.OffsetSyncsTarget:
		internal[c.flow.Target] = append(internal[c.flow.Target], names.OffsetSyncs(c.flow.Source))
	case config.OffsetSyncsSource:
		internal[c.flow.Source] = append(internal[c.flow.Source], names.OffsetSyncs(c.flow.Target))
	}
	return internal
}

// rightsPerRequest is the largest number of topics in one request for rights.
const rightsPerRequest = 100

// checkRightsOn reports operations that milena needs on topics and may not perform. It calls say for each.
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
			c.warn("the rights on cluster %s could not be read: %v", alias, err)
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
				continue // the broker does not tell
			}
			for _, operation := range needed {
				if topic.AuthorizedOperations&(1<<operation) == 0 {
					say("topic %s on cluster %s: grant %s to milena's user", *topic.Topic, alias, operation)
				}
			}
		}
	}
}

// checkTransactions looks up the coordinator of a shard's transactional id. That needs DESCRIBE on the id, which WRITE implies. InitProducerId
// would check WRITE itself, but it would fence a running flow.
func (c *check) checkTransactions(ctx context.Context) {
	admin := kadm.NewClient(c.targetClient)
	versions, err := admin.ApiVersions(ctx)
	if err != nil {
		c.warn("the features of cluster %s could not be read: %v", c.flow.Target, err)
		return
	}
	for _, broker := range versions.Sorted() {
		key := kmsg.IncrementalAlterConfigs
		if _, ok := broker.KeyMaxVersion(int16(key)); !ok && broker.Err == nil {
			c.warn("broker %d of cluster %s does not support %s requests (needs Kafka 2.3)", broker.NodeID, c.flow.Target, key.Name())
		}
	}
	transactions := c.transactions(ctx)
	if transactions.weak != "" {
		c.warn("%s", transactions.weak)
	}
	if transactions.refused != nil {
		c.refuse("%v", transactions.refused)
	}
	if transactions.unknown != nil {
		c.warn("it is not known whether cluster %s has transactions: %v", c.flow.Target, transactions.unknown)
	}
	if transactions.pending != nil {
		c.warn("no transaction coordinator on cluster %s yet; this is normal on a new cluster: %v", c.flow.Target, transactions.pending)
	}
}

// transactions are what is known of the target's transactions. What is not so is empty or nil.
type transactions struct {
	refused error  // why nothing can be copied
	weak    string // what works and is weaker than it could be
	pending error  // why there is no coordinator yet
	unknown error  // why it is not known what the brokers support
}

// transactions looks up what the brokers of the target support and the coordinator of a shard's transactional id.
func (c *check) transactions(ctx context.Context) (t transactions) {
	refused, weak, err := topics.CheckFence(ctx, c.targetClient, c.flow)
	t.weak, t.unknown = weak, err
	if refused != "" {
		t.refused = errors.New(refused)
	}
	if refused != "" || c.flow.Fence == config.FenceLease {
		return t
	}
	admin, id := kadm.NewClient(c.targetClient), "milena."+c.flow.Name+".0"
	err = findCoordinator(ctx, func(ctx context.Context) error { return admin.FindTxnCoordinators(ctx, id)[id].Err })
	if errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		t.refused = fmt.Errorf("transactional id %s on cluster %s: grant WRITE on transactional ids with the prefix milena.%s. to milena's user", id, c.flow.Target, c.flow.Name)
	} else if t.refused = topics.ExplainTransactions(ctx, c.targetClient, c.flow.Target, err); t.refused == nil {
		t.pending = err
	}
	return t
}

// coordinatorWait is how long a cluster may take to find a coordinator. The first request creates the topic that the coordinator needs.
const coordinatorWait = 4 * time.Second

// findCoordinator asks for a coordinator until there is one. If there is none in time, it returns the cluster's last answer, not that the next one
// is late: the answer says what to do.
func findCoordinator(ctx context.Context, find func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, coordinatorWait)
	defer cancel()
	var last error
	for attempt := 0; ; attempt++ {
		err := find(ctx)
		if err != nil && ctx.Err() != nil && last != nil {
			return last
		}
		if !errors.Is(err, kerr.CoordinatorNotAvailable) && !errors.Is(err, kerr.NotCoordinator) && !errors.Is(err, kerr.CoordinatorLoadInProgress) {
			return err
		}
		last = err
		if client.Sleep(ctx, client.Backoff(attempt)) != nil {
			return last
		}
	}
}
