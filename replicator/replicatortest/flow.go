package replicatortest

import (
	"cmp"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
)

// Flow is a replication flow that runs in the background of a test.
type Flow struct {
	*Running[replicator.Status]
	Config   config.Flow
	ClientID string // of its requests; no other flow has it
	Metrics  *prometheus.Registry

	// NoteEvent is that of the replicator's flow.
	NoteEvent func(what control.EventKind, why, detail string)

	source  *Cluster
	logged  *logged
	options replicator.Options
	prepare func(replicator.Options) (apply func(), err error)
}

func (c *Clusters) start(parsed *config.Config, source *Cluster) *Flow {
	c.t.Helper()
	return c.run(parsed, parsed.Flows[0], c.reverseOf(parsed.Flows[0]), source)
}

func (c *Clusters) run(parsed *config.Config, flow config.Flow, reverse []config.Flow, source *Cluster) *Flow {
	c.t.Helper()
	number := flows.Add(1)
	f := &Flow{
		Config: flow, ClientID: fmt.Sprintf("milena-%d", number), Metrics: prometheus.NewRegistry(), source: source, logged: &logged{also: c.t.Output()},
	}
	from, to := parsed.Clusters[f.Config.Source], parsed.Clusters[f.Config.Target]
	from.ClientID, to.ClientID = f.ClientID, f.ClientID
	f.options = replicator.Options{
		Clusters: client.Clusters{
			Flow: f.Config, Reverse: reverse, Source: from, Target: to,
			Log: slog.New(slog.NewTextHandler(f.logged, nil)),
		},
		Registerer: f.Metrics, Instance: cmp.Or(c.Instance, fmt.Sprintf("instance-%d", number)),
		Buffer: int64(parsed.Buffer), ShutdownTimeout: parsed.ShutdownTimeout, RebuildMap: c.RebuildMap, BootTime: c.BootTime, Pauses: c.Pauses,
	}
	made, err := replicator.New(f.options)
	if err != nil {
		c.t.Fatal(err)
	}
	f.prepare, f.NoteEvent = made.Prepare, made.NoteEvent
	f.Running = Run(c.t, made.Run, made.Status)
	return f
}

// Reconfigure changes the config of the flow while it runs. It returns the error if the flow refuses that.
func (f *Flow) Reconfigure(changes ...func(*config.Flow)) error {
	f.t.Helper()
	o := f.options
	o.Flow = f.Config
	for _, change := range changes {
		change(&o.Flow)
	}
	apply, err := f.prepare(o)
	if err == nil {
		apply()
		f.Config = o.Flow
	}
	return err
}

// Partitions are the partitions of a source topic in a status, in order.
func Partitions(s replicator.Status, topic string) []replicator.PartitionStatus {
	var found []replicator.PartitionStatus
	for _, p := range s.Partitions {
		if p.Topic == topic {
			found = append(found, p)
		}
	}
	return found
}

// UntilReady waits until the flow owns all its shards.
func (f *Flow) UntilReady() {
	f.t.Helper()
	f.Until("the flow is ready", func(s replicator.Status) bool { return s.Ready })
}

// UntilPartitions waits until the flow has n partitions of a source topic and ok accepts each of them.
func (f *Flow) UntilPartitions(what, topic string, n int, ok func(replicator.PartitionStatus) bool) {
	f.t.Helper()
	f.Until(what, func(s replicator.Status) bool {
		accepted, all := 0, Partitions(s, topic)
		for _, p := range all {
			if ok(p) {
				accepted++
			}
		}
		return accepted == n && len(all) == n
	})
}

// UntilCopied waits until everything that a source topic holds now is acknowledged by the target, and all its partitions are replicating.
func (f *Flow) UntilCopied(topic string) {
	f.t.Helper()
	ends := f.source.EndOffsets(topic)
	f.UntilPartitions(fmt.Sprintf("%s is copied up to %v", topic, ends), topic, len(ends), func(p replicator.PartitionStatus) bool {
		return p.Acked >= ends[p.Partition] && p.State == "replicating"
	})
}

