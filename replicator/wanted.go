package replicator

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/topics"
)

// WaitReason is what a partition waits for, as a word for metrics. Existing words never change.
type WaitReason string

// The reasons.
const (
	// WaitSourceUnreachable means that the source broker that leads the partition does not answer.
	WaitSourceUnreachable WaitReason = "source_unreachable"
	// WaitSourceNoLeader means that no source broker leads the partition.
	WaitSourceNoLeader WaitReason = "source_no_leader"
	// WaitSourceRefused means that the source refuses what milena must know of the partition.
	WaitSourceRefused WaitReason = "source_refused"
	// WaitTargetUnreachable means that the target broker that leads the copy does not answer.
	WaitTargetUnreachable WaitReason = "target_unreachable"
	// WaitTargetNoLeader means that no target broker leads the copy.
	WaitTargetNoLeader WaitReason = "target_no_leader"
	// WaitTargetRefused means that the target refuses to create the copy, to tell what it holds, or to write its batches.
	WaitTargetRefused WaitReason = "target_refused"
	// WaitTargetMissing means that the target does not have the copy yet.
	WaitTargetMissing WaitReason = "target_missing"
	// WaitNotAllowed means that the flow selects the topic and must not copy it, because of its name.
	WaitNotAllowed WaitReason = "not_allowed"
	// WaitTakeover means that the shard of the partition is not taken over yet.
	WaitTakeover WaitReason = "takeover"
	// WaitRecovery means that the end of the copy is being read.
	WaitRecovery WaitReason = "recovery"
)

// wait is why a wanted partition, or a wanted topic, is not begun.
type wait struct {
	reason WaitReason
	detail string
	// final means that the answer does not change until somebody acts: missing rights, a policy of the target, a name. A final wait is
	// alerted on, and does not make the flow not ready.
	final bool
}

// unbegun is a wanted partition that is not begun.
type unbegun struct {
	wait
	target string    // the remote topic, empty if the topic has none
	since  time.Time // when the first sync found it
	first  bool      // it existed when this process started: the process has never been ready with it
}

// waits collects why topics and partitions cannot be begun, during one topic sync.
type waits struct {
	topics     map[string]wait // by source topic
	partitions map[offsets.TopicPartition]wait
}

func newWaits() *waits {
	return &waits{topics: make(map[string]wait), partitions: make(map[offsets.TopicPartition]wait)}
}

// of returns why a partition cannot be begun. Without any reason it is the creation of the copy that is not visible yet.
func (w *waits) of(tp offsets.TopicPartition) wait {
	if p, ok := w.partitions[tp]; ok {
		return p
	}
	if t, ok := w.topics[tp.Topic]; ok {
		return t
	}
	return wait{reason: WaitTargetMissing, detail: "the target does not show the copy yet"}
}

// addTopic records the error of a topic.
func (w *waits) addTopic(source string, reason WaitReason, err error) {
	w.topics[source] = wait{reason: reason, detail: err.Error(), final: isFinal(err)}
}

// isFinal reports whether an error is an answer that stays the same until somebody acts. Too few brokers for a replication factor is none:
// brokers come back.
func isFinal(err error) bool {
	known, ok := errors.AsType[*kerr.Error](err)
	return ok && !known.Retriable && known.Code != kerr.InvalidReplicationFactor.Code && known.Code != kerr.UnknownServerError.Code
}

// addUnlisted records why the offsets of a partition are not known.
func (f *Flow) addUnlisted(w *waits, tp offsets.TopicPartition, view topics.View, e *topics.UnlistedError) {
	side, cluster, explain := "source", f.config.Source, f.options.SourceError
	words := [...]WaitReason{WaitSourceNoLeader, WaitSourceUnreachable, WaitSourceRefused}
	if e.Side == offsets.Target {
		side, cluster, explain = "target", f.config.Target, f.options.TargetError
		words = [...]WaitReason{WaitTargetNoLeader, WaitTargetUnreachable, WaitTargetRefused}
	}
	switch {
	case e.Broker < 0:
		w.partitions[tp] = wait{reason: words[0], detail: fmt.Sprintf("no broker of the %s, cluster %s, leads the partition", side, cluster)}
	case e.Unreachable:
		w.partitions[tp] = wait{reason: words[1], detail: fmt.Sprintf("%s broker %d (%s) leads the partition and cannot be reached from here: %v",
			side, e.Broker, view.Brokers[e.Broker], explain(e.Err))}
	default:
		w.partitions[tp] = wait{reason: words[2], detail: explain(e.Err).Error(), final: isFinal(e.Err)}
	}
}

