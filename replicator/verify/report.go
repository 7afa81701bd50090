package verify

import (
	"fmt"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// Result is what a verification found.
type Result string

// The results.
const (
	// Equal means that every record in the verified range is equal on both sides.
	Equal Result = "equal"
	// Different means that at least one record is not.
	Different Result = "different"
	// NotVerified means that no difference was found, and something could not be verified.
	NotVerified Result = "not_verified"
)

// What is what differs between a partition and its copy.
type What string

// What differs.
const (
	Key       What = "key"
	Value     What = "value"
	Headers   What = "headers"
	Timestamp What = "timestamp"
	// MissingOnTarget is a record that was copied and that the target lacks.
	MissingOnTarget What = "missing_on_target"
	// MissingOnSource is a record that was copied and that the source lacks.
	MissingOnSource What = "missing_on_source"
	// NotCopied is a record of the source that the map passes over, and that should have been copied.
	NotCopied What = "not_copied"
	// ExtraOnTarget is a record of the target that the map passes over: somebody else wrote it, or it was copied twice.
	ExtraOnTarget What = "extra_on_target"
	// DamagedOnSource and DamagedOnTarget are batches whose bytes do not fit their checksum, or that cannot be decoded.
	DamagedOnSource What = "damaged_on_source"
	DamagedOnTarget What = "damaged_on_target"
)

// Report is what a verification found, or has found so far. It is printed as JSON.
type Report struct {
	Flow    string    `json:"flow"`
	Source  string    `json:"source"`
	Target  string    `json:"target"`
	Result  Result    `json:"result"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"` // of this run
	// From and To limit the timestamps of the verified records, absent if they are not limited.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Sample is the part of the offsets that is verified, 1 for all.
	Sample float64 `json:"sample"`
	Counts
	// NotCopied has the selected topics of the source that cannot be copied, with the reason.
	NotCopied  map[string]string `json:"not_copied,omitempty"`
	Partitions []Partition       `json:"partitions"`
}

// Counts are sums of what was verified.
type Counts struct {
	// Records are those that are equal. Each was compared as part of a batch of the same bytes (ByBytes) or by its content (ByContent).
	Records   int64 `json:"records"`
	ByBytes   int64 `json:"records_by_bytes"`
	ByContent int64 `json:"records_by_content"`
	// Bytes is the size of the verified batches of the source, compressed as they are.
	Bytes int64 `json:"bytes"`
	// WithoutTimestamp are those of Records whose timestamps were not compared, because the target's broker set them.
	WithoutTimestamp int64 `json:"records_without_timestamp"`
	// Differing are records that are not equal.
	Differing int64 `json:"records_differing"`
	// CleanedOnSource and CleanedOnTarget are records that only the other side has, because a log cleaner removed them.
	CleanedOnSource int64 `json:"cleaned_on_source"`
	CleanedOnTarget int64 `json:"cleaned_on_target"`
	// Aborted are records of the source in aborted transactions, which are not copied.
	Aborted int64 `json:"aborted"`
	// Skipped are records that an anomaly decided not to copy, or records of others that an anomaly decided to accept. The gap ledger has them.
	Skipped int64 `json:"skipped"`
	// Foreign are records that others may write to the target, or that come from it, in a flow with provenance.
	Foreign int64 `json:"foreign"`
}

func (c *Counts) add(o Counts) {
	c.Records += o.Records
	c.ByBytes += o.ByBytes
	c.ByContent += o.ByContent
	c.Bytes += o.Bytes
	c.WithoutTimestamp += o.WithoutTimestamp
	c.Differing += o.Differing
	c.CleanedOnSource += o.CleanedOnSource
	c.CleanedOnTarget += o.CleanedOnTarget
	c.Aborted += o.Aborted
	c.Skipped += o.Skipped
	c.Foreign += o.Foreign
}

// drop counts records of the source that its reading left out.
func (c *Counts) drop(reason recordbatch.Reason, records int64) {
	if reason == recordbatch.ReasonAborted {
		c.Aborted += records
	}
}

// Range is a range of offsets of both logs: from inclusive, to exclusive.
type Range struct {
	SourceFrom int64 `json:"source_from"`
	SourceTo   int64 `json:"source_to"`
	TargetFrom int64 `json:"target_from"`
	TargetTo   int64 `json:"target_to"`
}

func (r *Range) begin(at offsets.Pair) { r.SourceFrom, r.TargetFrom = at.Source, at.Target }
func (r *Range) end(at offsets.Pair)   { r.SourceTo, r.TargetTo = at.Source, at.Target }

// Partition is what was found in one partition.
type Partition struct {
	Topic       string `json:"topic"`
	TargetTopic string `json:"target_topic"`
	Partition   int32  `json:"partition"`
	Result      Result `json:"result"`
	// Verified is what was verified so far, null if nothing was. With a sample it is the range that the sample is of.
	Verified *Range `json:"verified"`
	Counts
	// Differences are the first ones, in the order of the logs. Differing counts all.
	Differences []Difference `json:"differences,omitempty"`
	// NotVerified is why the partition, or the rest of it, was not verified; empty if it was.
	NotVerified string `json:"not_verified_because,omitempty"`
	// Notes are sentences about what limits the verified range.
	Notes []string `json:"notes,omitempty"`
}

// maxDifferences is how many differences of a partition are listed.
const maxDifferences = 20

// Difference is a record that is not equal, or several in a row of which the same is wrong.
type Difference struct {
	What What `json:"what"`
	// SourceOffset and TargetOffset are where the first record is, or should be; null where that is not known.
	SourceOffset *int64 `json:"source_offset"`
	TargetOffset *int64 `json:"target_offset"`
	Records      int64  `json:"records"`
	Detail       string `json:"detail"`
}

// String is the difference in one line.
func (d Difference) String() string {
	offset := func(of *int64) string {
		if of == nil {
			return "-"
		}
		return fmt.Sprint(*of)
	}
	records := "1 record"
	if d.Records != 1 {
		records = fmt.Sprintf("%d records", d.Records)
	}
	return fmt.Sprintf("%s from source offset %s, target offset %s on: %s: %s", records, offset(d.SourceOffset), offset(d.TargetOffset), d.What, d.Detail)
}

// differ adds a difference. Offsets of -1 are not known. One that continues the last one is added to it.
func (p *Partition) differ(what What, at offsets.Pair, records int64, detail string) {
	p.Differing += records
	if n := len(p.Differences); n > 0 && p.Differences[n-1].continues(what, at) {
		p.Differences[n-1].Records += records
		return
	}
	if len(p.Differences) >= maxDifferences {
		return
	}
	d := Difference{What: what, Records: records, Detail: detail}
	if at.Source >= 0 {
		d.SourceOffset = &at.Source
	}
	if at.Target >= 0 {
		d.TargetOffset = &at.Target
	}
	p.Differences = append(p.Differences, d)
}

// continues reports whether a record stands right behind those of a difference, and the same is wrong with it.
func (d *Difference) continues(what What, at offsets.Pair) bool {
	behind := func(offset *int64, next int64) bool {
		if offset == nil {
			return next < 0
		}
		return next == *offset+d.Records
	}
	return d.What == what && behind(d.SourceOffset, at.Source) && behind(d.TargetOffset, at.Target)
}

// maxNotes is how many notes a partition has at most: retention may delete what is to be verified again and again.
const maxNotes = 20

// note adds a sentence about what limits the verified range.
func (p *Partition) note(format string, args ...any) {
	const more = "more was deleted before it was verified than these notes say"
	switch n := len(p.Notes); {
	case n < maxNotes-1:
		p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
	case n == maxNotes-1:
		p.Notes = append(p.Notes, more)
	}
}

// conclude sets the result.
func (p *Partition) conclude() {
	switch {
	case p.Differing > 0:
		p.Result = Different
	case p.NotVerified != "":
		p.Result = NotVerified
	default:
		p.Result = Equal
	}
}

// conclude sums the partitions up and sets the result.
func (r *Report) conclude() {
	r.Counts, r.Result = Counts{}, Equal
	if len(r.NotCopied) > 0 {
		r.Result = NotVerified
	}
	for i := range r.Partitions {
		p := &r.Partitions[i]
		r.add(p.Counts)
		switch {
		case p.Result == Different:
			r.Result = Different
		case p.Result == NotVerified && r.Result == Equal:
			r.Result = NotVerified
		}
	}
}
