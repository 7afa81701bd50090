package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
)

const (
	// BusyPoll is how long one request for new decisions waits while this process acts on some.
	busyPoll = 100 * time.Millisecond
	// ControlPause is how long the loop waits after an error.
	controlPause = time.Second
	// DeniedPause is how long it waits while a right is missing.
	deniedPause = 5 * time.Second
	// HousekeepEvery is how often the control topic is kept short.
	housekeepEvery = time.Minute
	// HousekeepBatches is how many batches are written before new decisions are read.
	housekeepBatches = 8
	// ControlDoubtful is how long the control topic must fail before that is a problem.
	controlDoubtful = 10 * time.Second
)

// controls are what people decided about the flow, as its control topic says. One goroutine reads and writes the topic: that which begins the flow, and
// then controlLoop.
type controls struct {
	flow     config.Flow
	log      *control.Log
	incoming *control.State // what is read until the end of the topic is reached; nil once it is
	kept     time.Time      // when the topic was last kept short
	failing  time.Time      // since when it cannot be read; zero if it can
	ends     time.Time      // when a pause or throttle ends by itself
	events   events
	pairs    bool // shards of a half of a pair wait for their rest, or for that of the other half
	acting

	mu      sync.Mutex // a leaf: no other lock is taken with it
	state   control.State
	problem string // why the flow cannot be controlled, empty if it can

	permits map[offsets.TopicPartition][]permit

	// Pausing is held while it is decided what is paused, and that takes effect. It is taken before the topology's lock.
	pausing   sync.Mutex
	turn      uint64 // counts how often the flow was stopped or started; of a half of a pair, as all that follows
	stoppedBy string
}

func newControls(log *control.Log, flow config.Flow) controls {
	return controls{flow: flow, log: log, state: *control.NewState(flow), incoming: control.NewState(flow), acting: newActing(), permits: make(map[offsets.TopicPartition][]permit)}
}

// openControls reads what people decided before anything is copied. A flow that may not read it is not controlled. Any other error is waited for, because
// a partition that was paused must not be copied for the lack of an answer. Until then this process takes no shard, so that those that know what is paused
// go on with them.
func (f *Flow) openControls(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		err := f.openControlsOnce(ctx)
		if errors.Is(err, control.ErrNoTopic) && f.controls.log.IsKnown(ctx) {
			err = errors.New("one broker does not know the topic, and another one does")
		}
		switch {
		case err == nil, errors.Is(err, control.ErrNoTopic):
			f.noteOld() // not later: a topic that is only created now has nothing old
			f.problem.Store(nil)
			f.controls.setProblem("")
			return nil
		case control.IsDenied(err):
			f.problem.Store(nil)
			f.noteUncontrolled(err, time.Now())
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		text := fmt.Sprintf("waiting for topic %s of cluster %s, which says what is paused; nothing is copied before it is read: %v; bring its leader back, or delete the topic, and then nothing is paused",
			control.TopicName(f.config.Name), f.config.Target, err)
		f.problem.Store(&text)
		f.controls.setProblem(text)
		f.warn("waiting for the control topic", "err", err)
		if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
			return err
		}
	}
}

// openTimeout is how long one attempt to read the control topic may take: a broker that hangs is asked again, and seen.
const openTimeout = 30 * time.Second

func (f *Flow) openControlsOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return f.catchUp(ctx)
}

// catchUp reads to the end of the topic, if that was not reached since its beginning.
func (f *Flow) catchUp(ctx context.Context) error {
	c := &f.controls
	if c.incoming == nil {
		return nil
	}
	err := c.log.ReadAll(ctx, func(r control.Record) { _ = c.incoming.Apply(r) }) // what is nonsense is named below, unless it was replaced
	if errors.Is(err, control.ErrAnotherLog) {
		c.incoming = control.NewState(c.flow)
	}
	if err != nil {
		return f.options.TargetError(err)
	}
	c.incoming.Settle()
	n, last := c.incoming.Ignored()
	f.metrics.controlIgnored.Add(float64(n))
	for _, i := range last {
		f.warnIgnored(i.Offset, errors.New(i.Why))
	}
	c.mu.Lock()
	c.incoming.Continue(&c.state, time.Now())
	c.state, c.incoming = *c.incoming, nil
	c.mu.Unlock()
	c.kept = time.Time{} // what the topic lacks is written at once
	f.applyControls(time.Now())
	return nil
}

