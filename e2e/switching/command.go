package switching

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
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
	return w.switchoverOf(ctx, w.App.cluster, look, args...)
}

func (w *World) switchoverOf(ctx context.Context, from int, look func(line string) syscall.Signal, args ...string) (*Outcome, error) {
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
func (w *World) SwitchAndMove(ctx context.Context, args ...string) error {
	o, err := w.Switchover(ctx, nil, args...)
	if err != nil {
		return err
	}
	if !o.Done() {
		return fmt.Errorf("the switchover from %s failed:\n%s", w.App.Cluster(), o)
	}
	return w.App.Move(ctx)
}
