package recovery

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"time"
)

//go:embed drill.html
var drillPage string

// Figure is a name and what was measured, as a report prints it.
type Figure struct{ Name, Measured, Objective string }

// Figures are the figures of a drill.
func (d *Drilled) Figures() []Figure {
	return []Figure{
		{"RPO", seconds(d.RPOSeconds), objective(d.RPOObjectiveSeconds)},
		{"RTO", seconds(d.RTOSeconds), objective(d.RTOObjectiveSeconds)},
	}
}

func seconds(of *float64) string {
	if of == nil {
		return "not known"
	}
	return fmt.Sprintf("%.1f s", *of)
}

func objective(of float64) string {
	if of == 0 {
		return "none"
	}
	return fmt.Sprintf("%.4g s", of)
}

// Verdict is how a drill came out, as a clause.
func (r *Report) Verdict() string {
	switch {
	case r.Drilled == nil:
		return "not carried out: " + r.Failure
	case r.Drilled.Passed:
		return "passed"
	}
	return "failed: " + counted(len(r.Drilled.Findings)+r.Drilled.OtherFindings, "finding")
}

// took is how long a step took, as a report prints it.
func took(s Step) string { return fmt.Sprintf("%.3f s", s.Took().Seconds()) }

// DrillMarkdown is the report of a drill as Markdown.
func (r *Report) DrillMarkdown() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Drill of flow %s: %s\n", r.Flow, cell(r.Verdict()))
	line("From %s to %s, by %s, %s UTC, id %s.\n", r.Source, r.Target, cell(r.Who), r.Began.UTC().Format(time.DateTime), r.ID)
	if d := r.Drilled; d != nil {
		line("| | measured | objective |\n|---|---|---|")
		for _, f := range d.Figures() {
			line("| %s | %s | %s |", f.Name, f.Measured, f.Objective)
		}
		line("\n%d of %d positions of %d groups were looked at.\n", d.Checked, d.Positions, len(d.Groups)+d.OtherGroups)
		if len(d.Findings) > 0 {
			line("## Findings\n")
			for _, f := range d.Findings {
				line("- %s", cell(f.String()))
			}
			if d.OtherFindings > 0 {
				line("- and %d more", d.OtherFindings)
			}
			line("")
		}
		if len(d.Notes) > 0 {
			line("## Notes\n")
			for _, n := range d.Notes {
				line("- %s", cell(n))
			}
			line("")
		}
	}
	line("## Steps\n\n| step | took | part of the RTO | result |\n|---|--:|---|---|")
	for _, s := range r.Steps {
		line("| %s | %s | %s | %s |", s.Name, took(s), inRTO(s.Name), cell(s.Detail))
	}
	if d := r.Drilled; d != nil {
		line("\n## RPO\n\n| at | age | records missing |\n|---|--:|--:|")
		for _, s := range d.RPO {
			line("| %s | %s | %d |", s.At.UTC().Format(time.RFC3339), seconds(s.AgeSeconds), s.MissingRecords)
		}
		line("\n## Groups\n\n| group | positions | looked at | same record | at the end | behind | deleted | committed where it continues |\n|---|--:|--:|--:|--:|--:|--:|--:|")
		for _, g := range d.Groups {
			line("| %s | %d | %d | %d | %d | %d | %d | %d |", cell(g.Group), g.Positions, g.Checked, g.Same, g.End, g.Behind, g.Gone, g.Committed)
		}
	}
	line("\n## Checks\n\n| check | result | |\n|---|---|---|")
	for _, c := range r.Checks {
		line("| %s | %s | %s |", cell(c.Name), c.Result, cell(c.Detail))
	}
	return b.Bytes()
}

// cell is a text that breaks no table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}

// inRTO says whether a step is part of the RTO.
func inRTO(step string) string {
	if isOfFailover(step) {
		return "yes"
	}
	return ""
}

// bar is a bar of a plot, in pixels.
type bar struct {
	Name, Value string
	Y, Width    float64
	InRTO       bool
}

// The sizes of a plot, in pixels.
const (
	plotWidth = 420.0
	rowHeight = 22.0
)

// bars are bars whose greatest one is as wide as the plot.
func bars(names []string, values []float64, blue []bool) []bar {
	greatest := 0.0
	for _, v := range values {
		greatest = max(greatest, v)
	}
	var list []bar
	for i, v := range values {
		b := bar{Name: names[i], Value: fmt.Sprintf("%.3f s", v), Y: float64(i) * rowHeight, InRTO: blue[i]}
		if greatest > 0 {
			b.Width = max(1, v/greatest*plotWidth)
		}
		list = append(list, b)
	}
	return list
}

// DrillHTML is the report of a drill as a page that needs nothing else: no script, no other file.
func (r *Report) DrillHTML() ([]byte, error) {
	page, err := template.New("drill").Funcs(template.FuncMap{
		"took": took, "seconds": seconds, "time": func(t time.Time) string { return t.UTC().Format(time.DateTime) },
		"height": func(b []bar) float64 { return float64(len(b)) * rowHeight },
	}).Parse(drillPage)
	if err != nil {
		return nil, err
	}
	data := struct {
		*Report
		Figures        []Figure
		Steps, Samples []bar
		Carried        []Step
	}{Report: r, Carried: r.Steps}
	var names []string
	var values []float64
	var blue []bool
	for _, s := range r.Steps {
		names, values, blue = append(names, s.Name), append(values, s.Took().Seconds()), append(blue, isOfFailover(s.Name))
	}
	data.Steps = bars(names, values, blue)
	if r.Drilled != nil {
		data.Figures = r.Drilled.Figures()
		names, values, blue = nil, nil, nil
		for _, s := range r.Drilled.RPO {
			if s.AgeSeconds != nil {
				names, values, blue = append(names, s.At.UTC().Format(time.TimeOnly)), append(values, *s.AgeSeconds), append(blue, true)
			}
		}
		data.Samples = bars(names, values, blue)
	}
	var b bytes.Buffer
	err = page.Execute(&b, data)
	return b.Bytes(), err
}
