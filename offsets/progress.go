package offsets

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// MirrorMaker 2's own progress: what a process that goes on in its place has to know. It keeps positions in Kafka Connect's offsets topic
// on the target (org.apache.kafka.connect.storage.OffsetStorageWriter, JSON), and syncs in its offset-syncs topic.

// TopicPartition is a partition of a source topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is topic-partition, as Kafka's own tools write it.
func (tp TopicPartition) String() string { return fmt.Sprintf("%s-%d", tp.Topic, tp.Partition) }

// ConnectPosition is how far MirrorMaker 2's source connector had got in one partition when it last noted it, which it does each minute.
type ConnectPosition struct {
	// Connector is the source connector's name: MirrorSourceConnector in the dedicated mode, the user's elsewhere.
	Connector string
	Source    string // alias of the cluster that is read
	TopicPartition
	// Next is the source offset to go on at: one above that of the last record that the target had acknowledged. -1 if the position was
	// taken back (a tombstone).
	Next int64
}

// DecodeConnectPosition reads a record of Connect's offsets topic; ok is false for those of other connectors (heartbeats, checkpoints,
// strangers), which share the topic. The key is matched by its fields: Java writes them in the order of a hash map, tools in any. It returns
// a *[CorruptError] for a source position that cannot be read, with what its key says.
func DecodeConnectPosition(key, value []byte) (p ConnectPosition, ok bool, err error) {
	if p, ok = decodeConnectKey(key); !ok {
		return p, false, nil
	}
	if value == nil || bytes.Equal(value, []byte("null")) {
		return p, true, nil
	}
	var position struct {
		Offset *int64 `json:"offset"`
	}
	if err := json.Unmarshal(value, &position); err != nil {
		return p, true, &CorruptError{What: "position of MirrorMaker 2", Reason: err.Error()}
	}
	if position.Offset == nil || *position.Offset < 0 || *position.Offset == math.MaxInt64 {
		return p, true, &CorruptError{What: "position of MirrorMaker 2", Reason: "no offset of at least 0 in it"}
	}
	p.Next = *position.Offset + 1
	return p, true, nil
}

// decodeConnectKey reads [connector name, {"cluster": ..., "partition": ..., "topic": ...}]. The name is whatever the connector is called.
func decodeConnectKey(key []byte) (p ConnectPosition, ok bool) {
	var parts []json.RawMessage
	var where struct {
		Cluster   *string `json:"cluster"`
		Topic     *string `json:"topic"`
		Partition *int32  `json:"partition"`
	}
	if json.Unmarshal(key, &parts) != nil || len(parts) != 2 || json.Unmarshal(parts[0], &p.Connector) != nil || json.Unmarshal(parts[1], &where) != nil {
		return p, false
	}
	if where.Cluster == nil || where.Topic == nil || where.Partition == nil || *where.Partition < 0 {
		return p, false
	}
	p.Source, p.TopicPartition, p.Next = *where.Cluster, TopicPartition{*where.Topic, *where.Partition}, -1
	return p, true
}

// Key is the record's key, byte for byte as Java writes it, because Java finds it by its bytes. The fields of names that Kafka allows need
// no escapes.
func (p ConnectPosition) Key() []byte {
	return fmt.Appendf(nil, `["%s",{"cluster":"%s","partition":%d,"topic":"%s"}]`, p.Connector, p.Source, p.Partition, p.Topic)
}

// Value is the record's value. It panics for a position that has no offset before it.
func (p ConnectPosition) Value() []byte {
	if p.Next < 1 {
		panic(fmt.Sprintf("offsets: position %d has no value", p.Next))
	}
	return fmt.Appendf(nil, `{"offset":%d}`, p.Next-1)
}

