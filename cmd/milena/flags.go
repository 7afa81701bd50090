package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
)

// usageError says that the command line is wrong.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// wrong is the usage error of one command.
func wrong(f *pflag.FlagSet, format string, args ...any) error {
	return &usageError{fmt.Sprintf("%s: %s; see milena %s --help", f.Name(), fmt.Sprintf(format, args...), f.Name())}
}

// helpWidth is the column at which the descriptions of flags wrap.
const helpWidth = 100

// flags creates the flag set of a command. --help prints the text, one sentence and examples, and then the flags.
func (p *program) flags(command, help string) *pflag.FlagSet {
	f := pflag.NewFlagSet(command, pflag.ContinueOnError)
	f.SortFlags = false
	f.SetOutput(io.Discard) // pflag prints errors as well as returning them
	p.defined = definition{f, help}
	f.Usage = func() {
		p.printf("%s", help)
		if f.HasFlags() {
			p.printf("\nFlags:\n%s", f.FlagUsagesWrapped(helpWidth))
		}
	}
	return f
}

// configFlag adds the flag that names the config file.
func configFlag(f *pflag.FlagSet) *string {
	return f.StringP("config", "c", "", "config `FILE`: a milena.yaml, or the config of a MirrorMaker 2: mm2.properties, Strimzi resource, connector JSON")
}

// parse reads the flags of a command that takes no other arguments.
func parse(f *pflag.FlagSet, args []string) error { return parseArgs(f, args, 0) }

// parseArgs reads the flags of a command that takes up to n other arguments, which are in f.Args afterwards.
func parseArgs(f *pflag.FlagSet, args []string, n int) error {
	err := f.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case err != nil:
		return misread(f, err)
	case f.NArg() > n && f.Lookup("config") != nil && !f.Changed("config") && (f.Lookup("url") == nil || !f.Changed("url")):
		return wrong(f, "unexpected argument %q; name the config with -c FILE", f.Arg(n))
	case f.NArg() > n && f.Lookup("topic") != nil && f.Lookup("partition") != nil:
		return wrong(f, "unexpected argument %q; name topics with --topic and partitions with --partition", f.Arg(n))
	case f.NArg() > n && f.Lookup("topic") != nil:
		return wrong(f, "unexpected argument %q; name topics with --topic", f.Arg(n))
	case f.NArg() > n:
		return wrong(f, "unexpected argument %q", f.Arg(n))
	}
	if format, err := f.GetString("output"); err == nil && !slices.Contains(outputs(), format) {
		return wrong(f, "--output=%s must be table, json or yaml", format)
	}
	if timeout, err := f.GetDuration("timeout"); err == nil && timeout <= 0 {
		return wrong(f, "--timeout must be longer than 0s")
	}
	return nil
}

// misread is the usage error for flags that cannot be read. It names the flag that was probably meant by one that does not exist.
func misread(f *pflag.FlagSet, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return wrong(f, "%v", err)
	}
	var names []string
	f.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			names = append(names, flag.Name)
		}
	})
	typed := cmp.Or(unknown.GetSpecifiedShortnames(), unknown.GetSpecifiedName()) // -reason is read as seven shorthands
	if near := config.Nearest(typed, names); near != "" {
		return &usageError{fmt.Sprintf("%s: %v; did you mean --%s? See milena %s --help", f.Name(), err, near, f.Name())}
	}
	return wrong(f, "%v", err)
}
