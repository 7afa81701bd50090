package recovery

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

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
	return writeKept(ctx, *s.reverse, s.o.Who, kept)
}

func writeKept(ctx context.Context, c client.Clusters, who string, kept document) error {
	log, _, done, err := control.Open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	r := control.NewRecovery("freeze", who, holder())
	r.ID, r.State = keptFreeze, control.RecoveryDone
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
	texts := []string{fmt.Sprintf("producers of cluster %s may write again", c.Flow.Target)}
	for _, f := range slices.Backward(kept.freezes()) {
		notes, err := freeze.Thaw(ctx, target, f.Memory)
		if err != nil {
			return "", c.TargetError(err)
		}
		texts = append(texts, notes...)
	}
	kept.thawed()
	return strings.Join(texts, "; "), writeKept(ctx, c, who, kept)
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
	texts := []string{"producers of cluster " + c.Flow.Source + " may write again"}
	for _, f := range slices.Backward(r.doc.freezes()) {
		notes, err := freeze.Thaw(ctx, source, f.Memory)
		if err != nil {
			return "", c.SourceError(err)
		}
		texts = append(texts, notes...)
	}
	if err := r.change(ctx, func(d *document) { d.thawed() }); err != nil {
		return "", err
	}
	return strings.Join(texts, "; "), nil
}

// Thaw takes back the freeze that the last switchover of a flow left on its source, for whoever wants to go on there. One that has not ended is an error.
func Thaw(ctx context.Context, c client.Clusters) (string, error) {
	_, state, done, err := control.Open(ctx, c)
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
