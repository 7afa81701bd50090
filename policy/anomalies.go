package policy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// Kind is the kind of an anomaly: what went wrong with the data of one partition. Kinds are config keys, metric
// labels and part of the journal, so they never change.
type Kind string

// The anomaly kinds.
const (
	// Recreated means that the source topic was deleted and created again: same name, other topic id.
	Recreated Kind = "recreated"
	// RetentionGap means that the source log starts after the next offset to copy.
	RetentionGap Kind = "retention_gap"
	// Truncated means that the source log lost records that were copied already, by an unclean leader election.
	Truncated Kind = "truncated"
	// ForeignWrite means that the target partition has a record that milena did not write.
	ForeignWrite Kind = "foreign_write"
	// TargetRecreated means that the target topic was deleted and created again.
	TargetRecreated Kind = "target_recreated"
	// Shrunk means that the source topic has fewer partitions than before.
	Shrunk Kind = "shrunk"
	// RecordTooLarge means that a single record is larger than the target topic's max.message.bytes.
	RecordTooLarge Kind = "record_too_large"
	// RecordRefused means that the target's broker refuses a record for its content.
	RecordRefused Kind = "record_refused"
	// TargetNotEmpty means that the target partition had records before the first one was copied.
	TargetNotEmpty Kind = "target_not_empty"
	// Unmatched means that the end of the copy, which was not journaled, cannot be matched with the source for certain.
	Unmatched Kind = "unmatched"
	// TombstonesCleaned means that a compacted source may have cleaned tombstones away before they were copied.
	TombstonesCleaned Kind = "tombstones_cleaned"
	// CopyDeleted means that the target deleted copied records before they were journaled. There is nothing to decide, so it is not in [Kinds]:
	// it is only reported.
	CopyDeleted Kind = "copy_deleted"
)

// Action is the reaction to an anomaly. It concerns one partition; the others always continue.
type Action string

// The actions.
const (
	// Halt stops the partition until an operator decides. It is the default of every kind.
	Halt Action = "halt"
	// Skip records the offsets as lost or foreign and continues after them.
	Skip Action = "skip"
	// Restart discards the partition's map and copies the partition from its start.
	Restart Action = "restart"
)

// Kinds are all kinds in the order of the documentation.
//
// A new kind needs: its constant, its actions and its hint here; its default and its actions in config/defaults.go (config imports nothing of
// milena); a call of raise where it is seen (replicator/anomaly.go); deploy/milena.yaml; its section in docs/anomalies.md. Tests hold each of
// these but the call.
func Kinds() []Kind {
	return []Kind{
		Recreated, RetentionGap, Truncated, ForeignWrite, TargetRecreated, Shrunk, RecordTooLarge, RecordRefused, TargetNotEmpty,
		Unmatched, TombstonesCleaned,
	}
}

// Actions are the actions that a user may choose for the kind. Halt, the default, is the first. It returns nil for an
// unknown kind.
func (k Kind) Actions() []Action {
	switch k {
	case Recreated:
		return []Action{Halt, Restart, Skip}
	case TargetRecreated:
		// No skip: the journal's offsets mean nothing in a new log, so there is no offset to continue from.
		return []Action{Halt, Restart}
	case RetentionGap, Truncated, ForeignWrite, Shrunk, RecordTooLarge, RecordRefused, TargetNotEmpty, Unmatched, TombstonesCleaned:
		return []Action{Halt, Skip}
	case CopyDeleted:
		return nil
	default:
		return nil
	}
}

// Place is the partition that an anomaly halts, as commands name it.
type Place struct {
	Topic     string
	Partition int32
	Target    string // the topic on the target
}

