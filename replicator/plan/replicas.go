package plan

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/topics"
)

// brokerTopics are the topics in which the target's brokers keep what the flow relies on: transactions, and the offsets of groups and instances.
func brokerTopics() []string { return []string{"__transaction_state", "__consumer_offsets"} }

// examineReplicas looks at the leaders and replicas of all topics of the flow on both clusters.
func (d *doctor) examineReplicas(ctx context.Context) {
	for _, s := range d.on {
		names := d.ownTopics(s)
		if s == d.sourceSide() {
			names = append(names, topics.SourceNames(d.pairs)...)
		} else {
			names = append(append(names, brokerTopics()...), topics.TargetNames(d.pairs)...)
		}
		for _, name := range names {
			if topic := s.view.ByName[name]; topic.Exists() {
				d.examineLeaders(s, topic)
			}
		}
	}
	for _, p := range d.pairs {
		if from, to, fewer := p.Fewer(); fewer {
			d.add(Finding{
				ID: FewerReplicas, Severity: SeverityWarning, Cluster: d.flow.Target, Topic: p.TargetName,
				Meaning: fmt.Sprintf("The copy has %s and its source has %d, so it is lost with fewer brokers than its source.", counted(int(to), "replica"), from),
				Mend:    d.moreReplicas(int(from)),
			})
		}
	}
	d.examineOwnReplicas()
	d.examineMinISR(ctx)
}

// moreReplicas says how a topic on the target gets a number of replicas.
func (d *doctor) moreReplicas(wanted int) string {
	if brokers := len(d.target.Brokers); wanted > brokers {
		return fmt.Sprintf("Add brokers to cluster %s, which has %d, then add replicas with kafka-reassign-partitions.sh.", d.flow.Target, brokers)
	}
	return fmt.Sprintf("Add replicas with kafka-reassign-partitions.sh, up to %d; a copy that does not exist yet gets what replication_factor of the flow says.", wanted)
}

// examineLeaders looks for partitions without a leader, and with replicas that are behind.
func (d *doctor) examineLeaders(s *side, topic topics.Topic) {
	var offline, behind []int32
	for n, p := range topic.Partitions {
		switch {
		case p.Err != nil || p.Leader < 0:
			offline = append(offline, int32(n))
		case p.InSync < p.Replicas:
			behind = append(behind, int32(n))
		}
	}
	if len(offline) > 0 {
		d.add(Finding{
			ID: Offline, Severity: SeverityError, Cluster: s.alias, Topic: topic.Name,
			Meaning: fmt.Sprintf("Partitions %s have no leader, so they can neither be read nor written.", list(offline)),
			Mend:    "Start the brokers that have their replicas. This shows which they are:", Command: tool("kafka-topics.sh", s.config, "--describe --topic "+topic.Name),
		})
	}
	if len(behind) > 0 {
		d.add(Finding{
			ID: UnderReplicated, Severity: SeverityWarning, Cluster: s.alias, Topic: topic.Name,
			Meaning: fmt.Sprintf("Partitions %s have replicas that are not in sync, so one broker more that fails may stop them or lose records.", list(behind)),
			Mend:    "Start the brokers that are down, or see why they are behind. This shows which they are:", Command: tool("kafka-topics.sh", s.config, "--describe --topic "+topic.Name),
		})
	}
}

// examineOwnReplicas looks for topics that the flow relies on and that are lost with one broker, although there are more.
func (d *doctor) examineOwnReplicas() {
	s := d.targetSide()
	if len(s.view.Brokers) < 2 {
		return
	}
	for _, name := range append(d.ownTopics(s), brokerTopics()...) {
		if topic := s.view.ByName[name]; topic.Exists() && slices.ContainsFunc(topic.Partitions, func(p topics.Partition) bool { return p.Replicas == 1 }) {
			d.add(Finding{
				ID: SingleReplica, Severity: SeverityWarning, Cluster: s.alias, Topic: name,
				Meaning: fmt.Sprintf("The topic has one replica on a cluster of %d brokers, so the flow stops while its broker is down, and what it holds is lost with the broker.", len(s.view.Brokers)),
				Mend:    fmt.Sprintf("Add replicas with kafka-reassign-partitions.sh, up to %d.", min(3, len(s.view.Brokers))),
			})
		}
	}
}

