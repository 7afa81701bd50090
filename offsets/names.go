package offsets

import (
	"slices"
	"strings"
)

// HeartbeatsTopic is the name of the heartbeats topic on every cluster, whatever the separator.
const HeartbeatsTopic = "heartbeats"

// Names implements the naming of MirrorMaker 2's DefaultReplicationPolicy: `primary.orders` is the topic orders of
// the cluster with the alias primary, and `dr.primary.orders` was copied from there through dr. The zero value uses
// the separator '.'.
type Names struct {
	// Separator is between alias and topic (replication.policy.separator). Empty means '.'.
	Separator string
	// InternalSeparator is used in the names of MirrorMaker 2's internal topics. Empty means Separator. It is '.' for
	// clusters that started with a version up to 3.0, or with
	// replication.policy.internal.topic.separator.enabled=false (KIP-949).
	InternalSeparator string
}

func (n Names) separator() string {
	if n.Separator == "" {
		return "."
	}
	return n.Separator
}

func (n Names) internal() string {
	if n.InternalSeparator == "" {
		return n.separator()
	}
	return n.InternalSeparator
}

// Checkpoints returns the checkpoints topic of a source's groups, which is on the target.
func (n Names) Checkpoints(source string) string {
	return source + n.internal() + "checkpoints" + n.internal() + "internal"
}

// OffsetSyncs returns the offset-syncs topic. The one with the target's alias is on the source, the one with the
// source's alias on the target (KIP-716).
func (n Names) OffsetSyncs(other string) string {
	return "mm2-offset-syncs" + n.internal() + other + n.internal() + "internal"
}

// CheckpointsOf returns the alias of the source whose checkpoints a topic holds. The ok result is false for all other topics.
func (n Names) CheckpointsOf(topic string) (source string, ok bool) {
	return strings.CutSuffix(topic, n.internal()+"checkpoints"+n.internal()+"internal")
}

// IsCheckpoints reports whether a topic holds checkpoints.
func (n Names) IsCheckpoints(topic string) bool {
	_, ok := n.CheckpointsOf(topic)
	return ok
}

// IsHeartbeats reports whether a topic holds heartbeats, of this cluster or of one that it is copied from.
func (n Names) IsHeartbeats(topic string) bool { return n.Original(topic) == HeartbeatsTopic }

// Split returns the alias of the cluster that a topic was copied from, and its name there. The ok result is false for a topic
// that was not copied. As in MirrorMaker 2, every name with a separator in it counts as copied: only the aliases
// could decide.
func (n Names) Split(topic string) (source, name string, ok bool) {
	source, name, ok = strings.Cut(topic, n.separator())
	if !ok || strings.ReplaceAll(name, n.separator(), "") == "" {
		return "", "", false // Java's split drops empty parts at the end: "a." and "a.." were not copied
	}
	return source, name, true
}

// Source returns the alias of the cluster that a topic was copied from, or "". See [Names.Split].
func (n Names) Source(topic string) string {
	source, _, _ := n.Split(topic)
	return source
}

// Upstream returns the name of a topic on the cluster that it was copied from, or "".
func (n Names) Upstream(topic string) string {
	_, name, _ := n.Split(topic)
	return name
}

// Original returns the name of a topic on the cluster where it was created.
func (n Names) Original(topic string) string {
	for {
		_, name, ok := n.Split(topic)
		if !ok {
			return topic
		}
		topic = name
	}
}

// IsInternal reports whether a topic is an internal topic of Kafka, of MirrorMaker 2 (as of 4.0, KIP-1074) or of
// milena, and so not a topic of users. Heartbeats topics are not internal.
func (n Names) IsInternal(topic string) bool {
	_, journal := FlowOf(topic)
	return journal || strings.HasPrefix(topic, "__") || strings.HasPrefix(topic, ".") || n.IsCheckpoints(topic) ||
		strings.HasPrefix(topic, "mm2") && strings.HasSuffix(topic, n.internal()+"internal")
}

// Sources returns the aliases of the clusters that a topic came through, the nearest first.
func (n Names) Sources(topic string) []string {
	var sources []string
	for {
		source, name, ok := n.Split(topic)
		if !ok || slices.Contains(sources, source) {
			return sources
		}
		sources, topic = append(sources, source), name
	}
}

// Hops returns the number of copies between a topic and the cluster of an alias, -1 if the topic did not come from
// there.
func (n Names) Hops(topic, source string) int {
	i := slices.Index(n.Sources(topic), source)
	if i < 0 {
		return -1
	}
	return i + 1
}
