package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
)

// command is one command of the program. Its verb defines its flags and reads them. Short is a clause for the list of commands.
type command struct {
	use, short string
	group      string // empty: not in the list
	verb       func(*program, context.Context, []string) error
	values     cobra.CompletionFunc // of the argument; nil: it takes none that is known
}

// definition is what the verb of a command has defined: its flags, and the text of its help.
type definition struct {
	flags *pflag.FlagSet
	help  string
}

// The groups of the list of commands, in its order.
const (
	groupCopy    = "Copy"
	groupLook    = "Look"
	groupControl = "Control"
	groupRecover = "Switch over and fail over"
	groupMigrate = "Migrate from MirrorMaker 2 and back"
	groupProgram = "The program"
)

// commands are all commands, in the order of the list.
func commands() []command {
	return []command{
		{"run -c FILE", "copy topics until stopped by a signal", groupCopy, (*program).run, nil},
		{"check -c FILE", "print what run would do; change nothing", groupCopy, (*program).check, nil},
		{"doctor -c FILE", "look for what endangers a flow, and print what mends it", groupCopy, (*program).doctor, nil},
		{"status [-c FILE]", "show the topics, their lag and what needs attention; --watch shows it live", groupLook, (*program).status, nil},
		{"health [-c FILE]", "ask a running milena whether it lives, for a container's health check", groupLook, (*program).health, nil},
		{"verify -c FILE", "prove that the copies are equal to their source", groupLook, (*program).verify, nil},
		{"translate -c FILE", "translate a group, an offset or a timestamp between the clusters", groupLook, (*program).translate, nil},
		{"log -c FILE", "show what people decided, and what became of it", groupLook, (*program).decisions, nil},
		{"pause -c FILE", "stop copying a flow, topics or partitions; milena resume goes on", groupControl, (*program).pause, nil},
		{"resume -c FILE", "end a pause", groupControl, (*program).resume, nil},
		{"stop -c FILE", "stop a flow for good: topics, configs, ACLs and groups, too", groupControl, (*program).stopFlow, nil},
		{"start -c FILE", "let a flow go on that was stopped or failed over", groupControl, (*program).startFlow, nil},
		{"throttle -c FILE", "limit the bytes per second of a flow or of topics", groupControl, (*program).throttle, nil},
		{"retry -c FILE", "take halted partitions over again once the cause is removed", groupControl, (*program).retry, nil},
		{"skip -c FILE", "let a halted partition continue behind what halted it", groupControl, (*program).skip, nil},
		{"restart-copy TOPIC -c FILE", "copy a topic again from its beginning", groupControl, (*program).restartCopy, nil},
		{"groups adopt GROUP -c FILE", "let milena move the positions of a group that others have put", groupControl, (*program).groups, oneOf("adopt")},
		{"switchover -c FILE", "move clients to the target without loss", groupRecover, (*program).switchover, nil},
		{"failover -c FILE", "make the target the cluster of the clients, because the source is gone", groupRecover, (*program).failover, nil},
		{"failback -c FILE", "bring clients home once the source of a failover is back", groupRecover, (*program).failback, nil},
		{"drill -c FILE", "try out a failover beside a running flow, without an effect on it", groupRecover, (*program).drill, nil},
		{"run --compare -c FILE", "compare with a running MirrorMaker 2; write nothing", groupMigrate, nil, nil},
		{"convert FILE", "print the config of a MirrorMaker 2 as a milena.yaml", groupMigrate, (*program).convert, files},
		{"rollback -c FILE", "compute where MirrorMaker 2 resumes a stopped flow; --write stores it", groupMigrate, (*program).rollback, nil},
		{"handback -c FILE", "the name of rollback in earlier versions", "", (*program).handback, nil},
		{"demo", "replicate between two in-memory clusters and verify every record", groupProgram, (*program).demo, nil},
		{"version", "print the version", groupProgram, (*program).version, nil},
		{"completion SHELL", "print the completion of commands and flags for a shell", groupProgram, (*program).completion, oneOf(shells()...)},
		{"man DIR", "write man pages", "", (*program).man, files},
		{"help [COMMAND]", "print this text, or the help of a command", groupProgram, (*program).help, commandNames},
	}
}

// name is the word that calls the command.
func (c *command) name() string {
	name, _, _ := strings.Cut(c.use, " ")
	return name
}

// usageWidth is the width of the commands in the list of commands.
const usageWidth = 35

