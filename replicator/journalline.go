package replicator

import (
	"context"
	"sync"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/wire"
)

// journalLines are the connections on which journals are written, one line per broker. A broker that throttles a client reads nothing from the
// connection for a while (KIP-219): for minutes, if a quota is far below the rate of the last seconds. The lease, which journal writes confirm,
// cannot wait for that. So a line that is muted for longer than patience is replaced by a new one, which the broker reads at once. What is
// written there counts towards the quota as well, so the batches wait for it. It is safe for concurrent use.
type journalLines struct {
	patience time.Duration
	open     func() (*journalLine, error) // does not connect

	mu       sync.Mutex
	first    wire.Producer // for all brokers that have no line yet
	byBroker map[int32]*journalLine
}

// journalLine writes to the journal partitions that one broker leads.
type journalLine struct {
	wire.Producer
	close func()

	mute     client.Mute
	users    int
	replaced bool
}

// newJournalLines creates the lines. A broker's line uses first until the broker mutes it for longer than patience, and afterwards what open
// returns.
func newJournalLines(patience time.Duration, first wire.Producer, open func() (*journalLine, error)) *journalLines {
	return &journalLines{patience: patience, first: first, open: open, byBroker: make(map[int32]*journalLine)}
}

// take returns the line to a broker. It blocks while the broker reads nothing, or until ctx ends, so the lease must be looked at afterwards. The
// caller gives the line back.
func (l *journalLines) take(ctx context.Context, broker int32) *journalLine {
	line := l.current(broker)
	_ = line.mute.Wait(ctx) // if ctx ends, so does the request
	return line
}

// current returns the line to a broker, a new one if the last one is muted for long.
func (l *journalLines) current(broker int32) *journalLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.byBroker[broker]
	if line == nil {
		line = &journalLine{Producer: l.first, close: func() {}}
		l.byBroker[broker] = line
	}
	if line.mute.Left() > l.patience {
		if next, err := l.open(); err == nil { // else wait: an owner that is late takes over again
			line.replaced = true
			line.closeUnused()
			line = next
			l.byBroker[broker] = line
		}
	}
	line.users++
	return line
}

// give ends the use of a line. The answer to the request had the given throttle time, 0 if there was none.
func (l *journalLines) give(line *journalLine, throttleMillis int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line.mute.Answered(throttleMillis)
	line.users--
	line.closeUnused()
}

// closeUnused closes a replaced line whose last user has gone.
func (l *journalLine) closeUnused() {
	if l.replaced && l.users == 0 {
		l.close()
	}
}

// closeAll closes the lines. None may be in use.
func (l *journalLines) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.byBroker {
		line.close()
	}
}
