package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/fleet"
)

// fleetResult is the report of one flow, or the reason why there is none.
type fleetResult struct {
	Flow  string `json:"flow"`
	Error string `json:"error,omitempty"`
	*fleet.Report
}

// fleetStatus prints what the clusters of the flows say.
func (p *program) fleetStatus(ctx context.Context, f *pflag.FlagSet, flags statusFlags) error {
	file, err := p.readConfig(*flags.config)
	if err != nil {
		return err
	}
	flows := file.Config.Flows
	if flags.flow != "" {
		flow, err := chooseFlow(f, file.Config, flags.flow)
		if err != nil {
			return err
		}
		flows = []config.Flow{flow}
	}
	if flags.watch > 0 {
		return p.watchFleet(ctx, file.Config, flows, flags)
	}
	results, bad, err := readFleets(ctx, file.Config, flows, flags.timeout)
	if err != nil {
		return err
	}
	if flags.output != outputTable {
		if err := p.printAs(flags.output, results); err != nil {
			return err
		}
		return needsAttention(bad, len(results))
	}
	for _, r := range results {
		p.printFleet(r)
	}
	return needsAttention(bad, len(results))
}

// readFleets asks the clusters of each flow. Bad counts the flows that need attention. Only an interrupt is an error.
func readFleets(ctx context.Context, c *config.Config, flows []config.Flow, timeout time.Duration) (results []fleetResult, bad int, _ error) {
	for _, flow := range flows {
		flowCtx, cancel := context.WithTimeout(ctx, timeout)
		report, err := fleet.Read(flowCtx, silent(c, flow))
		cancel()
		result := fleetResult{Flow: flow.Name, Report: &report}
		switch {
		case ctx.Err() != nil && err != nil:
			return nil, 0, fmt.Errorf("status: interrupted while it waited for the clusters of flow %s: %w", flow.Name, err)
		case err != nil:
			result.Report, result.Error = nil, err.Error()
			bad++
		case !report.IsHealthy():
			bad++
		}
		results = append(results, result)
	}
	return results, bad, nil
}

// printFleet prints the instances first, then totals and topics, and last what needs attention.
func (p *program) printFleet(result fleetResult) {
	r := result.Report
	if r == nil {
		p.printUnread(result)
		return
	}
	p.printf("flow %s: %s -> %s, %s\n", r.Flow, r.Source, r.Target, instancesText(r))
	p.printInstances(r)
	p.printf("  %s in %s, lag %s%s\n", count(len(r.Partitions), "partition"), count(topicsOf(r), "topic"), lagText(r.LagRecords, r.LagUnknown), asOf(r))
	p.printLoss(newLossOverview(r.RPO, r.RTOObjectiveSeconds, r.At))
	p.printFleetProblems(r)
	p.printUnused(r.Unused)
	var rows []verifiedRow
	for i := range r.Partitions {
		if of := &r.Partitions[i]; of.Verified != nil {
			rows = append(rows, verifiedRow{of.Topic, of.Partition, of.Verified})
		}
	}
	p.printVerified(rows)
	topics := fleetTopics(r)
	p.printTopics(topics, len(topics), nil)
	list := fleetAttention(r)
	if hidden := list.Choose(maxShown); len(list) > 0 {
		p.printEntries(list, hidden)
		return
	}
	if r.IsHealthy() { // otherwise the reasons are above
		p.printf("\n  no partition needs attention\n")
	}
	p.printf("\n")
}

// printUnread prints why there is no report.
func (p *program) printUnread(result fleetResult) {
	p.printf("flow %s\n  ", result.Flow)
	p.paint(red, "error")
	p.printf(": %s\n\n", indented(result.Error, "    "))
}

// printFleetProblems prints what people decided that holds, and what concerns the whole flow.
func (p *program) printFleetProblems(r *fleet.Report) {
	for _, d := range r.InForce {
		p.printf("  %s\n", summary.InForceText(string(d.What), d.Scope.String(), d.Who, d.Why, d.When, d.Until, d.Rate))
	}
	if r.Recovery != nil {
		p.printf("  %s by %s: %s\n", r.Recovery.What, r.Recovery.Who, summary.RecoveryText(r.Recovery))
	}
	for _, f := range r.Frozen {
		p.printf("  %s\n", summary.FrozenText(f))
	}
	if r.Drill != nil {
		p.printf("  %s\n", summary.DrillText(r.Drill))
	}
	for _, problem := range r.Problems {
		p.printf("  %s\n", indented(problem, "    "))
	}
	if r.Mode == fleet.ModeStopped {
		p.printf("  no instance runs: start one with milena run\n")
	} else if n := len(r.ShardsWithoutOwner); n > 0 {
		p.printf("  nobody owns %s (%s) with %s\n", count(n, "shard"), ranges(r.ShardsWithoutOwner), count(partitionsWithoutOwner(r), "partition"))
	}
}

