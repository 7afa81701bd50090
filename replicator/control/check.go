package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of a record. What is larger is nonsense.
const (
	maxKey   = 1 << 10 // bytes
	maxValue = 8 << 10 // bytes
	maxName  = 256     // bytes of who, an instance or a group
	maxText  = 1 << 10 // bytes of why and detail
	maxRate  = 1 << 50 // bytes per second
)

var (
	idForm    = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)
	haltForm  = regexp.MustCompile(`^[a-z_]{1,40}$`)
	topicForm = regexp.MustCompile(`^[0-9A-Za-z._-]{1,249}$`)
	yearFirst = time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant
	yearLast  = time.Date(2200, time.January, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant
)

// decodeDecision reads the value of a decision and checks it.
func decodeDecision(value []byte) (d Decision, err error) {
	if err := decode(value, &d, &d.Version); err != nil {
		return d, err
	}
	return d, d.Check()
}

func decodeEvent(value []byte) (e Event, err error) {
	if err := decode(value, &e, &e.Version); err != nil {
		return e, err
	}
	return e, e.check()
}

func decodeOutcome(value []byte) (o Outcome, err error) {
	if err := decode(value, &o, &o.Version); err != nil {
		return o, err
	}
	return o, o.check()
}

// decode reads one JSON object of the present version.
func decode(value []byte, into any, version *int) error {
	if !utf8.Valid(value) {
		return errors.New("the value is not UTF-8")
	}
	if err := json.Unmarshal(value, into); err != nil {
		if *version = versionOf(value); *version <= Version { // a newer one may have fields of other types
			return fmt.Errorf("the value is not a record of milena: %w", err)
		}
	}
	switch {
	case *version > Version:
		return &newerError{*version}
	case *version < 1:
		return errors.New("the value has no version v")
	}
	return nil
}

// versionOf returns the version of a value, 0 if it has none.
func versionOf(value []byte) int {
	var v struct {
		Version int `json:"v"`
	}
	if json.Unmarshal(value, &v) != nil {
		return 0
	}
	return v.Version
}

// newerError means that a newer milena wrote the record. What it says is not known, and not nonsense.
type newerError struct{ version int }

func (e *newerError) Error() string {
	return fmt.Sprintf("the record has version %d, and this milena knows up to %d; upgrade it", e.version, Version)
}

// Check returns why a decision is nonsense, nil if it is not.
func (d *Decision) Check() error {
	err := errors.Join(
		matches("id", d.ID, idForm), text("who", d.Who, maxName, needed), text("why", d.Why, maxText, optional),
		moment("when", d.When, needed), moment("until", d.Until, optional), moment("began", d.Began, optional), d.Scope.check(),
	)
	switch {
	case err != nil:
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	case !d.fits():
		return fmt.Errorf("%s cannot be about %s", d.What, d.Scope)
	case !d.Until.IsZero() && d.What != Pause && d.What != Throttle:
		return fmt.Errorf("%s cannot have until", d.What)
	case !d.Until.IsZero() && !d.Until.After(d.When):
		return errors.New("until is not after when")
	case d.Rate != 0 && d.What != Throttle, d.Rate < 0, d.Rate > maxRate:
		return fmt.Errorf("%s cannot have rate %d", d.What, d.Rate)
	case d.What != Skip && (d.To != nil || d.From != nil):
		return fmt.Errorf("%s cannot have from or to", d.What)
	case (d.To == nil) != (d.From == nil):
		return errors.New("from and to belong together")
	case d.To != nil && (*d.From < 0 || *d.To <= *d.From):
		return fmt.Errorf("to %d is not above from %d", *d.To, *d.From)
	case d.Halt != nil && (d.What != Skip || d.To != nil):
		return errors.New("halt belongs to a skip without from and to")
	case d.What == Skip && d.Halt == nil && d.To == nil:
		return errors.New("skip names neither offsets, from and to, nor what halted the partition, halt")
	case d.Halt != nil && (!haltForm.MatchString(d.Halt.Kind) || d.Halt.From < -1 || d.Halt.To < d.Halt.From):
		return fmt.Errorf("halt by %.50q at %d to %d is none", d.Halt.Kind, d.Halt.From, d.Halt.To)
	}
	return nil
}

// fits reports whether the verb exists and can be about the scope.
func (d *Decision) fits() bool {
	kind := d.Scope.Kind
	switch d.What {
	case Pause, Resume:
		return kind != Group
	case Throttle:
		return kind == Flow || kind == Topic
	case Retry:
		return kind == Flow || kind == Topic || kind == Partition
	case Skip, RestartCopy:
		return kind == Partition
	case Adopt:
		return kind == Group
	case StopFlow, FailOver, StartFlow:
		return kind == Flow
	case SyncGroups:
		return kind == Groups
	}
	return false
}

func (s Scope) check() error {
	bare := Scope{Kind: s.Kind}
	switch s.Kind {
	case Topic, Partition:
		bare.Topic = s.Topic
		if !topicForm.MatchString(s.Topic) {
			return fmt.Errorf("topic %.50q is not the name of a topic", s.Topic)
		}
		if s.Kind == Partition {
			bare.Partition = s.Partition
		}
		if s.Partition < 0 {
			return fmt.Errorf("there is no partition %d", s.Partition)
		}
	case Group:
		bare.Group = s.Group
		if err := text("group", s.Group, maxName, needed); err != nil {
			return err
		}
	case Flow, Groups:
	default:
		return fmt.Errorf("there is no scope %.50q", string(s.Kind))
	}
	if s != bare {
		return fmt.Errorf("a scope of kind %s has fields of another one", s.Kind)
	}
	return nil
}

func (o *Outcome) check() error {
	err := errors.Join(
		matches("id", o.ID, idForm), text("instance", o.Instance, maxName, needed), text("detail", o.Detail, maxText, optional), moment("when", o.When, needed),
	)
	if err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if o.Result != Done && o.Result != Refused && o.Result != Failed {
		return fmt.Errorf("there is no result %.50q", string(o.Result))
	}
	return nil
}

func (e *Event) check() error {
	err := errors.Join(
		matches("id", e.ID, idForm), matches("what", string(e.What), haltForm), text("instance", e.Instance, maxName, needed), text("who", e.Who, maxName, optional),
		text("why", e.Why, maxText, optional), text("detail", e.Detail, maxText, optional), moment("when", e.When, needed), moment("last", e.Last, optional),
	)
	switch {
	case err != nil:
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	case e.Count < 1:
		return fmt.Errorf("count %d is not at least 1", e.Count)
	case e.TookMillis < 0:
		return fmt.Errorf("took_ms %d is below 0", e.TookMillis)
	}
	return nil
}

// presence is whether a field may be empty.
type presence bool

const (
	needed   presence = true
	optional presence = false
)

func matches(name, value string, form *regexp.Regexp) error {
	if !form.MatchString(value) {
		return fmt.Errorf("%s %.50q is not one", name, value)
	}
	return nil
}

func text(name, value string, limit int, how presence) error {
	switch {
	case value == "" && how == needed:
		return fmt.Errorf("%s is missing", name)
	case len(value) > limit:
		return fmt.Errorf("%s has %d bytes, more than %d", name, len(value), limit)
	case strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%s has characters that cannot be printed", name)
	}
	return nil
}

func moment(name string, at time.Time, how presence) error {
	switch {
	case at.IsZero() && how == optional:
		return nil
	case at.Before(yearFirst), at.After(yearLast):
		return fmt.Errorf("%s is not a time between 2020 and 2200", name)
	}
	return nil
}
