package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/groups"
)

const translateHelp = `milena translate prints where a consumer group, an offset or a timestamp of one cluster is on the
other. It changes nothing without --commit. It works beside a running flow and while the source is
down.

Examples:
  milena translate -c milena.yaml --group billing
  milena translate -c milena.yaml --group billing --commit
  milena translate -c milena.yaml --topic orders --partition 3 --offset 1000
  milena translate -c milena.yaml --topic primary.orders --partition 3 --offset 1000 --reverse
  milena translate -c milena.yaml --topic orders --at 2026-01-31T15:04:05Z
`

// question is what the flags ask: a group, one offset, or a time.
type question struct {
	flow      string
	group     string
	topic     string
	partition int32 // -1 if not given
	offset    int64 // -1 if not given
	at        string
	reverse   bool
	output    string
	commit    bool
	script    bool
}

func (p *program) translate(ctx context.Context, args []string) error {
	var q question
	f := p.flags("translate", translateHelp)
	path := configFlag(f)
	q.add(f)
	timeout := f.Duration("timeout", 30*time.Second, "time limit for the command, as a `DURATION` such as 2m")
	if err := parse(f, args); err != nil {
		return err
	}
	if err := q.check(f); err != nil {
		return err
	}
	file, err := p.readConfig(*path)
	if err != nil {
		return err
	}
	flow, err := chooseFlow(f, file.Config, q.flow)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	o := silent(file.Config, flow)
	t, err := groups.OpenTranslator(ctx, o)
	if err != nil {
		return fmt.Errorf("translate: %w", err)
	}
	defer t.Close()
	if q.group == "" {
		return p.translateOffsets(ctx, t, q)
	}
	to := side{offsets.Target, o.Flow.Target, o.Target.Brokers}
	if q.reverse {
		to = side{offsets.Source, o.Flow.Source, o.Source.Brokers}
	}
	return p.translateGroup(ctx, t, to, q)
}

func (q *question) add(f *pflag.FlagSet) {
	f.StringVar(&q.flow, "flow", "", "`NAME` of the flow; needed if the config has several")
	f.StringVar(&q.group, "group", "", "translate the committed offsets of this consumer `GROUP`")
	f.StringVar(&q.topic, "topic", "", "a `TOPIC` of the source; with --reverse, of the target")
	f.Int32Var(&q.partition, "partition", 0, "a partition `NUMBER` of the topic; with --at, all partitions if not given")
	f.Int64Var(&q.offset, "offset", 0, "an `OFFSET` of the partition")
	f.StringVar(&q.at, "at", "", "a `TIME`, as 2026-01-31T15:04:05Z or in milliseconds since 1970")
	f.BoolVar(&q.reverse, "reverse", false, "translate from the target to the source")
	addOutput(f, &q.output)
	f.BoolVar(&q.commit, "commit", false, "commit the translated offsets of the group: only forward, and only if the group has no members there")
	f.BoolVar(&q.script, "reset-script", false, "print kafka-consumer-groups.sh commands that set the group's offsets")
}

// check completes the question and reports flags that do not fit together.
func (q *question) check(f *pflag.FlagSet) error {
	if !f.Changed("partition") {
		q.partition = -1
	}
	if !f.Changed("offset") {
		q.offset = -1
	}
	switch {
	case q.group == "" && q.topic == "":
		return wrong(f, "needs --group or --topic")
	case q.group != "" && (q.topic != "" || q.at != "" || f.Changed("partition") || f.Changed("offset")):
		return wrong(f, "--group translates all offsets of a group and cannot be combined with --topic, --partition, --offset or --at")
	case q.group == "" && (q.commit || q.script):
		return wrong(f, "--commit and --reset-script need --group")
	case q.output != outputTable && q.script:
		return wrong(f, "--output and --reset-script cannot be combined")
	case q.topic != "" && q.at == "" && (q.partition < 0 || q.offset < 0):
		return wrong(f, "--topic needs --partition and --offset, or --at")
	case q.at != "" && f.Changed("offset"):
		return wrong(f, "--at and --offset cannot be combined")
	case q.at != "" && q.reverse:
		return wrong(f, "--at already prints the offsets of both clusters; remove --reverse")
	}
	if q.at != "" {
		if _, err := parseTime("at", q.at); err != nil {
			return wrong(f, "%v", err)
		}
	}
	return nil
}

