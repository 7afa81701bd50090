package replicator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/membership"
)

// instanceLoop adds the partitions of shards that this process has just got, and takes them over.
func (f *Flow) instanceLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.instance.lost: // begin as a process does that starts: what it claims must be told when it joins
			if member := f.instance.member.Swap(nil); member != nil {
				member.Close()
			}
			if err := f.joinAgain(ctx); err != nil && ctx.Err() == nil {
				f.fail(err)
			}
			f.takeOverHeld(ctx)
		case <-f.instance.changed:
			f.confirmMembership(ctx)
			f.takeOverHeld(ctx)
		}
	}
}

// describeLoop describes the group, for the status and to see whether this instance is in it, and samples the loads.
func (f *Flow) describeLoop(ctx context.Context) {
	client.Every(ctx, describeEvery, func(now time.Time) {
		f.sampleLoads(now)
		before := f.instance.seen.Load()
		group, err := f.describeGroup(ctx)
		if err == nil && before != nil {
			f.logOthers(*before, group)
		}
		switch {
		case err != nil:
			f.log.Debug("describe the group of the instances", "err", err)
		case now.Sub(f.instance.joined()) > describeEvery && !f.lease.holds() && len(f.others(group)) == len(group.Instances):
			requestSoon(f.instance.lost) // it was removed, and waits for a response that does not come
		}
	})
}

// logOthers logs which other instances have joined the group or left it between two descriptions.
func (f *Flow) logOthers(before, now membership.Group) {
	log := func(text string, these, those []membership.Instance) {
		for _, i := range these {
			if !slices.ContainsFunc(those, func(o membership.Instance) bool { return o.ID == i.ID }) {
				f.log.Info(text, "instance", i.ID, "host", i.Host, "instances", len(now.Instances)) //nolint:sloglint // a constant of the caller
			}
		}
	}
	were, are := f.others(before), f.others(now)
	log("another instance has joined the group", are, were)
	log("another instance has left the group", were, are)
}

// joinAgain joins the group after the coordinator has removed this instance, unless another process has its id now. The coordinator also removes a member
// for a request that this process has repeated.
func (f *Flow) joinAgain(ctx context.Context) error {
	now, err := f.namesake(ctx)
	if err != nil {
		return err
	}
	if now != nil && now.Process != f.process() {
		return &fatalError{fmt.Errorf("flow %s: another process, on %s, has joined group %s on cluster %s with the instance id %q and replaces this one, which stops; if both are to run, give each its own id: set the environment variable POD_NAME, or instance: ${NAME} in the file and a different NAME for each process",
			f.config.Name, now.Host, f.instance.group, f.config.Target, f.instance.id)}
	}
	if err := f.lookAround(ctx); err != nil {
		return err
	}
	return f.join(f.hard) //nolint:contextcheck // as in begin
}

// namesake returns the member of the group that has the id of this instance, nil if none has. It waits for the end of a rebalance, as the coordinator
// does not tell before whose process it is; if that takes too long, it returns nil.
func (f *Flow) namesake(ctx context.Context) (*membership.Instance, error) {
	for attempt := range rejoinAttempts {
		group, err := f.describeGroup(ctx)
		i := slices.IndexFunc(group.Instances, func(i membership.Instance) bool { return i.ID == f.instance.id })
		switch {
		case err != nil:
			f.warn("waiting for the group of the instances", "group", f.instance.group, "err", err)
		case i < 0:
			return nil, nil //nolint:nilnil // none is no error
		case group.Instances[i].Process != "":
			return &group.Instances[i], nil
		}
		if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
			return nil, err
		}
	}
	return nil, nil //nolint:nilnil // not known is no error
}

// rejoinAttempts is how often a removed instance asks who has its id: for about 10 s, longer than a rebalance takes.
const rejoinAttempts = 20

// process is an id of this process that no other one has.
func (f *Flow) process() string {
	return fmt.Sprintf("%s-%d-%x", f.owner.Host, f.owner.PID, f.owner.Since.UnixNano())
}

// takeOverHeld adds the partitions of the shards that are held and not owned, and requests their takeovers.
func (f *Flow) takeOverHeld(ctx context.Context) {
	if err := f.addHeld(ctx); err != nil && ctx.Err() == nil {
		f.warn("the partitions of new shards could not be added, retrying", "err", err)
		f.syncTopicsSoon()
	}
	if !f.instance.isAssigned() {
		if zero := f.held.get(0); zero != nil {
			f.requestTakeover(zero) // the others follow once this one is owned
		}
		return
	}
	for _, s := range f.busiestFirst() {
		if !s.ownership.isOwned() {
			f.requestTakeover(s)
		}
	}
}

// confirmLoop confirms the lease by the membership, once the group has assigned shards. It logs when the lease runs out, which stops all writes.
func (f *Flow) confirmLoop(ctx context.Context) {
	held, ranOut := false, false
	note := func() {
		before := held
		held = f.lease.holds()
		switch {
		case before && !held:
			ranOut = true
			f.log.Warn("the lease ran out: ownership could not be confirmed, and nothing is sent until it is", "lease", f.lease.length)
		case held && ranOut:
			ranOut = false
			f.log.Info("ownership is confirmed again")
		}
	}
	client.Every(ctx, confirmEvery, func(time.Time) {
		note()
		f.confirmMembership(ctx)
		note()
	})
}

func (f *Flow) confirmMembership(ctx context.Context) {
	member := f.instance.member.Load()
	if !f.instance.isAssigned() || member == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	began := f.lease.now()
	if err := member.Confirm(ctx); err != nil {
		f.log.Debug("the membership is not confirmed", "err", err)
		return
	}
	f.lease.confirm(began)
}
