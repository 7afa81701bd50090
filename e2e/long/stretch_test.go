package long_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// stretched is a cluster of four brokers at two sites. Brokers 1 and 2 are at the site of milena.
func stretched(voters ...int) kafka.Options {
	return kafka.Options{
		Brokers: 4, Sites: &kafka.Sites{First: []int{1, 2}, Voters: voters},
		Properties: map[string]string{
			"default.replication.factor": "4", "offsets.topic.replication.factor": "4", "transaction.state.log.replication.factor": "4", "offsets.topic.num.partitions": "2",
			"transaction.state.log.num.partitions": "2", "controller.quorum.fetch.timeout.ms": "2000", "controller.quorum.election.timeout.ms": "1000", "request.timeout.ms": "5000",
		},
	}
}

// Where the replicas of topics are: at both sites, with leaders at both; at the site of milena; at the other one.
func acrossSites() [][]int32 {
	return [][]int32{{1, 3, 2, 4}, {3, 1, 4, 2}, {2, 4, 1, 3}, {4, 2, 3, 1}}
}
func hereOnly() [][]int32  { return [][]int32{{1, 2}, {2, 1}} }
func thereOnly() [][]int32 { return [][]int32{{3, 4}, {4, 3}} }

// The sites of a stretched source lose the line between them. Milena sees two of its four brokers.
func TestStretchedSource(t *testing.T) {
	for _, c := range []struct {
		name   string
		voters []int
		says   []string
	}{
		{"the quorum is at the site of milena", []int{1, 2, 3}, []string{`there-0: no broker of the source, cluster source, leads the partition`}},
		{"no site has a quorum", []int{1, 2, 3, 4}, []string{`the lag is not known of \d partitions`, `cluster source: brokers 1, 2 do not reach the active controller since`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisaster(t, stretched(c.voters...), kafka.Options{})
			ctx := t.Context()
			at := func(site int) kgo.Opt { return kgo.SeedBrokers(d.source.SiteAddrs(site)...) }
			must(t, kafka.AssignTopic(ctx, d.sourceClient, "wide", acrossSites(), "min.insync.replicas=2"))
			must(t, kafka.AssignTopic(ctx, d.sourceClient, "here", hereOnly()))
			must(t, kafka.AssignTopic(ctx, d.sourceClient, "there", thereOnly()))
			d.stream("wide", 4, 100, at(0))
			d.stream("here", 2, 50, at(0))
			d.stream("there", 2, 50, at(1))
			d.startMilena(d.source.SiteAddrs(0), d.target.Addrs())
			d.untilMoved(time.Minute, d.topics...)

			d.begin()
			must(t, d.source.Between(ctx, proxy.BlackHole))
			d.says(d.look(32*time.Second), c.says...)
			d.untilMoved(20*time.Second, "here")
			d.wantCompleteUpTo(d.began)
			must(t, d.source.Between(ctx, proxy.Pass))
			d.over()
		})
	}
}

// The line between the sites is cut, the quorum is at the other site, and so is the producer. The brokers at the site of milena still believe that they lead
// everything, and answer as ever. The copy is not complete beyond the cut all the same, and milena says so.
func TestStretchedSourceOfOldLeaders(t *testing.T) {
	d := newDisaster(t, stretched(2, 3, 4), kafka.Options{})
	d.heartbeats = false
	ctx := t.Context()
	must(t, kafka.AssignTopic(ctx, d.sourceClient, "wide", [][]int32{{1, 3, 2, 4}, {2, 4, 1, 3}}, "min.insync.replicas=2"))
	d.stream("wide", 2, 100, kgo.SeedBrokers(d.source.SiteAddrs(1)...))
	d.startMilena(d.source.SiteAddrs(0), d.target.Addrs())
	d.untilMoved(time.Minute, "wide")

	d.begin()
	must(t, d.source.Between(ctx, proxy.BlackHole))
	d.says(d.look(32*time.Second), `cluster source: brokers 1, 2 do not reach the active controller since`)
	d.wantCompleteUpTo(d.began)
	must(t, d.source.Between(ctx, proxy.Pass))
	d.over()
}

// The sites of a stretched target lose the line between them. Milena sees two of its four brokers.
func TestStretchedTarget(t *testing.T) {
	for _, c := range []struct {
		name   string
		voters []int
		goOn   []string
		says   []string
	}{
		{"the quorum is at the site of milena", []int{1, 2, 3}, []string{"wide", "here"}, []string{`there +0.*no broker of the target, cluster target, leads the copy`}},
		{"no site has a quorum", []int{1, 2, 3, 4}, nil, []string{`cluster target: brokers 1, 2 do not reach the active controller since`}},
		{"the quorum is at the other site", []int{2, 3, 4}, nil, []string{`cluster target: brokers 1, 2 do not reach the active controller since`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisaster(t, kafka.Options{}, stretched(c.voters...))
			ctx := t.Context()
			for topic, replicas := range map[string][][]int32{"wide": acrossSites(), "here": hereOnly(), "there": thereOnly()} {
				must(t, kafka.AssignTopic(ctx, d.targetClient, remote(topic), replicas))
				must(t, kafka.CreateTopic(ctx, kadm.NewClient(d.sourceClient), topic, len(replicas), 1))
			}
			d.stream("wide", 4, 100)
			d.stream("here", 2, 50)
			d.stream("there", 2, 50)
			d.startMilena(d.source.Addrs(), d.target.SiteAddrs(0))
			d.untilMoved(time.Minute, d.topics...)

			d.begin()
			must(t, d.target.Between(ctx, proxy.BlackHole))
			d.says(d.look(32*time.Second), c.says...)
			d.untilMoved(20*time.Second, c.goOn...)
			d.wantCompleteUpTo(d.began)
			must(t, d.target.Between(ctx, proxy.Pass))
			d.over()
		})
	}
}
