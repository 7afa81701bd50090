package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// A chain a→b→c, and beside it a→c, so that c has two copies of the same topic. A group of a is known at every stop.
func TestGroupsTravelAlongAChain(t *testing.T) {
	jars := realKafka(t)
	ctx := t.Context()
	random := seeded(t)
	p := &pair{t: t, owner: t, dir: dir(t)}
	var options []kafka.Options
	names := []string{"a", "b", "c"}
	for _, name := range names {
		options = append(options, kafka.Options{Name: name, Dir: p.dir})
	}
	list, err := kafka.StartAll(ctx, jars, options...)
	check(t, err)
	clusters, clients, admins := map[string]*kafka.Cluster{}, map[string]*kgo.Client{}, map[string]*kadm.Client{}
	config := daemon.Map{"clusters": daemon.Map{}}
	for i, name := range names {
		clusters[name], clients[name] = list[i], client(t, list[i])
		admins[name] = kadm.NewClient(clients[name])
		config["clusters"].(daemon.Map)[name] = daemon.Map{"brokers": list[i].Addrs()}
	}
	config["flows"] = []daemon.Map{
		{"source": "a", "target": "b", "topics": []string{".*"}}, {"source": "b", "target": "c", "topics": []string{".*"}}, {"source": "a", "target": "c", "topics": []string{".*"}},
	}
	for _, name := range []string{"a", "b"} {
		check(t, createTopic(ctx, admins[name], "orders", 2, 1))
		check(t, createTopic(ctx, admins[name], "sales", 2, 1))
		w, err := load.New(clusters[name], load.Options{Topic: "orders", Partitions: 2, Shapes: []load.Shape{load.Sized(100)}})
		check(t, err)
		defer w.Close()
		check(t, w.Write(ctx, 700))
		_, err = load.Transactions(ctx, clusters[name], load.Options{Topic: "sales", Partitions: 2}, 40, 20)
		check(t, err)
	}
	m := p.newMilena("milena", lookOften(config))
	m.start()
	m.waitReady(30 * time.Second)

	// Where each topic of a and b goes.
	type way struct {
		from, topic string
		stops       []string // cluster/topic
	}
	var ways []way
	for _, topic := range []string{"orders", "sales"} {
		ways = append(ways,
			way{"a", topic, []string{"b/a." + topic, "c/b.a." + topic, "c/a." + topic}},
			way{"b", topic, []string{"c/b." + topic}},
		)
	}
	t.Run("records come along every way, once", func(t *testing.T) {
		for _, w := range ways {
			for _, stop := range w.stops {
				cluster, topic, _ := strings.Cut(stop, "/")
				want := readContents(t, clients[w.from], w.topic)
				eventually(t, 30*time.Second, "all is in "+stop, func() (bool, string) {
					all, err := admins[cluster].ListTopics(ctx)
					if err != nil || !all.Has(topic) {
						return false, fmt.Sprint(err, all.Names())
					}
					got := readContents(t, clients[cluster], topic)
					return len(got[0]) == len(want[0]) && len(got[1]) == len(want[1]), fmt.Sprintf("%d and %d of %d and %d", len(got[0]), len(got[1]), len(want[0]), len(want[1]))
				})
				report, err := verify.Run(within(t, time.Minute, "the verifier ends"), clients[w.from], clients[cluster], verify.Options{Topics: []string{w.topic}, Name: func(string) string { return topic }})
				check(t, err)
				if len(report.Differences) > 0 {
					t.Errorf("%s: %v", stop, report.Differences)
				}
			}
		}
		// c is the end: nothing of it goes anywhere, and nothing came twice under another name.
		for cluster, want := range map[string][]string{
			"a": {"heartbeats", "orders", "sales"},
			"b": {"a.heartbeats", "a.orders", "a.sales", "heartbeats", "orders", "sales"},
			"c": {"a.heartbeats", "a.orders", "a.sales", "b.a.heartbeats", "b.a.orders", "b.a.sales", "b.heartbeats", "b.orders", "b.sales", "heartbeats"},
		} {
			eventually(t, 30*time.Second, "the topics of "+cluster+" are as they must be", func() (bool, string) {
				all, err := admins[cluster].ListTopics(ctx)
				check(t, err)
				users := slices.DeleteFunc(all.Names(), func(topic string) bool {
					return strings.HasPrefix(topic, "__") || strings.HasPrefix(topic, "milena.") || strings.HasSuffix(topic, ".internal")
				})
				return slices.Equal(users, want), fmt.Sprintf("%v, want %v", users, want)
			})
		}
	})
	t.Run("groups come along every way, exactly", func(t *testing.T) {
		groups := map[string][]string{"a": {"zero", "end", "random-0", "random-1", "random-2"}, "b": {"b-zero", "b-end", "b-random"}}
		for _, from := range []string{"a", "b"} {
			for _, group := range groups[from] {
				at := somewhere(t, random, clients[from], "orders", "sales")
				for topic, partitions := range endsOf(t, clients[from], "orders", "sales") {
					for partition, end := range partitions {
						switch {
						case strings.HasSuffix(group, "zero"):
							at.set(topic, partition, 0)
						case strings.HasSuffix(group, "end"):
							at.set(topic, partition, end)
						}
						commitGroup(t, admins[from], group, topic, partition, at[topic][partition], "")
					}
				}
			}
		}
		m.Kill()
		m.start()
		m.waitReady(30 * time.Second)
		judge := func() (o outcome) {
			for _, w := range ways {
				were := readGroups(t, admins[w.from], groups[w.from])
				for _, stop := range w.stops {
					cluster, topic, _ := strings.Cut(stop, "/")
					o = o.plus(move{
						from: w.topic, to: topic, before: readContents(t, clients[w.from], w.topic), after: readContents(t, clients[cluster], topic),
						were: were, are: readGroups(t, admins[cluster], groups[w.from]), groups: groups[w.from],
					}.judge())
				}
			}
			return o
		}
		var o outcome
		eventually(t, 30*time.Second, "all groups are everywhere", func() (bool, string) {
			o = judge()
			return o.unknown+o.again == 0, o.String() // a copy that is not there yet holds a group back for one look
		})
		t.Log(o)
		if o.skipped+o.again > 0 || o.positions != 2*2*(3*5+3) {
			t.Errorf("%s", o)
		}
	})
	t.Run("Java counts the hops", func(t *testing.T) {
		for alias, remote := range map[string]string{"a": "a.orders", "b": "b.a.orders"} {
			out := askJava(t, clusters["c"], alias, "end")
			for _, want := range []string{
				"upstreamClusters=[a, b]\n", "replicationHops=1\n", "heartbeatTopics=[a.heartbeats, b.a.heartbeats, b.heartbeats, heartbeats]\n",
				"checkpointTopics=[a.checkpoints.internal, b.checkpoints.internal]\n", remote + "-0=", remote + "-1=",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("of %s Java says\n%s\nwant %s", alias, out, want)
				}
			}
		}
	})
	m.stop()
}
