package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/milena-kafka/milena/config"
)

// logger writes to stderr, by default as text to a terminal and as JSON to anything else.
func (p *program) logger(c config.Log) *slog.Logger {
	p.setLevel(c)
	options := &slog.HandlerOptions{Level: &p.level, ReplaceAttr: withUnit}
	if !p.logsJSON(c) {
		return slog.New(slog.NewTextHandler(p.stderr, options))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, options))
}

// setLevel sets the level of the log.
func (p *program) setLevel(c config.Log) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // the config is validated; only the empty Log of a test gets here
	}
	p.level.Set(level)
}

func (p *program) logsJSON(c config.Log) bool {
	return c.Format != "text" && (c.Format != "auto" || !isTerminal(p.stderr))
}

// withUnit writes durations with their unit, as 2s, in JSON too: slog's JSON handler writes a bare number of nanoseconds.
func withUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// isTerminal reports whether w is a terminal. Other character devices count as terminals too, which does no harm.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
