// Package kafkatest provides fake in-process Kafka clusters for tests, and helpers for topics, configs and ACLs on any cluster. All helpers
// fail the test on errors.
package kafkatest

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// New starts a fake cluster of one broker, unless opts say otherwise. It is closed when the test ends.
func New(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// Client creates a client of a cluster. It is closed when the test ends.
func Client(t testing.TB, cluster *kfake.Cluster) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// CreateTopic creates a topic.
func CreateTopic(t testing.TB, cluster *kfake.Cluster, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	if err := cluster.CreateTopic(topic, partitions, configs); err != nil {
		t.Fatal(err)
	}
}

// TopicConfigs returns the configs that are set on a topic itself.
func TopicConfigs(t testing.TB, client *kgo.Client, topic string) map[string]string {
	t.Helper()
	described, err := kadm.NewClient(client).DescribeTopicConfigs(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	configs, err := described.On(topic, nil)
	if err != nil || configs.Err != nil {
		t.Fatal(err, configs.Err)
	}
	set := map[string]string{}
	for _, c := range configs.Configs {
		if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
			set[c.Key] = c.MaybeValue()
		}
	}
	return set
}

// Grant creates an ACL for a user on a topic, or on all topics with a prefix if topic ends with +. The permission is ALLOW or DENY, the
// operation a name such as READ.
func Grant(t testing.TB, client *kgo.Client, permission, operation, user, topic string) {
	t.Helper()
	name, prefixed := strings.CutSuffix(topic, "+")
	pattern := kadm.ACLPatternLiteral
	if prefixed {
		pattern = kadm.ACLPatternPrefixed
	}
	op, err := kmsg.ParseACLOperation(operation)
	if err != nil {
		t.Fatal(err)
	}
	b := kadm.NewACLs().Topics(name).ResourcePatternType(pattern).Operations(op)
	if permission == "DENY" {
		b = b.Deny("User:" + user).DenyHosts("*")
	} else {
		b = b.Allow("User:" + user).AllowHosts("*")
	}
	results, err := kadm.NewClient(client).CreateACLs(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// Revoke deletes all ACLs of a user.
func Revoke(t testing.TB, client *kgo.Client, user string) {
	t.Helper()
	b := kadm.NewACLs().AnyResource().ResourcePatternType(kadm.ACLPatternAny).Operations().
		Allow("User:" + user).AllowHosts().Deny("User:" + user).DenyHosts()
	if _, err := kadm.NewClient(client).DeleteACLs(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// TopicACLs returns the ACLs of all topics as "PERMISSION OPERATION principal pattern name", sorted.
func TopicACLs(t testing.TB, client *kgo.Client) []string {
	t.Helper()
	b := kadm.NewACLs().Topics().ResourcePatternType(kadm.ACLPatternAny).Operations().Allow().AllowHosts().Deny().DenyHosts()
	results, err := kadm.NewClient(client).DescribeACLs(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		for _, d := range r.Described {
			list = append(list, strings.Join([]string{d.Permission.String(), d.Operation.String(), d.Principal, d.Pattern.String(), d.Name}, " "))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// AnswerGroups lets a cluster list groups of these protocols, by their names, and no others.
func AnswerGroups(cluster *kfake.Cluster, protocols map[string]string) {
	cluster.ControlKey(int16(kmsg.ListGroups), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.ListGroupsResponse)
		for name, protocol := range protocols {
			g := kmsg.NewListGroupsResponseGroup()
			g.Group, g.ProtocolType, g.GroupState = name, protocol, "Empty"
			response.Groups = append(response.Groups, g)
		}
		return response, nil, true
	})
}
