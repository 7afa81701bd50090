package mm2

import (
	"fmt"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// Verdict is what follows from the findings of a scan: begin here, or this anomaly.
type Verdict struct {
	// Untouched says that MirrorMaker 2 never copied this partition: it begins like any other.
	Untouched bool
	// Begin is where the map begins, if there is no anomaly. Its segments are those of the findings.
	Begin offsets.Position
	// Next is the source offset to continue at.
	Next int64
	// Anomaly is nil if the copy can be continued.
	Anomaly *Anomaly
}

// Anomaly is why a copy cannot simply be continued.
type Anomaly struct {
	Kind     policy.Kind
	From, To int64 // source offsets concerned, To is exclusive
	Detail   string
	// Halts says that the partition halts whatever policy says, as there is no offset to continue at.
	Halts bool
	// Restart and Skip are the source offsets to begin at, by what policy decides.
	Restart, Skip int64
}

// Begin is where the map begins if policy decides for action; false if the partition halts.
func (a *Anomaly) Begin(action policy.Action, f *Findings) (offsets.Position, bool) {
	begin := offsets.Position{Target: f.TargetEnd}
	switch {
	case a.Halts || action == policy.Halt:
		return begin, false
	case action == policy.Restart:
		begin.Source = a.Restart
	default:
		begin.Source = a.Skip
	}
	return begin, true
}

// Decide judges the findings about a copy. It is pure.
func Decide(c Copy, f *Findings) Verdict {
	if a := f.anomaly(c); a != nil {
		return Verdict{Anomaly: a}
	}
	switch {
	case len(f.Segments) > 0:
		first := f.Segments[0]
		v := Verdict{Begin: offsets.Position{Source: min(first.Source, f.MapFrom), Target: min(first.Target, f.TargetFrom)}, Next: f.Next}
		if f.OffsetHolds { // the last records of the copy are gone from one of the logs, so only the connector offset knows of them
			v.Next = max(v.Next, f.ConnectorOffset)
		}
		return v
	case f.ConnectorOffset < 0:
		return Verdict{Untouched: true}
	}
	return Verdict{Begin: offsets.Position{Source: f.ConnectorOffset, Target: f.TargetEnd}, Next: f.ConnectorOffset}
}

// anomaly is why the copy cannot be continued, nil if it can.
func (f *Findings) anomaly(c Copy) *Anomaly {
	at := f.ConnectorOffset
	switch {
	case f.Uncertain > 0, !f.Proven && f.Next > at:
		return &Anomaly{
			Kind: policy.TargetNotEmpty, From: f.SourceStart, To: f.SourceStart, Halts: true,
			Detail: fmt.Sprintf("cannot determine where MirrorMaker 2 stopped: the end of target %s does not match any of the %d source records that were read from offset %d on; its connector offset is %d",
				c.Target, f.Window, f.SourceFrom, at),
		}
	case len(f.Segments) > 0, at < 0 && f.Records == 0:
		return nil
	case at > f.SourceEnd:
		return &Anomaly{
			Kind: policy.Recreated, From: at, To: at, Restart: f.SourceStart, Skip: f.SourceEnd,
			Detail: fmt.Sprintf("MirrorMaker 2 stopped at source offset %d, but source %s ends at %d and has none of the records on the target: the source topic was recreated", at, c.Source, f.SourceEnd),
		}
	case f.Records == 0 && f.TargetStart == 0 && at > f.SourceStart:
		return &Anomaly{
			Kind: policy.TargetRecreated, From: f.SourceStart, To: at, Restart: f.SourceStart, Skip: f.SourceStart,
			Detail: fmt.Sprintf("MirrorMaker 2 copied %s up to source offset %d, but target topic %s has no records and never had any: it was deleted and recreated", c.Source, at, c.Target.Topic),
		}
	case at >= 0 && (f.Records == 0 || at <= f.FirstSource):
		return nil
	}
	return &Anomaly{
		Kind: policy.TargetNotEmpty, From: f.SourceStart, To: f.SourceStart, Restart: f.SourceStart, Skip: f.SourceStart,
		Detail: fmt.Sprintf("target %s has %d records, none of which is among the %d source records that were read from offset %d on; the connector offset of MirrorMaker 2 is %d",
			c.Target, f.Records, f.Window, f.SourceFrom, at),
	}
}
