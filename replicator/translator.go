package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
)

// Translator answers for one flow where a place on one side is on the other. It changes nothing, except in Commit, and may
// run beside the flow. Make it with [OpenTranslator].
type Translator struct {
	clusters client.Clusters
	rules    *policy.Topics
	source   *kgo.Client
	target   *kgo.Client
	offsets  *offsets.Client
}

// OpenTranslator reaches the target of a flow; the source may be down.
func OpenTranslator(ctx context.Context, o client.Clusters) (*Translator, error) {
	rules, err := policy.NewTopics(o.Flow, o.Flow.Source, o.Flow.Target)
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", o.Flow.Name, err)
	}
	t := &Translator{clusters: o, rules: rules}
	if t.source, t.target, err = o.Open(); err != nil {
		return nil, err
	}
	t.offsets, err = offsets.Open(ctx, offsets.Options{Client: t.target, Names: o.InternalTopics(), Log: o.Log})
	if err != nil {
		t.Close()
		return nil, o.TargetError(err)
	}
	return t, nil
}

// Close closes the connections.
func (t *Translator) Close() {
	t.source.Close()
	t.target.Close()
}

// sourcePatience is how long a source is waited for that may be gone for good.
const sourcePatience = 5 * time.Second

// Group is where a group of the source has to go on on the target. Its positions are read on the source; if that does not
// answer, those of the newest checkpoints are taken, and the text says so.
func (t *Translator) Group(ctx context.Context, group string) (positions []offsets.GroupPosition, text string, err error) {
	if err := t.hasGroups(); err != nil {
		return nil, "", err
	}
	soon, cancel := context.WithTimeout(ctx, sourcePatience)
	defer cancel()
	committed, err := t.committed(soon, t.source, group)
	if err != nil && ctx.Err() == nil {
		text = fmt.Sprintf("cluster %s does not tell where the group is (%v); these are its newest checkpoints on %s", t.clusters.Flow.Source, err, t.clusters.Flow.Target)
		if committed, err = t.checkpoints(ctx, group); err != nil {
			return nil, text, err
		}
		if len(committed) == 0 {
			return nil, text, &offsets.UnknownGroupError{Group: group, Where: "the checkpoints of " + t.clusters.Flow.Source}
		}
	}
	if err != nil {
		return nil, "", err
	}
	if len(committed) == 0 {
		return nil, "", &offsets.UnknownGroupError{Group: group, Where: "cluster " + t.clusters.Flow.Source}
	}
	for _, o := range committed {
		if copied, reason := t.rules.Target(o.Topic); reason == "" {
			p := offsets.GroupPosition{Group: group, Metadata: o.Metadata, Lag: -1}
			p.Translation, p.Err = t.forward(ctx, o.Topic, copied, o.Partition, o.At)
			positions = append(positions, p)
		}
	}
	if len(positions) == 0 {
		return nil, fmt.Sprintf("the group has positions, and none of them in a topic that flow %s copies", t.clusters.Flow.Name), nil
	}
	return positions, text, t.offsets.Complete(ctx, positions)
}

// hasGroups says why groups of this flow have no place on the other side, if that is so.
func (t *Translator) hasGroups() error {
	if t.clusters.Flow.Provenance {
		return fmt.Errorf("flow %s keeps provenance, so others may write its topics too: no one place there belongs to a group's place here", t.clusters.Flow.Name)
	}
	return nil
}

// committed is what a group committed on one cluster, by topic and partition; nothing for a group that does not exist.
func (t *Translator) committed(ctx context.Context, client *kgo.Client, group string) ([]kadm.Offset, error) {
	fetched, err := kadm.NewClient(client).FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []kadm.Offset
	for _, o := range fetched.Sorted() {
		if o.Err != nil {
			return nil, o.Err
		}
		if o.At >= 0 {
			list = append(list, o.Offset)
		}
	}
	return list, nil
}

