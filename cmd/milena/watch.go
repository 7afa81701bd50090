package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/config"
)

// watchStatus shows a running milena until ctx ends.
func (p *program) watchStatus(ctx context.Context, flags statusFlags) error {
	var s stopwatch
	return p.watch(ctx, flags.watch, flags.remote.url, func(ctx context.Context) (func(*program), error) {
		_, flows, err := readStatus(ctx, &flags.remote)
		if err != nil {
			return nil, err
		}
		list := overviews(ctx, &flags.remote, flows)
		now := time.Now()
		for i := range list {
			o := &list[i]
			s.addFlow(o.Flow, progressed{now, o.Records, o.Bytes, lagOf(o.LagRecords)})
			s.addTopics(o.Flow, o.Topics, now)
		}
		return func(q *program) {
			if len(list) == 0 {
				q.printStatuses(nil)
			}
			for i := range list {
				q.printLive(&list[i], &s)
			}
		}, nil
	})
}

// printLive prints how fast a flow is, and how far each topic.
func (p *program) printLive(o *overview, s *stopwatch) {
	p.printHeadline(o)
	p.printSpeed(o.PartitionCount, o.TopicCount, lagText(o.LagRecords, o.LagUnknown), s.flow(o.Flow), lagOf(o.LagRecords))
	p.printLoss(o.lossOverview)
	p.printLimits(o)
	p.printTopics(o.Topics, o.TopicCount, s.topics(o.Flow))
	p.printAttention(o)
}

// watchFleet shows what the clusters of flows say until ctx ends.
func (p *program) watchFleet(ctx context.Context, c *config.Config, flows []config.Flow, flags statusFlags) error {
	var s stopwatch
	return p.watch(ctx, flags.watch, *flags.config, func(ctx context.Context) (func(*program), error) {
		results, _, err := readFleets(ctx, c, flows, flags.timeout)
		if err != nil {
			return nil, err
		}
		topics := make([][]summary.Topic, len(results))
		for i, r := range results {
			if r.Report == nil {
				continue
			}
			topics[i] = fleetTopics(r.Report)
			all := progressed{at: r.At, lag: lagOf(r.LagRecords)}
			for _, t := range topics[i] {
				all.records += t.Acked
			}
			s.addFlow(r.Flow, all)
			s.addTopics(r.Flow, topics[i], r.At)
		}
		return func(q *program) {
			for i, r := range results {
				q.printLiveFleet(r, topics[i], &s)
			}
		}, nil
	})
}

func (p *program) printLiveFleet(result fleetResult, topics []summary.Topic, s *stopwatch) {
	r := result.Report
	if r == nil {
		p.printUnread(result)
		return
	}
	p.printf("flow %s: %s -> %s, %s%s\n", r.Flow, r.Source, r.Target, instancesText(r), asOf(r))
	p.printSpeed(len(r.Partitions), len(topics), lagText(r.LagRecords, r.LagUnknown), s.flow(result.Flow), lagOf(r.LagRecords))
	p.printLoss(newLossOverview(r.RPO, r.RTOObjectiveSeconds, r.At))
	p.printFleetProblems(r)
	p.printTopics(topics, len(topics), s.topics(result.Flow))
	list := fleetAttention(r)
	if hidden := list.Choose(maxShown); len(list) > 0 {
		p.printEntries(list, hidden)
		return
	}
	p.printf("\n")
}

// printSpeed prints the totals of a flow that is watched.
func (p *program) printSpeed(partitions, topics int, lag string, pace pace, records int64) {
	p.printf("  %s in %s, lag %s", count(partitions, "partition"), count(topics, "topic"), lag)
	if pace.known {
		p.printf("; %s records/s", rateText(pace))
	}
	if pace.bytes > 0 {
		p.printf(", %s/s", size(pace.bytes))
	}
	if left := leftText(pace, records); left != "-" && left != fallingBehind {
		p.printf("; caught up in %s", left)
	}
	p.printf("\n")
}

