package replicatortest

import (
	"fmt"
	"log/slog"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
)

// PairConfig is that of a file with two flows that keep the names of topics: one from Source to Target, and its way back. Both are changed by the given
// functions. The test fails if the changed config is not valid.
func (c *Clusters) PairConfig(changes ...func(*config.Flow)) *config.Config {
	c.t.Helper()
	file := fmt.Appendf(nil, "clusters:\n  %[1]s: {brokers: [%[3]q]}\n  %[2]s: {brokers: [%[4]q]}\nflows: [{source: %[1]s, target: %[2]s, naming: identity}, {source: %[2]s, target: %[1]s, naming: identity, reverse_of: %[1]s-%[2]s}]\n",
		SourceAlias, TargetAlias, c.Source.ListenAddrs()[0], c.Target.ListenAddrs()[0])
	parsed, err := config.Parse("milena.yaml", file, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range parsed.Flows {
		for _, change := range changes {
			change(&parsed.Flows[i])
		}
	}
	if c.ShutdownTimeout > 0 {
		parsed.ShutdownTimeout = c.ShutdownTimeout
	}
	if err := parsed.Validate(); err != nil {
		c.t.Fatal(err)
	}
	return parsed
}

// StartForth runs the flow of a pair from Source to Target, named "a-b", until the end of the test.
func (c *Clusters) StartForth(changes ...func(*config.Flow)) *Flow {
	c.t.Helper()
	parsed := c.PairConfig(changes...)
	return c.run(parsed, parsed.Flows[0], parsed.Flows[1:], c.Source)
}

// StartBack runs the way back, named "b-a", until the end of the test.
func (c *Clusters) StartBack(changes ...func(*config.Flow)) *Flow {
	c.t.Helper()
	parsed := c.PairConfig(changes...)
	return c.run(parsed, parsed.Flows[1], parsed.Flows[:1], c.Target)
}

// PairAsCommand are the clusters of both flows of a pair, as commands see them.
func (c *Clusters) PairAsCommand(changes ...func(*config.Flow)) (forth, back client.Clusters) {
	c.t.Helper()
	parsed := c.PairConfig(changes...)
	of := func(f config.Flow) client.Clusters {
		return client.Clusters{Flow: f, Source: parsed.Clusters[f.Source], Target: parsed.Clusters[f.Target], Reverse: parsed.ReverseOf(f), Log: slog.New(slog.DiscardHandler)}
	}
	return of(parsed.Flows[0]), of(parsed.Flows[1])
}
