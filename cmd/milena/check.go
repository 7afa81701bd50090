package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/plan"
)

const checkHelp = `milena check connects to both clusters of every flow and prints what run would do. It changes
nothing and may run beside a running flow.

Examples:
  milena check -c milena.yaml
  milena check -c mm2.properties --timeout 30s --output json
`

// checked is the result for one flow: a plan, or the reason why there is none.
type checked struct {
	Flow  string     `json:"flow"`
	Plan  *plan.Plan `json:"plan,omitempty"`
	Error string     `json:"error,omitempty"`
}

func (p *program) check(ctx context.Context, args []string) error {
	f := p.flags("check", checkHelp)
	path := configFlag(f)
	var output string
	addOutput(f, &output)
	timeout := f.Duration("timeout", 10*time.Second, "time limit for each flow, as a `DURATION` such as 30s")
	if err := parse(f, args); err != nil {
		return err
	}
	file, err := p.readConfig(*path)
	if err != nil {
		return err
	}
	results, err := checkFlows(ctx, file.Config, *timeout)
	if err != nil {
		return err
	}
	if output != outputTable {
		if err := p.printAs(output, results); err != nil {
			return err
		}
	} else {
		p.printChecked(file.Notes, results)
	}
	return errors.Join(verdict(results), checkHTTP(ctx, file))
}

// checkFlows plans each flow within the timeout. Only an interrupt is an error.
func checkFlows(ctx context.Context, c *config.Config, timeout time.Duration) ([]checked, error) {
	var results []checked
	for _, flow := range c.Flows {
		result := checked{Flow: flow.Name}
		flowCtx, cancel := context.WithTimeout(ctx, timeout)
		plan, err := plan.Check(flowCtx, silent(c, flow))
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, errors.New("check: interrupted")
		case err != nil:
			result.Error = err.Error()
		default:
			result.Plan = plan
			if len(results) == 0 { // once, although it concerns all flows
				plan.Warnings = append(plan.Warnings, insecure(c)...)
			}
		}
		results = append(results, result)
	}
	return results, nil
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
	return fmt.Errorf("check: %d of %s cannot run; the output says why", bad, count(len(results), "flow"))
}

func (p *program) printChecked(notes []config.Note, results []checked) {
	for _, n := range notes {
		p.printf("note: %s\n", n)
	}
	for _, r := range results {
		p.printf("flow %s\n", r.Flow)
		if r.Plan == nil {
			p.printf("  error: %s\n\n", indented(r.Error, "    "))
			continue
		}
		p.printPlan(r.Plan)
	}
}

// printPlan prints what the flow would do, then what it leaves out, and last what prevents it.
func (p *program) printPlan(plan *plan.Plan) {
	p.printf("  source cluster %s, target cluster %s\n\n", plan.SourceClusterID, plan.TargetClusterID)
	p.printPlannedTopics(plan.Topics)
	p.printf("  %s to copy, %d skipped\n", count(len(plan.Topics), "topic"), len(plan.Skipped))
	if plan.Migration != "" {
		p.printf("  migrate from MirrorMaker 2: %s\n", plan.Migration)
	}
	if a := plan.ACLs; a != nil {
		p.printf("  %s in sync\n", count(a.InStep, "ACL"))
		p.printEach("create ACL", a.Create)
		p.printEach("delete ACL", a.Delete)
	}
	for _, s := range plan.Skipped {
		p.printf("  skipped: %s %s\n", s.Topic, s.Reason)
	}
	p.printEach("warning", plan.Warnings)
	p.printUnused(plan.Unused)
	p.printEach("refused", plan.Refused)
	p.printf("\n")
}

func (p *program) printPlannedTopics(topics []plan.Topic) {
	w := p.table()
	row(w, "  TOPIC\tTARGET TOPIC\tPARTITIONS\tACTION\tCONFIGS")
	for _, t := range topics {
		configs := t.Configs
		if len(configs) == 0 {
			configs = []string{""}
		}
		row(w, "  %s\t%s\t%d\t%s\t%s", t.Source, t.Target, t.Partitions, t.Action, configs[0])
		for _, more := range configs[1:] {
			row(w, "  \t\t\t\t%s", more)
		}
	}
	_ = w.Flush()
}

func (p *program) printEach(kind string, sentences []string) {
	for _, text := range sentences {
		p.printf("  %s: %s\n", kind, indented(text, "    "))
	}
}
