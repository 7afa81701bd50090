package long_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/proxy"
	"github.com/milena-kafka/milena/e2e/verify"
)

// repairsOf are the repairs of topics.
func (x *repairs) repairsOf(topics []string) (list []*repair) {
	for _, r := range x.all {
		if slices.Contains(topics, r.topic) {
			list = append(list, r)
		}
	}
	return list
}

// refuseAndForget lets the target refuse a record of each topic, forget its producer, and write the records behind that one, which are sent already.
func (x *repairs) refuseAndForget(topics ...string) {
	x.t.Helper()
	const year = 365 * 24 * time.Hour
	list := x.repairsOf(topics)
	x.refuseOlderThan(3*year, topics...)
	for _, r := range list { // after a pause, a batch would be sent alone
		x.write(r, 1, x.age(r))
	}
	for _, r := range list {
		x.untilCopied(r)
	}
	must(x.t, x.clusters[1].Network(x.t.Context(), proxy.BlackHole))
	for _, r := range list {
		x.writeAndSend(r, 10*year)
	}
	for _, r := range list {
		x.writeAndSend(r, x.age(r))
		x.writeAndSend(r, x.age(r))
	}
	x.until("the target has forgotten the producers", func() (bool, string) {
		copies := kadm.TopicsSet{}
		for _, topic := range topics {
			copies.Add("source."+topic, 0)
		}
		described, err := x.onTarget.DescribeProducers(x.t.Context(), copies)
		known := 0
		described.EachProducer(func(kadm.DescribedProducer) { known++ })
		return err == nil && len(described) == len(topics) && known == 0, fmt.Sprintf("%d producers, %v", known, err)
	})
	must(x.t, x.clusters[1].Network(x.t.Context(), proxy.Pass))
	for _, r := range list {
		x.untilHalted(r)
	}
	x.refuseOlderThan(0, topics...)
}

// writeAndSend writes a record and waits until milena has sent it, whether or not the target answers.
func (x *repairs) writeAndSend(r *repair, age time.Duration) {
	x.t.Helper()
	sent := func() float64 {
		n, err := x.milena.Metric(x.t.Context(), "milena_batches_total", `lane="forward"`, fmt.Sprintf("topic=%q", r.topic))
		if err != nil {
			return 0
		}
		return n
	}
	before := sent()
	x.write(r, 1, age)
	x.until("milena sends it", func() (bool, string) { return sent() > before, fmt.Sprint(sent()) })
}

// truncate lets an unclean election remove records of topics that are copied, and writes others.
func (x *repairs) truncate(topics ...string) {
	x.t.Helper()
	ctx, source := x.t.Context(), x.clusters[0]
	list := x.repairsOf(topics)
	source.Broker(stale).Kill()
	must(x.t, source.WaitBrokers(ctx, 1))
	for _, r := range list {
		x.write(r, 5, 0)
		x.untilCopied(r)
	}
	source.Broker(leader).Kill()
	must(x.t, source.Broker(stale).Restart(ctx))
	for _, r := range list {
		x.until("the stale broker leads "+r.topic, func() (bool, string) {
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			ends, err := verify.ReadEnds(short, x.source, r.topic)
			return err == nil && ends.End[0] == 10, fmt.Sprint(ends, err)
		})
	}
	must(x.t, source.Broker(leader).Restart(ctx))
	must(x.t, kafka.WaitWhole(ctx, x.onSource, "source"))
	for _, r := range list {
		x.write(r, 3, 0)
	}
}
