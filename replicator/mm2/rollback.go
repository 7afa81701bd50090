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

// connectPartitions is the default of Connect's offset.storage.partitions.
const connectPartitions = 25

// Rollback holds the connector offsets that MirrorMaker 2 needs to continue a flow that milena has copied.
type Rollback struct {
	Flow string `json:"flow"`
	// Topic is Connect's offsets topic on the target.
	Topic string `json:"topic"`
	// Offsets are those that have to change, sorted by topic and partition.
	Offsets []RollbackOffset `json:"offsets"`
}

// RollbackOffset is the connector offset of one partition. Both offsets are those of the next source record to copy.
type RollbackOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Current is the one that MirrorMaker 2 has, -1 if none; New is the right one.
	Current int64 `json:"was"`
	New     int64 `json:"next"`

	record *kgo.Record
}

// PrepareRollback computes the connector offsets from the flow's journal. It writes nothing. It blocks for a few seconds to see whether the
// flow still runs. An error says what has to be done first: the flow must be stopped cleanly, so that its journal lists every record on the
// target, and MirrorMaker 2 must not run.
func PrepareRollback(ctx context.Context, o client.Clusters) (*Rollback, error) {
	flow := o.Flow
	if flow.MigrateFrom == "" {
		return nil, fmt.Errorf("flow %s: set migrate_from to MirrorMaker 2's offsets topic (mm2-offsets.%s.internal in dedicated mode)", flow.Name, flow.Source)
	}
	target, err := o.OpenTarget()
	if err != nil {
		return nil, err
	}
	defer target.Close()
	switch evidence, err := DedicatedRuns(ctx, target, flow); {
	case err != nil:
		return nil, o.TargetError(err)
	case evidence != "":
		return nil, fmt.Errorf("flow %s: MirrorMaker 2 still runs (%s); stop it first, because it reads its connector offsets only at start", flow.Name, evidence)
	}
	if err := checkFlowStopped(ctx, target, flow); err != nil {
		return nil, err
	}
	states, err := offsets.NewJournal(target, offsets.JournalTopic(flow.Name), offsets.JournalOptions{Log: o.Log}).States(ctx)
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", flow.Name, err)
	}
	if err := checkJournalComplete(ctx, target, flow, states); err != nil {
		return nil, err
	}
	progress, err := offsets.ReadMM2Progress(ctx, target, flow.MigrateFrom, flow.Source, nil, "")
	if err != nil {
		return nil, fmt.Errorf("flow %s: read the connector offsets of MirrorMaker 2: %w", flow.Name, err)
	}
	return newRollback(flow, states, progress), nil
}

// newRollback compares where each copy ends with MirrorMaker 2's connector offsets. It is pure.
func newRollback(flow config.Flow, states []*offsets.PartitionState, progress *offsets.MM2Progress) *Rollback {
	r := &Rollback{Flow: flow.Name, Topic: flow.MigrateFrom, Offsets: []RollbackOffset{}}
	for _, s := range states {
		p := offsets.ConnectorOffset{
			Connector: cmp.Or(progress.Connector, "MirrorSourceConnector"), Source: flow.Source,
			TopicPartition: offsets.TopicPartition{Topic: s.Topic, Partition: s.Partition}, Next: s.End.Source,
		}
		current, ok := progress.ConnectorOffsets[p.TopicPartition]
		if !ok {
			current = -1
		}
		if p.Next == current || p.Next < 1 { // Connect stores the last offset read, so there is no way to write 0
			continue
		}
		r.Offsets = append(r.Offsets, RollbackOffset{s.Topic, s.Partition, current, p.Next, &kgo.Record{Topic: r.Topic, Key: p.Key(), Value: p.Value()}})
	}
	return r
}

// checkFlowStopped returns nil if the flow's journal does not grow for longer than a running flow would leave it alone.
func checkFlowStopped(ctx context.Context, target *kgo.Client, flow config.Flow) error {
	journal := offsets.JournalTopic(flow.Name)
	records := func() (int64, error) {
		listed, err := kadm.NewClient(target).ListEndOffsets(ctx, journal)
		if err == nil {
			err = listed.Error()
		}
		switch {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			return 0, fmt.Errorf("flow %s has no journal on cluster %s: milena has not run it there", flow.Name, flow.Target)
		case err != nil:
			return 0, fmt.Errorf("flow %s: list offsets of its journal %s on cluster %s: %w", flow.Name, journal, flow.Target, err)
		}
		var sum int64
		listed.Each(func(o kadm.ListedOffset) { sum += o.Offset })
		return sum, nil
	}
	before, err := records()
	if err != nil {
		return err
	}
	if err := client.Sleep(ctx, 2*min(flow.JournalInterval, flow.Lease/4)+500*time.Millisecond); err != nil {
		return err
	}
	after, err := records()
	if err == nil && after != before {
		return fmt.Errorf("flow %s still runs: its journal %s grows; stop it first", flow.Name, journal)
	}
	return err
}

// checkJournalComplete compares where the copies end with the journal: after a kill, a copy may have records that were not journaled.
func checkJournalComplete(ctx context.Context, target *kgo.Client, flow config.Flow, states []*offsets.PartitionState) error {
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
	var differ []string
	for _, s := range states {
		if end, ok := ends.Lookup(s.TargetTopic, s.Partition); ok && end.Err == nil && end.Offset != s.End.Target {
			differ = append(differ, fmt.Sprintf("%s-%d ends at %d, but the journal ends at %d", s.TargetTopic, s.Partition, end.Offset, s.End.Target))
		}
	}
	if len(differ) == 0 {
		return nil
	}
	return fmt.Errorf("flow %s: the target has records that the journal does not list (in %d of %d partitions, such as %s); start milena again and stop it with SIGTERM; if that does not help, find the other producer",
		flow.Name, len(differ), len(states), strings.Join(differ[:min(len(differ), 3)], "; "))
}

// Write stores the connector offsets in Connect's offsets topic, which MirrorMaker 2 reads at start. The client's default partitioner is the
// one of the Java client (murmur2), so each offset lands in the partition where Connect would write it. If the topic does not exist, it is
// created as Connect creates it. After an error some offsets may have been written, and Write may be repeated.
func (r *Rollback) Write(ctx context.Context, o client.Clusters) error {
	target, err := o.OpenTarget()
	if err != nil {
		return err
	}
	defer target.Close()
	compact := "compact"
	created, err := kadm.NewClient(target).CreateTopic(ctx, connectPartitions, cmp.Or(o.Flow.ReplicationFactor, -1), map[string]*string{"cleanup.policy": &compact}, r.Topic)
	if err != nil && !errors.Is(created.Err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s on cluster %s: %w", r.Topic, o.Flow.Target, err)
	}
	var records []*kgo.Record
	for _, offset := range r.Offsets {
		records = append(records, offset.record)
	}
	if err := target.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("write connector offsets to topic %s on cluster %s: %w; some may have been written; run rollback again", r.Topic, o.Flow.Target, err)
	}
	return nil
}
