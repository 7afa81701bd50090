package neighbours

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// scene is a busy topic that is copied to three brokers, until the test ends.
type scene struct {
	t                          *testing.T
	owner                      *testing.T // processes end with it
	window                     time.Duration
	source, target             *kafka.Cluster
	sourceClient, targetClient *kgo.Client
	milena                     *daemon.Daemon
	lag                        *lag
	atSource                   *lag // of a reader of the source, for comparison: what it has late is no fault of milena's
}

// warmUp is how long the busy topic is copied before anything is measured: the brokers' virtual machines are slow at first.
const warmUp = 10 * time.Second

// newScene starts the clusters, milena, and the load of the busy topic.
func newScene(t *testing.T, o Options) *scene {
	t.Helper()
	ctx := t.Context()
	properties := map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "allow.everyone.if.no.acl.found": "true",
		// Requests between brokers to one that has died, such as markers of transactions, are repeated after this.
		"request.timeout.ms": "5000",
	}
	clusters, err := kafka.StartAll(ctx, o.Jars, kafka.Options{Name: "source", Dir: o.Dir},
		kafka.Options{Name: "target", Dir: o.Dir, Brokers: 3, Properties: properties})
	s := &scene{t: t, owner: t, window: o.Window}
	s.check(err)
	s.source, s.target = clusters[0], clusters[1]
	s.sourceClient, s.targetClient = s.client(s.source), s.client(s.target)
	s.createTopic(busy, spread(partitions, 1, 2))
	s.startMilena(o)
	// Six JVMs share the machine. The linger makes batches of several records, so that one batch of a partition at a time is enough.
	w, err := load.New(s.source, load.Options{Topic: busy, Partitions: partitions, Client: []kgo.Opt{kgo.ProducerLinger(50 * time.Millisecond)}})
	s.check(err)
	t.Cleanup(w.Close)
	w.Stream(ctx, perSecond)
	s.lag = measureLag(ctx, s.client(s.target, kgo.ConsumeTopics(remote(busy))), partitions)
	s.atSource = measureLag(ctx, s.client(s.source, kgo.ConsumeTopics(busy)), partitions)
	s.startWindow()
	s.check(s.pause(warmUp))
	first, _ := s.endWindow()
	t.Logf("the first %v: %v", warmUp, first)
	return s
}

// lags are the largest lags of the busy topic in a window.
type lags struct{ atSource, atTarget time.Duration }

func (l lags) String() string {
	return fmt.Sprintf("at most %v from the producer to a reader of the copy, and %v to one of the source", l.atTarget.Round(time.Millisecond), l.atSource.Round(time.Millisecond))
}

func (s *scene) startWindow() {
	s.atSource.start()
	s.lag.start()
}

// endWindow returns the largest lags of the records that were written in the window, and how many they were.
func (s *scene) endWindow() (l lags, records int) {
	s.t.Helper()
	var err, atSource error
	l.atTarget, records, err = s.lag.stop(s.t.Context())
	l.atSource, _, atSource = s.atSource.stop(s.t.Context())
	s.check(errors.Join(err, atSource))
	return l, records
}

// startMilena starts a milena that copies everything, but for the config by which the copies of some neighbours differ.
func (s *scene) startMilena(o Options) {
	s.t.Helper()
	ctx := s.t.Context()
	var err error
	s.milena, err = daemon.New(ctx, o.Binary, filepath.Join(o.Dir, "milena"), daemon.Map{
		"clusters": daemon.Map{"source": daemon.Map{"brokers": s.source.Addrs()}, "target": daemon.Map{"brokers": s.target.Addrs()}},
		"flows":    []daemon.Map{{"source": "source", "target": "target", "topics": []string{".*"}, "configs_exclude": []string{`min\.insync\.replicas`}}},
	})
	s.check(err)
	s.check(s.milena.Start(ctx))
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("target brokers:\n%s\nmilena:\n%s", s.target.Tail(10), s.milena.Tail(40))
		}
	})
	s.check(s.milena.WaitReady(s.within(time.Minute, "milena is ready")))
}

func remote(topic string) string { return "source." + topic }

func (s *scene) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) client(c *kafka.Cluster, opts ...kgo.Opt) *kgo.Client {
	s.t.Helper()
	cl, err := c.Client(opts...)
	s.check(err)
	s.t.Cleanup(cl.Close)
	return cl
}

func (s *scene) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-s.t.Context().Done():
		return context.Cause(s.t.Context())
	}
}

