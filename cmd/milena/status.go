package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/topics"
)

const statusHelp = `milena status asks a running milena over HTTP for the lag of its flows and the states of their topics, the
partitions that need attention, and the consumer groups, topic configs and ACLs that are not in sync.

With -c FILE it asks the clusters of the file instead of a milena, from anywhere: it shows all
instances of each flow with their shards, the lag of the whole flow, and what needs attention.
Instances journal their progress every few seconds, so the lag is a little above the real one.

The exit code is 0 if every flow is ready, no partition is halted, no copy is known to differ, every
selected topic is copied, the RPO is within its objective, the target refuses no consumer group, the
instance is in the group of the flow, and the config file of the process is not refused, else 1.

With --watch it shows the topics live until Ctrl-C, with bars for how much of each is copied, and when it
will be caught up; the exit code is 0 then.

Examples:
  milena status
  milena status --watch
  milena status --url http://milena-1:9644 --output json
  milena status -c milena.yaml
  milena status -c milena.yaml --watch 10s
`

// statusTimeout bounds the request. The answer is ready at once, so a slow one means that the process does not serve.
const statusTimeout = 10 * time.Second

// statusFlags are the flags of status.
type statusFlags struct {
	remote  remote
	config  *string // of the clusters to ask instead
	flow    string  // empty: all
	timeout time.Duration
	watch   time.Duration // 0: once
	output  string
}

func (s *statusFlags) add(f *pflag.FlagSet) {
	f.StringVar(&s.remote.url, "url", "http://127.0.0.1:9644", "`URL` of the running milena: its http.listen")
	s.remote.addAccess(f)
	s.config = configFlag(f)
	f.StringVar(&s.flow, "flow", "", "`NAME` of the only flow to show; with -c")
	f.DurationVar(&s.watch, "watch", 0, "show it live until Ctrl-C, again after each `INTERVAL`")
	f.Lookup("watch").NoOptDefVal = "1s"
	f.DurationVar(&s.timeout, "timeout", 30*time.Second, "time limit for each flow, as a `DURATION` such as 2m; with -c")
	addOutput(f, &s.output)
	f.Lookup("output").Usage = "`FORMAT` of the result: table, or json or yaml, which have everything that is known"
}

// check completes the flags and reports those that do not fit together.
func (s *statusFlags) check(f *pflag.FlagSet, env func(string) (string, bool)) error {
	if f.NArg() > 0 {
		interval, err := time.ParseDuration(f.Arg(0))
		switch s.watch = interval; { // --watch 10s
		case err == nil && f.Changed("watch"):
		case f.Changed("config"):
			return wrong(f, "unexpected argument %q", f.Arg(0))
		default:
			return wrong(f, "unexpected argument %q; name the config with -c FILE", f.Arg(0))
		}
	}
	switch {
	case f.Changed("config") && f.Changed("url"):
		return wrong(f, "--url asks one milena and -c the clusters of all; they cannot be combined")
	case !f.Changed("config") && (f.Changed("flow") || f.Changed("timeout")):
		return wrong(f, "--flow and --timeout need -c FILE")
	case f.Changed("watch") && s.watch <= 0:
		return wrong(f, "--watch must be longer than 0s")
	case s.watch > 0 && s.output != outputTable:
		return wrong(f, "--watch shows a table and cannot be combined with --output %s", s.output)
	}
	if f.Changed("config") {
		return nil
	}
	if _, _, err := net.SplitHostPort(s.remote.url); err == nil { // as in http.listen
		s.remote.url = "http://" + s.remote.url
	}
	return s.remote.open(f, env)
}

func (p *program) status(ctx context.Context, args []string) error {
	var flags statusFlags
	f := p.flags("status", statusHelp)
	flags.add(f)
	if err := parseArgs(f, args, 1); err != nil {
		return err
	}
	if err := flags.check(f, p.env); err != nil {
		return err
	}
	if f.Changed("config") {
		return p.fleetStatus(ctx, f, flags)
	}
	if flags.watch > 0 {
		return p.watchStatus(ctx, flags)
	}
	body, flows, err := readStatus(ctx, &flags.remote)
	if err != nil {
		return err
	}
	if flags.output != outputTable {
		if err := p.printDocument(flags.output, body); err != nil {
			return err
		}
		return healthy(flows)
	}
	p.printStatuses(overviews(ctx, &flags.remote, flows))
	return healthy(flows)
}

// overviews sums up the flows of a running milena.
func overviews(ctx context.Context, from *remote, flows []replicator.Status) (list []overview) {
	stops := isStopping(ctx, from)
	for _, s := range flows {
		o := newOverview(s)
		if o.stopping = stops; stops {
			drain(o.Topics)
		}
		list = append(list, o)
	}
	return list
}

func (p *program) printStatuses(list []overview) {
	if len(list) == 0 {
		p.printf("milena is starting: it has no flows yet\n")
	}
	for i := range list {
		p.printStatus(&list[i])
	}
}

// readStatus asks one running milena. The first result is its answer as JSON.
func readStatus(ctx context.Context, from *remote) ([]byte, []replicator.Status, error) {
	body, err := getStatus(ctx, from)
	if err != nil {
		return nil, nil, fmt.Errorf("status: %w", err)
	}
	var flows []replicator.Status
	if err := json.Unmarshal(body, &flows); err != nil {
		return nil, nil, fmt.Errorf("status: the answer of %s is not milena's: %w; check --url", from.url, err)
	}
	return body, flows, nil
}

