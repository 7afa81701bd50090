package instances

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

const (
	targetBrokers = 3
	extras        = 2 // instances that only some faults start
	flowName      = "source-target"
	backWithin    = 2 * time.Minute // how long an instance may take until it takes part again after a fault
)

// slot is an instance that runs, or may run.
type slot struct {
	*daemon.Daemon
	number int
	mu     sync.Mutex // held by the fault that hits it
}

// world is everything of a run.
type world struct {
	Options
	source, target             *kafka.Cluster
	sourceClient, targetClient *kgo.Client
	slots                      []*slot // those that always run, then the extras
	broker                     sync.Mutex
	topics                     []*topic
	began                      time.Time

	mu     sync.Mutex
	events []Event
}

// topic is a topic of the source, and what writes to it.
type topic struct {
	name       string
	partitions int
	perSecond  int // records, in all partitions
	configs    []string
	writer     *load.Writer
	stream     *load.Stream
}

// measured is the topic from whose copy the standstills are read: its brokers set the timestamps.
const measured = "measured"

func allTopics() []*topic {
	return []*topic{
		{name: measured, partitions: 100, perSecond: 400, configs: []string{"message.timestamp.type=LogAppendTime"}},
		{name: "plain", partitions: 100, perSecond: 100},
	}
}

// ConfigsExclude lets copies have message.timestamp.type of the source, unlike milena's default.
func ConfigsExclude() []string { return []string{`min\.insync\.replicas`} }

// newWorld starts the clusters, the writers and the milenas that always run.
func newWorld(ctx context.Context, o Options) (*world, error) {
	w := &world{Options: o, topics: allTopics(), began: time.Now()}
	lines := o.Instances + extras
	target := map[string]string{"num.network.threads": "1", "group.initial.rebalance.delay.ms": "3000"}
	if o.Forgetful {
		maps.Copy(target, map[string]string{"producer.id.expiration.ms": "20000", "producer.id.expiration.check.interval.ms": "1000"})
	}
	clusters, err := kafka.StartAll(ctx, o.Jars,
		kafka.Options{Name: "source", Dir: o.Dir, Lines: lines, Properties: map[string]string{"num.network.threads": "1"}},
		kafka.Options{Name: "target", Dir: o.Dir, Lines: lines, Brokers: targetBrokers, Properties: target})
	if err != nil {
		return nil, err
	}
	w.source, w.target = clusters[0], clusters[1]
	if w.sourceClient, err = w.source.Client(); err != nil {
		return nil, err
	}
	if w.targetClient, err = w.target.Client(); err != nil {
		return nil, err
	}
	for _, t := range w.topics {
		if err := w.begin(ctx, t); err != nil {
			return nil, err
		}
	}
	for n := range lines {
		s, err := w.newSlot(ctx, n)
		if err != nil {
			return nil, err
		}
		w.slots = append(w.slots, s)
	}
	if err := w.startAll(ctx, w.slots[:o.Instances]); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *world) close() {
	for _, c := range []*kgo.Client{w.sourceClient, w.targetClient} {
		if c != nil {
			c.Close()
		}
	}
}

// begin creates a topic and starts its writer.
func (w *world) begin(ctx context.Context, t *topic) error {
	if err := kafka.CreateTopic(ctx, kadm.NewClient(w.sourceClient), t.name, t.partitions, 1, t.configs...); err != nil {
		return err
	}
	var err error
	if t.writer, err = load.New(w.source, load.Options{Topic: t.name, Partitions: t.partitions, Shapes: []load.Shape{Stamped(200)}}); err != nil {
		return err
	}
	t.stream = t.writer.Stream(ctx, t.perSecond)
	return nil
}

// newSlot is an instance that does not run yet. Its connections go through its own line.
func (w *world) newSlot(ctx context.Context, n int) (*slot, error) {
	d, err := daemon.New(ctx, w.Binary, filepath.Join(w.Dir, fmt.Sprintf("instance-%d", n)), daemon.Map{
		"instance": fmt.Sprintf("instance-%d", n),
		"clusters": daemon.Map{
			"source": daemon.Map{"brokers": w.source.LineAddrs(n)},
			"target": daemon.Map{"brokers": w.target.LineAddrs(n)},
		},
		"flows": []daemon.Map{{"source": "source", "target": "target", "name": flowName, "topics": []string{".*"}, "configs_exclude": ConfigsExclude()}},
	})
	return &slot{Daemon: d, number: n}, err
}

// startAll starts instances at once and waits until all of them take part.
func (w *world) startAll(ctx context.Context, slots []*slot) error {
	var g errgroup.Group
	for _, s := range slots {
		g.Go(func() error {
			if err := s.Start(ctx); err != nil {
				return err
			}
			return s.waitBack(ctx)
		})
	}
	return g.Wait()
}

// waitBack waits until the group has assigned shards to an instance, or none because others have them all, and the instance is ready.
func (s *slot) waitBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, backWithin, fmt.Errorf("instance %d takes no part within %v", s.number, backWithin))
	defer cancel()
	return s.Until(ctx, 50*time.Millisecond, func() (bool, string) {
		flows, err := s.Status(ctx)
		if err != nil || len(flows) != 1 {
			return false, fmt.Sprint(err)
		}
		i := flows[0].Instance
		return flows[0].Ready && (i.State == "assigned" || i.State == "standby"), fmt.Sprintf("%s, %d shards, not ready: %v", i.State, i.Held, flows[0].NotReady)
	})
}

// stop ends an instance with SIGTERM.
func (s *slot) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 45*time.Second, errors.New("it did not stop within 45 s of SIGTERM"))
	defer cancel()
	code, err := s.Stop(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("instance %d exited with code %d after SIGTERM:\n%s", s.number, code, s.Tail(20))
	}
	return err
}
