package replicator

import (
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

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

// drillStatus returns the last drill, nil if there was none.
func drillStatus(s *control.State) *DrillStatus {
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

// lastDrill returns the last drill, nil if there was none.
func (c *controls) lastDrill() *DrillStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return drillStatus(&c.state)
}

// collectDrill sets the gauges of the last drill.
func collectDrill(d *DrillStatus, gauge setGauge) {
	if d == nil {
		return
	}
	gauge("drill_last_timestamp_seconds", float64(d.When.UnixMilli())/1000)
	if !d.LastPassed.IsZero() {
		gauge("drill_last_success_timestamp_seconds", float64(d.LastPassed.UnixMilli())/1000)
	}
	passed := 0.0
	if d.Passed {
		passed = 1
	}
	gauge("drill_passed", passed)
	if d.RPOSeconds != nil {
		gauge("drill_rpo_seconds", *d.RPOSeconds)
	}
	if d.RTOSeconds != nil {
		gauge("drill_rto_seconds", *d.RTOSeconds)
	}
}
