package switching

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// state is what a group does while the application uses a cluster.
type state int

const (
	active  state = iota // has a member all the time, which commits by itself
	some                 // reads some records after each move, and is left without members
	middle               // reads some on the first cluster, and the rest much later
	strict               // has a member, and commits each batch that it has processed
	old                  // has positions at the beginning, and reads at the end
	partial              // has positions in half of the partitions, and reads some after each move
	states
)

func (s state) String() string {
	return [states]string{"active", "some", "middle", "strict", "old", "partial"}[s]
}

// group is a consumer group of one member at most.
type group struct {
	app         *App
	name        string
	state       state
	uncommitted bool // reads aborted records too
	moves       int

	processed map[string][]string // where each record was read, by its value
	cancel    context.CancelFunc
	ended     chan error
}

func newGroup(a *App, i int) *group {
	s := state(i) % states
	return &group{app: a, name: fmt.Sprintf("%v-%d", s, i), state: s, uncommitted: (i/int(states))%2 == 1, processed: make(map[string][]string)}
}

// start lets a group do what it does after a move.
func (g *group) start(ctx context.Context, cluster int) error {
	g.moves++
	switch {
	case g.state == active, g.state == strict:
		return g.startMember(ctx, cluster)
	case g.state == middle && g.moves > 1:
		return nil
	case g.state == old && g.moves > 1:
		return nil
	case g.state == old:
		return g.commitStarts(ctx, cluster)
	}
	return g.startReading(ctx, cluster, 50)
}

// client is a member.
func (g *group) client(cluster int, opts ...kgo.Opt) (*kgo.Client, error) {
	level := kgo.ReadCommitted()
	if g.uncommitted {
		level = kgo.ReadUncommitted()
	}
	if g.app.w.Newer {
		opts = append(opts, kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer())
	}
	return g.app.w.client(cluster, append([]kgo.Opt{
		kgo.ConsumerGroup(g.name), kgo.FetchIsolationLevel(level), kgo.ConsumeTopics(Topic, g.app.w.copied(cluster)), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.BlockRebalanceOnPoll(), kgo.AutoCommitInterval(500 * time.Millisecond), kgo.FetchMaxWait(200 * time.Millisecond), kgo.SessionTimeout(10 * time.Second),
	}, opts...)...)
}

// startMember starts a member that reads until the group is stopped.
func (g *group) startMember(ctx context.Context, cluster int) error {
	var opts []kgo.Opt
	if g.state == strict {
		opts = append(opts, kgo.DisableAutoCommit())
	}
	cl, err := g.client(cluster, opts...)
	if err != nil {
		return err
	}
	ctx, g.cancel = context.WithCancel(ctx)
	g.ended = make(chan error, 1)
	go func() { g.ended <- g.read(ctx, cl, cluster, func(int) bool { return false }) }()
	return nil
}

