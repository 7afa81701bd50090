package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/verify"
)

const (
	// PassEvery is how old a pass over a partition must be before the next one begins at the start of its log. Until then, only what is new is read.
	passEvery = 24 * time.Hour
	// TurnPartitions is how many partitions are verified in one round, and turnLasts for how long each at most: then those are next that waited longest.
	turnPartitions = 64
	turnLasts      = time.Minute
	// TurnPause is how long a partition waits after its turn.
	turnPause = 30 * time.Second
	// VerifyPause is how long the loop waits between two rounds.
	verifyPause = 5 * time.Second
	// KeepEvery is how often what was verified is written to the control topic.
	keepEvery = 10 * time.Second
	// KeepTimeout limits such a write.
	keepTimeout = 3 * time.Second
	// BusyShare is the part of the byte budget that must be free. While it is not, the copy needs the memory and the bandwidth.
	busyShare = 8
	busyPause = 100 * time.Millisecond
)

// verifying verifies the copies of the partitions of this instance while they are copied, those first that were not verified for longest. It has
// connections of its own and reads by the journal, as milena verify does. What it found is in the control topic, for the next owner of the partition.
type verifying struct {
	flow *Flow

	log      *control.Log // nil: not open
	close    func()
	kept     time.Time // when it was last written
	unkept   map[offsets.TopicPartition]bool
	choosing map[offsets.TopicPartition]bool // the partitions of this round

	mu      sync.Mutex // a leaf
	copies  map[offsets.TopicPartition]*verifiedCopy
	problem string // why nothing can be verified or kept, empty if it can
}

// verifiedCopy is what is known of one partition. It is never changed but by the loop.
type verifiedCopy struct {
	control.Verified
	progress verify.Saved // decoded from Progress; zero if there is none
	tried    time.Time    // when its last turn ended
}

func newVerifying(f *Flow) verifying {
	return verifying{flow: f, unkept: make(map[offsets.TopicPartition]bool), copies: make(map[offsets.TopicPartition]*verifiedCopy)}
}

// verifyLoop verifies until ctx ends, if the flow wants that.
func (f *Flow) verifyLoop(ctx context.Context) {
	v := &f.verifying
	defer func() {
		if v.close != nil {
			v.close()
		}
	}()
	for client.Sleep(ctx, f.options.Pauses.Verify) == nil { // also between two rounds, as each reads the metadata of both clusters
		if f.live().Verify.Rate > 0 {
			v.round(ctx)
		}
	}
}

// round verifies some partitions.
func (v *verifying) round(ctx context.Context) {
	v.choosing = v.choose(time.Now())
	if len(v.choosing) == 0 {
		return
	}
	f, chosen := v.flow, v.choosing
	clusters := f.Clusters()
	clusters.Log = slog.New(slog.DiscardHandler) // what goes wrong is in the result
	run, err := verify.New(verify.Options{
		Clusters: clusters, Rate: max(1, int64(float64(f.live().Verify.Rate)*f.throttleShare())), Store: v, Wait: v.waitForBudget,
		Only: func(tp offsets.TopicPartition) bool { return chosen[tp] }, AtOnce: 1, Turn: turnLasts,
	})
	if err == nil {
		err = run.Run(ctx)
		v.takeAll(ctx, run.Saved(), run.Report())
		v.keep(context.WithoutCancel(ctx))
	}
	if err != nil && ctx.Err() == nil {
		v.setProblem("verify: " + err.Error())
		f.warn("the copies cannot be verified", "err", err)
	}
}

func (v *verifying) setProblem(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.problem = text
}

// waitForBudget blocks while the copy needs what it may hold.
func (v *verifying) waitForBudget(ctx context.Context) error {
	for b := v.flow.budget; b.free() < b.limit/busyShare; {
		if err := client.Sleep(ctx, busyPause); err != nil {
			return err
		}
	}
	return nil
}