// usage is the list of commands.
func usage() string {
	var b strings.Builder
	b.WriteString("milena replicates Apache Kafka clusters.\n")
	group := ""
	for _, c := range commands() {
		if c.group == "" {
			continue
		}
		if c.group != group {
			group = c.group
			fmt.Fprintf(&b, "\n%s:\n", group)
		}
		fmt.Fprintf(&b, "  %-*s %s\n", usageWidth, "milena "+c.use, c.short)
	}
	b.WriteString(`
FILE is a milena.yaml, or the config of a MirrorMaker 2: its mm2.properties, a Strimzi resource or connectors as JSON.
milena COMMAND --help prints the flags of a command, with examples.
Exit codes: 0 success, 1 failure, difference or something that needs attention, 2 wrong command line or config,
3 verify found no difference, and could not verify everything.
`)
	return b.String()
}

// tree is the program as cobra sees it. Each verb reads its flags itself; cobra finds the verb.
func (p *program) tree(ctx context.Context) *cobra.Command {
	root := &cobra.Command{
		Use: "milena", Short: "replicates Apache Kafka clusters", Long: "milena replicates Apache Kafka clusters.",
		DisableFlagParsing: true, SilenceErrors: true, SilenceUsage: true,
		Args:              cobra.ArbitraryArgs,
		RunE:              func(_ *cobra.Command, args []string) error { return p.noCommand(ctx, args) },
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetOut(p.stdout)
	root.SetErr(p.messages)
	root.SetHelpFunc(func(*cobra.Command, []string) {}) // the verb has printed it
	for _, c := range commands() {
		if c.verb == nil {
			continue
		}
		cmd := &cobra.Command{
			Use: c.use, Short: c.short, Hidden: c.group == "", DisableFlagParsing: true, ValidArgsFunction: c.values,
			RunE: func(_ *cobra.Command, args []string) error { return c.verb(p, ctx, args) },
		}
		if c.values == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		if c.name() == "help" {
			root.SetHelpCommand(cmd)
		}
		root.AddCommand(cmd)
	}
	return root
}

// dispatch runs the command that the first argument names.
func (p *program) dispatch(ctx context.Context, args []string) error {
	root := p.tree(ctx)
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		p.define(ctx, root)
	}
	root.SetArgs(append([]string{}, args...)) // with nil, cobra takes those of the process
	return root.ExecuteContext(ctx)
}

// define tells cobra the flags and the help of all commands. Verbs define their flags when they are called, and do nothing else with --help.
func (p *program) define(ctx context.Context, root *cobra.Command) {
	for _, c := range commands() {
		if c.verb == nil {
			continue
		}
		q := newProgram(io.Discard, io.Discard, p.env)
		_ = c.verb(q, ctx, []string{"--help"})
		cmd, _, err := root.Find([]string{c.name()})
		if err != nil || q.defined.flags == nil {
			continue
		}
		cmd.DisableFlagParsing = false
		cmd.Flags().AddFlagSet(q.defined.flags)
		cmd.Long, cmd.Example = q.defined.text()
		cmd.Flags().VisitAll(func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) })
		p.completeFlags(cmd)
	}
}

// text is the help of a command without its flags: what it does, and examples.
func (d *definition) text() (does, examples string) {
	does, examples, _ = strings.Cut(strings.Replace(d.help, "\n\nExample:\n", "\n\nExamples:\n", 1), "\n\nExamples:\n")
	return does, strings.TrimRight(examples, "\n")
}

// noCommand is for a command line that does not begin with a command.
func (p *program) noCommand(ctx context.Context, args []string) error {
	if len(args) == 0 {
		p.complain(usage())
		return &usageError{"no command given"}
	}
	switch args[0] {
	case "--version":
		return p.version(ctx, args[1:])
	case "--help", "-h":
		return p.help(ctx, args[1:])
	}
	if strings.HasPrefix(args[0], "-") {
		return &usageError{fmt.Sprintf("unknown command %q; flags come behind a command, and milena help lists all commands", args[0])}
	}
	var names []string
	for _, c := range commands() {
		if c.group != "" {
			names = append(names, c.name())
		}
	}
	if near := config.Nearest(args[0], names); near != "" {
		return &usageError{fmt.Sprintf("unknown command %q; did you mean %q? milena help lists all commands", args[0], near)}
	}
	return &usageError{fmt.Sprintf("unknown command %q; milena help lists all commands", args[0])}
}

const helpHelp = `milena help lists all commands. With a COMMAND it prints what milena COMMAND --help does.

Examples:
  milena help
  milena help status
`

// help prints the text of a command, or the list of commands.
func (p *program) help(ctx context.Context, args []string) error {
	f := p.flags("help", helpHelp)
	f.Usage = func() { p.printf("%s", usage()) }
	if err := parseArgs(f, args, 1); err != nil {
		return err
	}
	if f.NArg() == 0 || f.Arg(0) == "help" {
		f.Usage()
		return nil
	}
	return p.dispatch(ctx, []string{f.Arg(0), "--help"})
}

// handback is rollback under the name that it had.
func (p *program) handback(ctx context.Context, args []string) error {
	p.complain("milena: handback is now called rollback")
	return p.rollback(ctx, args)
}
