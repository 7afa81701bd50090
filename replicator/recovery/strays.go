package recovery

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/replicator/groups"
)

// strays are groups that the flow will not move back to their home, which is the target: they have consumed on the source, and have also committed at home
// since the flow back put them on the source. Most of them were at work when their home went dark. The flow would only say so once producers are stopped.
func (p *positions) strays(ctx context.Context, list []group, target *kgo.Client) (*misplaced, error) {
	wrong := &misplaced{}
	var names []string
	for _, g := range list {
		if len(g.handed) > 0 && p.rules.Back(g.name) {
			names = append(names, g.name)
		}
	}
	if len(names) == 0 {
		return wrong, nil
	}
	there, err := p.home.placed(ctx)
	if err != nil {
		return nil, fmt.Errorf("read where flow %s has put groups: %w", p.home.clusters.Flow.Name, err)
	}
	here, err := (&home{clusters: p.clusters, journals: target}).placed(ctx)
	if err != nil {
		return nil, fmt.Errorf("read where flow %s has put groups: %w", p.clusters.Flow.Name, err)
	}
	t, err := groups.OpenTranslator(ctx, p.home.clusters)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	put := p.target.FetchManyOffsets(ctx, names...)
	for _, g := range list {
		for _, tp := range sortedPartitions(g.handed) {
			line, ok := there[placedPosition{g.name, tp}]
			topic, _ := p.home.of(tp.Topic)
			now, has := put[g.name].Fetched.Lookup(topic, tp.Partition)
			if !ok || line.Has(g.handed[tp]) || !has || now.At < 0 || now.At == line.Source {
				continue
			}
			atHome := placedPosition{g.name, tp}
			atHome.tp.Topic = topic
			if own, ok := here[atHome]; ok && own.Has(now.At) || p.home.compare(ctx, t, tp, g.handed[tp], now.At) == "" {
				continue
			}
			wrong.add(g.name, adopt(p.clusters, g.name), "has consumed on cluster %s, and has committed on %s too, where it is at %d of %s-%d and was at %d when flow %s last put it on %s",
				p.clusters.Flow.Source, p.clusters.Flow.Target, now.At, topic, tp.Partition, line.Source, p.home.clusters.Flow.Name, p.clusters.Flow.Source)
		}
	}
	return wrong, nil
}
