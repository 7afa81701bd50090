package replicator

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/topics"
)

// live is the config in force: what a reload may replace, and what is made of it. A value never changes. Who needs several things of it takes it once,
// for a whole pass. [Flow.config] has the keys that cannot change.
type live struct {
	config.Flow
	reverse         []config.Flow // those of the config in the other direction
	series          string        // which partitions have series: the config key metrics.partitions
	shutdownTimeout time.Duration
	anomalies       policy.Anomalies
	*parts
	replaced chan struct{} // closed when another config is in force
}

// parts are what other packages make of a config. A reload that concerns none of them keeps them.
type parts struct {
	topics     *topics.Syncer
	unused     *topics.Unused // items of the topic lists
	acls       *topics.ACLs
	groups     *groups.Syncer
	heartbeats *groups.Heartbeats
	start      startTopics
	over       chan struct{} // closed when others are in force
}

// live returns the config in force.
func (f *Flow) live() *live { return f.current.Load() }

// newLive returns the config of the options, without parts.
func newLive(o Options) (*live, error) {
	l := &live{Flow: o.Flow, reverse: o.Reverse, series: o.PartitionSeries, shutdownTimeout: o.ShutdownTimeout, replaced: make(chan struct{})}
	var err error
	l.anomalies, err = policy.NewAnomalies(o.Flow)
	return l, err
}

// newParts creates the parts of a config. It does no I/O.
func (f *Flow) newParts(l *live) (*parts, error) {
	p := &parts{over: make(chan struct{})}
	var err error
	if p.topics, err = topics.NewSyncer(f.source, f.target, l.Flow, f.log); err != nil {
		return nil, err
	}
	p.unused = topics.NewUnused(p.topics.Rules.Unused, f.log)
	p.topics.Alters = func() bool { return f.isDoer() && !f.isStopped() }
	p.topics.Changed = func(n int) {
		f.metrics.configChanges.Add(float64(n))
		f.configsChanged.Add(int64(n))
	}
	p.acls = topics.NewACLs(p.topics, func(change string) { f.metrics.aclChanges.WithLabelValues(change).Inc() })
	deps := f.groupsDeps(l, p.topics.Rules)
	p.heartbeats = groups.NewHeartbeats(deps)
	p.groups, err = groups.New(deps)
	return p, err
}

// startTopics are the partitions by source topic that the first topic sync with a config has found, if the flow does not look for new ones.
type startTopics struct {
	mu    sync.Mutex
	known map[string]int // nil before the first sync
}

// limit leaves out topics and partitions that the first sync has not found.
func (s *startTopics) limit(pairs []topics.Pair, refused []topics.Refusal) ([]topics.Pair, []topics.Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = make(map[string]int, len(pairs))
		for _, pair := range pairs {
			s.known[pair.Source.Name] = len(pair.Source.Partitions)
		}
		for _, r := range refused {
			s.known[r.Topic] = math.MaxInt // all that it has once it is no longer refused
		}
	}
	refused = slices.DeleteFunc(refused, func(r topics.Refusal) bool { return s.known[r.Topic] == 0 })
	pairs = slices.DeleteFunc(pairs, func(pair topics.Pair) bool { return s.known[pair.Source.Name] == 0 })
	for i, pair := range pairs {
		pairs[i].Source.Partitions = pair.Source.Partitions[:min(len(pair.Source.Partitions), s.known[pair.Source.Name])]
	}
	return pairs, refused
}
