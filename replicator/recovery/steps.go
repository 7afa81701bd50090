package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

// step is one step of a recovery. What it does and undoes may be repeated: a process may have been killed in the midst of either.
type step struct {
	name string
	// do returns what came of it, as a clause.
	do func(context.Context) (string, error)
	// undo takes back what do did, all or a part of it; nil if there is nothing to take back.
	undo func(context.Context) (string, error)
	// last means that the recovery cannot be undone once the step has begun, because clients may have gone over.
	last bool
}

// undoTimeout is how long taking back may take, also after the time for the recovery is up.
const undoTimeout = time.Minute

// execute carries out the steps that are not done yet. If one fails, those before it are undone, in the reverse order, unless the last one has begun.
func (r *run) execute(ctx context.Context, steps []step) error {
	held, cancel := context.WithCancelCause(ctx)
	beat, stopBeat := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.keep(beat, cancel)
	}()
	defer func() {
		stopBeat()
		<-ended
		cancel(nil)
	}()
	var failure error
	if r.record.State == control.RecoveryRuns {
		failure = r.forward(held, steps)
	}
	switch {
	case errors.Is(failure, errTaken):
		return failure
	case failure == nil && r.record.State == control.RecoveryRuns:
		return r.end(context.WithoutCancel(ctx), control.RecoveryDone)
	case failure != nil && r.cannotUndo(steps):
		return fmt.Errorf("%w; clients may use the target already, so nothing is undone: repeat the command, which goes on", failure)
	}
	undo, cancelUndo := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancelUndo()
	if err := r.backward(undo, steps, failure); err != nil {
		return err
	}
	return fmt.Errorf("%s; all of it is undone, and clients stay on cluster %s", r.doc.Report.Failure, r.clusters.Flow.Source)
}

func (r *run) forward(ctx context.Context, steps []step) error {
	for i, s := range steps {
		if at := r.find(s.name); at != nil && at.Result == OK {
			continue
		}
		if ctx.Err() != nil { // nothing of the step is done
			return explain(ctx, s.name, ctx.Err())
		}
		// Not ended by ctx: whoever cannot know whether the last step is noted as begun could not undo those before it.
		if err := r.note(context.WithoutCancel(ctx), Step{Name: s.name, Result: Begun, Began: now()}); err != nil {
			return err
		}
		do := s.do
		if s.last && i == len(steps)-1 { // what cannot be undone and is all that is left is better done than broken off
			do = s.finish
		}
		detail, err := do(ctx)
		done := Step{Name: s.name, Result: OK, Detail: detail}
		if err != nil {
			err = explain(ctx, s.name, err)
			done.Result, done.Detail = Failed, err.Error()
		}
		if noted := r.note(context.WithoutCancel(ctx), done); noted != nil && err == nil {
			err = noted
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finish does a step also if ctx ends meanwhile.
func (s *step) finish(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return s.do(ctx)
}

// explain says which step failed, and if the time was up.
func explain(ctx context.Context, name string, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errTaken):
		return cause
	case errors.Is(cause, context.DeadlineExceeded):
		return fmt.Errorf("step %s was not done within the time of --timeout: %w", name, err)
	case errors.Is(cause, context.Canceled):
		return fmt.Errorf("step %s was interrupted", name)
	}
	return fmt.Errorf("step %s: %w", name, err)
}

// backward undoes the steps that have begun.
func (r *run) backward(ctx context.Context, steps []step, failure error) error {
	if r.record.State != control.RecoveryUndoes {
		r.mu.Lock()
		r.record.State, r.doc.Report.Failure = control.RecoveryUndoes, failure.Error()
		err := r.saveLocked(ctx)
		r.mu.Unlock()
		if err != nil {
			return fmt.Errorf("%w; then: %w", failure, err)
		}
	}
	for _, s := range slices.Backward(steps) {
		at := r.find(s.name)
		if at == nil || at.Result == Undone || s.undo == nil {
			continue
		}
		if err := r.save(ctx); err != nil { // whoever was slow finds here that another one goes on, and not after it has changed something
			return err
		}
		detail, err := s.undo(ctx)
		if err != nil {
			return fmt.Errorf("%s; what step %s did is not undone: %w; repeat the command, which goes on undoing%s", r.doc.Report.Failure, s.name, err, r.orFailOver())
		}
		if err := r.note(ctx, Step{Name: s.name, Result: Undone, Detail: detail}); err != nil {
			return err
		}
	}
	return r.end(ctx, control.RecoveryUndone)
}

// orFailOver says what else ends a switchover that cannot be undone.
func (r *run) orFailOver() string {
	if r.record.What != string(Switchover) {
		return ""
	}
	return fmt.Sprintf("; if cluster %s is gone, milena failover --flow %s takes its place", r.clusters.Flow.Source, r.clusters.Flow.Name)
}

// cannotUndo reports whether the last step has begun.
func (r *run) cannotUndo(steps []step) bool {
	return slices.ContainsFunc(steps, func(s step) bool { return s.last && r.find(s.name) != nil })
}

// find returns a step that has begun, nil if it has not.
func (r *run) find(name string) *Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.doc.Report.Steps {
		if s := &r.doc.Report.Steps[i]; s.Name == name {
			found := *s
			return &found
		}
	}
	return nil
}

// note writes how far a step is, and tells it.
func (r *run) note(ctx context.Context, s Step) error {
	err := r.change(ctx, func(d *document) {
		i := slices.IndexFunc(d.Report.Steps, func(other Step) bool { return other.Name == s.Name })
		if i < 0 {
			d.Report.Steps = append(d.Report.Steps, s)
			i = len(d.Report.Steps) - 1
		}
		at := &d.Report.Steps[i]
		if s.Began.IsZero() {
			s.Began, s.Ended = at.Began, now()
		}
		*at, r.record.Step = s, s.Name
	})
	if r.watch != nil {
		r.watch(Event{ID: r.record.ID, Step: s})
	}
	return err
}

// end writes that the recovery has ended.
func (r *run) end(ctx context.Context, state control.RecoveryState) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.State, r.doc.Report.Ended = state, now()
	return r.saveLocked(ctx)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
