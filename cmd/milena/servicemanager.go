package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/milena-kafka/milena/replicator"
)

// serviceManager tells systemd, or whoever else listens on NOTIFY_SOCKET, how milena is (sd_notify(3)). Without a socket it does nothing.
//
// The service is started once its config is read, HTTP is bound and its flows run. It does not wait for the clusters: one that is down at the start would make
// systemd end milena, which waits for it as it would do later. Whether the flows are ready is in the status line, as in /readyz.
type serviceManager struct {
	log   *slog.Logger
	grace atomic.Int64 // how long a stop may take

	mu     sync.Mutex // one message at a time, in order
	ending bool
	failed bool // a message could not be sent, which is logged once
}

// stopMargin is what a stop takes beyond shutdown_timeout: the last write of the journal, leaving the group, and requests of HTTP in progress.
const stopMargin = 15 * time.Second

// allow sets how long a stop may take beside stopMargin.
func (m *serviceManager) allow(shutdownTimeout time.Duration) { m.grace.Store(int64(shutdownTimeout)) }

// send sends fields of a message, unless the stop has begun.
func (m *serviceManager) send(fields ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ending {
		m.sendLocked(fields...)
	}
}

func (m *serviceManager) sendLocked(fields ...string) {
	_, err := systemd.SdNotify(false, strings.Join(fields, "\n"))
	if err != nil && !m.failed {
		m.log.Warn("the service manager does not take the state of milena", "err", err)
	}
	m.failed = err != nil
}

// reloading says that the config is read again, until ready is called.
func (m *serviceManager) reloading() {
	m.send(systemd.SdNotifyReloading, strings.TrimSpace(systemd.SdNotifyMonotonicUsec()))
}

// ready says that the flows of the config run.
func (m *serviceManager) ready(status string) { m.send(systemd.SdNotifyReady, statusField(status)) }

// stopping says that milena stops, and how long that may take. Nothing is sent afterwards.
func (m *serviceManager) stopping() {
	m.mu.Lock()
	defer m.mu.Unlock()
	limit := time.Duration(m.grace.Load()) + stopMargin
	m.sendLocked(systemd.SdNotifyStopping, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", limit.Microseconds()), statusField("stopping: waiting for batches in flight"))
	m.ending = true
}

// statusEvery is how often the status line is sent.
const statusEvery = 10 * time.Second

// watchdogBeats is how often the watchdog is fed within its time.
const watchdogBeats = 4

// follow sends the status line, and feeds the watchdog if there is one, until ctx ends. Stalled says what of milena has not moved for longer than a limit
// though nothing outside of it is in its way. It may block, with whatever is stuck: then the watchdog is not fed either.
func (m *serviceManager) follow(ctx context.Context, status func() string, stalled func(limit time.Duration) string) {
	watchdog, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("the watchdog of the service manager is not fed", "err", err)
	}
	every, limit := statusEvery, stalledLimit
	if watchdog > 0 {
		every, limit = min(every, watchdog/watchdogBeats), watchdog/2
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch why := stalled(limit); {
		case why != "":
			m.send(statusField("stalled: " + why))
		case watchdog > 0:
			m.send(systemd.SdNotifyWatchdog, statusField(status()))
		default:
			m.send(statusField(status()))
		}
	}
}

// maxStatusLine bounds the status line, which systemctl shows as it is.
const maxStatusLine = 400

// statusField is the field of a status line. What brokers and files say may have line breaks, which would be fields of their own.
func statusField(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || isControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if runes := []rune(text); len(runes) > maxStatusLine {
		text = string(runes[:maxStatusLine]) + "…"
	}
	return "STATUS=" + text
}

// statusLine says in one line what the page says at its top.
func statusLine(statuses []replicator.Status, refused string) string {
	var parts []string
	if refused != "" {
		parts = append(parts, "config file refused: "+refused)
	}
	for _, s := range statuses {
		part := fmt.Sprintf("%s ready, lag %s", s.Flow, lagText(s.LagRecords, s.LagUnknown))
		if !s.Ready {
			part = fmt.Sprintf("%s not ready: %s", s.Flow, strings.Join(s.NotReady, ", "))
		}
		if s.Ready && !newOverview(s).AllIsWell {
			part += ", needs attention"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}