// parseTime reads the value of a flag: RFC 3339 or milliseconds since 1970.
func parseTime(flag, text string) (time.Time, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMilli(ms), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--%s %q is neither a time like 2026-01-31T15:04:05Z nor a number of milliseconds", flag, text)
	}
	return at, nil
}

// translateOffsets answers for one offset, or for a time in all partitions or one.
func (p *program) translateOffsets(ctx context.Context, t *groups.Translator, q question) error {
	list, err := lookUp(ctx, t, q)
	if err != nil {
		return fmt.Errorf("translate: %w", err)
	}
	var rows []translated
	failed := 0
	for _, one := range list {
		if q.partition < 0 || one.Partition == q.partition {
			rows = append(rows, newTranslated(one.Translation, one.Err))
			if one.Err != nil {
				failed++
			}
		}
	}
	if len(rows) == 0 {
		return fmt.Errorf("translate: topic %s has no partition %d", q.topic, q.partition)
	}
	if err := p.printTranslated(rows, q); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("translate: %d of %s could not be translated", failed, count(len(rows), "partition"))
	}
	return nil
}

func lookUp(ctx context.Context, t *groups.Translator, q question) ([]groups.Answer, error) {
	if q.at != "" {
		at, err := parseTime("at", q.at)
		if err != nil {
			return nil, err
		}
		return t.At(ctx, q.topic, at)
	}
	translate := t.Offset
	if q.reverse {
		translate = t.ReverseOffset
	}
	one, err := translate(ctx, q.topic, q.partition, q.offset)
	if _, ok := errors.AsType[*offsets.NotCopiedError](err); ok {
		return nil, fmt.Errorf("topic %s, partition %d: %w", q.topic, q.partition, err)
	}
	if err != nil {
		return nil, err
	}
	return []groups.Answer{{Translation: one}}, nil
}

// side is the cluster that a group's offsets are translated to.
type side struct {
	offsets.Side
	alias   string
	brokers []string
}

