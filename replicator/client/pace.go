package client

import "time"

// Pace makes requests small while a quota asks for long waits. A broker averages over many seconds (quota.window.num), and lets a client
// wait for as long as it takes to work off all that exceeds the quota: one large request brings about a long wait on every connection, also
// on that of the journal, on which the lease hangs. The zero pace is full speed.
type Pace struct{ slower int } // 1/64 that is left out; 0 to 63

// paceWait is the longest wait that one request should bring about.
const paceWait = time.Second

// Of is how many of the most bytes the next request should have.
func (p *Pace) Of(most int) int { return most * (64 - p.slower) / 64 }

// Answered learns from the wait that an answer asks for: it halves after a long one, and grows by little after a short one.
func (p *Pace) Answered(throttleMillis int32) {
	switch wait := time.Duration(throttleMillis) * time.Millisecond; {
	case wait > paceWait:
		p.slower = 64 - max(1, (64-p.slower)/2)
	case wait < paceWait/4:
		p.slower = max(0, p.slower-1)
	}
}
