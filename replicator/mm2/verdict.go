package mm2

import (
	"fmt"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// Verdict is what the findings of a scan mean: where to continue, or which anomaly.
type Verdict struct {
	// Untouched says that MirrorMaker 2 never copied this partition: it begins like any other.
	Untouched bool
	// Begin is where the offset map begins, if there is no anomaly. Its segments are those of the findings.
	Begin offsets.Pair
	// Next is the source offset to continue at.
	Next int64
	// Anomaly is nil if the copy can be continued.
	Anomaly *Anomaly
}

// Anomaly is the reason why a copy cannot be continued as it is.
type Anomaly struct {
	Kind     policy.Kind
	From, To int64 // the source offsets in question, To is exclusive
	Detail   string
	// Halts says that the partition halts, whatever the configured action, because there is no offset to continue at.
	Halts bool
	// Restart and Skip are the source offsets to begin at with these actions.
	Restart, Skip int64
}

// Begin returns where the offset map begins with the configured action. The result is false if the partition halts.
func (a *Anomaly) Begin(action policy.Action, f *Findings) (offsets.Pair, bool) {
	begin := offsets.Pair{Target: f.End.Target}
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

// Decide returns what the findings about a copy mean. It is pure.
func Decide(c Copy, f *Findings) Verdict {
	if a := f.anomaly(c); a != nil {
		return Verdict{Anomaly: a}
	}
	switch {
	case len(f.Segments) > 0:
		first := f.Segments[0]
		v := Verdict{Begin: offsets.Pair{Source: min(first.Source, f.MapFrom), Target: min(first.Target, f.From.Target)}, Next: f.Next}
		if f.OffsetHolds { // the last records of the copy are gone from one of the logs, so only the connector offset shows that they were copied
			v.Next = max(v.Next, f.ConnectorOffset)
		}
		return v
	case f.ConnectorOffset < 0:
		return Verdict{Untouched: true}
	}
	return Verdict{Begin: offsets.Pair{Source: f.ConnectorOffset, Target: f.End.Target}, Next: f.ConnectorOffset}
}

// anomaly returns the reason why the copy cannot be continued, nil if it can.
func (f *Findings) anomaly(c Copy) *Anomaly {
	offset := f.ConnectorOffset
	switch {
	case f.Uncertain > 0, !f.Proven && f.Next > offset:
		return &Anomaly{
			Kind: policy.TargetNotEmpty, From: f.Start.Source, To: f.Start.Source, Halts: true,
			Detail: fmt.Sprintf("cannot determine where MirrorMaker 2 stopped: the end of target %s does not match any of the %d source records from offset %d on; its connector offset is %d",
				c.Target, f.Window, f.From.Source, offset),
		}
	case len(f.Segments) > 0, offset < 0 && f.Records == 0:
		return nil
	case offset > f.End.Source:
		return &Anomaly{
			Kind: policy.Recreated, From: offset, To: offset, Restart: f.Start.Source, Skip: f.End.Source,
			Detail: fmt.Sprintf("MirrorMaker 2 stopped at source offset %d, but source %s ends at %d and none of its records is on the target: the source topic was recreated", offset, c.Source, f.End.Source),
		}
	case f.Records == 0 && f.Start.Target == 0 && offset > f.Start.Source:
		return &Anomaly{
			Kind: policy.TargetRecreated, From: f.Start.Source, To: offset, Restart: f.Start.Source, Skip: f.Start.Source,
			Detail: fmt.Sprintf("MirrorMaker 2 copied %s up to source offset %d, but target topic %s has no records and never had any: it was deleted and recreated", c.Source, offset, c.Target.Topic),
		}
	case offset >= 0 && (f.Records == 0 || offset <= f.FirstSource):
		return nil
	}
	return &Anomaly{
		Kind: policy.TargetNotEmpty, From: f.Start.Source, To: f.Start.Source, Restart: f.Start.Source, Skip: f.Start.Source,
		Detail: fmt.Sprintf("target %s has %d records, none of which is among the %d source records from offset %d on; MirrorMaker 2's connector offset is %d",
			c.Target, f.Records, f.Window, f.From.Source, offset),
	}
}
