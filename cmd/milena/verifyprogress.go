package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/verify"
)

// topicStore keeps the progress of a verification in the control topic of its flow. A verification that may not do that runs on without.
type topicStore struct {
	clusters client.Clusters
	slot     string // of what is verified
	who      string
	warn     func(err error) // called when the progress cannot be kept

	log     *control.Log
	state   *control.State
	close   func()
	run     *control.Run
	saved   map[offsets.TopicPartition]mark // what the topic has
	failing bool                            // the last warning still holds
}

// mark tells one progress of a partition from another.
type mark struct {
	position   offsets.Pair
	generation uint32
	differing  int64
	notes      int
}

func markOf(s *verify.Saved) mark {
	return mark{s.Position, s.Generation, s.Found.Differing, len(s.Found.Notes)}
}

// storeTimeout limits one access to the control topic.
const storeTimeout = 20 * time.Second

// progressSlot identifies what a command verifies: the same command finds what it kept before.
func progressSlot(q verify.Question, last time.Duration) string {
	if last > 0 {
		q.From = time.Time{}
	}
	asked, err := json.Marshal(struct {
		verify.Question
		Last time.Duration
	}{q, last})
	if err != nil {
		return "" // strings, times and finite numbers have no error
	}
	sum := sha256.Sum256(asked)
	return hex.EncodeToString(sum[:8])
}

// where names the place of the progress.
func (s *topicStore) where() string {
	return fmt.Sprintf("topic %s on cluster %s", control.TopicName(s.clusters.Flow.Name), s.clusters.Flow.Target)
}

// note warns of an error, once until something is kept.
func (s *topicStore) note(err error) {
	if !s.failing {
		s.failing = true
		s.warn(fmt.Errorf("the progress is not kept: %w", err))
	}
}

// open reads the topic. A topic that does not exist has no progress; one that cannot be read is tried again for a while, as its leader may move. The error
// is that of ctx.
func (s *topicStore) open(ctx context.Context) error {
	if s.state != nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		var err error
		if s.log, s.state, s.close, err = control.Open(limited, s.clusters); err == nil {
			return nil
		}
		if !control.IsDenied(err) && client.Sleep(limited, client.Backoff(attempt)) == nil {
			continue
		}
		s.note(err)
		s.state, s.close = &control.State{}, func() {}
		return ctx.Err()
	}
}

// Load implements verify.Store.
func (s *topicStore) Load(ctx context.Context) (*verify.Document, error) {
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	s.saved = make(map[offsets.TopicPartition]mark)
	run, parts, ok := s.state.RunOf(s.slot, time.Now())
	if !ok {
		return nil, nil
	}
	var d verify.Document
	if err := json.Unmarshal(run.Document, &d.Header); err != nil {
		s.note(fmt.Errorf("what %s has cannot be read: %w; begin anew with --restart", s.where(), err))
		return nil, nil
	}
	s.run = &run
	for _, document := range parts {
		var p verify.Saved
		if json.Unmarshal(document, &p) == nil { // else the partition is verified from its beginning
			d.Partitions = append(d.Partitions, p)
			s.saved[partitionOf(&p)] = markOf(&p)
		}
	}
	return &d, nil
}

func partitionOf(p *verify.Saved) offsets.TopicPartition {
	return offsets.TopicPartition{Topic: p.Found.Topic, Partition: p.Found.Partition}
}

// Save implements verify.Store. It writes what has changed. That it cannot is no error.
func (s *topicStore) Save(ctx context.Context, d *verify.Document) error {
	if s.log == nil {
		return nil
	}
	var entries []control.Entry
	run := s.run
	if run == nil {
		header, err := json.Marshal(d.Header)
		if err != nil {
			return err
		}
		begun := control.NewRun(s.slot, s.who, header)
		run = &begun
		entries = append(entries, run.Entry())
	}
	for i := range d.Partitions {
		p := &d.Partitions[i]
		if before, ok := s.saved[partitionOf(p)]; ok && before == markOf(p) || !ok && len(s.saved) >= control.MaxProgress {
			continue
		}
		document, err := json.Marshal(p)
		if err != nil {
			return err
		}
		entries = append(entries, run.PartEntry(partitionOf(p), document))
		s.saved[partitionOf(p)] = markOf(p)
	}
	if err := s.write(ctx, entries); err != nil {
		clear(s.saved) // it is not known what is there
		s.note(err)
		return nil // the next one tries again
	}
	s.run, s.failing = run, false
	return nil
}

// write writes entries, and creates the topic if it does not exist.
func (s *topicStore) write(ctx context.Context, entries []control.Entry) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for _, some := range control.Chunks(entries) {
		if err := s.log.WriteCreating(ctx, s.clusters, some); err != nil {
			return s.clusters.TargetError(err)
		}
	}
	return nil
}

// Remove implements verify.Store. What cannot be removed is found again by the next run, or goes after a month.
func (s *topicStore) Remove(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	if s.log == nil {
		return nil
	}
	// The run may have written since it was opened, and another one beside it.
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := s.log.ReadAll(reading, func(r control.Record) { _ = s.state.Apply(r) }) // others say what is nonsense
	if err == nil {
		err = s.write(ctx, s.state.ForgetRun(s.slot))
	}
	if err != nil && !errors.Is(err, control.ErrNoTopic) {
		s.warn(fmt.Errorf("the progress in %s cannot be removed: %w", s.where(), err))
	}
	for _, e := range s.state.ForgetRun(s.slot) {
		_ = s.state.Apply(control.Record{Key: []byte(e.Key)}) // a tombstone has no error
	}
	s.run, s.saved = nil, make(map[offsets.TopicPartition]mark)
	return nil
}
