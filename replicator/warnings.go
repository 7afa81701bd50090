package replicator

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// warnings keeps a lasting problem from filling the log. A problem is logged when it first occurs, and then at most every 30 seconds, with a
// count.
type warnings struct {
	log *slog.Logger

	mu   sync.Mutex
	seen map[string]*warning
}

type warning struct {
	at    time.Time
	count int
}

const warnEvery = 30 * time.Second

// warn logs a problem at level warn. Problems are the same if their text and all their attributes are the same, except err: the text of an
// error may contain a local port, which differs each time.
func (w *warnings) warn(text string, attrs ...any) {
	key := text
	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i] != "err" {
			key += fmt.Sprint(attrs[i], attrs[i+1])
		}
	}
	count := w.due(key)
	if count == 0 {
		return
	}
	if count > 1 {
		attrs = append(attrs, "count", count)
	}
	w.log.Warn(text, attrs...) //nolint:sloglint // the text is the caller's constant
}

// due returns how many times a problem has occurred since it was last logged, 0 if it is not due to be logged.
func (w *warnings) due(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil || len(w.seen) > 1000 {
		w.seen = make(map[string]*warning)
	}
	entry := w.seen[key]
	if entry == nil {
		entry = &warning{}
		w.seen[key] = entry
	}
	entry.count++
	if time.Since(entry.at) < warnEvery {
		return 0
	}
	count := entry.count
	entry.at, entry.count = time.Now(), 0
	return count
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
