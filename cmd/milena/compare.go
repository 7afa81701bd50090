package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/compare"
)

// compareFlags are the flags of run that belong to --compare.
type compareFlags struct {
	mode     string // compareNew, compareAll, or "" to copy
	duration time.Duration
	output   string
}

const (
	compareNew = "new"
	compareAll = "all"
)

// compareRefresh is how often the comparison is drawn on a terminal.
const compareRefresh = 2 * time.Second

// Longer lists are cut in the text output; --output json prints all.
const (
	maxPartitionRows = 20
	maxSentences     = 30
)

func (c *compareFlags) add(f *pflag.FlagSet) {
	f.StringVar(&c.mode, "compare", "", "write nothing; compare the copies of a running MirrorMaker 2 with the source. `MODE` is new, from the newest offset-sync on, or all, from the oldest record on")
	f.Lookup("compare").NoOptDefVal = compareNew
	f.DurationVar(&c.duration, "for", 0, "with --compare: stop after this `DURATION`, such as 5m (default: until Ctrl-C)")
	addOutput(f, &c.output)
	f.Lookup("output").Usage = "with --compare: `FORMAT` of the result: table, json or yaml, which print only the result"
}

// check reports flags that do not fit together.
func (c *compareFlags) check(f *pflag.FlagSet) error {
	switch {
	case c.mode == "" && f.Changed("compare"), c.mode != "" && c.mode != compareNew && c.mode != compareAll:
		return wrong(f, "--compare=%s must be new or all", c.mode)
	case c.mode == "" && f.Changed("output"):
		return wrong(f, "--output needs --compare")
	case c.mode == "" && (f.Changed("for") || f.Changed("json")):
		return wrong(f, "--for and --json need --compare")
	case c.duration < 0:
		return wrong(f, "--for must not be negative")
	}
	if c.mode != "" {
		for _, name := range []string{"listen", "rebuild-map", "beside-mirrormaker"} {
			if f.Changed(name) {
				return wrong(f, "--%s has no effect with --compare; remove one of them", name)
			}
		}
	}
	return nil
}

// runComparison compares flows of the config until ctx ends or --for is over. A difference is an error.
func (p *program) runComparison(ctx context.Context, c *config.Config, flows []config.Flow, flags compareFlags) error {
	if flags.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, flags.duration)
		defer cancel()
	}
	comparisons, err := newComparisons(c, flows, flags)
	if err != nil {
		return err
	}
	stopWatching := func() {}
	if flags.output == outputTable && isTerminal(p.stdout) {
		stopWatching = p.startWatching(ctx, comparisons)
	}
	err = runAll(ctx, comparisons, func() {
		if isTerminal(p.stderr) {
			p.complain("stopping: comparing the records that are copied by now; Ctrl-C aborts")
		}
	})
	stopWatching()
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	return p.printResult(comparisons, flags)
}

func newComparisons(c *config.Config, flows []config.Flow, flags compareFlags) ([]*compare.Comparison, error) {
	comparisons := make([]*compare.Comparison, 0, len(flows))
	for _, flow := range flows {
		comparison, err := compare.New(silent(c, flow), flags.mode == compareAll)
		if err != nil {
			return nil, err
		}
		comparisons = append(comparisons, comparison)
	}
	return comparisons, nil
}

// startWatching redraws the comparison until the returned function is called, which waits for the last drawing.
func (p *program) startWatching(ctx context.Context, comparisons []*compare.Comparison) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.watchComparison(ctx, comparisons)
	}()
	return func() {
		cancel()
		<-done
	}
}

// watchComparison redraws the comparison on the terminal until ctx ends.
func (p *program) watchComparison(ctx context.Context, comparisons []*compare.Comparison) {
	tick := time.NewTicker(compareRefresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, _ = io.WriteString(p.terminal, "\x1b[H\x1b[2J") // cursor to the top left, clear the screen
		for _, c := range comparisons {
			p.printComparison(c.Report())
		}
		p.printf("Press Ctrl-C to stop. Nothing is written to either cluster.\n")
	}
}

