package long_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// deleteFiles deletes what a broker makes from its logs again. It returns how many files that were.
func deleteFiles(t *testing.T, dir string, kinds ...string) (n int) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !slices.Contains(kinds, filepath.Ext(path)) || strings.Contains(path, "__cluster_metadata") {
			return err
		}
		n++
		return os.Remove(path)
	}))
	return n
}

// All brokers of a cluster are killed at once under load, and lose their indices, and then what they know of producers too. They read their logs when they
// start; milena waits and goes on.
func TestIndicesLost(t *testing.T) {
	small := kafka.Options{Brokers: 2, Properties: map[string]string{"log.index.interval.bytes": "1024"}}
	d := newDisaster(t, small, small)
	ctx := t.Context()
	segments := "segment.bytes=1048576"
	must(t, kafka.AssignTopic(ctx, d.sourceClient, "orders", [][]int32{{1, 2}, {2, 1}, {1, 2}}, segments))
	must(t, kafka.AssignTopic(ctx, d.sourceClient, "payments", [][]int32{{1, 2}, {2, 1}}, segments))
	committed, err := load.Transactions(ctx, d.source, load.Options{Topic: "payments", Partitions: 2}, 30, 100)
	must(t, err)
	d.acked += committed
	d.stream("orders", 3, 300)
	d.startMilena(d.source.Addrs(), d.target.Addrs())
	d.untilMoved(time.Minute, "orders")
	d.topics = append(d.topics, "payments")
	d.untilCopied()

	indices := []string{".index", ".timeindex", ".txnindex"}
	for i, kinds := range [][]string{indices, append(slices.Clone(indices), ".snapshot")} {
		for _, cluster := range []*kafka.Cluster{d.source, d.target} {
			d.begin()
			for _, b := range append(slices.Clone(cluster.Brokers()), cluster.Controller()) {
				b.Kill()
			}
			n := 0
			for _, b := range cluster.Brokers() {
				n += deleteFiles(t, b.DataDir(), kinds...)
			}
			t.Logf("cluster %s lost %d files: %v", cluster.Name(), n, kinds)
			if i == 0 {
				d.says(d.look(25*time.Second), "cluster "+cluster.Name())
			} else {
				d.look(5 * time.Second)
			}
			must(t, cluster.Controller().Restart(ctx))
			for _, b := range cluster.Brokers() {
				must(t, b.Restart(ctx))
			}
			must(t, cluster.WaitBrokers(ctx, 2))
			d.mended()
			t.Log(fmt.Sprint("cluster ", cluster.Name(), " is back"))
		}
	}
	d.over()
}
