package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
)

// question is what translate was asked.
type question struct {
	flow      string
	group     string
	topic     string
	partition int32
	offset    int64
	at        string
	reverse   bool
	json      bool
	commit    bool
	script    bool
}

func (p *program) translate(ctx context.Context, args []string) error {
	var q question
	f := p.flags("translate", "say where a group, an offset or a moment of one side is on the other; changes nothing without --commit")
	file := f.StringP("config", "c", "", "the config, a milena.yaml or mm2.properties `file`")
	f.StringVar(&q.flow, "flow", "", "which flow, if the file has several")
	f.StringVar(&q.group, "group", "", "a consumer group: all of its partitions")
	f.StringVar(&q.topic, "topic", "", "a topic of the source; with --reverse, of the target")
	f.Int32Var(&q.partition, "partition", -1, "its partition")
	f.Int64Var(&q.offset, "offset", -1, "an offset of the source; with --reverse, of the target")
	f.StringVar(&q.at, "at", "", "a moment, as 2026-01-31T15:04:05Z or in milliseconds since 1970")
	f.BoolVar(&q.reverse, "reverse", false, "from the target back to the source")
	f.BoolVar(&q.json, "json", false, "print JSON")
	f.BoolVar(&q.commit, "commit", false, "commit a group's translated positions, if it has no members there, and only forward")
	f.BoolVar(&q.script, "reset-script", false, "print the commands of Kafka's own tool that would set a group's positions")
	timeout := f.Duration("timeout", 30*time.Second, "how long it may take")
	if err := parse(f, args); err != nil {
		return err
	}
	if err := q.check(f); err != nil {
		return err
	}
	c, err := p.load(*file)
	if err != nil {
		return err
	}
	flow, err := chooseFlow(c, q.flow)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	log := slog.New(slog.DiscardHandler) // the answer says what a client would log
	t, err := replicator.OpenTranslator(ctx, clustersOf(c, flow, log))
	if err != nil {
		return fmt.Errorf("translate: %w", err)
	}
	defer t.Close()
	if q.group != "" {
		return p.translateGroup(ctx, t, c, flow, q)
	}
	return p.translatePlace(ctx, t, q)
}

// check finds out whether the flags ask one question.
func (q *question) check(f *pflag.FlagSet) error {
	wrong := func(text string) error { return &usageError{"translate: " + text + "; see milena translate --help"} }
	switch {
	case q.group == "" && q.topic == "":
		return wrong("name a --group, or a --topic")
	case q.group != "" && (q.topic != "" || q.at != "" || f.Changed("partition") || f.Changed("offset")):
		return wrong("--group translates all of a group; --topic, --partition, --offset and --at are without it")
	case q.group == "" && (q.commit || q.script):
		return wrong("--commit and --reset-script need a --group")
	case q.json && q.script:
		return wrong("--json and --reset-script are two forms of one answer")
	case q.topic != "" && q.at == "" && (q.partition < 0 || q.offset < 0):
		return wrong("--topic needs --partition and --offset, or --at")
	case q.at != "" && f.Changed("offset"):
		return wrong("--at and --offset are two questions")
	case q.at != "" && q.reverse:
		return wrong("a moment is the same on both sides: --at answers for both, without --reverse")
	}
	if q.at != "" {
		if _, err := moment(q.at); err != nil {
			return wrong(err.Error())
		}
	}
	return nil
}

// moment reads a time or milliseconds.
func moment(text string) (time.Time, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMilli(ms), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--at %q is not a time like 2026-01-31T15:04:05Z and not a number of milliseconds", text)
	}
	return at, nil
}

func chooseFlow(c *config.Config, name string) (config.Flow, error) {
	var names []string
	for _, f := range c.Flows {
		if f.Name == name || name == "" && len(c.Flows) == 1 {
			return f, nil
		}
		names = append(names, f.Name)
	}
	if name == "" {
		return config.Flow{}, &usageError{fmt.Sprintf("translate: the file has several flows; name one with --flow: %s", strings.Join(names, ", "))}
	}
	return config.Flow{}, &usageError{fmt.Sprintf("translate: there is no flow %q; there is %s", name, strings.Join(names, ", "))}
}

// translated is one line of an answer.
type translated struct {
	Topic        string   `json:"topic"`
	TargetTopic  string   `json:"target_topic"`
	Partition    int32    `json:"partition"`
	SourceOffset *int64   `json:"source_offset,omitempty"`
	TargetOffset *int64   `json:"target_offset,omitempty"`
	Exact        bool     `json:"exact"`
	Origin       string   `json:"origin,omitempty"`
	AgeSeconds   *float64 `json:"age_seconds,omitempty"` // of what the answer comes from
	Lag          *int64   `json:"lag,omitempty"`         // offsets between the place on the target and its end
	Metadata     string   `json:"metadata,omitempty"`
	Error        string   `json:"error,omitempty"`
}

func newTranslated(t offsets.Translation, err error) translated {
	row := translated{Topic: t.Topic, TargetTopic: t.TargetTopic, Partition: t.Partition, Exact: t.Exact, Origin: string(t.Origin)}
	if err != nil {
		row.Error = err.Error()
		return row
	}
	row.SourceOffset, row.TargetOffset = &t.Source, &t.Target
	if !t.AsOf.IsZero() {
		age := max(0, time.Since(t.AsOf).Seconds())
		row.AgeSeconds = &age
	}
	return row
}

