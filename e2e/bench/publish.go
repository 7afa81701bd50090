package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The table of the page is between these lines.
const (
	tableBegin = "<!-- table: go run ./e2e/bench -publish docs -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

// The files of the documentation, in its folder.
func resultsFile(docs string) string { return filepath.Join(docs, "benchmarks", "results.json") }

func pictureFile(docs string) string { return filepath.Join(docs, "benchmarks", "throughput-rtt.svg") }
func pageFile(docs string) string    { return filepath.Join(docs, "benchmarks.md") }

// publish puts the table of all results into the page, and draws its picture.
func (r *report) publish(docs string) error {
	page, err := os.ReadFile(pageFile(docs))
	if err != nil {
		return err
	}
	text, err := r.page(string(page))
	if err != nil {
		return fmt.Errorf("%s: %w", pageFile(docs), err)
	}
	if err := r.draw(pictureFile(docs)); err != nil {
		return err
	}
	return os.WriteFile(pageFile(docs), []byte(text), 0o644)
}

// page is the page with the table of all results.
func (r *report) page(old string) (string, error) {
	before, rest, found := strings.Cut(old, tableBegin)
	_, after, closed := strings.Cut(rest, tableEnd)
	if !found || !closed {
		return "", fmt.Errorf("no lines %q and %q, between which the table is", tableBegin, tableEnd)
	}
	return before + tableBegin + r.table(r.cells()) + tableEnd + after, nil
}