// translateGroup answers for all partitions of a group. An offset that has no translation is an error, after the others were
// printed and committed.
func (p *program) translateGroup(ctx context.Context, t *groups.Translator, to side, q question) error {
	var positions []offsets.GroupOffset
	var text string
	var err error
	if q.reverse {
		positions, err = t.ReverseGroup(ctx, q.group)
	} else {
		positions, text, err = t.Group(ctx, q.group)
	}
	if err != nil {
		return fmt.Errorf("translate: %w", err)
	}
	if err := p.printGroup(positions, text, to, q); err != nil {
		return err
	}
	if q.commit {
		if err := p.commit(ctx, t, to, positions, q); err != nil {
			return err
		}
	}
	failed := 0
	for _, position := range positions {
		if position.Err != nil {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("translate: %d of %s could not be translated", failed, count(len(positions), "offset"))
	}
	return nil
}

// printGroup prints the offsets of a group as a script, as JSON or as a table.
func (p *program) printGroup(positions []offsets.GroupOffset, text string, to side, q question) error {
	if q.script {
		p.printScript(positions, to, q.group)
		return nil
	}
	rows := make([]translated, 0, len(positions))
	for _, position := range positions {
		r := newTranslated(position.Translation, position.Err)
		r.Metadata = position.Metadata
		if position.Lag >= 0 {
			r.Lag = &position.Lag
		}
		rows = append(rows, r)
	}
	if text != "" && q.output == outputTable {
		p.printf("%s\n", text)
	}
	return p.printTranslated(rows, q)
}

// commit commits the offsets of a group. Offsets that are not committed, with the reason, are the error.
func (p *program) commit(ctx context.Context, t *groups.Translator, to side, positions []offsets.GroupOffset, q question) error {
	moved, refusals, err := t.Commit(ctx, to.Side, q.group, positions)
	if err != nil {
		return fmt.Errorf("translate: commit: %w", err)
	}
	if q.output == outputTable && !q.script {
		p.printf("committed on %s: %s", to.alias, count(moved, "offset"))
		if moved == 0 && len(refusals) == 0 && slices.ContainsFunc(positions, func(p offsets.GroupOffset) bool { return p.Err == nil }) {
			p.printf("; the group has these offsets already")
		}
		p.printf("\n")
	}
	texts := make([]error, 0, len(refusals))
	for _, r := range refusals {
		texts = append(texts, fmt.Errorf("translate: not committed: %s (%s)", r.Text, r.Detail))
	}
	return errors.Join(texts...)
}

// printScript prints commands for Kafka's own tool. Like --commit it refuses a group with members; unlike --commit it also
// moves a group backwards.
func (p *program) printScript(positions []offsets.GroupOffset, to side, group string) {
	for _, position := range positions {
		topic, offset := position.TargetTopic, position.Target
		if to.Side == offsets.Source {
			topic, offset = position.Topic, position.Source
		}
		if position.Err != nil {
			p.printf("# %s:%d: %v\n", topic, position.Partition, position.Err)
			continue
		}
		p.printf("kafka-consumer-groups.sh --bootstrap-server %s --group %s --topic %s:%d --reset-offsets --to-offset %d --execute\n",
			strings.Join(to.brokers, ","), quote(group), topic, position.Partition, offset)
	}
}

// quote makes a string safe for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// translated is one line of an answer.
type translated struct {
	Topic        string   `json:"topic"`
	TargetTopic  string   `json:"target_topic"`
	Partition    int32    `json:"partition"`
	SourceOffset *int64   `json:"source_offset,omitempty"`
	TargetOffset *int64   `json:"target_offset,omitempty"`
	Exact        bool     `json:"exact"`
	Origin       string   `json:"origin,omitempty"`
	AgeSeconds   *float64 `json:"age_seconds,omitempty"` // age of the data behind the answer
	Lag          *int64   `json:"lag,omitempty"`         // offsets between the target offset and the end of the target partition
	Metadata     string   `json:"metadata,omitempty"`
	Error        string   `json:"error,omitempty"`
}

func newTranslated(t offsets.Translation, err error) translated {
	r := translated{Topic: t.Topic, TargetTopic: t.TargetTopic, Partition: t.Partition, Exact: t.Exact, Origin: string(t.Origin)}
	if err != nil {
		r.Error = err.Error()
		return r
	}
	r.SourceOffset, r.TargetOffset = &t.Source, &t.Target
	if !t.AsOf.IsZero() {
		age := max(0, time.Since(t.AsOf).Seconds())
		r.AgeSeconds = &age
	}
	return r
}

// staleSeconds is the age from which the table shows how old an answer is.
const staleSeconds = 5

func (p *program) printTranslated(rows []translated, q question) error {
	if q.output != outputTable {
		return p.printAs(q.output, rows)
	}
	if len(rows) == 0 {
		return nil
	}
	w := p.table()
	row(w, "TOPIC\tPARTITION\tSOURCE OFFSET\tTARGET TOPIC\tTARGET OFFSET\tEXACT\tBASED ON\tTARGET LAG")
	for _, r := range rows {
		if r.Error != "" {
			row(w, "%s\t%d\t-\t%s\t-\t\t\t%s", r.Topic, r.Partition, r.TargetTopic, r.Error)
			continue
		}
		exact, basis := "no (next record or end)", r.Origin
		if r.Exact {
			exact = "yes"
		}
		if r.AgeSeconds != nil && *r.AgeSeconds >= staleSeconds {
			basis += fmt.Sprintf(", %.0f s old", *r.AgeSeconds)
		}
		row(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s", r.Topic, r.Partition, optional(r.SourceOffset), r.TargetTopic, optional(r.TargetOffset), exact, basis, optional(r.Lag))
	}
	return w.Flush()
}
