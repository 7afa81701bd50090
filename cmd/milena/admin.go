package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/milena-kafka/milena/cmd/milena/guard"
	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
)

// admin is the HTTP server of a process: page (adminpage.go), status, metrics and probes. Create it with newAdmin, bind it with listen before
// anything else, give it the flows once they exist, and close it last.
type admin struct {
	config   config.HTTP
	access   *guard.Guard
	instance string // id of the process
	// flows is nil until the flows exist.
	flows   atomic.Pointer[served]
	ending  atomic.Bool
	refusal atomic.Pointer[string] // why the config file is refused, nil if it is not
	server  *http.Server
	bound   *boundedListener // nil when HTTP is off
	serving chan struct{}
	calls   chan struct{} // one element per request of the API that is carried out
	page    *servedPage
	drills  *drills
}

// newRegistry holds the metrics of the Go runtime, the process and the build; the flows add theirs.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector(),
	} {
		r.MustRegister(c)
	}
	return r
}

func newAdmin(metrics prometheus.Gatherer, c config.HTTP) *admin {
	a := &admin{config: c, access: guard.New(c), serving: make(chan struct{}), calls: make(chan struct{}, maxCalls), drills: newDrills()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", a.serveStatus)
	mux.HandleFunc("GET /healthz", a.serveHealth)
	mux.HandleFunc("GET /readyz", a.serveReady)
	a.addAPI(mux)
	a.page = newServedPage(a)
	a.page.AddTo(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	if c.PProf {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	a.server = &http.Server{
		Handler: a.access.Handler(a.guard(mux)), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // clients disconnect as they like
		ReadHeaderTimeout: ioTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return a
}

// errBusy says that another process listens on the address.
var errBusy = errors.New("address already in use")

// listen binds the address and serves in the background. It does nothing if HTTP is off.
func (a *admin) listen(ctx context.Context) error {
	if a.config.Listen == "" {
		close(a.serving)
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.config.Listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("http: listen on %s: %w; stop the process that uses it, or set http.listen or --listen to another address", a.config.Listen, errBusy)
	case err != nil:
		return fmt.Errorf("http: %w; set http.listen or --listen to host:port with an address of this machine", err)
	}
	secure, err := a.access.TLSConfig()
	if err == nil {
		err = a.access.Bind(l.Addr())
	}
	if err != nil {
		_ = l.Close()
		return err
	}
	a.bound, a.server.TLSConfig = boundConnections(l), secure
	a.page.begin(ctx)
	go func() {
		defer close(a.serving)
		if secure != nil {
			_ = a.server.ServeTLS(a.bound, "", "")
		} else {
			_ = a.server.Serve(a.bound) // returns ErrServerClosed; probes notice anything else
		}
	}()
	return nil
}

// address is the bound address, empty if HTTP is off.
func (a *admin) address() string {
	if a.bound == nil {
		return ""
	}
	return a.bound.Addr().String()
}

// served are functions about all flows.
type served struct {
	statuses func() []replicator.Status
	notReady func() []string // the same as the statuses say, at much less cost
	stalled  func(limit time.Duration) string
	clusters func(flow string) (client.Clusters, bool)
	names    []string // of the flows
}

// serveFlows shows these flows from now on.
func (a *admin) serveFlows(flows []*replicator.Flow) {
	names := make([]string, len(flows))
	for i, f := range flows {
		names[i] = f.Name()
	}
	a.flows.Store(&served{
		names: names,
		statuses: func() []replicator.Status {
			all := make([]replicator.Status, len(flows))
			for i, f := range flows {
				all[i] = f.Status()
			}
			return all
		},
		notReady: func() []string {
			var reasons []string
			for _, f := range flows {
				for _, why := range f.NotReady() {
					reasons = append(reasons, f.Name()+": "+why)
				}
			}
			return reasons
		},
		stalled: func(limit time.Duration) string {
			for _, f := range flows {
				if why := f.Stalled(limit); why != "" {
					return "flow " + f.Name() + ": " + why
				}
			}
			return ""
		},
		clusters: func(name string) (client.Clusters, bool) {
			i := slices.IndexFunc(flows, func(f *replicator.Flow) bool { return f.Name() == name })
			if i < 0 {
				return client.Clusters{}, false
			}
			c := flows[i].Clusters()
			c.Log = slog.New(slog.DiscardHandler) // its clients are those of a request
			return c, true
		},
	})
}

// serveStatuses shows these statuses from now on.
func (a *admin) serveStatuses(get func() []replicator.Status) {
	a.flows.Store(&served{statuses: get, notReady: func() []string { return notReadyOf(get()) }})
}

// refuse shows from now on why the config file is refused, and that it is not if why is empty.
func (a *admin) refuse(why string) { a.refusal.Store(&why) }

func (a *admin) refused() string {
	if why := a.refusal.Load(); why != nil {
		return *why
	}
	return ""
}

// stopping makes the process not ready, whatever its flows report, and ends drills.
func (a *admin) stopping() {
	a.ending.Store(true)
	a.drills.stop()
}

// close ends the streams of pages, stops listening, and waits up to a second for requests in progress. The context of the process has ended by then, so
// close has its own timeout.
func (a *admin) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	a.page.end()
	if err := a.server.Shutdown(ctx); err != nil {
		_ = a.server.Close()
	}
	<-a.serving
	a.drills.stop()
	a.drills.wait()
}

func (a *admin) statuses() []replicator.Status {
	if flows := a.flows.Load(); flows != nil {
		return withConfigRefused(flows.statuses(), a.refused())
	}
	return []replicator.Status{}
}

// reasonStopping is why a process that stops is not ready. The command status knows it.
const reasonStopping = "stopping"

// notReady are the reasons why the process is not ready, one sentence each. Of are those of the flows.
func (a *admin) notReady(of []string) []string {
	var reasons []string
	if a.ending.Load() {
		reasons = append(reasons, reasonStopping)
	}
	if a.flows.Load() == nil {
		reasons = append(reasons, "starting: no flows yet")
	}
	return append(reasons, of...)
}

// notReadyOf are the reasons why flows are not ready.
func notReadyOf(statuses []replicator.Status) (reasons []string) {
	for _, s := range statuses {
		for _, why := range s.NotReady {
			reasons = append(reasons, s.Flow+": "+why)
		}
		if !s.Ready && len(s.NotReady) == 0 {
			reasons = append(reasons, s.Flow+": not ready")
		}
	}
	return reasons
}

// stalledLimit is how long a loop may be stuck before the process is not alive. Nothing that a loop does between two waits takes that long.
const stalledLimit = 30 * time.Second

// stalled says what of the flows is stuck for longer than a limit, empty if nothing is. It blocks with a flow whose lock is never let go.
func (a *admin) stalled(limit time.Duration) string {
	if flows := a.flows.Load(); flows != nil && flows.stalled != nil {
		return flows.stalled(limit)
	}
	return ""
}

// serveHealth answers whether the loops of the process go on. A cluster that is down does not stop them.
func (a *admin) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if why := a.stalled(stalledLimit); why != "" {
		http.Error(w, "stalled: "+why, http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "alive\n")
}

func (a *admin) serveReady(w http.ResponseWriter, _ *http.Request) {
	var of []string
	if flows := a.flows.Load(); flows != nil {
		of = flows.notReady()
	}
	reasons := a.notReady(of)
	if len(reasons) == 0 {
		_, _ = io.WriteString(w, "ready\n")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, strings.Join(reasons, "\n")+"\n")
}

func (a *admin) serveStatus(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.statuses()) }

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // an error means that the client has disconnected
}
