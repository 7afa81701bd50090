package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/recovery"
)

const drillHelp = `milena drill tries out a failover of a flow while the flow goes on, and without an effect on it. It checks
what a switchover checks, measures what a failover would lose and how long its steps take, reads what the
consumers of each group would read first on the target, and compares that with the source. For that it
commits the positions of the groups on the target for groups called milena-drill.FLOW.ID.GROUP, and deletes
these again. Exit code 1 means that something was found.

Examples:
  milena drill -c milena.yaml --flow primary-dr
  milena drill -c milena.yaml --flow primary-dr --report-dir /var/lib/milena/drills
  milena drill -c milena.yaml --flow primary-dr --freeze none --no-reverse --output json
`

const (
	// How long a drill may take unless --timeout says otherwise.
	drillTimeout = 10 * time.Minute
	// How often a drill measures the RPO, and the pauses between.
	drillSamples = 5
	drillPause   = time.Second
	// How many records may be left to copy, and how many positions of a group are looked at, unless somebody says otherwise.
	drillMaxLag    = 100_000
	drillPositions = 100
)

// freezeMethods are the ways to stop producers.
func freezeMethods() []freeze.Method { return []freeze.Method{freeze.ACL, freeze.Quota, freeze.None} }

// runDrill tries out a failover as the flow of the clusters says.
func runDrill(ctx context.Context, c client.Clusters, reverse *client.Clusters, o recovery.Options, positions int) (*recovery.Report, error) {
	return recovery.RunDrill(ctx, c, reverse, o, recovery.DrillOptions{RPO: c.Flow.RPO, RTO: c.Flow.RTO, Positions: positions, Samples: drillSamples, Pause: drillPause})
}

func (p *program) drill(ctx context.Context, args []string) error {
	r := p.recoveryFlags("drill", drillHelp, drillTimeout)
	how := r.flags.String("freeze", string(freeze.ACL), "`HOW` a switchover would stop the producers of the source, which is only checked: acl, quota or none")
	r.flags.Int64Var(&r.options.MaxLag, "max-lag", drillMaxLag, "how many `RECORDS` may be left to copy when a switchover would begin")
	r.flags.BoolVar(&r.options.NoReverse, "no-reverse", false, "it is no finding that no flow copies back")
	positions := r.flags.Int("positions", drillPositions, "at most so many positions of each group are looked at: `N`")
	dir := r.flags.String("report-dir", "", "write the report to this `DIR` too, as drill-FLOW-TIME.json, .md and .html")
	clusters, reverse, err := r.parse(p, args)
	if err != nil {
		return err
	}
	r.options.Freeze = freeze.Method(*how)
	switch {
	case !slices.Contains(freezeMethods(), r.options.Freeze):
		return wrong(r.flags, "--freeze %q must be acl, quota or none", *how)
	case *positions < 1:
		return wrong(r.flags, "--positions %d must be at least 1", *positions)
	}
	return p.carryOutRecovery(ctx, r, func(ctx context.Context, o recovery.Options) (*recovery.Report, error) {
		report, err := runDrill(ctx, clusters, reverse, o, *positions)
		switch {
		case o.DryRun || report.State == "":
			return report, err
		case *dir != "":
			err = errors.Join(err, writeDrill(*dir, report))
		}
		if report.Drilled != nil && r.output == outputTable {
			p.printDrill(report)
		}
		if err == nil && report.Drilled != nil && !report.Drilled.Passed {
			err = errors.New(report.Verdict())
		}
		return report, err
	})
}

// writeDrill writes the report of a drill to files.
func writeDrill(dir string, r *recovery.Report) error {
	page, err := r.DrillHTML()
	if err != nil {
		return err
	}
	fields, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("--report-dir: %w", err)
	}
	base := filepath.Join(dir, fmt.Sprintf("drill-%s-%s", r.Flow, r.Began.UTC().Format("20060102T150405Z")))
	for extension, content := range map[string][]byte{".json": append(fields, '\n'), ".md": r.DrillMarkdown(), ".html": page} {
		if err := os.WriteFile(base+extension, content, 0o600); err != nil {
			return fmt.Errorf("--report-dir: %w", err)
		}
	}
	return nil
}

// printDrill prints what a drill has measured and found.
func (p *program) printDrill(r *recovery.Report) {
	d := r.Drilled
	p.printf("\n  %-10s %-10s %s\n", "", "measured", "objective")
	for _, f := range d.Figures() {
		p.printf("  %-10s %-10s %s\n", f.Name, f.Measured, f.Objective)
	}
	p.printf("  %d of %d positions of %s were looked at\n", d.Checked, d.Positions, count(int64(len(d.Groups)+d.OtherGroups), "group"))
	for _, f := range d.Findings {
		p.printf("  ")
		p.paint(red, "finding")
		p.printf(" %s\n", f)
	}
	if d.OtherFindings > 0 {
		p.printf("  and %d more findings\n", d.OtherFindings)
	}
	for _, n := range d.Notes {
		p.printf("  note    %s\n", n)
	}
	p.printf("\n")
}
