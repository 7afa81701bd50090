package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/replicator/fleet"
)

const completionHelp = `milena completion prints a script for a shell: bash, zsh, fish or powershell. With it, the TAB key completes
commands, flags, the names of flows, and values that are known. That of bash needs the package
bash-completion.

Examples:
  milena completion bash > /etc/bash_completion.d/milena
  milena completion zsh > "${fpath[1]}/_milena"
  milena completion fish > ~/.config/fish/completions/milena.fish
  milena completion powershell >> $PROFILE
`

// shells are the shells for which there is a completion.
func shells() []string { return []string{"bash", "zsh", "fish", "powershell"} }

func (p *program) completion(ctx context.Context, args []string) error {
	f := p.flags("completion", completionHelp)
	if err := parseArgs(f, args, 1); err != nil {
		return err
	}
	root := p.tree(ctx)
	switch f.Arg(0) {
	case "bash":
		return root.GenBashCompletionV2(p.stdout, true)
	case "zsh":
		return root.GenZshCompletion(p.stdout)
	case "fish":
		return root.GenFishCompletion(p.stdout, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(p.stdout)
	case "":
		return wrong(f, "needs a SHELL: %s", strings.Join(shells(), ", "))
	}
	return wrong(f, "unknown shell %q; there are %s", f.Arg(0), strings.Join(shells(), ", "))
}

const manHelp = `milena man writes a man page for each command into a directory, and creates it if it does not exist.

Example:
  milena man /usr/local/share/man/man1
`

func (p *program) man(ctx context.Context, args []string) error {
	f := p.flags("man", manHelp)
	if err := parseArgs(f, args, 1); err != nil {
		return err
	}
	dir := f.Arg(0)
	if dir == "" {
		return wrong(f, "needs a DIR for the pages")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("man: %w", err)
	}
	root := p.tree(ctx)
	root.DisableAutoGenTag = true
	root.Long += "\n\n" + indented("    "+strings.TrimPrefix(usage(), root.Long+"\n\n"), "    ") // as it is, also in the page
	p.define(ctx, root)
	if err := doc.GenManTree(root, &doc.GenManHeader{Title: "MILENA", Section: "1", Source: "milena " + buildVersion(), Manual: "milena"}, dir); err != nil {
		return fmt.Errorf("man: %w", err)
	}
	return nil
}

// oneOf completes the first argument.
func oneOf(values ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
		for _, value := range values {
			if len(args) == 0 && strings.HasPrefix(value, begun) {
				found = append(found, value)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// files completes the names of files.
func files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// commandNames completes the commands of the list.
func commandNames(_ *cobra.Command, args []string, begun string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
	for _, c := range commands() {
		if len(args) == 0 && c.group != "" && c.verb != nil && strings.HasPrefix(c.name(), begun) {
			found = append(found, cobra.CompletionWithDesc(c.name(), c.short))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeFlags says how the values of the flags of a command are completed.
func (p *program) completeFlags(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		values := cobra.NoFileCompletions
		switch f.Name {
		case "config", "state":
			return
		case "flow":
			values = p.flowNames
		case "output":
			values = cobra.FixedCompletions(outputs(), cobra.ShellCompDirectiveNoFileComp)
		case "kind":
			values = cobra.FixedCompletions(fleet.HistoryKinds(), cobra.ShellCompDirectiveNoFileComp)
		case "compare":
			values = cobra.FixedCompletions([]cobra.Completion{compareNew, compareAll}, cobra.ShellCompDirectiveNoFileComp)
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, values) // fails only if it is registered twice
	})
}

// flowNames completes the flows of the config that the command line names so far.
func (p *program) flowNames(cmd *cobra.Command, _ []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	file, err := p.readConfig(path)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, flow := range file.Config.Flows {
		names = append(names, cobra.CompletionWithDesc(flow.Name, flow.Source+" to "+flow.Target))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
