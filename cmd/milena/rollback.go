package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/milena-kafka/milena/replicator"
)

func (p *program) handback(ctx context.Context, args []string) error {
	f := p.flags("handback", "say where MirrorMaker 2 has to go on with a flow that milena has stopped copying; changes nothing without --write")
	file := f.StringP("config", "c", "", "the config, a milena.yaml or mm2.properties `file`")
	name := f.String("flow", "", "which flow, if the file has several")
	write := f.Bool("write", false, "write the positions where MirrorMaker 2 finds them when it starts")
	asJSON := f.Bool("json", false, "print JSON")
	timeout := f.Duration("timeout", time.Minute, "how long it may take")
	if err := parse(f, args); err != nil {
		return err
	}
	c, err := p.load(*file)
	if err != nil {
		return err
	}
	flow, err := chooseFlow(c, *name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	o := clustersOf(c, flow, slog.New(slog.DiscardHandler))
	h, err := replicator.PrepareHandBack(ctx, o)
	if err != nil {
		return fmt.Errorf("handback: %w", err)
	}
	if *write {
		if err := h.Write(ctx, o); err != nil {
			return fmt.Errorf("handback: %w", err)
		}
	}
	if *asJSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(h)
	}
	positions := count(len(h.Positions), "position")
	switch p.printHandBack(h); {
	case len(h.Positions) == 0:
		p.printf("flow %s: MirrorMaker 2's positions in topic %s are right already\n", h.Flow, h.Topic)
	case *write:
		p.printf("%s written to topic %s; start MirrorMaker 2 now, and milena on this flow no more\n", positions, h.Topic)
	default:
		p.printf("nothing is written; --write puts %s into topic %s\n", positions, h.Topic)
	}
	return nil
}

func (p *program) printHandBack(h *replicator.HandBack) {
	if len(h.Positions) == 0 {
		return
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "TOPIC\tPARTITION\tGOES ON AT\tWOULD GO ON AT")
	for _, position := range h.Positions {
		was := "the beginning"
		if position.Was >= 0 {
			was = fmt.Sprint(position.Was)
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", position.Topic, position.Partition, position.Next, was)
	}
	_ = w.Flush()
}
