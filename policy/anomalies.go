package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind is what went wrong with the data of one partition. Kinds are keys of the config, labels of metrics and words of
// the journal, so they never change.
type Kind string

// The kinds of anomaly.
const (
	// Recreated is a source topic that was deleted and created again: same name, other topic id.
	Recreated Kind = "recreated"
	// RetentionGap is a source log that begins behind the next offset to copy.
	RetentionGap Kind = "retention_gap"
	// Truncated is a source log that lost records which were copied already, by an unclean leader election.
	Truncated Kind = "truncated"
	// ForeignWrite is a record in the target partition that milena did not write.
	ForeignWrite Kind = "foreign_write"
	// TargetRecreated is a target topic that was deleted and created again.
	TargetRecreated Kind = "target_recreated"
	// Shrunk is a source topic with fewer partitions than before.
	Shrunk Kind = "shrunk"
	// RecordTooLarge is a single record beyond the target topic's max.message.bytes.
	RecordTooLarge Kind = "record_too_large"
	// RecordRefused is a record that the target's broker does not accept for its content.
	RecordRefused Kind = "record_refused"
	// TargetNotEmpty is a target partition that held records before the first one was copied.
	TargetNotEmpty Kind = "target_not_empty"
)

// Action is what follows an anomaly. It concerns one partition; the others go on in any case.
type Action string

// The actions.
const (
	// Halt stops the partition until a person decided. It is the default of every kind.
	Halt Action = "halt"
	// Skip notes the offsets concerned as lost or foreign and goes on behind them.
	Skip Action = "skip"
	// Restart forgets the partition's map and copies from its beginning.
	Restart Action = "restart"
)

// Kinds are all kinds in the order of the manual.
func Kinds() []Kind {
	return []Kind{
		Recreated, RetentionGap, Truncated, ForeignWrite, TargetRecreated, Shrunk, RecordTooLarge, RecordRefused, TargetNotEmpty,
	}
}

// Actions are the actions that a user may choose for the kind; Halt, the default, is the first. It is empty for a kind
// that does not exist.
func (k Kind) Actions() []Action {
	switch k {
	case Recreated:
		return []Action{Halt, Restart, Skip}
	case TargetRecreated:
		// No skip: the journal's offsets mean nothing in a new log, so there is nothing to go on from.
		return []Action{Halt, Restart}
	case RetentionGap, Truncated, ForeignWrite, Shrunk, RecordTooLarge, RecordRefused, TargetNotEmpty:
		return []Action{Halt, Skip}
	default:
		return nil
	}
}

// Hint is one sentence for the person who is woken by this anomaly: what it means and what to do.
func (k Kind) Hint() string {
	switch k {
	case Recreated:
		return "The source topic was deleted and created again, so the copy holds records of the old one: set anomalies.recreated to restart to append the new topic from its beginning, " +
			"to skip to go on with new records only, or delete the target topic as well."
	case RetentionGap:
		return "The source deleted records before they were copied and they cannot be had again: raise the source topic's retention or find out why milena lagged, " +
			"then set anomalies.retention_gap to skip to go on with the oldest record that is left."
	case Truncated:
		return "The source lost records that had been copied (an unclean leader election), so source and copy differ from the reported offset on: decide which side is right, " +
			"then set anomalies.truncated to skip to keep the copied records and go on with what the source holds now."
	case ForeignWrite:
		return "Something other than milena wrote into the target partition: find that producer by the reported offsets and stop it (take its WRITE right away), " +
			"then set anomalies.foreign_write to skip to go on behind its records; if MirrorMaker 2 copied on there since milena stopped, do not skip, which would copy those records twice: " +
			"stop milena, delete the topic of its journal, and start it with take_over."
	case TargetRecreated:
		return "The target topic was deleted and created again, so its copied records are gone: set anomalies.target_recreated to restart to copy what the source still holds from its beginning."
	case Shrunk:
		return "The source topic has fewer partitions than before, which Kafka does only when a topic is deleted and created again: check who did that, " +
			"then set anomalies.shrunk to skip to leave the partitions that are gone as they are."
	case RecordTooLarge:
		return "One record is larger than the target topic's max.message.bytes: raise that limit on the target (and the brokers' replica.fetch.max.bytes if need be), " +
			"or set anomalies.record_too_large to skip to leave such records out."
	case RecordRefused:
		return "The target's broker refuses a record for its content (no key in a compacted topic, or a timestamp beyond message.timestamp.before.max.ms or after.max.ms): change the target topic's config, " +
			"or set anomalies.record_refused to skip to leave such records out."
	case TargetNotEmpty:
		return "The target partition held records before milena copied anything into it: make sure that no other tool or flow writes this topic, " +
			"then delete the target topic, or set anomalies.target_not_empty to skip to append behind those records; if MirrorMaker 2 wrote them, set take_over to the topic of its positions."
	default:
		return "This kind of anomaly is not known to this version."
	}
}

// Anomalies says which action follows which kind. The zero value halts on everything. It is immutable.
type Anomalies struct {
	actions map[Kind]Action
}

// NewAnomalies reads the user's choices: kinds as keys, actions as values. What is not named halts.
func NewAnomalies(choices map[string]string) (Anomalies, error) {
	var errs []error
	actions := make(map[Kind]Action, len(choices))
	for _, key := range slices.Sorted(maps.Keys(choices)) {
		kind, action := Kind(key), Action(choices[key])
		allowed := kind.Actions()
		switch {
		case len(allowed) == 0:
			errs = append(errs, fmt.Errorf("anomalies.%s: no such kind; the kinds are %s", key, join(Kinds())))
		case !slices.Contains(allowed, action):
			errs = append(errs, fmt.Errorf("anomalies.%s: %q is not an action for it; use one of %s", key, choices[key], join(allowed)))
		default:
			actions[kind] = action
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Anomalies{}, err
	}
	return Anomalies{actions: actions}, nil
}

// Decide is the action for an anomaly of this kind.
func (a Anomalies) Decide(k Kind) Action {
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
