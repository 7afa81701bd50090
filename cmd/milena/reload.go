package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
)

// configSource is the config file with what the command line says about it.
type configSource struct {
	*program
	path     string
	flags    *pflag.FlagSet
	clusters []string // of --clusters
	listen   *string  // of --listen, nil if it is not given

	hangups <-chan os.Signal
	applied [sha256.Size]byte // the content that was read last, whatever came of it
	seen    [sha256.Size]byte // at the last look
	settled bool              // only what was seen may be read
}

// errUnsettled says that the file is being written.
var errUnsettled = errors.New("the file changes while it is read")

// read reads the file.
func (s *configSource) read() (*configReading, error) {
	if s.path == "" {
		_, err := s.readConfig(s.path)
		return nil, err
	}
	data, err := os.ReadFile(s.path) // once: what is applied has the content that was looked at
	now := hashOf(data, err)
	if !s.isRegular() {
		now = [sha256.Size]byte{}
	}
	if s.settled && now != s.seen {
		s.seen = now
		return nil, errUnsettled
	}
	s.applied, s.seen = now, now
	file, err := s.parseConfig(s.path, data, err)
	if err != nil {
		return nil, err
	}
	c := file.Config
	flows, err := flowsTo(s.flags, c, s.clusters)
	if err != nil {
		return nil, err
	}
	if s.listen != nil {
		c.HTTP.Listen = *s.listen
	}
	return &configReading{file, c, flows}, nil
}

// readAgain reads the file while milena runs.
func (s *configSource) readAgain() (*configReading, error) {
	if !s.isRegular() {
		return nil, fmt.Errorf("%s is no regular file, so it cannot be read again; restart milena to change its config", s.path)
	}
	r, err := s.read()
	var usage *usageError
	if errors.As(err, &usage) {
		return nil, fmt.Errorf("no flow left for --clusters %s: %w", strings.Join(s.clusters, ","), err)
	}
	return r, err
}

// look returns the hash of the content of the file, or of why it cannot be read. A symbolic link that points to other content is other content, as
// Kubernetes replaces a ConfigMap. What is no regular file never changes: a pipe can be read once.
func (s *configSource) look() [sha256.Size]byte {
	if !s.isRegular() {
		return [sha256.Size]byte{}
	}
	return hashOf(os.ReadFile(s.path))
}

// isRegular reports whether the file can be read again, as far as is known.
func (s *configSource) isRegular() bool {
	info, err := os.Stat(s.path)
	return err != nil || info.Mode().IsRegular()
}

func hashOf(data []byte, err error) [sha256.Size]byte {
	if err != nil {
		data = []byte(err.Error())
	}
	return sha256.Sum256(data)
}

// hasChanged reports whether the file has other content than what was read last. It must be the same at two looks, so that a file that is being written is not
// read half.
func (s *configSource) hasChanged() bool {
	now := s.look()
	settled := now == s.seen
	s.seen = now
	return settled && now != s.applied
}

// lookEvery is how often the config file is looked at. A change takes effect after one to two times that.
const lookEvery = time.Second

// watch reloads the config when its file changes and at SIGHUP, until ctx ends.
func (d *daemon) watch(ctx context.Context, s *configSource) {
	if s == nil {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hangups:
			s.settled = false
		case <-tick.C:
			if s.settled = s.hasChanged(); !s.settled {
				continue
			}
		}
		d.reload(ctx, s)
	}
}

