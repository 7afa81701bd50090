package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/verify"
)

const verifyHelp = `milena verify proves that the copies of a flow are equal to their source, while the flow runs or not. It
reads both clusters and the journal, and writes nothing but its progress, to the control topic of the flow:
killed, the same command goes on from there. Exit codes: 0 equal, 1 different, 3 no difference found but
something could not be verified.

Examples:
  milena verify -c milena.yaml
  milena verify -c milena.yaml --topic orders,payments --rate 10MiB
  milena verify -c milena.yaml --restart
  milena verify -c milena.yaml --last 1h
  milena verify -c milena.yaml --sample 1% --output json
`

// unverifiedError says that something could not be verified.
type unverifiedError struct{ err error }

func (e *unverifiedError) Error() string { return e.err.Error() }
func (e *unverifiedError) Unwrap() error { return e.err }

// verifyFlags are the flags of verify.
type verifyFlags struct {
	flow         string
	topics       []string
	last         time.Duration
	from, to     string
	sample, rate string
	state        string
	restart      bool
	output       string
}

func (v *verifyFlags) add(f *pflag.FlagSet) {
	f.StringVar(&v.flow, "flow", "", "`NAME` of the flow; needed if the config has several")
	f.StringSliceVar(&v.topics, "topic", nil, "verify only these `TOPICS` of the source, separated by commas (default: all that the flow selects)")
	f.DurationVar(&v.last, "last", 0, "verify only records that are not older than this `DURATION`, such as 1h")
	f.StringVar(&v.from, "from", "", "verify from the first record that is not older than this `TIME`, as 2026-01-31T15:04:05Z or in milliseconds since 1970")
	f.StringVar(&v.to, "to", "", "verify up to the first record that is not older than this `TIME`")
	f.StringVar(&v.sample, "sample", "100%", "verify only this `PART` of the records of each partition, chosen at random, such as 1%")
	f.StringVar(&v.rate, "rate", "", "read at most this many `BYTES` per second from each of the two clusters, such as 10MiB (default: no limit)")
	f.StringVar(&v.state, "state", "", "keep the progress in this `FILE`, and go on from it if it exists; it is removed at the end (default: in the control topic, which needs WRITE)")
	f.BoolVar(&v.restart, "restart", false, "begin anew, and forget the progress of an earlier run")
	addOutput(f, &v.output)
}

// options reads the flags. An error is a usageError.
func (v *verifyFlags) options(f *pflag.FlagSet) (verify.Options, error) {
	var o verify.Options
	var err error
	o.Question.Topics = slices.Compact(slices.Sorted(slices.Values(v.topics)))
	switch {
	case v.last < 0, f.Changed("last") && v.last == 0:
		return o, wrong(f, "--last must be longer than 0s")
	case v.last > 0 && (v.from != "" || v.to != ""):
		return o, wrong(f, "--last cannot be combined with --from or --to")
	case slices.Contains(v.topics, ""):
		return o, wrong(f, "--topic has an empty name")
	}
	if o.Question.Sample, err = parsePart(v.sample); err != nil {
		return o, wrong(f, "--sample %v", err)
	}
	if f.Changed("rate") {
		var rate config.Bytes
		if err := rate.UnmarshalText([]byte(v.rate)); err != nil || rate <= 0 {
			return o, wrong(f, "--rate %q is not a number of bytes above 0, such as 10MiB", v.rate)
		}
		o.Rate = int64(rate)
	}
	if v.last > 0 {
		o.Question.From, o.Relative = time.Now().Add(-v.last).UTC().Truncate(time.Millisecond), true
	}
	for _, one := range []struct {
		flag, text string
		at         *time.Time
	}{{"from", v.from, &o.Question.From}, {"to", v.to, &o.Question.To}} {
		if one.text == "" {
			continue
		}
		if *one.at, err = parseTime(one.flag, one.text); err != nil {
			return o, wrong(f, "%v", err)
		}
	}
	if q := o.Question; !q.To.IsZero() && !q.From.Before(q.To) {
		return o, wrong(f, "--from must be before --to")
	}
	return o, nil
}

// parsePart reads a part of a whole: 1%, or 0.01.
func parsePart(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	part, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		part /= 100
	}
	if err != nil || !(part > 0 && part <= 1) {
		return 0, fmt.Errorf("%q is not a part above 0%% and up to 100%%, such as 1%%", text)
	}
	return part, nil
}

