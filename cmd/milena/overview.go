package main

import (
	"maps"
	"slices"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/replicator"
)

// overview is a Status of bounded size, for milena status: thousands of partitions are summed up by topic, and
// only partitions that need attention are listed, up to maxShown.
type overview struct {
	replicator.Status
	PartitionCount int
	TopicCount     int
	AttentionCount int // partitions
	Attention      summary.Entries
	Topics         []summary.Topic
	lossOverview
	// AllIsWell says that nothing about the flow needs attention.
	AllIsWell bool
	// Verified are the partitions whose copies are verified in the background, those first that were not for longest.
	Verified []verifiedRow
	// Hidden counts the partitions and topics that need attention and are not in Attention.
	Hidden int

	stopping bool // the process waits for batches in flight
}

// maxShown bounds each list of an overview.
const maxShown = 200

func newOverview(s replicator.Status) overview {
	o := overview{Status: s, PartitionCount: len(s.Partitions), Attention: summary.Entries{}, Topics: []summary.Topic{}}
	o.sum(s.Partitions, summary.ThrottlesOf(s.Control.InForce))
	o.Partitions = nil
	o.Attention.AddNotCopied(o.NotCopied)
	o.TopicCount = len(o.Topics)
	o.Hidden = o.Attention.Choose(maxShown)
	o.Topics = chooseTopics(o.Topics, maxShown)
	o.Verified = oldestVerified(o.Verified, maxShown)
	o.AllIsWell = o.allIsWell()
	o.lossOverview = newLossOverview(s.RPO, s.RTOObjectiveSeconds, time.Now())
	o.RPO.Topics = nil // there may be many; /status has them
	if s.Groups != nil {
		groups := *s.Groups
		groups.Refusals = groups.Refusals[:min(maxShown, len(groups.Refusals))]
		groups.LagRecords = nil // there may be many groups; /status has it
		groups.NotFollowed = groups.NotFollowed[:min(maxShown, len(groups.NotFollowed))]
		o.Groups = &groups
	}
	return o
}

// allIsWell reports whether nothing about the flow needs attention.
func (o *overview) allIsWell() bool {
	problems := len(o.Certificates) + len(o.Controllers)
	if o.Groups != nil {
		problems += len(o.Groups.Problems)
	}
	if o.Configs != nil {
		problems += len(o.Configs.Problems)
	}
	if o.ACLs != nil {
		problems += len(o.ACLs.Problems)
	}
	return healthy([]replicator.Status{o.Status}) == nil && len(o.Attention)+problems == 0
}

// sum adds the partitions to their topics and collects those that need attention.
func (o *overview) sum(partitions []replicator.PartitionStatus, throttled summary.Throttles) {
	topics := make(map[string]*summary.Topic)
	for _, p := range partitions {
		if p.Verified != nil {
			o.Verified = append(o.Verified, verifiedRow{p.Topic, p.Partition, p.Verified})
		}
		t := topics[p.Topic]
		if t == nil {
			t = &summary.Topic{Topic: p.Topic, TargetTopic: p.TargetTopic}
			topics[p.Topic] = t
		}
		t.Add(p, throttled)
		if why := summary.Attention(p); why != "" {
			t.Attention++
			o.AttentionCount++
			o.Attention.Add(p.Topic, p.Partition, p.State, why)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		o.Topics = append(o.Topics, *topics[name])
	}
}
