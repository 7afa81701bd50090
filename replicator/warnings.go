package replicator

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// warnings keeps a problem that lasts from filling the log: it is logged at once, then every half minute with a count.
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

// warn logs at level warn. What differs in any attribute but err is another problem: an error's text may name a local port, which changes
// every time.
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

// due is how often a problem has occurred since it was logged last, 0 if it need not be logged now.
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
