package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/control"
)

// The story of a demo besides its load: a group consumes on the source, and a record is too large for the target until somebody raises the limit there.
const (
	demoGroup = "billing"
	// The topic of the group.
	demoConsumed = "payments"
	// The topic with a record that is too large, and its size. The source takes it. The target has Kafka's default limit, because the flow of the demo does
	// not copy max.message.bytes.
	demoUploads   = "uploads"
	demoLarge     = 1500 << 10
	demoLargeMax  = 4 << 20
	demoLargeWhen = 2 * time.Second
	// How long it is halted before the demo repairs it.
	demoHalted = 2 * time.Second
)

// consume consumes a topic of the source as a member of a group, until ctx ends. It commits as consumers do, every second.
func (d *demonstration) consume(ctx context.Context) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(d.source.ListenAddrs()...), kgo.ClientID("milena-demo-consumer"), kgo.ConsumerGroup(demoGroup), kgo.ConsumeTopics(demoConsumed),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(time.Second),
	)
	if err != nil {
		return fmt.Errorf("create the demo's consumer: %w", err)
	}
	defer client.Close() // commits
	for ctx.Err() == nil {
		client.PollFetches(ctx)
	}
	return nil
}

// upload writes the record that is too large and repairs what it halts, unless ctx ends before.
func (d *demonstration) upload(ctx context.Context) error {
	defer close(d.uploaded)
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(demoLargeWhen):
	}
	ctx = context.WithoutCancel(ctx)
	limit := strconv.Itoa(demoLargeMax)
	if _, err := d.load.admin.CreateTopic(ctx, 1, 1, map[string]*string{"max.message.bytes": &limit}, demoUploads); err != nil {
		return fmt.Errorf("create topic %s: %w", demoUploads, err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(d.source.ListenAddrs()...), kgo.ClientID("milena-demo-upload"), kgo.ProducerBatchMaxBytes(demoLargeMax), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return fmt.Errorf("create the demo's uploader: %w", err)
	}
	defer client.Close()
	r := &kgo.Record{Topic: demoUploads, Key: []byte("scan"), Value: make([]byte, demoLarge)}
	if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
		return fmt.Errorf("write a record of %s: %w", size(float64(demoLarge)), err)
	}
	d.load.produced.Add(1)
	return d.repair(ctx)
}

// repair waits until the record halts its partition, leaves it so for a moment, and does what milena status says.
func (d *demonstration) repair(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoDrain)
	defer cancel()
	why := d.halted()
	for ; why == ""; why = d.halted() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s-0 has a record that is too large for the target, and was not halted within %v", demoUploads, demoDrain)
		case <-time.After(50 * time.Millisecond):
		}
	}
	d.p.printf("        %s-0 is halted: %s\n", demoUploads, why)
	select {
	case <-ctx.Done():
	case <-time.After(demoHalted):
	}
	target, err := kgo.NewClient(kgo.SeedBrokers(d.target.ListenAddrs()...), kgo.ClientID("milena-demo-repair"))
	if err != nil {
		return fmt.Errorf("create the demo's admin client: %w", err)
	}
	defer target.Close()
	limit, remote := strconv.Itoa(demoLargeMax), demoSource+"."+demoUploads
	d.p.printf("        repair: kafka-configs.sh --bootstrap-server %s --alter --topic %s --add-config max.message.bytes=%s\n", d.target.ListenAddrs()[0], remote, limit)
	responses, err := kadm.NewClient(target).AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &limit}}, remote)
	if err == nil {
		_, err = responses.On(remote, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		return fmt.Errorf("raise max.message.bytes of %s: %w", remote, err)
	}
	d.p.printf("        repair: milena retry --partition %s-0\n", demoUploads)
	retry := control.New(control.Retry, control.OfPartition(offsets.TopicPartition{Topic: demoUploads}), d.p.whoDecides(), "the target takes larger records now")
	s, err := control.Submit(ctx, d.flow.Clusters(), answerWait, retry)
	if err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	for _, o := range s.Outcomes {
		d.p.printf("        %s: %s\n", o.Result, o.Detail)
	}
	return nil
}

// halted is why the partition with the large record is halted, empty if it is not.
func (d *demonstration) halted() string {
	for _, p := range d.flow.Status().Partitions {
		if p.Topic == demoUploads && p.Anomaly != nil {
			return p.Anomaly.Kind + ": " + p.Anomaly.Detail
		}
	}
	return ""
}

// compareGroup waits until the group stands on the target at the copies of the records at which it stands on the source, and says so.
func (d *demonstration) compareGroup(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoDrain)
	defer cancel()
	source, target := groupSide{d.source.ListenAddrs(), demoConsumed}, groupSide{d.target.ListenAddrs(), demoSource + "." + demoConsumed}
	for {
		want, err := source.next(ctx)
		if err != nil {
			return err
		}
		got, err := target.next(ctx)
		if err != nil {
			return err
		}
		if maps.EqualFunc(want, got, bytes.Equal) {
			if len(want) > 0 {
				d.p.printf("group %s continues on %s with the same record as on %s, in %s of %s.\n", demoGroup, demoTarget, demoSource, count(len(want), "partition"), demoConsumed)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("group %s would continue with other records on %s than on %s", demoGroup, demoTarget, demoSource)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// groupSide is a topic that the group consumes, on one side.
type groupSide struct {
	brokers []string
	topic   string
}

// next returns the values of the records with which the group continues, by partition. A partition at whose end the group stands has none.
func (g *groupSide) next(ctx context.Context) (map[int32][]byte, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(g.brokers...), kgo.ClientID("milena-demo-groups"))
	if err != nil {
		return nil, fmt.Errorf("create the demo's client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	committed, err := admin.FetchOffsets(ctx, demoGroup)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // it has committed nothing yet
		return nil, fmt.Errorf("read the offsets of group %s: %w", demoGroup, err)
	}
	ends, err := admin.ListEndOffsets(ctx, g.topic)
	if err != nil {
		return nil, fmt.Errorf("list the end offsets of %s: %w", g.topic, err)
	}
	found, from := make(map[int32][]byte), make(map[int32]kgo.Offset)
	for partition, o := range committed[g.topic] {
		if end, ok := ends.Lookup(g.topic, partition); ok && o.At >= 0 && o.At < end.Offset {
			from[partition] = kgo.NewOffset().At(o.At)
		} else if o.At >= 0 {
			found[partition] = nil
		}
	}
	if len(from) == 0 {
		return found, nil
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{g.topic: from})
	for len(from) > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read %s where group %s stands: %w", g.topic, demoGroup, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if _, ok := from[r.Partition]; ok {
				found[r.Partition] = r.Value
				delete(from, r.Partition)
			}
		})
	}
	return found, nil
}
