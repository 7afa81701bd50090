package recovery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/plan"
)

// preflight finds out whether a switchover would succeed. It changes nothing.
type preflight struct {
	clusters       client.Clusters
	reverse        *client.Clusters
	o              Options
	source, target *kgo.Client

	rows []Row
}

func (p *preflight) ok(name, format string, args ...any) { p.add(name, OK, format, args...) }

func (p *preflight) refuse(name, format string, args ...any) { p.add(name, Refuse, format, args...) }

func (p *preflight) add(name string, result Result, format string, args ...any) {
	p.rows = append(p.rows, Row{name, result, fmt.Sprintf(format, args...)})
}

// check makes all checks: those that follow depend on the first ones.
func (p *preflight) check(ctx context.Context) []Row {
	now, err := look(ctx, p.clusters, p.source)
	if err != nil {
		p.refuse("clusters", "%v; if the source is gone, use milena failover", err)
		return p.rows
	}
	p.ok("clusters", "%s and %s answer", p.clusters.Flow.Source, p.clusters.Flow.Target)
	p.checkFlow(now)
	p.checkLag(now)
	p.checkGroups(ctx)
	p.checkReverse(ctx)
	p.checkFreeze(ctx)
	p.checkClusters(ctx)
	return p.rows
}

// checkFlow finds out whether the flow runs and whether all of it is copied.
func (p *preflight) checkFlow(d *drained) {
	r := &d.fleet
	var halted, waiting, paused []string
	for i := range r.Partitions {
		of := &r.Partitions[i]
		name := fmt.Sprintf("%s-%d", of.Topic, of.Partition)
		switch {
		case of.Topic == offsets.HeartbeatsTopic: // milena's own, which may just have been created
		case of.Halted != nil:
			halted = append(halted, fmt.Sprintf("%s (%s)", name, of.Halted.Kind))
		case of.Paused != "":
			paused = append(paused, name)
		case !of.Listed || of.LagRecords == nil:
			waiting = append(waiting, fmt.Sprintf("%s (%s)", name, of.Why))
		}
	}
	for _, topic := range slices.Sorted(keys(r.NotCopied)) {
		if topic == offsets.HeartbeatsTopic {
			continue
		}
		waiting = append(waiting, fmt.Sprintf("%s (%s)", topic, r.NotCopied[topic]))
	}
	switch stopped := stoppedBy(r); {
	case stopped != nil && stopped.What == control.FailOver:
		p.refuse("flow", "it has failed over %s; milena failback brings clients home", stopped.Since())
		return
	case stopped != nil:
		p.refuse("flow", "it is stopped %s; milena start lets it go on", stopped.Since())
		return
	case r.Mode == fleet.ModeStopped:
		p.refuse("flow", "no instance runs; start one with milena run")
	case len(r.Problems) > 0:
		p.refuse("flow", "%s", r.Problems[0])
	case len(r.ShardsWithoutOwner) > 0:
		p.refuse("flow", "%s have no owner; look at milena status", counted(len(r.ShardsWithoutOwner), "shard"))
	default:
		p.ok("flow", "%s, %s", counted(len(r.Instances), "instance"), counted(len(r.Partitions), "partition"))
	}
	if len(halted) > 0 {
		p.refuse("halted", "%s; milena status says how each is repaired", firstOf(halted))
	}
	if len(paused) > 0 {
		p.refuse("paused", "%s; milena resume --all lets them go on", firstOf(paused))
	}
	if len(waiting) > 0 {
		p.refuse("not copied", "%s", firstOf(waiting))
	}
	if len(halted)+len(paused)+len(waiting) == 0 {
		p.ok("partitions", "none is halted, paused or waiting")
	}
}

// stoppedBy is the decision that stopped a flow, nil if none did.
func stoppedBy(r *fleet.Report) *control.Decision {
	for _, d := range r.InForce {
		if d.What == control.StopFlow || d.What == control.FailOver {
			return d
		}
	}
	return nil
}

func (p *preflight) checkLag(d *drained) {
	switch lag, unknown := d.lag(); {
	case unknown > 0:
		p.refuse("lag", "it is not known of %s", counted(unknown, "partition"))
	case lag > p.o.MaxLag:
		p.refuse("lag", "%d records are not copied, more than %d; wait until milena status shows less, or raise --max-lag", lag, p.o.MaxLag)
	default:
		p.ok("lag", "%d records", lag)
	}
	if strings.Contains(d.problem, "open transactions") {
		p.add("transactions", Note, "%s; the switchover waits until they end", d.problem)
	}
}

// checkGroups finds out whether the groups can be moved.
func (p *preflight) checkGroups(ctx context.Context) {
	all, err := newPositions(p.clusters, p.reverse, p.source, p.target, p.o.LeaveGroups)
	switch {
	case err != nil:
		p.refuse("groups", "%v", err)
		return
	case p.clusters.Flow.Provenance:
		p.refuse("groups", "flow %s keeps provenance, so a group's offset has no single counterpart on the target, and nobody can say where a group continues", p.clusters.Flow.Name)
		return
	case !all.follows():
		p.add("groups", Note, "the flow does not sync groups (groups_sync: false), so none is moved")
		return
	}
	list, err := all.read(ctx)
	if err != nil {
		p.refuse("groups", "%v", err)
		return
	}
	var active, there []string
	listed, err := all.target.ListGroups(ctx)
	if err != nil {
		p.refuse("groups", "list groups of cluster %s: %v", p.clusters.Flow.Target, err)
		return
	}
	for _, g := range list {
		if g.active {
			active = append(active, g.name)
		}
		if on, ok := listed[g.name]; ok && (!policy.Translatable(on.ProtocolType) || on.State != "Empty" && on.State != "Dead" && on.State != "") {
			there = append(there, g.name)
		}
	}
	if len(there) > 0 {
		p.refuse("groups", "these have members on cluster %s, or are of another kind there, and are not moved: %s; stop them, or leave them out with --leave-groups", p.clusters.Flow.Target, firstOf(there))
		return
	}
	switch wrong, err := all.strays(ctx, list, p.target); {
	case err != nil:
		p.refuse("groups", "%v", err)
		return
	case wrong.err() != nil:
		p.refuse("groups", "%v", wrong.err())
		return
	}
	text := counted(len(list), "group")
	if len(active) > 0 {
		text += fmt.Sprintf("; the switchover waits until these have read everything on cluster %s, or are stopped: %s", p.clusters.Flow.Source, firstOf(active))
	}
	p.ok("groups", "%s", text)
}

