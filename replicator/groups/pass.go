package groups

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/topics"
)

// pass is one sync. Groups are synced in chunks, several at a time: each is read, translated, checkpointed and committed on its own, so that
// what one chunk has achieved does not depend on the others.
type pass struct {
	*Syncer
	began, until time.Time
	now          views
	reading      *offsets.Reading // of the flow's journal, for copies that are elsewhere
	bounds       bounds
	listing      listing

	mu       sync.Mutex
	failures []error // at most maxFailures
	failed   int
}

const (
	// At most groupsPerChunk groups are in one chunk, and in one OffsetFetch request, which takes many since KIP-709.
	groupsPerChunk = 100
	// With positionsPerChunk the memory of a chunk is bounded. A group with more is a chunk of its own.
	positionsPerChunk = 20_000
	// At most maxChunks are synced at the same time. More would help over a slow line, but the memory of each counts.
	maxChunks = 4
	// At most maxFailures errors of a sync are reported. The others are counted.
	maxFailures = 5
)

// views is the metadata of both clusters at one moment of a sync.
type views struct{ source, target topics.View }

// begin reads what all chunks need: the metadata of both clusters, because what the flow saw last may be older than a topic, the lineage, and
// the log bounds of the topics on the target.
func (p *pass) begin(ctx context.Context) error {
	if err := p.readViews(ctx); err != nil {
		return err
	}
	if err := p.lineage.load(ctx, p.now); err != nil {
		return err
	}
	for _, r := range p.reverse {
		r.follow(ctx)
	}
	p.memory.setTopicIDs(func(topic string) [16]byte { return p.now.target.ByName[topic].ID })
	if p.checkpoints.recreated() {
		p.memory.forgetCheckpoints()
	}
	p.reading = p.journal.Reading()
	p.listing = listing{deps: p.deps}
	p.bounds = bounds{client: p.deps.TargetClient, alias: p.deps.Flow.Target}
	return p.bounds.begin(ctx, p.memory.known(), p.now.target)
}

func (p *pass) readViews(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if p.now.source, err = p.deps.SourceMetadata.Read(ctx, p.deps.SourceClient); err != nil {
		return fmt.Errorf("cluster %s: %w", p.deps.Flow.Source, err)
	}
	if p.now.target, err = p.deps.TargetMetadata.Read(ctx, p.deps.TargetClient); err != nil {
		return fmt.Errorf("cluster %s: %w", p.deps.Flow.Target, err)
	}
	return nil
}

// syncAll syncs groups in chunks until the time is up. It returns the first group that was not reached, empty if there is none.
func (p *pass) syncAll(ctx context.Context, names []string) (stopped string) {
	var work errgroup.Group
	work.SetLimit(maxChunks)
	for first := true; len(names) > 0; first = false {
		if ctx.Err() != nil || !first && time.Now().After(p.until) { // at least one chunk, so that every sync makes progress
			stopped = names[0]
			break
		}
		n := p.chunk(names)
		chunk := names[:n]
		names = names[n:]
		work.Go(func() error {
			p.syncChunk(ctx, chunk)
			return nil
		})
	}
	_ = work.Wait() // each chunk reports its errors
	return stopped
}

// chunk returns how many of the groups are the next chunk.
func (p *pass) chunk(names []string) int {
	positions := 0
	for i, name := range names[:min(len(names), groupsPerChunk)] {
		if positions += p.memory.size(name); positions > positionsPerChunk && i > 0 {
			return i
		}
	}
	return min(len(names), groupsPerChunk)
}

// syncChunk syncs some groups.
func (p *pass) syncChunk(ctx context.Context, names []string) {
	read := readCommits(ctx, p.deps.SourceClient, names, false)
	began := time.Now()
	var changed []*groupMemory
	var positions []*position
	hashes := make(map[string]uint64)
	of := make(map[string][]*position)
	for _, name := range names {
		answer := read[name]
		if answer.err != nil {
			p.fail(fmt.Errorf("read the offsets of group %s on cluster %s: %w", name, p.deps.Flow.Source, answer.err))
			continue
		}
		g, hash := p.memory.group(name), answer.hash(p.memory.seed)
		if p.isSettled(g, hash) {
			continue
		}
		hashes[name] = hash
		of[name] = p.positionsOf(g, &answer)
		changed, positions = append(changed, g), append(positions, of[name]...)
	}
	if len(changed) == 0 {
		return
	}
	p.publish(ctx, positions, began)
	for _, g := range changed {
		p.finish(g, hashes[g.name], of[g.name])
	}
}

// recheckEvery is how often a group is looked at whose offsets on the source are the same: what is committed on the target, and the map, may
// have changed.
func (p *pass) recheckEvery() time.Duration { return min(time.Minute, 6*p.deps.Flow.GroupsInterval) }

