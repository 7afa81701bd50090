package replicatortest

import (
	"fmt"
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// The aliases of the clusters in a flow's config.
const (
	SourceAlias = "a"
	TargetAlias = "b"
)

// Clusters are a source and a target cluster in this process.
type Clusters struct {
	Source, Target *Cluster
	// ShutdownTimeout, RebuildMap, BootTime and Pauses are for the flows that are started from here on; 0 is the config's default.
	Buffer          config.Bytes
	ShutdownTimeout time.Duration
	RebuildMap      bool
	// GroupsBack is groups_back of all flows that are started from here on.
	GroupsBack []string
	BootTime   func() time.Duration // that of the host, if nil
	Pauses     replicator.Pauses    // the usual ones, if zero

	// Instance is the instance id of all flows that are started from here on. If empty, each has one of its own.
	Instance string

	t testing.TB
}

// NewClusters starts two clusters with the given number of brokers each. They are closed at the end of the test.
func NewClusters(t testing.TB, brokers int) *Clusters {
	t.Helper()
	return &Clusters{t: t, Source: NewCluster(t, "source-cluster", brokers), Target: NewCluster(t, "target-cluster", brokers)}
}

// Config is that of a file that names both clusters and a flow from source to target, and nothing else, then changed by the given functions. The
// test fails if the changed config is not valid.
func (c *Clusters) Config(changes ...func(*config.Flow)) *config.Config {
	c.t.Helper()
	return c.config(SourceAlias, TargetAlias, changes)
}

func (c *Clusters) config(from, to string, changes []func(*config.Flow)) *config.Config {
	c.t.Helper()
	file := fmt.Appendf(nil, "clusters:\n  %s: {brokers: [%q]}\n  %s: {brokers: [%q]}\nflows: [{source: %s, target: %s}]\n",
		SourceAlias, c.Source.ListenAddrs()[0], TargetAlias, c.Target.ListenAddrs()[0], from, to)
	parsed, err := config.Parse("milena.yaml", file, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	parsed.Flows[0].GroupsBack = append(parsed.Flows[0].GroupsBack, c.GroupsBack...)
	for _, change := range changes {
		change(&parsed.Flows[0])
	}
	if c.Buffer > 0 {
		parsed.Buffer = c.Buffer
	}
	if c.ShutdownTimeout > 0 {
		parsed.ShutdownTimeout = c.ShutdownTimeout
	}
	if err := parsed.Validate(); err != nil {
		c.t.Fatal(err)
	}
	return parsed
}

// reverseOf returns the flow in the other direction, as if one file had both.
func (c *Clusters) reverseOf(f config.Flow) []config.Flow {
	c.t.Helper()
	return c.config(f.Target, f.Source, nil).Flows
}

// Start runs a flow from Source to Target, named "a-b", until the end of the test.
func (c *Clusters) Start(changes ...func(*config.Flow)) *Flow {
	c.t.Helper()
	return c.start(c.config(SourceAlias, TargetAlias, changes), c.Source)
}

// StartReverse runs a flow from Target to Source, named "b-a", until the end of the test.
func (c *Clusters) StartReverse(changes ...func(*config.Flow)) *Flow {
	c.t.Helper()
	return c.start(c.config(TargetAlias, SourceAlias, changes), c.Target)
}

// Verify checks that, in each of the first partitions, the copy has the committed records of the topic, in order, none missing and none
// duplicated. Offsets may differ.
func (c *Clusters) Verify(topic, copied string, partitions int32) {
	c.t.Helper()
	want, got := c.Source.Texts(topic, partitions), c.Target.Texts(copied, partitions)
	for part := range partitions {
		w, g := want[part], got[part]
		if len(w) != len(g) {
			c.t.Errorf("%s-%d has %d records, its copy has %d", topic, part, len(w), len(g))
		}
		for i := range min(len(w), len(g)) {
			if w[i] != g[i] {
				c.t.Fatalf("%s-%d record %d: want %s, got %s", topic, part, i, w[i], g[i])
			}
		}
	}
}

// VerifyNewTopic checks that the flow still copies: it creates a topic on the source, waits for its copy and verifies it.
func (c *Clusters) VerifyNewTopic(f *Flow, topic string) {
	c.t.Helper()
	c.Source.CreateTopic(topic, 1)
	c.Source.Produce(topic, 1, 5, "still")
	f.UntilCopied(topic)
	c.Verify(topic, SourceAlias+"."+topic, 1)
}

// TargetOffset is the offset in the copy of the record at a source offset, found by reading both logs. It may be higher than the source offset
// because transaction markers occupy offsets. For a source offset that has no record it is the end of the copy.
func (c *Clusters) TargetOffset(topic string, partition int32, source int64) int64 {
	c.t.Helper()
	from, to := c.Source.Records(topic, partition+1)[partition], c.Target.Records(SourceAlias+"."+topic, partition+1)[partition]
	for i, r := range from {
		if r.Offset == source {
			return to[i].Offset
		}
	}
	return to[len(to)-1].Offset + 1
}
