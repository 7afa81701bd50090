package neighbours

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// Options of a run.
type Options struct {
	Jars   kafka.Jars
	Binary string        // milena's, see daemon.Build
	Dir    string        // of data and logs
	Window time.Duration // how long each fault lasts while the lag of the busy topic is measured
}

const (
	busy       = "busy"
	partitions = 4   // of the busy topic
	perSecond  = 400 // records of 1 KiB
	most       = time.Second
)

// fault is something that keeps a neighbour of the busy topic from being copied.
type fault struct {
	name      string
	topic     string    // the neighbour
	replicas  [][]int32 // of its copy, by partition
	configs   []string  // of its copy
	load      load.Options
	waiting   int // records that wait for each partition when the window begins
	perSecond int // more records from then on
	begin     func(s *scene) error
	end       func(s *scene) error
	waits     bool // whether each of its partitions waits for the end of the fault
}

// Broker 3 is the one that fails. All else is about where the replicas are.
func faults() []fault {
	single := load.Options{Shapes: []load.Shape{load.Sized(100)}, BatchBytes: 512, Client: []kgo.Opt{kgo.ProducerLinger(0)}}
	nothing := func(*scene) error { return nil }
	return []fault{
		{name: "nothing is wrong", topic: "fine", replicas: spread(8, 1, 2, 3), waiting: 100, perSecond: 100, begin: nothing, end: nothing},
		{
			name: "a copy of 32 partitions is below min.insync.replicas and 77 MB wait for it", topic: "starved",
			replicas: spread(32, 1, 2, 3), configs: []string{"min.insync.replicas=3"},
			load: load.Options{Codec: "none", Shapes: []load.Shape{load.Sized(4 << 10)}}, waiting: 588,
			begin: (*scene).killBroker, end: (*scene).restartBroker, waits: true,
		},
		{
			name: "a copy of 32 partitions is below min.insync.replicas and batches of one record come without end", topic: "trickling",
			replicas: spread(32, 1, 2, 3), configs: []string{"min.insync.replicas=3"},
			load: single, waiting: 1, perSecond: 500,
			begin: (*scene).killBroker, end: (*scene).restartBroker, waits: true,
		},
		{
			name: "milena may not write to the copy", topic: "denied",
			replicas: spread(8, 1, 2, 3), waiting: 100, perSecond: 100,
			begin: func(s *scene) error { return s.deny("denied") }, end: func(s *scene) error { return s.allow("denied") }, waits: true,
		},
		{
			name: "partitions of the copy have no leader", topic: "leaderless",
			replicas: spread(8, 3), waiting: 100, perSecond: 100,
			begin: (*scene).killBroker, end: (*scene).restartBroker, waits: true,
		},
		{
			name: "a broker of the target is frozen", topic: "frozen",
			replicas: spread(8, 3, 1, 2), waiting: 100, perSecond: 100,
			begin: (*scene).freezeBroker, end: (*scene).resumeBroker,
		},
	}
}

// spread are the replicas of n partitions on some brokers, which lead them in turn.
func spread(n int, brokers ...int32) [][]int32 {
	var all [][]int32
	for i := range n {
		k := i % len(brokers)
		all = append(all, append(append([]int32{}, brokers[k:]...), brokers[:k]...))
	}
	return all
}

// Run lets one fault after the other happen to a neighbour of a busy topic. While it lasts, the lag of the busy topic stays below a second. When it
// has ended, everything is copied, nothing is lost and nothing is there twice.
//
// The copy of the busy topic is on brokers 1 and 2. Nobody can write to a partition that a broker leads which is dead or frozen, or that waits for such a
// replica, so that says nothing about milena: the question is what the neighbours cost.
func Run(t *testing.T, o Options) {
	t.Helper()
	s := newScene(t, o)
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			in := *s
			in.t = t
			in.suffer(f)
		})
	}
	if code, err := s.milena.Stop(t.Context()); err != nil || code != 0 {
		t.Errorf("after SIGTERM: exit code %d, %v", code, err)
	}
}

// suffer lets a fault happen and end. Until the neighbour waits, up to 77 MB are written on the same machine, and the window begins when the busy
// topic has caught up with that. A fault for which no partition waits happens in the window.
func (s *scene) suffer(f fault) {
	ctx := s.t.Context()
	s.createTopic(f.topic, f.replicas, f.configs...)
	f.load.Topic, f.load.Partitions = f.topic, len(f.replicas)
	w, err := load.New(s.source, f.load)
	s.check(err)
	defer w.Close()
	s.check(w.Write(ctx, 1))
	s.untilCopied(f.topic)

	s.startWindow()
	s.check(f.begin(s))
	if f.waits {
		s.check(w.Write(ctx, f.waiting))
		s.check(s.milena.Until(s.within(2*time.Minute, "the neighbour waits"), 50*time.Millisecond, func() (bool, string) { return s.waits(f) }))
		first, _ := s.endWindow()
		s.t.Logf("until the neighbour waits: %v", first)
		s.startWindow()
	}
	var stream *load.Stream
	if f.perSecond > 0 {
		stream = w.Stream(ctx, f.perSecond)
	}
	s.check(s.pause(s.window))
	if ok, state := s.waits(f); f.waits && !ok {
		s.t.Errorf("the neighbour does not wait any more: %s", state)
	}
	largest, records := s.endWindow()
	s.t.Logf("%d records in %v: %v", records, s.window, largest)
	if largest.atTarget > most {
		s.t.Errorf("the lag of the busy topic was %v, want at most %v", largest.atTarget, most)
	}
	if least := int(s.window.Seconds() * perSecond * 0.9); records < least {
		s.t.Errorf("the busy topic had %d records in %v, want at least %d", records, s.window, least)
	}

	began := time.Now()
	s.check(f.end(s))
	if stream != nil {
		_, err := stream.Stop(ctx)
		s.check(err)
	}
	s.untilCopied(f.topic)
	s.t.Logf("everything is copied %v after the fault", time.Since(began).Round(100*time.Millisecond))
	s.verify(f.topic)
}
