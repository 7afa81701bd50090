package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// groupsPerRequest bounds one OffsetFetch, which names many groups since KIP-709.
const groupsPerRequest = 100

// groups follows the consumer groups of the source: where each of them stands is translated, written to the target as a checkpoint, and
// committed there, so that its consumers go on at the same record. One pass after the other; only the report is shared.
type groups struct {
	flow        *Flow
	rules       *policy.Groups
	checkpoints *notebook
	syncs       *notebook // nil when they are off
	journal     *offsets.Journal
	back        *wayBack

	written map[groupPartition]offsets.Checkpoint // the checkpoints as they stand on the target, once written by this process
	synced  map[offsets.TopicPartition]int64      // source offset of the last offset-sync
	books   [2][16]byte                           // ids of the topics that these two are about
	refused map[groupPartition]policy.Refusal     // in the pass before

	mu     sync.Mutex
	report GroupsStatus
}

// groupPartition names what a group committed for one partition of the target.
type groupPartition struct {
	group string
	offsets.TopicPartition
}

// groupPosition is what a group committed for one partition of the source, on its way to the target.
type groupPosition struct {
	group    string
	source   offsets.TopicPartition
	from     int64 // the source offset to go on at
	metadata string

	target  offsets.TopicPartition
	to      int64 // the same place on the target
	refusal policy.Refusal
	detail  string // for people, with a refusal
}

func (p *groupPosition) key() groupPartition { return groupPartition{p.group, p.target} }

func (p *groupPosition) refuse(why policy.Refusal, detail string) { p.refusal, p.detail = why, detail }

func newGroups(f *Flow) (*groups, error) {
	rules, err := policy.NewGroups(f.config)
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", f.name, err)
	}
	names := f.options.InternalTopics()
	g := &groups{
		flow: f, rules: rules,
		checkpoints: f.targetNotebook(names.Checkpoints(f.sourceAlias)),
		journal:     offsets.NewJournal(f.target, f.journalTopic, offsets.JournalOptions{Memory: journalMemory, Log: f.log}),
		back:        &wayBack{flow: f},
		written:     make(map[groupPartition]offsets.Checkpoint),
		synced:      make(map[offsets.TopicPartition]int64),
		refused:     make(map[groupPartition]policy.Refusal),
	}
	switch f.config.OffsetSyncs {
	case config.OffsetSyncsTarget:
		g.syncs = f.targetNotebook(names.OffsetSyncs(f.sourceAlias))
	case config.OffsetSyncsSource:
		g.syncs = f.sourceNotebook(names.OffsetSyncs(f.targetAlias))
	}
	return g, nil
}

// journalMemory bounds what is kept of the maps' older parts, which only groups far behind ask for.
const journalMemory = 8 << 20

// firstLook is how long the first look waits at most: MirrorMaker 2's interval is a minute, and a person who has just started the flow looks
// on. Earlier, many positions would lie behind the end of a copy that has just begun, and be held back until the next look.
const firstLook = 5 * time.Second

func (g *groups) loop(ctx context.Context) {
	soon := min(firstLook, g.flow.config.GroupsInterval)
	for wait := soon; ; {
		if client.Sleep(ctx, wait) != nil {
			return
		}
		if wait = soon; !g.flow.mayKeepBooks() {
			continue
		}
		wait = g.flow.config.GroupsInterval
		err := g.pass(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			g.flow.metrics.passes.WithLabelValues("groups", "failed").Inc()
			g.flow.warn("look at groups failed; it is tried again", "err", err)
		default:
			g.flow.metrics.passes.WithLabelValues("groups", "done").Inc()
		}
	}
}

// pass looks at all groups once. What one group or one broker refuses does not keep the others from being done.
func (g *groups) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(30*time.Second, g.flow.config.GroupsInterval))
	defer cancel()
	began := time.Now()
	g.lookAtBooks()
	positions, count, err := g.read(ctx)
	// After the positions: a topic that is made again from here on has lost them, or does not have the id that was seen.
	now, viewErr := g.look(ctx)
	if viewErr != nil {
		err = errors.Join(err, viewErr)
		g.note(nil, count, began, err)
		return err
	}
	forward, back := g.sort(positions)
	for _, p := range forward {
		g.forward(ctx, now, p)
	}
	err = errors.Join(err, g.carry(ctx, forward, began))
	g.writeSyncs(ctx)
	// The way back reads journals of others on the source: it comes last, and has a time of its own.
	backCtx, cancelBack := context.WithTimeout(ctx, wayBackPatience)
	defer cancelBack()
	back = g.back.translateAll(backCtx, now, back)
	err = errors.Join(err, g.carry(ctx, back, began))
	g.note(slices.Concat(forward, back), count, began, err)
	return err
}