func instancesText(r *fleet.Report) string {
	if r.Mode == fleet.ModeUnknown {
		return "instances not known"
	}
	if r.ShardsWithoutOwner == nil {
		return fmt.Sprintf("%s, owners of %s not known", count(len(r.Instances), "instance"), count(r.Shards, "shard"))
	}
	return fmt.Sprintf("%s, %d of %s owned", count(len(r.Instances), "instance"), r.Shards-len(r.ShardsWithoutOwner), count(r.Shards, "shard"))
}

// printInstances prints a line for each instance. The one that holds shard 0 has a mark. An instance that was not seen for some seconds may be dead: the
// group learns that after its session timeout.
func (p *program) printInstances(r *fleet.Report) {
	if len(r.Instances) == 0 {
		return
	}
	p.printf("\n")
	w := p.table()
	row(w, "  INSTANCE\tHOST\tVERSION\tSEEN\tSHARDS\tPARTITIONS\tLAG")
	syncs := false
	for _, i := range r.Instances {
		seen := "-"
		if !i.Confirmed.IsZero() {
			seen = ago(r.At.Sub(i.Confirmed))
		}
		if i.Shards == nil {
			row(w, "  %s\t%s\t%s\t%s\t-\t-\t-", i.ID, cmp.Or(i.Host, "-"), cmp.Or(i.Version, "-"), seen)
			continue
		}
		shards := strconv.Itoa(len(i.Shards))
		if len(r.Instances) > 1 && slices.Contains(i.Shards, 0) {
			syncs, shards = true, shards+"*"
		}
		row(w, "  %s\t%s\t%s\t%s\t%s\t%d\t%s", i.ID, cmp.Or(i.Host, "-"), cmp.Or(i.Version, "-"), seen, shards, i.Partitions, lagText(i.LagRecords, i.LagUnknown))
	}
	_ = w.Flush()
	if syncs {
		p.printf("  * also syncs topics, configs, ACLs and groups\n")
	}
	p.printf("\n")
}

// topicsOf counts the topics of a report, whose partitions are sorted.
func topicsOf(r *fleet.Report) (n int) {
	for i := range r.Partitions {
		if i == 0 || r.Partitions[i].Topic != r.Partitions[i-1].Topic {
			n++
		}
	}
	return n
}

// asOf says how old the figures of a report are: the newest of them are in the journal since then.
func asOf(r *fleet.Report) string {
	if r.JournaledAt.IsZero() {
		return ""
	}
	return ", by the journal as of " + ago(r.At.Sub(r.JournaledAt))
}

// partitionsWithoutOwner counts the partitions that nobody copies.
func partitionsWithoutOwner(r *fleet.Report) (n int) {
	for i := range r.Partitions {
		if r.Partitions[i].Instance == "" {
			n++
		}
	}
	return n
}

// maxRanges bounds a list of numbers in the text output; --output json prints all.
const maxRanges = 20

// ranges is a sorted list of numbers, such as 0-3, 7.
func ranges(numbers []int32) string {
	var parts []string
	for i := 0; i < len(numbers); {
		last := i
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		part := strconv.Itoa(int(numbers[i]))
		if last > i {
			part += fmt.Sprintf("-%d", numbers[last])
		}
		if i = last + 1; len(parts) == maxRanges {
			return strings.Join(parts, ", ") + " and more"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// fleetAttention lists the partitions and topics of a report that need attention.
func fleetAttention(r *fleet.Report) (list summary.Entries) {
	for i := range r.Partitions {
		switch p := &r.Partitions[i]; {
		case p.Halted != nil:
			list.Add(p.Topic, p.Partition, "halted", fmt.Sprintf("%s: %s. %s", p.Halted.Kind, p.Halted.Detail, p.Halted.Hint))
		case !p.Listed:
			list.Add(p.Topic, p.Partition, "waiting", p.Why)
		case p.TargetNoLeader:
			list.Add(p.Topic, p.Partition, "waiting", fmt.Sprintf("no broker of the target, cluster %s, leads the copy", r.Target))
		case p.Why != "":
			list.Add(p.Topic, p.Partition, "unknown", p.Why)
		case p.Verified.Problem() != "":
			list.Add(p.Topic, p.Partition, "differs", p.Verified.Problem())
		}
	}
	list.AddNotCopied(r.NotCopied)
	return list
}
