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
