package fleet

import (
	"fmt"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// join makes the report of what was read.
func (r *reading) join(p *picked) Report {
	now := time.Now()
	report := Report{
		Flow: r.flow.Name, Source: r.flow.Source, Target: r.flow.Target,
		SourceClusterID: r.sourceView.ClusterID, TargetClusterID: r.targetView.ClusterID,
		At: now, Shards: len(r.journal), JournaledAt: r.journal.written(), NotCopied: make(map[string]string), Unused: r.unused, Partitions: p.partitions,
	}
	for _, refusal := range p.refused {
		report.NotCopied[refusal.Topic] = refusal.Reason
	}
	report.InForce = r.decisions.InForce(now)
	if open := r.decisions.Recovery(); open != nil && open.IsOpen() {
		report.Recovery = open.Status(now)
	}
	report.Frozen, report.Drill = r.decisions.Frozen(), r.decisions.Drill()
	report.Mode, report.Instances = r.instances(now)
	byShard := owners(len(r.journal), report.Instances)
	if report.Mode != ModeUnknown && r.members.moving == "" {
		report.ShardsWithoutOwner = unowned(byShard)
	}
	report.Problems = r.problems(p.lost)
	if report.Instances == nil {
		report.Instances = []Instance{}
	}
	if report.Partitions == nil {
		report.Partitions = []Partition{}
	}
	for i := range report.Partitions {
		r.complete(&report.Partitions[i], i, p, byShard, &report.RPO)
		if d := r.decisions.Paused(report.Partitions[i].topicPartition(), now); d != nil {
			report.Partitions[i].Paused = d.ID
		}
		if v, ok := r.decisions.Own(report.Partitions[i].topicPartition()); ok && r.flow.Verify.Rate > 0 {
			report.Partitions[i].Verified = v.Status()
		}
	}
	for _, s := range r.journal {
		if s.horizon != nil && s.horizon.More != nil {
			report.RPO.AddMore(s.horizon.More)
		}
	}
	report.RPO.Settle(r.flow.RPO, now)
	if r.flow.RTO != nil {
		report.RTOObjectiveSeconds = r.flow.RTO.Seconds()
	}
	report.sum()
	return report
}

// unowned returns the shards without an owner.
func unowned(byShard []string) []int32 {
	none := []int32{}
	for k, id := range byShard {
		if id == "" {
			none = append(none, int32(k))
		}
	}
	return none
}

// problems are sentences about what could not be read.
func (r *reading) problems(lost []int32) (sentences []string) {
	if len(lost) > 0 {
		sentences = append(sentences, client.WithoutController(r.flow.Source, lost, time.Time{})+": "+client.SourceWithoutController)
	}
	if r.dark != nil {
		sentences = append(sentences, fmt.Sprintf("the source does not answer, so neither its topics nor the lag are known: %v", r.dark))
	}
	if r.members.err != nil {
		sentences = append(sentences, fmt.Sprintf("it is not known which instances run: %v", r.members.err))
	}
	if r.members.moving != "" {
		sentences = append(sentences, fmt.Sprintf("it is not known which instance has which shards: the group rebalances (%s); ask again", r.members.moving))
	}
	if r.undecided != nil {
		sentences = append(sentences, fmt.Sprintf("it is not known what is paused: %v", r.undecided))
	}
	return append(sentences, r.unread()...)
}

// unread is a sentence about the shards whose journals were not read: all of them, if the brokers that lead them do not answer.
func (r *reading) unread() (sentences []string) {
	count, first := 0, 0
	for k, s := range r.journal {
		if s.err == nil {
			continue
		}
		if count++; count == 1 {
			first = k
		}
	}
	switch count {
	case 0:
		return nil
	case 1:
		return []string{fmt.Sprintf("shard %d: its journal was not read: %v", first, r.clusters.TargetError(r.journal[first].err))}
	}
	return []string{fmt.Sprintf("the journals of %d of %d shards were not read, such as that of shard %d: %v", count, len(r.journal), first,
		r.clusters.TargetError(r.journal[first].err))}
}

// complete fills in the i-th partition.
func (r *reading) complete(p *Partition, i int, from *picked, byShard []string, rpo *offsets.RPO) {
	p.Shard = -1
	v := &struct{ source, journaled, lag int64 }{} // one allocation, as there may be many partitions
	end, known, why := from.end(i)
	if known {
		v.source = end
		p.SourceEnd = &v.source
	}
	state, listed, missing := r.progressOf(p, byShard)
	if !listed {
		p.Why = missing
		rpo.AddUnknown(p.Topic)
		return
	}
	if !r.isShrunk(p) {
		r.addBehind(rpo, p, state, from, i)
	}
	copied := offsets.TopicPartition{Topic: p.TargetTopic, Partition: p.Partition}
	p.TargetNoLeader = int(p.Partition) < len(r.targetView.ByName[p.TargetTopic].Partitions) && r.targetView.Leader(copied) < 0
	v.journaled = state.end
	p.Listed, p.Journaled, p.Halted = true, &v.journaled, state.halted
	switch {
	case r.isShrunk(p):
		p.Halted = r.shrunkHalt(p, state)
	case !known:
		p.Why = why
	case r.isAnotherTopic(p.Topic, state):
		p.Why = "its lag is not known: the journal is about an earlier topic of that name on the source"
	default:
		v.lag = max(0, end-state.end)
		p.LagRecords = &v.lag
	}
}

// addBehind adds what the copy of a partition lacks. The horizon of its shard says what an instance saw of the source; the journal may be newer, and so
// is the end of a source that answers. That the copy ends there too does not make it complete while it is halted, because it may be of another log, nor
// if the end is that of what can be read, because an open transaction may hide what others have committed, nor if its leader may have been replaced. Of
// partitions that a horizon has no room for it says what they lack together, which is added for the whole shard: which of the partitions that it does not
// list they are, nobody knows.
func (r *reading) addBehind(rpo *offsets.RPO, p *Partition, state progress, from *picked, i int) {
	if copied := r.targetView.ByName[p.TargetTopic]; int(p.Partition) >= len(copied.Partitions) || offsets.IsAnotherTopic(state.targetTopic, copied.ID) {
		rpo.AddUnknown(p.Topic) // what the journal is about is gone
		return
	}
	b := offsets.Behind{Topic: p.Topic, Partition: p.Partition, Acked: state.end, SourceEnd: state.end}
	seenEnd, unlisted := int64(0), false
	if h := r.journal[p.Shard].horizon; h != nil {
		switch seen, listed := h.Of(p.Topic, p.Partition); {
		case seen != nil:
			b.Acked = max(b.Acked, seen.Acked)
			seenEnd = seen.SourceEnd
			b.SourceEnd, b.Seen, b.Complete = max(b.Acked, seenEnd), seen.Seen, seen.Complete
		case listed:
			b.Seen, b.Complete = h.At, h.At
		case h.More != nil:
			unlisted = true
			if b.Seen, b.Complete = h.At, h.At; h.At.IsZero() {
				b.Seen, b.Complete = h.More.Seen, h.More.Complete
			}
		}
	}
	if p.SourceEnd != nil && !r.isAnotherTopic(p.Topic, state) {
		b.SourceEnd = max(b.Acked, *p.SourceEnd)
		if from.isLed(i) {
			b.Seen = from.asked
		}
		switch {
		case !from.isLed(i): // what others have written since is not known
			b.SourceEnd = max(b.SourceEnd, seenEnd)
		case from.isolation == readCommitted, state.halted != nil: // what an instance has seen may be more
			b.SourceEnd = max(b.SourceEnd, seenEnd)
		case *p.SourceEnd == b.Acked:
			b.Complete = from.asked
		}
	}
	if b.Seen.IsZero() {
		rpo.AddUnknown(p.Topic)
		return
	}
	if !unlisted {
		missing := b.Missing()
		p.MissingRecords, p.CompleteUpTo = &missing, b.Complete
	}
	rpo.Add(b)
}

// progressOf finds a partition in the journal, and its owner. It returns why the journal does not list it.
func (r *reading) progressOf(p *Partition, byShard []string) (state progress, listed bool, why string) {
	if len(r.journal) == 0 {
		return state, false, "not begun: the flow has no journal yet, so it never ran"
	}
	p.Shard = offsets.ShardOf(p.Topic, p.Partition, int32(len(r.journal)))
	p.Instance = byShard[p.Shard]
	shard := r.journal[p.Shard]
	if shard.err != nil { // what was read may have been replaced since
		return state, false, fmt.Sprintf("not known: the journal of shard %d was not read", p.Shard)
	}
	if state, listed = shard.partitions[p.topicPartition()]; listed {
		return state, true, ""
	}
	switch copied := r.targetView.ByName[p.TargetTopic]; {
	case !copied.Exists():
		return state, false, fmt.Sprintf("not begun: topic %s does not exist on cluster %s", p.TargetTopic, r.flow.Target)
	case int(p.Partition) >= len(copied.Partitions):
		return state, false, fmt.Sprintf("not begun: topic %s on cluster %s has %d partitions", p.TargetTopic, r.flow.Target, len(copied.Partitions))
	}
	return state, false, "not begun: the journal does not list it yet"
}

func (p *Partition) topicPartition() offsets.TopicPartition {
	return offsets.TopicPartition{Topic: p.Topic, Partition: p.Partition}
}

// isAnotherTopic reports whether the journal is about another topic than the source has now.
func (r *reading) isAnotherTopic(topic string, state progress) bool {
	return state.sourceCluster != "" && r.sourceView.ClusterID != "" && state.sourceCluster != r.sourceView.ClusterID ||
		offsets.IsAnotherTopic(state.sourceTopic, r.sourceView.ByName[topic].ID)
}

// sum adds the partitions up, for the flow and for each instance.
func (r *Report) sum() {
	byID := make(map[string]*Instance, len(r.Instances))
	for i := range r.Instances {
		instance := &r.Instances[i]
		byID[instance.ID] = instance
	}
	for i := range r.Partitions {
		p := &r.Partitions[i]
		addLag(&r.LagRecords, &r.LagUnknown, p.LagRecords)
		if instance := byID[p.Instance]; instance != nil {
			instance.Partitions++
			addLag(&instance.LagRecords, &instance.LagUnknown, p.LagRecords)
		}
	}
	if len(r.Problems) > 0 {
		return
	}
	r.LagRecords = nothing(r.LagRecords, r.LagUnknown)
	for _, i := range byID {
		i.LagRecords = nothing(i.LagRecords, i.LagUnknown)
	}
}

// addLag adds the lag of one partition to a sum.
func addLag(sum **int64, unknown *int, lag *int64) {
	if lag == nil {
		*unknown++
		return
	}
	if *sum == nil {
		*sum = new(int64)
	}
	**sum += *lag
}

// nothing is the sum, and 0 if there is no partition at all, so that none is behind.
func nothing(sum *int64, unknown int) *int64 {
	if sum == nil && unknown == 0 {
		return new(int64)
	}
	return sum
}
