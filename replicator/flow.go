package replicator

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// Options are the dependencies of a flow. All are required, except Version, PartitionSeries and those at the end.
type Options struct {
	client.Clusters
	Registerer      prometheus.Registerer // every series gets the label flow, the flow's name
	Buffer          int64                 // max. bytes of batches held in memory
	ShutdownTimeout time.Duration         // how long a clean stop waits for batches in flight
	Version         string                // of milena, for the owner record
	// PartitionSeries says which partitions have metrics of their own: config.SeriesAll (also if empty), SeriesLagging or SeriesNone.
	PartitionSeries string
	// RebuildMap compares everything that MirrorMaker 2 copied with the source during a migration, so that old offsets translate exactly too.
	RebuildMap bool
	// BesideMirrorMaker starts the flow even while MirrorMaker 2 is still running.
	BesideMirrorMaker bool
	// Instance is the id of this process in the group of the flow's instances. It is required unless the flow has instances: one.
	Instance string
	// Began is called when the flow has begun, with nil, and with the error when it could not for a reason that only a person can mend: a refused
	// login, an expired certificate, the same cluster on both sides. It reports whether the flow tries again, after a minute at most. Without it, the
	// flow ends with the error.
	Began func(err error) (again bool)
	// BootTime returns the time since boot, by which the lease is measured; that of the host, if nil.
	BootTime func() time.Duration
	// Tracer gets a span for each pass over topics, configs, ACLs and groups, and for each takeover; nil for none.
	Tracer trace.Tracer
	// Pauses are how long a partition waits before something is tried again; zero values are replaced by the usual ones.
	Pauses Pauses
}

// Pauses are how long a partition waits before something is tried again.
type Pauses struct {
	Refused time.Duration // after the first refusal of a batch for its content; each further one doubles it
	Starved time.Duration // before a copy that was below min.insync.replicas, or whose replicas did not follow, is fenced
	Quiet   time.Duration // until the end of a log is quiet, on a target without transactions
	Marker  time.Duration // at the end of a copy, before the coordinator is asked for the marker of the fence, and again before it counts as lost
	Verify  time.Duration // before it is looked again whether a copy is to be verified
	Turn    time.Duration // after a copy was verified, before what is new of it is
	Pass    time.Duration // after a pass over a copy began, before the next one begins
}

// produceTimeout is how long the target may wait for its in-sync replicas before it answers a produce request.
const produceTimeout = 10 * time.Second

// finalJournalTimeout is how long a clean stop may write the journal after the drain.
const finalJournalTimeout = 5 * time.Second

// Flow copies one source cluster to one target cluster. Create it with [New] and run it once with [Flow.Run], or [Flow.Discard] it. [Flow.Status] may be called at
// any time.
//
// It connects the parts and owns what all of them need: the clients, the metadata of both clusters, the byte budget and the lease.
type Flow struct {
	options Options
	config  config.Flow // the keys that cannot change while the flow runs; current has all
	current atomic.Pointer[live]
	changes changes
	log     *slog.Logger
	warnings
	metrics *flowMetrics
	rules
	*connections
	lifecycle
	reports

	journalTopic string
	owner        offsets.Owner
	budget       *budget
	lease        *lease
	held         shards
	instance     instance
	controls     controls
	verifying    verifying
	throttle     throttle // of all topics together
	takeovers    takeovers
	passes       journalPasses
	topology     topology
	refreshes    refreshes
	pulses       pulses

	migration migration
	pair      *pair // nil unless the flow is a half of one
}

// rules are the settings that apply to every batch.
type rules struct {
	isolation int8
	writers   writers
}

// lifecycle is how a flow ends.
type lifecycle struct {
	background  sync.WaitGroup
	pending     atomic.Int64    // batches queued or in flight
	soft        context.Context //nolint:containedctx // ends at the signal to stop
	hard        context.Context //nolint:containedctx // ends when requests in flight may be cancelled: after the drain, not at the signal
	cancel      context.CancelFunc
	released    atomic.Bool               // nothing more is written: owner records say so
	horizonsDue atomic.Pointer[time.Time] // the journal is to have horizons from then on at once; nil if it need not
	failure     atomic.Pointer[error]     // why the flow ended, nil if a signal ended it
}

// fail ends the flow with an error. Only the first error counts.
func (l *lifecycle) fail(err error) {
	l.failure.CompareAndSwap(nil, &err)
	l.cancel()
}

