package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
)

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

func (s *stopwatch) addTopics(flow string, topics []summary.Topic, at time.Time) {
	if s.byFlow[flow] == nil {
		s.byFlow[flow] = make(map[string]*measured)
	}
	for i := range topics {
		measure(s.byFlow[flow], topics[i].Topic, progressed{at: at, records: topics[i].Acked, lag: topics[i].Lag()})
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
func copiedText(t *summary.Topic) string {
	if t.LagRecords == nil || t.Copied == nil {
		return "-"
	}
	part := 1.0
	if lag := t.Lag(); lag > 0 {
		part = float64(*t.Copied) / float64(*t.Copied+lag)
	}
	return fmt.Sprintf("%s %3.0f%%", bar(part, barWidth), math.Floor(part*100))
}

// bar is a part of a whole, from 0 to 1.
func bar(part float64, width int) string {
	full := int(part * float64(width))
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}
