package long_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/switching"
)

func startSwitching(t *testing.T, partitions, groups int64) *switching.World {
	t.Helper()
	jars := requireLong(t)
	bin, err := daemon.Build(t.Context(), t.TempDir())
	must(t, err)
	w, err := switching.Start(t.Context(), switching.Options{
		Partitions: int(number(t, "MILENA_PARTITIONS", partitions)), Groups: int(number(t, "MILENA_GROUPS", groups)), PerSecond: 200,
		Binary: bin, Jars: jars, Dir: t.TempDir(), Logf: t.Logf,
	})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("milena:\n%s", w.Milena.Tail(60))
		}
	})
	return w
}

// An application moves ten times to the target and back, with each freeze in turn: ACLs, quotas, and producers that it stops itself. Each of its groups
// processes each record exactly once.
func TestTenSwitchovers(t *testing.T) {
	w := startSwitching(t, 200, 50)
	times := switching.Times{}
	freezes := []string{"acl", "quota", "none"}
	for i := range int(number(t, "MILENA_ROUNDS", 10)) {
		for range 2 {
			work(t)
			how := freezes[i%len(freezes)]
			if how == "none" {
				must(t, w.App.StopProducers())
			}
			o, err := w.SwitchAndMove(t.Context(), "--freeze", how)
			must(t, err)
			must(t, times.Add(o))
		}
	}
	work(t)
	must(t, w.App.Finish(t.Context()))
	t.Logf("%d records, %d groups: each processed each of them once\n%s", w.App.Written(), len(w.App.Groups()), times)
}

// work lets the application work for a moment.
func work(t *testing.T) {
	t.Helper()
	select {
	case <-time.After(2 * time.Second):
	case <-t.Context().Done():
	}
}

// killing ends the command when it prints a line that begins with a text.
func killing(with syscall.Signal, at string) func(string) syscall.Signal {
	return func(line string) syscall.Signal {
		if strings.HasPrefix(line, at) {
			return with
		}
		return 0
	}
}

func steps() []string { return []string{"freeze", "drain", "groups", "stop", "reverse", "open"} }

// The command is killed when its checks are made, after each step and in the midst of one, and milena itself in each step. Whoever repeats the command then
// gets to the other cluster, and no group loses a record or processes one twice.
func TestSwitchoverKilledBetweenSteps(t *testing.T) {
	w := startSwitching(t, 8, 6)
	points := []string{"  ok     doctor", "  drain    ...", "  groups   ..."}
	for _, step := range steps() {
		points = append(points, fmt.Sprintf("  %-8s ok", step))
	}
	for _, at := range points {
		work(t)
		t.Logf("the command is killed at %q", at)
		must(t, w.SwitchUntilDone(t.Context(), killing(syscall.SIGKILL, at)))
	}
	for _, step := range steps() {
		work(t)
		t.Logf("milena is killed at the end of step %s", step)
		killed := false
		must(t, w.SwitchUntilDone(t.Context(), func(line string) syscall.Signal {
			if !killed && strings.HasPrefix(line, fmt.Sprintf("  %-8s ok", step)) {
				killed = true
				w.Milena.Kill()
				must(t, w.Milena.Start(t.Context()))
			}
			return 0
		}))
		must(t, w.WaitReady(t.Context()))
	}
	must(t, w.App.Finish(t.Context()))
	t.Logf("%d records: each group processed each of them once", w.App.Written())
}

// The command is killed inside each step, by what it has written to the control topic that the step begins, and a moment later: so also while it freezes, stops
// the flow, starts the flow back and thaws, with ACLs and with quotas. Whoever repeats the command gets to the other cluster, and no group loses a record or
// processes one twice.
func TestSwitchoverKilledInsideSteps(t *testing.T) {
	w := startSwitching(t, 8, 6)
	hits := make(map[string]int)
	for _, step := range steps() {
		for i, later := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond} {
			how := []string{"acl", "quota"}[i%2]
			work(t)
			inside, err := w.KilledInside(t.Context(), step, later, "--freeze", how)
			must(t, err)
			t.Logf("--freeze %s: killed %v after the record of step %s: inside it: %v", how, later, step, inside)
			if inside {
				hits[step]++
			}
			must(t, w.SwitchUntilDone(t.Context(), nil, "--freeze", how))
		}
	}
	must(t, w.App.Finish(t.Context()))
	for _, step := range steps() {
		if hits[step] == 0 {
			t.Errorf("it was never killed inside step %s", step)
		}
	}
	t.Logf("%d records: each group processed each of them once; killed inside %v", w.App.Written(), hits)
}

// A switchover that is interrupted, or out of time, leaves nothing. A dry run changes nothing. Of two at once, the second one sees who is there.
func TestSwitchoverLeavesNothing(t *testing.T) {
	w := startSwitching(t, 8, 6)
	before, err := w.ACLs(t.Context(), 0)
	must(t, err)
	unchanged := func(what string) {
		t.Helper()
		after, err := w.ACLs(t.Context(), 0)
		must(t, err)
		if !slices.Equal(before, after) {
			t.Errorf("%s left ACLs: %v, before: %v", what, after, before)
		}
		must(t, w.App.Retry(t.Context()))
		work(t)
	}
	end, err := w.ControlEnd(t.Context(), 0)
	must(t, err)
	o, err := w.Switchover(t.Context(), nil, "--dry-run")
	must(t, err)
	now, err := w.ControlEnd(t.Context(), 0)
	must(t, err)
	if o.Code != 0 || now != end {
		t.Errorf("a dry run exits with %d, and the end of the control topic moved from %d to %d", o.Code, end, now)
	}
	unchanged("a dry run")
	for _, step := range steps()[:5] {
		if o, err = w.Switchover(t.Context(), killing(syscall.SIGINT, fmt.Sprintf("  %-8s ok", step))); err != nil || o.Done() && step != "reverse" {
			t.Errorf("interrupted after step %s: %v, %v", step, err, o)
		}
		if o.Done() { // too late
			must(t, w.App.Move(t.Context()))
			must(t, w.SwitchUntilDone(t.Context(), nil))
		}
		unchanged("an interrupt after step " + step)
	}
	if o, err = w.Switchover(t.Context(), nil, "--timeout", "1500ms"); err != nil || o.Done() || !strings.Contains(o.String(), "--timeout") {
		t.Errorf("out of time: %v, %v", err, o)
	}
	unchanged("a switchover that is out of time")
	var second *switching.Outcome
	must(t, w.SwitchUntilDone(t.Context(), func(line string) syscall.Signal {
		if second == nil && strings.HasPrefix(line, "  freeze   ok") {
			second, err = w.Switchover(t.Context(), nil)
			must(t, err)
		}
		return 0
	}))
	if second.Code != 1 || !strings.Contains(second.String(), "carries out a switchover of flow source-target since") {
		t.Errorf("the second one: %v", second)
	}
	must(t, w.App.Finish(t.Context()))
	t.Logf("%d records: each group processed each of them once", w.App.Written())
}