func lagOf(records *int64) int64 {
	if records == nil {
		return 0
	}
	return *records
}

// watch looks at something again after each interval and shows it, until ctx ends. What fails at first is an error; later it is shown, and what was
// seen last with it. It rests at least as long as it looks, so that whoever it asks does so half of the time at most.
func (p *program) watch(ctx context.Context, interval time.Duration, where string, look func(context.Context) (func(*program), error)) error {
	s := screen{p: p, size: sizeOf(p.terminal)}
	defer s.close()
	var last func(*program)
	for {
		began := time.Now()
		show, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && last == nil:
			return err
		case err == nil:
			last = show
		}
		s.draw(func(q *program) {
			q.printf("%s  %s\n", began.Format(time.DateTime), where)
			if err != nil {
				q.paint(red, indented(err.Error(), "  "))
				q.printf("\n")
			}
			q.printf("\n")
			last(q)
		})
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(interval-time.Since(began), time.Since(began))):
		}
	}
}

// screen shows one text after the other: on a terminal in the same place, else one behind the other.
type screen struct {
	p     *program
	size  func() (lines, columns int, ok bool) // of the terminal, not ok if it is none
	drawn bool
}

// Control sequences.
const (
	screenBegin = "\x1b[?25l\x1b[2J" // hide the cursor, clear
	screenTop   = "\x1b[H"
	clearLine   = "\x1b[K"      // its rest
	clearRest   = "\x1b[J"      // of the screen
	screenEnd   = "\x1b[?25h\n" // behind the ^C of the terminal
)

// draw shows what a function prints.
func (s *screen) draw(show func(*program)) {
	lines, columns, ok := s.size()
	if !ok {
		show(s.p)
		return
	}
	var frame bytes.Buffer
	q := newProgram(&frame, io.Discard, s.p.env)
	q.colours = s.p.colours
	show(q)
	var b strings.Builder
	if !s.drawn {
		b.WriteString(screenBegin)
		s.drawn = true
	}
	b.WriteString(screenTop)
	for _, line := range fitting(strings.Split(strings.TrimRight(frame.String(), "\n"), "\n"), lines-1, columns) {
		b.WriteString(line)
		if n := columnsOf(line); n == 0 || n%columns > 0 { // else it fills its last row, and the cursor is still on its last character
			b.WriteString(clearLine)
		}
		b.WriteString("\n")
	}
	b.WriteString(clearRest)
	_, _ = io.WriteString(s.p.terminal, b.String())
}

// fitting returns the lines that fit into the rows of a terminal, which wraps those that are too long. The last one says how many do not fit.
func fitting(text []string, rows, columns int) []string {
	used, most := 0, 0 // most is how many fit with one line more
	for i, line := range text {
		used += max(1, (columnsOf(line)+columns-1)/columns)
		switch {
		case used > rows:
			return append(text[:most:most], fmt.Sprintf("  and %s more; a larger window shows them", count(len(text)-most, "line")))
		case used < rows:
			most = i + 1
		}
	}
	return text
}

// columnsOf is how wide a line is on a terminal.
func columnsOf(line string) int {
	return utf8.RuneCountInString(strings.NewReplacer(string(red), "", string(green), "", string(yellow), "", reset, "").Replace(line))
}

// close leaves the last text on the terminal, and gives it back as it was.
func (s *screen) close() {
	if s.drawn {
		_, _ = io.WriteString(s.p.terminal, screenEnd)
	}
}

// sizeOf returns a function that returns the size of a terminal.
func sizeOf(w io.Writer) func() (lines, columns int, ok bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() (int, int, bool) { return 0, 0, false }
	}
	return func() (int, int, bool) {
		columns, lines, err := term.GetSize(int(f.Fd()))
		if err != nil || lines < 2 || columns < 2 {
			return 24, 80, true
		}
		return lines, columns, true
	}
}
