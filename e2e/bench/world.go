package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/kafka"
)

// world is a pair of clusters. All cells with the same number of brokers use it, one after the other.
type world struct {
	dir            string
	jars           kafka.Jars
	keys           tlsKeys
	source, target *kafka.Cluster
	written        map[string]bool // data sets, by id
	runs           int             // of replicators
}

// newWorld starts the clusters. Every broker listens for plaintext, directly and behind a proxy, and for TLS.
func newWorld(ctx context.Context, jars kafka.Jars, dir string, brokers int) (*world, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	ca, err := kafka.NewAuthority("the benchmark's authority")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, jars: jars, keys: newKeys(dir), written: map[string]bool{}}
	cert, key, err := ca.Issue("replicator")
	if err != nil {
		return nil, err
	}
	for file, content := range map[string][]byte{w.keys.ca: ca.PEM, w.keys.client: slices.Concat(key, cert, ca.PEM)} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return nil, err
		}
	}
	heap := "1g"
	if brokers > 1 {
		heap = "512m"
	}
	cluster := func(name string) kafka.Options {
		return kafka.Options{
			Name: name, Dir: dir, Brokers: brokers, Proxied: true, Security: &kafka.Security{CA: ca},
			JVM: []string{"-Xms" + heap, "-Xmx" + heap, "-XX:+UseG1GC"},
			Properties: map[string]string{
				"log.segment.delete.delay.ms": "100",     // free the disk of a deleted copy before the next one
				"message.max.bytes":           "2097152", // batches of 1 MiB that do not compress
			},
		}
	}
	clusters, err := kafka.StartAll(ctx, jars, cluster("source"), cluster("target"))
	if err != nil {
		return nil, err
	}
	w.source, w.target = clusters[0], clusters[1]
	return w, nil
}

// close ends the brokers and deletes their data.
func (w *world) close() {
	for _, c := range []*kafka.Cluster{w.source, w.target} {
		for _, b := range c.Brokers() {
			b.Kill()
		}
	}
	_ = os.RemoveAll(w.dir)
}

// delay sets the round-trip time to one side.
func (b *bench) delay() {
	for side, c := range map[string]*kafka.Cluster{sourceSide: b.source, targetSide: b.target} {
		rtt, window := time.Duration(0), 0
		if b.side == side {
			rtt, window = b.rtt, b.window<<10
		}
		for _, broker := range c.Brokers() {
			broker.Proxy().SetRTT(rtt)
			broker.Proxy().SetWindow(window)
		}
	}
}

// prepare writes the data set to the source, unless an earlier cell did. The first one also warms up both clusters, so that cold brokers do not
// slow down the replicator that runs first.
func (b *bench) prepare(ctx context.Context) error {
	first := len(b.written) == 0
	if !b.written[b.id()] {
		b.say("writing %s", amount(int64(b.bytes)))
		if err := b.createTopics(ctx, b.source, b.topicNames()...); err != nil {
			return err
		}
		if err := b.fill(ctx, b.source, b.topicNames(), int64(b.bytes)); err != nil {
			return err
		}
		b.written[b.id()] = true
	}
	if !first {
		return nil
	}
	const warm = "warm-up"
	bytes := min(int64(b.bytes), 200e6)
	if err := b.createTopics(ctx, b.target, warm); err != nil {
		return err
	}
	if err := b.fill(ctx, b.target, []string{warm}, bytes); err != nil {
		return err
	}
	if err := drain(ctx, b.source, b.topicNames(), bytes); err != nil {
		return err
	}
	return b.clean(ctx)
}

// clean deletes what a replicator has left, so that the next one starts from nothing and has the disk: its copies and internal topics, its
// groups and their offsets. The groups are empty only when the replicator has left them.
func (b *bench) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("not deleted within two minutes"))
	defer cancel()
	for _, c := range []*kafka.Cluster{b.source, b.target} {
		for {
			left, err := b.cleanCluster(ctx, c)
			if err == nil && left == 0 {
				break
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%w: %d topics and groups of cluster %s are left: %w", context.Cause(ctx), left, c.Name(), err)
			}
		}
	}
	return nil
}

// cleanCluster returns how many topics and groups there were.
func (b *bench) cleanCluster(ctx context.Context, c *kafka.Cluster) (int, error) {
	left := 0
	err := c.Admin(func(adm *kadm.Client) error {
		topics, err := adm.ListTopics(ctx)
		if err != nil {
			return err
		}
		groups, err := adm.ListGroups(ctx)
		if err != nil {
			return err
		}
		var doomed []string
		for _, topic := range topics.Names() {
			if c == b.target || !b.isData(topic) {
				doomed = append(doomed, topic)
			}
		}
		left = len(doomed) + len(groups)
		if len(doomed) > 0 {
			deleted, err := adm.DeleteTopics(ctx, doomed...)
			if err = errors.Join(err, deleted.Error()); err != nil {
				return err
			}
		}
		if len(groups) > 0 {
			deleted, err := adm.DeleteGroups(ctx, groups.Groups()...)
			return errors.Join(err, deleted.Error())
		}
		return nil
	})
	return left, err
}

// isData reports whether a topic of the source belongs to a data set.
func (b *bench) isData(topic string) bool {
	i := strings.LastIndex(topic, "-")
	return i > 0 && b.written[topic[:i]] && len(topic)-i == len("-00")
}

// runDir is a new directory for the files of a replicator.
func (b *bench) runDir(r replicator) (string, error) {
	b.runs++
	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", strings.ReplaceAll(strings.ToLower(r.name()), " ", ""), b.runs))
	return dir, os.MkdirAll(dir, 0o755)
}
