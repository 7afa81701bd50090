package main

import (
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/offsets"
)

// lossOverview is what a failover would lose and may take.
type lossOverview struct {
	// Loss is what a failover would lose, as a sentence; empty if nothing is copied. Losses are sentences about the topics that it would lose most of.
	Loss   string
	Losses []string
	// RTO is the objective for its duration as a sentence, empty if there is none.
	RTO string

	missed bool // the objective
}

func newLossOverview(r offsets.RPO, rto float64, now time.Time) lossOverview {
	l := lossOverview{Loss: summary.LossText(r, now), Losses: summary.LossTexts(r, now), missed: r.ObjectiveMissed}
	if rto > 0 {
		l.RTO = "objective " + summary.SecondsText(rto)
	}
	return l
}

// printLoss prints what a failover would lose, and the objectives.
func (p *program) printLoss(l lossOverview) {
	if l.Loss != "" {
		p.printf("  RPO: ")
		if l.missed {
			p.paint(red, l.Loss)
		} else {
			p.printf("%s", l.Loss)
		}
		p.printf("\n")
	}
	for _, topic := range l.Losses {
		p.printf("    %s\n", topic)
	}
	if l.RTO != "" {
		p.printf("  RTO: %s\n", l.RTO)
	}
}
