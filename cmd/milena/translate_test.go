package main

import (
	"strings"
	"testing"
)

func TestTranslateRejectsFlagsThatDoNotFit(t *testing.T) {
	path := file(t, "clusters:\n  a: {brokers: [\"127.0.0.1:1\"]}\n  b: {brokers: [\"127.0.0.1:2\"]}\nflows:\n  - {source: a, target: b}\n  - {source: b, target: a}\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing", nil, exitUsage, "translate: needs --group or --topic"},
		{"both", []string{"--group", "g", "--topic", "t"}, exitUsage, "--group translates all offsets of a group"},
		{"an offset is missing", []string{"--topic", "t", "--partition", "0"}, exitUsage, "--topic needs --partition and --offset, or --at"},
		{"not a time", []string{"--topic", "t", "--at", "yesterday"}, exitUsage, `--at "yesterday" is neither a time`},
		{"a time and reverse", []string{"--topic", "t", "--at", "1", "--reverse"}, exitUsage, "--at already prints the offsets of both clusters"},
		{"commit of an offset", []string{"--topic", "t", "--partition", "0", "--offset", "1", "--commit"}, exitUsage, "need --group"},
		{"no flow named", []string{"-c", path, "--group", "g"}, exitUsage, "translate: the config has 2 flows; choose one with --flow: a-b, b-a"},
		{"an unknown flow", []string{"-c", path, "--group", "g", "--flow", "x"}, exitUsage, `unknown flow "x"; the config has a-b, b-a`},
		{"no cluster there", []string{"-c", path, "--group", "g", "--flow", "a-b", "--timeout", "3s"}, exitFailed, "cluster b (127.0.0.1:2)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := milena(t, append([]string{"translate"}, c.args...)...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit %d, %s", code, stderr)
			}
		})
	}
}
