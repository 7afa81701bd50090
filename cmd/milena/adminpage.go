package main

import (
	"context"
	"sync"

	"github.com/milena-kafka/milena/cmd/milena/page"
	"github.com/milena-kafka/milena/replicator"
)

// servedPage is the status page of an admin, with the goroutine that keeps it up to date.
type servedPage struct {
	*page.Page
	cancel  context.CancelFunc // nil before begin
	running sync.WaitGroup
}

func newServedPage(a *admin) *servedPage {
	return &servedPage{Page: page.New(page.Options{
		Version: buildVersion(), Instance: func() string { return a.instance }, Statuses: a.statuses, Stopping: a.ending.Load,
		NotReady: func(statuses []replicator.Status) []string { return a.notReady(notReadyOf(statuses)) },
	})}
}

// begin keeps the page up to date until end, also while the process stops: pages show how batches in flight are waited for.
func (p *servedPage) begin(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.running.Go(func() { p.Run(ctx) })
}

// end ends all streams. It does nothing if the page was not begun.
func (p *servedPage) end() {
	if p.cancel != nil {
		p.cancel()
		p.running.Wait()
	}
}