// failed returns the error that ended the flow, nil if there is none.
func (l *lifecycle) failed() error {
	if err := l.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// reports are results of the syncs, for the status.
type reports struct {
	totals      totals
	troubles    sourceTroubles
	firsts      firstRecords
	standstills standstills

	sourceControllers, targetControllers controllerWatch

	synced syncTimes

	predecessorAlive atomic.Int64                         // when the flow last ran before this process, in Unix milliseconds, 0 if never or not known yet
	problem          atomic.Pointer[string]               // why the flow has not started
	syncFailure      atomic.Pointer[lasting]              // why topic syncs fail, nil if the last one succeeded
	configs          atomic.Pointer[topics.ConfigsStatus] // of the last sync of topic configs
	configsChanged   atomic.Int64                         // since the previous sync
}

// syncTimes are when the last syncs began that left no problem, by what they sync.
type syncTimes struct {
	mu     sync.Mutex
	byPass map[string]time.Time
}

func (t *syncTimes) set(pass string, began time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byPass == nil {
		t.byPass = make(map[string]time.Time)
	}
	t.byPass[pass] = began
}

// of returns the zero time before the first such sync.
func (t *syncTimes) of(pass string) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byPass[pass]
}

// lasting is a failure that lasts.
type lasting struct {
	text  string
	since time.Time
}

// totals are the sums since the start of the process.
type totals struct{ records, bytes atomic.Int64 }

// New checks the options and creates the clients. It does not connect.
func New(o Options) (*Flow, error) {
	o = withDefaults(o)
	registerer := prometheus.WrapRegistererWith(prometheus.Labels{"flow": o.Flow.Name}, o.Registerer)
	log := o.Log.With("flow", o.Flow.Name)
	f := &Flow{
		options: o, config: o.Flow, log: log, warnings: warnings{log: log}, metrics: newFlowMetrics(registerer),
		journalTopic: offsets.JournalTopic(o.Flow.Name), owner: newOwner(o),
		budget: newBudget(o.Buffer), lease: newLease(leaseOf(o.Flow), newClock(o.BootTime, time.Now).now), takeovers: newTakeovers(o.Flow.Shards), topology: newTopology(),
		refreshes: newRefreshes(), held: newShards(o.Flow.Shards),
	}
	f.instance.init(o.Instance, o.Flow)
	f.budget.short = f.compactQueues
	f.pair = newPair(f)
	f.migration = migration{flow: f, scans: semaphore.NewWeighted(maxScans)}
	f.setRules()
	l, err := newLive(o)
	if err != nil {
		return nil, err
	}
	if f.connections, err = newConnections(o.Clusters, f.addresses(), f.lease.permit, log, f.metrics, registerer); err != nil {
		return nil, err
	}
	f.sourceControllers.watch(o.Flow.Source, f.quorumSource, log)
	f.targetControllers.watch(o.Flow.Target, f.quorumTarget, log)
	f.verifying = newVerifying(f)
	f.controls = newControls(control.NewLog(f.control, o.Flow.Target, o.Flow.Name), o.Flow)
	if l.parts, err = f.newParts(l); err != nil {
		f.connections.close()
		return nil, err
	}
	f.current.Store(l)
	registerer.MustRegister(newCollector(f))
	return f, nil
}

// Discard closes the clients of a flow that is not going to run.
func (f *Flow) Discard() { f.connections.close() }

// withDefaults fills in what the caller has left out.
func withDefaults(o Options) Options {
	o.PartitionSeries = cmp.Or(o.PartitionSeries, config.SeriesAll)
	if o.BootTime == nil {
		o.BootTime = bootTime()
	}
	o.Pauses = Pauses{cmp.Or(o.Pauses.Refused, time.Second), cmp.Or(o.Pauses.Starved, 2*time.Second), cmp.Or(o.Pauses.Quiet, time.Second), cmp.Or(o.Pauses.Marker, 10*time.Second), cmp.Or(o.Pauses.Verify, verifyPause), cmp.Or(o.Pauses.Turn, turnPause), cmp.Or(o.Pauses.Pass, passEvery)}
	return o
}

// Name is the name of the flow.
func (f *Flow) Name() string { return f.config.Name }

// Clusters are the clusters of the flow, with the config in force, for requests besides it.
func (f *Flow) Clusters() client.Clusters {
	c, l := f.options.Clusters, f.live()
	c.Flow, c.Reverse = l.Flow, l.reverse
	return c
}

// setRules sets the rules from the config.
func (f *Flow) setRules() {
	f.writers = writersOf(f)
	if f.config.Isolation == "read_committed" {
		f.isolation = wire.ReadCommitted
	}
}

