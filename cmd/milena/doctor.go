package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/plan"
)

const doctorHelp = `milena doctor looks at both clusters of every flow for what endangers it or slows it down: brokers,
certificates, clocks, replicas, retention, configs, quotas and groups. It prints what each finding
means and what mends it. It changes nothing and may run beside a running flow.

Examples:
  milena doctor -c milena.yaml
  milena doctor -c mm2.properties --output json
`

func (p *program) doctor(ctx context.Context, args []string) error {
	f := p.flags("doctor", doctorHelp)
	path := configFlag(f)
	name := f.String("flow", "", "examine only the flow with this `NAME`")
	var output string
	addOutput(f, &output)
	timeout := f.Duration("timeout", time.Minute, "time limit for each flow, as a `DURATION` such as 2m")
	if err := parse(f, args); err != nil {
		return err
	}
	file, err := p.readConfig(*path)
	if err != nil {
		return err
	}
	flows := file.Config.Flows
	if *name != "" {
		flow, err := chooseFlow(f, file.Config, *name)
		if err != nil {
			return err
		}
		flows = []config.Flow{flow}
	}
	results, err := examineFlows(ctx, file.Config, flows, *timeout)
	if err != nil {
		return err
	}
	if output != outputTable {
		if err := p.printAs(output, results); err != nil {
			return err
		}
	} else {
		p.printDiagnoses(results)
	}
	return judged(results)
}

// examineFlows examines each flow within the timeout.
func examineFlows(ctx context.Context, c *config.Config, flows []config.Flow, timeout time.Duration) ([]*plan.Diagnosis, error) {
	var results []*plan.Diagnosis
	for _, flow := range flows {
		flowCtx, cancel := context.WithTimeout(ctx, timeout)
		diagnosis, err := plan.Doctor(flowCtx, silent(c, flow))
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, errors.New("doctor: interrupted")
		case errors.Is(err, context.DeadlineExceeded):
			return nil, fmt.Errorf("doctor: flow %s was not examined within %v; raise --timeout", flow.Name, timeout)
		case err != nil:
			return nil, fmt.Errorf("doctor: %w", err)
		}
		results = append(results, diagnosis)
	}
	return results, nil
}

// judged is nil if there are no errors among the findings.
func judged(results []*plan.Diagnosis) error {
	n := 0
	for _, d := range results {
		n += d.Errors()
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("doctor: %s; the output says how to mend each", count(n, "error"))
}

func (p *program) printDiagnoses(results []*plan.Diagnosis) {
	for _, d := range results {
		p.printf("flow %s\n", d.Flow)
		if len(d.Findings) == 0 {
			p.printf("  nothing found\n")
		}
		for rest := d.Findings; len(rest) > 0; {
			n := alike(rest)
			p.printFindings(rest[:n])
			rest = rest[n:]
		}
		p.printf("\n")
	}
}

// alike counts how many findings, from the first one, are of one kind and about one cluster.
func alike(findings []plan.Finding) int {
	first := findings[0]
	other := func(f plan.Finding) bool {
		return f.ID != first.ID || f.Severity != first.Severity || f.Cluster != first.Cluster
	}
	if n := slices.IndexFunc(findings, other); n >= 0 {
		return n
	}
	return len(findings)
}

// findingsShown is how many findings of one kind about one cluster are printed.
const findingsShown = 5

// printFindings prints findings that are alike.
func (p *program) printFindings(same []plan.Finding) {
	for _, f := range same[:min(findingsShown, len(same))] {
		where := "cluster " + f.Cluster
		if f.Topic != "" {
			where += ", topic " + f.Topic
		}
		p.printf("  ")
		p.paint(colourOf(string(f.Severity)), string(f.Severity))
		p.printf(" %s: %s\n", f.ID, where)
		for _, text := range []string{f.Meaning, f.Mend} {
			if text != "" {
				p.printf("    %s\n", indented(text, "    "))
			}
		}
		if f.Command != "" {
			p.printf("      %s\n", f.Command)
		}
	}
	if more := len(same) - findingsShown; more > 0 {
		p.printf("  and %d more %s on cluster %s; --output json prints all\n", more, same[0].ID, same[0].Cluster)
	}
}
