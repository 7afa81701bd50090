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

// topology is three clusters, a, b and c, and one milena that runs all flows between them. The pair in it only serves to start milena.
type topology struct {
	*pair
	clusters map[string]*kafka.Cluster
	clients  map[string]*kgo.Client
	admins   map[string]*kadm.Client
}

func startTopology(t *testing.T) *topology {
	t.Helper()
	jars := requireKafka(t)
	top := &topology{
		pair: &pair{t: t, owner: t, dir: dir(t)}, clusters: map[string]*kafka.Cluster{}, clients: map[string]*kgo.Client{}, admins: map[string]*kadm.Client{},
	}
	var options []kafka.Options
	for _, name := range clusterNames() {
		options = append(options, kafka.Options{Name: name, Dir: top.dir})
	}
	started, err := kafka.StartAll(t.Context(), jars, options...)
	check(t, err)
	for i, name := range clusterNames() {
		top.clusters[name], top.clients[name] = started[i], client(t, started[i])
		top.admins[name] = kadm.NewClient(top.clients[name])
	}
	return top
}

func clusterNames() []string { return []string{"a", "b", "c"} }

// runMilena starts a milena with flows for all topics, each written as source->target.
func (top *topology) runMilena(flows ...string) *milena {
	top.t.Helper()
	clusters, list := daemon.Map{}, []daemon.Map{}
	for name, c := range top.clusters {
		clusters[name] = daemon.Map{"brokers": c.Addrs()}
	}
	for _, flow := range flows {
		source, target, _ := strings.Cut(flow, "->")
		list = append(list, daemon.Map{"source": source, "target": target, "topics": []string{".*"}})
	}
	return top.startMilena(syncGroupsOften(daemon.Map{"clusters": clusters, "flows": list}))
}

// writeOrders creates topic orders with two partitions on a cluster and writes n records to each.
func (top *topology) writeOrders(cluster string, n int) {
	top.t.Helper()
	ctx := top.t.Context()
	check(top.t, kafka.CreateTopic(ctx, top.admins[cluster], "orders", 2, 1))
	w, err := load.New(top.clusters[cluster], load.Options{Topic: "orders", Partitions: 2, Shapes: []load.Shape{load.Sized(100)}})
	check(top.t, err)
	defer w.Close()
	check(top.t, w.Write(ctx, n))
}

// waitTopics waits until the topics of a cluster for which keep returns true are these.
func (top *topology) waitTopics(t *testing.T, cluster string, want []string, keep func(string) bool) {
	t.Helper()
	eventually(t, 30*time.Second, "cluster "+cluster+" has the expected topics", func() (bool, string) {
		all, err := top.admins[cluster].ListTopics(t.Context())
		check(t, err)
		got := slices.DeleteFunc(all.Names(), func(topic string) bool { return !keep(topic) })
		return slices.Equal(got, want), fmt.Sprintf("%v, want %v", got, want)
	})
}

// path is a topic and its copies, in the order in which they are created; each copy is written as cluster/topic.
type path struct {
	cluster, topic string
	copies         []string
}

func chainPaths() []path {
	var paths []path
	for _, topic := range []string{"orders", "sales"} {
		paths = append(paths,
			path{"a", topic, []string{"b/a." + topic, "c/b.a." + topic, "c/a." + topic}},
			path{"b", topic, []string{"c/b." + topic}},
		)
	}
	return paths
}

// A chain a->b->c, and beside it a->c, so that c has two copies of the same topic. Groups of a are translated along both paths.
func TestChainOfClusters(t *testing.T) {
	t.Parallel()
	top := startTopology(t)
	for _, name := range []string{"a", "b"} {
		top.writeOrders(name, 700)
		check(t, kafka.CreateTopic(t.Context(), top.admins[name], "sales", 2, 1))
		_, err := load.Transactions(t.Context(), top.clusters[name], load.Options{Topic: "sales", Partitions: 2}, 40, 20)
		check(t, err)
	}
	m := top.runMilena("a->b", "b->c", "a->c")
	t.Run("every copy has every record once", top.chainRecords)
	t.Run("no other topics are created", top.chainTopics)
	groups := top.commitChainGroups(t)
	m.Kill()
	m.start()
	m.waitReady(30 * time.Second)
	t.Run("groups are translated exactly along every path", func(t *testing.T) { top.chainGroups(t, groups) })
	t.Run("Java counts the hops", func(t *testing.T) {
		for alias, remote := range map[string]string{"a": "a.orders", "b": "b.a.orders"} {
			top.javaSees(t, "c", alias, []string{"end"},
				"upstreamClusters=[a, b]\n", "replicationHops=1\n", "heartbeatTopics=[a.heartbeats, b.a.heartbeats, b.heartbeats, heartbeats]\n",
				"checkpointTopics=[a.checkpoints.internal, b.checkpoints.internal]\n", remote+"-0=", remote+"-1=")
		}
	})
	m.stop()
}

