package groups

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
)

// Translator translates groups, offsets and times for one flow. It changes nothing, except in Commit, and may run beside the flow. Unlike
// [offsets.Client], which it uses, it translates with the flow's own journal only: another flow may write topics of the same names, and
// MirrorMaker 2's offset-syncs are not exact. Create it with [OpenTranslator].
type Translator struct {
	clusters client.Clusters
	rules    *policy.Topics
	source   *kgo.Client
	target   *kgo.Client
	offsets  *offsets.Client // of the target
}

// OpenTranslator connects to the target of a flow. The source may be down.
func OpenTranslator(ctx context.Context, c client.Clusters) (*Translator, error) {
	rules, err := policy.NewTopics(c.Flow, c.Flow.Source, c.Flow.Target)
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", c.Flow.Name, err)
	}
	t := &Translator{clusters: c, rules: rules}
	if t.source, t.target, err = c.Open(); err != nil {
		return nil, err
	}
	t.offsets, err = offsets.Open(ctx, offsets.Options{Client: t.target, Names: c.InternalTopics(), OnlyFlow: c.Flow.Name, Log: c.Log})
	if err != nil {
		t.Close()
		return nil, c.TargetError(err)
	}
	return t, nil
}

// Close closes the connections.
func (t *Translator) Close() {
	t.source.Close()
	t.target.Close()
}

// sourceTimeout is the maximum wait for the source, which may be lost.
const sourceTimeout = 5 * time.Second

// Group translates the committed offsets of a group on the source to the target. If the source does not answer, the newest checkpoints are
// used instead, and the text says so. Positions that cannot be translated have an Err. It blocks for reading, and returns an
// *[offsets.UnknownGroupError] if the group committed nothing.
func (t *Translator) Group(ctx context.Context, group string) (positions []offsets.GroupOffset, text string, err error) {
	if err := t.canTranslateGroups(); err != nil {
		return nil, "", err
	}
	committed, text, err := t.committedOnSource(ctx, group)
	if err != nil {
		return nil, text, err
	}
	positions, err = t.Translate(ctx, group, committed)
	if len(positions) == 0 && err == nil {
		text = fmt.Sprintf("the group has committed offsets, but none in a topic that flow %s copies", t.clusters.Flow.Name)
	}
	return positions, text, err
}

// Translate translates offsets that a group had committed on the source, as far as they are in topics that the flow copies. Positions that cannot be
// translated have an Err.
func (t *Translator) Translate(ctx context.Context, group string, committed []kadm.Offset) (positions []offsets.GroupOffset, err error) {
	for _, o := range committed {
		if remote, reason := t.rules.Target(o.Topic); reason == "" {
			p := offsets.GroupOffset{Group: group, Metadata: o.Metadata, Lag: -1}
			p.Translation, p.Err = t.forward(ctx, o.Topic, remote, o.Partition, o.At)
			positions = append(positions, p)
		}
	}
	if len(positions) == 0 {
		return nil, nil
	}
	return positions, t.offsets.Complete(ctx, positions)
}

// Checkpointed returns the offsets that each group had committed on the source when its newest checkpoints were written. It needs the target only.
func (t *Translator) Checkpointed(ctx context.Context) (map[string][]kadm.Offset, error) {
	found := make(map[string][]kadm.Offset)
	if err := t.canTranslateGroups(); err != nil {
		return nil, err
	}
	all, err := t.offsets.Checkpoints(ctx, t.clusters.Flow.Source)
	var none *offsets.NoCheckpointsError
	if errors.As(err, &none) {
		return found, nil
	}
	if err != nil {
		return nil, t.clusters.TargetError(err)
	}
	for _, c := range all {
		if topic, ok := t.rules.Source(c.Topic); ok {
			found[c.Group] = append(found[c.Group], kadm.Offset{Topic: topic, Partition: c.Partition, At: c.Source, Metadata: c.Metadata})
		}
	}
	return found, nil
}

