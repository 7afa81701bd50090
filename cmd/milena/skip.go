package main

import (
	"context"
	"fmt"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
)

const skipHelp = `milena skip lets one halted partition continue behind what halted it: what the action skip of its
anomaly does, once. With --to or --records it leaves out source offsets instead, of a partition that is
halted or paused. It prints first what is left out. The gap ledger keeps it, with who and why.

Examples:
  milena skip -c milena.yaml --partition orders-3 --reason "expected gap" --dry-run
  milena skip -c milena.yaml --partition orders-3 --reason "expected gap"
  milena skip -c milena.yaml --partition orders-3 --records 1 --reason "poisoned record"
  milena skip -c milena.yaml --partition orders-3 --to 1200 --reason "test data"
`

func (p *program) skip(ctx context.Context, args []string) error {
	c := p.controlFlags("skip", skipHelp)
	partition := c.flags.String("partition", "", "the `PARTITION` of the source, such as orders-3")
	to := c.flags.Int64("to", 0, "leave out everything below this source `OFFSET`")
	records := c.flags.Int64("records", 0, "leave out this `NUMBER` of source offsets")
	clusters, err := c.parse(p, args, 0)
	switch {
	case err != nil:
		return err
	case *partition == "":
		return wrong(c.flags, "needs --partition, such as orders-3")
	case c.flags.Changed("to") && c.flags.Changed("records"):
		return wrong(c.flags, "--to and --records cannot be combined")
	case c.flags.Changed("records") && *records < 1:
		return wrong(c.flags, "--records must be at least 1")
	}
	tp, err := parsePartition(c.flags, *partition)
	if err != nil {
		return err
	}
	if err := c.needReason(); err != nil {
		return err
	}
	at, err := c.readPartition(ctx, clusters, tp)
	if err != nil {
		return err
	}
	d := p.decide(c, control.Skip, control.OfPartition(tp))
	if c.flags.Changed("to") || c.flags.Changed("records") {
		if at.Journaled == nil {
			return fmt.Errorf("skip: nothing of %s is copied yet; skip it without --to and --records", tp)
		}
		from, end := *at.Journaled, *to
		if c.flags.Changed("records") {
			end = from + *records
		}
		if d.From, d.To = &from, &end; end <= from {
			return fmt.Errorf("skip: %s is copied up to offset %d already", tp, from)
		}
		if at.SourceEnd == nil || end > *at.SourceEnd {
			return fmt.Errorf("skip: offset %d is beyond the end of %s on cluster %s, which is %s; nothing is left out before it is there", end, tp, clusters.Flow.Source, optional(at.SourceEnd))
		}
	}
	if d.To == nil {
		d.Halt = haltOf(at)
	}
	if !c.json {
		p.printLeftOut(clusters, tp, at, &d)
	}
	return p.submit(ctx, c, clusters, []control.Decision{d})
}

// haltOf is the anomaly that a skip is about, nil if the journal does not tell: it does not have that the source has the partition no more.
func haltOf(at *fleet.Partition) *control.Halt {
	h := at.Halted
	if h == nil || at.SourceEnd == nil || h.From < 0 {
		return nil
	}
	return &control.Halt{Kind: h.Kind, From: h.From, To: max(h.From, h.To)}
}

// printLeftOut prints what a decision to skip leaves out.
func (p *program) printLeftOut(clusters client.Clusters, tp offsets.TopicPartition, at *fleet.Partition, d *control.Decision) {
	if h := at.Halted; h != nil {
		p.printf("%s is halted: %s: %s\n", tp, h.Kind, h.Detail)
	}
	switch {
	case d.To != nil:
		p.printf("left out: source offsets %d to %d of %s on cluster %s (%s)\n", *d.From, *d.To-1, tp, clusters.Flow.Source, count(*d.To-*d.From, "offset"))
	case at.Halted != nil && at.Halted.To > at.Halted.From:
		p.printf("left out: source offsets %d to %d of %s on cluster %s, as anomalies.%s: skip does\n", at.Halted.From, at.Halted.To-1, tp, clusters.Flow.Source, at.Halted.Kind)
	case at.Halted != nil:
		p.printf("continues as with anomalies.%s: skip\n", at.Halted.Kind)
	default:
		p.printf("%s is not halted, as far as the journal says\n", tp)
	}
}

// readPartition reads what the journal says of a partition.
func (c *controlFlags) readPartition(ctx context.Context, clusters client.Clusters, tp offsets.TopicPartition) (*fleet.Partition, error) {
	list, err := c.readTopic(ctx, clusters, tp.Topic)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Partition == tp.Partition && (list[i].Journaled != nil || list[i].Halted != nil) {
			return &list[i], nil
		}
	}
	return nil, fmt.Errorf("%s: flow %s does not copy %s, or its journal does not list it yet; see milena status", c.flags.Name(), clusters.Flow.Name, tp)
}

// readTopic reads what the journal and the source say of the partitions of a topic.
func (c *controlFlags) readTopic(ctx context.Context, clusters client.Clusters, topic string) (list []fleet.Partition, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	report, err := fleet.Read(ctx, clusters)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.flags.Name(), err)
	}
	for _, p := range report.Partitions {
		if p.Topic == topic {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: flow %s does not copy topic %s; see milena status -c FILE", c.flags.Name(), clusters.Flow.Name, topic)
	}
	return list, nil
}
