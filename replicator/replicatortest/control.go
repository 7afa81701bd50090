package replicatortest

import (
	"log/slog"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
)

// AsCommand are the clusters of the flow from Source to Target, as a command sees them.
func (c *Clusters) AsCommand(changes ...func(*config.Flow)) client.Clusters {
	c.t.Helper()
	return c.asCommand(c.Config(changes...))
}

// ReverseAsCommand are those of the flow from Target to Source.
func (c *Clusters) ReverseAsCommand(changes ...func(*config.Flow)) client.Clusters {
	c.t.Helper()
	return c.asCommand(c.config(TargetAlias, SourceAlias, changes))
}

func (c *Clusters) asCommand(parsed *config.Config) client.Clusters {
	f := parsed.Flows[0]
	return client.Clusters{Flow: f, Source: parsed.Clusters[f.Source], Target: parsed.Clusters[f.Target], Reverse: c.reverseOf(f), Log: slog.New(slog.DiscardHandler)}
}

// Submit writes decisions about the flow from Source to Target, as a command does, and waits until every running instance with shards has answered. The test
// fails if none does.
func (c *Clusters) Submit(decisions ...control.Decision) control.Submission {
	c.t.Helper()
	s, err := control.Submit(c.t.Context(), c.AsCommand(), Patience, decisions...)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(s.Missing) > 0 || len(s.Outcomes) == 0 {
		c.t.Fatalf("not answered: %+v", s)
	}
	return s
}

// SubmitWithin is Submit for decisions that nobody need answer, within a time.
func (c *Clusters) SubmitWithin(wait time.Duration, decisions ...control.Decision) control.Submission {
	c.t.Helper()
	s, err := control.Submit(c.t.Context(), c.AsCommand(), wait, decisions...)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// ControlState is what the control topic of the flow from Source to Target says.
func (c *Clusters) ControlState() *control.State {
	c.t.Helper()
	_, state, done, err := control.Open(c.t.Context(), c.AsCommand())
	if err != nil {
		c.t.Fatal(err)
	}
	done()
	return state
}

// Decide submits one decision, and fails the test unless all outcomes have the result.
func (c *Clusters) Decide(result control.Result, what control.Verb, scope control.Scope, change ...func(*control.Decision)) control.Submission {
	c.t.Helper()
	d := NewDecision(what, scope, change...)
	s := c.Submit(d)
	for _, o := range s.Outcomes {
		if o.Result != result {
			c.t.Fatalf("%s of %s: %s by %s, want %s: %s", what, scope, o.Result, o.Instance, result, o.Detail)
		}
	}
	return s
}

// NewDecision is a decision of alice.
func NewDecision(what control.Verb, scope control.Scope, change ...func(*control.Decision)) control.Decision {
	d := control.New(what, scope, "alice", "a test")
	for _, change := range change {
		change(&d)
	}
	return d
}

// TP is a partition of the source.
func TP(topic string, partition int32) control.Scope {
	return control.OfPartition(offsets.TopicPartition{Topic: topic, Partition: partition})
}
