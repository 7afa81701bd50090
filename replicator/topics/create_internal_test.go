package topics

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// refuseCreates makes a cluster answer CreateTopics requests with an error for the topics for which refuse returns a sentence. It counts the
// requests.
func refuseCreates(cluster *kfake.Cluster, code *kerr.Error, refuse func(request *kmsg.CreateTopicsRequest, topic kmsg.CreateTopicsRequestTopic) string) (requests *int) {
	requests = new(int)
	cluster.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		*requests++
		request := r.(*kmsg.CreateTopicsRequest)
		response := request.ResponseKind().(*kmsg.CreateTopicsResponse)
		var accepted []kmsg.CreateTopicsRequestTopic
		for _, topic := range request.Topics {
			text := refuse(request, topic)
			if text == "" {
				accepted = append(accepted, topic)
				continue
			}
			answer := kmsg.NewCreateTopicsResponseTopic()
			answer.Topic, answer.ErrorCode, answer.ErrorMessage = topic.Topic, code.Code, &text
			response.Topics = append(response.Topics, answer)
		}
		if len(accepted) == len(request.Topics) {
			return nil, nil, false
		}
		for _, topic := range accepted {
			answer := kmsg.NewCreateTopicsResponseTopic()
			answer.Topic = topic.Topic
			if !request.ValidateOnly {
				configs := map[string]string{}
				for _, c := range topic.Configs {
					configs[c.Name] = *c.Value
				}
				if err := cluster.CreateTopic(topic.Topic, topic.NumPartitions, configs); err != nil {
					answer.ErrorCode = kerr.UnknownServerError.Code
				}
			}
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, true
	})
	return requests
}

func setsConfig(topic kmsg.CreateTopicsRequestTopic, name string) bool {
	return slices.ContainsFunc(topic.Configs, func(c kmsg.CreateTopicsRequestTopicConfig) bool { return c.Name == name })
}

