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

// MirrorMaker 2's own progress, which a migration continues from. It is in Kafka Connect's offsets topic on the target
// (connector offsets, org.apache.kafka.connect.storage.OffsetStorageWriter, JSON) and in its offset-syncs topic.

// ConnectorOffset is the connector offset of MirrorMaker 2's source connector in one partition. Connect commits it
// every minute by default.
type ConnectorOffset struct {
	// Connector is the source connector's name: MirrorSourceConnector in dedicated mode, otherwise chosen by the user.
	Connector string
	Source    string // alias of the source cluster
	TopicPartition
	// Next is the source offset to continue at: one above that of the last acknowledged record. It is -1 if the
	// connector offset was deleted (a tombstone).
	Next int64
}

// DecodeConnectorOffset decodes a record of Connect's offsets topic. The ok result is false for records of other connectors
// (heartbeats, checkpoints, unrelated ones), which share the topic. The key is matched by its fields, because Java
// writes them in the order of a hash map, and tools in any order. It returns a *[CorruptError] for a connector offset
// that cannot be decoded; the fields of the key are then set.
func DecodeConnectorOffset(key, value []byte) (p ConnectorOffset, ok bool, err error) {
	if p, ok = decodeConnectKey(key); !ok {
		return p, false, nil
	}
	if value == nil || bytes.Equal(value, []byte("null")) {
		return p, true, nil
	}
	var stored struct {
		Offset *int64 `json:"offset"`
	}
	if err := json.Unmarshal(value, &stored); err != nil {
		return p, true, &CorruptError{What: "connector offset of MirrorMaker 2", Reason: err.Error()}
	}
	if stored.Offset == nil || *stored.Offset < 0 || *stored.Offset == math.MaxInt64 {
		return p, true, &CorruptError{What: "connector offset of MirrorMaker 2", Reason: "it has no offset of at least 0"}
	}
	p.Next = *stored.Offset + 1
	return p, true, nil
}

// decodeConnectKey decodes [connector name, {"cluster": ..., "partition": ..., "topic": ...}]. The connector may have
// any name.
func decodeConnectKey(key []byte) (p ConnectorOffset, ok bool) {
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

// Key returns the record's key, byte for byte as Java writes it, because Java looks it up by its bytes. The
// characters that Kafka allows in names need no escapes.
func (p ConnectorOffset) Key() []byte {
	return fmt.Appendf(nil, `["%s",{"cluster":"%s","partition":%d,"topic":"%s"}]`, p.Connector, p.Source, p.Partition, p.Topic)
}

// Value returns the record's value. It panics if Next is below 1, because there is no record before it.
func (p ConnectorOffset) Value() []byte {
	if p.Next < 1 {
		panic(fmt.Sprintf("offsets: connector offset before %d does not exist", p.Next))
	}
	return fmt.Appendf(nil, `{"offset":%d}`, p.Next-1)
}

// MM2Progress is the progress of MirrorMaker 2 for one source, at the time of reading.
type MM2Progress struct {
	// Positions are the source offsets to continue at, by source partition. A partition that was never committed, or
	// was reset, has none.
	ConnectorOffsets map[TopicPartition]int64
	// Connector is the name of the connector that wrote them, empty if there are none.
	Connector string
	// Syncs are offset pairs of single records, exact, in the order in which they were written: the newest ones of
	// each partition.
	OffsetSyncs map[TopicPartition][]Pair
	// Unreadable counts the records that could not be decoded and are left out.
	Unreadable int
}

// Forward translates a source offset with the offset-syncs, as [Client.Forward] does if no journal has the offset: no
// record is skipped, some may be repeated. The ok result is false if no sync is old enough.
func (p *MM2Progress) Forward(tp TopicPartition, source int64) (target int64, ok bool) {
	target, _, ok = translateBySyncs(p.OffsetSyncs[tp], Source, source)
	return target, ok
}

// maxMigrationSyncs is the number of syncs that are kept per partition: the newest ones, where a migration starts.
const maxMigrationSyncs = 1024

// ReadMM2Progress reads two topics to their current ends: positions is Connect's offsets topic on the target,
// syncs the offset-syncs topic on the cluster that has it, which may need another client. An empty syncs is not read.
// A topic that does not exist counts as empty. It blocks for reading them. Only committed records count, because
// MirrorMaker 2 may write connector offsets in transactions (KIP-618).
//
// Of several connector offsets of one partition, the newest wins: within a partition of the topic the later one, and
// between partitions, which happens if writers had different partitioners, the one with the later timestamp.
func ReadMM2Progress(ctx context.Context, target *kgo.Client, positions, source string, syncsAt *kgo.Client, syncs string) (*MM2Progress, error) {
	p := &MM2Progress{ConnectorOffsets: make(map[TopicPartition]int64), OffsetSyncs: make(map[TopicPartition][]Pair)}
	err := p.readConnectorOffsets(ctx, target, positions, source)
	if err != nil || syncs == "" {
		return p, err
	}
	return p, p.readSyncs(ctx, syncsAt, syncs)
}

// readConnectorOffsets reads the newest connector offset of each partition of a source.
func (p *MM2Progress) readConnectorOffsets(ctx context.Context, client *kgo.Client, topic, source string) error {
	type place struct {
		partition int32
		at        time.Time
	}
	newest := make(map[TopicPartition]place)
	return readCommitted(ctx, client, topic, func(r *kgo.Record) {
		at, ok, err := DecodeConnectorOffset(r.Key, r.Value)
		switch {
		case !ok || at.Source != source:
			return
		case err != nil:
			p.Unreadable++
		}
		if n, ok := newest[at.TopicPartition]; ok && n.partition != r.Partition && r.Timestamp.Before(n.at) {
			return
		}
		newest[at.TopicPartition] = place{r.Partition, r.Timestamp}
		p.Connector = at.Connector
		if delete(p.ConnectorOffsets, at.TopicPartition); err == nil && at.Next >= 0 {
			p.ConnectorOffsets[at.TopicPartition] = at.Next
		}
	})
}

// readSyncs reads the newest offset-syncs of each partition.
func (p *MM2Progress) readSyncs(ctx context.Context, client *kgo.Client, topic string) error {
	return readCommitted(ctx, client, topic, func(r *kgo.Record) {
		s, err := DecodeOffsetSync(r.Key, r.Value)
		if err != nil {
			p.Unreadable++
			return
		}
		tp := TopicPartition{s.Topic, s.Partition}
		list := append(p.OffsetSyncs[tp], Pair{Source: s.Source, Target: s.Target})
		if len(list) > 2*maxMigrationSyncs {
			list = append(list[:0], list[len(list)-maxMigrationSyncs:]...)
		}
		p.OffsetSyncs[tp] = list
	})
}

// readCommitted passes all committed records that a topic has now to visit, partition by partition.
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
