package client

import "time"

// Pace keeps requests small while a quota demands long waits. A broker averages over many seconds (quota.window.num) and delays a client
// until its average is below the quota again. One large request therefore causes a long wait on every connection, including that of the
// journal, on which the lease depends. The zero Pace is full speed.
type Pace struct{ slower int } // 64ths of the size that are cut off; 0 to 63

// paceWait is the longest wait that one request should cause.
const paceWait = time.Second

// Of returns the size in bytes of the next request, at most limit.
func (p *Pace) Of(limit int) int { return limit * (64 - p.slower) / 64 }

// IsSlow reports whether a quota demands smaller requests.
func (p *Pace) IsSlow() bool { return p.slower > 0 }

// Answered adjusts the pace to the throttle time of a response, in milliseconds: a long wait halves the size, a short one raises it by 1/64.
func (p *Pace) Answered(throttleMillis int32) {
	switch wait := time.Duration(throttleMillis) * time.Millisecond; {
	case wait > paceWait:
		p.slower = 64 - max(1, (64-p.slower)/2)
	case wait < paceWait/4:
		p.slower = max(0, p.slower-1)
	}
}
