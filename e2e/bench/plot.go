package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// panel is one diagram: all cells that differ by the delay only.
type panel struct {
	base  string // name without the delay
	title string
	lines []curve
}

// curve is throughput over round-trip time.
type curve struct {
	replicator, side string
	points           plotter.XYs // ms, MB/s
}

// panels returns those with at least two round-trip times. The cell without delay is the first point of both sides.
func (r *report) panels() []panel {
	var all []panel
	for _, name := range r.cells() {
		c, err := parseCell(name)
		if err != nil || c.rtt == 0 || c.window > 0 {
			continue
		}
		base := c.base()
		i := slices.IndexFunc(all, func(p panel) bool { return p.base == base.name })
		if i < 0 {
			i = len(all)
			all = append(all, panel{base: base.name, title: base.title()})
		}
		for _, who := range []string{milena{}.name(), mirrorMaker{}.name()} {
			if got, ok := r.find(name, who); ok {
				all[i].add(r, who, c, got.Throughput)
			}
		}
	}
	for _, p := range all {
		slices.SortFunc(p.lines, func(a, b curve) int {
			// Milena comes first.
			return cmp.Or(-strings.Compare(a.replicator, b.replicator), strings.Compare(a.side, b.side))
		})
	}
	return slices.DeleteFunc(all, func(p panel) bool {
		return !slices.ContainsFunc(p.lines, func(l curve) bool { return len(l.points) > 1 })
	})
}

// add adds a point, to a new line if it is the first one.
func (p *panel) add(r *report, who string, c cell, throughput float64) {
	i := slices.IndexFunc(p.lines, func(l curve) bool { return l.replicator == who && l.side == c.side })
	if i < 0 {
		i = len(p.lines)
		p.lines = append(p.lines, curve{replicator: who, side: c.side})
		if direct, ok := r.find(p.base, who); ok && direct.Throughput > 0 {
			p.lines[i].points = plotter.XYs{{X: 0, Y: direct.Throughput}}
		}
	}
	if throughput > 0 {
		p.lines[i].points = append(p.lines[i].points, plotter.XY{X: float64(c.rtt.Milliseconds()), Y: throughput})
	}
	slices.SortFunc(p.lines[i].points, func(a, b plotter.XY) int { return int(a.X - b.X) })
}

// picture is a file format.
type picture interface {
	vg.CanvasSizer
	io.WriterTo
}

func newPicture(ext string, width, height vg.Length) (picture, error) {
	switch ext {
	case ".svg":
		return vgsvg.New(width, height), nil
	case ".png":
		return vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(144))}, nil
	}
	return nil, fmt.Errorf("a picture with the extension %q; use .svg or .png", ext)
}

// draw writes a picture of all panels, two in a row. The extension of the file is svg or png.
func (r *report) draw(path string) error {
	panels := r.panels()
	if len(panels) == 0 {
		return errors.New("nothing to draw: the results need a scenario at two round-trip times, such as 16k-8p and 16k-8p-src80")
	}
	columns := min(len(panels), 2)
	rows := (len(panels) + columns - 1) / columns
	out, err := newPicture(filepath.Ext(path), vg.Length(columns)*5.2*vg.Inch, vg.Length(rows)*3.9*vg.Inch)
	if err != nil {
		return err
	}
	grid := make([][]*plot.Plot, rows)
	for i := range rows * columns {
		var p *plot.Plot // nil after the last one
		if i < len(panels) {
			if p, err = panels[i].plot(); err != nil {
				return err
			}
		}
		grid[i/columns] = append(grid[i/columns], p)
	}
	canvas := draw.New(out)
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Path())
	tiles := draw.Tiles{
		Rows: rows, Cols: columns, PadX: vg.Points(18), PadY: vg.Points(18),
		PadTop: vg.Points(6), PadBottom: vg.Points(6), PadLeft: vg.Points(6), PadRight: vg.Points(14),
	}
	for i, row := range plot.Align(grid, tiles, canvas) {
		for j, c := range row {
			if grid[i][j] != nil {
				grid[i][j].Draw(c)
			}
		}
	}
	var file bytes.Buffer
	if _, err := out.WriteTo(&file); err != nil {
		return err
	}
	// An SVG file has no fonts. Arial has the same widths as Liberation Sans.
	text := bytes.ReplaceAll(file.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
	return os.WriteFile(path, text, 0o644)
}

// plot draws one diagram.
func (p panel) plot() (*plot.Plot, error) {
	d := plot.New()
	d.Title.Text = p.title
	d.Title.Padding, d.Title.TextStyle.Font.Size = vg.Points(8), vg.Points(11)
	d.X.Label.Text, d.Y.Label.Text = "round-trip time, ms", "MB/s"
	for _, style := range []*text.Style{&d.Title.TextStyle, &d.X.Label.TextStyle, &d.Y.Label.TextStyle, &d.X.Tick.Label, &d.Y.Tick.Label, &d.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	d.Y.Scale, d.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	d.Add(grid)
	lowest, highest := math.Inf(1), 0.0
	var times []float64
	for _, c := range p.lines {
		for _, point := range c.points {
			lowest, highest = min(lowest, point.Y), max(highest, point.Y)
			times = append(times, point.X)
		}
		line, points, err := plotter.NewLinePoints(c.points)
		if err != nil {
			return nil, err
		}
		line.Width, points.Radius = vg.Points(1.8), vg.Points(3.2)
		line.Color = color.RGBA{R: 0xd9, G: 0x5f, B: 0x02, A: 0xff}
		if c.replicator == (milena{}).name() {
			line.Color = color.RGBA{R: 0x1f, G: 0x5f, B: 0xb4, A: 0xff}
		}
		points.Color, points.Shape = line.Color, draw.CircleGlyph{}
		if c.side == targetSide {
			line.Dashes, points.Shape = []vg.Length{vg.Points(5), vg.Points(3)}, draw.BoxGlyph{}
		}
		d.Add(line, points)
		d.Legend.Add(fmt.Sprintf("%s, delay to the %s", c.replicator, c.side), line, points)
	}
	// The legend has the lower part for itself.
	d.Y.Min, d.Y.Max = lowest/math.Sqrt(max(4, highest/lowest)), highest*1.2
	d.X.Min = 0
	d.X.Tick.Marker = marks(times)
	d.Legend.Left, d.Legend.XOffs, d.Legend.YOffs = true, vg.Points(6), vg.Points(4)
	return d, nil
}

// marks are ticks at the round-trip times that were measured.
func marks(times []float64) plot.ConstantTicks {
	slices.Sort(times)
	var ticks plot.ConstantTicks
	for _, t := range slices.Compact(times) {
		ticks = append(ticks, plot.Tick{Value: t, Label: strconv.FormatFloat(t, 'f', -1, 64)})
	}
	return ticks
}

// decades are ticks at 1, 2 and 5 times the powers of ten.
func decades(least, most float64) []plot.Tick {
	var ticks []plot.Tick
	// The multiplication is not exact.
	for power := 0.01; power <= most; power *= 10 {
		for _, digit := range []float64{1, 2, 5} {
			if v := math.Round(digit*power*100) / 100; v >= least && v <= most {
				ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
			}
		}
	}
	return ticks
}
