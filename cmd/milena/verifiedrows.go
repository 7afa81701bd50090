package main

import (
	"slices"

	"github.com/milena-kafka/milena/replicator/control"
)

// verifiedRow is a partition whose copy is verified in the background.
type verifiedRow struct {
	Topic     string
	Partition int32
	*control.VerifiedStatus
}

// maxVerifiedRows is how many partitions the text output shows.
const maxVerifiedRows = 20

// oldestVerified returns the partitions that were not verified for longest, n at most. It changes the order of the list.
func oldestVerified(rows []verifiedRow, n int) []verifiedRow {
	slices.SortStableFunc(rows, func(a, b verifiedRow) int { return a.Checked.Compare(b.Checked) })
	return rows[:min(n, len(rows))]
}

// printVerified prints the partitions that were verified in the background, those first that were not for longest.
func (p *program) printVerified(rows []verifiedRow) {
	if len(rows) == 0 {
		return
	}
	p.printf("\n")
	w := p.table()
	row(w, "  TOPIC\tPARTITION\tVERIFIED")
	for _, r := range oldestVerified(slices.Clone(rows), maxVerifiedRows) {
		row(w, "  %s\t%d\t%s", r.Topic, r.Partition, r.String())
	}
	_ = w.Flush()
	p.printMore("  ", len(rows)-maxVerifiedRows, "")
}
