package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

const logHelp = `milena log shows what people decided about a flow, the newest last, and what the instances did about it.
It reads the control topic on the target.

Examples:
  milena log -c milena.yaml
  milena log -c milena.yaml --last 5 --output json
`

// loggedDecision is a decision with what became of it.
type loggedDecision struct {
	control.Decision
	Outcomes []control.Outcome `json:"outcomes"`
}

// decisions is the command log.
func (p *program) decisions(ctx context.Context, args []string) error {
	c := &controlFlags{flags: p.flags("log", logHelp)}
	c.config = configFlag(c.flags)
	c.flags.StringVar(&c.flow, "flow", "", "`NAME` of the flow; needed if the config has several")
	last := c.flags.Int("last", 50, "the `NUMBER` of decisions to show, 0 for all")
	addOutput(c.flags, &c.output)
	c.flags.DurationVar(&c.timeout, "timeout", 30*time.Second, "time limit for the command, as a `DURATION` such as 1m")
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	state, err := c.openState(ctx, clusters)
	if err != nil {
		return err
	}
	history := state.History()
	if n := len(history); *last > 0 {
		history = history[max(0, n-*last):]
	}
	list := make([]loggedDecision, 0, len(history))
	for _, d := range history {
		list = append(list, loggedDecision{d, state.Outcomes(d.ID)})
	}
	if c.output != outputTable {
		return p.printAs(c.output, list)
	}
	p.printDecisions(list)
	if n, ignored := state.Ignored(); n > 0 {
		p.printf("%s of topic %s on cluster %s are not decisions and are ignored:\n", count(n, "record"), control.TopicName(clusters.Flow.Name), clusters.Flow.Target)
		for _, i := range ignored {
			p.printf("  %s\n", i)
		}
	}
	return nil
}

func (p *program) printDecisions(list []loggedDecision) {
	if len(list) == 0 {
		p.printf("nobody has decided anything\n")
		return
	}
	w := p.table()
	row(w, "WHEN\tWHO\tDECISION\tOUTCOME")
	for _, d := range list {
		row(w, "%s\t%s\t%s\t%s", d.When.Local().Format(time.DateTime), d.Who, describeDecision(&d.Decision), outcomesText(d.Outcomes))
	}
	_ = w.Flush()
}

// outcomesText is what the instances did, in one line.
func outcomesText(list []control.Outcome) string {
	if len(list) == 0 {
		return "no instance has acted on it yet"
	}
	texts := make([]string, 0, len(list))
	for _, o := range list {
		text := fmt.Sprintf("%s: %s", o.Instance, o.Detail)
		if o.Result != control.Done {
			text = fmt.Sprintf("%s: %s: %s", o.Instance, o.Result, o.Detail)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}
