package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

const (
	// MaxProgress is the maximum number of partitions whose progress a state has, of all runs together. Those of the flow itself count on their own.
	MaxProgress = 50_000
	// ProgressAge is for how long the progress of a run is kept after it began. A run that is complete deletes its own.
	ProgressAge = 30 * 24 * time.Hour
	// MaxProgressValue is the maximum size of the progress of one partition, in bytes.
	MaxProgressValue = 32 << 10
	// At most so many runs, and so many bytes of the progress of all partitions.
	maxRuns, maxProgressBytes = 100, 32 << 20
)

var (
	slotForm = regexp.MustCompile(`^[0-9a-f]{1,64}$`)
	partForm = regexp.MustCompile(`^[0-9A-Za-z._-]{1,249}/[0-9]{1,10}$`)
)

// Run is a verification that keeps its progress: what all of its partitions share.
type Run struct {
	Version int       `json:"v"`
	ID      string    `json:"id"`
	Slot    string    `json:"slot"` // of what is verified, as hexadecimal digits: a newer run of a slot replaces the older one
	Who     string    `json:"who"`
	When    time.Time `json:"when"` // the run began
	// Document is what the verification wants to know again. It is opaque here.
	Document json.RawMessage `json:"document"`
}

// NewRun returns a run that begins now.
func NewRun(slot, who string, document []byte) Run {
	d := New("", Scope{}, who, "")
	return Run{Version: Version, ID: d.ID, Slot: slot, Who: who, When: d.When, Document: document}
}

// Entry returns the record of the run.
func (r Run) Entry() Entry { return Entry{Key: runPrefix + r.Slot, Value: encode(r)} }

// PartEntry returns the record of the progress of one partition of the run. The document is a JSON object; nil deletes it.
func (r Run) PartEntry(tp offsets.TopicPartition, document []byte) Entry {
	e := Entry{Key: runPrefix + r.Slot + "/" + r.ID + "/" + partName(tp)}
	if document != nil {
		e.Value = encode(part{Version, document})
	}
	return e
}

// Verified is how far the flow itself has verified a partition, and what it found. Times are UTC.
type Verified struct {
	Version int `json:"v"`
	// Upto is the source offset below which everything was verified at least once, exclusive.
	Upto int64 `json:"upto"`
	// Checked is when the partition was last verified, Pass when the present pass over it began, and Whole when the last pass reached the end.
	Checked time.Time `json:"checked"`
	Pass    time.Time `json:"pass"`
	Whole   time.Time `json:"whole,omitzero"`
	// Differing are the records that differ by the last complete pass and the present one, and Differences the first of them, as sentences.
	Differing   int64    `json:"differing,omitempty"`
	Differences []string `json:"differences,omitempty"`
	// Why is why the partition could not be verified, empty if it could.
	Why string `json:"why,omitempty"`
	// Last is what the last complete pass found, as far as the present one has not replaced it. Progress is where the present pass is. Both are opaque here.
	Last     json.RawMessage `json:"last,omitempty"`
	Progress json.RawMessage `json:"progress,omitempty"`
}

// VerifiedStatus is how far the copy of a partition was verified by the flow itself. Offsets are those of the source.
type VerifiedStatus struct {
	// Upto is the end of what was verified, exclusive. It is all equal if Differing is 0.
	Upto int64 `json:"upto"`
	// Checked is when something of the partition was last verified, and Whole when a pass last reached the end; absent if none did.
	Checked time.Time `json:"checked"`
	Whole   time.Time `json:"whole,omitzero"`
	// Differing counts the records that differ, and Differences has the first of them.
	Differing   int64    `json:"differing"`
	Differences []string `json:"differences,omitempty"`
	// NotVerified is why the partition, or the rest of it, could not be verified, empty if it could.
	NotVerified string `json:"not_verified_because,omitempty"`
}

// Status is what people want to know of it, nil if nothing was tried yet.
func (v *Verified) Status() *VerifiedStatus {
	if v.Checked.IsZero() && v.Why == "" {
		return nil
	}
	return &VerifiedStatus{v.Upto, v.Checked, v.Whole, v.Differing, v.Differences, v.Why}
}

// Problem is a sentence about a difference, empty if there is none.
func (s *VerifiedStatus) Problem() string {
	switch {
	case s == nil || s.Differing == 0:
		return ""
	case len(s.Differences) == 0:
		return fmt.Sprintf("the copy differs from the source: %d records", s.Differing)
	}
	return fmt.Sprintf("the copy differs from the source (%d of its records), first: %s", s.Differing, s.Differences[0])
}