func (p *program) verify(ctx context.Context, args []string) error {
	var flags verifyFlags
	f := p.flags("verify", verifyHelp)
	path := configFlag(f)
	flags.add(f)
	if err := parse(f, args); err != nil {
		return err
	}
	o, err := flags.options(f)
	if err != nil {
		return err
	}
	file, err := p.readConfig(*path)
	if err != nil {
		return err
	}
	flow, err := chooseFlow(f, file.Config, flags.flow)
	if err != nil {
		return err
	}
	o.Clusters, o.Restart = silent(file.Config, flow), flags.restart
	where := flags.state
	if flags.state != "" {
		o.Store = stateFile{flags.state}
	} else {
		store := &topicStore{
			clusters: o.Clusters, slot: progressSlot(o.Question, flags.last), who: p.whoDecides(),
			warn: func(err error) { p.say("verify: %v", err) },
		}
		defer func() {
			if store.close != nil {
				store.close()
			}
		}()
		o.Store, where = store, store.where()
	}
	o.Resumed = func(r verify.Resumption) { p.say("verify: %s", resumedText(r, where)) }
	return p.runVerification(ctx, o, flags)
}

// say prints a line beside the result.
func (p *program) say(format string, args ...any) { _, _ = fmt.Fprintf(p.stderr, format+"\n", args...) }

// resumedText says what a run goes on from.
func resumedText(r verify.Resumption, where string) string {
	text := fmt.Sprintf("goes on from the progress in %s: %s begun", where, count(r.Partitions, "partition"))
	if r.Total > 0 {
		text += fmt.Sprintf(", %.0f%% of the offsets verified", float64(r.Offsets)/float64(r.Total)*100)
	}
	if !r.Began.IsZero() {
		text += ", since " + r.Began.Format(time.RFC3339)
	}
	return text + "; --restart begins anew"
}

// runVerification verifies, shows the progress, and prints the result.
func (p *program) runVerification(ctx context.Context, o verify.Options, flags verifyFlags) error {
	v, err := verify.New(o)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	stop := p.showProgress(ctx, v)
	err = v.Run(ctx)
	stop()
	report := v.Report()
	var other *verify.OtherQuestionError
	switch {
	case errors.As(err, &other):
		return &usageError{fmt.Sprintf("verify: %s: %v", flags.state, err)}
	case err != nil && len(report.Partitions) == 0:
		return &unverifiedError{fmt.Errorf("verify: %w", err)}
	}
	if printed := p.printVerification(report, flags.output); printed != nil {
		return printed
	}
	switch {
	case ctx.Err() != nil:
		return &unverifiedError{errors.New("verify: interrupted; the same command goes on from here, if the progress could be kept")}
	case report.Result == verify.Different:
		return errors.Join(fmt.Errorf("verify: %s", count(report.Differing, "differing record")), err)
	case err != nil:
		return &unverifiedError{fmt.Errorf("verify: %w", err)}
	case report.Result == verify.NotVerified:
		return &unverifiedError{fmt.Errorf("verify: no difference found, but not everything could be verified: %s", notVerified(report))}
	}
	return nil
}

// notVerified says how much could not be verified.
func notVerified(r *verify.Report) string {
	partitions := 0
	for i := range r.Partitions {
		if r.Partitions[i].NotVerified != "" {
			partitions++
		}
	}
	if len(r.NotCopied) > 0 {
		return fmt.Sprintf("%s, and %s that is not copied", count(partitions, "partition"), count(len(r.NotCopied), "topic"))
	}
	return count(partitions, "partition")
}

const (
	// How often the progress is drawn on a terminal.
	progressInterval = 500 * time.Millisecond
	progressBar      = 30 // characters
)