// MirrorProgress is what MirrorMaker 2 left behind of one source's flow.
type MirrorProgress struct {
	// Positions by source partition: the offset to go on at. A partition without one was never noted, or was reset.
	Positions map[TopicPartition]int64
	// Connector is the name of the connector that noted them, empty if there are none.
	Connector string
	// Syncs are exact pairs of offsets of one record, in the order in which they were written, the newest of each partition.
	Syncs map[TopicPartition][]Position
	// Unreadable counts records that are left out because nothing can be made of them.
	Unreadable int
}

// maxProgressSyncs is how many syncs are kept of one partition: the newest ones, which a take-over begins at.
const maxProgressSyncs = 1024

// ReadMirrorProgress reads both topics to the end that they have now: positions is Connect's offsets topic on the target, syncs the
// offset-syncs topic on the cluster that has it, which may be another client's. A topic that does not exist is an empty one. It blocks for
// reading them; only committed records count, as MirrorMaker 2 may write its positions in transactions (KIP-618).
//
// Of several positions of one partition the newest wins: within a partition of the topic the later one, and between partitions, when writers
// with different partitioners have left their own, the one with the later time.
func ReadMirrorProgress(ctx context.Context, target *kgo.Client, positions, source string, syncsAt *kgo.Client, syncs string) (*MirrorProgress, error) {
	p := &MirrorProgress{Positions: make(map[TopicPartition]int64), Syncs: make(map[TopicPartition][]Position)}
	type note struct {
		in int32
		at time.Time
	}
	noted := make(map[TopicPartition]note)
	err := readCommitted(ctx, target, positions, func(r *kgo.Record) {
		at, ok, err := DecodeConnectPosition(r.Key, r.Value)
		switch {
		case !ok || at.Source != source:
			return
		case err != nil:
			p.Unreadable++
		}
		if n, ok := noted[at.TopicPartition]; ok && n.in != r.Partition && r.Timestamp.Before(n.at) {
			return
		}
		noted[at.TopicPartition] = note{r.Partition, r.Timestamp}
		p.Connector = at.Connector
		if delete(p.Positions, at.TopicPartition); err == nil && at.Next >= 0 {
			p.Positions[at.TopicPartition] = at.Next
		}
	})
	if err != nil || syncs == "" {
		return p, err
	}
	err = readCommitted(ctx, syncsAt, syncs, func(r *kgo.Record) {
		s, err := DecodeOffsetSync(r.Key, r.Value)
		if err != nil {
			p.Unreadable++
			return
		}
		tp := TopicPartition{s.Topic, s.Partition}
		list := append(p.Syncs[tp], Position{Source: s.Source, Target: s.Target})
		if len(list) > 2*maxProgressSyncs {
			list = append(list[:0], list[len(list)-maxProgressSyncs:]...)
		}
		p.Syncs[tp] = list
	})
	return p, err
}

// readCommitted gives every committed record that a topic holds now to visit, partition by partition.
func readCommitted(ctx context.Context, client *kgo.Client, topic string, visit func(*kgo.Record)) error {
	topicLeaders := &topicLeaders{client: client, topic: topic}
	var count int
	err := topicLeaders.retry(ctx, "list partitions of", func(l *leaders) error {
		count = len(l.nodes)
		return nil
	})
	if isUnknownTopic(err) {
		return nil
	}
	for partition := int32(0); err == nil && partition < int32(count); partition++ {
		err = readCommittedPartition(ctx, topicLeaders, partition, visit)
	}
	return err
}

func readCommittedPartition(ctx context.Context, leaders *topicLeaders, partition int32, visit func(*kgo.Record)) error {
	log := logReader{topicLeaders: leaders, partition: partition, committed: true}
	start, err := log.offset(ctx, logStart)
	if err != nil {
		return err
	}
	end, err := log.offset(ctx, logEnd)
	if err != nil {
		return err
	}
	return log.read(ctx, start, end, fetchBytes, func(records []*kgo.Record, _ int64) error {
		for _, r := range records {
			visit(r)
		}
		return nil
	})
}
