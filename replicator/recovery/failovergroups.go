package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/groups"
)

// groupMove is how a failover puts the groups where they continue.
type groupMove struct {
	*failover
	translator *groups.Translator
	target     *kgo.Client
	placed     map[placedPosition]offsets.PlacedOffset // where the flow has put them

	mu               sync.Mutex
	moved, positions int
	refused, failed  []string
}

// moveGroups puts the groups where they continue. The last checkpoints say where they were on the source; the copy may be further than it was then. What one
// group suffers costs the others nothing.
func (f *failover) moveGroups(ctx context.Context) (string, error) {
	if why := notMoved(&f.clusters.Flow); why != "" {
		return why, nil
	}
	t, err := groups.OpenTranslator(ctx, f.clusters)
	if err != nil {
		return "", err
	}
	defer t.Close()
	checkpointed, err := checkpointedGroups(ctx, t, f.clusters.Flow)
	if err != nil {
		return "", err
	}
	target, err := f.clusters.OpenTarget()
	if err != nil {
		return "", err
	}
	defer target.Close()
	m := &groupMove{failover: f, translator: t, target: target, refused: []string{}}
	if m.placed, err = (&home{clusters: f.clusters, journals: target}).placed(ctx); err != nil {
		return "", fmt.Errorf("read where flow %s has put groups: %w", f.clusters.Flow.Name, f.clusters.TargetError(err))
	}
	names := slices.DeleteFunc(slices.Sorted(keys(checkpointed)), func(name string) bool { return slices.Contains(f.o.LeaveGroups, name) })
	return m.all(ctx, names, checkpointed)
}

// notMoved is why a failover of a flow moves no groups, empty if it does.
func notMoved(flow *config.Flow) string {
	switch {
	case !flow.GroupsSync:
		return "the flow does not sync groups (groups_sync: false), so none is moved"
	case flow.Provenance:
		return "the flow keeps provenance, so a group's offset has no single counterpart, and none is moved"
	case !flow.Checkpoints:
		return "the flow writes no checkpoints (checkpoints: false); groups are where the last sync put them"
	}
	return ""
}

// checkpointedGroups returns where the groups that the flow follows were on the source when their newest checkpoints were written.
func checkpointedGroups(ctx context.Context, t *groups.Translator, flow config.Flow) (map[string][]kadm.Offset, error) {
	rules, err := policy.NewGroups(flow)
	if err != nil {
		return nil, err
	}
	all, err := t.Checkpointed(ctx)
	for name := range all {
		if !rules.Selected(name) {
			delete(all, name)
		}
	}
	return all, err
}

// unknownGroups says which groups that are to be put elsewhere a failover would not put anywhere, empty if there is none.
func unknownGroups(ctx context.Context, c client.Clusters, where map[string]Where) (string, error) {
	if why := notMoved(&c.Flow); why != "" {
		return "nothing can be put elsewhere: " + why, nil
	}
	t, err := groups.OpenTranslator(ctx, c)
	if err != nil {
		return "", err
	}
	defer t.Close()
	known, err := checkpointedGroups(ctx, t, c.Flow)
	if err != nil {
		return "", err
	}
	var unknown []string
	for _, name := range slices.Sorted(keys(where)) {
		if _, ok := known[name]; !ok && name != allGroups {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return "", nil
	}
	text := fmt.Sprintf("no checkpoint has these groups of --group-positions: %s", firstOf(unknown))
	if len(known) > 0 {
		text += "; there are " + firstOf(slices.Sorted(keys(known)))
	}
	return text, nil
}

func (m *groupMove) all(ctx context.Context, names []string, checkpointed map[string][]kadm.Offset) (string, error) {
	var work errgroup.Group
	work.SetLimit(drillWorkers)
	for _, name := range names {
		m.waiting("group %s", name)
		translated, err := m.translator.Translate(ctx, name, checkpointed[name])
		if err != nil && len(translated) == 0 {
			m.fail(name, err)
			continue
		}
		work.Go(func() error { // also without the ends of the copies, which only say how many records are left
			if err := m.one(ctx, name, translated); err != nil {
				m.fail(name, err)
			}
			return nil
		})
	}
	_ = work.Wait() // what failed is listed
	slices.Sort(m.refused)
	slices.Sort(m.failed)
	text := fmt.Sprintf("%s with %s; %d had to be moved", counted(len(names), "group"), counted(m.positions, "position"), m.moved)
	if len(m.refused) > 0 {
		text += "; not moved: " + firstOf(m.refused)
	}
	err := m.change(context.WithoutCancel(ctx), func(d *document) { d.Report.Groups, d.Report.Positions = len(names), m.positions })
	if len(m.failed) > 0 {
		err = errors.Join(ctx.Err(), err)
		return "", fmt.Errorf("%s; these could not be moved yet: %s%s", text, firstOf(m.failed), suffix(err))
	}
	return text, err
}

func suffix(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func (m *groupMove) fail(name string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = append(m.failed, fmt.Sprintf("%s (%v)", name, m.clusters.TargetError(err)))
}

// one puts one group where it continues, or where somebody has said. By itself it moves only what the flow has put, or what is nowhere: any other position is of
// consumers on the target, which would skip records.
func (m *groupMove) one(ctx context.Context, name string, translated []offsets.GroupOffset) error {
	where := m.o.whereOf(name)
	var n int
	var not []groups.Refusal
	var err error
	if where.isTranslated() {
		n, not, err = m.translator.Follow(ctx, name, translated, func(tp offsets.TopicPartition, at int64) bool { return m.placed[placedPosition{name, tp}].Has(at) })
	} else {
		if translated, err = where.at(ctx, kadm.NewClient(m.target), translated); err != nil {
			return fmt.Errorf("find %s in its topics: %w", where, err)
		}
		n, not, err = m.translator.Put(ctx, name, translated)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range translated {
		if o.Err != nil {
			m.refused = append(m.refused, fmt.Sprintf("%s in %s-%d: %v", name, o.Topic, o.Partition, o.Err))
		}
	}
	for _, r := range not {
		m.refused = append(m.refused, fmt.Sprintf("%s: %s", r.Text, r.Detail))
	}
	m.moved, m.positions = m.moved+n, m.positions+len(translated)
	return err
}
