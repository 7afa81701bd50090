package compare

import (
	"fmt"
	"slices"
	"time"
)

// Report is what milena in shadow mode knows at one moment.
type Report struct {
	Flow   string `json:"flow"`
	Source string `json:"source"`
	Target string `json:"target"`
	// Seconds is for how long both clusters have been read.
	Seconds float64 `json:"seconds"`
	// Records is the sum over all partitions.
	Records ComparedRecords `json:"records"`
	// Partitions are all that the flow would copy, by topic and number.
	Partitions []PartitionComparison `json:"partitions"`
	// Differences are sentences about what differs, or would if milena did the work. Without one, both are the same.
	Differences []string `json:"differences"`
	// Notes are sentences that are worth knowing and no difference.
	Notes []string `json:"notes,omitempty"`
	// Groups are the consumer groups of which MirrorMaker 2 wrote a checkpoint in the part that was compared.
	Groups []GroupComparison `json:"groups,omitempty"`
}

// ComparedRecords counts the records of the part that was compared.
type ComparedRecords struct {
	// Equal are those on both sides, each source record once.
	Equal int64 `json:"equal"`
	// Twice are copies of a record that was on the target already.
	Twice int64 `json:"twice"`
	// NotOnSource are on the target alone, NotOnTarget on the source alone although later ones were copied.
	NotOnSource int64 `json:"not_on_source"`
	NotOnTarget int64 `json:"not_on_target"`
	// AbortedOnTarget are copies of records whose transaction was aborted, among the equal ones. AbortedNotOnTarget were left out.
	AbortedOnTarget    int64 `json:"aborted_on_target"`
	AbortedNotOnTarget int64 `json:"aborted_not_on_target"`
}

func (r *ComparedRecords) add(o ComparedRecords) {
	r.Equal += o.Equal
	r.Twice += o.Twice
	r.NotOnSource += o.NotOnSource
	r.NotOnTarget += o.NotOnTarget
	r.AbortedOnTarget += o.AbortedOnTarget
	r.AbortedNotOnTarget += o.AbortedNotOnTarget
}

// PartitionComparison is one source partition and its copy. All offsets are exclusive ends on the source.
type PartitionComparison struct {
	Topic       string `json:"topic"`
	TargetTopic string `json:"target_topic"`
	Partition   int32  `json:"partition"`
	SourceEnd   int64  `json:"source_end"`
	// Mirrored is where MirrorMaker 2 is: one above the newest record that is on the target. Absent while unknown.
	Mirrored *int64 `json:"mirrored,omitempty"`
	// Milena is where milena would be: below it all is read, and decided when the flow waits for transactions to end.
	Milena int64 `json:"milena"`
	// LagRecords is how many records MirrorMaker 2 has yet to copy; LagSeconds the time between its newest record and the source's, by
	// their timestamps. AtLeast says that the source has more than was read, so that the seconds are a lower bound.
	LagRecords int64    `json:"lag_records"`
	LagSeconds *float64 `json:"lag_seconds,omitempty"`
	AtLeast    bool     `json:"at_least,omitempty"`
	// Unread is how much of the copy has yet to be compared: MirrorMaker 2 may be as much further than Mirrored and LagRecords say.
	Unread int64 `json:"unread"`
	ComparedRecords
	// Differs says that the sentences speak of the partition.
	Differs bool `json:"differs"`
}

// GroupComparison is one position of a consumer group as MirrorMaker 2 translated it, beside the exact one.
type GroupComparison struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Committed is the offset on the source. Mirrored and Exact are what it is on the target.
	Committed int64 `json:"committed"`
	Mirrored  int64 `json:"mirrored"`
	Exact     int64 `json:"exact"`
	// ReadAgain is how many records the group would read again on the target; below zero, how many it would miss, unless they stand there twice.
	ReadAgain int64 `json:"read_again"`
}

// unreadNoted is how many records on their way are worth a note.
const unreadNoted = 10_000

// roundsToBegin is how many rounds the first pairs may take.
const roundsToBegin = 20

// publish makes a new picture.
func (c *Comparison) publish() {
	flow := c.clusters.Flow
	s := &Report{
		Flow: flow.Name, Source: flow.Source, Target: flow.Target, Seconds: time.Since(c.began).Seconds(),
		Partitions: make([]PartitionComparison, 0, len(c.order)), Differences: c.planDifferences(), Groups: c.groups,
	}
	held, unread := false, int64(0)
	for _, p := range c.order {
		state, differences := p.picture(), p.differences()
		state.Differs = len(differences) > 0
		s.Records.add(state.ComparedRecords)
		s.Partitions = append(s.Partitions, state)
		s.Differences = append(s.Differences, differences...)
		if note := p.compactionNote(); note != "" {
			s.Notes = append(s.Notes, note)
		}
		unread += state.Unread
		held = held || state.SourceEnd > p.sourceStart
	}
	if held && s.Records.Equal == 0 && (c.over || c.turn > roundsToBegin) {
		s.Differences = append(s.Differences, "no record of the source was found on the target: is MirrorMaker 2 running, and is this its file?")
	}
	if unread > unreadNoted || c.over && unread > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("%d records of the copies have yet to be compared: MirrorMaker 2 may be as much further than is shown", unread))
	}
	for i := range c.sides {
		if text := c.sides[i].trouble.Load(); text != nil {
			s.Differences = append(s.Differences, "could not be read, so nothing is known of it: "+*text)
		}
	}
	if c.trouble != "" {
		s.Differences = append(s.Differences, "could not be looked at: "+c.trouble)
	}
	s.Notes = append(s.Notes, c.plan.Warnings...)
	c.latest.Store(s)
}