// wayBackPatience is what the way back may take of a pass.
const wayBackPatience = 10 * time.Second

// carry writes positions that are translated to the target. They were read after began.
func (g *groups) carry(ctx context.Context, positions []*groupPosition, began time.Time) error {
	if len(positions) == 0 || !g.flow.mayKeepBooks() { // a pass may take long, and its owner may have changed
		return nil
	}
	err := g.clamp(ctx, positions)
	// A checkpoint stands before its commit: the flow in the other direction knows by it that nobody has consumed there. Where milena has no
	// right to write checkpoints at all, groups are moved without them.
	if noted := g.writeCheckpoints(ctx, positions, began); noted != nil && !errors.Is(noted, kerr.TopicAuthorizationFailed) && !errors.Is(noted, kerr.ClusterAuthorizationFailed) {
		return err // the notebook has said why
	}
	if g.flow.config.GroupsSync && g.flow.mayKeepBooks() {
		err = errors.Join(err, g.commit(ctx, positions))
	}
	return err
}

// views are both clusters at one moment of a pass.
type views struct{ source, target topics.View }

// look asks both clusters for their topics: what the flow saw last may be older than a topic.
func (g *groups) look(ctx context.Context) (views, error) {
	source, err := topics.Read(ctx, g.flow.source)
	if err != nil {
		return views{}, fmt.Errorf("cluster %s: %w", g.flow.sourceAlias, err)
	}
	target, err := topics.Read(ctx, g.flow.target)
	if err != nil {
		return views{}, fmt.Errorf("cluster %s: %w", g.flow.targetAlias, err)
	}
	return views{source, target}, nil
}

// sort tells the positions in topics that are copied from those in topics that may have come from the target. Others have no place there.
func (g *groups) sort(positions []*groupPosition) (forward, back []*groupPosition) {
	for _, p := range positions {
		copied, reason := g.flow.topics.Rules.Target(p.source.Topic)
		switch {
		case reason == "":
			p.target = offsets.TopicPartition{Topic: copied, Partition: p.source.Partition}
			forward = append(forward, p)
		case reason != policy.ReasonInternal:
			back = append(back, p)
		}
	}
	return forward, back
}

// lookAtBooks forgets what was written to topics that were deleted and made again: all of it is written anew.
func (g *groups) lookAtBooks() {
	books := [2][16]byte{g.checkpoints.id()}
	if g.syncs != nil {
		books[1] = g.syncs.id()
	}
	if books[0] != g.books[0] {
		clear(g.written)
	}
	if books[1] != g.books[1] {
		clear(g.synced)
	}
	g.books = books
}

// read asks the source for the positions of all selected groups.
func (g *groups) read(ctx context.Context) (positions []*groupPosition, count int, err error) {
	admin := kadm.NewClient(g.flow.source)
	listed, err := admin.ListGroups(ctx) // with an error from one broker the groups of the others are there all the same
	if err != nil {
		err = fmt.Errorf("list groups of cluster %s: %w", g.flow.sourceAlias, err)
	}
	var names []string
	for _, group := range listed.Sorted() {
		if policy.Translatable(group.ProtocolType) && g.rules.Selected(group.Group) {
			names = append(names, group.Group)
		}
	}
	for part := range slices.Chunk(names, groupsPerRequest) {
		answers := admin.FetchManyOffsets(ctx, part...)
		for _, name := range slices.Sorted(maps.Keys(answers)) {
			fetched := answers[name]
			if fetched.Err != nil {
				err = errors.Join(err, fmt.Errorf("read the offsets of group %s on cluster %s: %w", fetched.Group, g.flow.sourceAlias, fetched.Err))
				continue
			}
			for _, o := range fetched.Fetched.Sorted() {
				if o.Err == nil && o.At >= 0 {
					positions = append(positions, &groupPosition{group: fetched.Group, source: offsets.TopicPartition{Topic: o.Topic, Partition: o.Partition}, from: o.At, metadata: o.Metadata})
				}
			}
		}
	}
	return positions, len(names), err
}

