package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/groups"
)

// home is the way back of groups that read, on the source, copies of the target's topics: the flow that made those copies.
type home struct {
	clusters client.Clusters
	topics   *policy.Topics
	journals *kgo.Client // of the source, which has the journal of that flow
}

// newHome returns nil if no flow copies from the target, or if nobody can say what an offset in its copies is on the target.
func newHome(reverse *client.Clusters, source *kgo.Client) (*home, error) {
	if reverse == nil || reverse.Flow.Provenance {
		return nil, nil //nolint:nilnil // none is no error
	}
	topics, err := policy.NewTopics(reverse.Flow, reverse.Flow.Source, reverse.Flow.Target)
	return &home{clusters: *reverse, topics: topics, journals: source}, err
}

// of returns the topic on the target that a topic on the source is a copy of.
func (h *home) of(topic string) (string, bool) {
	if h == nil {
		return "", false
	}
	at, ok := h.topics.Source(topic)
	if !ok || at == offsets.HeartbeatsTopic {
		return "", false
	}
	_, reason := h.topics.Target(at)
	return at, reason == ""
}

// placedPosition is a position of a group on the source.
type placedPosition struct {
	group string
	tp    offsets.TopicPartition
}

// placed reads where the flow back has put groups on the source.
func (h *home) placed(ctx context.Context) (map[placedPosition]offsets.PlacedOffset, error) {
	found := make(map[placedPosition]offsets.PlacedOffset)
	reader := offsets.NewLineageReader(h.journals, offsets.JournalTopic(h.clusters.Flow.Name), h.clusters.Log, func() { clear(found) }, func(e offsets.Entry) {
		switch e := e.(type) {
		case *offsets.GroupPositions:
			for _, o := range e.Placed {
				found[placedPosition{e.Group, offsets.TopicPartition{Topic: e.Topic, Partition: o.Partition}}] = o
			}
		case *offsets.Tombstone:
			for at := range found {
				if e.Kind == offsets.KindGroup && at.group == e.Group && at.tp.Topic == e.Topic {
					delete(found, at)
				}
			}
		}
	})
	err := reader.Follow(ctx)
	var none *offsets.NoJournalError
	if errors.As(err, &none) {
		return found, nil
	}
	return found, err
}

// prove finds out whether groups that have moved on the source in copies of the target's topics are on the target where they continue. Where the flow back
// has put a group, and it has not moved since, its position on the target counts. It returns how many positions it looked at, and those that are wrong.
func (h *home) prove(ctx context.Context, list []group, rules *policy.Groups, flow client.Clusters, put kadm.FetchOffsetsResponses) (proven int, wrong *misplaced, err error) {
	wrong = &misplaced{}
	if !slices.ContainsFunc(list, func(g group) bool { return len(g.handed) > 0 }) {
		return 0, wrong, nil
	}
	placed, err := h.placed(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("read where flow %s has put groups: %w", h.clusters.Flow.Name, err)
	}
	t, err := groups.OpenTranslator(ctx, h.clusters)
	if err != nil {
		return 0, nil, err
	}
	defer t.Close()
	for _, g := range list {
		for _, tp := range sortedPartitions(g.handed) {
			at := g.handed[tp]
			if placed[placedPosition{g.name, tp}].Has(at) {
				continue // nobody has consumed there
			}
			answer := put[g.name]
			topic, _ := h.of(tp.Topic)
			now, ok := answer.Fetched.Lookup(topic, tp.Partition)
			if !ok {
				now.At = -1
			}
			problem := h.compare(ctx, t, tp, at, now.At)
			if problem == "" {
				proven++
				continue
			}
			byHand := fmt.Sprintf("stop it and run milena translate --flow %s --group %s --reverse --commit, or leave it out with --leave-groups", h.clusters.Flow.Name, g.name)
			cure := byHand
			if _, ok := placed[placedPosition{g.name, tp}]; !rules.Back(g.name) {
				cure = fmt.Sprintf("groups_back of flow %s does not have it: add it, or %s", flow.Flow.Name, byHand)
			} else if ok { // its home was left behind: what it committed there came after the last sync
				cure = "it has committed on both clusters; " + adopt(flow, g.name)
			}
			wrong.add(g.name, cure, "is at %d of %s, and in %s-%d of cluster %s %s", at, tp, topic, tp.Partition, h.clusters.Flow.Source, problem)
		}
	}
	return proven, wrong, nil
}

// compare returns what is wrong with the position of a group on the target that has come to an offset of a copy on the source, empty if nothing is.
func (h *home) compare(ctx context.Context, t *groups.Translator, tp offsets.TopicPartition, at, now int64) string {
	topic, _ := h.of(tp.Topic)
	back, err := reverseUpToEnd(ctx, t, tp, at)
	switch {
	case now < 0:
		return "it has no position"
	case err == nil && back == now, isCopiedAt(ctx, t, topic, tp.Partition, now, at):
		return ""
	case err != nil:
		return fmt.Sprintf("it is at %d (%v)", now, err)
	}
	return fmt.Sprintf("it is at %d, not at %d", now, back)
}

// reverseUpToEnd is an offset of a copy on the source, as an offset of the topic on the target.
func reverseUpToEnd(ctx context.Context, t *groups.Translator, tp offsets.TopicPartition, at int64) (int64, error) {
	back, err := t.ReverseOffset(ctx, tp.Topic, tp.Partition, at)
	back, err = back.UpToEnd(err)
	return back.Source, err
}

// isCopiedAt reports whether what follows an offset on the target is copied from an offset on the source on.
func isCopiedAt(ctx context.Context, t *groups.Translator, topic string, partition int32, offset, copied int64) bool {
	there, err := t.Offset(ctx, topic, partition, offset)
	there, err = there.UpToEnd(err)
	return err == nil && there.Target == copied
}