// String is a clause that says how far the copy was verified.
func (s *VerifiedStatus) String() string {
	text := s.Problem()
	if text == "" && s.Checked.IsZero() {
		return "not verified: " + s.NotVerified
	}
	if text == "" {
		text = fmt.Sprintf("equal up to %d", s.Upto)
	}
	text += ", checked at " + s.Checked.Format(time.RFC3339)
	if s.NotVerified != "" {
		text += "; what follows is not verified: " + s.NotVerified
	}
	return text
}

// OwnEntry returns the record of how far the flow itself has verified a partition; nil deletes it.
func OwnEntry(tp offsets.TopicPartition, v *Verified) Entry {
	e := Entry{Key: ownPrefix + partName(tp)}
	if v != nil {
		written := *v
		written.Version = Version
		e.Value = encode(written)
	}
	return e
}

func partName(tp offsets.TopicPartition) string {
	return tp.Topic + "/" + strconv.Itoa(int(tp.Partition))
}

// Chunks splits entries into batches that a broker takes.
func Chunks(entries []Entry) (list [][]Entry) {
	size, from := 0, 0
	for i, e := range entries {
		if n := len(e.Key) + len(e.Value); i > from && (i-from == MaxEntries || size+n > maxBatch) {
			list = append(list, entries[from:i])
			size, from = 0, i
		}
		size += len(e.Key) + len(e.Value)
	}
	if from < len(entries) {
		list = append(list, entries[from:])
	}
	return list
}

// maxBatch is how many bytes of entries are written at a time.
const maxBatch = 512 << 10

// limitOf is the maximum size of the value of a key, in bytes.
func limitOf(key string) int {
	if strings.HasPrefix(key, recoveryPrefix) {
		return MaxRecoveryValue
	}
	if strings.HasPrefix(key, runPrefix) || strings.HasPrefix(key, ownPrefix) {
		return MaxProgressValue
	}
	return maxValue
}

// part is the progress of one partition.
type part struct {
	Version  int             `json:"v"`
	Document json.RawMessage `json:"document"`
}

// ownPart is what a state wants to know of a [Verified].
type ownPart struct {
	Version int       `json:"v"`
	Checked time.Time `json:"checked"`
	Pass    time.Time `json:"pass"`
}

// progress is what verifications keep.
type progress struct {
	runs  map[string]Run                        // by slot
	parts map[string]map[string]json.RawMessage // by slot and id of the run, then by partition; and the flow's own ones under ownPrefix
	tried map[string]time.Time                  // when the flow was last at it, by partition of its own ones
	count int                                   // of parts of runs
	bytes int                                   // of all parts
}

// applyRun takes a record of a run, or of one of its partitions.
func (p *progress) applyRun(key string, value []byte) error {
	slot, rest, isPart := strings.Cut(strings.TrimPrefix(key, runPrefix), "/")
	if isPart {
		id, name, _ := strings.Cut(rest, "/")
		if value != nil && (!slotForm.MatchString(slot) || !idForm.MatchString(id)) { // else nonsense was deleted
			return fmt.Errorf("the key %.80q has no run", key)
		}
		return p.applyPart(slot+"/"+id, name, value)
	}
	if value == nil {
		delete(p.runs, slot)
		return nil
	}
	var r Run
	if err := decode(value, &r, &r.Version); err != nil {
		return err
	}
	if err := errors.Join(matches("id", r.ID, idForm), matches("slot", r.Slot, slotForm), text("who", r.Who, maxName, needed), moment("when", r.When, needed)); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if r.Slot != slot {
		return fmt.Errorf("the key %.80q is not that of the value, with slot %q", key, r.Slot)
	}
	if _, ok := p.runs[slot]; !ok && len(p.runs) >= maxRuns {
		return fmt.Errorf("%w: there are %d verifications already", errFull, len(p.runs))
	}
	if p.runs == nil {
		p.runs = make(map[string]Run)
	}
	p.runs[slot] = r
	return nil
}