// forward finds the place on the target of a position in a topic that is copied.
func (g *groups) forward(ctx context.Context, now views, p *groupPosition) {
	g.flow.topology.mu.Lock()
	part := g.flow.topology.partitions[p.source]
	g.flow.topology.mu.Unlock()
	if part == nil {
		p.refuse(policy.RefusedNotCopied, fmt.Sprintf("%s is not copied yet", p.source))
		return
	}
	if now.source.ByName[p.source.Topic].ID != part.topic.sourceID || now.target.ByName[p.target.Topic].ID != part.topic.targetID {
		p.refuse(policy.RefusedRecreated, fmt.Sprintf("%s is not the topic that the map of %s is about", p.target, p.source))
		return
	}
	var err error
	p.to, err = part.forward(p.from)
	var early *offsets.BeforeStartError
	if errors.As(err, &early) && early.Forgotten {
		var translation offsets.Translation
		translation, err = g.journal.Forward(ctx, p.source.Topic, p.source.Partition, p.from)
		p.to = translation.Target
	}
	if errors.As(err, &early) && g.flow.migrates() {
		if to, ok := g.flow.mm2.forward(ctx, p.source, p.from); ok {
			p.to, err = min(to, part.mapStart()), nil
		}
	}
	p.settle(err)
}

// settle obeys the outcome of a translation.
func (p *groupPosition) settle(err error) {
	var early *offsets.BeforeStartError
	switch {
	case err == nil:
	case errors.Is(err, errNotYet):
		p.refuse(policy.RefusedRecovering, fmt.Sprintf("%s is being recovered, or was not begun", p.source))
	case errors.Is(err, errRewritten):
		p.refuse(policy.RefusedRecreated, fmt.Sprintf("%s: %v", p.source, err))
	case errors.As(err, &early):
		p.refuse(policy.RefusedBeforeStart, fmt.Sprintf("%s: %v", p.source, err))
	default:
		p.refuse(policy.RefusedFailed, fmt.Sprintf("%s: %v", p.source, err))
	}
}

// isRewritten says that a partition is halted by an anomaly after which offsets do not mean what they meant when the map was made. Its lock
// is held.
func (p *partition) isRewritten() bool {
	if p.state != halted || p.anomaly == nil {
		return false
	}
	kind := p.anomaly.kind
	return kind == policy.Recreated || kind == policy.TargetRecreated || kind == policy.Truncated
}

// errRewritten says that a partition is halted because one side is not what it was.
var errRewritten = errors.New("the partition is halted, as one of its logs is not the one that was copied")

// forward translates a position with what is in memory. One behind the end of the copy gives the end: never past what is copied.
func (p *partition) forward(source int64) (target int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsets == nil || p.stage != mapDurable {
		return 0, errNotYet
	}
	if p.isRewritten() {
		return 0, errRewritten
	}
	target, _, err = p.offsets.Forward(source)
	var late *offsets.NotCopiedError
	var early *offsets.BeforeStartError
	switch {
	case errors.As(err, &late):
		_, end := p.offsets.End()
		return end, nil
	case errors.As(err, &early) && !early.Forgotten && p.record.Start.Target == 0:
		return 0, nil // nothing can stand before the first record that was copied
	}
	return target, err
}

// clamp moves positions whose record the target has deleted to the oldest that is left: committed as they are, they would be out of range
// and send the consumer wherever its auto.offset.reset says.
func (g *groups) clamp(ctx context.Context, positions []*groupPosition) error {
	topics := make(map[string]bool)
	for _, p := range positions {
		if p.refusal == "" {
			topics[p.target.Topic] = true
		}
	}
	if len(topics) == 0 {
		return nil
	}
	starts, err := kadm.NewClient(g.flow.target).ListStartOffsets(ctx, slices.Sorted(maps.Keys(topics))...)
	for _, p := range positions {
		if p.refusal != "" {
			continue
		}
		start, ok := starts.Lookup(p.target.Topic, p.target.Partition)
		switch {
		case !ok:
			p.refuse(policy.RefusedFailed, fmt.Sprintf("the start of %s on the target is not known", p.target))
		case start.Err != nil:
			p.refuse(policy.RefusedFailed, fmt.Sprintf("start of %s on the target: %v", p.target, start.Err))
		case start.Offset > p.to:
			p.to = start.Offset
		}
	}
	if err != nil {
		return fmt.Errorf("list start offsets of cluster %s: %w", g.flow.targetAlias, err)
	}
	return nil
}