// printResult prints the final comparison of every flow. A difference is an error.
func (p *program) printResult(comparisons []*compare.Comparison, flags compareFlags) error {
	all := make([]*compare.Report, 0, len(comparisons))
	differences := 0
	for _, c := range comparisons {
		result := c.Report()
		all = append(all, result)
		differences += len(result.Differences)
	}
	if flags.output != outputTable {
		if err := p.printAs(flags.output, all); err != nil {
			return err
		}
	} else {
		for _, result := range all {
			p.printComparison(result)
		}
	}
	if differences > 0 {
		return fmt.Errorf("compare: %s", count(differences, "difference"))
	}
	return nil
}

func (p *program) printComparison(c *compare.Report) {
	if c.Seconds == 0 {
		p.printf("flow %s: %s -> %s, reading the topics of both clusters\n\n", c.Flow, c.Source, c.Target)
		return
	}
	p.printf("flow %s: %s -> %s, compared for %s\n", c.Flow, c.Source, c.Target, time.Duration(c.Seconds*float64(time.Second)).Round(time.Second))
	var lag int64
	for _, part := range c.Partitions {
		lag += part.LagRecords
	}
	r := c.Records
	p.printf("  %s: %s equal, %d duplicated, %d not on the source, %d not on the target; MirrorMaker 2's lag: %s\n\n",
		count(len(c.Partitions), "partition"), count(r.Equal, "record"), r.Duplicates, r.NotOnSource, r.NotOnTarget, count(lag, "record"))
	p.printComparedPartitions(c)
	p.printComparedGroups(c.Groups)
	p.printSentences("differs", c.Differences)
	p.printSentences("note", c.Notes)
	if len(c.Differences) == 0 {
		p.printf("  no differences\n")
	}
	p.printf("\n")
}

// printComparedPartitions shows the partitions that differ, then those with the most lag. Offsets are source offsets.
func (p *program) printComparedPartitions(c *compare.Report) {
	if len(c.Partitions) == 0 {
		return
	}
	w := p.table()
	row(w, "  TOPIC\tPARTITION\tSOURCE END\tCOPIED\tLAG\tLAG SECONDS\tREAD\tEQUAL\tDUPLICATED\tNOT ON SOURCE\tNOT ON TARGET")
	for _, part := range c.Worst(maxPartitionRows) {
		row(w, "  %s\t%d\t%d\t%s\t%d\t%s\t%d\t%d\t%d\t%d\t%d", part.Topic, part.Partition, part.SourceEnd, optional(part.Mirrored), part.LagRecords, lagSeconds(part),
			part.Milena, part.Equal, part.Duplicates, part.NotOnSource, part.NotOnTarget)
	}
	_ = w.Flush()
	p.printMore("  ", len(c.Partitions)-maxPartitionRows, "")
	p.printf("\n")
}

// lagSeconds is MirrorMaker 2's lag, with > in front where it is a lower bound.
func lagSeconds(part compare.Partition) string {
	switch {
	case part.LagSeconds == nil:
		return "-"
	case part.AtLeast && part.LagRecords > 0:
		return fmt.Sprintf(">%.1f", *part.LagSeconds)
	default:
		return fmt.Sprintf("%.1f", *part.LagSeconds)
	}
}

// printComparedGroups shows the committed offsets of groups, those first that would re-read the most records.
func (p *program) printComparedGroups(groups []compare.Group) {
	if len(groups) == 0 {
		return
	}
	w := p.table()
	row(w, "  GROUP\tTOPIC\tPARTITION\tSOURCE OFFSET\tTARGET OFFSET BY MM2\tEXACT TARGET OFFSET\tRE-READ RECORDS")
	for _, g := range groups[:min(maxPartitionRows, len(groups))] {
		row(w, "  %s\t%s\t%d\t%d\t%d\t%d\t%d", g.Group, g.Topic, g.Partition, g.Committed, g.Mirrored, g.Exact, g.Reread)
	}
	_ = w.Flush()
	p.printMore("  ", len(groups)-maxPartitionRows, " committed offsets")
	p.printf("\n")
}

func (p *program) printSentences(kind string, sentences []string) {
	for _, text := range sentences[:min(maxSentences, len(sentences))] {
		p.printf("  %s: %s\n", kind, text)
	}
	p.printMore("  ", len(sentences)-maxSentences, "")
}
