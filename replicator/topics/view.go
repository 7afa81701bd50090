package topics

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// View is the metadata of one cluster at one moment.
type View struct {
	// ClusterID is empty on brokers before 0.10.1.
	ClusterID string
	// ByName holds all topics that milena may describe.
	ByName map[string]Topic
	// Brokers holds host:port by broker id.
	Brokers map[int32]string
	// Revision is the same for views that are the same, 0 if that is not known.
	Revision int64
}

// equal reports whether two views say the same.
func (c View) equal(other View) bool {
	return c.ClusterID == other.ClusterID && maps.Equal(c.Brokers, other.Brokers) && maps.EqualFunc(c.ByName, other.ByName, Topic.equal)
}

func (t Topic) equal(other Topic) bool {
	return t.Name == other.Name && t.ID == other.ID && slices.Equal(t.Partitions, other.Partitions)
}

// Is reports whether two views are known to be the same.
func (c View) Is(other View) bool { return c.Revision != 0 && c.Revision == other.Revision }

// Topic is one topic of a cluster. The zero Topic does not exist.
type Topic struct {
	Name string
	// ID is zero where topics have none (KIP-516); see [offsets.IsAnotherTopic].
	ID         [16]byte
	Partitions []Partition // by partition number
}

// Exists reports whether the topic exists.
func (t Topic) Exists() bool { return t.Name != "" }

// Partition is the leadership of one partition.
type Partition struct {
	Leader      int32 // broker id, -1 if there is none at the moment
	LeaderEpoch int32
	Replicas    int32  // number of replicas
	ReplicaSet  uint64 // equal for partitions with the same replicas
	InSync      int32  // number of replicas that are in sync
	Err         error
}

// Has reports whether the topic of a name exists and is, as far as ids are known, the one with this id.
func (c View) Has(name string, id [16]byte) bool {
	topic := c.ByName[name]
	return topic.Exists() && !offsets.IsAnotherTopic(topic.ID, id)
}

// Leader returns the broker id of the leader of a partition, -1 if there is none or the partition is unknown.
func (c View) Leader(tp offsets.TopicPartition) int32 { return c.Partition(tp).Leader }

// Partition returns the leadership of a partition. It has no leader if it is unknown or has an error.
func (c View) Partition(tp offsets.TopicPartition) Partition {
	info, ok := c.ByName[tp.Topic]
	if !ok || int(tp.Partition) >= len(info.Partitions) || info.Partitions[tp.Partition].Err != nil {
		return Partition{Leader: -1, LeaderEpoch: -1}
	}
	return info.Partitions[tp.Partition]
}

// Read returns the metadata of all topics of a cluster, including internal ones. The broker silently omits topics that milena has no right to
// DESCRIBE.
func Read(ctx context.Context, client *kgo.Client) (View, error) {
	return new(Reader).Read(ctx, client)
}

func readTopic(topic *kmsg.MetadataResponseTopic) Topic {
	info := Topic{Name: *topic.Topic, ID: topic.TopicID}
	count := int32(0)
	for _, p := range topic.Partitions {
		count = max(count, p.Partition+1)
	}
	info.Partitions = make([]Partition, count)
	for i := range info.Partitions {
		info.Partitions[i] = Partition{Leader: -1, LeaderEpoch: -1, Err: kerr.LeaderNotAvailable}
	}
	for _, p := range topic.Partitions {
		err := kerr.ErrorForCode(p.ErrorCode)
		if errors.Is(err, kerr.ReplicaNotAvailable) {
			err = nil // only a follower is unavailable
		}
		info.Partitions[p.Partition] = Partition{
			Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Replicas: int32(len(p.Replicas)), ReplicaSet: setOf(p.Replicas), InSync: int32(len(p.ISR)), Err: err,
		}
	}
	return info
}

// setOf returns a number for a set of brokers, whatever their order.
func setOf(brokers []int32) (set uint64) {
	for _, id := range brokers {
		hash := fnv.New64a()
		_, _ = hash.Write(binary.BigEndian.AppendUint32(nil, uint32(id))) // never fails
		set += hash.Sum64()
	}
	return set
}
