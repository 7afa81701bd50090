package groups

import (
	"context"
	"errors"
	"fmt"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// translate translates a position in a topic that the flow copies.
func (p *pass) translate(ctx context.Context, q *position) {
	c, ok := p.deps.Host.Copy(q.source)
	switch {
	case !ok && p.deps.Host.Elsewhere(q.source):
		p.translateElsewhere(ctx, q)
	case !ok:
		q.refuse(policy.RefusedNotCopied, fmt.Sprintf("%s is not copied yet", q.source))
	case !p.now.have(c, q):
		q.refuse(policy.RefusedRecreated, fmt.Sprintf("%s or %s was recreated: it is not the topic that the map describes", q.source, q.target))
	default:
		q.translated(p.forward(ctx, c, q))
		p.vouch(q)
	}
}

// have reports whether the topics of a position are the ones that the map of a copy describes.
func (v views) have(c Copy, p *position) bool {
	source, target := c.TopicIDs()
	return v.source.Has(p.source.Topic, source) && v.target.Has(p.target.Topic, target)
}

// forward translates with the map in memory, then with the journal if the offset is older, then with MirrorMaker 2's offset-syncs if it is
// from before the migration.
func (s *Syncer) forward(ctx context.Context, c Copy, p *position) (int64, error) {
	to, copied, err := c.Forward(p.sourceOffset)
	p.unfinished = !copied // it moves on with the copy
	var early *offsets.BeforeStartError
	if errors.As(err, &early) && early.Forgotten {
		var t offsets.Translation
		t, err = s.journal.Forward(ctx, p.source.Topic, p.source.Partition, p.sourceOffset)
		to = t.Target
	}
	if !errors.As(err, &early) || s.deps.Migration == nil {
		return to, err
	}
	migrated, ok := s.deps.Migration.Forward(ctx, p.source, p.sourceOffset)
	if !ok {
		return to, err
	}
	start, ok := c.MapStart()
	if !ok {
		return 0, ErrRecovering
	}
	return min(migrated, start), nil
}
