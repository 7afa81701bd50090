package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
)

// The exit codes.
const (
	exitClean  = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `milena replicates Kafka clusters.

  milena run -c FILE      copy until told to stop
  milena run --compare -c FILE
                          copy nothing: say what a running MirrorMaker 2 does otherwise; exit code 1 for a difference
  milena check -c FILE    reach both sides and say what run would do; changes nothing
  milena status           ask a running milena which partitions need attention
  milena convert FILE     print a MirrorMaker 2 file (mm2.properties) as a milena.yaml that means the same
  milena translate        where a group, an offset or a moment is on the other side
  milena handback         tell MirrorMaker 2 where to go on with a flow that milena has stopped copying
  milena demo             two clusters, load and a flow in this process, and a page to look at
  milena version          what this is
  milena help             this

FILE is a milena.yaml or the mm2.properties of a MirrorMaker 2. milena VERB --help tells the flags of a verb.
Exit codes: 0 clean, 1 failed, 2 usage or config.
`

// program is what a verb has of the world around it.
type program struct {
	stdout, stderr io.Writer
	env            func(string) (string, bool)
}

// usageError says that the command line is wrong.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// fileError says that a config couldn't even be read.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() + "; name the config with -c FILE" }
func (e *fileError) Unwrap() error { return e.err }

// run is the program: it does what args say until it is done or ctx ends, and gives the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	p := &program{stdout: stdout, stderr: stderr, env: env}
	err := p.verb(ctx, args)
	var (
		wrong  *usageError
		file   *fileError
		config *config.Error
	)
	switch {
	case err == nil || errors.Is(err, pflag.ErrHelp):
		return exitClean
	case errors.As(err, &config):
		p.complain(err.Error()) // each line begins with the file already
		return exitUsage
	case errors.As(err, &wrong), errors.As(err, &file):
		p.complain("milena: " + err.Error())
		return exitUsage
	default:
		p.complain("milena: " + err.Error())
		return exitFailed
	}
}

// complain writes to stderr. If that is gone, nobody is left to tell.
func (p *program) complain(text string) { _, _ = fmt.Fprintln(p.stderr, text) }

// printf writes to stdout. An error there (a closed pipe) is not what the verb is about.
func (p *program) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.stdout, format, args...) }

func (p *program) verb(ctx context.Context, args []string) error {
	if len(args) == 0 {
		p.complain(usage)
		return &usageError{"name a verb"}
	}
	verb, rest := args[0], args[1:]
	switch verb {
	case "run":
		return p.run(ctx, rest)
	case "check":
		return p.check(ctx, rest)
	case "status":
		return p.status(ctx, rest)
	case "translate":
		return p.translate(ctx, rest)
	case "handback":
		return p.handback(ctx, rest)
	case "convert":
		return p.convert(rest)
	case "demo":
		return p.demo(ctx, rest)
	case "version", "--version":
		return p.version(rest)
	case "help", "--help", "-h":
		p.printf("%s", usage)
		return nil
	default:
		p.complain(usage)
		return &usageError{fmt.Sprintf("there is no verb %q", verb)}
	}
}

// flags makes the flag set of one verb.
func (p *program) flags(verb, does string) *pflag.FlagSet {
	f := pflag.NewFlagSet(verb, pflag.ContinueOnError)
	f.SortFlags = false
	f.SetOutput(io.Discard) // pflag would print errors too, and they are returned anyway
	f.Usage = func() {
		p.printf("milena %s: %s\n\n%s", verb, does, f.FlagUsages())
	}
	return f
}

// parse reads a verb's flags. No verb takes anything but flags.
func parse(f *pflag.FlagSet, args []string) error {
	err := f.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case err != nil:
		return &usageError{fmt.Sprintf("%s: %v; see milena %s --help", f.Name(), err, f.Name())}
	case f.NArg() > 0:
		return &usageError{fmt.Sprintf("%s: takes no argument, and was given %q; see milena %s --help", f.Name(), f.Arg(0), f.Name())}
	default:
		return nil
	}
}

// load reads the config that a verb was given.
func (p *program) load(path string) (*config.Config, error) {
	f, err := p.read(path)
	if err != nil {
		return nil, err
	}
	return f.Config, nil
}

// read is load with what else there is to say about the file.
func (p *program) read(path string) (*config.File, error) {
	if path == "" {
		return nil, &usageError{"name the config with -c FILE"}
	}
	f, err := config.Read(path, p.env)
	var wrong *config.Error
	if err != nil && !errors.As(err, &wrong) {
		return nil, &fileError{err}
	}
	return f, err
}

// logger writes to stderr: text for a person, JSON for a collector.
func (p *program) logger(c config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // validated words only; a test's empty Log means info
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: withUnit}
	if c.Format == "text" || c.Format == "auto" && isTerminal(p.stderr) {
		return slog.New(slog.NewTextHandler(p.stderr, options))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, options))
}

// withUnit has durations written as 2s, with their unit, in JSON too: slog's own JSON has a bare number of nanoseconds.
func withUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// isTerminal says whether a person reads along. Other character devices count as terminals too, which hurts nobody.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// count writes n with the noun, which gets an s unless n is one.
func count[N ~int | ~int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// size writes bytes for a person.
func size[N ~int64 | ~float64](n N) string {
	f := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if f < 1000 {
			return fmt.Sprintf("%.*f %s", map[bool]int{true: 0, false: 1}[unit == "B"], f, unit)
		}
		f /= 1000
	}
	return fmt.Sprintf("%.1f TB", f)
}
