package recovery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/freeze"
)

// keptFreeze is the id of the record, in the control topic of the flow back, of the freeze that a switchover left on its source. That topic is on the very
// cluster that is frozen, so that a failover to it finds the freeze when the cluster with the record of the switchover is gone.
const keptFreeze = "frozen"

// keepFreeze writes the freezes of the source to the control topic of the flow back.
func (s *switchover) keepFreeze(ctx context.Context) error {
	if s.reverse == nil {
		return nil
	}
	s.mu.Lock()
	kept := document{Frozen: s.doc.Frozen, Earlier: s.doc.Earlier}
	s.mu.Unlock()
	return writeKept(ctx, *s.reverse, s.o.Who, s.clusters.Flow.Name, kept)
}

// writeKept writes the freezes that switchovers of a flow left to the control topic of the flow back, whose clusters are c.
func writeKept(ctx context.Context, c client.Clusters, who, flow string, kept document) error {
	log, _, done, err := control.Open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	r := control.NewRecovery(control.Freeze, who, holder())
	r.ID, r.State, r.Frozen = keptFreeze, control.RecoveryDone, kept.frozenBy(c.Flow.Target, flow)
	if r.Document, err = json.Marshal(kept); err != nil {
		return err
	}
	if err := log.WriteCreating(ctx, c, []control.Entry{r.Kept()}); err != nil {
		return c.TargetError(err)
	}
	return nil
}

// thawKept takes back the freeze of the target of a flow that is kept in its control topic. It returns an empty text if there is none.
func thawKept(ctx context.Context, c client.Clusters, who string, target *kgo.Client) (string, error) {
	_, state, done, err := control.Open(ctx, c)
	if err != nil {
		return "", err
	}
	done()
	all := state.Recoveries()
	i := slices.IndexFunc(all, func(r control.Recovery) bool { return r.ID == keptFreeze })
	if i < 0 {
		return "", nil
	}
	kept, err := decodeDocument(&all[i])
	if err != nil || len(kept.freezes()) == 0 {
		return "", err
	}
	text, err := takeBack(ctx, c.Flow.Target, target, kept.freezes()...)
	if err != nil {
		return "", c.TargetError(err)
	}
	kept.thawed()
	return text, writeKept(ctx, c, who, "", kept)
}

// takeBack takes back freezes of a cluster, the newest first, and says what that means for its producers.
func takeBack(ctx context.Context, alias string, cl *kgo.Client, list ...frozen) (string, error) {
	texts, muted := []string{"producers of cluster " + alias + " may write again"}, ""
	for _, f := range slices.Backward(list) {
		notes, err := freeze.Thaw(ctx, cl, f.Memory)
		if err != nil {
			return "", err
		}
		texts, muted = append(texts, notes...), cmp.Or(muted, f.Memory.Muted())
	}
	if muted != "" {
		texts = append(texts, muted)
	}
	return strings.Join(texts, "; "), nil
}

// thawSource takes back the freeze that the last switchover of a flow left on its source. It returns an empty text if there is none.
func thawSource(ctx context.Context, c client.Clusters, source *kgo.Client) (string, error) {
	log, state, done, err := control.Open(ctx, c)
	if err != nil {
		return "", err
	}
	defer done()
	last := state.Recovery()
	if last == nil || last.IsOpen() {
		return "", nil
	}
	r := &run{clusters: c, log: log, state: state, record: *last, after: *last}
	if r.doc, err = decodeDocument(last); err != nil || len(r.doc.freezes()) == 0 {
		return "", err
	}
	r.record.Holder = holder()
	text, err := takeBack(ctx, c.Flow.Source, source, r.doc.freezes()...)
	if err != nil {
		return "", c.SourceError(err)
	}
	if err := r.change(ctx, func(d *document) { d.thawed() }); err != nil {
		return "", err
	}
	return text, nil
}

// targetWait is how long the target may take to answer before a thaw looks for the freeze on the source.
const targetWait = 20 * time.Second

// Thaw takes back the freeze that the last switchover of a flow left on its source, for whoever wants to go on there. One that has not ended is an error. If
// the target does not answer, nobody knows how far it is, and it can neither go on nor be undone: then the freeze that the source itself keeps for the flow
// back counts, if there is such a flow.
func Thaw(ctx context.Context, c client.Clusters, reverse *client.Clusters, who string) (string, error) {
	asked, cancel := ctx, context.CancelFunc(func() {})
	if reverse != nil {
		asked, cancel = context.WithTimeout(ctx, targetWait)
	}
	defer cancel()
	_, state, done, err := control.Open(asked, c)
	if err != nil && reverse != nil && !isAnswer(err) && ctx.Err() == nil {
		return thawWithoutTarget(ctx, c, *reverse, who, err)
	}
	if err != nil {
		return "", err
	}
	done()
	if r := state.Recovery(); r != nil && r.IsOpen() {
		return "", fmt.Errorf("a %s of flow %s that %s began has not ended, and may have frozen the producers of cluster %s; repeat milena %s, which goes on, or undoes that", r.What, c.Flow.Name, r.Who, c.Flow.Source, r.What)
	}
	source, err := c.OpenSource()
	if err != nil {
		return "", err
	}
	defer source.Close()
	return thawSource(ctx, c, source)
}

// thawWithoutTarget takes back the freeze of the source that the source keeps.
func thawWithoutTarget(ctx context.Context, c, reverse client.Clusters, who string, why error) (string, error) {
	source, err := c.OpenSource()
	if err != nil {
		return "", err
	}
	defer source.Close()
	text, err := thawKept(ctx, reverse, who, source)
	if err != nil || text == "" {
		return text, errors.Join(why, err)
	}
	return fmt.Sprintf("%s; cluster %s does not answer: a switchover that has not ended is undone by its command once it does", text, c.Flow.Target), nil
}