// examineMinISR compares min.insync.replicas of the topics that milena writes with their replicas.
func (d *doctor) examineMinISR(ctx context.Context) {
	for _, p := range d.pairs {
		if e, ok := d.expected[p.Source.Name]; ok && p.Target.Exists() {
			d.judgeMinISR(d.targetSide(), p.Target, int(e.Limits.MinInSyncReplicas))
		}
	}
	for _, s := range d.on {
		names := d.ownTopics(s)
		described, errs := topics.Describe(ctx, s.client, s.alias, names)
		d.notDescribed(s, errs)
		for _, name := range names {
			d.judgeMinISR(s, s.view.ByName[name], number(described[name], "min.insync.replicas"))
		}
	}
}

// judgeMinISR compares the min.insync.replicas of a topic, 0 if it is not known.
func (d *doctor) judgeMinISR(s *side, topic topics.Topic, least int) {
	if least == 0 || len(topic.Partitions) == 0 {
		return
	}
	fewest, below := topic.Partitions[0].Replicas, []int32{}
	for n, p := range topic.Partitions {
		fewest = min(fewest, p.Replicas)
		if p.Err == nil && p.Leader >= 0 && int(p.InSync) < min(least, int(p.Replicas)) {
			below = append(below, int32(n))
		}
	}
	if len(below) > 0 {
		d.add(Finding{
			ID: BelowMinISR, Severity: SeverityError, Cluster: s.alias, Topic: topic.Name,
			Meaning: fmt.Sprintf("Partitions %s have fewer replicas in sync than min.insync.replicas=%d asks for, so brokers refuse all writes to them.", list(below), least),
			Mend:    "Start the brokers that are down. This shows which they are:", Command: tool("kafka-topics.sh", s.config, "--describe --topic "+topic.Name),
		})
	}
	const mend = "Add replicas with kafka-reassign-partitions.sh, or ask for fewer in sync:"
	command := alterTopic(s.config, topic.Name, "min.insync.replicas", strconv.Itoa(max(1, int(fewest)-1)))
	switch {
	case least > int(fewest):
		d.add(Finding{
			ID: MinISR, Severity: SeverityWarning, Cluster: s.alias, Topic: topic.Name, Mend: mend, Command: command,
			Meaning: fmt.Sprintf("min.insync.replicas=%d is more than the %s of the topic: older brokers refuse all writes to it, newer ones while any replica is not in sync.", least, counted(int(fewest), "replica")),
		})
	case least == int(fewest) && fewest > 1:
		d.add(Finding{
			ID: MinISR, Severity: SeverityWarning, Cluster: s.alias, Topic: topic.Name, Mend: mend, Command: command,
			Meaning: fmt.Sprintf("min.insync.replicas=%d is as many as the replicas of the topic, so writes to it stop while any broker that has one is down.", least),
		})
	}
}

// number returns a config that is a number, 0 if it is not known.
func number(configs []policy.TopicConfig, name string) int {
	for _, c := range configs {
		if c.Name == name {
			n, err := strconv.Atoi(c.Value)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// examineTransactions looks for what keeps the target from having transactions.
func (d *doctor) examineTransactions(ctx context.Context) {
	s := d.targetSide()
	t := d.transactions(ctx)
	f := Finding{ID: TransactionLog, Severity: SeverityError, Cluster: s.alias}
	if t.refused != nil {
		what, todo := halves(t.refused)
		f.Meaning, f.Mend = "Nothing is copied: "+what, todo
		d.add(f)
	}
	if t.weak != "" {
		f.Severity, f.Meaning, f.Mend = SeverityWarning, sentence(t.weak), "Where the target has transactions, remove fence: lease."
		d.add(f)
	}
	for _, err := range []error{t.unknown, t.pending} {
		if err != nil {
			d.notExamined(s, fmt.Sprintf("whether cluster %s has transactions", s.alias), "DESCRIBE on the transactional ids", err)
		}
	}
}
