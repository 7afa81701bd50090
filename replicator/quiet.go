package replicator

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// quiet says when a log is quiet: for as long as a broker needs for what it has received, nothing was appended that may be of an earlier owner.
// A fetch ends at the high watermark, and what an earlier owner wrote may be behind that: it is not replicated yet, or a new leader does not know yet
// that it is. So the log is then read up to its end as its leader has it.
type quiet struct {
	end    int64 // the high watermark when the wait began
	since  time.Time
	high   int64     // the newest high watermark
	logEnd int64     // up to where the log is read
	asked  time.Time // when the leader told that; zero before
}

// sees takes the high watermark that a fetch shows.
func (q *quiet) sees(high int64, now time.Time) {
	if q.since.IsZero() {
		q.end, q.since = high, now
	}
	q.high = high
}

// hasLasted reports whether the log was quiet for a time.
func (q *quiet) hasLasted(d time.Duration, now time.Time) bool {
	return !q.since.IsZero() && now.Sub(q.since) >= d
}

// disturb lets the wait for a quiet end begin again, if a batch has been appended since it began that may be of an earlier owner.
func (t *logTail) disturb(h recordbatch.Header) {
	if t.until == toQuiet && h.BaseOffset >= t.quiet.end && (t.disturbs == nil || t.disturbs(h)) {
		t.quiet = quiet{}
	}
}

// endQuiet ends the tails whose log is quiet and was read to its end. It reports whether any was.
func (f *Flow) endQuiet(ctx context.Context, leader int32, group []*logTail) (ended bool) {
	now, pause := time.Now(), f.options.Pauses.Quiet
	var ask []*logTail
	for _, t := range group {
		if q := &t.quiet; t.until == toQuiet && !t.isFinished() && q.hasLasted(pause, now) && (q.asked.IsZero() || t.next < q.logEnd && now.Sub(q.asked) >= pause) {
			ask = append(ask, t)
		}
	}
	f.askLogEnds(ctx, leader, ask, now)
	for _, t := range group {
		if q := &t.quiet; t.until == toQuiet && !t.isFinished() && !q.asked.IsZero() && t.next >= q.logEnd {
			t.done, t.end, t.sealed, ended = true, max(t.next, t.from), t.mark.epoch, true
		}
	}
	return ended
}

// askLogEnds asks the leader of these tails for the ends of their logs, which may be behind their high watermarks. A broker that does not tell that
// counts as one that has nothing there.
func (f *Flow) askLogEnds(ctx context.Context, leader int32, tails []*logTail, now time.Time) {
	if len(tails) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tailPatience)
	defer cancel()
	list := make([]offsets.TopicPartition, len(tails))
	for i, t := range tails {
		list[i] = t.partition
	}
	ends, err := wire.LogEnds(ctx, f.target, leader, list)
	if err != nil {
		f.log.Debug("list log ends", "err", err)
	}
	for _, t := range tails {
		end, ok := ends[t.partition]
		switch outcome := wire.ClassifyFetch(end.Code); {
		case err != nil || ok && (outcome == wire.Moved || outcome == wire.Gone || end.Code == kerr.OffsetNotAvailable.Code):
			t.quiet = quiet{} // a broker that does not answer may still have something to append
			continue
		case !ok || outcome != wire.Fetched:
			end.Offset = t.quiet.high
		}
		again := !t.quiet.asked.IsZero()
		end.Offset = max(end.Offset, t.quiet.high)
		if again {
			end.Offset = min(end.Offset, t.quiet.logEnd) // what was appended since is not of an earlier owner, and a new leader may have less
		}
		t.quiet.logEnd, t.quiet.asked = end.Offset, now
		if again && end.Offset > t.next && t.next >= t.quiet.high {
			f.warn("waiting for replicas of the target, which do not have yet what an earlier owner may have written", "partition", t.partition.String(), "replicated", t.next, "log_end", end.Offset)
		}
	}
}
