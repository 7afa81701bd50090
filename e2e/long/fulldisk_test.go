package long_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/kafka"
)

// fullBroker is the broker whose disk becomes full. Its data directory is a file system of 64 MB.
const fullBroker = 2

// smallDisk mounts a small file system as the data directory of fullBroker.
func smallDisk(t *testing.T) func(broker int, dir string) error {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts a file system, for which it needs root")
	}
	return func(broker int, dir string) error {
		if broker != fullBroker {
			return nil
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
			return err
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		return nil
	}
}

// fill writes a file until the file system is full. It returns the name of the file.
func fill(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "somebody-elses-file")
	file, err := os.Create(name)
	must(t, err)
	defer func() { _ = file.Close() }()
	for size := 1 << 20; size >= 1; size /= 16 {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(err)
		}
	}
	return name
}

// The disk of one of three brokers is full. The broker stops, because it has no other directory. Other brokers go on with what has other replicas, and so
// does milena; what has none waits until there is space and somebody starts the broker.
func TestFullDisk(t *testing.T) {
	for _, side := range []string{"source", "target"} {
		t.Run("of the "+side, func(t *testing.T) {
			options := map[string]kafka.Options{}
			options[side] = kafka.Options{Brokers: 3, Mount: smallDisk(t), Properties: map[string]string{"log.index.size.max.bytes": "65536", "log.segment.bytes": "4194304", "offsets.topic.segment.bytes": "1048576", "transaction.state.log.segment.bytes": "1048576"}}
			d := newDisaster(t, options["source"], options["target"])
			ctx := t.Context()
			cluster, client, name := d.source, d.sourceClient, func(topic string) string { return topic }
			if side == "target" {
				cluster, client, name = d.target, d.targetClient, remote
				must(t, kafka.AssignTopic(ctx, d.sourceClient, "orders", [][]int32{{1}, {1}, {1}}))
				must(t, kafka.AssignTopic(ctx, d.sourceClient, "single", [][]int32{{1}}))
			}
			must(t, kafka.AssignTopic(ctx, client, name("orders"), [][]int32{{1, 2, 3}, {2, 3, 1}, {3, 1, 2}}))
			must(t, kafka.AssignTopic(ctx, client, name("single"), [][]int32{{fullBroker}}, "min.insync.replicas=1"))
			d.stream("orders", 3, 100)
			d.stream("single", 1, 20)
			d.startMilena(d.source.Addrs(), d.target.Addrs())
			d.untilMoved(time.Minute, d.topics...)

			broker := cluster.Broker(fullBroker)
			d.begin()
			file := fill(t, broker.DataDir())
			d.until(30*time.Second, "the broker stops", func() (bool, string) { return !broker.Running(), broker.DataDir() })
			t.Logf("the broker stopped after %.1f s", time.Since(d.began).Seconds())
			d.says(d.look(30*time.Second), map[string][]string{
				"source": {`single-0: no broker of the source, cluster source, leads the partition`},
				"target": {`still recovers 1 partition, such as single-0: no broker of the target, cluster target, leads the copy`, `single +1 +waiting \(target_no_leader\)`},
			}[side]...)
			d.untilMoved(30*time.Second, "orders")
			must(t, os.Remove(file))
			must(t, broker.Restart(ctx))
			d.over()
		})
	}
}
