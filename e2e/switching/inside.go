package switching

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// progress is how far a switchover is, by its record in the control topic.
type progress struct {
	State    string `json:"state"`
	Step     string `json:"step"`
	Document struct {
		Report struct {
			Steps []struct {
				Name   string `json:"name"`
				Result string `json:"result"`
			} `json:"steps"`
		} `json:"report"`
	} `json:"document"`
}

// isInside reports whether the switchover is inside a step.
func (p *progress) isInside(step string) bool {
	steps := p.Document.Report.Steps
	return p.State == "running" && p.Step == step && len(steps) > 0 && steps[len(steps)-1].Name == step && steps[len(steps)-1].Result == "begun"
}

// progressKey is the key of the newest switchover in the control topic.
const progressKey = "recovery/current"

// KilledInside runs milena switchover from the cluster that the application uses, and kills it some time after it has written that a step begins. Inside says
// that nothing says that the step has ended.
func (w *World) KilledInside(ctx context.Context, step string, later time.Duration, args ...string) (inside bool, err error) {
	from := w.App.cluster
	watched, err := w.watch(ctx, from)
	if err != nil {
		return false, err
	}
	defer watched.Close()
	watching, stop := context.WithCancel(ctx)
	var last progress
	ended := make(chan error, 1)
	o, err := w.switchoverOf(ctx, from, nil, func(command *os.Process) {
		go func() {
			ended <- follow(watching, watched, &last, func() {
				time.Sleep(later) // the moment is what is tried out
				_ = command.Kill()
			}, step)
		}()
	}, args...)
	if err == nil && o.Code >= 0 {
		err = fmt.Errorf("it ended before it was killed inside step %s:\n%s", step, o)
	}
	time.AfterFunc(time.Second, stop) // what it wrote before has come by then
	return last.isInside(step), errors.Join(err, <-ended)
}

// watch reads the control topic of the flow from a cluster, from its end on.
func (w *World) watch(ctx context.Context, from int) (*kgo.Client, error) {
	end, err := w.ControlEnd(ctx, from)
	if err != nil {
		return nil, err
	}
	topic := "milena." + w.flow(from) + ".control"
	return w.clusters[other(from)].Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(end)}}))
}

// follow keeps the last record of the switchover until ctx ends, and calls inside when the step begins.
func follow(ctx context.Context, cl *kgo.Client, last *progress, inside func(), step string) error {
	called := false
	for ctx.Err() == nil {
		for _, r := range cl.PollFetches(ctx).Records() {
			if string(r.Key) != progressKey {
				continue
			}
			var now progress
			if err := json.Unmarshal(r.Value, &now); err != nil {
				return err
			}
			*last = now
			if !called && now.isInside(step) {
				called = true
				inside()
			}
		}
	}
	return nil
}
