package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	neturl "net/url"
	"slices"
	"strings"
	"time"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/topics"
)

const statusHelp = `milena status asks a running milena over HTTP for the lag of its flows, the partitions that need
attention, and the consumer groups, topic configs and ACLs that are not in sync.

With -c FILE it asks the clusters of the file instead of a milena, from anywhere: it shows all
instances of each flow with their shards, the lag of the whole flow, and what needs attention.
Instances journal their progress every few seconds, so the lag is a little above the real one.

The exit code is 0 if every flow is ready, no partition is halted, no copy is known to differ, every
selected topic is copied, the target refuses no consumer group, and the instance is in the group of the
flow, else 1.

Examples:
  milena status
  milena status --url http://milena-1:9644 --json
  milena status -c milena.yaml
`

// statusTimeout bounds the request. The answer is ready at once, so a slow one means that the process does not serve.
const statusTimeout = 10 * time.Second

func (p *program) status(ctx context.Context, args []string) error {
	f := p.flags("status", statusHelp)
	url := f.String("url", "http://127.0.0.1:9644", "`URL` of the running milena: its http.listen")
	path := configFlag(f)
	flow := f.String("flow", "", "`NAME` of the only flow to show; with -c")
	timeout := f.Duration("timeout", 30*time.Second, "time limit for each flow, as a `DURATION` such as 2m; with -c")
	asJSON := f.Bool("json", false, "print everything that is known, as JSON")
	if err := parse(f, args); err != nil {
		return err
	}
	switch {
	case f.Changed("config") && f.Changed("url"):
		return wrong(f, "--url asks one milena and -c the clusters of all; they cannot be combined")
	case f.Changed("config"):
		return p.fleetStatus(ctx, f, fleetQuestion{*path, *flow, *timeout, *asJSON})
	case f.Changed("flow") || f.Changed("timeout"):
		return wrong(f, "--flow and --timeout need -c FILE")
	}
	if _, _, err := net.SplitHostPort(*url); err == nil { // as in http.listen
		*url = "http://" + *url
	}
	if u, err := neturl.Parse(*url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return wrong(f, "--url %q is not a URL such as http://127.0.0.1:9644", *url)
	}
	body, flows, err := readStatus(ctx, *url)
	if err != nil {
		return err
	}
	if *asJSON {
		if _, err := p.stdout.Write(body); err != nil {
			return err
		}
		return healthy(flows)
	}
	if len(flows) == 0 {
		p.printf("milena is starting: it has no flows yet\n")
	}
	for _, s := range flows {
		p.printStatus(newOverview(s))
	}
	return healthy(flows)
}

// readStatus asks one running milena. The first result is its answer as JSON.
func readStatus(ctx context.Context, url string) ([]byte, []replicator.Status, error) {
	body, err := getStatus(ctx, url)
	if err != nil {
		return nil, nil, fmt.Errorf("status: %w; check that milena is running and that --url is the address of its http.listen", err)
	}
	var flows []replicator.Status
	if err := json.Unmarshal(body, &flows); err != nil {
		return nil, nil, fmt.Errorf("status: the answer of %s is not milena's: %w; check --url", url, err)
	}
	return body, flows, nil
}

// healthy is nil if every flow is ready, no partition is halted, no copy is known to differ, every selected topic is copied, the target refuses no group, and the instance can
// join the others.
func healthy(flows []replicator.Status) error {
	if len(flows) == 0 {
		return errors.New("status: not ready")
	}
	bad := 0
	for _, s := range flows {
		halted := slices.ContainsFunc(s.Partitions, func(p replicator.PartitionStatus) bool { return p.Anomaly != nil })
		differs := s.Verify != nil && s.Verify.Differing > 0
		if !s.Ready || halted || differs || len(s.NotCopied) > 0 || refusesGroups(s.Groups) || s.Instance.Problem != "" {
			bad++
		}
	}
	return needsAttention(bad, len(flows))
}

// refusesGroups reports whether the target refuses a group until somebody changes rights or configs there.
func refusesGroups(g *groups.Status) bool {
	return g != nil && slices.ContainsFunc(g.Refusals, func(r groups.Refusal) bool { return policy.Refusal(r.Reason).ByTarget() })
}

// needsAttention is the error of a command that shows flows, nil if none needs attention.
func needsAttention(bad, flows int) error {
	if bad == 0 {
		return nil
	}
	return fmt.Errorf("status: %d of %s needs attention; the output says why", bad, count(flows, "flow"))
}

