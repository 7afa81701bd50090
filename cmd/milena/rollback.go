package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/mm2"
)

const rollbackHelp = `milena rollback computes the source offsets from which MirrorMaker 2 resumes a flow that milena has
stopped copying. It writes nothing without --write.

Examples:
  milena rollback -c mm2.properties            # show the offsets
  milena rollback -c mm2.properties --write    # store them, then start MirrorMaker 2
`

func (p *program) rollback(ctx context.Context, args []string) error {
	f := p.flags("rollback", rollbackHelp)
	path := configFlag(f)
	name := f.String("flow", "", "`NAME` of the flow; needed if the config has several")
	write := f.Bool("write", false, "write the offsets to MirrorMaker 2's offsets topic on the target")
	var output string
	addOutput(f, &output)
	timeout := f.Duration("timeout", time.Minute, "time limit for the command, as a `DURATION` such as 30s")
	if err := parse(f, args); err != nil {
		return err
	}
	file, err := p.readConfig(*path)
	if err != nil {
		return err
	}
	flow, err := chooseFlow(f, file.Config, *name)
	if err != nil {
		return err
	}
	if flow.MigrateFrom == "" {
		return wrong(f, "flow %s has no migrate_from; set it to the topic with MirrorMaker 2's connector offsets, mm2-offsets.%s.internal in dedicated mode", flow.Name, flow.Source)
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	o := silent(file.Config, flow)
	r, err := mm2.PrepareRollback(ctx, o)
	if err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	if *write {
		if err := r.Write(ctx, o); err != nil {
			return fmt.Errorf("rollback: %w", err)
		}
	}
	if output != outputTable {
		return p.printAs(output, r)
	}
	p.printConnectorOffsets(r.Offsets)
	switch n := count(len(r.Offsets), "offset"); {
	case len(r.Offsets) == 0:
		p.printf("flow %s: the offsets of MirrorMaker 2 in topic %s are already correct\n", r.Flow, r.Topic)
	case *write:
		p.printf("%s written to topic %s; start MirrorMaker 2 now. Before milena runs this flow again, stop MirrorMaker 2 and delete topic %s on cluster %s\n",
			n, r.Topic, offsets.JournalTopic(r.Flow), flow.Target)
	default:
		p.printf("nothing written; --write stores %s in topic %s\n", n, r.Topic)
	}
	return nil
}

// printConnectorOffsets prints the connector offsets that have to change.
func (p *program) printConnectorOffsets(offsets []mm2.RollbackOffset) {
	if len(offsets) == 0 {
		return
	}
	w := p.table()
	row(w, "TOPIC\tPARTITION\tCURRENT OFFSET\tNEW OFFSET")
	for _, o := range offsets {
		current := "none" // MirrorMaker 2 would begin with the oldest record
		if o.Current >= 0 {
			current = strconv.FormatInt(o.Current, 10)
		}
		row(w, "%s\t%d\t%s\t%d", o.Topic, o.Partition, current, o.New)
	}
	_ = w.Flush()
}
