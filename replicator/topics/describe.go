package topics

import (
	"context"
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
)

// describedTopics is what a cluster says about the configs of some topics, not decoded yet: most of the time it is what it said before.
type describedTopics struct {
	cluster  string
	names    []string
	response *undecodedConfigs // nil if the request failed
	err      error             // why
}

// requestTopics requests all configs of some topics, including defaults.
func requestTopics(ctx context.Context, client *kgo.Client, cluster string, names []string) describedTopics {
	d := describedTopics{cluster: cluster, names: names}
	request := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range names {
		resource := kmsg.NewDescribeConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, name
		request.Resources = append(request.Resources, resource)
	}
	answer, err := client.Request(ctx, undecodedConfigsRequest{request})
	if err != nil {
		d.err = err
		return d
	}
	d.response = answer.(*undecodedConfigs)
	return d
}

// decode returns the configs by topic. Each topic is in one of the two results.
func (d *describedTopics) decode() (map[string][]policy.TopicConfig, map[string]error) {
	described, errs := make(map[string][]policy.TopicConfig, len(d.names)), map[string]error{}
	response := kmsg.NewPtrDescribeConfigsResponse()
	err := d.err
	if err == nil {
		response.Version = d.response.Version
		err = response.ReadFrom(d.response.body)
	}
	if err != nil {
		for _, name := range d.names {
			errs[name] = AdminError(d.cluster, "describe configs of", name, err, nil)
		}
		return described, errs
	}
	for _, resource := range response.Resources {
		if err := kerr.ErrorForCode(resource.ErrorCode); err != nil {
			errs[resource.ResourceName] = AdminError(d.cluster, "describe configs of", resource.ResourceName, err, resource.ErrorMessage)
			continue
		}
		configs := make([]policy.TopicConfig, 0, len(resource.Configs))
		for _, c := range resource.Configs {
			config := policy.TopicConfig{Name: c.Name, Dynamic: c.Source == kmsg.ConfigSourceDynamicTopicConfig, Sensitive: c.IsSensitive || c.Value == nil}
			if c.Value != nil {
				config.Value = *c.Value
			}
			configs = append(configs, config)
		}
		described[resource.ResourceName] = configs
	}
	for _, name := range d.names {
		if _, ok := described[name]; !ok && errs[name] == nil {
			errs[name] = AdminError(d.cluster, "describe configs of", name, errors.New("the response does not include the topic"), nil)
		}
	}
	return described, errs
}

// describeTopics returns all configs of some topics, including defaults. Each topic is in one of the two results.
func describeTopics(ctx context.Context, client *kgo.Client, cluster string, names []string) (map[string][]policy.TopicConfig, map[string]error) {
	if len(names) == 0 {
		return map[string][]policy.TopicConfig{}, map[string]error{}
	}
	d := requestTopics(ctx, client, cluster, names)
	return d.decode()
}

// undecodedConfigsRequest is a request for the configs of topics whose response is not decoded.
type undecodedConfigsRequest struct{ *kmsg.DescribeConfigsRequest }

// ResponseKind implements kmsg.Request.
func (r undecodedConfigsRequest) ResponseKind() kmsg.Response {
	return &undecodedConfigs{DescribeConfigsResponse: r.DescribeConfigsRequest.ResponseKind().(*kmsg.DescribeConfigsResponse)}
}

// undecodedConfigs is the response to an undecodedConfigsRequest.
type undecodedConfigs struct {
	*kmsg.DescribeConfigsResponse
	body []byte
}

// throttleBytes is the size of the throttle time, with which the response begins in all versions.
const throttleBytes = 4

// ReadFrom implements kmsg.Response. It decodes only how long the response was throttled, which the client looks at.
func (u *undecodedConfigs) ReadFrom(src []byte) error {
	u.body = src
	b := kbin.Reader{Src: src}
	u.ThrottleMillis = b.Int32()
	return b.Complete()
}

// configSums identify what the target and the source say about the configs of some topics.
type configSums struct{ target, source sum }

// sumConfigs identifies what both clusters say, without the throttle time. It returns no sums if one of them did not answer, which settles nothing.
func sumConfigs(target, source *describedTopics) configSums {
	if target.response == nil || source.response == nil {
		return configSums{}
	}
	return configSums{sumOf(target.response.body[throttleBytes:]), sumOf(source.response.body[throttleBytes:])}
}

// settledConfigs are pairs of responses to which nothing is to be done, with the limits that follow from them. With thousands of topics a pass reads
// 3 KB of each on both sides, and to decode and compare what has not changed costs many times as much as to read it. Which topics a response is
// about is in its bytes.
type settledConfigs struct {
	mu     sync.Mutex
	limits map[configSums]map[string]Limits
}

// maxSettled is how many pairs of responses about the same topics are remembered: each broker may have an order of its own.
const maxSettled = 10

// of returns the limits that follow from a pair of responses, nil if it is not known that nothing is to be done.
func (s *settledConfigs) of(sums configSums) map[string]Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limits[sums]
}

// add remembers a pair of responses. Parts is into how many requests the topics are divided.
func (s *settledConfigs) add(sums configSums, limits map[string]Limits, parts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limits == nil || len(s.limits) >= maxSettled*parts {
		s.limits = make(map[configSums]map[string]Limits, parts)
	}
	s.limits[sums] = limits
}
