// Command scale measures how milena scales over instances, partitions and flows, against the synthetic brokers of e2e/thin:
//
//	go run ./e2e/scale                       everything: about 15 minutes
//	go run ./e2e/scale -part throughput      1, 2 and 4 instances, each limited to the same share of a core
//	go run ./e2e/scale -part zipf            four of them, with shards whose loads differ by a factor of 64
//	go run ./e2e/scale -part starts          100,000 partitions over four instances: until all are ready
//	go run ./e2e/scale -part many            the same: memory, idle CPU, kill -9, SIGTERM
//	go run ./e2e/scale -part flows           what a flow costs, with 1 and with 10 of them in a process
//
// It needs Linux, and for the limits the right to create a cgroup.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/milena-kafka/milena/e2e/daemon"
)

// bench is a run of the command.
type bench struct {
	dir, milena, thin string
	worlds            int

	rounds     int
	share      float64 // of a core, for each instance
	batch      int     // bytes
	partitions int
	profile    string // directory for CPU profiles of what is slow, or empty
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the process ends
	}
}

func run(ctx context.Context) (err error) {
	var b bench
	parts := flag.String("part", "throughput,zipf,starts,many,flows", "what is measured")
	flag.IntVar(&b.rounds, "rounds", 3, "how often throughput is measured")
	flag.Float64Var(&b.share, "share", 0.15, "share of a core that each instance may use")
	flag.IntVar(&b.batch, "batch", 4096, "bytes of a batch")
	flag.IntVar(&b.partitions, "partitions", 100_000, "partitions of the parts starts and many")
	flag.StringVar(&b.profile, "profile", "", "directory for the CPU profiles of starts and takeovers")
	flag.Parse()
	if b.dir, err = os.MkdirTemp("", "milena-scale-"); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = os.RemoveAll(b.dir)
		} else {
			err = fmt.Errorf("%w; the logs are in %s", err, b.dir)
		}
	}()
	if b.milena, err = daemon.Build(ctx, b.dir); err != nil {
		return err
	}
	b.thin = filepath.Join(b.dir, "thin")
	if err := build(ctx, b.thin, "github.com/milena-kafka/milena/e2e/thin"); err != nil {
		return err
	}
	known := map[string]func(context.Context) error{"throughput": b.throughput, "zipf": b.zipf, "starts": b.starts, "many": b.many, "flows": b.flows}
	for part := range strings.SplitSeq(*parts, ",") {
		measure := known[part]
		if measure == nil {
			return errors.New("there is no part " + part)
		}
		fmt.Printf("\n## %s\n", part)
		if err := measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return nil
}