// takeRecord takes one record. One that is nonsense is named, but not who wrote it, as Kafka does not keep that.
func (f *Flow) takeRecord(state *control.State, r control.Record) {
	f.controls.mu.Lock()
	err := state.Apply(r)
	f.controls.mu.Unlock()
	if err != nil {
		f.metrics.controlIgnored.Inc()
		f.warnIgnored(r.Offset, err)
	}
}

func (f *Flow) warnIgnored(offset int64, err error) {
	f.warn("a record of the control topic is ignored", "topic", control.TopicName(f.config.Name), "cluster", f.config.Target, "err", fmt.Errorf("offset %d: %w", offset, err))
}

// controlLoop follows the control topic until ctx ends, and acts on what it says.
func (f *Flow) controlLoop(ctx context.Context) {
	defer f.noteStop(ctx)
	for ctx.Err() == nil {
		err := f.followControls(ctx)
		if ctx.Err() != nil {
			return
		}
		pause := controlPause
		switch {
		case err == nil:
			f.noteControlled()
			continue
		case errors.Is(err, control.ErrAnotherLog):
			f.controls.incoming = control.NewState(f.config)
			pause = busyPoll
		case errors.Is(err, control.ErrNoTopic) && !f.isDoer(): // another instance creates it
		case errors.Is(err, control.ErrNoTopic):
			if err = f.createControls(ctx); err == nil {
				pause = client.Backoff(2)
				break
			}
			f.noteUncontrolled(err, time.Now())
			pause = deniedPause
		default:
			f.noteUncontrolled(err, time.Now())
			if control.IsDenied(err) {
				pause = deniedPause
			}
		}
		f.endControls(time.Now())
		_ = client.Sleep(ctx, pause) // the loop checks ctx
	}
}

// createControls creates the topic.
func (f *Flow) createControls(ctx context.Context) error {
	created, left, err := f.controls.log.Create(ctx, f.config.Name, f.live().ReplicationFactor)
	for _, l := range left {
		f.log.Info("control topic config left out, which the target refuses", "topic", l.Topic, "config", l.Config, "err", l.Err)
	}
	if created {
		f.log.Info("topic created", "cluster", f.config.Target, "topic", control.TopicName(f.config.Name))
	}
	return err
}

// followControls waits for records, takes them, and acts on them.
func (f *Flow) followControls(ctx context.Context) error {
	c := &f.controls
	if err := f.catchUp(ctx); err != nil {
		return err
	}
	changed := false
	err := c.log.Read(ctx, c.wait(time.Now()), func(r control.Record) {
		f.takeRecord(&c.state, r)
		changed = changed || r.IsDecision()
	})
	if changed { // also if what follows cannot be read
		f.applyControls(time.Now())
	} else {
		f.endControls(time.Now())
	}
	if err != nil {
		return err
	}
	f.act(ctx)
	f.keepPair(ctx)
	if err := f.housekeep(ctx); err != nil {
		return err
	}
	return f.writeEvents(ctx, false)
}

// wait is how long the next request may wait.
func (c *controls) wait(now time.Time) time.Duration {
	wait := control.Poll
	if len(c.work)+len(c.unwritten) > 0 {
		wait = controlPause
	}
	if len(c.unwritten) > 0 && c.writeFailed.IsZero() {
		wait = busyPoll
	}
	for _, w := range c.work {
		if now.Sub(w.began) < longRepair { // what lasts longer waits for something that is not soon
			wait = busyPoll
		}
	}
	if due, ok := c.events.next(now); ok {
		wait = min(wait, due+time.Millisecond)
	}
	if c.pairs {
		wait = min(wait, pairPoll)
	}
	if !c.ends.IsZero() {
		wait = min(wait, max(c.ends.Sub(now), 0)+time.Millisecond)
	}
	return wait
}

