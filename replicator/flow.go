package replicator

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
	"golang.org/x/sync/semaphore"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// takeOverSlots is how many shards are fenced at a time: enough to hide round trips, few enough not to flood a coordinator.
const takeOverSlots = 8

// Options are the named dependencies of a flow. All are required but Version.
type Options struct {
	client.Clusters
	Registerer      prometheus.Registerer // every series gets the flow's name as a label
	Buffer          int64                 // bytes of batches held at one time
	ShutdownTimeout time.Duration         // how long a clean stop waits for batches in flight
	Version         string                // of the program, for the owner record
	// RebuildMap compares all that MirrorMaker 2 copied with the source when it is taken over, so that old offsets translate exactly too.
	RebuildMap bool
	// BesideMirrorMaker starts although a MirrorMaker 2 shows signs of life.
	BesideMirrorMaker bool
}

// Flow copies one source cluster to one target cluster. Make it with New, run it once with Run; Status may be called at any time.
type Flow struct {
	name                     string
	sourceAlias, targetAlias string
	options                  Options
	config                   config.Flow
	log                      *slog.Logger
	warnings                 warnings
	metrics                  *flowMetrics
	totals                   totals
	anomalies                policy.Anomalies
	topics                   *topics.Syncer
	isolation                int8
	writers                  writers
	produceTimeout           time.Duration

	source, target *kgo.Client                   // for all that no quota of bytes holds up
	internal       *kgo.Client                   // of the target, for the journal and the internal topics
	clients        []*kgo.Client                 // all
	dials          map[string]*client.DialLimits // by side: source or target
	sourceWire     wire.Fetcher
	loopWires      [sourceLoops]wire.Fetcher
	targetWire     wire.Transport
	laneWires      [lanes]wire.Producer
	throttles      *client.Throttles
	journalTopic   string
	owner          offsets.Owner

	budget         *budget
	lease          *lease
	pending        atomic.Int64 // batches queued or in flight
	shards         []*shard
	takeOvers      chan *shard
	takeOverSlots  *semaphore.Weighted
	firstConfirmed atomic.Int64 // when ownership of shard 0 was last confirmed, in Unix nanoseconds
	topology       topology
	heartbeats     *groups.Heartbeats
	groups         *groups.Syncer
	mm2            mm2Progress
	scans          *semaphore.Weighted
	acls           *topics.ACLs
	kick           chan struct{} // an early pass over topics is wanted

	background     sync.WaitGroup
	hard           context.Context //nolint:containedctx // ends when requests in flight may be cut off: after the drain, not at the signal
	cancel         context.CancelFunc
	failure        atomic.Pointer[error]                // what ended the flow, if not a signal
	problem        atomic.Pointer[string]               // why the clusters are not reached
	configs        atomic.Pointer[topics.ConfigsStatus] // the last look at topic configs
	configsChanged atomic.Int64                         // since the look before
	notCopied      atomic.Pointer[map[string]string]    // topics that should be copied and are not, with the reason
}

// totals are the sums that a status shows.
type totals struct{ records, bytes atomic.Int64 }

// New checks the options and makes the clients. It reaches no network.
func New(o Options) (*Flow, error) {
	registerer := prometheus.WrapRegistererWith(prometheus.Labels{"flow": o.Flow.Name}, o.Registerer)
	f := &Flow{
		name: o.Flow.Name, sourceAlias: o.Flow.Source, targetAlias: o.Flow.Target, options: o, config: o.Flow,
		log:            o.Log.With("flow", o.Flow.Name),
		metrics:        newFlowMetrics(registerer),
		produceTimeout: 10 * time.Second,
		journalTopic:   offsets.JournalTopic(o.Flow.Name),
		budget:         newBudget(o.Buffer),
		lease:          newLease(o.Flow.Lease),
		takeOvers:      make(chan *shard, o.Flow.Shards),
		takeOverSlots:  semaphore.NewWeighted(takeOverSlots),
		scans:          semaphore.NewWeighted(scans),
		kick:           make(chan struct{}, 1),
	}
	f.writers = writersOf(f)
	f.throttles = client.NewThrottles(f.log)
	f.dials = map[string]*client.DialLimits{"source": {}, "target": {}}
	if o.Flow.Isolation == "read_committed" {
		f.isolation = 1
	}
	var err error
	if f.anomalies, err = policy.NewAnomalies(o.Flow.Anomalies); err != nil {
		return nil, err
	}
	if err = f.makeClients(registerer); err != nil {
		f.close()
		return nil, err
	}
	if f.topics, err = topics.NewSyncer(f.source, f.target, o.Flow, f.log); err != nil {
		f.close()
		return nil, err
	}
	f.topics.Changed = func(n int) {
		f.metrics.configChanges.Add(float64(n))
		f.configsChanged.Add(int64(n))
	}
	f.acls = topics.NewACLs(f.topics, func(change string) { f.metrics.aclChanges.WithLabelValues(change).Inc() })
	for k := range o.Flow.Shards {
		f.shards = append(f.shards, newShard(f, k))
	}
	f.heartbeats = groups.NewHeartbeats(f.groupsDeps())
	if f.groups, err = groups.New(f.groupsDeps()); err != nil {
		f.close()
		return nil, err
	}
	f.mm2.flow = f
	f.topology.init()
	f.owner = newOwner(o.Version)
	registerer.MustRegister(newCollector(f))
	return f, nil
}

