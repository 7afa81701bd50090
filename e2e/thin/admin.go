package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *cluster) metadata(request *kmsg.MetadataRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.MetadataResponse)
	response.ClusterID = &c.id
	response.ControllerID = 0
	for i, n := range c.nodes {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = int32(i), n.host, n.port
		response.Brokers = append(response.Brokers, b)
	}
	if request.Topics == nil {
		for _, t := range c.sorted() {
			response.Topics = append(response.Topics, c.topicMetadata(t))
		}
	}
	for _, rt := range request.Topics {
		c.mu.Lock()
		t := c.byID[rt.TopicID]
		if rt.Topic != nil {
			t = c.topics[*rt.Topic]
		}
		c.mu.Unlock()
		if t == nil {
			missing := kmsg.NewMetadataResponseTopic()
			missing.Topic, missing.TopicID, missing.ErrorCode = rt.Topic, rt.TopicID, kerr.UnknownTopicOrPartition.Code
			response.Topics = append(response.Topics, missing)
			continue
		}
		response.Topics = append(response.Topics, c.topicMetadata(t))
	}
	return response
}

func (c *cluster) topicMetadata(t *topic) kmsg.MetadataResponseTopic {
	c.mu.Lock()
	defer c.mu.Unlock()
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID = &t.name, t.id
	for _, p := range t.partitions {
		rp := kmsg.NewMetadataResponseTopicPartition()
		rp.Partition, rp.Leader, rp.LeaderEpoch = p.number, p.leader, 0
		for i := range min(3, len(c.nodes)) {
			rp.Replicas = append(rp.Replicas, (p.leader+int32(i))%int32(len(c.nodes)))
		}
		rp.ISR = rp.Replicas
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

func (c *cluster) createTopics(request *kmsg.CreateTopicsRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.CreateTopicsResponse)
	for _, t := range request.Topics {
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic = t.Topic
		c.mu.Lock()
		exists := c.topics[t.Topic] != nil
		c.mu.Unlock()
		switch {
		case exists:
			rt.ErrorCode = kerr.TopicAlreadyExists.Code
		case !request.ValidateOnly:
			configs := make(map[string]string)
			for _, set := range t.Configs {
				if set.Value != nil {
					configs[set.Name] = *set.Value
				}
			}
			c.create(t.Topic, int(max(1, t.NumPartitions)), configs)
		}
		response.Topics = append(response.Topics, rt)
	}
	return response
}

// describeConfigs answers as many configs per topic as a broker has, in the same order each time.
func (c *cluster) describeConfigs(request *kmsg.DescribeConfigsRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.DescribeConfigsResponse)
	values := map[string]string{
		"cleanup.policy": "delete", "max.message.bytes": "1048588", "min.insync.replicas": "1", "message.timestamp.type": "CreateTime",
		"compression.type": "producer", "retention.ms": "604800000", "delete.retention.ms": "86400000",
	}
	for i := len(values); i < 33; i++ {
		values[fmt.Sprintf("some.other.config.%d", i)] = "9223372036854775807"
	}
	for _, r := range request.Resources {
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		if r.ResourceType == kmsg.ConfigResourceTypeTopic {
			c.mu.Lock()
			t := c.topics[r.ResourceName]
			c.mu.Unlock()
			if t == nil {
				rr.ErrorCode = kerr.UnknownTopicOrPartition.Code
				values = nil
			}
			for _, name := range slices.Sorted(maps.Keys(values)) {
				value := values[name]
				entry := kmsg.NewDescribeConfigsResponseResourceConfig()
				entry.Name, entry.Value, entry.IsDefault, entry.Source = name, &value, true, kmsg.ConfigSourceDefaultConfig
				if own, ok := t.configs[name]; ok {
					entry.Value, entry.IsDefault, entry.Source = &own, false, kmsg.ConfigSourceDynamicTopicConfig
				}
				rr.Configs = append(rr.Configs, entry)
			}
		}
		response.Resources = append(response.Resources, rr)
	}
	return response
}

func (c *cluster) listOffsets(request *kmsg.ListOffsetsRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.ListOffsetsResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range request.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Timestamp, rp.LeaderEpoch = p.Partition, -1, 0
			log := c.find(t.Topic, [16]byte{}, p.Partition)
			switch {
			case log == nil:
				rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			case p.Timestamp == -2:
				rp.Offset = log.start
			default:
				rp.Offset = log.end
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
	}
	return response
}

func (c *cluster) findCoordinator(request *kmsg.FindCoordinatorRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.FindCoordinatorResponse)
	response.NodeID, response.Host, response.Port = 0, c.nodes[0].host, c.nodes[0].port
	for _, key := range request.CoordinatorKeys {
		rc := kmsg.NewFindCoordinatorResponseCoordinator()
		rc.Key, rc.NodeID, rc.Host, rc.Port = key, 0, c.nodes[0].host, c.nodes[0].port
		response.Coordinators = append(response.Coordinators, rc)
	}
	return response
}