// checkpoints is the same as the newest checkpoints tell it.
func (t *Translator) checkpoints(ctx context.Context, group string) ([]kadm.Offset, error) {
	all, err := t.offsets.Checkpoints(ctx, t.clusters.Flow.Source)
	if err != nil {
		return nil, err
	}
	var list []kadm.Offset
	for _, c := range all {
		if topic, ok := t.rules.Source(c.Topic); ok && c.Group == group {
			list = append(list, kadm.Offset{Topic: topic, Partition: c.Partition, At: c.Source, Metadata: c.Metadata})
		}
	}
	return list, nil
}

// journal is the flow's own: another flow may write topics of the same names, and its offsets are other ones.
func (t *Translator) journal(ctx context.Context) (*offsets.Journal, error) {
	return t.offsets.Journal(ctx, t.clusters.Flow.Name)
}

// forward translates a group's offset: never past what is copied.
func (t *Translator) forward(ctx context.Context, topic, copied string, partition int32, at int64) (offsets.Translation, error) {
	var translation offsets.Translation
	journal, err := t.journal(ctx)
	if err == nil {
		translation, err = journal.Forward(ctx, topic, partition, at)
	}
	translation.Topic, translation.TargetTopic, translation.Partition, translation.Source = topic, copied, partition, at
	var late *offsets.NotCopiedError
	if errors.As(err, &late) {
		translation.Target, translation.Exact = translation.End.Target, false
		return translation, nil
	}
	return translation, err
}

// GroupBack is where a group of the target has to go on on the source, in the topics that it was copied from.
func (t *Translator) GroupBack(ctx context.Context, group string) ([]offsets.GroupPosition, error) {
	if err := t.hasGroups(); err != nil {
		return nil, err
	}
	committed, err := t.committed(ctx, t.target, group)
	if err != nil {
		return nil, t.clusters.TargetError(err)
	}
	if len(committed) == 0 {
		return nil, &offsets.UnknownGroupError{Group: group, Where: "cluster " + t.clusters.Flow.Target}
	}
	var positions []offsets.GroupPosition
	for _, o := range committed {
		topic, ok := t.rules.Source(o.Topic)
		if !ok {
			continue
		}
		p := offsets.GroupPosition{Group: group, Metadata: o.Metadata, Lag: -1}
		p.Translation, p.Err = t.OffsetBack(ctx, o.Topic, o.Partition, o.At)
		var late *offsets.NotCopiedError
		if errors.As(p.Err, &late) { // written by somebody else, or the journal is a moment behind
			p.Source, p.Exact, p.Err = p.End.Source, false, nil
		}
		p.Topic, p.TargetTopic, p.Partition, p.Target = topic, o.Topic, o.Partition, o.At
		positions = append(positions, p)
	}
	return positions, nil
}

// Offset translates one offset of a source topic. Errors are those of [offsets.Journal.Forward].
func (t *Translator) Offset(ctx context.Context, topic string, partition int32, source int64) (offsets.Translation, error) {
	if _, reason := t.rules.Target(topic); reason != "" {
		return offsets.Translation{}, fmt.Errorf("flow %s: topic %s %s", t.clusters.Flow.Name, topic, reason.Explain())
	}
	journal, err := t.journal(ctx)
	if err != nil {
		return offsets.Translation{}, err
	}
	return journal.Forward(ctx, topic, partition, source)
}

// OffsetBack translates one offset of a target topic. Errors are those of [offsets.Journal.Reverse].
func (t *Translator) OffsetBack(ctx context.Context, targetTopic string, partition int32, target int64) (offsets.Translation, error) {
	journal, err := t.journal(ctx)
	if err != nil {
		return offsets.Translation{}, err
	}
	state, err := journal.Lookup(ctx, targetTopic, partition)
	if err != nil {
		return offsets.Translation{}, err
	}
	return journal.Reverse(ctx, state.Topic, partition, target)
}

