package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/membership"
)

// Submission is what became of decisions.
type Submission struct {
	Decisions []Decision `json:"decisions"`
	// Outcomes are what the instances did about them, as far as they said so in time.
	Outcomes []Outcome `json:"outcomes"`
	// Missing are the instances that run, hold shards, and did not say what they did.
	Missing []string `json:"missing"`
	// Running says that an instance runs, as far as is known.
	Running bool `json:"running"`
	// Unknown is why it is not known which instances run, empty if it is, or if that does not matter.
	Unknown string `json:"unknown,omitempty"`
}

// IsAnswered reports whether every decision has an outcome, and none of them is a failure.
func (s *Submission) IsAnswered() bool {
	answered := make(map[string]bool)
	for _, o := range s.Outcomes {
		if o.Result != Done {
			return false
		}
		answered[o.ID] = true
	}
	return len(answered) == len(s.Decisions)
}

// pollSubmission is how long one request for outcomes waits.
const pollSubmission = 200 * time.Millisecond

// Open reads the control topic of a flow to its end. It needs the target only. The caller closes the client of the log with the function that it returns.
func Open(ctx context.Context, c client.Clusters) (*Log, *State, func(), error) {
	cl, err := c.OpenTarget()
	if err != nil {
		return nil, nil, nil, err
	}
	l, state := NewLog(cl, c.Flow.Target, c.Flow.Name), NewState(c.Flow)
	err = l.ReadAll(ctx, func(r Record) { _ = state.Apply(r) })
	if err != nil && !errors.Is(err, ErrNoTopic) {
		cl.Close()
		return nil, nil, nil, c.TargetError(err)
	}
	state.Settle()
	return l, state, cl.Close, nil
}

// Submit writes decisions about a flow, and waits until the instances that run it have said what they did, for as long as wait at most. It creates the
// control topic if it does not exist. A decision that no instance answers holds from the next start on.
func Submit(ctx context.Context, c client.Clusters, wait time.Duration, decisions ...Decision) (Submission, error) {
	s := Submission{Decisions: decisions, Outcomes: []Outcome{}, Missing: []string{}}
	for i := range decisions {
		if err := decisions[i].Check(); err != nil {
			return s, err
		}
	}
	l, state, done, err := Open(ctx, c)
	if err != nil {
		return s, err
	}
	defer done()
	var entries []Entry
	for i := range decisions {
		state.continuePause(&decisions[i], time.Now())
		entries = append(entries, decisions[i].Entries()...)
	}
	for some := range slices.Chunk(entries, MaxEntries) { // an even number: the records of a decision stay together
		if err := l.WriteCreating(ctx, c, some); err != nil {
			return s, c.TargetError(err)
		}
	}
	err = s.await(ctx, c, l, state, time.Now().Add(wait))
	return s, err
}

const (
	// LookAgain is how often the group is asked again who runs the flow, if all of them must answer.
	lookAgain = time.Second
	// LookTimeout is how long it may take to answer.
	lookTimeout = 3 * time.Second
)

// await waits until the instances have said what they did. That a flow has stopped is only known once all have that run it after the last answer: one of
// them may have come, with shards of others, while these answered.
func (s *Submission) await(ctx context.Context, c client.Clusters, l *Log, state *State, deadline time.Time) error {
	stops := slices.ContainsFunc(s.Decisions, func(d Decision) bool { return d.What.stops() })
	var instances []string
	var looked time.Time
	look := func() {
		var err error
		s.Unknown = ""
		if instances, err = runningInstances(ctx, c, l); err != nil && stops {
			s.Unknown = err.Error()
		}
		looked = time.Now()
	}
	look()
	for fresh := false; ; {
		s.note(state, instances)
		s.Running = len(instances)+len(s.Outcomes) > 0
		complete := s.Unknown == "" && s.isComplete(instances)
		switch {
		case complete && (fresh || !stops), time.Now().After(deadline):
			return nil
		case complete, stops && time.Since(looked) > lookAgain:
			look()
			fresh = complete
			continue
		}
		fresh = false
		err := l.Read(ctx, pollSubmission, func(r Record) { _ = state.Apply(r) })
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrAnotherLog):
			state = &State{}
		case err != nil:
			if err := client.Sleep(ctx, pollSubmission); err != nil {
				return err
			}
		}
	}
}

// continuePause lets a decision that pauses, stops or ends that say since when what it is about is not copied.
func (s *State) continuePause(d *Decision, now time.Time) {
	switch d.What {
	case StopFlow, FailOver, StartFlow:
		if before := s.Stopped(); before != nil {
			d.Began = before.Start()
		}
		return
	case Pause, Resume:
	case Throttle, Retry, Skip, RestartCopy, Adopt, SyncGroups:
		return
	}
	if before := s.PauseOf(d.Scope, now); before != nil {
		d.Began = before.Start()
	}
}

// WriteCreating writes, and creates the topic first if there is none.
func (l *Log) WriteCreating(ctx context.Context, c client.Clusters, entries []Entry) error {
	err := l.Write(ctx, entries...)
	if !errors.Is(err, ErrNoTopic) {
		return err
	}
	if _, _, err := l.Create(ctx, c.Flow.Name, c.Flow.ReplicationFactor); err != nil {
		return fmt.Errorf("create %s: %w", l.topic, err)
	}
	for attempt := 0; ; attempt++ { // until its brokers know it
		if err = l.Write(ctx, entries...); err == nil || attempt == 2*writeAttempts {
			return err
		}
		if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
			return err
		}
	}
}

// runningInstances returns the members of the flow's group that have shards. An instance outside a group is not among them. While the group rebalances, its
// coordinator does not say who has shards.
func runningInstances(ctx context.Context, c client.Clusters, l *Log) (ids []string, err error) {
	if c.Flow.Instances == config.InstancesOne {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	group, err := membership.Describe(ctx, l.client, membership.GroupName(c.Flow.Name))
	if err != nil {
		return nil, c.TargetError(err)
	}
	if group.IsMoving() {
		return nil, fmt.Errorf("group %s rebalances, and its coordinator does not say which instances have shards", membership.GroupName(c.Flow.Name))
	}
	for _, i := range group.Instances {
		if len(i.Shards) > 0 {
			ids = append(ids, i.ID)
		}
	}
	return ids, nil
}

// note takes the outcomes that the topic has.
func (s *Submission) note(state *State, instances []string) {
	s.Outcomes, s.Missing = s.Outcomes[:0], s.Missing[:0]
	for i := range s.Decisions {
		s.Outcomes = append(s.Outcomes, state.Outcomes(s.Decisions[i].ID)...)
	}
	for _, id := range instances {
		for i := range s.Decisions {
			if _, ok := state.Outcome(s.Decisions[i].ID, id); !ok && s.Decisions[i].isForAll() {
				s.Missing = append(s.Missing, id)
				break
			}
		}
	}
}

// isForAll reports whether every instance with shards says what it did. Else the one does that has the partition, or shard 0.
func (d *Decision) isForAll() bool { return d.Scope.Kind == Flow || d.Scope.Kind == Topic }

// isComplete reports whether nothing more is to be waited for.
func (s *Submission) isComplete(instances []string) bool {
	answered := make(map[string]bool)
	for _, o := range s.Outcomes {
		answered[o.ID] = true
	}
	return len(answered) == len(s.Decisions) && len(s.Missing) == 0 && (len(instances) > 0 || len(s.Outcomes) > 0)
}
