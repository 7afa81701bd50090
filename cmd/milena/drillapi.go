package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/guard"
	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/recovery"
)

const (
	// MaxDrills is how many drills a process carries out at a time: each has connections of its own, and reads from the target.
	maxDrills = 2
	// DrillStop is how long the end of the process waits for drills to clean up. The next drill deletes what one leaves that is killed.
	drillStop = 10 * time.Second
)

// drillOrder is the body of a request for a drill: the flags of milena drill.
type drillOrder struct {
	Reason      string        `json:"reason,omitempty"`
	LeaveGroups []string      `json:"leave_groups,omitempty"`
	Freeze      freeze.Method `json:"freeze,omitempty"`
	MaxLag      *int64        `json:"max_lag,omitempty"`
	NoReverse   bool          `json:"no_reverse,omitempty"`
	Positions   *int          `json:"positions,omitempty"`
	DryRun      bool          `json:"dry_run,omitempty"`
}

// options are those of the drill that somebody orders, and how many positions of a group it looks at.
func (o *drillOrder) options(who string) (recovery.Options, int, error) {
	made := recovery.Options{
		Who: who, Reason: o.Reason, LeaveGroups: o.LeaveGroups, Freeze: freeze.ACL, MaxLag: drillMaxLag, NoReverse: o.NoReverse, DryRun: o.DryRun,
	}
	positions := drillPositions
	if o.Freeze != "" {
		made.Freeze = o.Freeze
	}
	if o.MaxLag != nil {
		made.MaxLag = *o.MaxLag
	}
	if o.Positions != nil {
		positions = *o.Positions
	}
	switch {
	case !slices.Contains(freezeMethods(), made.Freeze):
		return made, 0, wrongOrder("freeze %q must be acl, quota or none", made.Freeze)
	case positions < 1:
		return made, 0, wrongOrder("positions %d must be at least 1", positions)
	}
	return made, positions, nil
}

// drills are the drills that requests have begun. They outlive these.
type drills struct {
	running sync.WaitGroup
	slots   chan struct{} // one element per drill
	ending  chan struct{} // closed when the process ends
	stop    func()
}

func newDrills() *drills {
	d := &drills{slots: make(chan struct{}, maxDrills), ending: make(chan struct{})}
	d.stop = sync.OnceFunc(func() { close(d.ending) })
	return d
}

// wait waits for drills that end, but not for ever.
func (d *drills) wait() {
	done := make(chan struct{})
	go func() {
		d.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(drillStop):
	}
}

// drilled is how a drill has ended.
type drilled struct {
	report *recovery.Report
	err    error
}

// start carries out a drill, whatever becomes of the request of the context. One of the two channels gets something first: the id of the drill once it has begun, or
// why it has not, or what a dry run has found. It returns false if there are too many.
func (d *drills) start(ctx context.Context, c client.Clusters, o recovery.Options, positions int) (began <-chan string, ended <-chan drilled, ok bool) {
	select {
	case d.slots <- struct{}{}:
	default:
		return nil, nil, false
	}
	ids, ends := make(chan string, 1), make(chan drilled, 1)
	o.Watch = func(e recovery.Event) {
		if e.ID == "" {
			return
		}
		select {
		case ids <- e.ID:
		default: // it was told
		}
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), drillTimeout, context.DeadlineExceeded)
	d.running.Go(func() {
		defer func() { <-d.slots }()
		defer cancel()
		go func() {
			select {
			case <-d.ending:
				cancel()
			case <-ctx.Done():
			}
		}()
		report, err := runDrill(ctx, c, reverseIn(c), o, positions)
		ends <- drilled{report, err}
	})
	return ids, ends, true
}

// reverseIn are the clusters of the flow back, nil if there is none.
func reverseIn(c client.Clusters) *client.Clusters {
	if len(c.Reverse) == 0 {
		return nil
	}
	return &client.Clusters{Flow: c.Reverse[0], Source: c.Target, Target: c.Source, Reverse: []config.Flow{c.Flow}, Log: c.Log}
}

// serveDrill begins what milena drill does. It answers when the drill has begun, with its id, by which the status and the history show it.
func (a *admin) serveDrill(w http.ResponseWriter, r *http.Request) {
	var o drillOrder
	if !readBody(w, r, &o) {
		return
	}
	options, positions, err := o.options(guard.User(r.Context()))
	if err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	c, done, ok := a.begin(w, r)
	if !ok {
		return
	}
	defer done()
	began, ended, ok := a.drills.start(r.Context(), c, options, positions)
	if !ok {
		w.Header().Set("Retry-After", "60")
		refuse(w, http.StatusServiceUnavailable, "%d drills are under way; try again when one has ended", maxDrills)
		return
	}
	select {
	case id := <-began:
		answerDrill(w, id)
		return
	case end := <-ended:
		select { // it may have ended at once
		case id := <-began:
			answerDrill(w, id)
			return
		default:
		}
		if end.err != nil {
			refuse(w, codeOfDrill(end.err), "%v", end.err)
			return
		}
		writeJSON(w, end.report)
	case <-r.Context().Done():
	case <-time.After(apiTimeout):
		refuse(w, http.StatusGatewayTimeout, "the drill has not begun within %v, and goes on; see the status", apiTimeout)
	}
}

func answerDrill(w http.ResponseWriter, id string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(struct { // an error means that the client has disconnected
		ID string `json:"id"`
	}{id})
}

// codeOfDrill is the status code of a drill that could not begin.
func codeOfDrill(err error) int {
	if _, ok := errors.AsType[*recovery.HeldError](err); ok {
		return http.StatusConflict
	}
	return codeOf(err)
}
