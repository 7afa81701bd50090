package instances

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// lock waits until no other fault hits what this one does, and returns a function that ends that.
func (w *world) lock(f Fault) (unlock func()) {
	hit := w.hit(f)
	for _, s := range hit {
		s.mu.Lock()
	}
	if len(hit) == 0 {
		w.broker.Lock()
		return w.broker.Unlock
	}
	return func() {
		for _, s := range hit {
			s.mu.Unlock()
		}
	}
}

// hit are the instances that a fault hits.
func (w *world) hit(f Fault) []*slot {
	switch f.Kind {
	case StartOne:
		return w.slots[w.Instances : w.Instances+1]
	case StartTwo:
		return w.slots[w.Instances:]
	case StartAll:
		return w.slots
	case KillBroker, RestartBroker:
		return nil
	case Kill, Freeze, CutCoordinator, CutTarget, CutSource, Restart:
	}
	return w.slots[f.Instance : f.Instance+1]
}

// inject lets one fault happen, and returns when the instances that it hit take part again.
func (w *world) inject(ctx context.Context, f Fault) error {
	hit := w.hit(f)
	switch f.Kind {
	case Kill:
		hit[0].Kill()
		return errors.Join(pause(ctx, f.Lasts), w.startAll(ctx, hit))
	case Freeze:
		if err := hit[0].Pause(); err != nil {
			return err
		}
		return errors.Join(pause(ctx, f.Lasts), hit[0].Resume(), hit[0].waitBack(ctx))
	case CutCoordinator, CutTarget, CutSource:
		return w.cut(ctx, f, hit[0])
	case Restart:
		if err := hit[0].stop(ctx); err != nil {
			return err
		}
		return errors.Join(pause(ctx, f.Lasts), w.startAll(ctx, hit))
	case StartOne, StartTwo:
		if err := w.startAll(ctx, hit); err != nil {
			return err
		}
		return errors.Join(pause(ctx, f.Lasts), w.stopAll(ctx, hit))
	case StartAll:
		if err := w.stopAll(ctx, w.slots[:w.Instances]); err != nil {
			return err
		}
		return errors.Join(pause(ctx, f.Lasts), w.startAll(ctx, w.slots[:w.Instances]))
	case KillBroker, RestartBroker:
		return w.restartBroker(ctx, f)
	}
	return fmt.Errorf("unknown kind of fault %q", f.Kind)
}

func (w *world) stopAll(ctx context.Context, slots []*slot) error {
	for _, s := range slots {
		if err := s.stop(ctx); err != nil {
			return err
		}
	}
	return nil
}

// cut cuts one instance off one cluster, or off the broker that coordinates the group.
func (w *world) cut(ctx context.Context, f Fault, s *slot) error {
	brokers := w.target.Brokers()
	if f.Kind == CutSource {
		brokers = w.source.Brokers()
	}
	if f.Kind == CutCoordinator {
		group := "milena." + flowName
		found := kadm.NewClient(w.targetClient).FindGroupCoordinators(ctx, group)
		if err := found.Error(); err != nil {
			return err
		}
		brokers = []*kafka.Broker{w.target.Broker(int(found[group].NodeID))}
	}
	set := func(mode proxy.Mode) (err error) {
		for _, b := range brokers {
			err = errors.Join(err, b.Line(s.number).Set(ctx, mode))
		}
		return err
	}
	return errors.Join(set(f.Mode), pause(ctx, f.Lasts), set(proxy.Pass), s.waitBack(ctx))
}

// restartBroker ends a broker of the target, starts it, and waits until all replicas are in sync.
func (w *world) restartBroker(ctx context.Context, f Fault) error {
	b := w.target.Broker(f.Broker)
	if f.Kind == KillBroker {
		b.Kill()
	} else if err := b.Stop(ctx); err != nil {
		return err
	}
	if err := errors.Join(pause(ctx, f.Lasts), b.Restart(ctx)); err != nil {
		return err
	}
	return kafka.WaitWhole(ctx, kadm.NewClient(w.targetClient), w.target.Name())
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