// canTranslateGroups returns an error if the offsets of this flow's groups have no counterpart on the other cluster.
func (t *Translator) canTranslateGroups() error {
	if t.clusters.Flow.Provenance {
		return fmt.Errorf("flow %s keeps provenance, so other producers may write its target topics: a group's offset has no single counterpart there", t.clusters.Flow.Name)
	}
	return nil
}

// committedOnSource returns the committed offsets of a group on the source, or those of its newest checkpoints and a text that says so.
func (t *Translator) committedOnSource(ctx context.Context, group string) (committed []kadm.Offset, text string, err error) {
	soon, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	committed, err = offsets.CommittedOffsets(soon, t.source, group, "cluster "+t.clusters.Flow.Source)
	var unknown *offsets.UnknownGroupError
	if err == nil || errors.As(err, &unknown) || ctx.Err() != nil {
		return committed, "", err
	}
	text = fmt.Sprintf("cannot read the group on the source (%v); these are its newest checkpoints on %s", err, t.clusters.Flow.Target)
	committed, err = t.checkpointed(ctx, group)
	return committed, text, err
}

// checkpointed returns the offsets that a group had committed on the source when its newest checkpoints were written.
func (t *Translator) checkpointed(ctx context.Context, group string) ([]kadm.Offset, error) {
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
	if len(list) == 0 {
		return nil, &offsets.UnknownGroupError{Group: group, Where: "the checkpoints of " + t.clusters.Flow.Source}
	}
	return list, nil
}

// journal returns the journal of the flow.
func (t *Translator) journal(ctx context.Context) (*offsets.Journal, error) {
	return t.offsets.Journal(ctx, t.clusters.Flow.Name)
}

// forward translates a group's offset, at most to the end of the copy.
func (t *Translator) forward(ctx context.Context, topic, remote string, partition int32, at int64) (offsets.Translation, error) {
	var translation offsets.Translation
	journal, err := t.journal(ctx)
	if err == nil {
		translation, err = journal.Forward(ctx, topic, partition, at)
	}
	translation.Topic, translation.TargetTopic, translation.Partition, translation.Source = topic, remote, partition, at
	return translation.UpToEnd(err)
}

// ReverseGroup translates the committed offsets of a group on the target back to the source. Topics that the flow does not write are left out.
// Positions that cannot be translated have an Err. It blocks for reading, and returns an *[offsets.UnknownGroupError] if the group committed
// nothing.
func (t *Translator) ReverseGroup(ctx context.Context, group string) ([]offsets.GroupOffset, error) {
	if err := t.canTranslateGroups(); err != nil {
		return nil, err
	}
	committed, err := offsets.CommittedOffsets(ctx, t.target, group, "cluster "+t.clusters.Flow.Target)
	var unknown *offsets.UnknownGroupError
	switch {
	case errors.As(err, &unknown):
		return nil, err
	case err != nil:
		return nil, t.clusters.TargetError(err)
	}
	var positions []offsets.GroupOffset
	for _, o := range committed {
		topic, ok := t.rules.Source(o.Topic)
		if !ok {
			continue
		}
		p := offsets.GroupOffset{Group: group, Metadata: o.Metadata, Lag: -1}
		p.Translation, p.Err = t.ReverseOffset(ctx, o.Topic, o.Partition, o.At)
		p.Translation, p.Err = p.UpToEnd(p.Err) // what is above was written by another producer, or the journal is a moment behind
		p.Topic, p.TargetTopic, p.Partition, p.Target = topic, o.Topic, o.Partition, o.At
		positions = append(positions, p)
	}
	return positions, nil
}

