package faults

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// judge is the rule by which a topic and its copy are compared.
type judge int

const (
	// equal: the copy has exactly the committed records of the source, in order.
	equal judge = iota
	// complete: the copy has every record that the writer wrote, once and in order, although the source or the target has deleted the first ones.
	complete
	// compacted: both sides were compacted, at different times. The copy is in order, has no record twice, and lacks no record of the source
	// except those that it has a later record of the same key for.
	compacted
	// lives: the topic was recreated. Each life's records are in the copy in order, those of the last one are complete.
	lives
)

// judgeAll compares all topics with their copies and returns the number of records. The writers have stopped and everything is copied.
func (w *world) judgeAll(ctx context.Context) (int64, error) {
	byVerifier := verify.Options{Topics: []string{"transactional"}, Name: func(topic string) string { return "source." + topic }}
	var wrong []string
	var records int64
	for _, t := range w.topics {
		if t.judge == equal {
			byVerifier.Topics = append(byVerifier.Topics, t.name)
			continue
		}
		for partition := range t.partitions {
			n, err := w.judge(ctx, t, int32(partition))
			if err != nil {
				wrong = append(wrong, fmt.Sprintf("%s[%d]: %v", t.name, partition, err))
			}
			records += n
		}
	}
	report, err := verify.Run(ctx, w.source.client, w.target.client, byVerifier)
	if err != nil {
		return 0, err
	}
	if wrong = append(wrong, report.Differences...); len(wrong) > 0 {
		return 0, fmt.Errorf("%d partitions differ:\n%s", len(wrong), strings.Join(wrong, "\n"))
	}
	return records + report.Records, nil
}

func (w *world) judge(ctx context.Context, t *topic, partition int32) (int64, error) {
	copied, err := read(ctx, w.target.client, t.remote(), partition)
	if err != nil {
		return 0, err
	}
	source, err := read(ctx, w.source.client, t.name, partition)
	if err != nil {
		return 0, err
	}
	switch t.judge {
	case complete:
		err = isComplete(copied, source, t.deleted[partition])
	case compacted:
		err = isCompactedCopy(copied, source)
	case lives:
		err = isLives(copied, source, t.life)
	case equal:
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, w.explain(ctx, t, partition, copied, source, err))
	}
	return int64(len(copied)), err
}

// read returns all committed records of a partition.
func read(ctx context.Context, client *kgo.Client, topic string, partition int32) ([]*kgo.Record, error) {
	var records []*kgo.Record
	err := verify.Sequence(ctx, client, topic, partition, func(r *kgo.Record) error {
		records = append(records, r)
		return nil
	})
	return records, err
}

// isComplete returns an error unless the copy's sequence numbers begin at first and go on one by one up to the last one of the source.
func isComplete(copied, source []*kgo.Record, first int64) error {
	next := first
	for _, r := range copied {
		seq, err := load.Sequence(r)
		if err != nil {
			return err
		}
		if seq != next {
			return &misplacedError{target: r.Offset, seq: seq, want: next}
		}
		next++
	}
	if len(source) == 0 {
		return nil
	}
	last, err := load.Sequence(source[len(source)-1])
	if err == nil && last != next-1 {
		err = fmt.Errorf("the copy ends with record %d, the source with record %d", next-1, last)
	}
	return err
}

func lostOrTwice(seq, next int64) string {
	if seq > next {
		return fmt.Sprintf("%d records are lost", seq-next)
	}
	return "a record is there twice"
}

// identity tells a record of a compacted topic from all others of its partition.
func identity(r *kgo.Record) string {
	return fmt.Sprintf("%q %.60q %q", r.Key, r.Value, r.Headers)
}

// isCompactedCopy compares the copy of a compacted partition with its source.
func isCompactedCopy(copied, source []*kgo.Record) error {
	place := map[string]int{} // in the copy
	last := map[string]int{}  // place of the last record of a key
	for i, r := range copied {
		id := identity(r)
		if at, ok := place[id]; ok {
			return fmt.Errorf("the target's offsets %d and %d have the same record %s", copied[at].Offset, r.Offset, id)
		}
		place[id], last[string(r.Key)] = i, i
	}
	before := -1
	for i, r := range source {
		id := identity(r)
		at, ok := place[id]
		if !ok {
			// The target's cleaner may have removed it, but only for a later record of its key, which the source must have as well.
			later, exists := last[string(r.Key)]
			if !exists || later < before {
				return fmt.Errorf("source offset %d is lost (%d of %d): %s", r.Offset, i, len(source), id)
			}
			continue
		}
		if at <= before {
			return fmt.Errorf("source offset %d is out of order on the target, at offset %d: %s", r.Offset, copied[at].Offset, id)
		}
		before = at
	}
	return newestAgree(copied, source)
}

// newestAgree returns an error unless both sides have the same newest record of each key.
func newestAgree(copied, source []*kgo.Record) error {
	newest := func(records []*kgo.Record) map[string]string {
		m := map[string]string{}
		for _, r := range records {
			m[string(r.Key)] = identity(r)
		}
		return m
	}
	s, t := newest(source), newest(copied)
	for key, want := range s {
		if t[key] != want {
			return fmt.Errorf("the newest record of key %q is %s on the source and %s on the target", key, want, t[key])
		}
	}
	for key, got := range t {
		if s[key] == "" {
			return fmt.Errorf("the target has key %q, which the source does not have: %s", key, got)
		}
	}
	return nil
}

// isLives compares the copy of a topic that was recreated, whose last life has the number last.
func isLives(copied, source []*kgo.Record, last int) error {
	life, next := 0, int64(0)
	for _, r := range copied {
		now := lifeOf(r)
		if now < life {
			return fmt.Errorf("the target's offset %d has a record of life %d after life %d", r.Offset, now, life)
		}
		if now > life {
			life, next = now, 0
		}
		seq, err := load.Sequence(r)
		if err != nil {
			return err
		}
		if seq != next {
			return &misplacedError{r.Offset, life, seq, next}
		}
		next++
	}
	if len(source) > 0 && (life != last || next != int64(len(source))) {
		return fmt.Errorf("the copy ends with life %d and %d records of it, the source has life %d with %d records", life, next, last, len(source))
	}
	return nil
}

// lifeOf is the life that a record was written in. One that cannot be read is 0, and out of order.
func lifeOf(r *kgo.Record) (life int) {
	for _, h := range r.Headers {
		if h.Key == "life" {
			life, _ = strconv.Atoi(string(h.Value))
		}
	}
	return life
}
