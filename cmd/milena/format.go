package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
)

// table aligns cells that are separated by tabs. Flush it after the last row.
func (p *program) table() *tabwriter.Writer { return tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0) }

// row writes one row of a table. Flush returns the error. A text of several lines becomes one.
func row(w *tabwriter.Writer, format string, args ...any) {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = strings.NewReplacer("\n", "; ", "\t", " ").Replace(text)
		}
	}
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}

// printMore says how many items a list leaves out, if any.
func (p *program) printMore(indent string, n int, what string) {
	if n > 0 {
		p.printf("%sand %d more%s; --output json prints all\n", indent, n, what)
	}
}

// count is n with the noun in its singular or plural.
func count[N ~int | ~int64](n N, noun string) string { return summary.Count(n, noun) }

// size is a number of bytes with a decimal unit, such as 3.5 kB.
func size[N ~int64 | ~float64](n N) string { return summary.Size(n) }

// ago says how old something is.
func ago(age time.Duration) string { return summary.Ago(age) }

// optional is a number, or - if it is not known.
func optional(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}
