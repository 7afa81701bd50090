package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	all, err := choose("")
	if err != nil || len(all) != len(cellNames()) {
		t.Fatalf("%d scenarios of %d, %v", len(all), len(cellNames()), err)
	}
	for _, name := range extraNames() {
		if !slices.Contains(cellNames(), name) {
			t.Errorf("%s is not in the list", name)
		}
	}
	some, err := choose("64k-1p-*,256k-3p-dst40-zstd-100b,64k-1p-src80")
	if err != nil || len(some) != 5 {
		t.Fatalf("chosen: %v, %v", some, err)
	}
	want := cell{
		name: "256k-3p-dst40-zstd-100b", rtt: 40 * time.Millisecond, side: targetSide,
		dataset: dataset{topics: 1, partitions: 3, record: 100, batch: 256 << 10, codec: "zstd", brokers: 1},
	}
	if some[4] != want {
		t.Errorf("got %+v, want %+v", some[4], want)
	}
	many, err := parseCell("64k-1000p-old")
	if err != nil || len(many.topicNames()) != 100 || many.partitions != 10 || !many.old {
		t.Errorf("got %+v, %v", many, err)
	}
	if far, err := delayed(some, 30*time.Millisecond, targetSide); err != nil || len(far) != 2 || far[0].name != "64k-1p-dst30" || far[0].rtt != 30*time.Millisecond {
		t.Errorf("delayed: %+v, %v", far, err)
	}
	for _, name := range []string{"16k", "8p", "16k-8p-fast", "nothing-*", "16k-8p-tls-src80", "16k-8p-rf4"} {
		if _, err := choose(name); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// What is drawn and printed comes from a file, in which a second run replaces results.
func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	for run := range 2 {
		r, err := loadReport(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"16k-8p", "16k-8p-src80", "16k-8p-dst80", "16k-8p-src15", "64k-8p"} {
			for j, who := range []replicator{mirrorMaker{}, milena{}} {
				c, err := parseCell(name)
				if err != nil {
					t.Fatal(err)
				}
				r.add(result{Cell: name, Title: c.title(), Replicator: who.name(), Bytes: 1e9, Throughput: float64(400*(j+1) - 50*i + run), First: 2, CPUPerGB: 3, PeakRSS: 1 << 20})
			}
		}
		if err := r.save(file); err != nil {
			t.Fatal(err)
		}
	}
	r, err := loadReport(file)
	if err != nil || len(r.Results) != 10 {
		t.Fatalf("%d results, %v", len(r.Results), err)
	}
	table := r.table([]string{"16k-8p-src80"})
	for _, want := range []string{"| MirrorMaker 2 | 351 |", "| milena | 751 |", "| **2.1×** |", "80ms to the source"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table has no %q:\n%s", want, table)
		}
	}
	panels := r.panels()
	if len(panels) != 1 || len(panels[0].lines) != 4 {
		t.Fatalf("panels: %+v", panels)
	}
	for _, line := range panels[0].lines {
		if line.side == sourceSide && (len(line.points) != 3 || line.points[0].X != 0 || line.points[1].X != 15) {
			t.Errorf("points: %v", line.points)
		}
	}
	for _, ext := range []string{".svg", ".png"} {
		picture := filepath.Join(t.TempDir(), "rtt"+ext)
		if err := r.draw(picture); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(picture)
		if err != nil || len(text) < 1000 {
			t.Fatalf("%d bytes, %v", len(text), err)
		}
		if ext == ".svg" && !strings.Contains(string(text), "milena, delay to the target") {
			t.Error("the legend does not name milena")
		}
	}
}

// The page shows the results that are beside it.
func TestPage(t *testing.T) {
	const docs = "../../docs"
	r, err := loadReport(resultsFile(docs))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(pageFile(docs))
	if err != nil {
		t.Fatal(err)
	}
	want, err := r.page(string(page))
	if err != nil {
		t.Fatal(err)
	}
	if want != string(page) {
		t.Error("the table in docs/benchmarks.md is not that of docs/benchmarks/results.json: go run ./e2e/bench -from docs/benchmarks/results.json -publish docs")
	}
	if len(r.Results) == 0 || len(r.panels()) == 0 {
		t.Error("there are no results to show")
	}
}
