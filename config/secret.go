package config

import (
	"fmt"
	"io"
	"log/slog"
)

const hidden = "<secret>"

// Secret is text that must not be shown. All usual ways to print or encode it give "<secret>", even if it is empty,
// so output does not reveal whether a password is set. Only Reveal returns the text.
//
// Keep a Secret in exported fields: fmt calls no methods of values in unexported fields and would print the text.
type Secret string

// Reveal returns the text itself. The name makes its callers easy to find.
func (s Secret) Reveal() string { return string(s) }

// String returns "<secret>".
func (Secret) String() string { return hidden }

// Format hides the text from fmt for every verb; fmt does not call String for %d.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// GoString hides the text from code that calls GoString without fmt.
func (Secret) GoString() string { return hidden }

// MarshalText hides the text from encoding/json and all other encoders that use encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalYAML hides the text from YAML.
func (Secret) MarshalYAML() (any, error) { return hidden, nil }

// LogValue hides the text from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