func (top *topology) chainRecords(t *testing.T) {
	for _, p := range chainPaths() {
		for _, remote := range p.copies {
			cluster, topic, _ := strings.Cut(remote, "/")
			want := readContents(t, top.clients[p.cluster], p.topic)
			eventually(t, 30*time.Second, remote+" is complete", func() (bool, string) {
				all, err := top.admins[cluster].ListTopics(t.Context())
				if err != nil || !all.Has(topic) {
					return false, fmt.Sprint(err, all.Names())
				}
				got := readContents(t, top.clients[cluster], topic)
				return len(got[0]) == len(want[0]) && len(got[1]) == len(want[1]), fmt.Sprintf("%d and %d of %d and %d records", len(got[0]), len(got[1]), len(want[0]), len(want[1]))
			})
			report, err := verify.Run(within(t, time.Minute, "the verifier ends"), top.clients[p.cluster], top.clients[cluster],
				verify.Options{Topics: []string{p.topic}, Name: func(string) string { return topic }})
			check(t, err)
			if len(report.Differences) > 0 {
				t.Errorf("%s: %v", remote, report.Differences)
			}
		}
	}
}

// chainTopics checks that c, the end of the chain, is copied nowhere, and that no topic is copied under a second name.
func (top *topology) chainTopics(t *testing.T) {
	for cluster, want := range map[string][]string{
		"a": {"heartbeats", "orders", "sales"},
		"b": {"a.heartbeats", "a.orders", "a.sales", "heartbeats", "orders", "sales"},
		"c": {"a.heartbeats", "a.orders", "a.sales", "b.a.heartbeats", "b.a.orders", "b.a.sales", "b.heartbeats", "b.orders", "b.sales", "heartbeats"},
	} {
		top.waitTopics(t, cluster, want, func(topic string) bool {
			return !strings.HasPrefix(topic, "__") && !strings.HasPrefix(topic, "milena.") && !strings.HasSuffix(topic, ".internal")
		})
	}
}

// commitChainGroups commits groups of a and b at the beginning, at the end and at random offsets, and returns them by cluster.
func (top *topology) commitChainGroups(t *testing.T) map[string][]string {
	t.Helper()
	random := seeded(t)
	groups := map[string][]string{"a": {"zero", "end", "random-0", "random-1", "random-2"}, "b": {"b-zero", "b-end", "b-random"}}
	for _, cluster := range []string{"a", "b"} {
		ends := endOffsets(t, top.clients[cluster], "orders", "sales")
		for _, group := range groups[cluster] {
			at := randomOffsets(t, random, top.clients[cluster], "orders", "sales")
			for topic, partitions := range ends {
				for partition, end := range partitions {
					switch {
					case strings.HasSuffix(group, "zero"):
						at.set(topic, partition, 0)
					case strings.HasSuffix(group, "end"):
						at.set(topic, partition, end)
					}
					commitOffset(t, top.admins[cluster], group, topic, partition, at[topic][partition], "")
				}
			}
		}
	}
	return groups
}

func (top *topology) chainGroups(t *testing.T, groups map[string][]string) {
	var o outcome
	eventually(t, 30*time.Second, "all groups are translated along all paths", func() (bool, string) {
		o = outcome{}
		for _, p := range chainPaths() {
			committed := readCommitted(t, top.admins[p.cluster], groups[p.cluster])
			for _, remote := range p.copies {
				cluster, topic, _ := strings.Cut(remote, "/")
				o = o.add(groupMove{
					from: p.topic, fromRecords: readContents(t, top.clients[p.cluster], p.topic), fromOffsets: committed,
					to: topic, toRecords: readContents(t, top.clients[cluster], topic), toOffsets: readCommitted(t, top.admins[cluster], groups[p.cluster]),
					groups: groups[p.cluster],
				}.outcome())
			}
		}
		return o.missing+o.reread == 0, o.String() // a copy that does not exist yet holds its groups back for one sync
	})
	t.Log(o)
	if o.skipped+o.reread > 0 || o.offsets != 2*2*(3*5+3) {
		t.Errorf("%s", o)
	}
}