func getStatus(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%s has not answered for %v: the process is paused, or its host has no CPU left", req.URL, statusTimeout)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// printStatus prints totals first, then what is not in sync, and last the partitions that need attention.
func (p *program) printStatus(o overview) {
	ready := "ready"
	if !o.Ready {
		ready = "not ready"
	}
	p.printf("flow %s: %s -> %s, %s\n", o.Flow, o.Source, o.Target, ready)
	for _, reason := range o.NotReady {
		p.printf("  %s\n", indented(reason, "    "))
	}
	if i := o.Instance; i.ID != "" {
		p.printf("  instance %s: %s, holds %d of %s\n", i.ID, i.State, i.Held, count(int64(i.Shards), "shard"))
		if i.Problem != "" {
			p.printf("  %s\n", indented(i.Problem, "    "))
		}
		if n := len(i.Instances); n > 1 {
			p.printf("  %s share the flow, and this is what one of them has; milena status -c FILE shows all%s\n", count(n, "instance"), syncsElsewhere(i))
		}
	}
	p.printf("  %s in %s, lag %s; copied since start: %s, %s\n", count(o.PartitionCount, "partition"),
		count(o.TopicCount, "topic"), lagText(o.LagRecords, o.LagUnknown), count(o.Records, "record"), size(o.Bytes))
	p.printControl(o.Control)
	for _, t := range o.Throttled {
		p.printf("  %s\n", t.Text)
	}
	if o.Fence == "lease" {
		p.printf("  fence: lease: records that an earlier owner sends late may be twice, and are reported as foreign_write\n")
	}
	for _, text := range o.Certificates {
		p.printf("  %s\n", indented(text, "    "))
	}
	p.printGroups(o.Groups)
	p.printConfigs(o.Configs)
	p.printACLs(o.ACLs)
	p.printUnused(o.Unused)
	if v := o.Verify; v != nil {
		p.printf("  copies are verified in the background with %s/s at most\n", size(v.BytesPerSecond))
		if v.Problem != "" {
			p.printf("  %s\n", indented(v.Problem, "    "))
		}
	}
	p.printVerified(o.Verified)
	p.printAttention(o)
}

// printControl prints what people decided that holds, and whether they can decide.
func (p *program) printControl(c replicator.ControlStatus) {
	for _, text := range controlTexts(c) {
		p.printf("  %s\n", indented(text, "    "))
	}
}

// syncsElsewhere says that another instance syncs groups, topic configs and ACLs, if one does.
func syncsElsewhere(i replicator.InstanceStatus) string {
	if i.Syncs {
		return ""
	}
	return ". Another one syncs groups, topic configs and ACLs"
}

// printUnused prints the items of the config that select nothing.
func (p *program) printUnused(items []policy.UnusedItem) {
	for _, item := range items {
		kind := "selects nothing"
		if item.Notice {
			kind = "notice"
		}
		p.printf("  %s: %s\n", kind, item)
	}
}

// lagText is a lag in records, as far as it is known.
func lagText(records *int64, unknown int) string {
	switch {
	case records == nil:
		return "unknown"
	case unknown > 0:
		return fmt.Sprintf("%s and unknown for %s", count(*records, "record"), count(unknown, "partition"))
	}
	return count(*records, "record")
}

// maxGroupRows is how many groups the text output shows; --json prints all.
const maxGroupRows = 20

func (p *program) printGroups(g *groups.Status) {
	switch {
	case g == nil:
		return
	case g.LastPass.IsZero() && len(g.Problems) == 0:
		p.printf("  consumer groups: not synced yet\n")
		return
	case g.Groups == 0 && len(g.Problems)+len(g.NotFollowed) == 0:
		p.printf("  no consumer groups\n")
		return
	}
	p.printf("  %s with %s", count(g.Groups, "consumer group"), count(g.Positions, "committed offset"))
	if g.Refused > 0 {
		p.printf(", %d of them not committed on the target", g.Refused)
	}
	p.printf("\n")
	for _, r := range g.Refusals[:min(maxGroupRows, len(g.Refusals))] {
		p.printf("    %s (%s; %s)\n", r.Text, count(r.Partitions, "partition"), r.Detail)
	}
	p.printMore("    ", len(g.Refusals)-maxGroupRows, "")
	if n := len(g.NotFollowed); n > 0 {
		p.printf("  %s not followed\n", count(n, "group"))
		for _, left := range g.NotFollowed[:min(maxGroupRows, n)] {
			p.printf("    %s\n", left.Text)
		}
		p.printMore("    ", n-maxGroupRows, "")
	}
	p.printProblems(g.Problems)
}

func (p *program) printConfigs(c *topics.ConfigsStatus) {
	if c == nil {
		return
	}
	if c.Changed > 0 {
		p.printf("  %s changed in the last sync\n", count(c.Changed, "topic config"))
	}
	p.printProblems(c.Problems)
}

func (p *program) printACLs(a *topics.ACLsStatus) {
	if a == nil || a.LastPass.IsZero() {
		return
	}
	if a.InStep+a.Created+a.Deleted+a.Refused > 0 || len(a.Problems) == 0 { // otherwise only the problem matters
		p.printf("  %s in sync; last sync: %d created, %d deleted, %d refused\n", count(a.InStep, "ACL"), a.Created, a.Deleted, a.Refused)
	}
	p.printProblems(a.Problems)
}

func (p *program) printProblems(problems []string) {
	for _, text := range problems {
		p.printf("    %s\n", indented(text, "      "))
	}
}

func (p *program) printAttention(o overview) {
	if len(o.Attention) == 0 {
		if o.AllIsWell { // otherwise the reasons are above
			p.printf("  no partition needs attention\n")
		}
		p.printf("\n")
		return
	}
	p.printEntries(o.Attention, o.Hidden)
}

func (p *program) printEntries(list attentionList, hidden int) {
	p.printf("\n")
	w := p.table()
	row(w, "  TOPIC\tPARTITION\tSTATE\tREASON")
	for _, e := range list {
		row(w, "  %s\t%s\t%s\t%s", e.Topic, e.Partitions, e.State, e.Why)
	}
	_ = w.Flush()
	p.printMore("  ", hidden, "")
	p.printf("\n")
}
