package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every command says what it does and gives examples of itself, and with --help it does nothing else.
func TestEveryCommandHasExamples(t *testing.T) {
	for _, c := range commands() {
		if c.verb == nil {
			continue
		}
		code, stdout, _ := milena(t, c.name(), "--help")
		if c.name() == "help" || c.name() == "handback" {
			continue // the list of commands, and the help of rollback
		}
		p := newProgram(&strings.Builder{}, &strings.Builder{}, noEnv)
		_ = c.verb(p, t.Context(), []string{"--help"})
		does, examples := p.defined.text()
		if code != exitClean || !strings.HasPrefix(does, "milena "+c.name()+" ") || !strings.HasPrefix(stdout, does) {
			t.Errorf("milena %s --help: exit %d\n%s", c.name(), code, stdout)
		}
		if !strings.Contains(examples, "milena "+c.name()) {
			t.Errorf("milena %s --help has no examples:\n%s", c.name(), stdout)
		}
	}
}

// A mistyped command or flag is one sentence on stderr, with what was probably meant.
func TestMistypedCommandsAndFlags(t *testing.T) {
	for line, want := range map[string]string{
		"stauts":                `milena: unknown command "stauts"; did you mean "status"? milena help lists all commands`,
		"help stauts":           `milena: unknown command "stauts"; did you mean "status"? milena help lists all commands`,
		"handbak":               `milena: unknown command "handbak"; milena help lists all commands`,
		"--json":                `milena: unknown command "--json"; flags come behind a command, and milena help lists all commands`,
		"pause --resaon x":      `milena: pause: unknown flag: --resaon; did you mean --reason? See milena pause --help`,
		"pause -reason x":       `milena: pause: unknown shorthand flag: 'r' in -reason; did you mean --reason? See milena pause --help`,
		"status --colour":       `milena: status: unknown flag: --colour; see milena status --help`,
		"pause orders -c x":     `milena: pause: unexpected argument "orders"; name topics with --topic and partitions with --partition; see milena pause --help`,
		"verify orders -c x":    `milena: verify: unexpected argument "orders"; name topics with --topic; see milena verify --help`,
		"status orders -c x":    `milena: status: unexpected argument "orders"; see milena status --help`,
		"status orders":         `milena: status: unexpected argument "orders"; name the config with -c FILE; see milena status --help`,
		"check orders -c x":     `milena: check: unexpected argument "orders"; see milena check --help`,
		"completion":            `milena: completion: needs a SHELL: bash, zsh, fish, powershell; see milena completion --help`,
		"completion tcsh":       `milena: completion: unknown shell "tcsh"; there are bash, zsh, fish, powershell; see milena completion --help`,
		"completion bash again": `milena: completion: unexpected argument "again"; see milena completion --help`,
		"man":                   `milena: man: needs a DIR for the pages; see milena man --help`,
	} {
		code, stdout, stderr := milena(t, strings.Fields(line)...)
		if code != exitUsage || stdout != "" || stderr != want+"\n" {
			t.Errorf("%s: exit %d\n%s%s", line, code, stdout, stderr)
		}
	}
}

// The shell asks the program what may follow.
func TestCompletion(t *testing.T) {
	path := file(t, "clusters: {a: {brokers: [\"a:1\"]}, b: {brokers: [\"b:1\"]}}\nflows: [{source: a, target: b}, {source: b, target: a}]\n")
	for _, test := range []struct {
		line []string
		want string
	}{
		{[]string{"stat"}, "status\tshow "},
		{[]string{"restart-copy", "--re"}, "--reason\tTEXT that says why"},
		{[]string{"run", "--compare="}, "new\nall\n"},
		{[]string{"run", "--clus"}, "--clusters\tALIASES of target clusters"},
		{[]string{"groups", ""}, "adopt\n"},
		{[]string{"completion", "z"}, "zsh\n"},
		{[]string{"log", "--kind", ""}, "decision\nanomaly\n"},
		{[]string{"help", "ver"}, "verify\tprove that the copies are equal to their source\nversion\t"},
		{[]string{"pause", "-c", path, "--flow", ""}, "a-b\ta to b\nb-a\tb to a\n"},
		{[]string{"verify", "--state", ""}, ":0\n"}, // files
		{[]string{"convert", ""}, ":0\n"},
		{[]string{"status", ""}, ":4\n"}, // nothing, also no files
	} {
		code, stdout, _ := milena(t, append([]string{"__complete"}, test.line...)...)
		if code != exitClean || !strings.HasPrefix(stdout, test.want) {
			t.Errorf("%q: exit %d\n%s", test.line, code, stdout)
		}
		if strings.Contains(stdout, "handback") || strings.Contains(stdout, "--json") {
			t.Errorf("%q completes what is hidden:\n%s", test.line, stdout)
		}
	}
	for _, shell := range shells() {
		if code, stdout, stderr := milena(t, "completion", shell); code != exitClean || !strings.Contains(stdout, "milena") || strings.Contains(stdout, `\u00`) || stderr != "" {
			t.Errorf("%s: exit %d, %d bytes\n%s", shell, code, len(stdout), stderr)
		}
	}
}

// There is a man page for each command of the list, and for the program.
func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "man1")
	if code, stdout, stderr := milena(t, "man", dir); code != exitClean || stdout+stderr != "" {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	for _, c := range commands() {
		if c.group == "" || c.verb == nil || c.name() == "help" {
			continue
		}
		if page := read("milena-" + c.name() + ".1"); !strings.Contains(page, ".SH EXAMPLE") {
			t.Errorf("milena-%s.1 has no examples:\n%s", c.name(), page)
		}
	}
	if page := read("milena-pause.1"); !strings.Contains(page, `\-\-reason`) && !strings.Contains(page, "--reason") {
		t.Errorf("no flags:\n%s", page)
	}
	if page := read("milena.1"); !strings.Contains(page, "Exit codes") {
		t.Errorf("no exit codes:\n%s", page)
	}
	if _, err := os.Stat(filepath.Join(dir, "milena-handback.1")); err == nil {
		t.Error("a page for what is hidden")
	}
}
