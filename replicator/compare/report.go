package compare

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Report is what a comparison has found so far.
type Report struct {
	Flow   string `json:"flow"`
	Source string `json:"source"`
	Target string `json:"target"`
	// Seconds is how long the comparison has run.
	Seconds float64 `json:"seconds"`
	// Records is the sum over all partitions.
	Records Counts `json:"records"`
	// Partitions are all that the flow would copy, by topic and partition.
	Partitions []Partition `json:"partitions"`
	// Differences are sentences about what differs, or would differ if milena did the work.
	Differences []string `json:"differences"`
	// Notes are sentences that are useful to know and no difference.
	Notes []string `json:"notes,omitempty"`
	// Groups are the committed offsets of consumer groups for which MirrorMaker 2 wrote a checkpoint in the part that was compared.
	Groups []Group `json:"groups,omitempty"`
}

// Counts counts the records of the part that was compared.
type Counts struct {
	// Equal counts records that are on both sides, each source record once.
	Equal int64 `json:"equal"`
	// Duplicates counts target records whose source record has an earlier copy.
	Duplicates int64 `json:"twice"`
	// NotOnSource counts records that are only on the target, NotOnTarget those that are only on the source although later ones were copied.
	NotOnSource int64 `json:"not_on_source"`
	NotOnTarget int64 `json:"not_on_target"`
	// AbortedOnTarget counts those of Equal whose transaction was aborted, AbortedNotOnTarget such records that were not copied.
	AbortedOnTarget    int64 `json:"aborted_on_target"`
	AbortedNotOnTarget int64 `json:"aborted_not_on_target"`
}

func (c *Counts) add(o Counts) {
	c.Equal += o.Equal
	c.Duplicates += o.Duplicates
	c.NotOnSource += o.NotOnSource
	c.NotOnTarget += o.NotOnTarget
	c.AbortedOnTarget += o.AbortedOnTarget
	c.AbortedNotOnTarget += o.AbortedNotOnTarget
}

// Partition is one source partition and its copy. All offsets are source offsets, exclusive.
type Partition struct {
	Topic       string `json:"topic"`
	TargetTopic string `json:"target_topic"`
	Partition   int32  `json:"partition"`
	SourceEnd   int64  `json:"source_end"`
	// Mirrored is how far MirrorMaker 2 is: one above the newest record that is on the target. Nil if unknown.
	Mirrored *int64 `json:"mirrored,omitempty"`
	// Milena is how far milena would be: everything below it was read, and, if the flow is read_committed, its transactions have ended.
	Milena int64 `json:"milena"`
	// LagRecords counts the records that MirrorMaker 2 has not copied yet. LagSeconds is the time between its newest record and the newest one of
	// the source, by their timestamps; nil if unknown. AtLeast says that the source has more than was read, so LagSeconds is a lower bound.
	LagRecords int64    `json:"lag_records"`
	LagSeconds *float64 `json:"lag_seconds,omitempty"`
	AtLeast    bool     `json:"at_least,omitempty"`
	// Unread counts the offsets of the copy that are not compared yet. MirrorMaker 2 may be that far ahead of Mirrored and LagRecords.
	Unread int64 `json:"unread"`
	Counts
	// Differs says that some of the report's differences are about this partition.
	Differs bool `json:"differs"`
}

// Group is one committed offset of a consumer group, as MirrorMaker 2 translated it and as it is exactly.
type Group struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Committed is the offset on the source. Mirrored and Exact are the offsets on the target.
	Committed int64 `json:"committed"`
	Mirrored  int64 `json:"mirrored"`
	Exact     int64 `json:"exact"`
	// Reread counts the records that the group would read again on the target. A negative count is the number of records that it would skip,
	// unless they are duplicates.
	Reread int64 `json:"read_again"`
}

// Worst returns up to n partitions: first those that differ, then those with the most lag.
func (r *Report) Worst(n int) []Partition {
	list := slices.Clone(r.Partitions)
	slices.SortStableFunc(list, func(a, b Partition) int {
		if a.Differs != b.Differs {
			if a.Differs {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.LagRecords, a.LagRecords)
	})
	return list[:min(n, len(list))]
}

const (
	// More records than this that are not compared yet deserve a note.
	manyUnread = 10_000
	// How many syncs of the records it may take to find the first match.
	syncsToBegin = 20
)

// publish makes a new report.
func (c *Comparison) publish() {
	flow := c.topology.clusters.Flow
	r := &Report{
		Flow: flow.Name, Source: flow.Source, Target: flow.Target, Seconds: time.Since(c.began).Seconds(),
		Partitions: make([]Partition, 0, len(c.logs.partitions)), Differences: c.planDifferences(), Groups: c.groups,
	}
	hasRecords, unread := false, int64(0)
	for _, p := range c.logs.partitions {
		state, differences := p.report(), p.differences()
		state.Differs = len(differences) > 0
		r.Records.add(state.Counts)
		r.Partitions = append(r.Partitions, state)
		r.Differences = append(r.Differences, differences...)
		if note := p.compactionNote(); note != "" {
			r.Notes = append(r.Notes, note)
		}
		unread += state.Unread
		hasRecords = hasRecords || state.SourceEnd > p.source.start
	}
	if hasRecords && r.Records.Equal == 0 && (c.concluded || c.logs.syncs > syncsToBegin) {
		r.Differences = append(r.Differences, "no record of the source was found on the target: is MirrorMaker 2 running, and is this its config file?")
	}
	r.Differences = append(r.Differences, c.problems()...)
	if unread > manyUnread || c.concluded && unread > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d records of the copies are not compared yet; MirrorMaker 2 may be that far ahead of what is shown", unread))
	}
	r.Notes = append(r.Notes, c.topology.plan.Warnings...)
	c.latest.Store(r)
}

// report returns what is known of a partition, without Differs.
func (p *partition) report() Partition {
	r := Partition{
		Topic: p.source.Topic, TargetTopic: p.copied.Topic, Partition: p.source.Partition, SourceEnd: p.source.end, Milena: max(p.source.read(), p.source.start, 0),
		Counts: p.tally.total(), AtLeast: p.source.read() < p.source.end,
	}
	r.Unread = max(0, p.copied.end-p.copied.next) + int64(len(p.waiting))
	if p.committed {
		r.Milena = p.transactions.firstOpen(r.Milena)
	}
	mirrored := p.connectorOffset
	if p.begun {
		mirrored = p.matcher.Next()
	}
	if mirrored >= 0 {
		r.Mirrored = &mirrored
	}
	r.LagRecords = p.lag(mirrored)
	switch seconds, ok := p.newest.seconds(); {
	case r.LagRecords == 0:
		r.LagSeconds = new(float64)
	case ok:
		r.LagSeconds = &seconds
	}
	return r
}

// lag counts the records that MirrorMaker 2 has not copied yet: exactly as far as the source was read, and by offsets beyond.
func (p *partition) lag(mirrored int64) int64 {
	if !p.begun {
		return max(0, p.source.end-max(mirrored, p.source.start))
	}
	lag := p.matcher.CountFrom(mirrored) + max(0, p.source.end-max(p.source.next, mirrored))
	return max(0, lag-p.transactions.abortedFrom(mirrored))
}