// newOwner returns the owner record of this process. Without a group it has an instance name that no other process has.
func newOwner(o Options) offsets.Owner {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	now := time.Now()
	owner := offsets.Owner{Instance: o.Instance, Host: host, PID: os.Getpid(), Version: o.Version, Since: now}
	if o.Flow.Instances == config.InstancesOne {
		owner.Instance = fmt.Sprintf("%s:%d:%x", host, os.Getpid(), now.UnixNano())
	}
	return owner
}

// isThisProcess reports whether an owner record was written by this process.
func (f *Flow) isThisProcess(o *offsets.Owner) bool {
	return o.Instance == f.owner.Instance && o.PID == f.owner.PID && o.Since.UnixMilli() == f.owner.Since.UnixMilli()
}

// Run copies until ctx ends, which is a clean stop and returns nil, or until a fatal error: a *[FencedError] if another instance took over,
// or an error that no retry can fix. While the flow has not begun, Options.Began decides whether such an error ends it. It blocks and may be called
// once.
//
// A clean stop ends fetching, discards what was not sent yet, waits for batches in flight (at most ShutdownTimeout), writes the journal (at most 5 s
// more), leaves the group of the instances (at most 7 s more, if it is still joining), and closes the clients. Batches in flight that were not
// acknowledged by then are reconciled at the next start.
func (f *Flow) Run(ctx context.Context) error {
	defer f.connections.close()
	defer f.leave(context.WithoutCancel(ctx)) // for a flow that has not begun or has failed; nothing is written any more
	soft, cancel := context.WithCancel(ctx)
	f.cancel = cancel
	defer cancel()
	hard, cut := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx for the drain
	defer cut()
	f.soft, f.hard = soft, hard

	if err := f.beginPatiently(soft); err != nil {
		if soft.Err() != nil {
			return nil
		}
		f.failure.CompareAndSwap(nil, &err)
		return err
	}
	f.startLoops(soft)
	<-soft.Done()
	return f.stop(cut) //nolint:contextcheck // the drain outlives the signal
}

// A flow that cannot begin waits this long before it tries again, and twice as long each further time.
const (
	beginPause    = time.Second
	maxBeginPause = time.Minute
)

