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
)

// Translator answers for one flow where a place on one side is on the other. It changes nothing, except in Commit, and may
// run beside the flow. Make it with [OpenTranslator].
type Translator struct {
	options Options
	rules   *policy.Topics
	source  *kgo.Client
	target  *kgo.Client
	offsets *offsets.Client
}

// OpenTranslator reaches the target of a flow; the source may be down. It uses only the flow, the clusters and the log of
// the options.
func OpenTranslator(ctx context.Context, o Options) (*Translator, error) {
	rules, err := policy.NewTopics(o.Flow, o.Flow.Source, o.Flow.Target)
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", o.Flow.Name, err)
	}
	t := &Translator{options: o, rules: rules}
	if t.source, err = newClient(o, o.Source, o.Flow.Source); err != nil {
		return nil, err
	}
	if t.target, err = newClient(o, o.Target, o.Flow.Target); err != nil {
		t.source.Close()
		return nil, err
	}
	t.offsets, err = offsets.Open(ctx, offsets.Options{Client: t.target, Names: bookkeepingNames(o.Flow), Log: o.Log})
	if err != nil {
		t.Close()
		return nil, connectError(err, o.Flow.Target, o.Target)
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
	soon, cancel := context.WithTimeout(ctx, sourcePatience)
	defer cancel()
	fetched, err := kadm.NewClient(t.source).FetchOffsets(soon, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, "", &offsets.UnknownGroupError{Group: group, Where: "cluster " + t.options.Flow.Source}
	}
	if err != nil && ctx.Err() == nil {
		text = fmt.Sprintf("cluster %s does not tell where the group is (%v); these are its newest checkpoints on %s", t.options.Flow.Source, err, t.options.Flow.Target)
		positions, err = t.offsets.Group(ctx, t.options.Flow.Source, group)
		return positions, text, err
	}
	if err != nil {
		return nil, "", err
	}
	committed := 0
	for _, o := range fetched.Sorted() {
		if o.Err != nil || o.At < 0 {
			continue
		}
		committed++
		if copied, reason := t.rules.Target(o.Topic); reason == "" {
			p := offsets.GroupPosition{Group: group, Metadata: o.Metadata, Lag: -1}
			p.Translation, p.Err = t.forward(ctx, o.Topic, copied, o.Partition, o.At)
			positions = append(positions, p)
		}
	}
	switch {
	case committed == 0:
		return nil, "", &offsets.UnknownGroupError{Group: group, Where: "cluster " + t.options.Flow.Source}
	case len(positions) == 0:
		return nil, fmt.Sprintf("the group has positions, and none of them in a topic that flow %s copies", t.options.Flow.Name), nil
	}
	return positions, "", t.offsets.Complete(ctx, positions)
}

// forward translates a group's offset: never past what is copied.
func (t *Translator) forward(ctx context.Context, topic, copied string, partition int32, at int64) (offsets.Translation, error) {
	translation, err := t.offsets.Forward(ctx, copied, partition, at)
	translation.Topic, translation.TargetTopic, translation.Partition, translation.Source = topic, copied, partition, at
	var late *offsets.NotCopiedError
	if errors.As(err, &late) {
		translation.Target, translation.Exact = translation.End.Target, false
		return translation, nil
	}
	return translation, err
}

// GroupBack is where a group of the target has to go on on the source.
func (t *Translator) GroupBack(ctx context.Context, group string) ([]offsets.GroupPosition, error) {
	all, err := t.offsets.GroupBack(ctx, group)
	var positions []offsets.GroupPosition
	for _, p := range all {
		if p.Flow == t.options.Flow.Name || p.Err != nil {
			positions = append(positions, p)
		}
	}
	return positions, err
}

// Offset translates one offset of a source topic. Errors are those of [offsets.Client.Forward].
func (t *Translator) Offset(ctx context.Context, topic string, partition int32, source int64) (offsets.Translation, error) {
	copied, reason := t.rules.Target(topic)
	if reason != "" {
		return offsets.Translation{}, fmt.Errorf("flow %s: topic %s %s", t.options.Flow.Name, topic, reason.Explain())
	}
	return t.offsets.Forward(ctx, copied, partition, source)
}

// OffsetBack translates one offset of a target topic. Errors are those of [offsets.Client.Reverse].
func (t *Translator) OffsetBack(ctx context.Context, targetTopic string, partition int32, target int64) (offsets.Translation, error) {
	return t.offsets.Reverse(ctx, targetTopic, partition, target)
}

// At translates a moment in all partitions of a source topic: the first copied records with timestamps at or after it. The
// source is asked; if it does not answer, the copy is, which may have to be read.
func (t *Translator) At(ctx context.Context, topic string, moment time.Time) ([]offsets.Translation, error) {
	copied, reason := t.rules.Target(topic)
	if reason != "" {
		return nil, fmt.Errorf("flow %s: topic %s %s", t.options.Flow.Name, topic, reason.Explain())
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
		return nil, connectError(err, t.options.Flow.Target, t.options.Target)
	}
	if !details.Has(copied) {
		return nil, &offsets.NotReplicatedError{Flow: t.options.Flow.Name, Topic: topic}
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
	client, alias := t.target, t.options.Flow.Target
	if side == offsets.Source {
		client, alias = t.source, t.options.Flow.Source
	}
	var list []*groupPosition
	for _, p := range positions {
		if p.Err != nil {
			continue
		}
		at := &groupPosition{group: group, metadata: p.Metadata, target: topicPartition{p.TargetTopic, p.Partition}, to: p.Target}
		if side == offsets.Source {
			at.target, at.to = topicPartition{p.Topic, p.Partition}, p.Source
		}
		list = append(list, at)
	}
	admin := kadm.NewClient(client)
	there, err := admin.ListGroups(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("list groups of cluster %s: %w", alias, err)
	}
	var committed kadm.FetchOffsetsResponse
	if _, ok := there[group]; ok {
		committed = admin.FetchManyOffsets(ctx, group)[group]
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
