package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
)

// run is a recovery that this process carries out. Only one process does at a time: each record that it writes counts only if nobody else has written one.
type run struct {
	clusters client.Clusters
	watch    func(Event)
	close    func()

	mu     sync.Mutex // held over the requests of the control topic, which one goroutine may use at a time
	log    *control.Log
	state  *control.State
	record control.Recovery
	doc    document
	after  control.Recovery // the record that the first one of this process replaces; empty once it is written
	taken  error            // another process has taken over: this one has read that, so its next record would count again
	// givenUp is the recovery that a failover replaces, nil if there is none. It is kept in the history once.
	givenUp *control.Recovery
}

// Event is what a recovery tells while it is under way.
type Event struct {
	// ID is that of the recovery, empty before it has begun.
	ID   string
	Step Step
	// Waiting is what the step waits for, empty if the event is that the step began or ended.
	Waiting string
	// Checks are the checks before the first step; then the event has nothing else.
	Checks []Row
}

// checked tells the checks.
func (o *Options) checked(rows []Row) {
	if o.Watch != nil && len(rows) > 0 {
		o.Watch(Event{Checks: rows})
	}
}

// HeldError means that somebody else carries out a recovery of the flow.
type HeldError struct {
	Recovery control.Recovery
	Flow     string
	Replaces bool // what was refused takes its place once it is broken off
}

func (e *HeldError) Error() string {
	r := &e.Recovery
	cure := fmt.Sprintf("if that process is gone, repeat its command in %v, which resumes it", control.RecoveryTimeout)
	if e.Replaces {
		cure = fmt.Sprintf("end that process, and repeat this command %v later: it takes its place", control.RecoveryTimeout)
	}
	return fmt.Sprintf("%s carries out a %s of flow %s since %s, and is at step %s; %s", r.Who, r.What, e.Flow, r.When.UTC().Format(time.DateTime), r.Step, cure)
}

// errTaken means that another process goes on with the recovery.
var errTaken = errors.New("another process has taken the recovery over")

const (
	// BeatEvery is how often the holder says that it is there.
	beatEvery = 3 * time.Second
	// SaveAttempts is how often a record is written until it is known to be there.
	saveAttempts = 5
	// SettleWait is how long the first record of an empty topic waits for that of somebody else: nothing was read that theirs could be newer than.
	settleWait = time.Second
)

// holder names this process.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d/%d", host, os.Getpid(), time.Now().UnixNano())
}

