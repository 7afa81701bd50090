package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/milena-kafka/milena/replicator"
)

func (p *program) status(ctx context.Context, args []string) error {
	f := p.flags("status", "ask a running milena how its flows are")
	url := f.String("url", "http://127.0.0.1:9644", "where it listens")
	asJSON := f.Bool("json", false, "print all it knows as JSON")
	if err := parse(f, args); err != nil {
		return err
	}
	body, err := getStatus(ctx, *url)
	if err != nil {
		return fmt.Errorf("status: %w; is milena running, and is this the address of http.listen?", err)
	}
	if *asJSON {
		_, err := p.stdout.Write(body)
		return err
	}
	var flows []replicator.Status
	if err := json.Unmarshal(body, &flows); err != nil {
		return fmt.Errorf("status: %s does not answer like milena: %w", *url, err)
	}
	for _, s := range flows {
		p.printStatus(newOverview(s))
	}
	return nil
}

func getStatus(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

func (p *program) printStatus(o overview) {
	ready := "ready"
	if !o.Ready {
		ready = "not ready"
	}
	p.printf("flow %s: %s -> %s, %s\n", o.Flow, o.Source, o.Target, ready)
	for _, reason := range o.NotReady {
		p.printf("  %s\n", reason)
	}
	p.printf("  %s in %s, lag %s; copied since the start: %s, %s\n", count(o.PartitionCount, "partition"),
		count(o.TopicCount, "topic"), count(o.LagRecords, "record"), count(o.Records, "record"), size(o.Bytes))
	for _, t := range o.Throttled {
		p.printf("  %s\n", t.Text)
	}
	p.printGroups(o.Groups)
	p.printSettings(o.Status)
	if o.AttentionCount == 0 {
		p.printf("  no partition needs attention\n\n")
		return
	}
	p.printf("\n")
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "  TOPIC\tPARTITION\tSTATE\tWHY")
	for _, e := range o.Attention {
		_, _ = fmt.Fprintf(w, "  %s\t%d\t%s\t%s\n", e.Topic, e.Partition, e.State, e.Why)
	}
	_ = w.Flush()
	if more := o.AttentionCount - len(o.Attention); more > 0 {
		p.printf("  and %d more; --json has all\n", more)
	}
	p.printf("\n")
}

// refusalsShown is how many refused groups are a picture; more are a list for a program.
const refusalsShown = 20

func (p *program) printGroups(g *replicator.GroupsStatus) {
	switch {
	case g == nil:
		return
	case g.LastPass.IsZero() && len(g.Problems) == 0:
		p.printf("  no look at consumer groups so far\n")
		return
	}
	p.printf("  %s at %s", count(g.Groups, "consumer group"), count(g.Positions, "position"))
	if g.Refused > 0 {
		p.printf(", %d of them not on the target", g.Refused)
	}
	p.printf("\n")
	for _, r := range g.Refusals[:min(refusalsShown, len(g.Refusals))] {
		p.printf("    %s (%s; %s)\n", r.Text, count(r.Partitions, "partition"), r.Detail)
	}
	if more := len(g.Refusals) - refusalsShown; more > 0 {
		p.printf("    and %d more; --json has all\n", more)
	}
	for _, text := range g.Problems {
		p.printf("    %s\n", text)
	}
}

// printSettings tells what the last looks at topic configs and ACLs changed, and what they could not.
func (p *program) printSettings(s replicator.Status) {
	var problems []string
	if c := s.Configs; c != nil {
		if problems = append(problems, c.Problems...); c.Changed > 0 {
			p.printf("  %s changed in the last look\n", count(c.Changed, "topic config"))
		}
	}
	if a := s.ACLs; a != nil && !a.LastPass.IsZero() {
		if a.InStep+a.Created+a.Deleted+a.Refused > 0 || len(a.Problems) == 0 { // else only the problem is news
			p.printf("  %s as on the source; in the last look %d created, %d deleted, %d refused\n", count(a.InStep, "ACL"), a.Created, a.Deleted, a.Refused)
		}
		problems = append(problems, a.Problems...)
	}
	for _, text := range problems {
		p.printf("    %s\n", text)
	}
}
