package config

import (
	"fmt"
	"io"
	"log/slog"
)

const hidden = "<secret>"

// Secret is text that must not be seen: every usual way to print or encode it gives "<secret>", also when it is empty, so
// that output doesn't tell whether a password is set. Reveal is the only way to the text.
//
// Keep it in exported fields: fmt calls no methods of what lies in unexported ones and would print the text.
type Secret string

// Reveal is the text itself. Its callers are easy to list, which is the reason for the name.
func (s Secret) Reveal() string { return string(s) }

// String hides the text.
func (Secret) String() string { return hidden }

// Format hides the text from fmt under every verb: String is not asked for %d.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// GoString hides the text from those who ask for Go syntax without fmt.
func (Secret) GoString() string { return hidden }

// MarshalText hides the text from encoding/json and every other encoder that knows text.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalYAML hides the text from YAML.
func (Secret) MarshalYAML() (any, error) { return hidden, nil }

// LogValue hides the text from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
