package mm2

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
)

// DedicatedRuns returns evidence that a MirrorMaker 2 in dedicated mode runs: the Connect group that it forms has members. Evidence is a clause
// for messages, empty if the group has none. A worker that was killed stays a member until its session times out.
func DedicatedRuns(ctx context.Context, target *kgo.Client, flow config.Flow) (evidence string, err error) {
	group := flow.Source + "-mm2"
	described, err := kadm.NewClient(target).DescribeGroups(ctx, group)
	var shards *kadm.ShardErrors
	if errors.As(err, &shards) && len(shards.Errs) > 0 {
		err = shards.Errs[0].Err
	}
	if err == nil {
		err = described[group].Err
	}
	switch members := len(described[group].Members); {
	case errors.Is(err, kerr.GroupIDNotFound):
		return "", nil
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return "", fmt.Errorf("describe group %s on cluster %s: %w; grant DESCRIBE on the group to milena's user, or stop MirrorMaker 2 and start with --beside-mirrormaker", group, flow.Target, err)
	case err != nil:
		return "", fmt.Errorf("describe group %s on cluster %s: %w", group, flow.Target, err)
	case members == 1:
		return fmt.Sprintf("its group %s on cluster %s has 1 member", group, flow.Target), nil
	case members > 1:
		return fmt.Sprintf("its group %s on cluster %s has %d members", group, flow.Target, members), nil
	}
	return "", nil
}
