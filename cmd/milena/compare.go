package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// shadow is what run was asked of a comparison.
type shadow struct {
	compare string // how much: "", new or all
	span    time.Duration
	json    bool
}

const (
	compareNew = "new"
	compareAll = "all"
	// CompareEvery is how often a terminal is shown where the comparison is.
	compareEvery = 2 * time.Second
	// PartitionsShown and sentencesShown are what a person looks at; more is for a program.
	partitionsShown = 20
	sentencesShown  = 30
)

func (s *shadow) flags(f *pflag.FlagSet) {
	f.StringVar(&s.compare, "compare", "", "copy and write nothing: read both clusters beside a running MirrorMaker 2 and say what would differ; `how` is new, or all to begin with the oldest records")
	f.Lookup("compare").NoOptDefVal = compareNew
	f.DurationVar(&s.span, "for", 0, "with --compare: how long; 0 means until Ctrl-C")
	f.BoolVar(&s.json, "json", false, "with --compare: print all of it in the end as JSON")
}

// check finds out whether the flags fit together.
func (s *shadow) check(f *pflag.FlagSet) error {
	wrong := func(text string) error { return &usageError{"run: " + text + "; see milena run --help"} }
	switch {
	case s.compare == "" && f.Changed("compare"), s.compare != "" && s.compare != compareNew && s.compare != compareAll:
		return wrong(fmt.Sprintf("--compare=%s is neither new nor all", s.compare))
	case s.compare == "" && (f.Changed("for") || s.json):
		return wrong("--for and --json are for --compare")
	case s.span < 0:
		return wrong("--for can't be negative")
	}
	if s.compare != "" {
		for _, name := range []string{"listen", "rebuild-map", "beside-mirrormaker"} {
			if f.Changed(name) {
				return wrong("--" + name + " is for copying, and --compare copies nothing")
			}
		}
	}
	return nil
}

// compareFlows compares every flow of the config until ctx ends or the time is over, and fails if anything differs.
func (p *program) compareFlows(ctx context.Context, c *config.Config, s shadow) error {
	if s.span > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.span)
		defer cancel()
	}
	log := slog.New(slog.DiscardHandler) // the comparison says what a client would log
	comparers := make([]*replicator.Comparer, 0, len(c.Flows))
	for _, flow := range c.Flows {
		comparer, err := replicator.NewComparer(clustersOf(c, flow, log), s.compare == compareAll)
		if err != nil {
			return err
		}
		comparers = append(comparers, comparer)
	}
	watching := make(chan struct{})
	watchCtx, end := context.WithCancel(ctx)
	go func() {
		defer close(watching)
		if !s.json && isTerminal(p.stdout) {
			p.watchComparison(watchCtx, comparers)
		}
	}()
	err := runAll(ctx, comparers, func() {
		if isTerminal(p.stderr) {
			p.complain("comparing what is copied by now; Ctrl-C ends that too")
		}
	})
	end()
	<-watching
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	return p.concludeComparison(comparers, s)
}

// watchComparison shows a new picture in the place of the last one.
func (p *program) watchComparison(ctx context.Context, comparers []*replicator.Comparer) {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.printf("\x1b[H\x1b[2J")
		for _, c := range comparers {
			p.printComparison(c.Comparison())
		}
		p.printf("Ctrl-C ends the comparison. Nothing is written to either cluster.\n")
	}
}

// concludeComparison prints the end and is nil when nothing differs.
func (p *program) concludeComparison(comparers []*replicator.Comparer, asked shadow) error {
	all := make([]*replicator.Comparison, 0, len(comparers))
	differences := 0
	for _, c := range comparers {
		s := c.Comparison()
		all = append(all, s)
		differences += len(s.Differences)
	}
	if asked.json {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(all); err != nil {
			return err
		}
	} else {
		for _, s := range all {
			p.printComparison(s)
		}
	}
	if differences > 0 {
		return fmt.Errorf("compare: %s", count(differences, "difference"))
	}
	return nil
}

func (p *program) printComparison(s *replicator.Comparison) {
	if s.Seconds == 0 {
		p.printf("flow %s: %s -> %s, both clusters are being asked for their topics\n\n", s.Flow, s.Source, s.Target)
		return
	}
	p.printf("flow %s: %s -> %s, compared for %s\n", s.Flow, s.Source, s.Target, time.Duration(s.Seconds*float64(time.Second)).Round(time.Second))
	var lag int64
	for _, part := range s.Partitions {
		lag += part.LagRecords
	}
	r := s.Records
	p.printf("  %s: %s equal, %d twice, %d not on the source, %d not on the target; MirrorMaker 2 lags by %s\n\n",
		count(len(s.Partitions), "partition"), count(r.Equal, "record"), r.Twice, r.NotOnSource, r.NotOnTarget, count(lag, "record"))
	p.printCompared(s)
	p.printPositions(s.Groups)
	p.printSentences("differs", s.Differences)
	p.printSentences("note", s.Notes)
	if len(s.Differences) == 0 {
		p.printf("  nothing differs\n")
	}
	p.printf("\n")
}

func (p *program) printCompared(s *replicator.Comparison) {
	if len(s.Partitions) == 0 {
		return
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "  TOPIC\tPARTITION\tSOURCE END\tMIRRORMAKER AT\tLAG\tSECONDS\tMILENA AT\tEQUAL\tTWICE\tNOT ON SOURCE\tNOT ON TARGET")
	for _, part := range s.Worst(partitionsShown) {
		at, seconds := "-", "-"
		if part.Mirrored != nil {
			at = strconv.FormatInt(*part.Mirrored, 10)
		}
		if part.LagSeconds != nil {
			seconds = fmt.Sprintf("%.1f", *part.LagSeconds)
			if part.AtLeast && part.LagRecords > 0 {
				seconds = ">" + seconds
			}
		}
		_, _ = fmt.Fprintf(w, "  %s\t%d\t%d\t%s\t%d\t%s\t%d\t%d\t%d\t%d\t%d\n", part.Topic, part.Partition, part.SourceEnd, at, part.LagRecords, seconds,
			part.Milena, part.Equal, part.Twice, part.NotOnSource, part.NotOnTarget)
	}
	_ = w.Flush()
	if more := len(s.Partitions) - partitionsShown; more > 0 {
		p.printf("  and %d more; --json has all\n", more)
	}
	p.printf("\n")
}

// printPositions shows the groups that would read most again.
func (p *program) printPositions(groups []replicator.GroupComparison) {
	if len(groups) == 0 {
		return
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "  GROUP\tTOPIC\tPARTITION\tCOMMITTED\tMIRRORMAKER SAYS\tEXACT\tREAD AGAIN")
	for _, g := range groups[:min(partitionsShown, len(groups))] {
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%d\t%d\t%d\t%d\t%d\n", g.Group, g.Topic, g.Partition, g.Committed, g.Mirrored, g.Exact, g.ReadAgain)
	}
	_ = w.Flush()
	if more := len(groups) - partitionsShown; more > 0 {
		p.printf("  and %d more positions of groups; --json has all\n", more)
	}
	p.printf("\n")
}

func (p *program) printSentences(kind string, sentences []string) {
	for _, text := range sentences[:min(sentencesShown, len(sentences))] {
		p.printf("  %s: %s\n", kind, text)
	}
	if more := len(sentences) - sentencesShown; more > 0 {
		p.printf("  and %d more; --json has all\n", more)
	}
}
