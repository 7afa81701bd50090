package switching

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// Outcome is how a process of the command ended.
type Outcome struct {
	Lines  []string // of its output, and then of its errors
	Code   int      // -1 if it was killed
	Killed bool
}

// Done reports whether the clients may move.
func (o *Outcome) Done() bool { return o.Code == 0 }

func (o *Outcome) String() string { return strings.Join(o.Lines, "\n") }

// Switchover runs milena switchover from the cluster that the application uses to the other one. Look, if not nil, is told each line of the output, and
// returns a signal that the process gets then, or nil.
func (w *World) Switchover(ctx context.Context, look func(line string) syscall.Signal, args ...string) (*Outcome, error) {
	return w.switchoverOf(ctx, w.App.cluster, look, nil, args...)
}

// switchoverOf runs the command from a cluster. Started, if not nil, gets its process.
func (w *World) switchoverOf(ctx context.Context, from int, look func(line string) syscall.Signal, started func(*os.Process), args ...string) (*Outcome, error) {
	cmd := exec.CommandContext(ctx, w.Binary, append([]string{"switchover", "-c", w.Milena.Config(), "--flow", w.flow(from)}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if started != nil {
		started(cmd.Process)
	}
	o := &Outcome{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		o.Lines = append(o.Lines, line)
		w.Logf("%s", line)
		if look == nil || o.Killed {
			continue
		}
		if signal := look(line); signal != 0 {
			o.Killed = true
			if err := cmd.Process.Signal(signal); err != nil && !strings.Contains(err.Error(), "finished") {
				return o, err
			}
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return o, err
	}
	o.Code = cmd.ProcessState.ExitCode()
	if text := strings.TrimSpace(complaint.String()); text != "" {
		o.Lines = append(o.Lines, text)
		w.Logf("%s", text)
	}
	return o, ctx.Err()
}

// SwitchAndMove switches over and moves the application. It is an error if that fails.
func (w *World) SwitchAndMove(ctx context.Context, args ...string) (*Outcome, error) {
	o, err := w.Switchover(ctx, nil, args...)
	if err != nil {
		return o, err
	}
	return o, w.moved(ctx, o)
}

// moved moves the application after a switchover, and finds out whether the producers are where they should be: frozen on the old cluster only.
func (w *World) moved(ctx context.Context, o *Outcome) error {
	if !o.Done() {
		return fmt.Errorf("the switchover from %s failed:\n%s", w.App.Cluster(), o)
	}
	if denied, err := w.Denies(ctx, other(w.App.cluster)); err != nil || denied {
		return fmt.Errorf("producers are denied on the new cluster: %v, %w", denied, err)
	}
	return w.App.Move(ctx)
}

// SwitchUntilDone repeats the command until it has succeeded, as somebody does who was told to repeat it, and moves the application. After an attempt
// that has failed nothing may be left of it.
func (w *World) SwitchUntilDone(ctx context.Context, look func(line string) syscall.Signal, args ...string) error {
	for attempt := 0; ; attempt++ {
		before, err := w.ACLs(ctx, w.App.cluster)
		if err != nil {
			return err
		}
		o, err := w.Switchover(ctx, look, args...)
		look = nil
		switch {
		case err != nil:
			return err
		case o.Done():
			return w.moved(ctx, o)
		case o.Code < 0: // killed
			continue
		case attempt == attempts:
			return fmt.Errorf("the switchover from %s does not succeed:\n%s", w.App.Cluster(), o)
		}
		after, err := w.ACLs(ctx, w.App.cluster)
		if err != nil {
			return err
		}
		if !slices.Equal(before, after) && attempt == 0 {
			return fmt.Errorf("the switchover failed, and left ACLs:\n%v\nbefore:\n%v\n%s", after, before, o)
		}
		if denied, err := w.Denies(ctx, w.App.cluster); err != nil || denied {
			return fmt.Errorf("the switchover failed, and producers are denied: %v, %w\n%s", denied, err, o)
		}
		if err := w.WaitReady(ctx); err != nil {
			return err
		}
		if err := w.App.Retry(ctx); err != nil {
			return err
		}
	}
}

// attempts is how often a switchover may fail before it succeeds, such as while an instance of milena comes back.
const attempts = 5
