package control

import "time"

// DrillStatus is the last drill of a flow, see milena drill. Times are by the clock of who carried it out.
type DrillStatus struct {
	ID   string    `json:"id"`
	Who  string    `json:"who"`
	When time.Time `json:"when"` // it began
	// Passed means that it was carried out, and found nothing.
	Passed   bool `json:"passed"`
	Findings int  `json:"findings"`
	// RPOSeconds and RTOSeconds are what it measured, null if it could not.
	RPOSeconds *float64 `json:"rpo_seconds"`
	RTOSeconds *float64 `json:"rto_seconds"`
	// LastPassed is when the last one began that was passed, absent if there is none.
	LastPassed time.Time `json:"last_passed,omitzero"`
}

// Drill returns the last drill of the flow that has ended, nil if there was none.
func (s *State) Drill() *DrillStatus {
	last, passed := s.LastDrills()
	if last == nil {
		return nil
	}
	d := &DrillStatus{ID: last.ID, Who: last.Who, When: last.When}
	if of := last.Drilled; of != nil {
		d.Passed, d.Findings, d.RPOSeconds, d.RTOSeconds = of.Passed, of.Findings, of.RPOSeconds, of.RTOSeconds
	}
	if passed != nil {
		d.LastPassed = passed.When
	}
	return d
}

// LastDrills returns the newest drill that has ended, whose outcome is nil if it could not be carried out, and the newest one that was passed, nil if there is none.
func (s *State) LastDrills() (last, passed *Recovery) {
	for _, r := range s.recovery.ended {
		if r.What != Drill {
			continue
		}
		if last == nil || last.ID < r.ID {
			last = &r
		}
		if r.Drilled != nil && r.Drilled.Passed && (passed == nil || passed.ID < r.ID) {
			passed = &r
		}
	}
	return last, passed
}