// translatePlace answers for an offset or a moment.
func (p *program) translatePlace(ctx context.Context, t *replicator.Translator, q question) error {
	var list []offsets.Translation
	var one offsets.Translation
	var err error
	switch {
	case q.at != "":
		at, _ := moment(q.at) // checked before
		list, err = t.At(ctx, q.topic, at)
	case q.reverse:
		one, err = t.OffsetBack(ctx, q.topic, q.partition, q.offset)
		list = append(list, one)
	default:
		one, err = t.Offset(ctx, q.topic, q.partition, q.offset)
		list = append(list, one)
	}
	if err != nil {
		return fmt.Errorf("translate: %w", err)
	}
	var rows []translated
	for _, one := range list {
		if q.partition < 0 || one.Partition == q.partition {
			rows = append(rows, newTranslated(one, nil))
		}
	}
	if len(rows) == 0 {
		return fmt.Errorf("translate: topic %s has no partition %d", q.topic, q.partition)
	}
	return p.printTranslated(rows, "", q)
}

// translateGroup answers for all partitions of a group.
func (p *program) translateGroup(ctx context.Context, t *replicator.Translator, c *config.Config, flow config.Flow, q question) error {
	var positions []offsets.GroupPosition
	var text string
	var err error
	side, alias := offsets.Target, flow.Target
	if q.reverse {
		side, alias = offsets.Source, flow.Source
		positions, err = t.GroupBack(ctx, q.group)
	} else {
		positions, text, err = t.Group(ctx, q.group)
	}
	if err != nil {
		return fmt.Errorf("translate: %w", err)
	}
	if q.script {
		p.printScript(positions, side, q.group, c.Clusters[alias].Brokers)
	} else {
		rows := make([]translated, 0, len(positions))
		for _, position := range positions {
			row := newTranslated(position.Translation, position.Err)
			row.Metadata = position.Metadata
			if position.Lag >= 0 {
				row.Lag = &position.Lag
			}
			rows = append(rows, row)
		}
		if err := p.printTranslated(rows, text, q); err != nil {
			return err
		}
	}
	failed := 0
	for _, position := range positions {
		if position.Err != nil {
			failed++
		}
	}
	if q.commit {
		if err := p.commit(ctx, t, side, alias, positions, q); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("translate: %d of %s could not be translated", failed, count(len(positions), "position"))
	}
	return nil
}

func (p *program) commit(ctx context.Context, t *replicator.Translator, side replicator.Side, alias string, positions []offsets.GroupPosition, q question) error {
	moved, refusals, err := t.Commit(ctx, side, q.group, positions)
	if err != nil {
		return fmt.Errorf("translate: commit: %w", err)
	}
	if !q.json && !q.script {
		p.printf("committed on %s: %s", alias, count(moved, "position"))
		if moved == 0 && len(refusals) == 0 && slices.ContainsFunc(positions, func(p offsets.GroupPosition) bool { return p.Err == nil }) {
			p.printf("; the group stands there already")
		}
		p.printf("\n")
	}
	if len(refusals) == 0 {
		return nil
	}
	texts := make([]error, 0, len(refusals))
	for _, r := range refusals {
		texts = append(texts, fmt.Errorf("translate: not committed: %s (%s)", r.Text, r.Detail))
	}
	return errors.Join(texts...)
}

func (p *program) printTranslated(rows []translated, text string, q question) error {
	if q.json {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	if text != "" {
		p.printf("%s\n", text)
	}
	if len(rows) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "TOPIC\tPARTITION\tSOURCE OFFSET\tTARGET TOPIC\tTARGET OFFSET\tEXACT\tFROM\tLAG THERE")
	number := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return strconv.FormatInt(*n, 10)
	}
	for _, r := range rows {
		if r.Error != "" {
			_, _ = fmt.Fprintf(w, "%s\t%d\t-\t%s\t-\t\t\t%s\n", r.Topic, r.Partition, r.TargetTopic, r.Error)
			continue
		}
		exact, from := "no: next record or end", r.Origin
		if r.Exact {
			exact = "yes"
		}
		if r.AgeSeconds != nil && *r.AgeSeconds >= 5 {
			from += fmt.Sprintf(", %.0f s old", *r.AgeSeconds)
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Topic, r.Partition, number(r.SourceOffset), r.TargetTopic, number(r.TargetOffset), exact, from, number(r.Lag))
	}
	return w.Flush()
}

// printScript prints what Kafka's own tool would be told. It refuses a group with members, as --commit does, but would move
// a group backwards.
func (p *program) printScript(positions []offsets.GroupPosition, side replicator.Side, group string, brokers []string) {
	for _, position := range positions {
		topic, to := position.TargetTopic, position.Target
		if side == offsets.Source {
			topic, to = position.Topic, position.Source
		}
		if position.Err != nil {
			p.printf("# %s:%d: %v\n", topic, position.Partition, position.Err)
			continue
		}
		p.printf("kafka-consumer-groups.sh --bootstrap-server %s --group %s --topic %s:%d --reset-offsets --to-offset %d --execute\n",
			strings.Join(brokers, ","), quote(group), topic, position.Partition, to)
	}
}

// quote makes a name safe for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
