package recovery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/offsets"
)

// Where is where a group is put on the target: translated, latest, or a time. The zero value is translated.
//
// Latest and a time are for clusters whose producers write to both sides, so that the records are there, and not copied from where the group was.
type Where string

// The places that are no time.
const (
	WhereTranslated Where = "translated"
	WhereLatest     Where = "latest"
)

// ParseWhere reads translated, latest, now-DURATION or a time as RFC 3339. What depends on the time of day is resolved here, so that a recovery that is resumed
// puts all groups at the same time.
func ParseWhere(text string, now time.Time) (Where, error) {
	switch Where(text) {
	case WhereTranslated, WhereLatest:
		return Where(text), nil
	}
	if back, ok := strings.CutPrefix(text, "now-"); ok {
		if d, err := time.ParseDuration(back); err == nil && d >= 0 {
			return Where(now.Add(-d).UTC().Format(time.RFC3339Nano)), nil
		}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.After(now) {
		return "", fmt.Errorf("%q is none of translated, latest, a duration ago such as now-15m, and a time in the past such as 2026-01-31T15:04:05Z", text)
	}
	return Where(at.UTC().Format(time.RFC3339Nano)), nil
}

// isTranslated reports whether the map says where the group continues.
func (w Where) isTranslated() bool { return w == "" || w == WhereTranslated }

// whereOf is where a group is put.
func (o *Options) whereOf(group string) Where {
	if w, ok := o.Where[group]; ok {
		return w
	}
	return o.Where[allGroups]
}

// allGroups is the key of those that [Options.Where] does not name.
const allGroups = "*"

// at replaces the offsets of positions on the target by those at a place that is not translated.
func (w Where) at(ctx context.Context, target *kadm.Client, positions []offsets.GroupOffset) ([]offsets.GroupOffset, error) {
	topics := make(map[string]bool)
	for _, p := range positions {
		topics[p.TargetTopic] = true
	}
	var names []string
	for name := range keys(topics) {
		names = append(names, name)
	}
	var listed kadm.ListedOffsets
	var err error
	if w == WhereLatest {
		listed, err = target.ListEndOffsets(ctx, names...)
	} else {
		var moment time.Time
		if moment, err = time.Parse(time.RFC3339Nano, string(w)); err == nil {
			listed, err = target.ListOffsetsAfterMilli(ctx, moment.UnixMilli(), names...) // the end, where nothing is that new
		}
	}
	if err != nil {
		return nil, err
	}
	put := make([]offsets.GroupOffset, len(positions))
	for i, p := range positions {
		o, ok := listed.Lookup(p.TargetTopic, p.Partition)
		switch {
		case !ok:
			p.Err = fmt.Errorf("the target has no partition %d of %s", p.Partition, p.TargetTopic)
		case o.Err != nil:
			p.Err = o.Err
		default:
			p.Target, p.Err = o.Offset, nil
		}
		put[i] = p
	}
	return put, nil
}
