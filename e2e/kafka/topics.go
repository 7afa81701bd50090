package kafka

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopic creates a topic with configs of the form name=value.
func CreateTopic(ctx context.Context, admin *kadm.Client, name string, partitions int, replicationFactor int16, configs ...string) error {
	if _, err := admin.CreateTopic(ctx, int32(partitions), replicationFactor, byName(configs), name); err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	return nil
}

// AssignTopic creates a topic whose partitions have the given replicas, with configs of the form name=value.
func AssignTopic(ctx context.Context, cl *kgo.Client, name string, replicas [][]int32, configs ...string) error {
	request, t := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, -1, -1
	for i, r := range replicas {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(i), r
		t.ReplicaAssignment = append(t.ReplicaAssignment, a)
	}
	for k, v := range byName(configs) {
		set := kmsg.NewCreateTopicsRequestTopicConfig()
		set.Name, set.Value = k, v
		t.Configs = append(t.Configs, set)
	}
	request.Topics = append(request.Topics, t)
	response, err := request.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(response.Topics[0].ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	return nil
}

// byName returns configs of the form name=value by their names.
func byName(configs []string) map[string]*string {
	set := map[string]*string{}
	for _, c := range configs {
		k, v, _ := strings.Cut(c, "=")
		set[k] = &v
	}
	return set
}