// isSettled reports whether there is nothing to do for a group.
func (p *pass) isSettled(g *groupMemory, hash uint64) bool {
	if p.adoptions.wants(g.name) || !g.settled || g.read != hash || p.began.Sub(g.looked) >= p.recheckEvery() {
		return false
	}
	for i := range g.parts {
		if t := &g.parts[i]; t.placed && p.bounds.startOf(t.topic, t.partition) > t.put {
			return false // retention deleted the record at its position
		}
	}
	return true
}

// positionsOf returns the positions of a group that have a counterpart on the target.
func (p *pass) positionsOf(g *groupMemory, answer *commits) []*position {
	var positions []*position
	adopted := p.adoptions.wants(g.name)
	for _, t := range answer.topics {
		var of []*position
		for _, o := range t.Partitions {
			if o.ErrorCode != 0 || o.Offset < 0 {
				continue
			}
			position := &position{group: g.name, adopted: adopted, source: offsets.TopicPartition{Topic: t.Topic, Partition: o.Partition}, sourceOffset: o.Offset}
			if o.Metadata != nil {
				position.metadata = *o.Metadata
			}
			of = append(of, position)
		}
		positions = append(positions, p.route(g, t.Topic, of)...)
	}
	return positions
}

// route sets where positions in one topic of the source are committed: in the copy of the topic, or, for a topic that was copied from the
// target, in the original. All others have no counterpart there.
func (p *pass) route(g *groupMemory, topic string, positions []*position) []*position {
	remote, reason := p.deps.Topics.Target(topic)
	var reverse *reverseFlow
	if reason != "" {
		if reason == policy.ReasonInternal || !p.rules.Back(g.name) {
			return nil
		}
		if reverse, remote = p.homeOf(topic); reverse == nil {
			return nil
		}
	}
	number := p.memory.topicNumber(remote, p.now.target.ByName[remote].ID)
	for _, q := range positions {
		q.target = offsets.TopicPartition{Topic: remote, Partition: q.source.Partition}
		q.part, q.reverse = g.of(number, q.source.Partition), reverse
	}
	return positions
}

// publish translates positions, writes their checkpoints, and commits them on the target. They were read at began.
func (p *pass) publish(ctx context.Context, positions []*position, began time.Time) {
	p.readElsewhere(ctx, positions)
	var back []*position
	for _, q := range positions {
		if q.reverse == nil {
			p.translate(ctx, q)
		} else {
			p.translateBack(ctx, q)
			back = append(back, q)
		}
	}
	if err := p.clamp(ctx, positions); err != nil {
		p.fail(err)
	}
	if !p.deps.Host.Leads() { // a sync may take long, and another process may lead now
		p.fail(errNotLeading)
		unfinished(positions)
		return
	}
	if len(back) < len(positions) {
		p.checkpoints.write(ctx, positions, began)
	}
	if p.deps.Flow.GroupsSync {
		p.commit(ctx, positions)
	}
}

var errNotLeading = errors.New("another process has taken over")

func unfinished(positions []*position) {
	for _, q := range positions {
		q.unfinished = true
	}
}

// finish remembers the outcome for one group.
func (p *pass) finish(g *groupMemory, hash uint64, positions []*position) {
	g.settled = true
	for _, q := range positions {
		before := q.refusedBefore()
		if q.refused = 0; q.refusal != "" {
			q.refused = refusalNumber(q.refusal)
		}
		if q.refusal != "" && q.refusal != before {
			p.deps.Metrics.Refusals.WithLabelValues(string(q.refusal)).Inc()
		}
		g.settled = g.settled && q.settled()
	}
	if len(positions) == 0 || positions[0].adopted { // one that came while this pass was under way waits for the next
		p.adoptions.end(g.name, positions)
	}
	g.read, g.looked = hash, p.began
	g.remember(positions)
}

// lags returns how many records of the copies each group has yet to read on the target, from where milena put it. Groups that milena put nowhere are left out.
// No chunk is being synced.
func (p *pass) lags() map[string]int64 {
	var ends [][]int64 // by topic number and partition
	for _, topic := range p.memory.known() {
		ends = append(ends, p.bounds.byTopic[topic.name].end)
	}
	found := make(map[string]int64)
	for _, g := range p.memory.all() {
		for i := range g.parts {
			t := &g.parts[i]
			if end := at(ends[t.topic], t.partition); t.placed && t.refused == 0 && end >= 0 {
				found[g.name] += max(0, end-t.put)
			}
		}
	}
	return found
}

func (p *pass) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed++; len(p.failures) < maxFailures {
		p.failures = append(p.failures, err)
	}
}

// failure returns the errors of the chunks, as far as they are kept.
func (p *pass) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.failed - len(p.failures); n > 0 {
		return errors.Join(append(p.failures, fmt.Errorf("%d more errors", n))...)
	}
	return errors.Join(p.failures...)
}
