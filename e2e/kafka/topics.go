package kafka

import (
	"context"
	"fmt"
	"strings"
	"time"

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

// WaitWhole waits, for about two minutes, until every partition of a cluster has a leader and all of its replicas in sync.
func WaitWhole(ctx context.Context, admin *kadm.Client, name string) error {
	var state string
	for range 600 {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		topics, err := admin.ListTopicsWithInternal(short)
		cancel()
		state = fmt.Sprint(err)
		whole := err == nil
		for _, detail := range topics {
			for _, p := range detail.Partitions {
				if p.Err != nil || p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
					whole, state = false, fmt.Sprintf("%s[%d]: leader %d, in sync %v of %v, %v", p.Topic, p.Partition, p.Leader, p.ISR, p.Replicas, p.Err)
				}
			}
		}
		if whole {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("cluster %s is not whole again: %s", name, state)
}