// Offset translates one offset of a source topic. Errors are those of [offsets.Journal.Forward].
func (t *Translator) Offset(ctx context.Context, topic string, partition int32, source int64) (offsets.Translation, error) {
	if _, reason := t.rules.Target(topic); reason != "" {
		return offsets.Translation{}, t.notCopied(topic, reason)
	}
	journal, err := t.journal(ctx)
	if err != nil {
		return offsets.Translation{}, err
	}
	return journal.Forward(ctx, topic, partition, source)
}

func (t *Translator) notCopied(topic string, reason policy.Reason) error {
	return fmt.Errorf("flow %s: topic %s %s", t.clusters.Flow.Name, topic, reason.Explain())
}

// ReverseOffset translates one offset of a target topic. An offset below the start of the map translates to that start, not exactly, if the
// source has nothing from before it. Errors are those of [offsets.Journal.Reverse].
func (t *Translator) ReverseOffset(ctx context.Context, targetTopic string, partition int32, target int64) (offsets.Translation, error) {
	journal, err := t.journal(ctx)
	if err != nil {
		return offsets.Translation{}, err
	}
	state, err := journal.Lookup(ctx, targetTopic, partition)
	if err != nil {
		return offsets.Translation{}, err
	}
	translation, err := journal.Reverse(ctx, state.Topic, partition, target)
	var early *offsets.BeforeStartError
	if errors.As(err, &early) {
		soon, cancel := context.WithTimeout(ctx, sourceTimeout)
		defer cancel()
		starts, _ := offsets.ReadLogStarts(soon, t.source, []string{state.Topic}) // what is not known is not there
		start, unknown := starts.Of(offsets.TopicPartition{Topic: state.Topic, Partition: partition})
		if source, ok := early.Continue(start); ok && unknown == nil {
			translation.Source = source
			return translation, nil
		}
	}
	return translation, err
}

// Answer is a translation, or why there is none. Then only the partition is set.
type Answer struct {
	offsets.Translation
	Err error
}

// At translates a time in all partitions of a source topic: to the first copied records with timestamps at or after it. The source finds
// the records; if it does not answer, the copy does, which may have to be read. What one partition lacks does not keep the others from being
// answered.
func (t *Translator) At(ctx context.Context, topic string, moment time.Time) ([]Answer, error) {
	remote, reason := t.rules.Target(topic)
	if reason != "" {
		return nil, t.notCopied(topic, reason)
	}
	soon, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	listed, err := kadm.NewClient(t.source).ListOffsetsAfterMilli(soon, moment.UnixMilli(), topic)
	if err != nil || !slices.ContainsFunc(slices.Collect(maps.Values(listed[topic])), func(o kadm.ListedOffset) bool { return o.Err == nil }) {
		return t.atOnTarget(ctx, topic, remote, moment)
	}
	var list []Answer
	for _, o := range listed[topic] {
		answer := Answer{offsets.Translation{Topic: topic, TargetTopic: remote, Partition: o.Partition}, o.Err}
		if o.Err == nil {
			answer.Translation, answer.Err = t.forward(ctx, topic, remote, o.Partition, o.Offset)
		}
		list = append(list, answer)
	}
	slices.SortFunc(list, func(a, b Answer) int { return cmp.Compare(a.Partition, b.Partition) })
	return list, nil
}

// atOnTarget is At by the timestamps of the copy.
func (t *Translator) atOnTarget(ctx context.Context, topic, remote string, moment time.Time) ([]Answer, error) {
	details, err := kadm.NewClient(t.target).ListTopics(ctx, remote)
	if err != nil {
		return nil, t.clusters.TargetError(err)
	}
	if !details.Has(remote) {
		return nil, &offsets.NotReplicatedError{Flow: t.clusters.Flow.Name, Topic: topic}
	}
	var list []Answer
	for _, partition := range details[remote].Partitions.Numbers() {
		translation, err := t.offsets.At(ctx, remote, partition, moment)
		translation.Topic, translation.TargetTopic, translation.Partition = topic, remote, partition
		list = append(list, Answer{translation, err})
	}
	return list, nil
}