// beginPatiently begins, as often as the caller of the flow wants.
func (f *Flow) beginPatiently(ctx context.Context) error {
	for pause := beginPause; ; pause = min(2*pause, maxBeginPause) {
		err := f.begin(ctx)
		if err != nil && ctx.Err() != nil {
			return err
		}
		again := f.options.Began != nil && f.options.Began(err)
		if err == nil || !again {
			return err
		}
		text := err.Error()
		f.problem.Store(&text)
		f.warn("the flow cannot begin, trying again", "err", err)
		if err := client.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// begin connects to both clusters, waits until MirrorMaker 2 has stopped, and runs the first topic sync.
func (f *Flow) begin(ctx context.Context) error {
	if err := f.connect(ctx); err != nil {
		return err
	}
	if err := f.checkMigrateFrom(ctx); err != nil {
		return err
	}
	if err := f.awaitMirrorMaker(ctx); err != nil {
		return err
	}
	if err := f.openControls(ctx); err != nil {
		return err
	}
	if err := f.lookAround(ctx); err != nil {
		return err
	}
	f.log.Info("copying", "source_cluster", f.sourceID(), "target_cluster", f.targetID(), "shards", f.config.Shards, "version", f.options.Version)
	// Whoever claims all shards joins at once, so that those who start a moment later find it in the group. The others join after the topic sync: what is
	// handed over to them is taken over at once. So does the first one of a cluster without a coordinator, which is busy for seconds when it gets one.
	if f.instance.how() == claimed && f.instance.seen.Load() != nil {
		if err := f.join(f.hard); err != nil { //nolint:contextcheck // it is a member until it is drained
			return err
		}
	}
	err := f.syncTopics(ctx)
	f.noteSync(err)
	if err != nil && isFatal(err) {
		f.standBack(f.hard) //nolint:contextcheck // also if the start is cancelled
		return err
	}
	return f.join(f.hard) //nolint:contextcheck // as above
}

// noteSync keeps since when topic syncs have failed, and why.
func (f *Flow) noteSync(err error) {
	if err == nil {
		f.syncFailure.Store(nil)
		return
	}
	failure := &lasting{text: err.Error(), since: time.Now()}
	if before := f.syncFailure.Load(); before != nil {
		failure.since = before.since
	}
	f.syncFailure.Store(failure)
}

// startLoops starts all loops. They run until the flow is stopped.
func (f *Flow) startLoops(soft context.Context) {
	f.noteEvent(control.Start, "", f.startDetail(), 0)
	if f.instance.how() != assigned && f.held.get(0) != nil {
		f.requestTakeover(f.held.get(0)) // the other shards follow once this one is owned
	}
	if f.instance.member.Load() != nil {
		f.background.Go(func() { f.instanceLoop(soft) })
		f.background.Go(func() { f.describeLoop(soft) })
		f.background.Go(func() { f.confirmLoop(f.hard) }) // also while a stop waits for batches in flight
	}
	for _, loop := range []func(context.Context){f.takeoverLoop, f.topicsLoop, f.linesLoop, f.configsLoop, f.journalLoop, f.pruneLoop, f.endsLoop, f.controlLoop, f.agesLoop, f.controllersLoop, f.transactionsLoop, f.partsLoop, f.verifyLoop, f.throttles.Loop} {
		f.background.Go(func() { loop(soft) })
	}
	f.background.Go(func() { refreshLoop(soft, f.refreshes.source, f.refreshSource) })
	f.background.Go(func() { refreshLoop(f.hard, f.refreshes.target, f.refreshTarget) })
	f.background.Go(func() { f.sourceDials.WatchFiles(soft, f.log.With("cluster", f.config.Source)) })
	f.background.Go(func() { f.targetDials.WatchFiles(soft, f.log.With("cluster", f.config.Target)) })
	f.startBrokers(soft)
}

// stop drains the flow and ends its loops. After a fatal error, such as a fence, it writes nothing more.
func (f *Flow) stop(cut context.CancelFunc) error {
	began := time.Now()
	if f.failure.Load() == nil {
		f.standDown()
		f.closeOutboxes()
		f.log.Info("stopping", "batches_in_flight", f.pending.Load())
		deadline, cancel := context.WithTimeout(f.hard, f.live().shutdownTimeout)
		left := f.drain(deadline)
		cancel()
		deadline, cancel = context.WithTimeout(f.hard, finalJournalTimeout) // a drain that ran into its deadline leaves the most to journal
		f.released.Store(true)
		f.syncJournal(deadline)
		cancel()
		f.leave(f.hard)
		if left > 0 {
			f.log.Warn("batches were still in flight at the shutdown timeout; the next start reconciles them with the target", "count", left)
		}
	}
	cause := f.failed()
	cut()
	f.background.Wait()
	f.log.Info("stopped", "took", time.Since(began).Round(time.Millisecond))
	return cause
}

// closeOutboxes ends what the partitions send. A partition that a sync adds later has nothing to send, because the fetches have ended.
func (f *Flow) closeOutboxes() {
	for _, s := range f.held.all() {
		s.closeOutboxes()
	}
}

// drain waits until no batch is in flight, once the outboxes are closed. It returns how many are left when ctx ends.
func (f *Flow) drain(ctx context.Context) int64 {
	for f.pending.Load() > 0 && f.failure.Load() == nil {
		if client.Sleep(ctx, 2*time.Millisecond) != nil {
			break
		}
	}
	return f.pending.Load()
}

// connect connects to both clusters. It retries with backoff until both are available, because a cluster that is down at start may come
// back. It returns an error that no retry can fix.
func (f *Flow) connect(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		err := f.connectOnce(ctx)
		if err == nil {
			f.problem.Store(nil)
			return nil
		}
		text := err.Error()
		f.problem.Store(&text)
		if isFatal(err) || isPermanent(err) {
			return err
		}
		f.warn("waiting for a cluster", "err", err)
		if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
			return err
		}
	}
}

// connectOnce reads the metadata of both clusters, checks that they are not the same cluster and that the target has what the fence needs, and creates the journal topic if it is
// missing.
func (f *Flow) connectOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	source, target, err := f.readTopics(ctx)
	if err != nil {
		return err
	}
	f.topology.setSource(source)
	f.topology.setTarget(target)
	if source.ClusterID != "" && source.ClusterID == target.ClusterID {
		return &fatalError{fmt.Errorf("flow %s: %s and %s are the same cluster (id %s); check the brokers of both",
			f.config.Name, f.config.Source, f.config.Target, source.ClusterID)}
	}
	refused, _, err := topics.CheckFence(ctx, f.target, f.config)
	if err != nil {
		return f.options.TargetError(err)
	}
	if refused != "" {
		return &fatalError{fmt.Errorf("flow %s: %s", f.config.Name, refused)}
	}
	return f.ensureJournal(ctx)
}

// isPermanent reports whether a retry is pointless: the login was refused, or the certificate cannot be verified.
func isPermanent(err error) bool {
	for _, refused := range []error{kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState, client.ErrLoginRefused} {
		if errors.Is(err, refused) {
			return true
		}
	}
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}