// applyControls lets what holds now take effect.
func (f *Flow) applyControls(now time.Time) {
	c := &f.controls
	c.mu.Lock()
	c.ends = c.state.NextEnd(now)
	c.mu.Unlock()
	f.applyThrottles(now)
	f.applyPauses(now)
}

// applyPauses lets what is paused now take effect.
func (f *Flow) applyPauses(now time.Time) {
	c := &f.controls
	c.pausing.Lock()
	defer c.pausing.Unlock()
	if f.pair != nil {
		f.pair.noteState(c.stopped())
	}
	list := f.partitions()
	pauses := make([]*control.Decision, len(list))
	c.mu.Lock()
	for i, p := range list {
		pauses[i] = c.state.Paused(p.source(), now)
	}
	c.mu.Unlock()
	for i, p := range list {
		if pauses[i] == nil {
			pauses[i] = f.holdOf(p)
		}
		if p.setPause(pauses[i]) {
			f.wakeSource(p)
		}
	}
}

// endControls lets what has ended by itself lose its effect.
func (f *Flow) endControls(now time.Time) {
	if ends := f.controls.ends; !ends.IsZero() && !now.Before(ends) {
		f.applyControls(now)
	}
}

// pauseOf returns the pause of a partition, nil if it is not paused.
func (c *controls) pauseOf(tp offsets.TopicPartition) *control.Decision {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Paused(tp, time.Now())
}

// pausedSince returns since when a partition has not been read because of pauses that an earlier process may not have seen the end of. It was last
// alive at an instant.
func (c *controls) pausedSince(tp offsets.TopicPartition, alive time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.PausedSince(tp, alive, time.Now())
}

// stopped returns the decision by which the flow does nothing any more, nil if there is none.
func (c *controls) stopped() *control.Decision {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Stopped()
}

// groupsPause returns what keeps the groups from being synced, nil if nothing does.
func (c *controls) groupsPause() *control.Decision {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.state.Stopped(); d != nil {
		return d
	}
	return c.state.PauseOf(control.Scope{Kind: control.Groups}, time.Now())
}

// noteControlled records that the topic can be read.
func (f *Flow) noteControlled() {
	c := &f.controls
	c.failing = time.Time{}
	if !c.writeFailed.IsZero() {
		return
	}
	if c.setProblem("") != "" {
		f.log.Info("the flow can be controlled again")
	}
}

// noteUncontrolled records why the topic cannot be read or created. What lasts only for moments is no problem.
func (f *Flow) noteUncontrolled(err error, now time.Time) {
	c := &f.controls
	if c.failing.IsZero() {
		c.failing = now
	}
	if control.IsDenied(err) || now.Sub(c.failing) > controlDoubtful {
		c.setProblem("the flow runs and cannot be controlled: " + err.Error())
		f.warn("the flow cannot be controlled", "err", err)
	}
}

// setProblem returns the problem before.
func (c *controls) setProblem(text string) (before string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.problem = c.problem, text
	return before
}

// housekeep keeps the topic short. The instance with shard 0 does it.
func (f *Flow) housekeep(ctx context.Context) error {
	c := &f.controls
	c.mu.Lock()
	if c.state.IsUrgent() {
		c.kept = time.Time{}
	}
	c.mu.Unlock()
	if !f.leads() || time.Since(c.kept) < housekeepEvery || !c.log.IsRead() { // else what was written last would be written again
		return nil
	}
	c.kept = time.Now()
	c.mu.Lock()
	entries := c.state.Housekeep(time.Now())
	c.mu.Unlock()
	if len(entries) == 0 {
		return nil
	}
	batches := control.Chunks(entries)
	for _, some := range batches[:min(len(batches), housekeepBatches)] {
		if err := c.log.Write(ctx, some...); control.IsDenied(err) { // outcomes say so
			return nil
		} else if err != nil {
			return err
		}
	}
	if len(batches) > housekeepBatches {
		c.kept = time.Time{} // the rest follows once these are read
	}
	return nil
}
