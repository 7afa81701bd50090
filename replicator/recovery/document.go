package recovery

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/freeze"
)

// Verb is what a recovery does.
type Verb string

// The verbs.
const (
	Switchover Verb = "switchover"
	Failover   Verb = "failover"
	Failback   Verb = "failback"
	Drill      Verb = control.Drill
)

// Result is how a check or a step came out.
type Result string

// The results of checks and steps.
const (
	OK     Result = "ok"
	Note   Result = "note"   // worth knowing; the recovery goes on
	Refuse Result = "refuse" // of a check: nothing is begun
	Begun  Result = "begun"  // of a step: it runs, or was broken off
	Failed Result = "failed"
	Undone Result = "undone"
)

// Row is a check before a recovery begins.
type Row struct {
	Name   string `json:"name"`
	Result Result `json:"result"` // ok, note or refuse
	Detail string `json:"detail"`
}

// Step is a step of a recovery. Times are UTC.
type Step struct {
	Name   string    `json:"name"`
	Result Result    `json:"result"` // begun, ok, failed or undone
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended,omitzero"`
	Detail string    `json:"detail,omitempty"`
}

// Took is how long the step took.
func (s *Step) Took() time.Duration {
	if s.Ended.IsZero() {
		return 0
	}
	return s.Ended.Sub(s.Began)
}

// Report is a recovery as it is printed, and as the control topic keeps it.
type Report struct {
	ID     string                `json:"id"`
	Verb   Verb                  `json:"verb"`
	Flow   string                `json:"flow"`
	Source string                `json:"source"`
	Target string                `json:"target"`
	Who    string                `json:"who"`
	Began  time.Time             `json:"began"`
	Ended  time.Time             `json:"ended,omitzero"`
	State  control.RecoveryState `json:"state"` // running, undoing, done or undone; empty if nothing was begun
	Why    string                `json:"why,omitempty"`
	Checks []Row                 `json:"checks,omitempty"`
	// Plan is what a dry run found that would be done.
	Plan  []Planned `json:"plan,omitempty"`
	Steps []Step    `json:"steps"`
	// Failure is why the recovery was undone or broken off, empty if it was not.
	Failure string `json:"failure,omitempty"`
	// Groups is how many consumer groups, and Positions how many of their positions, were proven to be where they continue.
	Groups    int `json:"groups"`
	Positions int `json:"positions"`
	// Loss is what the target lacks: of a failover only.
	Loss *offsets.RPO `json:"loss,omitempty"`
	// Diverged is what only the old source has, and Switchover that of the clients back to it: of a failback only.
	Diverged   *Diverged `json:"diverged,omitempty"`
	Switchover *Report   `json:"switchover,omitempty"`
	// Drilled is what a drill has measured and found: of a drill only.
	Drilled *Drilled `json:"drilled,omitempty"`
	// Clients is what clients must change.
	Clients *Clients `json:"clients,omitempty"`
}

// Clients is what clients must change after a recovery.
type Clients struct {
	// Brokers are the addresses of the cluster that clients use from now on, whose alias is Cluster.
	Cluster string   `json:"cluster"`
	Brokers []string `json:"brokers"`
	// Topics are sentences about the names of topics.
	Topics []string `json:"topics"`
}

// document is what a recovery wants to know again: its report, and what only it needs.
type document struct {
	Report  Report  `json:"report"`
	Options Options `json:"options"`
	// Ends is a hash of the ends of the source when all was copied.
	Ends string `json:"ends,omitempty"`
	// Frozen is the freeze of the producers of the source. It stays after a switchover, until one back takes it away.
	Frozen *frozen `json:"frozen,omitempty"`
	// Exported means that the file of a failback is complete.
	Exported bool `json:"exported,omitempty"`
	// LeaveOut are the offsets, exclusive, up to which a failback has exported partitions, by topic and number.
	LeaveOut map[string]map[int32]int64 `json:"leave_out,omitempty"`
	// Earlier are the freezes that earlier recoveries of the flow left, the oldest first: they stay if this one is undone.
	Earlier []frozen `json:"earlier,omitempty"`
	// Started is the decision that had stopped the reverse flow, if this recovery has started it.
	Started *control.Decision `json:"started,omitempty"`
}

