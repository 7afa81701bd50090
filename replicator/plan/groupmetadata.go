package plan

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
)

// metadataLimit is the brokers' config of how much metadata a committed offset may have.
const metadataLimit = "offset.metadata.max.bytes"

// checkGroupMetadata warns of groups whose committed offsets have more metadata than the target accepts. They are not moved there.
func (c *check) checkGroupMetadata(ctx context.Context, selected []kadm.ListedGroup) {
	most := c.brokerConfig(ctx, metadataLimit)
	if most <= 0 {
		return
	}
	longest := make(map[string]int)
	for some := range slices.Chunk(selected, groupsPerRequest) {
		names := make([]string, 0, len(some))
		for _, g := range some {
			names = append(names, g.Group)
		}
		for group, fetched := range kadm.NewClient(c.sourceClient).FetchManyOffsets(ctx, names...) {
			fetched.Fetched.Each(func(o kadm.OffsetResponse) {
				if name, _ := c.topics.Rules.Target(o.Topic); name != "" && o.Err == nil && len(o.Metadata) > most {
					longest[group] = max(longest[group], len(o.Metadata))
				}
			})
		}
	}
	groups := slices.Sorted(maps.Keys(longest))
	for _, group := range groups[:min(groupsShown, len(groups))] {
		c.warn("group %s on cluster %s has committed an offset with %d bytes of metadata, and cluster %s accepts %d, so that the group is not moved there: raise %s in its brokers' server.properties, or shorten what the consumers commit",
			group, c.flow.Source, longest[group], c.flow.Target, most, metadataLimit)
	}
	if n := len(groups) - groupsShown; n > 0 {
		c.warn("%s on cluster %s have more metadata than cluster %s accepts", counted(n, "more group"), c.flow.Source, c.flow.Target)
	}
}

// brokerConfig is a number in the configs of a broker of the target, 0 if it is not known.
func (c *check) brokerConfig(ctx context.Context, name string) int {
	for id := range c.target.Brokers {
		described, err := kadm.NewClient(c.targetClient).DescribeBrokerConfigs(ctx, id)
		if err != nil {
			return 0
		}
		for _, resource := range described {
			for _, config := range resource.Configs {
				if n, err := strconv.Atoi(config.MaybeValue()); err == nil && config.Key == name {
					return n
				}
			}
		}
		return 0
	}
	return 0
}
