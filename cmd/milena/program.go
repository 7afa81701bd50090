package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
)

// The exit codes.
const (
	exitClean      = 0
	exitFailed     = 1
	exitUsage      = 2
	exitUnverified = 3
)

const usage = `milena replicates Apache Kafka clusters.

Usage:
  milena run -c FILE             copy topics until stopped by a signal
  milena run --compare -c FILE   compare with a running MirrorMaker 2; write nothing
  milena check -c FILE           print what run would do; change nothing
  milena doctor -c FILE          look for what endangers a flow, and print what mends it
  milena status [-c FILE]        show lag and the partitions that need attention
  milena verify -c FILE          prove that the copies are equal to their source
  milena translate -c FILE       translate a group, an offset or a timestamp between the clusters
  milena pause -c FILE           stop copying a flow, topics or partitions; milena resume goes on
  milena retry -c FILE           take halted partitions over again once the cause is removed
  milena skip -c FILE            let a halted partition continue behind what halted it
  milena restart-copy -c FILE    copy a topic again from its beginning
  milena throttle -c FILE        limit the bytes per second of a flow or of topics
  milena groups adopt GROUP      let milena move the positions of a group that others have put
  milena log -c FILE             show what happened to a flow, and what people decided
  milena convert FILE            print the config of a MirrorMaker 2 as a milena.yaml
  milena rollback -c FILE        compute where MirrorMaker 2 resumes a stopped flow; --write stores it
  milena demo                    replicate between two in-memory clusters and verify every record
  milena version                 print the version
  milena help                    print this text

FILE is a milena.yaml, or the config of a MirrorMaker 2: its mm2.properties, a Strimzi resource or connectors as JSON.
milena COMMAND --help prints the flags of a command.
Exit codes: 0 success, 1 failure, difference or something that needs attention, 2 wrong command line or config,
3 verify found no difference, and could not verify everything.
`

// program is the world around a command: its output streams and environment variables. What a command prints goes to stdout and messages,
// which write no control characters; the log writes to stderr and quotes them. Terminal is stdout for control characters of our own.
type program struct {
	stdout, messages io.Writer
	stderr, terminal io.Writer
	env              func(string) (string, bool)
	log              *slog.Logger // of milena run, if it logs JSON: the error that ends it is a line of JSON too
}

func newProgram(stdout, stderr io.Writer, env func(string) (string, bool)) *program {
	return &program{stdout: &printable{Writer: stdout}, messages: &printable{Writer: stderr}, stderr: stderr, terminal: stdout, env: env}
}

// run executes the command that args name and returns the exit code. It blocks until the command is done or ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	p := newProgram(stdout, stderr, env)
	err := p.dispatch(ctx, args)
	var (
		wrongLine   *usageError
		unreadable  *fileError
		wrongConfig *config.Error
		unverified  *unverifiedError
	)
	switch {
	case err == nil || errors.Is(err, pflag.ErrHelp):
		return exitClean
	case errors.As(err, &wrongConfig):
		p.complain(err.Error()) // each line begins with the file name already
		return exitUsage
	case errors.As(err, &wrongLine), errors.As(err, &unreadable):
		p.complain("milena: " + indented(err.Error(), "  "))
		return exitUsage
	case errors.As(err, &unverified):
		p.complain("milena: " + indented(err.Error(), "  "))
		return exitUnverified
	case p.log != nil:
		p.log.Error("milena ends", "err", err)
		return exitFailed
	default:
		p.complain("milena: " + indented(err.Error(), "  "))
		return exitFailed
	}
}

// dispatch runs the command that the first argument names.
func (p *program) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		p.complain(usage)
		return &usageError{"no command given"}
	}
	command, rest := args[0], args[1:]
	switch command {
	case "run":
		return p.run(ctx, rest)
	case "check":
		return p.check(ctx, rest)
	case "doctor":
		return p.doctor(ctx, rest)
	case "status":
		return p.status(ctx, rest)
	case "verify":
		return p.verify(ctx, rest)
	case "translate":
		return p.translate(ctx, rest)
	case "pause":
		return p.pause(ctx, rest)
	case "resume":
		return p.resume(ctx, rest)
	case "retry":
		return p.retry(ctx, rest)
	case "skip":
		return p.skip(ctx, rest)
	case "restart-copy":
		return p.restartCopy(ctx, rest)
	case "throttle":
		return p.throttle(ctx, rest)
	case "groups":
		return p.groups(ctx, rest)
	case "log":
		return p.decisions(ctx, rest)
	case "convert":
		return p.convert(rest)
	case "rollback":
		return p.rollback(ctx, rest)
	case "handback": // the name of rollback in earlier versions
		p.complain("milena: handback is now called rollback")
		return p.rollback(ctx, rest)
	case "demo":
		return p.demo(ctx, rest)
	case "version", "--version":
		return p.version(rest)
	case "help", "--help", "-h":
		return p.help(ctx, rest)
	default:
		return &usageError{fmt.Sprintf("unknown command %q; milena help lists all commands", command)}
	}
}

// help prints the text of a command, or the list of commands.
func (p *program) help(ctx context.Context, args []string) error {
	switch len(args) {
	case 0:
		p.printf("%s", usage)
		return nil
	case 1:
		if args[0] == "help" {
			return p.help(ctx, nil)
		}
		return p.dispatch(ctx, []string{args[0], "--help"})
	default:
		return &usageError{fmt.Sprintf("help: unexpected argument %q; milena help lists all commands", args[1])}
	}
}

// complain writes to stderr. A failure of stderr itself cannot be reported anywhere.
func (p *program) complain(text string) { _, _ = fmt.Fprintln(p.messages, text) }

// printf writes to stdout. An error, such as a closed pipe, does not fail the command.
func (p *program) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.stdout, format, args...) }