// noteUnbegun keeps the set of wanted partitions complete: each partition of a selected source topic that is not in the flow gets an entry,
// with what it waits for. Metadata of the source alone decides what is wanted.
func (f *Flow) noteUnbegun(source topics.View, pairs []topics.Pair, refused []topics.Refusal, w *waits) {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	before := t.unbegun
	t.unbegun = make(map[offsets.TopicPartition]unbegun)
	note := func(topic topics.Topic, target string) {
		for n := range topic.Partitions {
			tp := offsets.TopicPartition{Topic: topic.Name, Partition: int32(n)}
			if t.partitions[tp] != nil || f.elsewhere(tp) {
				continue
			}
			entry := unbegun{wait: w.of(tp), target: target, since: now, first: t.firstSync || n < t.existed[topic.Name]}
			if old, ok := before[tp]; ok {
				entry.since, entry.first = old.since, old.first
			}
			t.unbegun[tp] = entry
		}
	}
	for _, pair := range pairs {
		note(pair.Source, pair.TargetName)
	}
	for _, r := range refused {
		note(source.ByName[r.Topic], "")
	}
}

// notCopied returns the selected topics that are not copied, or not completely, with the reason.
func (f *Flow) notCopied() map[string]string {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	found := make(map[string]string, len(t.notCopied))
	maps.Copy(found, t.notCopied)
	return found
}

// setNotCopied keeps the topics that are not copied, or not completely, with the reason. A topic whose partitions wait for a broker has the
// reason of the first of them.
func (f *Flow) setNotCopied(w *waits) {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	found := make(map[string]string, len(w.topics))
	for topic, why := range w.topics {
		found[topic] = why.detail
	}
	for _, tp := range sortedPartitions(t.unbegun) {
		if _, ok := found[tp.Topic]; !ok {
			found[tp.Topic] = fmt.Sprintf("partition %d: %s", tp.Partition, t.unbegun[tp].detail)
		}
	}
	t.notCopied = found
}

// unbegunPartitions returns the wanted partitions that are not begun.
func (f *Flow) unbegunPartitions() map[offsets.TopicPartition]unbegun {
	f.topology.mu.Lock()
	defer f.topology.mu.Unlock()
	return maps.Clone(f.topology.unbegun)
}

func sortedPartitions[V any](m map[offsets.TopicPartition]V) []offsets.TopicPartition {
	return slices.SortedFunc(maps.Keys(m), func(a, b offsets.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// settleBegin is how long a partition that appears while the flow runs may wait before the flow is not ready: a new topic and its leaders
// reach all brokers within moments.
const settleBegin = 20 * time.Second

// notBegun returns why the flow is not ready because of wanted partitions that are not begun, one sentence per reason. A final wait does not
// count, unless nothing at all is begun: one topic that the target refuses must not hide whether the others are copied.
func (f *Flow) notBegun(now time.Time) []string {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	begun := 0
	for tp := range t.partitions {
		if !f.isHeartbeats(tp.Topic) {
			begun++
		}
	}
	counts := make(map[string]int)
	examples := make(map[string]offsets.TopicPartition)
	for _, tp := range sortedPartitions(t.unbegun) {
		u := t.unbegun[tp]
		if !u.first && now.Sub(u.since) < settleBegin || u.final && (begun > 0 || f.isHeartbeats(tp.Topic)) {
			continue
		}
		if counts[u.detail]++; counts[u.detail] == 1 {
			examples[u.detail] = tp
		}
	}
	var reasons []string
	for _, detail := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) }) {
		n := counts[detail]
		if n == 1 {
			reasons = append(reasons, fmt.Sprintf("%s is not copied yet: %s", examples[detail], detail))
		} else {
			reasons = append(reasons, fmt.Sprintf("%d partitions are not copied yet, such as %s: %s", n, examples[detail], detail))
		}
	}
	return reasons
}

// isHeartbeats reports whether a source topic holds heartbeats, which say nothing of the data that a user wants.
func (f *Flow) isHeartbeats(topic string) bool { return f.options.InternalTopics().IsHeartbeats(topic) }

// isWanting reports whether a failover would lose the partition: it may be copied, and is not.
func (u *unbegun) isWanting() bool { return u.reason != WaitNotAllowed }

// status describes a wanted partition that is not begun.
func (u *unbegun) status(tp offsets.TopicPartition, shards int32) PartitionStatus {
	return PartitionStatus{
		Topic: tp.Topic, TargetTopic: u.target, Partition: tp.Partition, Shard: offsets.ShardOf(tp.Topic, tp.Partition, shards), State: waiting.String(),
		Wait: &WaitState{Reason: u.reason, Detail: u.detail, Since: u.since, Final: u.final},
	}
}
