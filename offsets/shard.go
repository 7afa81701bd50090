package offsets

import (
	"fmt"
	"strings"
)

// JournalTopic returns the name of a flow's journal topic, which is on the target. Its partition k belongs to shard
// k.
func JournalTopic(flow string) string { return "milena." + flow + ".journal" }

// FlowOf returns the flow whose journal a topic is. The ok result is false for all other topics.
func FlowOf(topic string) (flow string, ok bool) {
	flow, ok = strings.CutPrefix(topic, "milena.")
	if !ok {
		return "", false
	}
	flow, ok = strings.CutSuffix(flow, ".journal")
	return flow, ok && flow != ""
}

// ShardOf returns the shard, in [0, shards), that owns a partition of a source topic:
//
//	(FNV-1a 32 of the topic's name + partition, as unsigned 32 bits) mod shards
//
// It never changes, because it decides where the journal of a partition is. Therefore the number of shards of a flow
// never changes either. It panics if shards is below 1.
func ShardOf(topic string, partition, shards int32) int32 {
	if shards < 1 {
		panic(fmt.Sprintf("offsets: a flow must have 1 <= shards (%d)", shards))
	}
	const start, prime = 2166136261, 16777619 // inlined, because hash/fnv allocates and every translation computes it
	hash := uint32(start)
	for i := range len(topic) {
		hash = (hash ^ uint32(topic[i])) * prime
	}
	return int32((hash + uint32(partition)) % uint32(shards))
}
