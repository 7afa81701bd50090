// Command thin runs two Kafka clusters in one process, a source and a target, whose brokers cost next to nothing while nothing is written. With
// them a replicator can be measured at a hundred thousand partitions on one machine, which real brokers do not fit on.
//
//	thin -topics 2000 -partitions 50 -dir DIR
//
// It writes the addresses of the brokers to DIR/addresses, as JSON, once it serves. The brokers know the requests that milena sends. They keep the
// batches in memory, have the groups of milena's instances, and fence producers by their epochs. They have no security and no failures, commit
// nothing, and check no batch but its epoch and sequence.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// addresses is what the file of that name holds.
type addresses struct {
	Source []string `json:"source"`
	Target []string `json:"target"`
	// Control is where the type control serves.
	Control string `json:"control"`
}

func main() {
	topics := flag.Int("topics", 2000, "topics of the source")
	partitions := flag.Int("partitions", 50, "partitions of each")
	brokers := flag.Int("brokers", 3, "brokers of each cluster")
	keep := flag.Int64("keep", 0, "bytes that each partition of the target keeps, except of journals; 0 keeps all")
	dir := flag.String("dir", ".", "where the file of addresses is written")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *topics, *partitions, *brokers, *keep); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the process ends
	}
}

func run(ctx context.Context, dir string, topics, partitions, brokers int, keep int64) error {
	source, target := newCluster("thin-source"), newCluster("thin-target")
	target.keep, target.watch = keep, &watch{source: source}
	source.watch = target.watch
	for i := range topics {
		source.create(fmt.Sprintf("many-%05d", i), partitions, nil)
	}
	var at addresses
	var err error
	var all errgroup.Group
	for c, list := range map[*cluster]*[]string{source: &at.Source, target: &at.Target} {
		if *list, err = c.listen(ctx, brokers, &all); err != nil {
			return err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	at.Control = "http://" + listener.Addr().String()
	server := &http.Server{Handler: (&control{ctx: ctx, source: source, target: target}).handler(), ReadHeaderTimeout: time.Minute}
	all.Go(func() error { return server.Serve(listener) })
	text, err := json.Marshal(at)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "addresses")
	if err := errors.Join(os.WriteFile(file+".new", text, 0o600), os.Rename(file+".new", file)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
