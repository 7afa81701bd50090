package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// Store keeps the progress of one verification. Its methods block.
type Store interface {
	// Load returns what was saved, nil if nothing is.
	Load(ctx context.Context) (*Document, error)
	// Save replaces what was saved. Each partition of the document may be saved or not by itself; it stays valid.
	Save(ctx context.Context, d *Document) error
	// Remove removes what was saved.
	Remove(ctx context.Context) error
}

// savedVersion is the version of the format of progress.
const savedVersion = 1

// Document is the progress of a verification: what all partitions share, and the partitions.
type Document struct {
	Header
	Partitions []Saved `json:"partitions"`
}

// Header is what the progress of all partitions of a verification shares.
type Header struct {
	Version  int       `json:"version"`
	Flow     string    `json:"flow"`
	Began    time.Time `json:"began,omitzero"`
	Source   string    `json:"source_cluster_id"`
	Target   string    `json:"target_cluster_id"`
	Question Question  `json:"question"`
	Seed     uint64    `json:"seed"`
}

// HeaderOf returns the header of the progress of all that a flow copies, between clusters of these ids.
func HeaderOf(flow, source, target string) Header {
	return Header{Version: savedVersion, Flow: flow, Source: source, Target: target, Question: Question{Sample: 1}}
}

// Resumption is what a verification found of an earlier run, and goes on from.
type Resumption struct {
	Began          time.Time // the earlier run
	Offsets, Total int64     // source offsets that are judged already, and that are to be
	Partitions     int       // that go on, or are complete
}

// Saved is the progress of one partition.
type Saved struct {
	Found      Partition    `json:"found"`
	Position   offsets.Pair `json:"position"`   // everything below is judged
	Generation uint32       `json:"generation"` // of the map
	SourceID   [16]byte     `json:"source_id"`
	TargetID   [16]byte     `json:"target_id"`

	complete bool // up to the end of this run
}

// OtherQuestionError says that the progress that was saved is that of another verification.
type OtherQuestionError struct{ Field string }

func (e *OtherQuestionError) Error() string {
	return fmt.Sprintf("the saved progress is that of a verification with another %s: finish that one, or keep this one elsewhere", e.Field)
}

// load reads the progress of an earlier run, nil if there is none. The times and the sample are those that it began with.
func (v *Verification) load(ctx context.Context) (*Document, error) {
	if v.options.Store == nil {
		return nil, nil
	}
	if v.options.Restart {
		if err := v.options.Store.Remove(ctx); err != nil {
			return nil, err
		}
	}
	s, err := v.options.Store.Load(ctx)
	if err != nil || s == nil {
		return nil, err
	}
	q := v.options.Question
	switch {
	case s.Version != savedVersion:
		return nil, fmt.Errorf("the saved progress has format %d, and this milena reads %d: continue with the milena that wrote it, or begin anew with --restart", s.Version, savedVersion)
	case s.Flow != v.options.Flow.Name:
		return nil, &OtherQuestionError{"flow"}
	case !slices.Equal(s.Question.Topics, q.Topics):
		return nil, &OtherQuestionError{"list of topics"}
	case s.Question.Sample != q.Sample:
		return nil, &OtherQuestionError{"sample"}
	case !s.Question.From.Equal(q.From) && !v.options.Relative || s.Question.From.IsZero() != q.From.IsZero() || !s.Question.To.Equal(q.To):
		return nil, &OtherQuestionError{"range of time"}
	}
	v.options.Question, v.sample.seed = s.Question, s.Seed
	if !s.Began.IsZero() {
		v.first = s.Began
	}
	return s, nil
}

// resume lets the partitions go on where an earlier run was, if they are still the same ones.
func (v *Verification) resume(s *Document) {
	if s == nil || s.Source != v.sourceID || s.Target != v.targetID {
		return
	}
	byPartition := make(map[offsets.TopicPartition]*Saved, len(s.Partitions))
	for i := range s.Partitions {
		of := &s.Partitions[i]
		byPartition[offsets.TopicPartition{Topic: of.Found.Topic, Partition: of.Found.Partition}] = of
	}
	resumed := Resumption{Began: s.Began}
	for _, p := range v.partitions {
		of := byPartition[p.source.TopicPartition]
		if of == nil || !p.pending || of.Generation != p.generation || of.SourceID != p.source.id || of.TargetID != p.target.id || of.Found.Verified == nil {
			continue
		}
		if of.Position.Source < p.from.Source || of.Position.Target < p.from.Target || of.Position.Source > p.to.Source || of.Position.Target > p.to.Target {
			continue
		}
		p.found, p.position = of.Found, of.Position // with the notes about where the first run began, as this one goes on from it
		p.found.Notes, p.found.NotVerified, p.found.Result = slices.Clone(of.Found.Notes), "", Equal
		p.from = offsets.Pair{Source: of.Found.Verified.SourceFrom, Target: of.Found.Verified.TargetFrom}
		p.cleaned.source.explained, p.cleaned.target.explained = of.Found.CleanedOnSource, of.Found.CleanedOnTarget
		p.publish()
		resumed.Partitions++
	}
	if v.options.Resumed != nil && resumed.Partitions > 0 {
		now := v.Progress()
		resumed.Offsets, resumed.Total = now.Offsets, now.Total
		v.options.Resumed(resumed)
	}
}

// keepSaving saves the progress now and then until ctx ends.
func (v *Verification) keepSaving(ctx context.Context) error {
	for pause := saveInterval; client.Sleep(ctx, pause) == nil; {
		began := time.Now()
		if err := v.save(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		pause = max(saveInterval, saveShare*time.Since(began))
	}
	return nil
}

// save saves the progress.
func (v *Verification) save(ctx context.Context) error {
	if v.options.Store == nil || v.partitions == nil {
		return nil
	}
	d := &Document{Header: Header{
		Version: savedVersion, Flow: v.options.Flow.Name, Began: v.first.UTC().Truncate(time.Millisecond), Source: v.sourceID, Target: v.targetID, Question: v.options.Question, Seed: v.sample.seed,
	}, Partitions: v.Saved()}
	return v.options.Store.Save(ctx, d)
}

// Saved returns how far each partition is of which something is verified.
func (v *Verification) Saved() (list []Saved) {
	v.mu.Lock()
	partitions := v.partitions
	v.mu.Unlock()
	for _, p := range partitions {
		p.mu.Lock()
		if p.resumable.Found.Verified != nil {
			list = append(list, p.resumable)
		}
		p.mu.Unlock()
	}
	return list
}

// IsComplete reports whether the partition was verified up to the end that the journal said when this process began with it.
func (s *Saved) IsComplete() bool { return s.complete }

// forget removes the progress of a run that is complete.
func (v *Verification) forget(ctx context.Context) error {
	if v.options.Store == nil {
		return nil
	}
	return v.options.Store.Remove(ctx)
}
