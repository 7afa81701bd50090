package replicator

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// warnings keeps problems that last, and problems that many topics have, from filling the log. A problem is logged when it first occurs, again after
// 30 seconds, and then half as often each time, every 10 minutes at last, with a count. Of problems with the same text the first five are logged
// within the same times, and the next line says how many others there were.
type warnings struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[string]*warningKind // by text
}

// warningKind are the problems with the same text.
type warningKind struct {
	seen   map[string]*warning // by text and attributes
	window backoff
	logged int // lines in the window
	others int // problems that were due and not logged since the last line
}

// warning is one problem.
type warning struct {
	pause backoff
	last  time.Time // when it last occurred
	count int       // occurrences since it was last logged
}

// backoff is a time that doubles, from warnFirst to warnLast.
type backoff struct {
	length time.Duration
	until  time.Time
}

// begin begins the first time, or the next one if length is not reset.
func (b *backoff) begin(now time.Time) {
	b.length = max(warnFirst, min(2*b.length, warnLast))
	b.until = now.Add(b.length)
}

const (
	warnFirst = 30 * time.Second
	warnLast  = 10 * time.Minute
	// How many problems with the same text are logged at once.
	warnAtOnce = 5
	// How many problems with the same text are remembered.
	warnSeen = 1000
)

// warn logs a problem at level warn. Problems are the same if their text and all their attributes are the same, except err: the text of an
// error may contain a local port, which differs each time.
func (w *warnings) warn(text string, attrs ...any) {
	key := ""
	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i] != "err" {
			key += fmt.Sprint(attrs[i], attrs[i+1], " ")
		}
	}
	count, others := w.due(text, key, time.Now())
	if count == 0 {
		return
	}
	if count > 1 {
		attrs = append(attrs, "count", count)
	}
	if others > 0 {
		attrs = append(attrs, "others", others)
	}
	w.log.Warn(text, attrs...) //nolint:sloglint // the text is the caller's constant
}

// due returns how many times a problem has occurred since it was last logged, 0 if it is not due to be logged, and how many others with its text
// were due since and not logged.
func (w *warnings) due(text, key string, now time.Time) (count, others int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kinds == nil {
		w.kinds = make(map[string]*warningKind)
	}
	kind := w.kinds[text]
	if kind == nil {
		kind = &warningKind{seen: make(map[string]*warning)}
		w.kinds[text] = kind
	}
	entry := kind.seen[key]
	if entry == nil {
		if len(kind.seen) >= warnSeen {
			clear(kind.seen)
		}
		entry = &warning{last: now}
		kind.seen[key] = entry
	}
	lasts := now.Sub(entry.last) <= warnLast
	entry.last = now
	entry.count++
	if now.Before(entry.pause.until) {
		return 0, 0
	}
	if !now.Before(kind.window.until) {
		if kind.others == 0 {
			kind.window.length = 0
		}
		kind.window.begin(now)
		kind.logged = 0
	}
	if !lasts {
		entry.pause.length = 0
	}
	entry.pause.begin(now)
	if kind.logged >= warnAtOnce {
		kind.others++
		return 0, 0
	}
	count, others = entry.count, kind.others
	entry.count, kind.others = 0, 0
	kind.logged++
	return count, others
}

// counted is n with a noun in its singular or plural.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "ch"); ok {
		return fmt.Sprintf("%d %sches", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