// showProgress draws the progress on the terminal that shows stderr, if it is one, until the returned function is called, which removes it.
func (p *program) showProgress(ctx context.Context, v *verify.Verification) (stop func()) {
	if !isTerminal(p.stderr) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		began, first := time.Now(), verify.Progress{}
		for {
			select {
			case <-ctx.Done():
				_, _ = io.WriteString(p.stderr, "\r\x1b[K")
				return
			case <-tick.C:
			}
			now := v.Progress()
			if first.Total == 0 { // a run that goes on does not begin at 0
				first, began = now, time.Now()
			}
			_, _ = io.WriteString(p.stderr, "\r\x1b[K"+progressLine(first, now, time.Since(began)))
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// progressLine is a bar, the part that is done, the speed, and the time that is left.
func progressLine(first, now verify.Progress, took time.Duration) string {
	if now.Total == 0 {
		return "reading the journal and the topics of both clusters"
	}
	part := min(1, float64(now.Offsets)/float64(now.Total))
	line := fmt.Sprintf("%s %3.0f%%", bar(part, progressBar), part*100)
	if seconds := took.Seconds(); seconds > 0 {
		line += fmt.Sprintf("  %s/s", size(float64(now.Bytes-first.Bytes)/seconds))
	}
	if gained := now.Offsets - first.Offsets; gained > 0 {
		left := time.Duration(float64(took) * float64(now.Total-now.Offsets) / float64(gained))
		line += fmt.Sprintf("  %s left", left.Round(time.Second))
	}
	if now.Differing > 0 {
		line += "  " + count(now.Differing, "differing record")
	}
	return line
}

func (p *program) printVerification(r *verify.Report, output string) error {
	if output != outputTable {
		return p.printAs(output, r)
	}
	p.printf("flow %s: %s -> %s, verified in %s\n", r.Flow, r.Source, r.Target, time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond))
	p.printf("  %s equal (%d by bytes, %d by content) in %s of batches, %d differ\n", count(r.Records, "record"), r.ByBytes, r.ByContent, size(r.Bytes), r.Differing)
	if r.Sample < 1 {
		p.printf("  a sample of %g%% of the source offsets\n", r.Sample*100)
	}
	for _, one := range []struct {
		records int64
		text    string
	}{
		{r.WithoutTimestamp, "without their timestamps, which the target's broker set"},
		{r.CleanedOnSource, "removed by the log cleaner of the source only"},
		{r.CleanedOnTarget, "removed by the log cleaner of the target only"},
		{r.Aborted, "of aborted transactions, which are not copied"},
		{r.Skipped, "skipped or accepted by an anomaly"},
		{r.Foreign, "of others, which provenance allows"},
	} {
		if one.records > 0 {
			p.printf("  %s %s\n", count(one.records, "record"), one.text)
		}
	}
	p.printf("\n")
	p.printVerifiedPartitions(r)
	for topic, reason := range r.NotCopied {
		p.printf("  not verified: %s %s\n", topic, reason)
	}
	p.printf("  result: %s\n", strings.ReplaceAll(string(r.Result), "_", " "))
	return nil
}

// printVerifiedPartitions shows the partitions that are not equal first.
func (p *program) printVerifiedPartitions(r *verify.Report) {
	if len(r.Partitions) == 0 {
		return
	}
	rank := map[verify.Result]int{verify.Different: 0, verify.NotVerified: 1, verify.Equal: 2}
	list := slices.Clone(r.Partitions)
	slices.SortStableFunc(list, func(a, b verify.Partition) int { return rank[a.Result] - rank[b.Result] })
	w := p.table()
	row(w, "  TOPIC\tPARTITION\tRESULT\tSOURCE OFFSETS\tTARGET OFFSETS\tRECORDS\tBY BYTES\tBY CONTENT\tDIFFER")
	for _, part := range list[:min(maxPartitionRows, len(list))] {
		source, target := "-", "-"
		if v := part.Verified; v != nil {
			source, target = fmt.Sprintf("[%d, %d)", v.SourceFrom, v.SourceTo), fmt.Sprintf("[%d, %d)", v.TargetFrom, v.TargetTo)
		}
		row(w, "  %s\t%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d", part.Topic, part.Partition, strings.ReplaceAll(string(part.Result), "_", " "), source, target, part.Records, part.ByBytes, part.ByContent, part.Differing)
	}
	_ = w.Flush()
	if more := len(list) - maxPartitionRows; more > 0 {
		p.printf("  and %d more; --output=json prints all\n", more)
	}
	p.printf("\n")
	var sentences []string
	for _, part := range list {
		name := fmt.Sprintf("%s-%d", part.Topic, part.Partition)
		for _, d := range part.Differences {
			sentences = append(sentences, fmt.Sprintf("differs: %s: %s", name, d))
		}
		if part.NotVerified != "" {
			sentences = append(sentences, fmt.Sprintf("not verified: %s: %s", name, part.NotVerified))
		}
	}
	for _, part := range list {
		for _, note := range part.Notes {
			sentences = append(sentences, fmt.Sprintf("note: %s-%d: %s", part.Topic, part.Partition, note))
		}
	}
	for _, text := range sentences[:min(maxSentences, len(sentences))] {
		p.printf("  %s\n", text)
	}
	if more := len(sentences) - maxSentences; more > 0 {
		p.printf("  and %d more; --output=json prints all\n", more)
	}
}