// choose returns the partitions that are verified next. It forgets those that this instance has no longer.
func (v *verifying) choose(now time.Time) map[offsets.TopicPartition]bool {
	held := make(map[offsets.TopicPartition]bool)
	type candidate struct {
		tp   offsets.TopicPartition
		last time.Time
	}
	var list []candidate
	for _, p := range v.flow.partitions() {
		p.mu.Lock()
		journaled := p.journaled
		p.mu.Unlock()
		tp := p.source()
		held[tp] = true
		c := v.copyOf(tp, now)
		v.flow.metrics.differences.WithLabelValues(tp.Topic).Add(0) // so that the first one is an increase
		if now.Sub(c.tried) < v.flow.options.Pauses.Turn {
			continue
		}
		if at := c.progress.Position.Source; at < journaled || now.Sub(c.Pass) >= v.flow.options.Pauses.Pass {
			last := c.Checked
			if c.tried.After(last) { // else one that cannot be verified would be first for ever
				last = c.tried
			}
			list = append(list, candidate{tp, last})
		}
	}
	v.mu.Lock()
	for tp := range v.copies {
		if !held[tp] {
			delete(v.copies, tp)
		}
	}
	v.mu.Unlock()
	slices.SortStableFunc(list, func(a, b candidate) int { return a.last.Compare(b.last) })
	chosen := make(map[offsets.TopicPartition]bool)
	for _, c := range list[:min(turnPartitions, len(list))] {
		chosen[c.tp] = true
	}
	return chosen
}

// copyOf returns what is known of a partition. What it does not know yet is in the control topic.
func (v *verifying) copyOf(tp offsets.TopicPartition, now time.Time) *verifiedCopy {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c := v.copies[tp]; c != nil {
		return c
	}
	c := &verifiedCopy{}
	if own, ok := v.flow.controls.own(tp); ok {
		c.Verified = own
		if json.Unmarshal(own.Progress, &c.progress) != nil {
			c.progress = verify.Saved{} // another version wrote it: the pass begins anew
		}
	}
	if c.Pass.IsZero() {
		c.Pass = now.UTC()
	}
	v.copies[tp] = c
	return c
}

// own returns how far the flow has verified a partition, as its control topic says.
func (c *controls) own(tp offsets.TopicPartition) (control.Verified, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Own(tp)
}

// Load implements verify.Store: the partitions of the round go on where their passes are. A pass that is at its end and old enough begins anew.
func (v *verifying) Load(context.Context) (*verify.Document, error) {
	d := &verify.Document{Header: verify.HeaderOf(v.flow.config.Name, v.flow.sourceID(), v.flow.targetID())}
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for tp := range v.choosing {
		c := v.copies[tp]
		if c.Whole.After(c.Pass) && now.Sub(c.Pass) >= v.flow.options.Pauses.Pass {
			c.Last, c.Pass, c.progress = encodeLast(&c.progress.Found), now.UTC(), verify.Saved{}
		}
		if c.progress.Found.Verified != nil {
			d.Partitions = append(d.Partitions, c.progress)
		}
	}
	return d, nil
}

// Save implements verify.Store.
func (v *verifying) Save(ctx context.Context, d *verify.Document) error {
	for i := range d.Partitions {
		v.take(&d.Partitions[i])
	}
	if time.Since(v.kept) >= keepEvery {
		v.keep(ctx)
	}
	return nil
}

// Remove implements verify.Store. The progress stays, as the pass goes on.
func (v *verifying) Remove(context.Context) error { return nil }

// lastPass is what the last complete pass over a partition found.
type lastPass struct {
	Differences []verify.Difference `json:"differences"`
}

func encodeLast(found *verify.Partition) json.RawMessage {
	if len(found.Differences) == 0 {
		return nil
	}
	data, err := json.Marshal(lastPass{found.Differences})
	if err != nil {
		return nil // numbers and strings have no error
	}
	return data
}

