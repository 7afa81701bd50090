package diverged

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
)

// findBack finds the producers of the flow in the other direction, if it is the other half of a pair: what they have written to the source came from the target.
func (l *listing) findBack(ctx context.Context) error {
	other := config.PairOf(l.clusters.Flow, l.clusters.Reverse)
	if other == nil {
		return nil
	}
	producers := make(map[int64]bool)
	errs, err := offsets.VisitJournal(ctx, l.source.client, offsets.JournalTopic(other.Name), l.clusters.Log, offsets.JournalVisitor{
		Start: func(int32) {},
		Visit: func(_ int32, e offsets.Entry, _ time.Time) {
			if s, ok := e.(*offsets.ShardState); ok {
				l.pairMu.Lock()
				defer l.pairMu.Unlock()
				for _, id := range s.ProducerIDs {
					producers[id] = true
				}
			}
		},
	})
	var none *offsets.NoJournalError
	if errors.As(err, &none) {
		return nil // it has never copied
	}
	if err = errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("the journal of flow %s cannot be read: %w", other.Name, l.source.explain(err))
	}
	l.source.copied = producers
	return nil
}
