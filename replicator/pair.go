package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
)

// pair is what a flow knows as one half of a pair: two flows with identity naming that copy the same topics in opposite directions, of which one at most
// copies. A record that came from the other side is never copied back, because a half begins where the map of the other one ends.
//
// A half that is stopped comes to rest, shard by shard: when all that it ever wrote is in its journal, the journal gets the id of the decision that stopped
// it. A half that is started copies a shard only if the other one is stopped, and the shard of the other one is at rest under that very decision. Both read
// the control topics of both after the fence, own first: of two that are started at once, each finds the other one started, and none copies.
type pair struct {
	flow  *Flow
	other config.Flow
	hold  *control.Decision // which partitions have as their pause while the flow is started and may not copy yet

	asked time.Time // when it was last looked whether shards that wait may copy; of the goroutine of the control topic
}

// newPair returns the pair that a flow is a half of, nil if it is none.
func newPair(f *Flow) *pair {
	other := config.PairOf(f.config, f.options.Reverse)
	if other == nil {
		return nil
	}
	hold := control.New(control.Pause, control.Scope{Kind: control.Flow}, "milena", fmt.Sprintf("flow %s copies the other way, or has not come to rest", other.Name))
	return &pair{flow: f, other: *other, hold: &hold}
}

// standing is whether a shard of a half may copy.
type standing struct {
	turn    uint64    // of the controls, before it was read
	stopped bool      // the flow is stopped
	wait    string    // why it is not to copy although it is started, empty if it may
	since   time.Time // when the other half was stopped, the zero time if it never ran

	other *offsets.ShardJournal // of the other half; nil if that never copied anything
}

func (s *standing) copies() bool { return s != nil && !s.stopped && s.wait == "" }

// why says why nothing is copied.
func (s *standing) why() string {
	if s.stopped {
		return "the flow is stopped"
	}
	return s.wait
}

// standingTimeout is how long reading of who may copy may take. The source may not answer, and then there is nothing to copy.
const standingTimeout = 10 * time.Second

// standing reads who may copy. It must begin after the fence of the shard: a later owner then finds what an earlier one has written.
func (p *pair) standing(ctx context.Context, s *shard) *standing {
	f := p.flow
	now := &standing{turn: f.controls.turnNow()}
	ctx, cancel := context.WithTimeout(ctx, standingTimeout)
	defer cancel()
	own, err := readState(ctx, control.NewLog(f.control, f.config.Target, f.config.Name), f.config)
	if err != nil {
		now.wait = fmt.Sprintf("whether the flow is stopped is not known: %v", f.options.TargetError(err))
		return now
	}
	if now.stopped = own.Stopped() != nil; now.stopped {
		return now
	}
	other, err := readState(ctx, control.NewLog(f.source, f.config.Source, p.other.Name), p.other)
	switch {
	case err != nil:
		now.wait = fmt.Sprintf("whether flow %s is stopped is not known: %v", p.other.Name, f.options.SourceError(err))
	case other.Stopped() == nil:
		now.wait = fmt.Sprintf("flow %s is started, and only one of the two may copy; milena stop --flow %s", p.other.Name, p.other.Name)
	default:
		p.findRest(ctx, s, other.Stopped(), now)
	}
	return now
}

// readState reads a control topic from its start to its end. Without the topic nobody has decided anything.
func readState(ctx context.Context, log *control.Log, flow config.Flow) (*control.State, error) {
	for {
		state := control.NewState(flow)
		err := log.ReadAll(ctx, func(r control.Record) { _ = state.Apply(r) })
		if !errors.Is(err, control.ErrNoTopic) {
			return state, err
		}
		if !log.IsKnown(ctx) {
			return state, nil
		}
		if err := client.Sleep(ctx, refreshEvery); err != nil { // it was just created, and not every broker knows it
			return state, err
		}
	}
}

// findRest finds out whether the shard of the other half is at rest, and what it has copied.
func (p *pair) findRest(ctx context.Context, s *shard, stopped *control.Decision, now *standing) {
	f := p.flow
	j, err := offsets.ReadShardJournal(ctx, f.source, offsets.JournalTopic(p.other.Name), s.number, f.log)
	var none *offsets.NoJournalError
	never := stopped.ID == control.Standby && (errors.As(err, &none) || err == nil && j.Rest == "" && j.IsEmpty())
	switch {
	case never: // it is the way back, and nobody has started it yet
	case err != nil:
		now.wait = fmt.Sprintf("where flow %s ended is not known: %v", p.other.Name, f.options.SourceError(err))
	case j.Rest != stopped.ID:
		now.wait = fmt.Sprintf("flow %s is stopped, and its shard %d has not come to rest: an instance of it must run, and no partition be halted; see milena status --flow %s", p.other.Name, s.number, p.other.Name)
	default:
		now.other, now.since = j, stopped.When
	}
}

// isPending reports whether a partition of the shard has not been begun since the shard was last at rest: it is to continue behind what the other half has
// copied since.
func (s *shard) isPending(l *offsets.Restored) bool {
	after := s.after()
	return after != "" && (l == nil || l.State == nil || l.State.After == nil || *l.State.After != after)
}

// after is the rest of the shard after which its partitions were begun, or are to be. A way back that was never at rest has never copied.
func (s *shard) after() string {
	if rest := s.rest.Load(); rest != nil && *rest != "" {
		return *rest
	}
	if s.flow.pair != nil && s.flow.config.ReverseOf != "" {
		return control.Standby
	}
	return ""
}

// permit lets the shard copy, unless somebody has stopped or started the flow since a turn, or the shard has come to rest here: then it is held anew.
func (p *pair) permit(s *shard, turn uint64) bool {
	c := &p.flow.controls
	c.pausing.Lock()
	permitted := c.turn == turn && !s.rested
	if permitted {
		s.copies.Store(true)
	}
	c.pausing.Unlock()
	if permitted {
		p.flow.applyPauses(time.Now())
	}
	return permitted
}

// endShard lets this value of a shard never copy again, and reports false if it was permitted since the flow was stopped.
func (p *pair) endShard(s *shard) bool {
	c := &p.flow.controls
	c.pausing.Lock()
	defer c.pausing.Unlock()
	s.rested = s.rested || !s.copies.Load()
	return s.rested
}

// turnNow counts how often the flow was stopped or started, as far as this process knows.
func (c *controls) turnNow() uint64 {
	c.pausing.Lock()
	defer c.pausing.Unlock()
	return c.turn
}

// noteState records whether the flow is stopped. Then no shard of a half copies before it is taken over again. The lock of pauses is held.
func (p *pair) noteState(stopped *control.Decision) {
	c, id := &p.flow.controls, ""
	if stopped != nil {
		id = stopped.ID
		for _, s := range p.flow.held.all() {
			s.copies.Store(false)
		}
	}
	if id != c.stoppedBy {
		c.stoppedBy = id
		c.turn++
	}
}

// pauseOf returns what keeps a partition from being copied, nil if nothing does.
func (f *Flow) pauseOf(p *partition) *control.Decision {
	if d := f.controls.pauseOf(p.source()); d != nil {
		return d
	}
	return f.holdOf(p)
}

// holdOf returns what keeps a partition of a half from being copied although the flow is started, nil if nothing does.
func (f *Flow) holdOf(p *partition) *control.Decision {
	if f.pair == nil || p.shard.copies.Load() {
		return nil
	}
	return f.pair.hold
}