// takeAll takes the result of a round. What ctx interrupted has no result of its own.
func (v *verifying) takeAll(ctx context.Context, list []verify.Saved, report *verify.Report) {
	for i := range list {
		v.take(&list[i])
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.problem = ""
	for tp := range v.choosing {
		v.copies[tp].tried = time.Now()
	}
	if ctx.Err() != nil {
		return
	}
	for i := range report.Partitions {
		p := &report.Partitions[i]
		tp := offsets.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		if c := v.copies[tp]; c != nil && c.Why != p.NotVerified {
			c.Why = p.NotVerified
			v.unkept[tp] = true
		}
	}
}

// take takes how far a partition is. Differences that are new are logged and counted.
func (v *verifying) take(at *verify.Saved) {
	tp := offsets.TopicPartition{Topic: at.Found.Topic, Partition: at.Found.Partition}
	progress, err := json.Marshal(at)
	if err != nil || !v.choosing[tp] {
		return // numbers and strings have no error
	}
	before, changed := v.replace(tp, at, progress)
	if !changed {
		return
	}
	n := at.Found.Differing - before.Differing
	if n <= 0 {
		return
	}
	v.flow.metrics.differences.WithLabelValues(tp.Topic).Add(float64(n))
	first := "as before" // one that goes on, or is behind those that are listed
	if fresh := at.Found.Differences[min(len(before.Differences), len(at.Found.Differences)):]; len(fresh) > 0 {
		first = fresh[0].String()
	}
	v.flow.log.Error("the copy differs from the source", "topic", tp.Topic, "partition", tp.Partition, "records", n, "first", first)
}

// replace replaces the progress of a partition. It returns what the same pass had found before, and reports whether anything is new.
func (v *verifying) replace(tp offsets.TopicPartition, at *verify.Saved, progress []byte) (found verify.Partition, changed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.copies[tp]
	before := &c.progress
	known := before.Found.Verified != nil
	again := known && before.Generation == at.Generation
	isWhole := at.IsComplete() && !c.Whole.After(c.Pass)
	if again && before.Position == at.Position && before.Found.Differing == at.Found.Differing && !isWhole {
		return found, false
	}
	if again && at.Position.Source >= before.Position.Source {
		found = before.Found
	}
	if known && !again { // the copy was begun anew
		c.Upto, c.Last = 0, nil
	}
	now := time.Now().UTC()
	c.progress, c.Progress, c.Checked, c.Upto = *at, progress, now, max(c.Upto, at.Position.Source)
	if at.IsComplete() {
		c.Whole, c.Last = now, nil
	}
	c.Differing, c.Differences = c.differences()
	v.unkept[tp] = true
	return found, true
}

// differences returns what the present pass found, and the last one behind where the present one is.
func (c *verifiedCopy) differences() (records int64, list []string) {
	records = c.progress.Found.Differing
	found := slices.Clone(c.progress.Found.Differences)
	var last lastPass
	if json.Unmarshal(c.Last, &last) == nil {
		for _, d := range last.Differences {
			if d.SourceOffset == nil || *d.SourceOffset >= c.progress.Position.Source {
				records += d.Records
				found = append(found, d)
			}
		}
	}
	for _, d := range found[:min(maxListed, len(found))] {
		list = append(list, d.String())
	}
	return records, list
}

// maxListed is how many differences of a partition the status lists.
const maxListed = 10

// keep writes what was verified to the control topic.
func (v *verifying) keep(ctx context.Context) {
	v.kept = time.Now()
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	var entries []control.Entry
	v.mu.Lock()
	for tp := range v.unkept {
		if c := v.copies[tp]; c != nil {
			entries = append(entries, control.OwnEntry(tp, &c.Verified))
		}
	}
	v.mu.Unlock()
	err := v.write(ctx, entries)
	switch {
	case err == nil:
		clear(v.unkept)
	case errors.Is(err, control.ErrNoTopic): // another loop creates it
	default:
		v.setProblem("verify: what was verified is not kept, so a restart begins anew: " + err.Error())
		v.flow.warn("what was verified is not kept", "err", err)
	}
}

func (v *verifying) write(ctx context.Context, entries []control.Entry) error {
	if v.log == nil {
		cl, err := v.flow.options.OpenTarget()
		if err != nil {
			return err
		}
		v.log, v.close = control.NewLog(cl, v.flow.config.Target, v.flow.config.Name), cl.Close
	}
	for _, some := range control.Chunks(entries) {
		if err := v.log.Write(ctx, some...); err != nil {
			return v.flow.options.TargetError(err)
		}
	}
	return nil
}

// VerifyStatus is the verification of the flow's copies in the background, as far as this instance does it.
type VerifyStatus struct {
	// BytesPerSecond is how much this instance reads from each cluster at most.
	BytesPerSecond int64 `json:"bytes_per_second"`
	// Problem is why nothing can be verified or kept, empty if it can.
	Problem string `json:"problem,omitempty"`
	// Differing counts the partitions whose copies differ from the source.
	Differing int `json:"differing_partitions"`
}

// status returns nil if the flow does not verify.
func (v *verifying) status() *VerifyStatus {
	f := v.flow
	if f.live().Verify.Rate <= 0 {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s := &VerifyStatus{BytesPerSecond: int64(float64(f.live().Verify.Rate) * f.throttleShare()), Problem: v.problem}
	for _, c := range v.copies {
		if c.Differing > 0 {
			s.Differing++
		}
	}
	return s
}

// of describes one partition, nil if nothing of it was verified.
func (v *verifying) of(tp offsets.TopicPartition) *control.VerifiedStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c := v.copies[tp]; c != nil {
		return c.Status()
	}
	return nil
}
