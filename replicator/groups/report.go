package groups

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/policy"
)

// Status is what the last sync of the consumer groups found.
type Status struct {
	// Groups is the number of selected groups on the source, Positions that of their committed offsets in copied partitions.
	Groups    int `json:"groups"`
	Positions int `json:"positions"`
	// Refused is the number of positions that could not be translated or were not committed on the target, for the reasons in Refusals.
	Refused  int       `json:"refused"`
	Refusals []Refusal `json:"refusals,omitempty"`
	// NotFollowed are the selected groups of the source that are not consumer groups. They are not counted in Groups.
	NotFollowed []NotFollowed `json:"not_followed,omitempty"`
	// LagRecords is by group how many records of the copies it has yet to read on the target, from where milena put it. Partitions with a refusal are left out.
	LagRecords map[string]int64 `json:"lag_records,omitempty"`
	// LastPass is when the last sync began that reached all groups without an error. Took is the duration of the last sync in seconds.
	LastPass time.Time `json:"last_pass,omitzero"`
	Took     float64   `json:"took_seconds"`
	// Problems are sentences about groups that could not be read and internal topics that could not be written.
	Problems []string `json:"problems,omitempty"`
}

// Refusal is why positions of one group were not committed on the target.
type Refusal struct {
	Group  string `json:"group"`
	Reason string `json:"reason"`
	// Text is the reason as a sentence. Detail is about one of the partitions.
	Text       string `json:"text"`
	Detail     string `json:"detail"`
	Partitions int    `json:"partitions"`
}

// NotFollowed is a group of the source that cannot be translated.
type NotFollowed struct {
	Group    string `json:"group"`
	Protocol string `json:"protocol"`
	// Text says why, as a sentence.
	Text string `json:"text"`
}

func notFollowed(group kadm.ListedGroup) NotFollowed {
	return NotFollowed{Group: group.Group, Protocol: group.ProtocolType, Text: "group " + group.Group + " " + policy.ExplainProtocol(group.ProtocolType)}
}

// report holds the outcome of the last sync.
type report struct {
	metrics *Metrics

	mu     sync.Mutex
	status Status
}

// set replaces the report. LastPass of the status is when the first of the syncs began that together cover all groups. All are the groups whose
// positions are added.
func (r *report) set(status Status, all []*groupMemory, err error) {
	for _, g := range all {
		status.Positions += g.positions
		for _, refusal := range g.refusals {
			status.Refused += refusal.Partitions
			status.Refusals = append(status.Refusals, refusal)
		}
	}
	slices.SortFunc(status.Refusals, compareRefusals)
	if err != nil {
		status.Problems = append(status.Problems, err.Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		status.LastPass = r.status.LastPass
	}
	r.status = status
}

// failed reports a sync that could do nothing. What is known of the groups stays.
func (r *report) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Problems = []string{err.Error()}
}

func (r *report) get() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// refusals combines refused positions by group and reason, sorted.
func refusals(positions []*position) []Refusal {
	type groupReason struct {
		group  string
		reason policy.Refusal
	}
	combined := make(map[groupReason]*Refusal)
	for _, p := range positions {
		if p.refusal == "" {
			continue
		}
		key := groupReason{p.group, p.refusal}
		if combined[key] == nil {
			combined[key] = &Refusal{Group: p.group, Reason: string(p.refusal), Text: "group " + p.group + " " + p.refusal.Explain(), Detail: p.detail}
		}
		combined[key].Partitions++
	}
	var list []Refusal
	for _, r := range combined {
		list = append(list, *r)
	}
	slices.SortFunc(list, compareRefusals)
	return list
}

func compareRefusals(a, b Refusal) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Reason, b.Reason))
}
