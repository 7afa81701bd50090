package replicator

import (
	"github.com/milena-kafka/milena/replicator/control"
)

// DrillStatus is the last drill of a flow.
type DrillStatus = control.DrillStatus

// lastDrill returns the last drill, nil if there was none.
func (c *controls) lastDrill() *DrillStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Drill()
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
