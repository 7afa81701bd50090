package main

import (
	"bytes"
	"testing"
)

// A group id may be any text, also one that clears the screen.
func TestControlCharactersAreShownAsEscapes(t *testing.T) {
	t.Parallel()
	const hostile = "app\x1b[2J\x07\u009b1mé\r\x7f"
	const shown = `app\u001b[2J\u0007\u009b1mé\u000d\u007f`
	var out, errs bytes.Buffer
	p := newProgram(&out, &errs, noEnv)
	p.printf("group %s\n", hostile)
	w := p.table()
	row(w, "%s\tnext", hostile)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	p.complain(hostile)
	if got, want := out.String(), "group "+shown+"\n"+shown+"  next\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if got := errs.String(); got != shown+"\n" {
		t.Errorf("complained %q", got)
	}
}
