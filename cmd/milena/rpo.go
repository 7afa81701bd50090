package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// rpoFresh is how old what is known of the source may be before its age is printed: the journal has it every few seconds.
const rpoFresh = 15 * time.Second

// rpoText says what a failover would lose, empty if nothing is copied.
func rpoText(r offsets.RPO, now time.Time) string {
	if r.Partitions+r.Unknown == 0 {
		return ""
	}
	var parts []string
	switch {
	case !r.CompleteUpTo.IsZero():
		parts = append(parts, fmt.Sprintf("complete up to %s, %s", r.CompleteUpTo.UTC().Format(time.DateTime), ago(now.Sub(r.CompleteUpTo))))
	case r.Unknown > 0:
		parts = append(parts, fmt.Sprintf("not known for %s", count(r.Unknown, "partition")))
	default:
		parts = append(parts, "not complete yet")
	}
	switch {
	case r.MissingRecords > 0:
		parts = append(parts, fmt.Sprintf("at most %s missing", count(int(r.MissingRecords), "record")))
	case r.Partitions > 0:
		parts = append(parts, "no seen record missing")
	}
	if age := now.Sub(r.SeenAt); !r.SeenAt.IsZero() && age > rpoFresh {
		parts = append(parts, "source not seen since "+r.SeenAt.UTC().Format(time.DateTime)+", "+ago(age))
	}
	return strings.Join(parts, "; ")
}

// printLoss prints what a failover would lose, as rpoText says it.
func (p *program) printLoss(text string) {
	if text != "" {
		p.printf("  RPO: %s\n", text)
	}
}