// At translates a moment in all partitions of a source topic: the first copied records with timestamps at or after it. The
// source is asked; if it does not answer, the copy is, which may have to be read.
func (t *Translator) At(ctx context.Context, topic string, moment time.Time) ([]offsets.Translation, error) {
	copied, reason := t.rules.Target(topic)
	if reason != "" {
		return nil, fmt.Errorf("flow %s: topic %s %s", t.clusters.Flow.Name, topic, reason.Explain())
	}
	soon, cancel := context.WithTimeout(ctx, sourcePatience)
	defer cancel()
	listed, err := kadm.NewClient(t.source).ListOffsetsAfterMilli(soon, moment.UnixMilli(), topic)
	if err == nil && listed.Error() == nil {
		var list []offsets.Translation
		for _, o := range listed[topic] {
			translation, err := t.forward(ctx, topic, copied, o.Partition, o.Offset)
			if err != nil {
				return nil, err
			}
			list = append(list, translation)
		}
		slices.SortFunc(list, func(a, b offsets.Translation) int { return cmp.Compare(a.Partition, b.Partition) })
		return list, nil
	}
	details, err := kadm.NewClient(t.target).ListTopics(ctx, copied)
	if err != nil {
		return nil, t.clusters.TargetError(err)
	}
	if !details.Has(copied) {
		return nil, &offsets.NotReplicatedError{Flow: t.clusters.Flow.Name, Topic: topic}
	}
	var list []offsets.Translation
	for _, partition := range details[copied].Partitions.Numbers() {
		translation, err := t.offsets.At(ctx, copied, partition, moment)
		if err != nil {
			return nil, err
		}
		list = append(list, translation)
	}
	return list, nil
}

// Side is one of the two clusters of a flow.
type Side = offsets.Side

// Commit commits a group's positions on one side, under the rules of groups_sync: only a group without members is moved,
// and only forward. It answers how many positions were moved and why others were not.
func (t *Translator) Commit(ctx context.Context, side Side, group string, positions []offsets.GroupPosition) (int, []GroupRefusal, error) {
	client, alias := t.target, t.clusters.Flow.Target
	if side == offsets.Source {
		client, alias = t.source, t.clusters.Flow.Source
	}
	var list []*groupPosition
	for _, p := range positions {
		if p.Err != nil {
			continue
		}
		at := &groupPosition{group: group, metadata: p.Metadata, target: offsets.TopicPartition{Topic: p.TargetTopic, Partition: p.Partition}, to: p.Target}
		if side == offsets.Source {
			at.target, at.to = offsets.TopicPartition{Topic: p.Topic, Partition: p.Partition}, p.Source
		}
		list = append(list, at)
	}
	admin := kadm.NewClient(client)
	var topics []string
	for _, at := range list {
		topics = append(topics, at.target.Topic)
	}
	if len(topics) == 0 {
		return 0, nil, nil
	}
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return 0, nil, fmt.Errorf("list start offsets of cluster %s: %w", alias, err)
	}
	for _, at := range list { // what was deleted meanwhile would be out of range
		if start, ok := starts.Lookup(at.target.Topic, at.target.Partition); ok && start.Err == nil {
			at.to = max(at.to, start.Offset)
		}
	}
	there, err := admin.ListGroups(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("list groups of cluster %s: %w", alias, err)
	}
	var committed kadm.FetchOffsetsResponse
	if _, ok := there[group]; ok {
		committed = readCommitted(ctx, admin, []string{group})[group]
	}
	moved := commitGroup(ctx, admin, there[group], committed, list)
	var refusals []GroupRefusal
	for _, p := range list {
		if p.refusal != "" {
			refusals = append(refusals, GroupRefusal{Group: group, Reason: string(p.refusal), Text: "group " + group + " " + p.refusal.Explain(), Detail: p.detail, Partitions: 1})
		}
	}
	return moved, refusals, nil
}
