package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator"
)

// attentionSeconds is the lag from which a partition is shown by itself. Below it are the ups and downs of a busy flow.
const attentionSeconds = 10

// attention says why a person should look at a partition, or "".
func attention(p replicator.PartitionStatus) string {
	switch {
	case p.Anomaly != nil:
		return fmt.Sprintf("%s: %s; %s", p.Anomaly.Kind, p.Anomaly.Detail, p.Anomaly.Hint)
	case p.State == "waiting":
		return "waits until its shard is taken over"
	case p.State != "replicating":
		return "is " + p.State
	case p.LagSeconds != nil && *p.LagSeconds > attentionSeconds:
		return fmt.Sprintf("is %v behind", (time.Duration(*p.LagSeconds) * time.Second))
	default:
		return ""
	}
}

// overview is a Status in the size of a page: thousands of partitions are summed up by topic, and only those that need
// attention are kept, at most maxShown.
type overview struct {
	replicator.Status
	PartitionCount int              `json:"partition_count"`
	TopicCount     int              `json:"topic_count"`
	AttentionCount int              `json:"attention_count"`
	Attention      []attentionEntry `json:"attention"`
	Topics         []topicOverview  `json:"topics"`
}

type attentionEntry struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	State     string `json:"state"`
	Why       string `json:"why"`
}

type topicOverview struct {
	Topic       string   `json:"topic"`
	TargetTopic string   `json:"target_topic"`
	Partitions  int      `json:"partitions"`
	Acked       int64    `json:"acked"`
	LagRecords  int64    `json:"lag_records"`
	LagSeconds  *float64 `json:"lag_seconds,omitempty"` // of the partition that is farthest behind
	Attention   int      `json:"attention"`
}

const maxShown = 200

func newOverview(s replicator.Status) overview {
	o := overview{Status: s, PartitionCount: len(s.Partitions), Attention: []attentionEntry{}, Topics: []topicOverview{}}
	topics := make(map[string]*topicOverview)
	for _, p := range s.Partitions {
		t := topics[p.Topic]
		if t == nil {
			t = &topicOverview{Topic: p.Topic, TargetTopic: p.TargetTopic}
			topics[p.Topic] = t
		}
		t.Partitions++
		t.Acked += p.Acked
		if p.LagRecords != nil {
			t.LagRecords += *p.LagRecords
		}
		if p.LagSeconds != nil && (t.LagSeconds == nil || *p.LagSeconds > *t.LagSeconds) {
			t.LagSeconds = p.LagSeconds
		}
		why := attention(p)
		if why == "" {
			continue
		}
		t.Attention++
		o.AttentionCount++
		o.Attention = append(o.Attention, attentionEntry{p.Topic, p.Partition, p.State, why})
	}
	o.Partitions = nil
	// Halted ones wait for a person, the others may mend themselves.
	slices.SortStableFunc(o.Attention, func(a, b attentionEntry) int { return cmp.Compare(rank(a), rank(b)) })
	o.Attention = o.Attention[:min(maxShown, len(o.Attention))]
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		o.Topics = append(o.Topics, *topics[name])
	}
	slices.SortStableFunc(o.Topics, func(a, b topicOverview) int {
		return cmp.Or(cmp.Compare(b.Attention, a.Attention), cmp.Compare(b.LagRecords, a.LagRecords))
	})
	if s.Groups != nil && len(s.Groups.Refusals) > maxShown {
		groups := *s.Groups
		groups.Refusals = groups.Refusals[:maxShown]
		o.Groups = &groups
	}
	o.TopicCount = len(o.Topics)
	o.Topics = o.Topics[:min(maxShown, len(o.Topics))]
	// Lag chooses which topics are shown and not their order: rows that move can't be read.
	slices.SortFunc(o.Topics, func(a, b topicOverview) int {
		return cmp.Or(cmp.Compare(b.Attention, a.Attention), cmp.Compare(a.Topic, b.Topic))
	})
	return o
}

func rank(e attentionEntry) int {
	if e.State == "halted" {
		return 0
	}
	return 1
}