// planDifferences are sentences about topics: what milena would make or change when it is started.
func (c *Comparison) planDifferences() []string {
	list := []string{}
	for _, t := range c.plan.Topics {
		switch t.Action {
		case "create":
			list = append(list, fmt.Sprintf("topic %s: MirrorMaker 2 has not made %s yet; milena would make it with %d partitions", t.Source, t.Target, t.Partitions))
		case "grow":
			list = append(list, fmt.Sprintf("topic %s: %s has fewer partitions than the %d of the source; milena would add them", t.Source, t.Target, t.Partitions))
		}
		if t.Action != "create" {
			for _, config := range t.Configs {
				list = append(list, fmt.Sprintf("topic %s: milena would change a config of %s: %s", t.Source, t.Target, config))
			}
		}
	}
	mirrored := make(map[string]bool)
	for key := range c.progress.Positions {
		mirrored[key.Topic] = true
	}
	for _, skip := range c.plan.Skipped {
		if mirrored[skip.Topic] {
			list = append(list, fmt.Sprintf("topic %s: MirrorMaker 2 has copied it, milena would not: %s %s", skip.Topic, skip.Topic, skip.Reason))
		}
	}
	for _, text := range c.plan.Refused {
		list = append(list, "milena would not work: "+text)
	}
	return list
}

// picture is what is known of a partition.
func (p *followed) picture() PartitionComparison {
	s := PartitionComparison{
		Topic: p.Topic, TargetTopic: p.target, Partition: p.Partition, SourceEnd: p.sourceEnd, Milena: max(p.sourceNext, p.known, p.sourceStart, 0),
		ComparedRecords: p.total(), AtLeast: max(p.sourceNext, p.known) < p.sourceEnd,
	}
	s.Unread = max(0, p.targetEnd-p.targetNext) + int64(len(p.waiting))
	if p.committed {
		for _, t := range p.open {
			s.Milena = min(s.Milena, t.first) // behind it, nothing is decided
		}
	}
	mirrored := p.position
	if p.begun {
		mirrored = p.matcher.Next()
	}
	if mirrored >= 0 {
		s.Mirrored = &mirrored
	}
	s.LagRecords = p.lag(mirrored)
	switch seconds := float64(p.sourceAt-p.mirroredAt) / 1000; {
	case s.LagRecords == 0:
		s.LagSeconds = new(float64)
	case p.sourceAt >= 0 && p.mirroredAt >= 0:
		seconds = max(seconds, 0)
		s.LagSeconds = &seconds
	}
	return s
}

// lag counts the records that MirrorMaker 2 has yet to copy: those that were read, exactly, and offsets where they were not.
func (p *followed) lag(mirrored int64) int64 {
	if !p.begun {
		return max(0, p.sourceEnd-max(mirrored, p.sourceStart))
	}
	lag := p.matcher.CountFrom(mirrored) + max(0, p.sourceEnd-max(p.sourceNext, mirrored))
	for _, b := range p.batches {
		if b.transaction.aborted && b.first >= mirrored {
			lag -= b.count
		}
	}
	return max(0, lag)
}

func (p *followed) total() ComparedRecords {
	t := p.counts
	t.add(p.earlier)
	return t
}

// differences are sentences about a partition: how many, what it means, what to do.
func (p *followed) differences() []string {
	var list []string
	say := func(n int64, text string) {
		if n == 1 {
			list = append(list, fmt.Sprintf("%s: 1 record %s", p, text))
		} else if n > 1 {
			list = append(list, fmt.Sprintf("%s: %d records %s", p, n, text))
		}
	}
	t := p.total()
	say(t.Twice, "twice on the target: MirrorMaker 2 was restarted or sent them again; milena writes each once, and takes over what is there as it is")
	if !p.compacted {
		say(t.NotOnSource, fmt.Sprintf("of %s-%d not on the source: somebody else writes to the copy, or the source lost them; find out before you switch, milena halts a partition that others write (foreign_write)", p.target, p.Partition))
		say(t.NotOnTarget, "before MirrorMaker 2's position not on the target: it left them out, and milena does not go back for them when it takes over")
	}
	if p.committed {
		say(t.AbortedOnTarget, "of aborted transactions on the target: milena would leave them out, as this flow is read_committed")
	} else {
		say(t.AbortedNotOnTarget, "of aborted transactions not on the target: milena would copy them, as this flow is read_uncommitted")
	}
	if p.restarted != "" {
		list = append(list, fmt.Sprintf("%s: %s; the comparison went on near the end of the copy, and what lies between is not compared", p, p.restarted))
	}
	if p.problem != "" {
		list = append(list, fmt.Sprintf("%s: %s", p, p.problem))
	}
	return list
}

// compactionNote tells of records that a cleaner may have taken from one side and not yet from the other.
func (p *followed) compactionNote() string {
	t := p.total()
	if !p.compacted || t.NotOnSource+t.NotOnTarget == 0 {
		return ""
	}
	return fmt.Sprintf("%s is compacted: %d records are on the target alone and %d on the source alone, which the cleaners explain", p, t.NotOnSource, t.NotOnTarget)
}

// Worst are up to n partitions that are worth a look, those that differ first, then those with the most lag.
func (s *Report) Worst(n int) []PartitionComparison {
	list := slices.Clone(s.Partitions)
	rank := func(p PartitionComparison) int64 {
		if p.Differs {
			return 1<<62 + p.LagRecords
		}
		return p.LagRecords
	}
	slices.SortStableFunc(list, func(a, b PartitionComparison) int {
		switch x, y := rank(a), rank(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	return list[:min(n, len(list))]
}
