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
	log   *slog.Logger
	flows int

	mu     sync.Mutex
	errors map[string]error // why a flow does not work, by its name
	end    func()           // ends all flows
}

func newSupervisor(log *slog.Logger, flows int) *supervisor {
	return &supervisor{log: log, flows: flows, errors: make(map[string]error), end: func() {}}
}

// supervised is a flow that a supervisor runs.
type supervised interface {
	runner
	Name() string
}

// runApart runs flows until ctx ends or none of them can work, which is an error. It calls onStop when the stop begins.
func runApart[F supervised](ctx context.Context, s *supervisor, flows []F, onStop func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, onStop)()
	s.mu.Lock()
	s.end = cancel
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, f := range flows {
		all.Go(func() {
			if err := f.Run(ctx); err != nil && s.note(f.Name(), err) {
				s.log.Error("the flow has ended and the others go on; fix the cause, then restart milena", "flow", f.Name(), "err", err)
			}
		})
	}
	all.Wait()
	return s.failure()
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