// freezes are those in force, the oldest first.
func (d *document) freezes() []frozen {
	list := slices.Clone(d.Earlier)
	if d.Frozen.holds() {
		list = append(list, *d.Frozen)
	}
	return list
}

// thawed notes that all freezes are taken back.
func (d *document) thawed() {
	d.Earlier = nil
	if d.Frozen != nil {
		d.Frozen.Thawed = now()
	}
}

// frozenBy says whose producers are stopped, by switchovers from a cluster along a flow; nil if none are.
func (d *document) frozenBy(source, flow string) *control.Frozen {
	list := d.freezes()
	if len(list) == 0 {
		return nil
	}
	first := &list[0]
	return &control.Frozen{Cluster: source, How: string(first.Memory.Method), Flow: flow, Since: first.Since}
}

// frozen is a freeze that this recovery carried out. It is written before anything is changed.
type frozen struct {
	Memory freeze.Memory `json:"memory"`
	Since  time.Time     `json:"since,omitzero"`
	Thawed time.Time     `json:"thawed,omitzero"`
}

// holds reports whether producers may still be frozen.
func (f *frozen) holds() bool { return f != nil && f.Thawed.IsZero() && f.Memory.Method != freeze.None }

func decodeDocument(r *control.Recovery) (d document, err error) {
	if err := json.Unmarshal(r.Document, &d); err != nil {
		return d, fmt.Errorf("the record of the %s that %s began is not known to this version of milena: %w", r.What, r.Who, err)
	}
	return d, nil
}

// ReportOf returns the report of a recovery in the control topic.
func ReportOf(r *control.Recovery) (*Report, error) {
	d, err := decodeDocument(r)
	if err != nil {
		return nil, err
	}
	d.Report.ID, d.Report.Who, d.Report.State = r.ID, r.Who, r.State
	return &d.Report, nil
}

// Planned is a step before it is carried out.
type Planned struct {
	Name string `json:"name"`
	Does string `json:"does"`
	// TookSeconds is how long it took the last time that it was done for this flow, null if that is not known.
	TookSeconds *float64 `json:"took_seconds"`
}

// planOf are the steps of a recovery, with how long they took the last time.
func planOf(v Verb, state *control.State) []Planned {
	plan := StepsOf(v)
	for _, r := range slices.Backward(state.Recoveries()) {
		if r.What != string(v) || r.State != control.RecoveryDone {
			continue
		}
		last, err := ReportOf(&r)
		if err != nil {
			continue
		}
		for i := range plan {
			for _, s := range last.Steps {
				if s.Name == plan[i].Name && s.Result == OK {
					took := s.Took().Seconds()
					plan[i].TookSeconds = &took
				}
			}
		}
		break
	}
	return plan
}

// StepsOf returns the steps of a recovery.
func StepsOf(v Verb) []Planned {
	switch v {
	case Failback:
		return []Planned{
			{Name: StepDiverged, Does: "lists what only the old source has, and exports it with --diverged export"},
			{Name: StepLeaveOut, Does: "lets the flow continue behind what was exported"},
			{Name: StepBack, Does: "starts the reverse flow, if only one of the two copies at a time"},
			{Name: StepCatchUp, Does: "waits until the reverse flow has at most --max-lag records left"},
			{Name: StepHome, Does: "carries out a switchover along the reverse flow, which starts the flow again"},
		}
	case Drill:
		return drillSteps()
	case Failover:
		return []Planned{
			{Name: StepStop, Does: "marks the flow as failed over, and waits until no instance writes any more"},
			{Name: StepLoss, Does: "says what the target lacks"},
			{Name: StepOpen, Does: "lets producers write to the target, if a switchover has stopped them there"},
			{Name: StepGroups, Does: "puts the groups where they continue, by their last checkpoints"},
		}
	case Switchover:
	}
	return []Planned{
		{Name: StepFreeze, Does: "stops the producers of the source"},
		{Name: StepDrain, Does: "waits until all is copied, and proves twice that nothing is written"},
		{Name: StepGroups, Does: "waits until no group can move on the source, puts the groups on the target where they continue, and proves it"},
		{Name: StepStop, Does: "stops the flow, and proves once more that nothing was written"},
		{Name: StepReverse, Does: "starts the flow back, if it is stopped"},
		{Name: StepOpen, Does: "lets producers write to the target, if an earlier switchover has stopped them there"},
	}
}
