package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/load"
)

// misplacedError is a record of a copy that is not the one that follows the record before it.
type misplacedError struct {
	target    int64 // offset
	life      int
	seq, want int64
}

func (e *misplacedError) Error() string {
	return fmt.Sprintf("the target's offset %d has record %d of life %d, expected %d: %s", e.target, e.seq, e.life, e.want, lostOrTwice(e.seq, e.want))
}

const (
	// Around is how many records before and behind a misplaced one are told.
	around = 8
	// LogLines is how many of milena's last lines about a topic are told.
	logLines = 80
)

// explain tells what there is to know about a partition that was judged to be wrong: what both sides have where it is, what milena says about it, and
// what its log says about the topic.
func (w *world) explain(ctx context.Context, t *topic, partition int32, copied, source []*kgo.Record, wrong error) string {
	var text strings.Builder
	if m, ok := errors.AsType[*misplacedError](wrong); ok {
		fmt.Fprintf(&text, "  the source, whose life is %d: %s\n", t.life, onSource(source, t.life, m))
		for i, r := range copied {
			if r.Offset == m.target {
				for _, r := range copied[max(0, i-around):min(len(copied), i+around)] {
					fmt.Fprintf(&text, "  target offset %d: %s\n", r.Offset, brief(r))
				}
			}
		}
	}
	partitions, err := w.milena.Partitions(ctx)
	if err != nil {
		fmt.Fprintf(&text, "  status: %v\n", err)
	}
	for _, p := range partitions {
		if p.Topic == t.name && p.Partition == partition {
			fmt.Fprintf(&text, "  milena: %s, acked %d, journaled %d, anomaly %+v\n", p.State, p.Acked, p.Journaled, p.Anomaly)
			for _, g := range p.Gaps {
				fmt.Fprintf(&text, "  ledger: %+v\n", g)
			}
		}
	}
	var lines []string
	for line := range strings.Lines(w.milena.Output()) {
		if strings.Contains(line, "topic="+t.name+" ") || strings.Contains(line, "topic="+t.remote()+" ") {
			lines = append(lines, "  "+line)
		}
	}
	return text.String() + strings.Join(lines[max(0, len(lines)-logLines):], "")
}

// onSource says whether the source has the records that a copy lacks, or the one that it has twice.
func onSource(source []*kgo.Record, life int, m *misplacedError) string {
	if m.life != life {
		return "it has no record of that life any more"
	}
	found, from, to := 0, min(m.want, m.seq), max(m.want, m.seq)
	var text strings.Builder
	for _, r := range source {
		if seq, err := load.Sequence(r); err == nil && from <= seq && seq < to {
			if found++; found <= around {
				fmt.Fprintf(&text, "; offset %d: %s", r.Offset, brief(r))
			}
		}
	}
	return fmt.Sprintf("it has %d of the %d records from %d to %d%s", found, to-from, from, to-1, text.String())
}

func brief(r *kgo.Record) string {
	return fmt.Sprintf("%.40q, %s, producer %d/%d, life %d", r.Value, r.Timestamp.UTC().Format("15:04:05.000"), r.ProducerID, r.ProducerEpoch, lifeOf(r))
}