func newOwner(version string) offsets.Owner {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	now := time.Now()
	return offsets.Owner{
		Instance: fmt.Sprintf("%s:%d:%x", host, os.Getpid(), now.UnixNano()), Host: host, PID: os.Getpid(), Version: version, Since: now,
	}
}

// makeClients makes clients for each side: one for requests about topics, groups and transactions, and one for each source loop and each
// lane, as a client has one connection to a broker for its fetches and one for its produce requests. They open them when they need them.
//
// A client sends one request after the other to a broker, on all of its connections: one that a quota holds up (KIP-219) holds up the others.
// So the batches do not share a client with the journal, on which the lease hangs, and neither does with the requests about transactions.
func (f *Flow) makeClients(r prometheus.Registerer) (err error) {
	sourceMetrics := kprom.NewMetrics("milena", kprom.Subsystem("source_client"), kprom.Registerer(r))
	targetMetrics := kprom.NewMetrics("milena", kprom.Subsystem("target_client"), kprom.Registerer(r))
	if f.source, err = f.client(f.options.Source, f.sourceAlias, "source", sourceMetrics); err != nil {
		return err
	}
	if f.target, err = f.client(f.options.Target, f.targetAlias, "target", targetMetrics); err != nil {
		return err
	}
	if f.internal, err = f.client(f.options.Target, f.targetAlias, "target", sharedMetrics{targetMetrics}); err != nil {
		return err
	}
	f.targetWire = wire.Kgo{Client: f.internal, Observe: f.metrics.observer(f.targetAlias)}
	for i := range f.loopWires {
		loop, err := f.client(f.options.Source, f.sourceAlias, "source", sharedMetrics{sourceMetrics})
		if err != nil {
			return err
		}
		f.loopWires[i] = wire.Kgo{Client: loop, Observe: f.metrics.observer(f.sourceAlias)}
	}
	f.sourceWire = f.loopWires[0]
	for i := range f.laneWires {
		lane, err := f.client(f.options.Target, f.targetAlias, "target", sharedMetrics{targetMetrics})
		if err != nil {
			return err
		}
		f.laneWires[i] = wire.Kgo{Client: lane, Observe: f.metrics.observer(f.targetAlias)}
	}
	return nil
}

func (f *Flow) client(c config.Cluster, alias, side string, clientMetrics kgo.Hook) (*kgo.Client, error) {
	options, err := client.Options(c, f.dials[side], f.log.With("client", side), clientMetrics, f.throttles.Hook(side, alias, f.metrics.throttled.WithLabelValues(alias)))
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", alias, err)
	}
	cl, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", alias, err)
	}
	f.clients = append(f.clients, cl)
	return cl, nil
}

// sharedMetrics counts for a second client into the series of the first, which registers them.
type sharedMetrics struct{ *kprom.Metrics }

// OnNewClient is for kgo.HookNewClient.
func (sharedMetrics) OnNewClient(*kgo.Client) {}

// OnClientClosed is for kgo.HookClientClosed.
func (sharedMetrics) OnClientClosed(*kgo.Client) {}

func (f *Flow) close() {
	for _, c := range f.clients {
		c.Close()
	}
}

// Run copies until ctx ends, which is a clean stop and gives nil, or until something fatal happens: a *FencedError when another instance
// took over, or an error that only a person can mend. It blocks; it may be called once.
//
// The order of stopping is: fetch no more, let batches in flight land (at most ShutdownTimeout), journal, close the clients. What could
// not land is reconciled at the next start.
func (f *Flow) Run(ctx context.Context) error {
	defer f.close()
	soft, cancel := context.WithCancel(ctx)
	f.cancel = cancel
	defer cancel()
	hard, cut := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx for the drain
	defer cut()
	f.hard = hard

	if err := f.connect(soft); err != nil {
		if soft.Err() != nil {
			return nil
		}
		return err
	}
	if err := f.awaitMirrorMaker(soft); err != nil {
		if soft.Err() != nil {
			return nil
		}
		return err
	}
	f.log.Info("copying", "source_cluster", f.sourceID(), "target_cluster", f.targetID(), "shards", len(f.shards), "version", f.options.Version)
	if err := f.syncTopics(soft); err != nil && isFatal(err) {
		return err
	}
	f.requestTakeOver(f.shards[0]) // the others follow when it is owned
	for _, loop := range []func(context.Context){f.takeOverLoop, f.topicsLoop, f.configsLoop, f.journalLoop, f.throttles.Loop} {
		f.background.Go(func() { loop(soft) })
	}
	if f.config.GroupsInterval > 0 && f.writers.groupsTranslate() {
		f.background.Go(func() { f.groups.Run(soft) })
	}
	if f.config.ACLs {
		f.background.Go(func() { f.aclsLoop(soft) })
	}
	f.background.Go(func() { f.heartbeats.Run(soft) })
	f.startBrokers(soft)
	<-soft.Done()
	return f.stop(cut) //nolint:contextcheck // what follows outlives the signal
}