// UntilJournaled waits until the journal has everything of a source topic up to its current end.
func (f *Flow) UntilJournaled(topic string) {
	f.t.Helper()
	ends := f.source.EndOffsets(topic)
	f.UntilPartitions(fmt.Sprintf("%s is journaled up to %v", topic, ends), topic, len(ends), func(p replicator.PartitionStatus) bool {
		return p.Journaled >= ends[p.Partition]
	})
}

// UntilAcked waits until the target has acknowledged the source topic up to offsets whose sum over its partitions is at least the given one.
func (f *Flow) UntilAcked(topic string, offsets int64) {
	f.t.Helper()
	f.Until(fmt.Sprintf("%d offsets of %s are acknowledged", offsets, topic), func(s replicator.Status) bool { return acked(s, topic) >= offsets })
}

// UntilProgress waits until the target has acknowledged that many more offsets of the source topic, all partitions together.
func (f *Flow) UntilProgress(topic string, offsets int64) {
	f.t.Helper()
	f.UntilAcked(topic, acked(f.Status(), topic)+offsets)
}

func acked(s replicator.Status, topic string) (sum int64) {
	for _, p := range Partitions(s, topic) {
		sum += p.Acked
	}
	return sum
}

// UntilGroupSyncs waits for n more syncs of the groups.
func (f *Flow) UntilGroupSyncs(n int) {
	f.t.Helper()
	for range n {
		last := f.Status().Groups.LastPass
		f.Until("another sync of the groups", func(s replicator.Status) bool { return s.Groups.LastPass.After(last) })
	}
}

// UntilTopicSyncs waits for n more syncs of the topics.
func (f *Flow) UntilTopicSyncs(n int) {
	f.t.Helper()
	syncs := func() float64 { return f.Metric("milena_passes_total", "pass", "topics", "result", "done") }
	last := syncs()
	f.Until("more syncs of the topics", func(replicator.Status) bool { return syncs() >= last+float64(n) })
}

// UntilHalted waits until a partition is halted and returns the anomaly.
func (f *Flow) UntilHalted(topic string, partition int32) *replicator.AnomalyState {
	f.t.Helper()
	var found *replicator.AnomalyState
	f.Until(fmt.Sprintf("%s-%d is halted", topic, partition), func(s replicator.Status) bool {
		for _, p := range Partitions(s, topic) {
			if p.Partition == partition && p.State == "halted" {
				found = p.Anomaly
			}
		}
		return found != nil
	})
	return found
}

// UntilHaltedBy is UntilHalted, and checks the kind of the anomaly, that it has a detail and a hint, and that it is counted.
func (f *Flow) UntilHaltedBy(kind, topic string, partition int32) *replicator.AnomalyState {
	f.t.Helper()
	a := f.UntilHalted(topic, partition)
	if a.Kind != kind {
		f.t.Fatalf("the anomaly is %q (%s), want %q", a.Kind, a.Detail, kind)
	}
	if a.Hint == "" || a.Detail == "" {
		f.t.Errorf("an anomaly without detail or hint: %+v", a)
	}
	if f.Metric("milena_anomalies_total", "topic", topic, "kind", kind, "action", "halt") == 0 {
		f.t.Errorf("milena_anomalies_total does not count %s", kind)
	}
	return a
}

// Metric is the sum of the counters and gauges of that name that have these labels, given as name and value in turn.
func (f *Flow) Metric(name string, labels ...string) float64 {
	f.t.Helper()
	families, err := f.Metrics.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	series:
		for _, m := range family.GetMetric() {
			have := make(map[string]string)
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if have[labels[i]] != labels[i+1] {
					continue series
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// flows counts the flows of all tests.
var flows atomic.Int64 //nolint:gochecknoglobals // an id that no other flow has