// healthy is nil if every flow is ready, no partition is halted, no copy is known to differ, every selected topic is copied, the target refuses no group,
// the instance can join the others, the RPO is within its objective, and the process has not refused its config file.
func healthy(flows []replicator.Status) error {
	if len(flows) == 0 {
		return errors.New("status: not ready")
	}
	bad := 0
	for _, s := range flows {
		halted := slices.ContainsFunc(s.Partitions, func(p replicator.PartitionStatus) bool { return p.Anomaly != nil })
		differs := s.Verify != nil && s.Verify.Differing > 0
		if !s.Ready || s.RPO.ObjectiveMissed || halted || differs || len(s.NotCopied) > 0 || refusesGroups(s.Groups) || s.Instance.Problem != "" || s.ConfigRefused != "" {
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

func getStatus(ctx context.Context, from *remote) ([]byte, error) {
	answered, err := getFrom(ctx, from, "/status")
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w; check that milena is running and that --url is the address of its http.listen", err)
	case answered.code != http.StatusOK:
		return nil, from.failure(answered)
	}
	return answered.body, nil
}

// isStopping reports whether a milena says that it is not ready because it stops.
func isStopping(ctx context.Context, from *remote) bool {
	answered, err := getFrom(ctx, from, "/readyz")
	return err == nil && answered.code == http.StatusServiceUnavailable && slices.Contains(strings.Split(string(answered.body), "\n"), reasonStopping)
}

// getFrom sends a GET to a running milena.
func getFrom(ctx context.Context, from *remote, path string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	answered, err := from.send(ctx, http.MethodGet, path, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%s has not answered for %v: the process is paused, or its host has no CPU left", from.url, statusTimeout)
	}
	return answered, err
}

// printStatus prints totals first, then what is not in sync, then the topics, and last the partitions that need attention.
func (p *program) printStatus(o *overview) {
	p.printHeadline(o)
	p.printf("  %s in %s, lag %s; copied since start: %s, %s\n", count(o.PartitionCount, "partition"),
		count(o.TopicCount, "topic"), lagText(o.LagRecords, o.LagUnknown), count(o.Records, "record"), size(o.Bytes))
	p.printLoss(o.lossOverview)
	p.printLimits(o)
	if o.Fence == "lease" {
		p.printf("  fence: lease: records that an earlier owner sends late may be twice, and are reported as foreign_write\n")
	}
	if o.ConfigRefused != "" {
		p.printf("  %s\n", indented(summary.RefusedText(o.ConfigRefused), "    "))
	}
	for _, text := range append(o.Controllers, o.Certificates...) {
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
	p.printTopics(o.Topics, o.TopicCount, nil)
	p.printAttention(o)
}

// printHeadline prints whether the flow is ready, why not, and what this instance has of it.
func (p *program) printHeadline(o *overview) {
	p.printf("flow %s: %s -> %s, ", o.Flow, o.Source, o.Target)
	switch {
	case o.stopping:
		p.paint(yellow, "stopping")
	case o.Ready:
		p.paint(green, "ready")
	default:
		p.paint(red, "not ready")
	}
	p.printf("\n")
	for _, reason := range o.NotReady {
		p.printf("  %s\n", indented(reason, "    "))
	}
	i := o.Instance
	if i.ID == "" {
		return
	}
	p.printf("  instance %s: %s, holds %d of %s\n", i.ID, i.State, i.Held, count(int64(i.Shards), "shard"))
	if i.Problem != "" {
		p.printf("  %s\n", indented(i.Problem, "    "))
	}
	if n := len(i.Instances); n > 1 {
		p.printf("  %s share the flow, and this is what one of them has; milena status -c FILE shows all%s\n", count(n, "instance"), syncsElsewhere(i))
	}
}

// printLimits prints what people decided that holds, and which brokers slow the flow down.
func (p *program) printLimits(o *overview) {
	p.printControl(o.Control)
	for _, t := range o.Throttled {
		p.printf("  %s\n", t.Text)
	}
}

// printControl prints what people decided that holds, and whether they can decide.
func (p *program) printControl(c replicator.ControlStatus) {
	for _, text := range summary.ControlTexts(c) {
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

// maxGroupRows is how many groups the text output shows; --output json prints all.
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

func (p *program) printAttention(o *overview) {
	if len(o.Attention) == 0 {
		if o.AllIsWell { // otherwise the reasons are above
			p.printf("\n  no partition needs attention\n")
		}
		p.printf("\n")
		return
	}
	p.printEntries(o.Attention, o.Hidden)
}

func (p *program) printEntries(list summary.Entries, hidden int) {
	p.printf("\n")
	rows := [][]cell{cells("TOPIC", "PARTITION", "STATE", "REASON")}
	for _, e := range list {
		rows = append(rows, []cell{{text: e.Topic}, {text: e.Partitions}, {e.State, colourOf(e.State)}, {text: e.Why}})
	}
	p.printGrid("  ", rows)
	p.printMore("  ", hidden, "")
	p.printf("\n")
}
