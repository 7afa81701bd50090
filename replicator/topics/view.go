package topics

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// View is what one cluster said of itself at one moment.
type View struct {
	// ClusterID is empty on brokers before 0.10.1.
	ClusterID string
	ByName    map[string]Topic
	// Brokers are the addresses by node id.
	Brokers map[int32]string
}

// Topic is one topic of a cluster. The zero Topic is a topic that does not exist.
type Topic struct {
	Name string
	// ID is zero on brokers before 2.8 (KIP-516).
	ID         [16]byte
	Partitions []Partition // the index is the partition's number
}

// Exists says that this is not the zero Topic.
func (t Topic) Exists() bool { return t.Name != "" }

// Partition is where a partition is led.
type Partition struct {
	Leader      int32 // -1: none at the moment
	LeaderEpoch int32
	Err         error
}

// Leader is the broker that leads a partition, -1 when none does or the partition is unknown.
func (c View) Leader(tp offsets.TopicPartition) int32 {
	info, ok := c.ByName[tp.Topic]
	if !ok || int(tp.Partition) >= len(info.Partitions) || info.Partitions[tp.Partition].Err != nil {
		return -1
	}
	return info.Partitions[tp.Partition].Leader
}

// Read asks one cluster for all its topics, internal ones included: one Metadata request. Topics that we have no
// right to DESCRIBE are left out by the broker without a word.
func Read(ctx context.Context, client *kgo.Client) (View, error) {
	request := kmsg.NewPtrMetadataRequest() // no list of topics: all
	answer, err := client.Request(ctx, request)
	if err != nil {
		return View{}, fmt.Errorf("list topics: %w", err)
	}
	response := answer.(*kmsg.MetadataResponse)
	read := View{
		ByName:  make(map[string]Topic, len(response.Topics)),
		Brokers: make(map[int32]string, len(response.Brokers)),
	}
	if response.ClusterID != nil {
		read.ClusterID = *response.ClusterID
	}
	for _, b := range response.Brokers {
		read.Brokers[b.NodeID] = fmt.Sprintf("%s:%d", b.Host, b.Port)
	}
	for i := range response.Topics {
		topic := &response.Topics[i]
		// A topic in deletion is still listed by some brokers, with this code and without partitions.
		if topic.Topic == nil || errors.Is(kerr.ErrorForCode(topic.ErrorCode), kerr.UnknownTopicOrPartition) {
			continue
		}
		read.ByName[*topic.Topic] = readTopic(topic)
	}
	return read, nil
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
			err = nil // a follower is away; the leader is as good as any
		}
		info.Partitions[p.Partition] = Partition{Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Err: err}
	}
	return info
}