// startReading starts a member that leaves once it has read so many records, or the group is stopped.
func (g *group) startReading(ctx context.Context, cluster, records int) error {
	cl, err := g.client(cluster, kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	ctx, g.cancel = context.WithCancel(ctx)
	g.ended = make(chan error, 1)
	go func() { g.ended <- g.read(ctx, cl, cluster, func(n int) bool { return n >= records }) }()
	return nil
}

// read reads until enough or ctx ends, commits, and leaves the group.
func (g *group) read(ctx context.Context, cl *kgo.Client, cluster int, enough func(int) bool) error {
	defer cl.CloseAllowingRebalance()
	n := 0
	for !enough(n) && ctx.Err() == nil {
		fetches := cl.PollRecords(ctx, 100)
		for _, e := range fetches.Errors() {
			if ctx.Err() == nil {
				return fmt.Errorf("group %s on %s: %w", g.name, g.app.w.clusters[cluster].Name(), e.Err)
			}
		}
		records := g.choose(fetches.Records())
		g.note(records, cluster)
		n += len(records)
		if g.state != active && len(records) > 0 {
			if err := g.commit(ctx, func(ctx context.Context) error { return cl.CommitRecords(ctx, records...) }); err != nil {
				return err
			}
		}
		cl.AllowRebalance()
	}
	if g.state != active {
		return nil
	}
	return g.commit(ctx, cl.CommitUncommittedOffsets)
}

// choose leaves out half of the partitions for a group that has never read them.
func (g *group) choose(records []*kgo.Record) []*kgo.Record {
	if g.state != partial || g.moves > 1 {
		return records
	}
	return slices.DeleteFunc(records, func(r *kgo.Record) bool { return r.Partition%2 == 1 })
}

func (g *group) commit(ctx context.Context, commit func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := commit(ctx); err != nil {
		return fmt.Errorf("commit of group %s: %w", g.name, err)
	}
	return nil
}

// commitStarts commits the beginning of each partition.
func (g *group) commitStarts(ctx context.Context, cluster int) error {
	return g.app.w.clusters[cluster].Admin(func(admin *kadm.Client) error {
		var starts kadm.Offsets
		for partition := range g.app.w.Partitions {
			starts.AddOffset(Topic, int32(partition), 0, -1)
		}
		return admin.CommitAllOffsets(ctx, g.name, starts)
	})
}

const (
	quiet   = 2 * time.Second  // so long nothing comes any more after all was read
	patient = 20 * time.Second // so long nothing comes although something is missing
)

// readToEnd lets the group read all that there is on the cluster of the application.
func (g *group) readToEnd(ctx context.Context) error {
	g.moves++
	cl, err := g.client(g.app.cluster, kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	last, read := time.Now(), 0
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.NewTicker(200 * time.Millisecond)
	defer timer.Stop()
	ended := make(chan error, 1)
	go func() { ended <- g.read(ctx, cl, g.app.cluster, func(int) bool { return false }) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-timer.C:
		}
		missing, seen := g.missing()
		if seen != read {
			last, read = time.Now(), seen
		}
		if since := time.Since(last); since > patient || missing == 0 && since > quiet {
			cancel()
			return <-ended
		}
	}
}

// missing is how many records the group has not processed, and how many it has, with those that it read twice.
func (g *group) missing() (missing, seen int) {
	g.app.mu.Lock()
	defer g.app.mu.Unlock()
	for id := range g.app.written {
		if len(g.processed[id]) == 0 {
			missing++
		}
	}
	for _, at := range g.processed {
		seen += len(at)
	}
	return missing, seen
}

func (g *group) note(records []*kgo.Record, cluster int) {
	g.app.mu.Lock()
	defer g.app.mu.Unlock()
	for _, r := range records {
		at := fmt.Sprintf("%s/%s/%d/%d", g.app.w.clusters[cluster].Name(), r.Topic, r.Partition, r.Offset)
		g.processed[string(r.Value)] = append(g.processed[string(r.Value)], at)
	}
}

// stop lets the member commit and leave.
func (g *group) stop() error {
	if g.cancel == nil {
		return nil
	}
	g.cancel()
	g.cancel = nil
	return <-g.ended
}

// AwaitProtocol waits until the groups with members are of the protocol that the options name.
func (w *World) AwaitProtocol(ctx context.Context) (err error) {
	for {
		if err = w.checkProtocol(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (w *World) checkProtocol(ctx context.Context) error {
	return w.clusters[w.App.cluster].Admin(func(admin *kadm.Client) error {
		described, err := admin.DescribeConsumerGroups(ctx, w.App.Groups()...)
		if err != nil {
			return err
		}
		for _, g := range w.App.groups {
			if g.state != active && g.state != strict {
				continue
			}
			d, ok := described[g.name]
			if newer := ok && d.Err == nil && len(d.Members) > 0; newer != w.Newer {
				return fmt.Errorf("group %s is of the newer protocol: %v, %w", g.name, newer, d.Err)
			}
		}
		return nil
	})
}
