package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
)

// The kinds of history entries that are no events. Those of events are the kinds of package control.
const (
	KindDecision = "decision"
	KindAnomaly  = "anomaly"
	KindRecovery = "recovery"
)

// HistoryKinds are the kinds of history entries.
func HistoryKinds() []string {
	return []string{KindDecision, KindAnomaly, KindRecovery, string(control.Start), string(control.Stop), string(control.Takeover), string(control.Reload)}
}

// HistoryEntry is one thing that happened to a flow. It is printed as JSON. Of Decision, Anomaly, Recovery and Event it has the one that Kind says.
type HistoryEntry struct {
	When time.Time `json:"when"`
	// Last is when the last part of it happened that is known: an answer, the repair of a halt, or the last of several events.
	Last     time.Time               `json:"last,omitzero"`
	Kind     string                  `json:"kind"`
	Decision *control.Decision       `json:"decision,omitempty"`
	Outcomes []control.Outcome       `json:"outcomes,omitempty"`
	Anomaly  *PastAnomaly            `json:"anomaly,omitempty"`
	Recovery *control.RecoveryStatus `json:"recovery,omitempty"`
	Event    *control.Event          `json:"event,omitempty"`
}

// PastAnomaly is an entry of a partition's gap ledger. It concerns the source offsets [From, To); -1 is not known.
type PastAnomaly struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Kind      string `json:"kind"`
	// Action is what policy or a person did about it.
	Action string `json:"action"`
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Detail string `json:"detail"`
	// Merged is the number of other entries that this one stands for, as the ledger was full. Its offsets span all of them.
	Merged int `json:"merged,omitempty"`
	// Halted says that the partition is still halted by it.
	Halted bool `json:"halted,omitempty"`
	// Repaired is when a halt was over, absent if that is not known. RepairedBy is the action that ended it, and "passed" if the reason was gone.
	Repaired   time.Time `json:"repaired,omitzero"`
	RepairedBy string    `json:"repaired_by,omitempty"`
}

// RepairedByPassing means that a halt was over because its reason was gone: the copy has passed it.
const RepairedByPassing = "passed"

// HistoryFilter says which entries are wanted. Zero values want all.
type HistoryFilter struct {
	Since time.Time
	// Topic of the source. Decisions about the flow, and recoveries, concern every topic; events concern none.
	Topic string
	Kinds []string
	Last  int // how many, the newest ones
}

// History is what happened to a flow, the oldest first, as far as its target remembers.
type History struct {
	Entries []HistoryEntry
	// Problems are sentences about what could not be read.
	Problems []string
	// Ignored counts the records of the control topic that are nonsense, and LastIgnored has the last few.
	Ignored     int
	LastIgnored []control.Ignored
}

// ReadHistory reads the control topic and the gap ledgers of the journal. It needs the target only, and blocks for reading all of the journal.
func ReadHistory(ctx context.Context, c client.Clusters, filter HistoryFilter) (History, error) {
	target, err := c.OpenTarget()
	if err != nil {
		return History{}, err
	}
	defer target.Close()
	var h History
	var state control.State
	err = control.NewLog(target, c.Flow.Target, c.Flow.Name).ReadAll(ctx, func(r control.Record) { _ = state.Apply(r) })
	if err != nil && !errors.Is(err, control.ErrNoTopic) {
		return h, c.TargetError(err)
	}
	state.Settle()
	h.Ignored, h.LastIgnored = state.Ignored()
	h.Entries = slices.Concat(decided(&state), happened(&state), recovered(&state))
	if len(filter.Kinds) == 0 || slices.Contains(filter.Kinds, KindAnomaly) {
		anomalies, problems, err := readAnomalies(ctx, c, target)
		if err != nil {
			return h, err
		}
		h.Entries, h.Problems = append(h.Entries, anomalies...), problems
	}
	h.Entries = filter.of(h.Entries)
	return h, nil
}

// of returns the entries that are wanted, the oldest first.
func (f *HistoryFilter) of(list []HistoryEntry) []HistoryEntry {
	list = slices.DeleteFunc(list, func(e HistoryEntry) bool { return !f.wants(&e) })
	slices.SortStableFunc(list, func(a, b HistoryEntry) int { return a.When.Compare(b.When) })
	if f.Last > 0 {
		list = list[max(0, len(list)-f.Last):]
	}
	return list
}

func (f *HistoryFilter) wants(e *HistoryEntry) bool {
	switch {
	case e.When.Before(f.Since) && e.Last.Before(f.Since), len(f.Kinds) > 0 && !slices.Contains(f.Kinds, e.Kind):
		return false
	case f.Topic == "":
		return true
	case e.Decision != nil:
		return e.Decision.Scope.Kind == control.Flow || e.Decision.Scope.Topic == f.Topic
	}
	return e.Recovery != nil || e.Anomaly != nil && e.Anomaly.Topic == f.Topic
}

