package compare

import (
	"fmt"

	"github.com/milena-kafka/milena/replicator/topics"
)

// problems are sentences about what could not be compared.
func (c *Comparison) problems() (list []string) {
	for _, s := range []*side{&c.logs.targetSide, &c.logs.sourceSide} {
		if text := s.problem.Load(); text != nil {
			list = append(list, "could not be compared: "+*text)
		}
	}
	if c.problem != "" {
		list = append(list, "could not be read: "+c.problem)
	}
	return list
}

// planDifferences are sentences about topics: what milena would create or change.
func (c *Comparison) planDifferences() []string {
	list := []string{}
	for _, t := range c.topology.plan.Topics {
		switch t.Action {
		case topics.Create:
			list = append(list, fmt.Sprintf("topic %s: MirrorMaker 2 has not created %s yet; milena would create it with %d partitions", t.Source, t.Target, t.Partitions))
			continue
		case topics.Grow:
			list = append(list, fmt.Sprintf("topic %s: %s has fewer partitions than the %d of the source; milena would add them", t.Source, t.Target, t.Partitions))
		case topics.Copy:
		}
		for _, config := range t.Configs {
			list = append(list, fmt.Sprintf("topic %s: milena would change a config of %s: %s", t.Source, t.Target, config))
		}
	}
	mirrored := make(map[string]bool)
	for tp := range c.logs.progress.ConnectorOffsets {
		mirrored[tp.Topic] = true
	}
	for _, skip := range c.topology.plan.Skipped {
		if mirrored[skip.Topic] {
			list = append(list, fmt.Sprintf("topic %s: MirrorMaker 2 has copied it, milena would not: %s %s", skip.Topic, skip.Topic, skip.Reason))
		}
	}
	for _, text := range c.topology.plan.Refused {
		list = append(list, "milena could not run: "+text)
	}
	return list
}

// differences are sentences about a partition: how many records, what it means, what to do.
func (p *partition) differences() []string {
	var list []string
	add := func(n int64, text string) {
		if n == 1 {
			list = append(list, fmt.Sprintf("%s: 1 record %s", p.source.TopicPartition, text))
		} else if n > 1 {
			list = append(list, fmt.Sprintf("%s: %d records %s", p.source.TopicPartition, n, text))
		}
	}
	t := p.tally.total()
	add(t.Duplicates, "duplicated on the target: MirrorMaker 2 restarted or resent them; milena writes each record once and keeps existing duplicates")
	if !p.compacted {
		add(t.NotOnSource, fmt.Sprintf("of %s not on the source: another producer writes to the copy, or the source lost them; find out before you migrate: milena halts a partition that another producer writes to (foreign_write)", p.copied.TopicPartition))
		add(t.NotOnTarget, "before MirrorMaker 2's offset not on the target: MirrorMaker 2 skipped them; milena does not copy them after a migration")
	}
	if p.committed {
		add(t.AbortedOnTarget, "of aborted transactions on the target: milena would leave them out, because this flow is read_committed")
	} else {
		add(t.AbortedNotOnTarget, "of aborted transactions not on the target: milena would copy them, because this flow is read_uncommitted")
	}
	if p.restarted != "" {
		list = append(list, fmt.Sprintf("%s: %s; the comparison continued near the end of the copy, and the records in between are not compared", p.source.TopicPartition, p.restarted))
	}
	if p.problem != "" {
		list = append(list, fmt.Sprintf("%s: %s", p.source.TopicPartition, p.problem))
	}
	return list
}

// compactionNote is a sentence about records that the log cleaner may have removed on one side and not yet on the other, empty if there are none.
func (p *partition) compactionNote() string {
	t := p.tally.total()
	if !p.compacted || t.NotOnSource+t.NotOnTarget == 0 {
		return ""
	}
	return fmt.Sprintf("%s is compacted: %d records are only on the target and %d only on the source, which the log cleaners explain", p.source.TopicPartition, t.NotOnSource, t.NotOnTarget)
}
