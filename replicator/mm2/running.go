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

// DedicatedRuns looks for members of the Connect group that MirrorMaker 2 forms in its dedicated mode.
func DedicatedRuns(ctx context.Context, target *kgo.Client, flow config.Flow) (sign string, err error) {
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
		return "", fmt.Errorf("describe group %s on cluster %s: %w; grant DESCRIBE on it to milena's user, or start with --beside-mirrormaker when MirrorMaker 2 has ended", group, flow.Target, err)
	case err != nil:
		return "", fmt.Errorf("describe group %s on cluster %s: %w", group, flow.Target, err)
	case members > 0:
		return fmt.Sprintf("its group %s on cluster %s has members (%d)", group, flow.Target, members), nil
	}
	return "", nil
}
