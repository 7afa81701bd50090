package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
)

const logHelp = `milena log shows what happened to a flow, the newest last: what people decided and what the instances did
about it, anomalies of partitions and when they were repaired, takeovers of shards, changes of the config,
starts and stops of instances. It reads the control topic and the journal on the target, and nothing else.

Examples:
  milena log -c milena.yaml
  milena log -c milena.yaml --since 2h --topic orders
  milena log -c milena.yaml --kind anomaly,takeover
  milena log -c milena.yaml --last 5 --output json
`

// defaultLast is how many entries are shown.
const defaultLast = 50

// decisions is the command log.
func (p *program) decisions(ctx context.Context, args []string) error {
	c := &controlFlags{flags: p.flags("log", logHelp)}
	c.config = configFlag(c.flags)
	c.flags.StringVar(&c.flow, "flow", "", "`NAME` of the flow; needed if the config has several")
	c.addURL()
	since := c.flags.String("since", "", "show what happened since `WHEN`: a duration such as 2h, or a time such as 2026-01-31T15:04:05Z")
	var filter fleet.HistoryFilter
	c.flags.StringVar(&filter.Topic, "topic", "", "show what concerns this `TOPIC` of the source")
	c.flags.StringSliceVar(&filter.Kinds, "kind", nil, "show only these `KINDS`, separated by commas: "+strings.Join(fleet.HistoryKinds(), ", "))
	c.flags.IntVar(&filter.Last, "last", defaultLast, "the `NUMBER` of entries to show, 0 for all")
	addOutput(c.flags, &c.output)
	c.flags.DurationVar(&c.timeout, "timeout", 30*time.Second, "time limit for the command, as a `DURATION` such as 1m")
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	if filter.Since, err = parseSince(*since, time.Now()); err != nil {
		return wrong(c.flags, "--since %v", err)
	}
	if err := checkKinds(filter.Kinds); err != nil {
		return wrong(c.flags, "--kind %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var h fleet.History
	if c.remote.url != "" {
		query := url.Values{"topic": {filter.Topic}, "since": {*since}, "kind": filter.Kinds, "last": {strconv.Itoa(filter.Last)}}
		err = c.ask(ctx, http.MethodGet, "log?"+query.Encode(), nil, &h.Entries)
	} else {
		h, err = fleet.ReadHistory(ctx, clusters, filter)
	}
	if err != nil {
		return fmt.Errorf("log: flow %s: %w", cmp.Or(clusters.Flow.Name, c.flow), err)
	}
	if err := p.showHistory(c, control.TopicName(clusters.Flow.Name), clusters.Flow.Target, &h); err != nil {
		return err
	}
	if len(h.Problems) > 0 {
		return fmt.Errorf("log: flow %s: it is not all: %s", clusters.Flow.Name, strings.Join(h.Problems, "; "))
	}
	return nil
}

// parseSince reads a duration before now, or a time.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("%q is neither a duration such as 2h nor a time such as 2026-01-31T15:04:05Z", text)
	}
	return at, nil
}

func checkKinds(kinds []string) error {
	for _, k := range kinds {
		if !slices.Contains(fleet.HistoryKinds(), k) {
			return fmt.Errorf("%q is none of %s", k, strings.Join(fleet.HistoryKinds(), ", "))
		}
	}
	return nil
}

// showHistory prints a history.
func (p *program) showHistory(c *controlFlags, topic, cluster string, h *fleet.History) error {
	if c.output != outputTable {
		if h.Entries == nil {
			h.Entries = []fleet.HistoryEntry{}
		}
		return p.printAs(c.output, h.Entries)
	}
	p.printHistory(h.Entries)
	if h.Ignored > 0 {
		p.printf("%s of topic %s on cluster %s are ignored:\n", count(int64(h.Ignored), "record"), topic, cluster)
		for _, i := range h.LastIgnored {
			p.printf("  %s\n", i)
		}
	}
	return nil
}

func (p *program) printHistory(list []fleet.HistoryEntry) {
	if len(list) == 0 {
		p.printf("nothing has happened, as far as the target remembers\n")
		return
	}
	w := p.table()
	row(w, "WHEN\tKIND\tWHO OR WHERE\tWHAT\tOUTCOME")
	for i := range list {
		e := &list[i]
		where, what, outcome := describeEntry(e)
		row(w, "%s\t%s\t%s\t%s\t%s", summary.LocalTime(e.When), e.Kind, where, what, outcome)
	}
	_ = w.Flush()
}

// describeEntry describes an entry of the history in three columns.
func describeEntry(e *fleet.HistoryEntry) (where, what, outcome string) {
	switch {
	case e.Decision != nil:
		return e.Decision.Who, describeDecision(e.Decision), outcomesText(e.Outcomes)
	case e.Anomaly != nil:
		return describeAnomaly(e.Anomaly)
	case e.Recovery != nil:
		return e.Recovery.Who, e.Recovery.What, summary.RecoveryText(e.Recovery)
	case e.Event != nil:
		return describeEvent(e.Event)
	}
	return "", "", ""
}

func describeAnomaly(a *fleet.PastAnomaly) (where, what, outcome string) {
	where = fmt.Sprintf("%s-%d", a.Topic, a.Partition)
	what = fmt.Sprintf("%s: %s", a.Kind, a.Detail)
	switch {
	case a.From >= 0 && a.To > a.From:
		what = fmt.Sprintf("%s, source offsets %d to %d: %s", a.Kind, a.From, a.To-1, a.Detail)
	case a.From >= 0:
		what = fmt.Sprintf("%s at source offset %d: %s", a.Kind, a.From, a.Detail)
	}
	if a.Merged > 0 {
		what += fmt.Sprintf(" (and %d more)", a.Merged)
	}
	switch outcome = a.Action; {
	case a.Halted:
		outcome += ", not repaired yet"
	case a.RepairedBy == fleet.RepairedByPassing:
		outcome += ", over: the copy has passed it"
	case a.RepairedBy != "":
		outcome += fmt.Sprintf(", then %s at %s", a.RepairedBy, summary.LocalTime(a.Repaired))
	}
	return where, what, outcome
}

func describeEvent(e *control.Event) (where, what, outcome string) {
	where = e.Instance
	if e.Who != "" {
		where = e.Who
	}
	what = e.Detail
	if e.Count > 1 && e.Detail != "" {
		what = "last: " + e.Detail
	}
	if e.Why != "" {
		what = strings.TrimPrefix(what+"; because "+e.Why, "; ")
	}
	var parts []string
	if e.Count > 1 {
		parts = append(parts, fmt.Sprintf("%d times until %s", e.Count, summary.LocalTime(e.Latest())))
	}
	if took := time.Duration(e.TookMillis) * time.Millisecond; took > 0 && e.Count > 1 {
		parts = append(parts, fmt.Sprintf("%v at most", took))
	} else if took > 0 {
		parts = append(parts, took.String())
	}
	return where, what, strings.Join(parts, ", ")
}

// outcomesText is what the instances did, in one line.
func outcomesText(list []control.Outcome) string {
	if len(list) == 0 {
		return "no instance has acted on it yet"
	}
	texts := make([]string, 0, len(list))
	for _, o := range list {
		text := fmt.Sprintf("%s: %s", o.Instance, o.Detail)
		if o.Result != control.Done {
			text = fmt.Sprintf("%s: %s: %s", o.Instance, o.Result, o.Detail)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}
