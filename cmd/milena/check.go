package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/milena-kafka/milena/replicator"
)

// checked is what came of one flow: a plan, or the reason why there is none.
type checked struct {
	Flow  string           `json:"flow"`
	Plan  *replicator.Plan `json:"plan,omitempty"`
	Error string           `json:"error,omitempty"`
}

func (p *program) check(ctx context.Context, args []string) error {
	f := p.flags("check", "reach both sides of every flow and say what run would do; changes nothing")
	file := f.StringP("config", "c", "", "the config, a milena.yaml or mm2.properties `file`")
	asJSON := f.Bool("json", false, "print the plans as JSON")
	timeout := f.Duration("timeout", 10*time.Second, "how long to wait for the clusters of one flow")
	if err := parse(f, args); err != nil {
		return err
	}
	if *timeout <= 0 {
		return &usageError{"check: --timeout must be longer than nothing"}
	}
	read, err := p.read(*file)
	if err != nil {
		return err
	}
	c := read.Config
	// The plan is the output: what clients log while they dial would say it twice.
	log := slog.New(slog.DiscardHandler)
	var results []checked
	for _, flow := range c.Flows {
		result := checked{Flow: flow.Name}
		checkCtx, cancel := context.WithTimeout(ctx, *timeout)
		plan, err := replicator.Check(checkCtx, clustersOf(c, flow, log))
		cancel()
		switch {
		case ctx.Err() != nil:
			return errors.New("check: interrupted")
		case err != nil:
			result.Error = err.Error()
		default:
			result.Plan = plan
		}
		results = append(results, result)
	}
	if *asJSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(results); err != nil {
			return err
		}
	} else {
		for _, n := range read.Notes {
			p.printf("note: %s\n", n)
		}
		for _, r := range results {
			p.printPlan(r)
		}
	}
	return verdict(results)
}

// verdict is nil when every flow could be started.
func verdict(results []checked) error {
	bad := 0
	for _, r := range results {
		if r.Plan == nil || len(r.Plan.Refused) > 0 {
			bad++
		}
	}
	if bad == 0 {
		return nil
	}
	return fmt.Errorf("check: %d of %s cannot work as the config is", bad, count(len(results), "flow"))
}

func (p *program) printPlan(r checked) {
	p.printf("flow %s\n", r.Flow)
	if r.Plan == nil {
		p.printf("  cannot be planned: %s\n\n", strings.ReplaceAll(r.Error, "\n", "\n  "))
		return
	}
	plan := r.Plan
	p.printf("  source cluster %s, target cluster %s\n\n", plan.SourceClusterID, plan.TargetClusterID)
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "  TOPIC\tTARGET TOPIC\tPARTITIONS\tACTION\tCONFIGS")
	for _, t := range plan.Topics {
		configs := t.Configs
		if len(configs) == 0 {
			configs = []string{""}
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%d\t%s\t%s\n", t.Source, t.Target, t.Partitions, t.Action, configs[0])
		for _, more := range configs[1:] {
			_, _ = fmt.Fprintf(w, "  \t\t\t\t%s\n", more)
		}
	}
	_ = w.Flush()
	p.printf("  %s to copy, %d not\n", count(len(plan.Topics), "topic"), len(plan.Skipped))
	if plan.TakeOver != "" {
		p.printf("  to go on with: %s\n", plan.TakeOver)
	}
	if a := plan.ACLs; a != nil {
		p.printf("  ACLs that are as on the source: %d\n", a.InStep)
		for _, text := range a.Create {
			p.printf("  ACL to create: %s\n", text)
		}
		for _, text := range a.Delete {
			p.printf("  ACL to delete: %s\n", text)
		}
	}
	for _, s := range plan.Skipped {
		p.printf("  not copied: %s %s\n", s.Topic, s.Reason)
	}
	for _, text := range plan.Warnings {
		p.printf("  warning: %s\n", text)
	}
	for _, text := range plan.Refused {
		p.printf("  refused: %s\n", text)
	}
	p.printf("\n")
}