// busyFirst orders the shards so that those with something to copy are taken over first.
func (f *Flow) busyFirst() []*shard {
	shards := slices.Clone(f.shards)
	slices.SortStableFunc(shards, func(a, b *shard) int { return cmp.Compare(len(b.members()), len(a.members())) })
	return shards
}

// stop ends the loops in order. After a fence or a fatal error nothing more is written.
func (f *Flow) stop(cut context.CancelFunc) error {
	began := time.Now()
	if f.failure.Load() == nil {
		f.log.Info("stopping", "batches_in_flight", f.pending.Load())
		deadline, cancel := context.WithTimeout(f.hard, f.options.ShutdownTimeout)
		left := f.drain(deadline)

		if err := f.syncJournal(deadline); err != nil {
			f.fail(err)
		}
		cancel()
		if left > 0 {
			f.log.Warn("batches were still in flight at the shutdown timeout; the next start finds out which of them landed", "count", left)
		}
	}
	cause := f.failed()
	var lost *FencedError
	if errors.As(cause, &lost) && lost.By == "" {
		lost.By = f.findOwner(f.hard)
	}
	cut()
	f.background.Wait()
	f.log.Info("stopped", "took", time.Since(began).Round(time.Millisecond))
	return cause
}

// drain waits until nothing is queued or in flight, and says how many batches were left at the deadline.
func (f *Flow) drain(ctx context.Context) int64 {
	for f.pending.Load() > 0 && f.failure.Load() == nil {
		if client.Sleep(ctx, 2*time.Millisecond) != nil {
			break
		}
	}
	return f.pending.Load()
}

// fail ends the flow with a cause. Only the first counts.
func (f *Flow) fail(err error) {
	f.failure.CompareAndSwap(nil, &err)
	f.cancel()
}

// failed is nil as long as only a signal has ended the flow.
func (f *Flow) failed() error {
	if err := f.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// connect reaches both clusters, with backoff for as long as it takes: a cluster that is down at start comes back. What only a person
// can mend ends the flow.
func (f *Flow) connect(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		err := f.connectOnce(ctx)
		if err == nil {
			f.problem.Store(nil)
			return nil
		}
		text := err.Error()
		f.problem.Store(&text)
		if isFatal(err) || needsPerson(err) {
			return err
		}
		f.warn("waiting for a cluster", "err", err)
		if err := client.Sleep(ctx, 4*client.Backoff(attempt)); err != nil {
			return err
		}
	}
}

func (f *Flow) connectOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	source, err := topics.Read(ctx, f.source)
	if err != nil {
		return f.options.SourceError(err)
	}
	target, err := topics.Read(ctx, f.target)
	if err != nil {
		return f.options.TargetError(err)
	}
	f.topology.setSource(source)
	f.topology.setTarget(target)
	if source.ClusterID != "" && source.ClusterID == target.ClusterID {
		return &fatalError{fmt.Errorf("flow %s: %s and %s are the same cluster (id %s); check the brokers of both",
			f.name, f.sourceAlias, f.targetAlias, source.ClusterID)}
	}
	return f.ensureJournal(ctx)
}

// needsPerson says that no retry can mend a refused login or an unknown certificate.
func needsPerson(err error) bool {
	for _, refused := range []error{kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState} {
		if errors.Is(err, refused) {
			return true
		}
	}
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

// warnings keeps a lasting trouble from filling the log: the first time at once, then every half minute with a count.
type warnings struct {
	mu   sync.Mutex
	seen map[string]*warning
}

type warning struct {
	at    time.Time
	count int
}

const warnEvery = 30 * time.Second

func (f *Flow) warn(text string, attrs ...any) {
	key := text
	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i] != "err" { // an error's text may name a local port, which changes every time
			key += fmt.Sprint(attrs[i], attrs[i+1])
		}
	}
	w := &f.warnings
	w.mu.Lock()
	if w.seen == nil || len(w.seen) > 1000 {
		w.seen = make(map[string]*warning)
	}
	entry := w.seen[key]
	if entry == nil {
		entry = &warning{}
		w.seen[key] = entry
	}
	entry.count++
	if time.Since(entry.at) < warnEvery {
		w.mu.Unlock()
		return
	}
	count := entry.count
	entry.at, entry.count = time.Now(), 0
	w.mu.Unlock()
	if count > 1 {
		attrs = append(attrs, "count", count)
	}
	f.log.Warn(text, attrs...) //nolint:sloglint // the text is the caller's constant
}
