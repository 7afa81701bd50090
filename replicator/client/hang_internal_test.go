package client

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
)

// When the line to a site is cut, half of the brokers accept connections, or seem to, and say nothing. A request that any broker may answer finds one of
// the other half, even if it tries them last.
func TestHalfOfTheBrokersHang(t *testing.T) {
	t.Parallel()
	cluster := kfake.MustCluster(kfake.NumBrokers(4))
	t.Cleanup(cluster.Close)
	options, err := Options(config.Cluster{Brokers: cluster.ListenAddrs()}, &Dials{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var hang []string // the first two that are tried
	cl, err := kgo.NewClient(append(options, kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(hang) < 2 && !slices.Contains(hang, address) {
			hang = append(hang, address)
		}
		if slices.Contains(hang, address) {
			address = silence(t)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := kadm.NewClient(cl).ListTopics(ctx); err != nil {
		t.Fatal(err)
	}
}

// silence listens and never answers.
func silence(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return ""
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
