// Command thin runs two Kafka clusters in one process, a source and a target, whose brokers cost next to nothing while nothing is written. With
// them a replicator can be measured at a hundred thousand partitions on one machine, which real brokers do not fit on.
//
//	thin -topics 2000 -partitions 50 -dir DIR
//
// It writes the addresses of the brokers to DIR/addresses, as JSON, once it serves. The brokers know the requests that milena sends, keep every
// batch in memory, check nothing that a producer sends, and never forget. They have no groups, no security, no retention and no failures.
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
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// addresses is what the file of that name holds.
type addresses struct {
	Source []string `json:"source"`
	Target []string `json:"target"`
	// Control is where POST /write?partitions=N&bytes=N appends one record to each of that many partitions of the source.
	Control string `json:"control"`
}

func main() {
	topics := flag.Int("topics", 2000, "topics of the source")
	partitions := flag.Int("partitions", 50, "partitions of each")
	brokers := flag.Int("brokers", 3, "brokers of each cluster")
	dir := flag.String("dir", ".", "where the file of addresses is written")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *topics, *partitions, *brokers); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the process ends
	}
}

func run(ctx context.Context, dir string, topics, partitions, brokers int) error {
	source, target := newCluster("thin-source"), newCluster("thin-target")
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
	control, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	at.Control = "http://" + control.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(source.serveWrite), ReadHeaderTimeout: time.Minute}
	all.Go(func() error { return server.Serve(control) })
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

// serveWrite appends one record to each of the first partitions of the cluster, one partition of every topic before the next.
func (c *cluster) serveWrite(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(r.FormValue("partitions"))
	size, err2 := strconv.Atoi(r.FormValue("bytes"))
	if err := errors.Join(err, err2); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	batch := recordBatch(make([]byte, size))
	for n := int32(0); number > 0; n++ {
		for _, t := range c.sorted() {
			if number == 0 || int(n) >= len(t.partitions) {
				break
			}
			c.append(t.partitions[n], append([]byte(nil), batch...), 1)
			number--
		}
		if n > 1<<16 {
			break
		}
	}
	w.WriteHeader(http.StatusOK)
}