func (s *scene) within(d time.Duration, what string) context.Context {
	s.t.Helper()
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), d, fmt.Errorf("not within %v: %s", d, what))
	s.t.Cleanup(cancel)
	return ctx
}

// createTopic creates a topic with one replica on the source, and before it its copy with these replicas, which milena then finds.
func (s *scene) createTopic(name string, replicas [][]int32, configs ...string) {
	s.t.Helper()
	ctx := s.t.Context()
	s.check(kafka.AssignTopic(ctx, s.targetClient, remote(name), replicas, configs...))
	s.check(kafka.CreateTopic(ctx, kadm.NewClient(s.sourceClient), name, len(replicas), 1))
}

// killBroker ends broker 3 of the target, and waits until the others know it.
func (s *scene) killBroker() error {
	s.target.Broker(3).Kill()
	return s.target.WaitBrokers(s.t.Context(), 2)
}

func (s *scene) restartBroker() error {
	if err := s.target.Broker(3).Restart(s.owner.Context()); err != nil {
		return err
	}
	return s.target.WaitBrokers(s.t.Context(), 3)
}

func (s *scene) freezeBroker() error { return s.target.Broker(3).Pause() }

func (s *scene) resumeBroker() error {
	if err := s.target.Broker(3).Resume(); err != nil {
		return err
	}
	return s.target.WaitBrokers(s.t.Context(), 3)
}

// denial takes the right to write to a copy from milena, which is as anonymous as everyone here.
func denial(topic string) *kadm.ACLBuilder {
	return kadm.NewACLs().Topics(remote(topic)).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpWrite).Deny("User:ANONYMOUS").DenyHosts("*")
}

func (s *scene) deny(topic string) error {
	done, err := kadm.NewClient(s.targetClient).CreateACLs(s.t.Context(), denial(topic))
	if err != nil {
		return err
	}
	return done[0].Err
}

func (s *scene) allow(topic string) error {
	done, err := kadm.NewClient(s.targetClient).DeleteACLs(s.t.Context(), denial(topic))
	if err != nil {
		return err
	}
	return done[0].Err
}

// waits reports whether milena has records for every partition of a neighbour, and says why it does not copy them.
func (s *scene) waits(f fault) (bool, string) {
	all, err := s.milena.Partitions(s.t.Context())
	if err != nil {
		return false, err.Error()
	}
	waiting, state := 0, ""
	for _, p := range all {
		if p.Topic != f.topic {
			continue
		}
		if p.Wait != nil && p.LagRecords != nil && *p.LagRecords > 0 {
			waiting++
		} else {
			state = fmt.Sprintf("partition %d is %s, waits for %+v", p.Partition, p.State, p.Wait)
		}
	}
	return waiting == len(f.replicas), fmt.Sprintf("%d of %d wait; %s", waiting, len(f.replicas), state)
}

// untilCopied waits until everything that the source has of a topic now is copied. It returns the ends of the source.
func (s *scene) untilCopied(topic string) map[string]verify.Ends {
	s.t.Helper()
	ends, err := verify.ReadEnds(s.t.Context(), s.sourceClient, topic)
	s.check(err)
	s.check(s.milena.Until(s.within(5*time.Minute, topic+" is copied"), 50*time.Millisecond, func() (bool, string) {
		all, err := s.milena.Partitions(s.t.Context())
		if err != nil {
			return false, err.Error()
		}
		copied, state := 0, ""
		for _, p := range all {
			switch {
			case p.Topic != topic:
			case p.Acked >= ends.End[p.Partition]:
				copied++
			default:
				state = fmt.Sprintf("partition %d is %s at %d of %d, waits for %+v, anomaly %+v", p.Partition, p.State, p.Acked, ends.End[p.Partition], p.Wait, p.Anomaly)
			}
		}
		return copied == len(ends.End), fmt.Sprintf("%d of %d partitions are copied; %s", copied, len(ends.End), state)
	}))
	return map[string]verify.Ends{topic: ends}
}

// verify compares a topic with its copy, and the busy topic as far as it has come.
func (s *scene) verify(topic string) {
	s.t.Helper()
	report, err := verify.Run(s.within(5*time.Minute, "the verifier ends"), s.sourceClient, s.targetClient,
		verify.Options{Topics: []string{topic, busy}, Name: remote, Until: s.untilCopied(busy)})
	s.check(err)
	s.t.Logf("verified: %d records equal, %d partitions differ", report.Records, len(report.Differences))
	for _, d := range report.Differences {
		s.t.Error(d)
	}
}