// javaSees checks what Kafka's MirrorClient finds on a cluster about a source.
func (top *topology) javaSees(t *testing.T, cluster, source string, groups []string, want ...string) {
	t.Helper()
	out := askJava(t, top.clusters[cluster], source, groups...)
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("on %s of %s Java reports\n%s\nwant %s", cluster, source, out, w)
		}
	}
}

const ringRecords = 300 // per partition

// ringSources are the source of a cluster in the ring a->b->c->a, and that source's source.
func ringSources(cluster string) (near, far string) {
	source := map[string]string{"a": "c", "b": "a", "c": "b"}
	return source[cluster], source[source[cluster]]
}

// In a ring a->b->c->a each record reaches every cluster and never returns to the cluster it was produced on.
func TestRingOfClusters(t *testing.T) {
	t.Parallel()
	top := startTopology(t)
	for _, name := range clusterNames() {
		top.writeOrders(name, ringRecords)
	}
	m := top.runMilena("a->b", "b->c", "c->a")
	for _, name := range clusterNames() {
		t.Run("records of all clusters reach "+name, func(t *testing.T) { top.ringComplete(t, name) })
	}
	t.Run("no record circulates", func(t *testing.T) {
		pause(t, 3*time.Second) // longer than milena takes to find and copy a new topic
		for _, name := range clusterNames() {
			topics, err := top.admins[name].ListTopics(t.Context())
			check(t, err)
			for _, topic := range topics.Names() {
				if strings.Count(topic, ".") > 2 || strings.HasPrefix(topic, name+".") && !strings.HasSuffix(topic, ".internal") {
					t.Errorf("%s has topic %s", name, topic)
				}
			}
			top.verifyRing(t, name)
		}
	})
	t.Run("Java counts the hops around the ring", func(t *testing.T) {
		top.javaSees(t, "a", "b", nil, "upstreamClusters=[b, c]", "replicationHops=2", "heartbeatTopics=[c.b.heartbeats, c.heartbeats, heartbeats]")
	})
	m.stop()
}

// ringComplete waits until a cluster has the records and heartbeats of the two others.
func (top *topology) ringComplete(t *testing.T, cluster string) {
	near, far := ringSources(cluster)
	eventually(t, 30*time.Second, "all records have reached "+cluster, func() (bool, string) {
		for _, topic := range []string{near + ".orders", near + "." + far + ".orders"} {
			ends, err := verify.ReadEnds(t.Context(), top.clients[cluster], topic)
			if err != nil {
				return false, err.Error()
			}
			if n := ends.End[0] + ends.End[1]; n < 2*ringRecords {
				return false, fmt.Sprintf("%s has %d records", topic, n)
			}
		}
		return true, ""
	})
	want := []string{near + ".heartbeats", near + ".orders", near + "." + far + ".heartbeats", near + "." + far + ".orders", "heartbeats", "orders"}
	slices.Sort(want)
	top.waitTopics(t, cluster, want, func(topic string) bool {
		return strings.HasSuffix(topic, "orders") || strings.HasSuffix(topic, "heartbeats")
	})
	top.verifyRing(t, cluster)
}

// verifyRing compares the copies on a cluster with the topics they come from.
func (top *topology) verifyRing(t *testing.T, cluster string) {
	t.Helper()
	near, far := ringSources(cluster)
	for source, name := range map[string]string{cluster: "orders", near: near + ".orders", far: near + "." + far + ".orders"} {
		report, err := verify.Run(within(t, time.Minute, "the verifier ends"), top.clients[source], top.clients[cluster],
			verify.Options{Topics: []string{"orders"}, Name: func(string) string { return name }})
		check(t, err)
		if report.Records != 2*ringRecords || len(report.Differences) > 0 {
			t.Errorf("%s on %s: %d records are equal, want %d; %v", name, cluster, report.Records, 2*ringRecords, report.Differences)
		}
	}
}