// checkReverse finds out whether there is a way back.
func (p *preflight) checkReverse(ctx context.Context) {
	if p.reverse == nil {
		if p.o.NoReverse {
			p.add("reverse", Note, "nothing copies back from %s", p.clusters.Flow.Target)
			return
		}
		p.refuse("reverse", "no flow of this file copies from %s to %s, so there would be no way back without a new copy; add one, or say --no-reverse", p.clusters.Flow.Target, p.clusters.Flow.Source)
		return
	}
	name := p.reverse.Flow.Name
	r, err := fleet.Read(ctx, *p.reverse)
	switch {
	case err != nil:
		p.refuse("reverse", "%v", err)
	case r.Mode == fleet.ModeStopped:
		p.refuse("reverse", "no instance of flow %s runs; start one with milena run", name)
	case len(r.Problems) > 0:
		p.refuse("reverse", "flow %s: %s", name, r.Problems[0])
	case len(r.ShardsWithoutOwner) > 0:
		p.refuse("reverse", "%s of flow %s have no owner; look at milena status --flow %s", counted(len(r.ShardsWithoutOwner), "shard"), name, name)
	case stoppedBy(&r) != nil:
		p.ok("reverse", "flow %s is stopped, and will be started", name)
	default:
		p.ok("reverse", "flow %s runs", name)
	}
}

// checkFreeze finds out whether the producers can be stopped.
func (p *preflight) checkFreeze(ctx context.Context) {
	if p.o.Freeze == freeze.None {
		p.add("freeze", Note, "left to you; the switchover proves that nothing is written")
		return
	}
	made, err := freezePlan(ctx, p.clusters, p.source, p.o.Freeze)
	if err != nil {
		p.refuse("freeze", "%v", err)
		return
	}
	p.rows = append(p.rows, freezeRows(made)...)
}

func freezeRows(made *freeze.Plan) (rows []Row) {
	for _, row := range made.Rows {
		result := OK
		if !row.OK {
			result = Refuse
		}
		rows = append(rows, Row{"freeze: " + row.Name, result, row.Detail})
	}
	for _, note := range made.Notes {
		rows = append(rows, Row{"freeze", Note, note})
	}
	return rows
}

// freezePlan plans the freeze of the topics that the flow copies.
func freezePlan(ctx context.Context, c client.Clusters, source *kgo.Client, how freeze.Method) (*freeze.Plan, error) {
	r, err := fleet.Read(ctx, c)
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for i := range r.Partitions {
		names[r.Partitions[i].Topic] = true
	}
	for topic := range r.NotCopied {
		names[topic] = true
	}
	delete(names, offsets.HeartbeatsTopic) // milena's own
	made, err := freeze.NewPlan(ctx, source, freeze.Options{
		Cluster: c.Flow.Source, Method: how, Topics: slices.Sorted(keys(names)), Principals: principals(c.Source), ClientIDs: []string{cmp.Or(c.Source.ClientID, "milena")},
	})
	if err != nil {
		return nil, c.SourceError(err)
	}
	return made, nil
}

// principals is the name of milena's user on a cluster as Kafka writes it, as far as the config tells.
func principals(c config.Cluster) []string {
	switch {
	case c.SASL != nil && c.SASL.Username != "":
		return []string{"User:" + c.SASL.Username}
	case c.SASL == nil && (c.TLS == nil || c.TLS.CertFile == ""):
		return []string{"User:ANONYMOUS"}
	}
	return nil
}

// checkClusters is what milena doctor finds: the clocks, replicas in sync, retention, and rights.
func (p *preflight) checkClusters(ctx context.Context) {
	d, err := plan.Doctor(ctx, p.clusters)
	if err != nil {
		p.refuse("doctor", "%v", err)
		return
	}
	found := false
	for _, f := range d.Findings {
		text := fmt.Sprintf("cluster %s: %s", f.Cluster, f.Meaning)
		if f.Topic != "" {
			text = fmt.Sprintf("cluster %s, topic %s: %s", f.Cluster, f.Topic, f.Meaning)
		}
		switch {
		case f.Severity == plan.SeverityError, f.ID == plan.BelowMinISR, f.ID == plan.Offline:
			p.refuse(string(f.ID), "%s %s", text, f.Mend)
			found = true
		case f.Severity == plan.SeverityWarning && slices.Contains([]plan.FindingID{plan.ClockSkew, plan.UnderReplicated, plan.ShorterRetention, plan.FewerReplicas}, f.ID):
			p.add(string(f.ID), Note, "%s", text)
		}
	}
	if !found {
		p.ok("doctor", "no error on either cluster")
	}
}
