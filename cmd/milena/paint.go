package main

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/replicator/plan"
)

// colour is a control sequence that sets the colour of what follows.
type colour string

const (
	plain  colour = ""
	red    colour = "\x1b[31m"
	green  colour = "\x1b[32m"
	yellow colour = "\x1b[33m"
	reset         = "\x1b[0m"
)

// colourOf is the colour of a state or of a severity: red where somebody must act, yellow where records wait.
func colourOf(state string) colour {
	switch state {
	case summary.Halted, summary.Differs, summary.Stopped, string(plan.SeverityError):
		return red
	case summary.Waiting, summary.Paused, summary.Throttled, summary.Draining, "recovering", "unknown", string(plan.SeverityWarning):
		return yellow
	case summary.InStep:
		return green
	}
	return plain
}

// hasColours reports whether stdout shows colours: it is a terminal, and nobody has asked for none, see https://no-color.org.
func hasColours(stdout io.Writer, env func(string) (string, bool)) bool {
	if !isTerminal(stdout) {
		return false
	}
	no, _ := env("NO_COLOR")
	kind, _ := env("TERM")
	return no == "" && kind != "dumb"
}

// paint prints a text in a colour.
func (p *program) paint(c colour, text string) {
	if !p.colours || c == plain {
		p.printf("%s", text)
		return
	}
	_, _ = io.WriteString(p.terminal, string(c))
	p.printf("%s", text)
	_, _ = io.WriteString(p.terminal, reset)
}

// cell is a cell of a table.
type cell struct {
	text   string
	colour colour
}

func cells(texts ...string) (list []cell) {
	for _, text := range texts {
		list = append(list, cell{text: text})
	}
	return list
}

// printGrid prints rows with aligned columns, whose cells may have colours. A text of several lines becomes one.
func (p *program) printGrid(indent string, rows [][]cell) {
	var widths []int
	for _, row := range rows {
		for i := range row {
			row[i].text = quoted(strings.NewReplacer("\n", "; ", "\t", " ").Replace(row[i].text))
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	for _, row := range rows {
		p.printf("%s", indent)
		for i, c := range row {
			p.paint(c.colour, c.text)
			if i < len(row)-1 {
				p.printf("%s", strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		p.printf("\n")
	}
}

// quoted is a text as printable writes it.
func quoted(text string) string {
	var b strings.Builder
	_, _ = (&printable{Writer: &b}).Write([]byte(text))
	return b.String()
}
