package offsets

import (
	"slices"
	"strings"
)

// HeartbeatsTopic is the topic of heartbeats on every cluster. No separator changes it.
const HeartbeatsTopic = "heartbeats"

// Names are MirrorMaker 2's rules for names, as its DefaultReplicationPolicy has them: `primary.orders` is the topic
// orders of the cluster with the alias primary, `dr.primary.orders` came from there by way of dr.
// The zero Names has the separator '.'.
type Names struct {
	// Separator stands between alias and topic; empty is '.'. Setting replication.policy.separator.
	Separator string
	// InternalSeparator stands in the names of MirrorMaker 2's own topics; empty is as Separator. It is '.' for clusters
	// that began with a version up to 3.0, or with replication.policy.internal.topic.separator.enabled=false (KIP-949).
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

// Checkpoints is the topic of the checkpoints of a source's groups, on the target.
func (n Names) Checkpoints(source string) string {
	return source + n.internal() + "checkpoints" + n.internal() + "internal"
}

// OffsetSyncs is the topic of offset-syncs: with the target's alias it is on the source, with the source's on the target
// (KIP-716).
func (n Names) OffsetSyncs(other string) string {
	return "mm2-offset-syncs" + n.internal() + other + n.internal() + "internal"
}

// CheckpointsOf is the alias of the source whose checkpoints a topic holds; ok is false for every other topic.
func (n Names) CheckpointsOf(topic string) (source string, ok bool) {
	return strings.CutSuffix(topic, n.internal()+"checkpoints"+n.internal()+"internal")
}

// IsCheckpoints says whether a topic holds checkpoints.
func (n Names) IsCheckpoints(topic string) bool {
	_, ok := n.CheckpointsOf(topic)
	return ok
}

// IsHeartbeats says whether a topic holds heartbeats, of this cluster or of one that it is copied from.
func (n Names) IsHeartbeats(topic string) bool { return n.Original(topic) == HeartbeatsTopic }

// Split is the alias of the cluster that a topic was copied from, and its name there; ok is false for a topic that was
// not. As in MirrorMaker 2 every name with a separator in it looks copied: only who knows the aliases knows better.
func (n Names) Split(topic string) (source, name string, ok bool) {
	source, name, ok = strings.Cut(topic, n.separator())
	if !ok || strings.ReplaceAll(name, n.separator(), "") == "" {
		return "", "", false // Java's split leaves out empty parts at the end: "a." and "a.." were not copied
	}
	return source, name, true
}

// Source is the alias of the cluster that a topic was copied from, "" for a topic that was not. See [Names.Split].
func (n Names) Source(topic string) string {
	source, _, _ := n.Split(topic)
	return source
}

// Upstream is the name of a topic on the cluster that it was copied from, "" for a topic that was not.
func (n Names) Upstream(topic string) string {
	_, name, _ := n.Split(topic)
	return name
}

// Original is the name of a topic on the cluster where it began.
func (n Names) Original(topic string) string {
	for {
		_, name, ok := n.Split(topic)
		if !ok {
			return topic
		}
		topic = name
	}
}

// IsInternal says whether a topic is bookkeeping, of Kafka, of MirrorMaker 2 (as of 4.0, KIP-1074) or of milena, and so no
// topic of users. Topics of heartbeats are not internal.
func (n Names) IsInternal(topic string) bool {
	_, journal := FlowOf(topic)
	return journal || strings.HasPrefix(topic, "__") || strings.HasPrefix(topic, ".") || n.IsCheckpoints(topic) ||
		strings.HasPrefix(topic, "mm2") && strings.HasSuffix(topic, n.internal()+"internal")
}

// Sources are the aliases of the clusters that a topic came through, the nearest first.
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

// Hops is how many copies lie between a topic and the cluster of an alias, -1 if it did not come from there.
func (n Names) Hops(topic, source string) int {
	i := slices.Index(n.Sources(topic), source)
	if i < 0 {
		return -1
	}
	return i + 1
}
