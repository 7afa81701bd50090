package topics

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
)

// answerConfigs lets a cluster describe any topic with one config, as the brokers of Kafka do in the same bytes each time, which those of kfake do
// not. The answers are throttled by another time each.
func answerConfigs(cluster *kfake.Cluster, name string, value *string) {
	throttle := int32(0)
	cluster.ControlKey(int16(kmsg.DescribeConfigs), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.DescribeConfigsResponse)
		throttle = 1 - throttle
		response.ThrottleMillis = throttle
		for _, r := range request.(*kmsg.DescribeConfigsRequest).Resources {
			resource := kmsg.NewDescribeConfigsResponseResource()
			resource.ResourceType, resource.ResourceName = r.ResourceType, r.ResourceName
			c := kmsg.NewDescribeConfigsResponseResourceConfig()
			c.Name, c.Source = name, kmsg.ConfigSourceDynamicTopicConfig
			text := *value
			c.Value = &text
			resource.Configs = append(resource.Configs, c)
			response.Resources = append(response.Resources, resource)
		}
		return response, nil, true
	})
}

// What both clusters have said before, and nothing was to be done, says the same again; anything else is compared.
func TestSyncConfigsSkipsWhatIsSettled(t *testing.T) {
	test := newTopicsTest(t, func(f *config.Flow) { f.Naming = config.NamingIdentity })
	test.create(test.source, "a", 1, nil)
	test.create(test.target, "a", 1, nil)
	source, target := "1000", "1000"
	answerConfigs(test.source, "max.message.bytes", &source)
	answerConfigs(test.target, "max.message.bytes", &target)
	alters := test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.IncrementalAlterConfigs}, Observe: true, Count: -1})
	pairs, _ := test.selectTopics()
	pass := func(what string, altered, settled int, most int32) {
		t.Helper()
		before := alters.Hits()
		limits, errs := test.SyncConfigs(t.Context(), pairs)
		if len(errs) > 0 {
			t.Fatal(what, errs)
		}
		if diff := cmp.Diff(map[string]Limits{"a": {MaxMessageBytes: most}}, limits); diff != "" {
			t.Error(what, diff)
		}
		if n := alters.Hits() - before; n != altered || len(test.settled.limits) != settled {
			t.Errorf("%s: %d alterations and %d settled answers, want %d and %d", what, n, len(test.settled.limits), altered, settled)
		}
	}
	pass("both are equal", 0, 1, 1000)
	pass("nothing has changed", 0, 1, 1000)
	source = "2000"
	pass("the source has changed", 1, 1, 1000)
	pass("the target has not followed", 1, 1, 1000)
	target = "2000"
	pass("the target has followed", 0, 2, 2000)
	source, target = "1000", "1000"
	pass("both are as before", 0, 2, 1000)
}

// Brokers that answer in another order each time do not fill the memory.
func TestSettledConfigsAreFew(t *testing.T) {
	var s settledConfigs
	for n := range uint64(200) {
		s.add(configSums{source: sum{n}}, map[string]Limits{}, 2)
		if s.of(configSums{source: sum{n}}) == nil {
			t.Fatalf("%d: the newest answer is not remembered", n)
		}
	}
	if n := len(s.limits); n > 2*maxSettled {
		t.Errorf("%d answers are remembered, want %d at most", n, 2*maxSettled)
	}
}
