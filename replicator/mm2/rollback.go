package mm2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// Rollback is where MirrorMaker 2 has to go on when it takes a flow over from milena.
type Rollback struct {
	Flow string `json:"flow"`
	// Topic is Connect's offsets topic on the target.
	Topic string `json:"topic"`
	// Positions are sorted by topic and partition.
	Offsets []RollbackOffset `json:"positions"`
}

// RollbackOffset is one partition.
type RollbackOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Was is the source offset that MirrorMaker 2 would go on at by its own notes, -1 if it has none; Next is the right one.
	Was  int64 `json:"was"`
	Next int64 `json:"next"`

	record *kgo.Record
}

// PrepareRollback works out the positions and changes nothing. It takes a few seconds, as it looks whether the flow still runs. An error
// says what must be done first: stop the flow cleanly, so that its journal knows of everything that it wrote, and MirrorMaker 2 as well.
func PrepareRollback(ctx context.Context, o client.Clusters) (*Rollback, error) {
	if o.Flow.TakeOver == "" {
		return nil, fmt.Errorf("flow %s: name the topic of MirrorMaker 2's positions as take_over, which is mm2-offsets.%s.internal in its dedicated mode", o.Flow.Name, o.Flow.Source)
	}
	target, err := o.OpenTarget()
	if err != nil {
		return nil, err
	}
	defer target.Close()
	if sign, err := DedicatedRuns(ctx, target, o.Flow); err != nil || sign != "" {
		if err == nil {
			return nil, fmt.Errorf("flow %s: MirrorMaker 2 runs: %s; stop it first, as it reads its positions when it starts", o.Flow.Name, sign)
		}
		return nil, o.TargetError(err)
	}
	if err := flowStands(ctx, target, o.Flow); err != nil {
		return nil, err
	}
	states, err := offsets.NewJournal(target, offsets.JournalTopic(o.Flow.Name), offsets.JournalOptions{Log: o.Log}).States(ctx)
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", o.Flow.Name, err)
	}
	if err := stoppedCleanly(ctx, target, o.Flow, states); err != nil {
		return nil, err
	}
	progress, err := offsets.ReadMirrorProgress(ctx, target, o.Flow.TakeOver, o.Flow.Source, nil, "")
	if err != nil {
		return nil, fmt.Errorf("flow %s: read what MirrorMaker 2 noted: %w", o.Flow.Name, err)
	}
	h := &Rollback{Flow: o.Flow.Name, Topic: o.Flow.TakeOver, Offsets: []RollbackOffset{}}
	for _, s := range states {
		p := offsets.ConnectPosition{
			Connector: cmp.Or(progress.Connector, "MirrorSourceConnector"), Source: o.Flow.Source,
			TopicPartition: offsets.TopicPartition{Topic: s.Topic, Partition: s.Partition}, Next: s.End.Source,
		}
		was, ok := progress.Positions[p.TopicPartition]
		if !ok {
			was = -1
		}
		if p.Next == was || p.Next < 1 {
			continue
		}
		h.Offsets = append(h.Offsets, RollbackOffset{s.Topic, s.Partition, was, p.Next, &kgo.Record{Topic: h.Topic, Key: p.Key(), Value: p.Value()}})
	}
	return h, nil
}

// flowStands returns nil if nothing is written to the flow's journal for longer than a running flow would leave it alone.
func flowStands(ctx context.Context, target *kgo.Client, flow config.Flow) error {
	journal := offsets.JournalTopic(flow.Name)
	ends := func() (int64, error) {
		listed, err := kadm.NewClient(target).ListEndOffsets(ctx, journal)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return 0, fmt.Errorf("flow %s: list offsets of its journal %s on cluster %s: %w", flow.Name, journal, flow.Target, err)
		}
		var sum int64
		listed.Each(func(o kadm.ListedOffset) { sum += o.Offset })
		return sum, nil
	}
	before, err := ends()
	if err != nil {
		return err
	}
	if err := client.Sleep(ctx, 2*min(flow.JournalInterval, flow.Lease/4)+500*time.Millisecond); err != nil {
		return err
	}
	after, err := ends()
	if err == nil && after != before {
		return fmt.Errorf("flow %s still runs: its journal %s grows; stop it first", flow.Name, journal)
	}
	return err
}

// stoppedCleanly holds the journal against the copies: after a kill a copy may go on behind what the journal knows.
func stoppedCleanly(ctx context.Context, target *kgo.Client, flow config.Flow, states []*offsets.PartitionState) error {
	var topics []string
	for _, s := range states {
		topics = append(topics, s.TargetTopic)
	}
	slices.Sort(topics)
	ends, err := kadm.NewClient(target).ListEndOffsets(ctx, slices.Compact(topics)...)
	var shards *kadm.ShardErrors
	if err != nil && !errors.As(err, &shards) {
		return fmt.Errorf("flow %s: list offsets on cluster %s: %w", flow.Name, flow.Target, err)
	}
	var wrong []string
	for _, s := range states {
		if end, ok := ends.Lookup(s.TargetTopic, s.Partition); ok && end.Err == nil && end.Offset != s.End.Target {
			wrong = append(wrong, fmt.Sprintf("%s-%d ends at %d, and at %d by the journal", s.TargetTopic, s.Partition, end.Offset, s.End.Target))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("flow %s: copies hold more than the journal knows of (%d, such as %s): start milena once more and stop it with SIGTERM, or find out who else writes there",
			flow.Name, len(wrong), strings.Join(wrong[:min(len(wrong), 3)], "; "))
	}
	return nil
}

// Write notes the positions where MirrorMaker 2 looks for them when it starts, by Kafka's own partitioner (murmur2), as Java does. The topic is made, as
// Connect makes it, if it is not there.
func (h *Rollback) Write(ctx context.Context, o client.Clusters) error {
	target, err := o.OpenTarget()
	if err != nil {
		return err
	}
	defer target.Close()
	compact := "compact"
	made, err := kadm.NewClient(target).CreateTopic(ctx, connectPartitions, cmp.Or(o.Flow.ReplicationFactor, -1), map[string]*string{"cleanup.policy": &compact}, h.Topic)
	if err != nil && !errors.Is(made.Err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s on cluster %s: %w", h.Topic, o.Flow.Target, err)
	}
	var records []*kgo.Record
	for _, p := range h.Offsets {
		records = append(records, p.record)
	}
	if err := target.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("write positions to topic %s on cluster %s: %w; some may be written: do it again", h.Topic, o.Flow.Target, err)
	}
	return nil
}

// connectPartitions is offset.storage.partitions of Connect.
const connectPartitions = 25