// The configs of milena's own topics are wishes, each for itself. What a preview says is what happens.
func TestOwn_configsAreWishes(t *testing.T) {
	journal := Own{Name: "milena.f.journal", Partitions: 4, SmallSegments: true}
	for name, test := range map[string]struct {
		refused []string
		want    map[string]string // nil: the topic cannot be created
		left    []string
	}{
		"none":         {nil, map[string]string{"cleanup.policy": "compact", "segment.bytes": "16777216", "segment.ms": "3600000"}, nil},
		"one":          {[]string{"segment.bytes"}, map[string]string{"cleanup.policy": "compact", "segment.ms": "3600000"}, []string{"segment.bytes"}},
		"all":          {[]string{"segment.bytes", "segment.ms"}, map[string]string{"cleanup.policy": "compact"}, []string{"segment.bytes", "segment.ms"}},
		"what must be": {[]string{"cleanup.policy"}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := kafkatest.New(t)
			client := kafkatest.Client(t, cluster)
			refuseCreates(cluster, kerr.PolicyViolation, func(_ *kmsg.CreateTopicsRequest, topic kmsg.CreateTopicsRequestTopic) string {
				for _, name := range test.refused {
					if setsConfig(topic, name) {
						return "Config " + name + " is not yours to set"
					}
				}
				return ""
			})
			for _, do := range []func() ([]LeftOut, error){
				func() ([]LeftOut, error) { return journal.Preview(t.Context(), client, "dr") },
				func() ([]LeftOut, error) {
					_, left, err := journal.Create(t.Context(), client, "dr")
					return left, err
				},
			} {
				left, err := do()
				if test.want == nil {
					if !errors.Is(err, kerr.PolicyViolation) || !strings.Contains(err.Error(), "Config cleanup.policy is not yours to set") {
						t.Errorf("error %v, without the broker's sentence", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				var names []string
				for _, l := range left {
					if names = append(names, l.Config); !strings.Contains(l.String(), "Config "+l.Config+" is not yours to set") {
						t.Errorf("%v lacks the broker's sentence", l)
					}
				}
				if diff := cmp.Diff(test.left, names); diff != "" {
					t.Errorf("left out: %s", diff)
				}
			}
			if test.want != nil {
				if diff := cmp.Diff(test.want, kafkatest.TopicConfigs(t, client, journal.Name)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// Configs that are accepted one by one but not together are left out together.
func TestOwn_configsThatAreRefusedTogether(t *testing.T) {
	cluster := kafkatest.New(t)
	client := kafkatest.Client(t, cluster)
	refuseCreates(cluster, kerr.InvalidConfig, func(_ *kmsg.CreateTopicsRequest, topic kmsg.CreateTopicsRequestTopic) string {
		if len(topic.Configs) > 2 {
			return "too many"
		}
		return ""
	})
	journal := Own{Name: "milena.f.journal", Partitions: 1, SmallSegments: true}
	_, left, err := journal.Create(t.Context(), client, "dr")
	if err != nil || len(left) != 2 {
		t.Errorf("left out %v, error %v", left, err)
	}
	if diff := cmp.Diff(map[string]string{"cleanup.policy": "compact"}, kafkatest.TopicConfigs(t, client, journal.Name)); diff != "" {
		t.Error(diff)
	}
}

// A config of a source topic that the target's policy refuses is left out by a sync, and a preview says so without refusing the topic.
func TestTopics_previewLeavesOutWhatASyncLeavesOut(t *testing.T) {
	test := newTopicsTest(t, nil)
	test.create(test.source, "a", 1, map[string]string{"segment.bytes": "16777216", "retention.ms": "5"})
	refuseCreates(test.target, kerr.PolicyViolation, func(_ *kmsg.CreateTopicsRequest, topic kmsg.CreateTopicsRequestTopic) string {
		if setsConfig(topic, "segment.bytes") {
			return "segment.bytes must be at least 52428800"
		}
		return ""
	})
	pairs, _ := test.selectTopics()
	preview := test.PreviewCreates(t.Context(), pairs, pairs)
	if len(preview.Errors) > 0 || len(preview.LeftOut) != 1 || !strings.Contains(preview.LeftOut[0].String(), "segment.bytes must be at least 52428800") {
		t.Errorf("errors %v, left out %v", preview.Errors, preview.LeftOut)
	}
	if diff := cmp.Diff([]string{"retention.ms=5"}, preview.Configs["primary.a"]); diff != "" {
		t.Error(diff)
	}
	test.createMissing()
	if diff := cmp.Diff(map[string]string{"retention.ms": "5"}, test.dynamic("primary.a")); diff != "" {
		t.Error(diff)
	}
	if log := test.log.String(); !strings.Contains(log, "segment.bytes must be at least 52428800") {
		t.Errorf("the log lacks the broker's sentence: %s", log)
	}
}

// limited is a target that accepts a limited number of topics and partitions in a request, and never one topic.
func limited(test *topicsTest, topics, partitions int) (requests *int) {
	return refuseCreates(test.target, kerr.PolicyViolation, func(request *kmsg.CreateTopicsRequest, topic kmsg.CreateTopicsRequestTopic) string {
		sum := int32(0)
		for _, t := range request.Topics {
			sum += t.NumPartitions
		}
		switch {
		case topic.Topic == "primary.never":
			return "the name never is not allowed"
		case len(request.Topics) > topics || int(sum) > partitions:
			return "Excessively large number of partitions per request."
		}
		return ""
	})
}

// Limits of a request are learned from refusals, and one refused topic does not stop the others.
func TestTopics_limitsOfARequestAreLearned(t *testing.T) {
	for name, limits := range map[string][2]int{"topics": {5, 100_000}, "partitions": {100, 900}, "one topic": {1, 100_000}} {
		t.Run(name, func(t *testing.T) {
			test := newTopicsTest(t, nil)
			for i := range 60 {
				test.create(test.source, fmt.Sprintf("t%d", i), 200, nil)
			}
			test.create(test.source, "never", 1, nil)
			requests := limited(test, limits[0], limits[1])
			pairs, _ := test.selectTopics()
			created, _, errs := test.CreateMissing(t.Context(), pairs)
			if len(created) != 60 {
				t.Errorf("%d topics were created, want 60", len(created))
			}
			wantErrors(t, errs, map[string]string{"primary.never": "the name never is not allowed"})

			// The next topics need no request that is too large.
			for i := range 5 {
				test.create(test.source, fmt.Sprintf("later%d", i), 10, nil)
			}
			*requests = 0
			pairs, _ = test.selectTopics()
			created, _, errs = test.CreateMissing(t.Context(), pairs)
			if len(created) != 5 {
				t.Errorf("%d topics were created, want 5: %v", len(created), errs)
			}
			if n := *requests; n > 6 {
				t.Errorf("%d requests for 5 topics", n)
			}
		})
	}
}

// A topic that is refused alone is not tried again in each sync, and its error is still reported.
func TestTopics_refusedTopicsAreTriedLessOften(t *testing.T) {
	test := newTopicsTest(t, nil)
	test.create(test.source, "never", 1, nil)
	requests := limited(test, 100, 100)
	pairs, _ := test.selectTopics()
	for range 20 {
		_, _, errs := test.CreateMissing(t.Context(), pairs)
		wantErrors(t, errs, map[string]string{"primary.never": "the name never is not allowed"})
	}
	if *requests > 4 {
		t.Errorf("%d requests in 20 syncs", *requests)
	}
}

// The number of new partitions in a request is limited in the same way.
func TestTopics_partitionsAreAddedInParts(t *testing.T) {
	test := newTopicsTest(t, nil)
	for i := range 40 {
		test.create(test.source, fmt.Sprintf("t%d", i), 3, nil)
		test.create(test.target, fmt.Sprintf("primary.t%d", i), 1, nil)
	}
	test.target.ControlKey(int16(kmsg.CreatePartitions), func(r kmsg.Request) (kmsg.Response, error, bool) {
		test.target.KeepControl()
		request := r.(*kmsg.CreatePartitionsRequest)
		if len(request.Topics) <= 5 {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.CreatePartitionsResponse)
		for _, topic := range request.Topics {
			answer := kmsg.NewCreatePartitionsResponseTopic()
			answer.Topic, answer.ErrorCode = topic.Topic, kerr.UnknownServerError.Code
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, true
	})
	if _, grown := test.createMissing(); len(grown) != 40 {
		t.Errorf("%d topics grew, want 40", len(grown))
	}
}

// A topic that retention shortens is no journal.
func TestOwn_checkCompacted(t *testing.T) {
	cluster := kafkatest.New(t)
	client := kafkatest.Client(t, cluster)
	for policy, ok := range map[string]bool{"compact": true, "delete": false, "compact,delete": false} {
		own := Own{Name: "journal-" + strings.ReplaceAll(policy, ",", "-")}
		kafkatest.CreateTopic(t, cluster, own.Name, 1, map[string]string{"cleanup.policy": policy})
		err := own.Check(t.Context(), client, "dr", []string{"kafka:9092"})
		var wrong *NotCompactedError
		if errors.As(err, &wrong) == ok {
			t.Errorf("%s: %v", policy, err)
		}
		const cure = "kafka-configs.sh --bootstrap-server kafka:9092 --alter --entity-type topics --entity-name "
		if !ok && !strings.Contains(err.Error(), cure+own.Name+" --add-config cleanup.policy=compact") {
			t.Errorf("%v has no cure", err)
		}
	}
	if err := (Own{Name: "missing"}).Check(t.Context(), client, "dr", nil); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("a missing topic: %v", err)
	}
}

// A topic in whose record format there are no markers is no journal.
func TestOwn_checkFormat(t *testing.T) {
	for version, old := range map[string]bool{"0.8.2": true, "0.9.0": true, "0.10.2-IV0": true, "0.11.0": false, "1.1-IV0": false, "2.8-IV1": false} {
		cluster := kafkatest.New(t)
		kafkatest.CreateTopic(t, cluster, "journal", 1, map[string]string{"cleanup.policy": "compact"})
		cluster.ControlKey(int16(kmsg.DescribeConfigs), func(request kmsg.Request) (kmsg.Response, error, bool) {
			response := request.ResponseKind().(*kmsg.DescribeConfigsResponse)
			resource := kmsg.NewDescribeConfigsResponseResource()
			resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, "journal"
			for name, value := range map[string]string{"cleanup.policy": "compact", "message.format.version": version} {
				c := kmsg.NewDescribeConfigsResponseResourceConfig()
				c.Name, c.Value, c.Source = name, &value, kmsg.ConfigSourceStaticBrokerConfig
				resource.Configs = append(resource.Configs, c)
			}
			response.Resources = append(response.Resources, resource)
			return response, nil, true
		})
		var wrong *OldFormatError
		if err := (Own{Name: "journal"}).Check(t.Context(), kafkatest.Client(t, cluster), "dr", nil); errors.As(err, &wrong) != old {
			t.Errorf("%s: %v", version, err)
		}
	}
}