// Hint is for the operator who gets the alert: what the anomaly means and what to do, with the commands between backticks. FILE is milena's config,
// TARGET a broker of the target cluster. The commands work while milena runs.
func (k Kind) Hint(at Place) string {
	skip := fmt.Sprintf("`milena skip -c FILE --partition %s-%d --reason TEXT`", at.Topic, at.Partition)
	retry := fmt.Sprintf("`milena retry -c FILE --partition %s-%d`", at.Topic, at.Partition)
	again := fmt.Sprintf("`milena restart-copy %s -c FILE --reason TEXT`", at.Topic)
	discard := fmt.Sprintf("`kafka-topics.sh --bootstrap-server TARGET --delete --topic %s`", at.Target)
	set := func(configs string) string {
		return fmt.Sprintf("`kafka-configs.sh --bootstrap-server TARGET --alter --entity-type topics --entity-name %s --add-config %s`", at.Target, configs)
	}
	afresh := fmt.Sprintf("delete the target topic, %s, then copy everything that the source has, %s", discard, again)
	switch k {
	case Recreated:
		return fmt.Sprintf("The source topic was deleted and created again, so the copy holds records of the old one. To append the new topic from its beginning: %s. To copy only new records: %s. To discard the old copy: %s.", again, skip, afresh)
	case RetentionGap:
		return fmt.Sprintf("The source deleted records before they were copied, and they cannot be recovered: raise the source topic's retention or find out why milena lagged. To continue with the oldest record that is left: %s.", skip)
	case Truncated:
		return fmt.Sprintf("One side lost records that had been copied (an unclean leader election), so source and target differ from the reported offset on: decide which side is right. "+
			"If the source lost them, to keep the copied records and continue with what the source holds now: %s. If the target lost them, or to discard the copy: %s.", skip, afresh)
	case ForeignWrite:
		return fmt.Sprintf("A producer other than milena wrote to the target partition: find it by the reported offsets and stop it (revoke its WRITE permission). To continue after its records: %s. To discard the copy: %s. "+
			"If MirrorMaker 2 wrote them since milena stopped, do not skip, because those records would be duplicated: stop milena, delete its journal topic, and start it with migrate_from.", skip, afresh)
	case TargetRecreated:
		return fmt.Sprintf("The target topic was deleted and created again, so its copied records are gone. To copy everything that the source still holds: %s.", again)
	case Shrunk:
		return fmt.Sprintf("The source topic has fewer partitions than before, which happens only if a topic is deleted and created again: find out why. To leave the removed partition as it is on the target: %s.", skip)
	case RecordTooLarge:
		return fmt.Sprintf("One record is larger than the target topic's max.message.bytes. To copy it, raise that limit to the size that it needs (and the brokers' replica.fetch.max.bytes if need be), %s, then %s. To leave it out: %s.",
			set("max.message.bytes=SIZE"), retry, skip)
	case RecordRefused:
		return fmt.Sprintf("The target's broker refuses a record for its content. To leave it out: %s. To copy a record whose timestamp is out of range, lift the limits, which milena leaves as they are, %s, then %s. "+
			"To copy a record that has no key and a compacted target topic refuses: list cleanup\\.policy in configs_exclude, %s, then %s.",
			skip, set(timestampBefore+"="+widestTimestamp+","+timestampAfter+"="+widestTimestamp), retry, set("cleanup.policy=delete"), retry)
	case TargetNotEmpty:
		return fmt.Sprintf("The target partition had records before milena copied the first one: make sure that no other tool or flow writes to this topic. To discard them: delete the target topic, %s, then %s. To append after them: %s. "+
			"If MirrorMaker 2 wrote them, set migrate_from to its Connect offsets topic.", discard, retry, skip)
	case Unmatched:
		return fmt.Sprintf("The end of the copy was not journaled, and what both clusters still have does not tell which source records it holds: compare both sides at the reported offsets. "+
			"To continue at the last of these source offsets, which copies nothing twice but may leave out records between them: %s. For an exact copy: %s.", skip, afresh)
	case CopyDeleted:
		return "The target deleted copied records within seconds (retention, or DeleteRecords), and milena does not copy them again: raise the target topic's retention if consumers need them."
	case TombstonesCleaned:
		return fmt.Sprintf("The compacted source was not read for longer than its delete.retention.ms, so keys that were deleted there meanwhile may still be on the target. To continue, and compare the keys of both topics later: %s. "+
			"For an exact copy: %s. Keep delete.retention.ms above the longest pause that you expect.", skip, afresh)
	default:
		return "This version does not know this anomaly kind."
	}
}

// Anomalies holds the action for each topic and kind. The zero value halts on every kind. It is immutable.
type Anomalies struct {
	byTopic []topicActions
	actions map[Kind]Action
}

// topicActions are the actions for the topics that match.
type topicActions struct {
	topics  []*regexp.Regexp
	actions map[Kind]Action
}

// NewAnomalies reads the user's choices: kinds as keys, actions as values. Kinds that are absent halt. The error
// lists every unknown kind, every action that the kind does not allow, and every pattern that does not compile.
func NewAnomalies(f config.Flow) (Anomalies, error) {
	actions, err := parseActions("anomalies", f.Anomalies)
	errs := []error{err}
	a := Anomalies{actions: actions}
	for i, item := range f.AnomaliesByTopic {
		path := fmt.Sprintf("anomalies_by_topic[%d]", i)
		topics, err := compileList(path+".topics", item.Topics)
		errs = append(errs, err)
		actions, err := parseActions(path+".anomalies", item.Anomalies)
		errs = append(errs, err)
		a.byTopic = append(a.byTopic, topicActions{topics, actions})
	}
	if err := errors.Join(errs...); err != nil {
		return Anomalies{}, err
	}
	return a, nil
}

func parseActions(path string, choices map[string]string) (map[Kind]Action, error) {
	var errs []error
	actions := make(map[Kind]Action, len(choices))
	for _, key := range slices.Sorted(maps.Keys(choices)) {
		kind, action := Kind(key), Action(choices[key])
		allowed := kind.Actions()
		switch {
		case len(allowed) == 0:
			errs = append(errs, fmt.Errorf("%s.%s: unknown kind; the kinds are %s", path, key, join(Kinds())))
		case !slices.Contains(allowed, action):
			errs = append(errs, fmt.Errorf("%s.%s: action %q is not allowed for this kind; use one of %s", path, key, choices[key], join(allowed)))
		default:
			actions[kind] = action
		}
	}
	return actions, errors.Join(errs...)
}

// Decide returns the action for an anomaly of this kind in a source topic: that of the first item of anomalies_by_topic
// that names the kind and matches the topic, or else that of the flow.
func (a Anomalies) Decide(topic string, k Kind) Action {
	for _, item := range a.byTopic {
		if action, ok := item.actions[k]; ok && matchesAny(item.topics, topic) {
			return action
		}
	}
	if action, ok := a.actions[k]; ok {
		return action
	}
	return Halt
}

func join[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, word := range words {
		texts[i] = string(word)
	}
	return strings.Join(texts, ", ")
}
