package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// supervisor lets the flows of a process fail one by one: what one of them cannot do stops no other one. The process ends when none can work.
type supervisor struct {
	log *slog.Logger
	all sync.WaitGroup

	mu      sync.Mutex
	flows   int              // that run, or are about to
	errors  map[string]error // why a flow does not work, by its name
	running map[string]*flowRun
	end     func() // ends all flows
}

// newSupervisor creates a supervisor of so many flows.
func newSupervisor(log *slog.Logger, flows int) *supervisor {
	return &supervisor{log: log, flows: flows, errors: make(map[string]error), running: make(map[string]*flowRun), end: func() {}}
}

// flowRun is one run of a flow.
type flowRun struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// supervised is a flow that a supervisor runs.
type supervised interface {
	runner
	Name() string
}

// runApart runs flows until ctx ends or none of them can work, which is an error. It calls onStop when the stop begins. Beside is called in a goroutine of its own
// and may start and stop flows until its context ends.
func runApart[F supervised](ctx context.Context, s *supervisor, flows []F, onStop func(), beside func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, onStop)()
	s.mu.Lock()
	s.end = cancel
	s.mu.Unlock()
	for _, f := range flows {
		s.start(ctx, f)
	}
	s.all.Go(func() { beside(ctx) })
	s.all.Wait()
	return s.failure()
}

// start runs a flow that was counted until ctx ends, it is stopped, or it fails.
func (s *supervisor) start(ctx context.Context, f supervised) {
	ctx, cancel := context.WithCancel(ctx)
	r := &flowRun{cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	s.running[f.Name()] = r
	s.mu.Unlock()
	s.all.Go(func() {
		defer cancel()
		defer close(r.done)
		if err := f.Run(ctx); err != nil && s.note(f.Name(), err) {
			s.log.Error("the flow has ended and the others go on; fix the cause, then restart milena", "flow", f.Name(), "err", err)
		}
	})
}

// count adds flows that are about to be started.
func (s *supervisor) count(flows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flows += flows
}

// stop stops a flow cleanly, waits for it and forgets it. If none of the others can work, it ends all.
func (s *supervisor) stop(flow string) {
	s.mu.Lock()
	r := s.running[flow]
	delete(s.running, flow)
	s.mu.Unlock()
	if r != nil {
		r.cancel()
		<-r.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.errors, flow)
	if s.flows--; len(s.errors) >= s.flows {
		s.end()
	}
}

// note records why a flow does not work, nil if it does. It reports whether another one may work, so that the process goes on.
func (s *supervisor) note(flow string, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.errors, flow)
		return true
	}
	s.errors[flow] = err
	if len(s.errors) < s.flows {
		return true
	}
	s.end()
	return false
}

// failure returns why no flow works, nil if one does.
func (s *supervisor) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errors) < s.flows {
		return nil
	}
	var all []error
	for _, flow := range slices.Sorted(maps.Keys(s.errors)) {
		all = append(all, s.errors[flow])
	}
	return errors.Join(all...)
}
