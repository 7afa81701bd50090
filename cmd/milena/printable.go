package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// printable is a writer to a terminal, or to a file that may be shown on one. Names of topics and groups, and the messages of brokers, come
// from outside and may hold control characters, with which a terminal can be made to show or do anything. They are written as \u001b, which
// is valid in JSON and YAML too. Line breaks and tabs pass.
type printable struct {
	io.Writer
	rest []byte // the beginning of a character whose end is in the next write
}

// Write implements io.Writer.
func (p *printable) Write(b []byte) (int, error) {
	text := append(p.rest, b...)
	p.rest = nil
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		if !utf8.FullRune(text) {
			p.rest = append(p.rest, text...)
			break
		}
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 || isControl(r) {
			if size == 1 {
				r = rune(text[0])
			}
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	if _, err := p.Writer.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// isControl reports whether a terminal may act on a character: the C0 and C1 controls, and those that reorder text.
func isControl(r rune) bool {
	switch {
	case r == '\n', r == '\t':
		return false
	case r < ' ', r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x2028, r == 0x2029:
		return true
	}
	return false
}

// indented indents all lines of a text but the first.
func indented(text, indent string) string { return strings.ReplaceAll(text, "\n", "\n"+indent) }