// isGone reports whether a holder was a process of this host that does not exist any more.
func (o *Options) isGone(name string) bool {
	if o.gone != nil {
		return o.gone(name)
	}
	parts := strings.Split(name, "/")
	host, err := os.Hostname()
	if len(parts) != 3 || err != nil || parts[0] != host {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	return err == nil && pid != os.Getpid() && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// begin claims the flow for a recovery, or goes on with one that was broken off. The options of that one count.
func begin(ctx context.Context, c client.Clusters, verb Verb, o Options, checks []Row) (*run, error) {
	log, state, done, err := control.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	r := &run{clusters: c, watch: o.Watch, close: done, log: log, state: state}
	if err := r.claim(ctx, verb, o, checks); err != nil {
		done()
		return nil, err
	}
	return r, nil
}

// open returns the recovery of a flow that was broken off, nil if there is none, or a [HeldError] if somebody carries one out. A failover takes the place of
// another one that was broken off: that could neither go on nor be undone without the source. What it had frozen there is remembered.
func (o *Options) open(state *control.State, verb Verb, flow string) (*control.Recovery, error) {
	r := state.RecoveryOf(string(verb))
	switch {
	case r == nil || !r.IsOpen():
		return nil, nil //nolint:nilnil // none is no error
	case r.IsHeld(time.Now()) && !o.isGone(r.Holder):
		return nil, &HeldError{Recovery: *r, Flow: flow, Replaces: verb == Failover && r.What != string(verb)}
	case r.What != string(verb) && verb == Failover:
		return nil, nil //nolint:nilnil // none is to be resumed
	case r.What != string(verb):
		return nil, fmt.Errorf("a %s of flow %s that %s began at %s was broken off at step %s; repeat milena %s, which resumes it", r.What, flow, r.Who, r.When.UTC().Format(time.DateTime), r.Step, r.What)
	}
	return r, nil
}

func (r *run) claim(ctx context.Context, verb Verb, o Options, checks []Row) error {
	broken, err := o.open(r.state, verb, r.clusters.Flow.Name)
	if err != nil {
		return err
	}
	r.record = control.NewRecovery(string(verb), o.Who, holder())
	if broken != nil && verb != Drill { // a drill begins anew
		if r.doc, err = decodeDocument(broken); err != nil {
			return err
		}
		r.record.ID, r.record.When, r.record.State, r.record.Step = broken.ID, broken.When, broken.State, broken.Step
	} else {
		r.doc = document{Options: o, Report: Report{
			ID: r.record.ID, Verb: verb, Flow: r.clusters.Flow.Name, Source: r.clusters.Flow.Source, Target: r.clusters.Flow.Target,
			Began: r.record.When, Why: o.Reason, Checks: checks, Steps: []Step{},
		}}
		if last := r.state.Recovery(); last != nil {
			before, err := decodeDocument(last)
			if err != nil {
				return err
			}
			r.doc.Earlier = before.freezes()
			if last.IsOpen() && verb != Drill {
				r.givenUp = last
			}
		}
	}
	r.doc.Report.Who = o.Who
	if last := r.state.RecoveryOf(string(verb)); last != nil {
		r.after = *last
	}
	empty := r.state.ReadTo() == 0
	if err := r.save(ctx); err != nil {
		return err
	}
	if !empty {
		return nil
	}
	if err := client.Sleep(ctx, settleWait); err != nil {
		return err
	}
	return r.save(ctx)
}

// save writes what is known of the recovery, and finds out whether this process still carries it out.
func (r *run) save(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.saveLocked(ctx)
}

func (r *run) saveLocked(ctx context.Context) (err error) {
	if r.findTaken(); r.taken != nil {
		return r.taken
	}
	r.record.Seen = time.Now().UTC().Truncate(time.Millisecond)
	r.doc.Report.State = r.record.State
	r.record.Frozen = r.doc.frozenBy(r.clusters.Flow.Source, r.clusters.Flow.Name)
	if r.record.Document, err = json.Marshal(r.doc); err != nil {
		return err
	}
	if n := len(r.record.Document); n > control.MaxRecoveryValue-4096 {
		return fmt.Errorf("the record of the %s has %d bytes: %w; choose fewer topics for one flow", r.record.What, n, errTooLarge)
	}
	for attempt := range saveAttempts {
		// At least 1, if nothing was read: what somebody else has written again since, see claim, counts then.
		entries := r.record.Entries(max(1, r.state.ReadTo()))
		if r.givenUp != nil {
			entries = append(entries, r.givenUp.Kept())
		}
		err = r.log.WriteCreating(ctx, r.clusters, entries)
		if read := r.read(ctx); read == nil {
			now := r.state.RecoveryOf(r.record.What)
			if now != nil && now.ID == r.record.ID && now.Holder == r.record.Holder && now.Seen.Equal(r.record.Seen) {
				r.after, r.givenUp = control.Recovery{}, nil
				return nil // also if the answer to the write was lost
			}
			if r.findTaken(); r.taken != nil {
				return r.taken
			}
		} else if err == nil {
			err = read
		}
		if control.IsDenied(err) {
			break
		}
		if sleep := client.Sleep(ctx, client.Backoff(attempt)); sleep != nil {
			break
		}
	}
	if err == nil {
		err = errors.New("the record is not in the topic after it was written")
	}
	return fmt.Errorf("the progress of the %s cannot be written to topic %s: %w", r.record.What, control.TopicName(r.clusters.Flow.Name), r.clusters.TargetError(err))
}

// findTaken finds out whether the topic, as far as it was read, has a record of another process that this one does not replace: that goes on, or has ended
// the recovery, or has broken it off.
func (r *run) findTaken() {
	now := r.state.RecoveryOf(r.record.What)
	switch {
	case r.taken != nil, now == nil, now.Holder == r.record.Holder, now.Holder == r.after.Holder && now.Seen.Equal(r.after.Seen):
	case now.IsHeld(time.Now()):
		r.taken = fmt.Errorf("%w: %w", errTaken, &HeldError{Recovery: *now, Flow: r.clusters.Flow.Name})
	default:
		r.taken = fmt.Errorf("%w: the %s of %s that began at %s is %s; look at milena log --kind recovery", errTaken, now.What, now.Who, now.When.UTC().Format(time.DateTime), now.State)
	}
}

// read reads the control topic to its end.
func (r *run) read(ctx context.Context) error {
	err := r.log.ReadAll(ctx, func(record control.Record) { _ = r.state.Apply(record) })
	if errors.Is(err, control.ErrAnotherLog) {
		r.state = control.NewState(r.clusters.Flow)
		err = r.log.ReadAll(ctx, func(record control.Record) { _ = r.state.Apply(record) })
	}
	return err
}

// keep says every few seconds that this process is there, until ctx ends, and cancels what it does if another one has taken over.
func (r *run) keep(ctx context.Context, cancel context.CancelCauseFunc) {
	client.Every(ctx, beatEvery, func(time.Time) {
		if err := r.save(ctx); errors.Is(err, errTaken) {
			cancel(err)
		}
	})
}

// errTooLarge means that a document does not fit into the control topic.
var errTooLarge = errors.New("it does not fit into the control topic")

// change changes the document and writes it. It stays as it was if it would be too large: else the recovery could not even be undone.
func (r *run) change(ctx context.Context, change func(*document)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.doc
	change(&r.doc)
	err := r.saveLocked(ctx)
	if errors.Is(err, errTooLarge) {
		r.doc = before
	}
	return err
}

// report is a copy of the report.
func (r *run) report() *Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.doc.Report
	report.State = r.record.State
	report.Steps = append([]Step{}, report.Steps...)
	return &report
}

// waiting tells what a step waits for.
func (r *run) waiting(format string, args ...any) {
	if r.watch == nil {
		return
	}
	r.mu.Lock()
	var step Step
	if n := len(r.doc.Report.Steps); n > 0 {
		step = r.doc.Report.Steps[n-1]
	}
	r.mu.Unlock()
	r.watch(Event{ID: r.record.ID, Step: step, Waiting: fmt.Sprintf(format, args...)})
}
