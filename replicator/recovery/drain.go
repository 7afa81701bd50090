package recovery

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/fleet"
)

// drained is how far a flow is with what its source has.
type drained struct {
	at   time.Time // when the ends were asked for
	ends map[offsets.TopicPartition]int64
	// problem is why not all is copied, empty if it is.
	problem string
	fleet   fleet.Report
}

// looker finds out how far a flow is, again and again. Each time the journal is read once.
type looker struct {
	clusters client.Clusters
	source   *kgo.Client
	read     func(context.Context, client.Clusters) (fleet.Report, error)
	topics   []string // that the last report has, nil if there was none
}

func newLooker(c client.Clusters, source *kgo.Client) *looker {
	return &looker{clusters: c, source: source, read: fleet.Read}
}

// look looks once.
func look(ctx context.Context, c client.Clusters, source *kgo.Client) (*drained, error) {
	return newLooker(c, source).look(ctx)
}

// look reads the ends of the source, and then how far the copies are. The ends are high watermarks: what an open transaction hides is not copied yet. Which
// topics there are it knows from its last look: of one that has come since, the end is not known, so not all is copied, and one that is gone is an error.
func (l *looker) look(ctx context.Context) (d *drained, err error) {
	defer func() {
		if l.topics = nil; err == nil {
			l.topics = topicsOf(&d.fleet)
		}
	}()
	if l.topics == nil {
		first, err := l.read(ctx, l.clusters)
		if err != nil {
			return nil, err
		}
		if l.topics = topicsOf(&first); len(l.topics) == 0 {
			d = &drained{at: time.Now(), ends: make(map[offsets.TopicPartition]int64), fleet: first}
			d.problem = d.find(nil)
			return d, nil
		}
	}
	d = &drained{at: time.Now(), ends: make(map[offsets.TopicPartition]int64)}
	admin := kadm.NewClient(l.source)
	high, err := admin.ListEndOffsets(ctx, l.topics...)
	if err == nil {
		err = high.Error()
	}
	if err != nil {
		return nil, l.clusters.SourceError(err)
	}
	stable, err := admin.ListCommittedOffsets(ctx, l.topics...)
	if err == nil {
		err = stable.Error()
	}
	if err != nil {
		return nil, l.clusters.SourceError(err)
	}
	if d.fleet, err = l.read(ctx, l.clusters); err != nil {
		return nil, err
	}
	high.Each(func(o kadm.ListedOffset) {
		d.ends[offsets.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o.Offset
	})
	d.problem = d.find(stable)
	return d, nil
}

// topicsOf are the topics of a report, but for milena's own; nil if there are none.
func topicsOf(r *fleet.Report) []string {
	topics := make(map[string]bool)
	for i := range r.Partitions {
		topics[r.Partitions[i].Topic] = true
	}
	delete(topics, offsets.HeartbeatsTopic)
	return slices.Sorted(maps.Keys(topics))
}

// lag is how many records are not copied, and of how many partitions that is not known. Heartbeats are left out.
func (d *drained) lag() (records int64, unknown int) {
	for i := range d.fleet.Partitions {
		switch p := &d.fleet.Partitions[i]; {
		case p.Topic == offsets.HeartbeatsTopic:
		case p.LagRecords == nil:
			unknown++
		default:
			records += *p.LagRecords
		}
	}
	return records, unknown
}

// find returns why not all is copied.
func (d *drained) find(stable kadm.ListedOffsets) string {
	if len(d.fleet.Problems) > 0 {
		return d.fleet.Problems[0]
	}
	if topics := slices.Sorted(maps.Keys(d.fleet.NotCopied)); len(topics) > 0 { // one may have come since the checks
		return fmt.Sprintf("topic %s is not copied: %s", topics[0], d.fleet.NotCopied[topics[0]])
	}
	left, behind, open := int64(0), 0, 0
	example, openExample, problem := "", "", ""
	for i := range d.fleet.Partitions {
		p := &d.fleet.Partitions[i]
		name := fmt.Sprintf("%s-%d", p.Topic, p.Partition)
		end, known := d.ends[offsets.TopicPartition{Topic: p.Topic, Partition: p.Partition}]
		at, _ := stable.Lookup(p.Topic, p.Partition)
		switch {
		case p.Topic == offsets.HeartbeatsTopic:
		case p.Halted != nil:
			problem = fmt.Sprintf("%s is halted: %s: %s", name, p.Halted.Kind, p.Halted.Detail)
		case !known:
			problem = fmt.Sprintf("the end of %s is not known", name)
		case !p.Listed || p.Journaled == nil:
			problem = fmt.Sprintf("%s: %s", name, p.Why)
		case p.LagRecords == nil:
			problem = fmt.Sprintf("%s: %s", name, p.Why)
		case at.Offset < end:
			open, openExample = open+1, name
		case *p.Journaled < end:
			left, behind, example = left+end-*p.Journaled, behind+1, name
		}
	}
	switch {
	case problem != "":
		return problem
	case open > 0:
		return fmt.Sprintf("%s have open transactions, such as %s", counted(open, "partition"), openExample)
	case behind > 0:
		return fmt.Sprintf("%d records of %s are not copied, such as of %s", left, counted(behind, "partition"), example)
	}
	return ""
}

// movedTo says which ends are not what they were, empty if all are.
func (d *drained) movedTo(later *drained) string {
	for _, tp := range slices.SortedFunc(maps.Keys(later.ends), comparePartitions) {
		if before, ok := d.ends[tp]; !ok || later.ends[tp] != before {
			return fmt.Sprintf("the end of %s moved from %d to %d", tp, before, later.ends[tp])
		}
	}
	for _, tp := range slices.SortedFunc(maps.Keys(d.ends), comparePartitions) {
		if _, ok := later.ends[tp]; !ok {
			return fmt.Sprintf("%s is not a partition of the flow any more", tp)
		}
	}
	return ""
}

// hash is equal for the same ends.
func (d *drained) hash() string {
	h := fnv.New128a()
	for _, tp := range slices.SortedFunc(maps.Keys(d.ends), comparePartitions) {
		_, _ = fmt.Fprintf(h, "%s %d\n", tp, d.ends[tp])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func comparePartitions(a, b offsets.TopicPartition) int {
	return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// lastProblem is what was last in the way.
func lastProblem(d *drained) string {
	switch {
	case d == nil:
		return "the clusters have not said how far the copies are"
	case d.problem == "":
		return "all was copied, and it was not yet proven that producers are stopped"
	}
	return d.problem
}

// keys are those of a map.
func keys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }
