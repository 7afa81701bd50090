package recovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
)

// drilledGroup is a group of the source, and where it continues on the target.
type drilledGroup struct {
	name       string
	translated []offsets.GroupOffset // all that have a counterpart
	checked    []offsets.GroupOffset // those of them that are looked at
	result     DrilledGroup
}

// maxChecked is how many positions a drill looks at, of all groups together.
const maxChecked = 5000

// translate translates the positions of all groups, as a failover does.
func (d *drill) translate(ctx context.Context) (string, error) {
	if !d.positions.follows() {
		d.notef("the flow does not move groups, so none was looked at")
		return "the flow does not move groups", nil
	}
	list, err := d.positions.read(ctx)
	if err != nil {
		return "", err
	}
	n := max(1, d.d.Positions)
	if len(list) > 0 {
		n = min(n, max(1, maxChecked/len(list)))
	}
	positions := 0
	for _, g := range list {
		if len(g.handed) > 0 {
			d.notef("group %s has positions in copies of topics of cluster %s, which are not drilled", g.name, d.clusters.Flow.Target)
		}
		if len(g.committed) == 0 {
			continue
		}
		var committed []kadm.Offset
		for _, tp := range slices.SortedFunc(maps.Keys(g.committed), comparePartitions) {
			committed = append(committed, kadm.Offset{Topic: tp.Topic, Partition: tp.Partition, At: g.committed[tp], LeaderEpoch: -1})
		}
		translated, err := d.translator.Translate(ctx, g.name, committed)
		if err != nil {
			return "", fmt.Errorf("translate group %s: %w", g.name, err)
		}
		of := &drilledGroup{name: g.name, result: DrilledGroup{Group: g.name, Positions: len(translated)}}
		for _, o := range translated {
			if o.Err != nil {
				d.finding(FindingTranslation, g.name, "offset %d of %s-%d has no counterpart: %v", o.Source, o.Topic, o.Partition, o.Err)
				continue
			}
			of.translated = append(of.translated, o)
		}
		of.checked = spread(of.translated, n)
		of.result.Checked = len(of.checked)
		positions += len(translated)
		d.groups = append(d.groups, of)
	}
	if len(d.groups) > maxChecked {
		d.groups = spread(d.groups, maxChecked)
		d.notef("of %s with positions, %d were looked at", counted(len(list), "group"), maxChecked)
	}
	return fmt.Sprintf("%s with %s", counted(len(list), "group"), counted(positions, "position")), nil
}

// spread returns at most n items of a list, evenly spread over it.
func spread[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	some := make([]T, n)
	for i := range some {
		some[i] = list[i*len(list)/n]
	}
	return some
}

// drillWorkers is how many requests of a drill are in flight on a cluster.
const drillWorkers = 8

// commit commits the positions on the target for groups of other names, with the requests of a failover.
func (d *drill) commit(ctx context.Context) (string, error) {
	var work errgroup.Group
	work.SetLimit(drillWorkers)
	for _, g := range d.groups {
		work.Go(func() error {
			n, refused, err := d.translator.Commit(ctx, offsets.Target, d.shadow(g.name), g.translated)
			switch {
			case err != nil:
				return fmt.Errorf("commit the positions of group %s as %s: %w", g.name, d.shadow(g.name), err)
			case len(refused) > 0:
				return fmt.Errorf("commit the positions of group %s as %s: %s: %s", g.name, d.shadow(g.name), refused[0].Text, refused[0].Detail)
			case n != len(g.translated):
				return fmt.Errorf("commit the positions of group %s as %s: %d of %d were committed", g.name, d.shadow(g.name), n, len(g.translated))
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return "", err
	}
	return counted(len(d.groups), "group"), nil
}

// consumeWait is how long a consumer may take until it has a record.
const consumeWait = time.Minute

// consume starts a consumer in one of the groups that were committed, and waits for its first record.
func (d *drill) consume(ctx context.Context) (string, error) {
	read, err := d.targetLogs(ctx)
	if err != nil {
		return "", err
	}
	for _, g := range d.groups {
		i, err := d.firstToRead(ctx, read, g)
		if err != nil {
			return "", err
		}
		if i < 0 {
			continue
		}
		record, err := d.consumeAs(ctx, d.shadow(g.name), g.translated[i])
		if err != nil {
			return "", fmt.Errorf("start a consumer of %s in group %s: %w", g.translated[i].TargetTopic, d.shadow(g.name), err)
		}
		return fmt.Sprintf("group %s read its first record, at offset %d of %s-%d", g.name, record.Offset, record.Topic, record.Partition), d.isFirst(ctx, read, g, record)
	}
	d.notef("no group had a record to read, so the time that a consumer needs to start is not part of the RTO")
	return "no group has a record to read", nil
}

// firstToRead is the index of the first position of a group at which there is a record, -1 if it has nothing to read.
func (d *drill) firstToRead(ctx context.Context, read *logs, g *drilledGroup) (int, error) {
	for i := range g.translated {
		o := &g.translated[i]
		if o.Lag == 0 {
			continue
		}
		_, target := pairOf(o)
		found, err := read.next(ctx, target, o.Target)
		if err != nil || found.record != nil {
			return i, err
		}
	}
	return -1, nil
}

// isFirst finds out whether the first record that a consumer read is the next one of the group's position.
func (d *drill) isFirst(ctx context.Context, read *logs, g *drilledGroup, record *kgo.Record) error {
	for i := range g.translated {
		o := &g.translated[i]
		if o.TargetTopic != record.Topic || o.Partition != record.Partition {
			continue
		}
		_, target := pairOf(o)
		found, err := read.next(ctx, target, o.Target)
		if err == nil && (found.record == nil || found.record.Offset != record.Offset) {
			d.finding(FindingRecord, g.name, "a consumer began at offset %d of %s, and the group continues at %d", record.Offset, target, o.Target)
		}
		return err
	}
	return nil
}

// consumeAs joins a group, and returns the first record that it reads in the topic of a position, which has one.
func (d *drill) consumeAs(ctx context.Context, group string, o offsets.GroupOffset) (*kgo.Record, error) {
	opts, err := client.Options(d.clusters.Target, &client.Dials{}, d.clusters.Log.With("cluster", d.clusters.Flow.Target))
	if err != nil {
		return nil, err
	}
	isolation := kgo.ReadUncommitted()
	if d.isCommitted() {
		isolation = kgo.ReadCommitted()
	}
	consumer, err := kgo.NewClient(append(opts, kgo.ConsumerGroup(group), kgo.ConsumeTopics(o.TargetTopic), kgo.DisableAutoCommit(),
		kgo.FetchIsolationLevel(isolation), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(time.Second))...)
	if err != nil {
		return nil, err
	}
	defer consumer.Close() // it leaves the group
	ctx, cancel := context.WithTimeout(ctx, consumeWait)
	defer cancel()
	for {
		fetches := consumer.PollFetches(ctx)
		if records := fetches.Records(); len(records) > 0 {
			return records[0], nil
		}
		for _, e := range fetches.Errors() {
			switch {
			case errors.Is(e.Err, context.DeadlineExceeded), errors.Is(e.Err, context.Canceled):
				return nil, fmt.Errorf("no record came within %v", consumeWait)
			default:
				return nil, d.clusters.TargetError(e.Err)
			}
		}
	}
}

// isCommitted reports whether the flow copies committed records only.
func (d *drill) isCommitted() bool { return d.clusters.Flow.Isolation == config.ReadCommitted }

// committedWait is how long the sync may take to bring a group to where it is on the source, besides two of its intervals.
const committedWait = 3 * time.Second

// compareCommitted compares where the groups are on the target with where they continue. A group that moves has moved again when the sync has put it: any
// position counts that it had during the drill. One with members on the target commits for itself.
func (d *drill) compareCommitted(ctx context.Context) (string, error) {
	open := d.toCompare()
	began := time.Now()
	until := began.Add(2*d.clusters.Flow.GroupsInterval + committedWait)
	for len(open) > 0 {
		if err := d.lookCommitted(ctx, open); err != nil {
			return "", err
		}
		if onlyMove(open) && time.Since(began) > d.clusters.Flow.GroupsInterval || time.Now().After(until) {
			break
		}
		d.waiting("groups whose positions on the target are not yet those on the source: %s", firstOf(slices.Sorted(keys(open))))
		if err := client.Sleep(ctx, lookEvery); err != nil {
			return "", err
		}
	}
	for _, name := range slices.Sorted(keys(open)) {
		for _, p := range open[name].left() {
			d.judgeCommitted(name, p)
		}
	}
	exact := 0
	for _, g := range d.groups {
		exact += g.result.Committed
	}
	return fmt.Sprintf("%s where they continue", counted(exact, "position")), nil
}

// committedPosition is a position of a group on the target.
type committedPosition struct {
	offsets.GroupOffset
	seen map[int64]bool // where it continued on the target, at any time of the drill
	at   int64          // committed there, -1 for none
	was  int64          // the same at the first look, -2 before
	done bool
	// Beyond means that the group is beyond what the journal says is copied, which is a moment behind what is: the sync may know better.
	beyond bool
}

// committedGroup is a group whose positions on the target are compared.
type committedGroup struct {
	of        *drilledGroup
	positions []*committedPosition
}

func (g *committedGroup) left() (list []*committedPosition) {
	for _, p := range g.positions {
		if !p.done {
			list = append(list, p)
		}
	}
	return list
}

// moves reports whether the position moves on the source, and that on the target follows it.
func (p *committedPosition) moves() bool {
	return len(p.seen) > 1 && p.at >= 0 && p.at < p.Target && p.at != p.was
}

// onlyMove reports whether all positions that are left move, so that looking longer would find nothing.
func onlyMove(open map[string]*committedGroup) bool {
	for _, g := range open {
		if slices.ContainsFunc(g.left(), func(p *committedPosition) bool { return !p.moves() }) {
			return false
		}
	}
	return true
}

func (d *drill) toCompare() map[string]*committedGroup {
	open := make(map[string]*committedGroup)
	for _, g := range d.groups {
		of := &committedGroup{of: g}
		for _, o := range g.checked {
			of.positions = append(of.positions, &committedPosition{GroupOffset: o, seen: map[int64]bool{o.Target: true}, at: -1, was: -2, beyond: !o.Exact})
		}
		if len(of.positions) > 0 {
			open[g.name] = of
		}
	}
	return open
}

// lookCommitted looks once, and removes the groups that are where they continue.
func (d *drill) lookCommitted(ctx context.Context, open map[string]*committedGroup) error {
	names := slices.Sorted(keys(open))
	if len(names) == 0 {
		return nil
	}
	listed, err := d.positions.target.ListGroups(ctx)
	if err != nil {
		return d.clusters.TargetError(err)
	}
	there := d.positions.target.FetchManyOffsets(ctx, names...)
	here := d.positions.source.FetchManyOffsets(ctx, names...)
	for _, name := range names {
		if on, ok := listed[name]; ok && (!policy.Translatable(on.ProtocolType) || isActive(on.State)) {
			d.notef("group %s has members on cluster %s, and commits its positions there itself", name, d.clusters.Flow.Target)
			delete(open, name)
			continue
		}
		if err := errors.Join(there[name].Err, here[name].Err); err != nil {
			return fmt.Errorf("read the offsets of group %s: %w", name, err)
		}
		g := open[name]
		for _, p := range g.left() {
			if err := d.lookAt(ctx, p, here[name].Fetched, there[name].Fetched); err != nil {
				return err
			}
			if p.done {
				g.of.result.Committed++
			}
		}
		if len(g.left()) == 0 {
			delete(open, name)
		}
	}
	return nil
}

func isActive(state string) bool { return state != "" && state != "Empty" && state != "Dead" }

// lookAt finds out whether a position is committed on the target where it continues.
func (d *drill) lookAt(ctx context.Context, p *committedPosition, here, there kadm.OffsetResponses) error {
	if now, ok := here.Lookup(p.Topic, p.Partition); ok && now.At >= 0 {
		at := now.Offset
		at.Topic, at.Partition = p.Topic, p.Partition
		again, err := d.translator.Translate(ctx, p.Group, []kadm.Offset{at})
		if err != nil {
			return err
		}
		for _, o := range again {
			if o.Err == nil {
				p.Source, p.Target, p.beyond = o.Source, o.Target, !o.Exact
				p.seen[o.Target] = true
			}
		}
	}
	p.at = -1
	if now, ok := there.Lookup(p.TargetTopic, p.Partition); ok {
		p.at = now.At
	}
	if p.was == -2 {
		p.was = p.at
	}
	p.done = p.seen[p.at]
	return nil
}

// judgeCommitted says what is wrong with a position that was never where it continues.
func (d *drill) judgeCommitted(name string, p *committedPosition) {
	where := fmt.Sprintf("%s-%d", p.TargetTopic, p.Partition)
	switch {
	case p.at < 0:
		d.finding(FindingCommitted, name, "has no position in %s on cluster %s, and continues at %d; milena status says why it is refused", where, d.clusters.Flow.Target, p.Target)
	case p.moves():
		d.notef("group %s moves on the source; in %s it is at %d, and continues at %d by now", name, where, p.at, p.Target)
	case p.at > p.Target && p.beyond && len(p.seen) > 1:
		d.notef("group %s moves on the source; in %s it is at %d, and up to %d is copied according to the journal", name, where, p.at, p.Target)
	case p.at > p.Target:
		d.finding(FindingCommitted, name, "is at %d of %s, and continues at %d: it would skip what is between", p.at, where, p.Target)
	case len(p.seen) > 1:
		d.finding(FindingCommitted, name, "moves on the source, and stays at %d of %s, where it continues at %d: it is not synced; if its own consumers or a person put it there, milena groups adopt %s --flow %s --reason TEXT lets it follow", p.at, where, p.Target, name, d.clusters.Flow.Name)
	default:
		d.finding(FindingCommitted, name, "is at %d of %s, and continues at %d: it would read again what is between", p.at, where, p.Target)
	}
}
