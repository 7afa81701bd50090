package recovery

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Drilled is what a drill has measured and found. Nothing of it depends on the order in which things happened to be read.
type Drilled struct {
	// Passed means that nothing was found.
	Passed bool `json:"passed"`
	// RPO are the samples, and RPOSeconds the greatest of their ages, null if the copy was not complete at some of them.
	RPO        []Sample `json:"rpo"`
	RPOSeconds *float64 `json:"rpo_seconds"`
	// RTOSeconds is how long the steps took that a failover has too, null if one of them was not carried out.
	RTOSeconds *float64 `json:"rto_seconds"`
	// The objectives of the flow; absent if it has none.
	RPOObjectiveSeconds float64 `json:"rpo_objective_seconds,omitempty"`
	RTOObjectiveSeconds float64 `json:"rto_objective_seconds,omitempty"`
	// Findings are what a failover or a switchover would suffer from, and OtherFindings how many more there are than are listed.
	Findings      []Finding `json:"findings"`
	OtherFindings int       `json:"other_findings,omitempty"`
	// Notes are worth knowing, and no findings.
	Notes []string `json:"notes"`
	// Groups are those of which positions were looked at, and OtherGroups how many more there are than are listed.
	Groups      []DrilledGroup `json:"groups"`
	OtherGroups int            `json:"other_groups,omitempty"`
	// Positions is how many positions the groups have, and Checked how many were looked at.
	Positions int `json:"positions"`
	Checked   int `json:"checked"`
}

// Sample is what a failover would have lost at one moment.
type Sample struct {
	At time.Time `json:"at"`
	// AgeSeconds is the age of the time up to which the copy was complete, null if it never was, or if that is not known.
	AgeSeconds     *float64 `json:"age_seconds"`
	MissingRecords int64    `json:"missing_records"`
}

// FindingKind is the kind of a finding.
type FindingKind string

// The kinds of findings.
const (
	FindingCheck       FindingKind = "check"       // a check would refuse
	FindingRPO         FindingKind = "rpo"         // the objective is missed
	FindingRTO         FindingKind = "rto"         // the objective is missed
	FindingTranslation FindingKind = "translation" // a position has no counterpart
	FindingRecord      FindingKind = "record"      // a consumer would not read the same record
	FindingCommitted   FindingKind = "committed"   // a group is not where it continues
)

// Finding is something that a failover or a switchover would suffer from.
type Finding struct {
	Kind   FindingKind `json:"kind"`
	Group  string      `json:"group,omitempty"`
	Detail string      `json:"detail"`
}

func (f Finding) String() string {
	if f.Group == "" {
		return fmt.Sprintf("%s: %s", f.Kind, f.Detail)
	}
	return fmt.Sprintf("%s: group %s: %s", f.Kind, f.Group, f.Detail)
}

// DrilledGroup is what was found at the positions of a group.
type DrilledGroup struct {
	Group     string `json:"group"`
	Positions int    `json:"positions"`
	// Checked is how many of them were looked at. At Same, a consumer reads the same record on both clusters; at End, there is nothing to read on either;
	// Behind, the record is not copied yet; at Gone, one of the clusters has deleted what the other one has, as far as its retention or compaction allows.
	Checked int `json:"checked"`
	Same    int `json:"same"`
	End     int `json:"end"`
	Behind  int `json:"behind"`
	Gone    int `json:"gone"`
	// Committed is how many positions are committed on the target exactly where they continue.
	Committed int `json:"committed"`
}

// What a report has at most: its record must fit into the control topic.
const (
	maxFindings   = 100
	maxDrillNotes = 50
	maxGroups     = 500
)

// settle sorts and bounds the lists, and says whether the drill was passed.
func (d *Drilled) settle() {
	slices.SortStableFunc(d.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Detail, b.Detail))
	})
	slices.SortFunc(d.Groups, func(a, b DrilledGroup) int { return cmp.Compare(a.Group, b.Group) })
	slices.Sort(d.Notes)
	d.Passed = len(d.Findings) == 0
	if n := len(d.Findings) - maxFindings; n > 0 {
		d.Findings, d.OtherFindings = d.Findings[:maxFindings], n
	}
	if n := len(d.Groups) - maxGroups; n > 0 {
		d.Groups, d.OtherGroups = d.Groups[:maxGroups], n
	}
	if n := len(d.Notes) - maxDrillNotes; n > 0 {
		d.Notes = append(d.Notes[:maxDrillNotes], fmt.Sprintf("and %d more", n))
	}
}

// drillSteps are the steps of a drill.
func drillSteps() []Planned {
	return []Planned{
		{Name: StepClean, Does: "deletes the groups that a drill which was killed has left"},
		{Name: StepRPO, Does: "measures what a failover would lose, a few times"},
		{Name: StepLoss, Does: "reads what the target lacks, as a failover does"},
		{Name: StepTranslate, Does: "translates the positions of all groups, as a failover does"},
		{Name: StepCommit, Does: "commits them on the target for groups of other names"},
		{Name: StepConsume, Does: "starts a consumer in one of those groups, until it has its first record"},
		{Name: StepRemove, Does: "deletes those groups"},
		{Name: StepCompare, Does: "reads the next record of each position on both clusters, and compares them"},
		{Name: StepCommitted, Does: "compares where the groups are on the target with where they continue"},
		{Name: StepJudge, Does: "compares what was measured with the objectives of the flow"},
	}
}

// The steps of a drill, in their order. The third is StepLoss.
const (
	StepClean     = "clean"
	StepRPO       = "rpo"
	StepTranslate = "translate"
	StepCommit    = "commit"
	StepConsume   = "consume"
	StepCompare   = "compare"
	StepCommitted = "committed"
	StepRemove    = "remove"
	StepJudge     = "judge"
)

// isOfFailover reports whether a failover has the step, too.
func isOfFailover(step string) bool {
	return slices.Contains([]string{StepLoss, StepTranslate, StepCommit, StepConsume}, step)
}
