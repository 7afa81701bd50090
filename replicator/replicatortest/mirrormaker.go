package replicatortest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
)

// ConnectorOffsetsTopic is where MirrorMaker imitates MirrorMaker 2's connector offsets, on the target.
const ConnectorOffsetsTopic = "mm2-offsets." + SourceAlias + ".internal"

// MirrorMaker imitates a MirrorMaker 2 from Source to Target: it leaves there what that one would leave, step by step as the test says.
type MirrorMaker struct {
	t              testing.TB
	source, target *Cluster
}

// MirrorMaker returns an imitation that has copied nothing yet. Its internal topics are created when they are first written.
func (c *Clusters) MirrorMaker() *MirrorMaker {
	return &MirrorMaker{t: c.t, source: c.Source, target: c.Target}
}

// CreateTopic creates a topic on the source and its remote topic on the target.
func (m *MirrorMaker) CreateTopic(name string, partitions int32) {
	m.t.Helper()
	m.source.CreateTopic(name, partitions)
	m.target.CreateTopic(SourceAlias+"."+name, partitions)
}

// CreateInternalTopics creates the topics of offset-syncs and connector offsets.
func (m *MirrorMaker) CreateInternalTopics() {
	m.t.Helper()
	m.target.CreateTopic(ConnectorOffsetsTopic, 25)
	m.target.CreateTopic(syncsTopic(), 1)
}

// Copy writes copies of the records to a partition of the remote topic, each in a batch of its own, and returns their target offsets.
func (m *MirrorMaker) Copy(topic string, partition int32, records []*kgo.Record) []int64 {
	m.t.Helper()
	var at []int64
	for _, r := range records {
		c := copyOf(r, SourceAlias+"."+topic, partition)
		m.target.Write(c)
		at = append(at, c.Offset)
	}
	return at
}

// SyncOffsets writes an offset-sync.
func (m *MirrorMaker) SyncOffsets(s offsets.OffsetSync) {
	m.t.Helper()
	m.write(syncsTopic(), s.AppendKey(nil), s.AppendValue(nil))
}

// CommitConnectorOffset writes the connector offset of partition 0 of a topic: the source offset of the last record that was acknowledged.
func (m *MirrorMaker) CommitConnectorOffset(topic string, last int64) {
	m.t.Helper()
	p := offsets.ConnectorOffset{Connector: "MirrorSourceConnector", Source: SourceAlias, TopicPartition: offsets.TopicPartition{Topic: topic}, Next: last + 1}
	m.write(ConnectorOffsetsTopic, p.Key(), p.Value())
}

// WriteCheckpoint writes a checkpoint.
func (m *MirrorMaker) WriteCheckpoint(c offsets.Checkpoint) {
	m.t.Helper()
	m.write(offsets.Names{}.Checkpoints(SourceAlias), c.AppendKey(nil), c.AppendValue(nil))
}

func syncsTopic() string { return offsets.Names{}.OffsetSyncs(SourceAlias) }

func (m *MirrorMaker) write(topic string, key, value []byte) {
	m.t.Helper()
	if m.target.TopicInfo(topic) == nil {
		m.target.CreateTopic(topic, 1)
	}
	m.target.Write(&kgo.Record{Topic: topic, Key: key, Value: value})
}
