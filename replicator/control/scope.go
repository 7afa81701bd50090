package control

import (
	"fmt"
	"strconv"

	"github.com/milena-kafka/milena/offsets"
)

// Kind is the kind of a scope.
type Kind string

// The kinds.
const (
	Flow      Kind = "flow"
	Topic     Kind = "topic"
	Partition Kind = "partition"
	Groups    Kind = "groups" // the sync of all groups
	Group     Kind = "group"
)

// Scope is what a decision is about. Topics and partitions are those of the source.
type Scope struct {
	Kind      Kind   `json:"kind"`
	Topic     string `json:"topic,omitempty"`
	Partition int32  `json:"partition,omitempty"`
	Group     string `json:"group,omitempty"`
}

// OfTopic is the scope of a topic of the source.
func OfTopic(topic string) Scope { return Scope{Kind: Topic, Topic: topic} }

// OfPartition is the scope of a partition of the source.
func OfPartition(tp offsets.TopicPartition) Scope {
	return Scope{Kind: Partition, Topic: tp.Topic, Partition: tp.Partition}
}

// TopicPartition returns the partition of a scope of that kind.
func (s Scope) TopicPartition() offsets.TopicPartition {
	return offsets.TopicPartition{Topic: s.Topic, Partition: s.Partition}
}

// Covers reports whether the scope has a partition.
func (s Scope) Covers(tp offsets.TopicPartition) bool {
	switch s.Kind {
	case Flow:
		return true
	case Topic:
		return s.Topic == tp.Topic
	case Partition:
		return s.TopicPartition() == tp
	case Groups, Group:
	}
	return false
}

// String is a noun phrase, such as topic orders.
func (s Scope) String() string {
	switch s.Kind {
	case Flow:
		return "the flow"
	case Topic:
		return "topic " + s.Topic
	case Partition:
		return fmt.Sprintf("partition %s", s.TopicPartition())
	case Groups:
		return "the group sync"
	case Group:
		return "group " + s.Group
	}
	return string(s.Kind)
}

// key is the scope as a part of a record's key.
func (s Scope) key() string {
	switch s.Kind {
	case Topic:
		return "topic/" + s.Topic
	case Partition:
		return "partition/" + s.Topic + "/" + strconv.Itoa(int(s.Partition))
	case Group:
		return "group/" + s.Group
	case Flow, Groups:
	}
	return string(s.Kind)
}