// decided are the decisions.
func decided(s *control.State) (list []HistoryEntry) {
	for _, d := range s.History() {
		e := HistoryEntry{When: d.When, Kind: KindDecision, Decision: &d, Outcomes: s.Outcomes(d.ID)}
		for _, o := range e.Outcomes {
			e.Last = o.When
		}
		list = append(list, e)
	}
	return list
}

// happened are the events.
func happened(s *control.State) (list []HistoryEntry) {
	for _, e := range s.Events() {
		list = append(list, HistoryEntry{When: e.When, Last: e.Last, Kind: string(e.What), Event: &e})
	}
	return list
}

// recovered are the recoveries, also the one that has not ended.
func recovered(s *control.State) (list []HistoryEntry) {
	all := s.Recoveries()
	if r := s.Recovery(); r != nil && r.IsOpen() {
		all = append(all, *r)
	}
	for _, r := range all {
		if r.What == "freeze" { // what a switchover has left there, and no recovery
			continue
		}
		list = append(list, HistoryEntry{When: r.When, Last: r.Seen, Kind: KindRecovery, Recovery: r.Status(time.Now())})
	}
	return list
}

// readAnomalies reads the gap ledgers of the journal. A flow that never ran has none.
func readAnomalies(ctx context.Context, c client.Clusters, target *kgo.Client) (list []HistoryEntry, problems []string, err error) {
	var mu sync.Mutex // shards are read in parallel
	ledgers := make(map[int32]map[offsets.TopicPartition][]HistoryEntry)
	errs, err := offsets.VisitJournal(ctx, target, offsets.JournalTopic(c.Flow.Name), c.Log, offsets.JournalVisitor{
		Start: func(shard int32) {
			mu.Lock()
			defer mu.Unlock()
			ledgers[shard] = make(map[offsets.TopicPartition][]HistoryEntry)
		},
		Visit: func(shard int32, e offsets.Entry, _ time.Time) {
			mu.Lock()
			defer mu.Unlock()
			switch e := e.(type) {
			case *offsets.PartitionState:
				tp := offsets.TopicPartition{Topic: e.Topic, Partition: e.Partition}
				if delete(ledgers[shard], tp); len(e.Gaps) > 0 {
					ledgers[shard][tp] = ledgerOf(e)
				}
			case *offsets.Tombstone:
				if e.Kind == offsets.KindPartition {
					delete(ledgers[shard], offsets.TopicPartition{Topic: e.Topic, Partition: e.Partition})
				}
			}
		},
	})
	var none *offsets.NoJournalError
	if errors.As(err, &none) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the journal of flow %s cannot be read: %w", c.Flow.Name, c.TargetError(err))
	}
	for _, byPartition := range ledgers {
		for _, entries := range byPartition {
			list = append(list, entries...)
		}
	}
	slices.SortFunc(list, func(a, b HistoryEntry) int { // those of one instant in an order that does not change
		return cmp.Or(a.When.Compare(b.When), cmp.Compare(a.Anomaly.Topic, b.Anomaly.Topic), cmp.Compare(a.Anomaly.Partition, b.Anomaly.Partition))
	})
	for shard, err := range errs {
		if err == nil {
			continue
		}
		problems = append(problems, fmt.Sprintf("shard %d: its journal was not read, so its anomalies are not known: %v", shard, c.TargetError(err)))
	}
	slices.Sort(problems)
	return list, problems, nil
}

// ledgerOf returns the entries of a gap ledger. What ended a halt is a part of it, as far as it is about the same kind.
func ledgerOf(s *offsets.PartitionState) (list []HistoryEntry) {
	var open *HistoryEntry // the halt before, if nothing has ended it yet
	list = make([]HistoryEntry, 0, len(s.Gaps))
	for _, g := range s.Gaps {
		if open != nil {
			a := open.Anomaly
			a.Repaired, a.RepairedBy, open.Last = g.At, g.Action, g.At
			open = nil
			if g.Kind == a.Kind && g.Action != string(policy.Halt) {
				continue
			}
		}
		list = append(list, HistoryEntry{When: g.At, Kind: KindAnomaly, Anomaly: &PastAnomaly{
			Topic: s.Topic, Partition: s.Partition, Kind: g.Kind, Action: g.Action, From: g.From, To: g.To, Detail: g.Detail, Merged: g.Merged,
		}})
		if g.Action == string(policy.Halt) {
			open = &list[len(list)-1]
		}
	}
	if open != nil {
		if open.Anomaly.Halted = haltOf(s) != nil; !open.Anomaly.Halted {
			open.Anomaly.RepairedBy = RepairedByPassing
		}
	}
	return list
}
