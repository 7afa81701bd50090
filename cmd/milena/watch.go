package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/milena-kafka/milena/config"
)

// watchStatus shows a running milena until ctx ends.
func (p *program) watchStatus(ctx context.Context, flags statusFlags) error {
	var s stopwatch
	return p.watch(ctx, flags.watch, flags.url, func(ctx context.Context) (func(*program), error) {
		_, flows, err := readStatus(ctx, flags.url)
		if err != nil {
			return nil, err
		}
		list := overviews(ctx, flags.url, flows)
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
		topics := make([][]topicOverview, len(results))
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

func (p *program) printLiveFleet(result fleetResult, topics []topicOverview, s *stopwatch) {
	r := result.Report
	if r == nil {
		p.printUnread(result)
		return
	}
	p.printf("flow %s: %s -> %s, %s%s\n", r.Flow, r.Source, r.Target, instancesText(r), asOf(r))
	p.printSpeed(len(r.Partitions), len(topics), lagText(r.LagRecords, r.LagUnknown), s.flow(result.Flow), lagOf(r.LagRecords))
	p.printFleetProblems(r)
	p.printTopics(topics, len(topics), s.topics(result.Flow))
	list := fleetAttention(r)
	if hidden := list.choose(); len(list) > 0 {
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
	s := screen{p: p, size: terminalHeight(p.terminal)}
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
	size  func() (lines int, ok bool) // of the terminal, not ok if it is none
	drawn bool
}

// Control sequences. Lines that are too long are cut by the terminal while it does not wrap them.
const (
	screenBegin = "\x1b[?25l\x1b[?7l\x1b[2J" // hide the cursor, do not wrap, clear
	screenTop   = "\x1b[H"
	lineEnd     = "\x1b[K\n" // clear the rest of the line
	screenRest  = "\x1b[J"   // clear the rest of the screen
	screenEnd   = "\x1b[?7h\x1b[?25h"
)

// draw shows what a function prints.
func (s *screen) draw(show func(*program)) {
	lines, ok := s.size()
	if !ok {
		show(s.p)
		return
	}
	var frame bytes.Buffer
	q := *s.p
	q.stdout, q.terminal = &printable{Writer: &frame}, &frame
	show(&q)
	var b strings.Builder
	if !s.drawn {
		b.WriteString(screenBegin)
		s.drawn = true
	}
	b.WriteString(screenTop)
	text := strings.Split(strings.TrimRight(frame.String(), "\n"), "\n")
	if fit := max(2, lines-1); len(text) > fit {
		text = append(text[:fit-1], fmt.Sprintf("  and %s more; they need a higher window", count(len(text)-fit+1, "line")))
	}
	for _, line := range text {
		b.WriteString(line + lineEnd)
	}
	b.WriteString(screenRest)
	_, _ = io.WriteString(s.p.terminal, b.String())
}

// close leaves the last text on the terminal, and gives it back as it was.
func (s *screen) close() {
	if s.drawn {
		_, _ = io.WriteString(s.p.terminal, screenEnd)
	}
}

// terminalHeight returns a function that returns the number of lines of a terminal.
func terminalHeight(w io.Writer) func() (int, bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() (int, bool) { return 0, false }
	}
	return func() (int, bool) {
		_, lines, err := term.GetSize(int(f.Fd()))
		if err != nil || lines == 0 {
			lines = 24
		}
		return lines, true
	}
}

// paces are how fast topics are copied.
type paces map[string]pace

// pace is how fast something is copied, as a mean that forgets.
type pace struct {
	known          bool
	records, bytes float64 // per second
	gained         float64 // records by which the lag shrinks per second
}

// progressed is what was copied at a time, and what was left.
type progressed struct {
	at             time.Time
	records, bytes int64
	lag            int64
}

// paceMemory is the time after which a mean has forgotten two thirds of what was before.
const paceMemory = 5 * time.Second

// stopwatch measures paces.
type stopwatch struct {
	flows  map[string]*measured
	byFlow map[string]map[string]*measured // topics
}

// measured is a pace with what it was last computed from.
type measured struct {
	last progressed
	pace pace
}

func (s *stopwatch) addFlow(flow string, now progressed) {
	if s.flows == nil {
		s.flows, s.byFlow = make(map[string]*measured), make(map[string]map[string]*measured)
	}
	measure(s.flows, flow, now)
}

func (s *stopwatch) addTopics(flow string, topics []topicOverview, at time.Time) {
	if s.byFlow[flow] == nil {
		s.byFlow[flow] = make(map[string]*measured)
	}
	for i := range topics {
		measure(s.byFlow[flow], topics[i].Topic, progressed{at: at, records: topics[i].Acked, lag: topics[i].lag()})
	}
}

func (s *stopwatch) flow(flow string) pace {
	if m := s.flows[flow]; m != nil {
		return m.pace
	}
	return pace{}
}

func (s *stopwatch) topics(flow string) paces {
	found := make(paces)
	for topic, m := range s.byFlow[flow] {
		found[topic] = m.pace
	}
	return found
}

// measure adds what was copied at a time. What is less than before belongs to another process: measuring begins anew.
func measure(list map[string]*measured, key string, now progressed) {
	m := list[key]
	if m == nil || now.records < m.last.records || now.bytes < m.last.bytes {
		list[key] = &measured{last: now}
		return
	}
	took := now.at.Sub(m.last.at).Seconds()
	if took <= 0 {
		return
	}
	weight := 1.0
	if m.pace.known {
		weight = 1 - math.Exp(-took/paceMemory.Seconds())
	}
	follow := func(mean *float64, gained int64) { *mean += weight * (float64(gained)/took - *mean) }
	follow(&m.pace.records, now.records-m.last.records)
	follow(&m.pace.bytes, now.bytes-m.last.bytes)
	follow(&m.pace.gained, m.last.lag-now.lag)
	m.pace.known, m.last = true, now
}

// rateText is a pace in records per second.
func rateText(p pace) string {
	if !p.known {
		return "-"
	}
	return fmt.Sprintf("%.0f", p.records)
}

// fallingBehind is for a lag that grows.
const fallingBehind = "falling behind"

// momentSeconds is the lag, in seconds of the present pace, that is the normal variation of a flow which keeps up.
const momentSeconds = 2

// leftText is when a lag is caught up at a pace.
func leftText(p pace, lag int64) string {
	switch {
	case !p.known || float64(lag) <= momentSeconds*p.records || lag == 0:
		return "-"
	case p.gained < 0:
		return fallingBehind
	case p.gained < 1:
		return "-"
	}
	return roundedText(time.Duration(float64(lag) / p.gained * float64(time.Second)))
}

// barWidth is the width of the bars in a table, in characters.
const barWidth = 20

// copiedText is how much of a topic is copied: the records of the copy, of these and the ones that are left.
func copiedText(t *topicOverview) string {
	if t.LagRecords == nil || t.Copied == 0 && t.lag() > 0 && t.Acked > 0 {
		return "-"
	}
	part := 1.0
	if lag := t.lag(); lag > 0 {
		part = float64(t.Copied) / float64(t.Copied+lag)
	}
	return fmt.Sprintf("%s %3.0f%%", bar(part, barWidth), math.Floor(part*100))
}

// bar is a part of a whole, from 0 to 1.
func bar(part float64, width int) string {
	full := int(part * float64(width))
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}
