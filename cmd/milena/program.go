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

// program is the world around a command: its output streams and environment variables. What a command prints goes to stdout and messages,
// which write no control characters; the log writes to stderr and quotes them. Terminal is stdout for control characters of our own.
type program struct {
	stdout, messages io.Writer
	stderr, terminal io.Writer
	colours          bool // stdout shows them
	env              func(string) (string, bool)
	level            slog.LevelVar // of the log, which a reload may change
	log              *slog.Logger  // of milena run, if it logs JSON: the error that ends it is a line of JSON too
	defined          definition    // of the command that was called last
}

func newProgram(stdout, stderr io.Writer, env func(string) (string, bool)) *program {
	return &program{
		stdout: &printable{Writer: stdout}, messages: &printable{Writer: stderr}, stderr: stderr,
		terminal: stdout, colours: hasColours(stdout, env), env: env,
	}
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

// complain writes to stderr. A failure of stderr itself cannot be reported anywhere.
func (p *program) complain(text string) { _, _ = fmt.Fprintln(p.messages, text) }

// printf writes to stdout. An error, such as a closed pipe, does not fail the command.
func (p *program) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.stdout, format, args...) }