// writeCheckpoints writes those that changed.
func (g *groups) writeCheckpoints(ctx context.Context, positions []*groupPosition, began time.Time) error {
	var notes []note
	for _, p := range positions {
		checkpoint := offsets.Checkpoint{
			Group: p.group, Topic: p.target.Topic, Partition: p.target.Partition, Source: p.from, Target: p.to, Metadata: p.metadata,
		}
		if p.refusal == "" && g.written[p.key()] != checkpoint {
			notes = append(notes, checkpoint)
		}
	}
	if len(notes) == 0 {
		return nil
	}
	if err := g.checkpoints.write(ctx, time.Now(), notes); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	for _, n := range notes {
		g.flow.metrics.checkpoints.Observe(took)
		checkpoint := n.(offsets.Checkpoint)
		g.written[groupPartition{checkpoint.Group, offsets.TopicPartition{Topic: checkpoint.Topic, Partition: checkpoint.Partition}}] = checkpoint
	}
	return nil
}

// writeSyncs writes the newest pair of offsets of each partition whose copy moved: what a MirrorMaker 2 that takes over again, or a tool
// that reads its topics, finds. Java's own clients do not read them.
func (g *groups) writeSyncs(ctx context.Context) {
	if g.syncs == nil || !g.flow.mayKeepBooks() {
		return
	}
	f := g.flow
	var notes []note
	for _, p := range f.partitions() {
		sync, ok := p.lastSync()
		if before, known := g.synced[offsets.TopicPartition{Topic: sync.Topic, Partition: sync.Partition}]; ok && (!known || before != sync.Source) {
			notes = append(notes, sync)
		}
	}
	if len(notes) == 0 || g.syncs.write(ctx, time.Now(), notes) != nil {
		return // the notebook says what is wrong
	}
	for _, n := range notes {
		sync := n.(offsets.OffsetSync)
		g.synced[offsets.TopicPartition{Topic: sync.Topic, Partition: sync.Partition}] = sync.Source
	}
}

// lastSync is the pair of offsets of the last record that was copied, if the end of the copy is one.
func (p *partition) lastSync() (offsets.OffsetSync, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsets == nil {
		return offsets.OffsetSync{}, false
	}
	_, end := p.offsets.End()
	source, exact, err := p.offsets.Reverse(end - 1)
	return offsets.OffsetSync{Topic: p.topic.source, Partition: p.number, Source: source, Target: end - 1}, err == nil && exact
}

// note keeps what a pass found for the status, and counts refusals when they begin.
func (g *groups) note(positions []*groupPosition, count int, began time.Time, err error) {
	type line struct {
		group string
		why   policy.Refusal
	}
	refused := make(map[groupPartition]policy.Refusal)
	lines := make(map[line]*GroupRefusal)
	for _, p := range positions {
		if p.refusal == "" {
			continue
		}
		refused[p.key()] = p.refusal
		if g.refused[p.key()] != p.refusal {
			g.flow.metrics.groupRefusals.WithLabelValues(string(p.refusal)).Inc()
		}
		l := line{p.group, p.refusal}
		if lines[l] == nil {
			lines[l] = &GroupRefusal{Group: p.group, Reason: string(p.refusal), Text: "group " + p.group + " " + p.refusal.Explain(), Detail: p.detail}
		}
		lines[l].Partitions++
	}
	g.refused = refused
	report := GroupsStatus{Groups: count, Positions: len(positions), Refused: len(refused), LastPass: began, Took: time.Since(began).Seconds()}
	for _, l := range lines {
		report.Refusals = append(report.Refusals, *l)
	}
	slices.SortFunc(report.Refusals, func(a, b GroupRefusal) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Reason, b.Reason))
	})
	if err != nil {
		report.Problems = append(report.Problems, err.Error())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.report = report
}

// status is what the last pass found, and what is wrong with the bookkeeping.
func (g *groups) status() *GroupsStatus {
	g.mu.Lock()
	report := g.report
	g.mu.Unlock()
	report.Problems = slices.Clone(report.Problems)
	for _, n := range []*notebook{g.checkpoints, g.syncs, g.flow.heartbeats.source, g.flow.heartbeats.target} {
		if n == nil {
			continue
		}
		if text := n.problem(); text != "" {
			report.Problems = append(report.Problems, text)
		}
	}
	return &report
}