// reload reads the config file again and applies all of it, or nothing and says why.
func (d *daemon) reload(ctx context.Context, s *configSource) {
	d.manager.reloading()
	defer func() { d.manager.ready(d.statusLine()) }()
	next, changes, apply, err := d.prepare(s)
	if errors.Is(err, errUnsettled) {
		return // the next looks find what it becomes
	}
	if err != nil {
		d.log.Error("config not reloaded; the one in force stays", "err", err)
		d.reloads.refused()
		d.admin.refuse(err.Error())
		return
	}
	apply(ctx)
	d.warnAnew(d.now, next)
	d.now = next
	d.reloads.succeeded()
	d.admin.refuse("")
	names := make([]string, len(changes))
	for i, c := range changes {
		names[i] = c.String()
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	d.log.Info("config reloaded", "changes", strings.Join(names, ", "))
	d.noteChanges(changes)
}

// noteChanges notes for the history of each flow what changed of it.
func (d *daemon) noteChanges(changes []config.Change) {
	for _, f := range d.flows {
		var own []string
		for _, c := range changes {
			if c.Flow == f.Name() {
				own = append(own, c.String())
			}
		}
		if len(own) > 0 {
			f.NoteEvent(control.Reload, "", strings.Join(own, ", "))
		}
	}
}

// prepare reads the file and prepares every change of it. Nothing has changed before apply, which cannot fail.
func (d *daemon) prepare(s *configSource) (next *configReading, changes []config.Change, apply func(context.Context), err error) {
	if next, err = s.readAgain(); err != nil {
		return nil, nil, nil, err
	}
	changes = config.Changes(d.now.file, next.file, d.now.flows, next.flows)
	if err := config.Refuse(next.file, changes); err != nil {
		return nil, nil, nil, err
	}
	var kept, removed, added []*runningFlow
	var applies []func()
	for _, f := range d.flows {
		flow := next.flow(f.Name())
		if flow == nil {
			removed = append(removed, f)
			continue
		}
		applyFlow, err := f.Prepare(d.flowOptions(next.config, *flow, f.metrics))
		if err != nil {
			return nil, nil, nil, err
		}
		kept, applies = append(kept, f), append(applies, applyFlow)
	}
	for _, flow := range next.flows {
		if d.now.flow(flow.Name) != nil {
			continue
		}
		f, err := d.newFlow(next.config, flow)
		if err != nil {
			for _, f := range added {
				f.Discard()
				f.metrics.unregister()
			}
			return nil, nil, nil, err
		}
		added = append(added, f)
	}
	return next, changes, func(ctx context.Context) {
		d.setLevel(next.config.Log)
		d.limitMemory(ctx, next)
		d.manager.allow(next.config.ShutdownTimeout)
		for _, applyFlow := range applies {
			applyFlow()
		}
		d.supervisor.count(len(added))
		d.flows = append(kept, added...)
		d.serve()
		d.stopFlows(removed)
		for _, f := range added { // perhaps what a removed flow has copied, which has stopped now
			d.supervisor.start(ctx, f)
		}
	}, nil
}

// stopFlows stops flows cleanly, all at once, and removes their metrics.
func (d *daemon) stopFlows(list []*runningFlow) {
	done := make(chan struct{})
	for _, f := range list {
		go func() {
			d.supervisor.stop(f.Name())
			f.metrics.unregister()
			done <- struct{}{}
		}()
	}
	for range list {
		<-done
	}
}

// warnAnew logs what is insecure, and the notes on keys, that were not so before.
func (d *daemon) warnAnew(before, after *configReading) {
	known := insecure(before.config)
	for _, text := range insecure(after.config) {
		if !slices.Contains(known, text) {
			d.log.Warn("a connection is not secure", "why", text)
		}
	}
	for _, n := range after.file.Notes {
		if !slices.Contains(before.file.Notes, n) {
			d.logNote(n)
		}
	}
}

func (d *daemon) logNote(n config.Note) {
	d.log.Info("note on a config key", "key", n.Key, "line", n.Line, "reason", n.Reason)
}

// reloadMetrics are about reloads of the config, with the names of Prometheus's own.
type reloadMetrics struct {
	successful prometheus.Gauge
	success    prometheus.Gauge // timestamp
}

// newReloadMetrics registers the metrics. The start counts as a reload.
func newReloadMetrics(r prometheus.Registerer) *reloadMetrics {
	m := &reloadMetrics{
		successful: prometheus.NewGauge(prometheus.GaugeOpts{Name: "milena_config_last_reload_successful", Help: "1 when the config file, as it was read last, is in force; 0 when it was refused."}),
		success:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "milena_config_last_reload_success_timestamp_seconds", Help: "When the config in force was read."}),
	}
	r.MustRegister(m.successful, m.success)
	m.succeeded()
	return m
}

func (m *reloadMetrics) succeeded() {
	m.successful.Set(1)
	m.success.SetToCurrentTime()
}

func (m *reloadMetrics) refused() { m.successful.Set(0) }

// withConfigRefused adds to the status of each flow why the process refuses its config file.
func withConfigRefused(statuses []replicator.Status, why string) []replicator.Status {
	for i := range statuses {
		if why != "" {
			statuses[i].ConfigRefused = why
		}
	}
	return statuses
}