// applyPart takes the progress of one partition.
func (p *progress) applyPart(of, name string, value []byte) error {
	before, known := p.parts[of][name]
	if value == nil {
		delete(p.parts[of], name)
		if len(p.parts[of]) == 0 {
			delete(p.parts, of)
		}
		if known {
			p.add(of, -1, -len(before))
		}
		if of == ownPrefix {
			delete(p.tried, name)
		}
		return nil
	}
	if !partForm.MatchString(name) {
		return fmt.Errorf("%.80q is not a partition", name)
	}
	kept, tried, err := decodePart(of, value)
	if err != nil {
		return err
	}
	if !known && of != ownPrefix && p.count >= MaxProgress || p.bytes+len(value)-len(before) > maxProgressBytes {
		return fmt.Errorf("%w: there is too much progress of verifications already", errFull)
	}
	if p.parts == nil {
		p.parts, p.tried = make(map[string]map[string]json.RawMessage), make(map[string]time.Time)
	}
	if of == ownPrefix {
		p.tried[name] = tried
	}
	if p.parts[of] == nil {
		p.parts[of] = make(map[string]json.RawMessage)
	}
	if !known {
		p.add(of, 1, 0)
	}
	p.add(of, 0, len(kept)-len(before))
	p.parts[of][name] = kept
	return nil
}

// decodePart returns what is kept of the progress of a partition. All of the flow's own one is.
func decodePart(of string, value []byte) (kept json.RawMessage, tried time.Time, err error) {
	if of != ownPrefix {
		var v part
		err = decode(value, &v, &v.Version)
		return v.Document, tried, err
	}
	var v ownPart
	err = decode(value, &v, &v.Version)
	if tried = v.Checked; v.Pass.After(tried) {
		tried = v.Pass
	}
	return value, tried, err
}

// value returns the value that a key should have, nil for none.
func (p *progress) value(key string) []byte {
	if name, ok := strings.CutPrefix(key, ownPrefix); ok {
		return p.parts[ownPrefix][name]
	}
	slot, rest, isPart := strings.Cut(strings.TrimPrefix(key, runPrefix), "/")
	r, known := p.runs[slot]
	if !known || !isPart {
		if known {
			return encode(r)
		}
		return nil
	}
	id, name, _ := strings.Cut(rest, "/")
	if document := p.parts[slot+"/"+id][name]; document != nil && id == r.ID {
		return encode(part{Version, document})
	}
	return nil
}

func (p *progress) add(of string, parts, bytes int) {
	if of != ownPrefix {
		p.count += parts
	}
	p.bytes += bytes
}

// housekeep returns tombstones of runs that are too old, of parts without a run, and of what the flow verified of partitions that it verifies no longer.
func (p *progress) housekeep(now time.Time) (entries []Entry) {
	kept := map[string]bool{ownPrefix: true}
	for _, name := range slices.Sorted(maps.Keys(p.tried)) {
		if now.Sub(p.tried[name]) > ProgressAge {
			entries = append(entries, Entry{Key: ownPrefix + name})
		}
	}
	for _, slot := range slices.Sorted(maps.Keys(p.runs)) {
		if r := p.runs[slot]; now.Sub(r.When) > ProgressAge {
			entries = append(entries, Entry{Key: runPrefix + slot})
		} else {
			kept[slot+"/"+r.ID] = true
		}
	}
	for _, of := range slices.Sorted(maps.Keys(p.parts)) {
		if kept[of] {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(p.parts[of])) {
			entries = append(entries, Entry{Key: runPrefix + of + "/" + name})
		}
	}
	return entries
}

// RunOf returns the run of a slot and the progress of its partitions. It reports false if there is none, or it is too old.
func (s *State) RunOf(slot string, now time.Time) (r Run, parts []json.RawMessage, ok bool) {
	r, ok = s.progress.runs[slot]
	if !ok || now.Sub(r.When) > ProgressAge {
		return Run{}, nil, false
	}
	return r, slices.Collect(maps.Values(s.progress.parts[slot+"/"+r.ID])), true
}

// ForgetRun returns records that delete what is kept of a slot.
func (s *State) ForgetRun(slot string) (entries []Entry) {
	if _, ok := s.progress.runs[slot]; ok {
		entries = append(entries, Entry{Key: runPrefix + slot})
	}
	for _, of := range slices.Sorted(maps.Keys(s.progress.parts)) {
		if !strings.HasPrefix(of, slot+"/") {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(s.progress.parts[of])) {
			entries = append(entries, Entry{Key: runPrefix + of + "/" + name})
		}
	}
	return entries
}

// Own returns how far the flow itself has verified a partition. It reports false if that is not known.
func (s *State) Own(tp offsets.TopicPartition) (v Verified, ok bool) {
	kept, ok := s.progress.parts[ownPrefix][partName(tp)]
	return v, ok && json.Unmarshal(kept, &v) == nil
}
