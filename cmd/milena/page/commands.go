package page

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
)

// commands writes the commands that mend something of a flow, as the user types them. FILE is the config.
type commands struct {
	flow string // empty if the config has only this one, so that no command needs to name it
}

// commandsOf are the commands for a flow, which is one of so many.
func commandsOf(s *replicator.Status, flows int) (c commands) {
	if flows > 1 {
		c.flow = s.Flow
	}
	return c
}

// of is a command of milena with its arguments.
func (c commands) of(name, arguments string) *string {
	text := "milena " + name + " " + c.file()
	if arguments != "" {
		text += " " + arguments
	}
	return &text
}

func (c commands) file() string {
	if c.flow == "" {
		return "-c FILE"
	}
	return "-c FILE --flow " + c.flow
}

// quoted finds the commands of a hint, which are between backticks.
var quoted = regexp.MustCompile("`[^`]*`")

// hint names the flow in the commands of a hint, and returns the first of them too; both are nil if there is none.
func (c commands) hint(text string) (hint, first *string) {
	text = quoted.ReplaceAllStringFunc(text, func(command string) string { return strings.Replace(command, "-c FILE", c.file(), 1) })
	if command := strings.Trim(quoted.FindString(text), "`"); command != "" {
		first = &command
	}
	return notEmpty(text), first
}

// ending is the command that ends a decision, nil if none does.
func (c commands) ending(d *replicator.DecisionStatus) *string {
	switch d.What {
	case control.Pause:
		return c.of("resume", scopeFlags(d.Scope))
	case control.Throttle:
		return c.of("throttle", strings.TrimSpace(scopeFlags(d.Scope)+" --rate 0 --reason TEXT"))
	case control.StopFlow:
		return c.of("start", "--reason TEXT")
	case control.FailOver:
		return c.of("failback", "--reason TEXT")
	case control.Resume, control.Retry, control.Skip, control.RestartCopy, control.Adopt, control.StartFlow, control.SyncGroups:
	}
	return nil
}

// scopeFlags are the flags that name a scope.
func scopeFlags(scope string) string {
	if scope == (control.Scope{Kind: control.Groups}).String() {
		return "--groups"
	}
	for _, kind := range []string{"topic", "partition"} {
		if name, ok := strings.CutPrefix(scope, kind+" "); ok {
			return fmt.Sprintf("--%s %s", kind, name)
		}
	}
	return ""
}
