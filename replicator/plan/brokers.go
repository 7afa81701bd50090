package plan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// brokerTimeout is how long one broker may take to answer. All are asked in parallel.
const brokerTimeout = 3 * time.Second

// checkBrokers warns of each broker that cannot be reached from here: the brokers in the config only tell the addresses of all, and the
// partitions that such a broker leads would wait for ever.
func (c *check) checkBrokers(ctx context.Context) {
	var source, target []string
	var wait sync.WaitGroup
	wait.Go(func() {
		source = unreachable(ctx, "source", c.flow.Source, c.sourceClient, c.source, c.clusters.SourceError)
	})
	wait.Go(func() {
		target = unreachable(ctx, "target", c.flow.Target, c.targetClient, c.target, c.clusters.TargetError)
	})
	wait.Wait()
	c.plan.Warnings = append(append(c.plan.Warnings, source...), target...)
}

// checkCertificates warns of a client certificate that expires soon.
func (c *check) checkCertificates(now time.Time) {
	for _, text := range client.Expiring(c.clusters.Source, now) {
		c.warn("source, cluster %s: %s", c.flow.Source, text)
	}
	for _, text := range client.Expiring(c.clusters.Target, now) {
		c.warn("target, cluster %s: %s", c.flow.Target, text)
	}
}

// unreachable asks every broker of a cluster, and returns a sentence about each that does not answer.
func unreachable(ctx context.Context, side, alias string, cl *kgo.Client, view topics.View, explain func(error) error) (sentences []string) {
	answers := askBrokers(ctx, cl, view)
	for _, id := range slices.Sorted(maps.Keys(answers)) {
		if err := answers[id].err; err != nil {
			sentences = append(sentences, fmt.Sprintf("broker %d (%s) of the %s, cluster %s, cannot be reached from here, so partitions that it leads would wait; "+
				"check the broker, its advertised.listeners and the network: %v", id, view.Brokers[id], side, alias, explain(err)))
		}
	}
	return sentences
}

// brokerAnswer is which requests a broker knows, or why it does not answer.
type brokerAnswer struct {
	versions *kmsg.ApiVersionsResponse
	err      error
}

// askBrokers asks every broker of a cluster, all in parallel.
func askBrokers(ctx context.Context, cl *kgo.Client, view topics.View) map[int32]brokerAnswer {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	var mu sync.Mutex
	var wait sync.WaitGroup
	answers := make(map[int32]brokerAnswer)
	for id := range view.Brokers {
		wait.Go(func() {
			var answer brokerAnswer
			request := kmsg.NewPtrApiVersionsRequest()
			request.ClientSoftwareName, request.ClientSoftwareVersion = "milena", "1" // brokers refuse empty ones (KIP-511)
			response, err := cl.Broker(int(id)).Request(ctx, request)
			if answer.err = err; err == nil {
				answer.versions = response.(*kmsg.ApiVersionsResponse)
				answer.err = kerr.ErrorForCode(answer.versions.ErrorCode)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[id] = answer
		})
	}
	wait.Wait()
	return answers
}
