package recovery

import (
	"fmt"
	"slices"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
)

// clientsOf is what clients change after they have moved from the source of a flow to its target.
func clientsOf(c client.Clusters, reverse *client.Clusters) *Clients {
	moved := &Clients{Cluster: c.Flow.Target, Brokers: c.Target.Brokers}
	switch c.Flow.Naming {
	case config.NamingPrefix:
		moved.Topics = append(moved.Topics, fmt.Sprintf("consumers read %s%sTOPIC, and TOPIC itself for what is written on %s from now on", c.Flow.Source, c.Flow.Separator, c.Flow.Target))
		moved.Topics = append(moved.Topics, fmt.Sprintf("producers write to TOPIC on %s", c.Flow.Target))
		if reverse != nil && reverse.Flow.Naming == config.NamingPrefix {
			moved.Topics = append(moved.Topics, fmt.Sprintf("groups that read %s%sTOPIC on %s continue in TOPIC on %s, if groups_back of flow %s has them", c.Flow.Target, reverse.Flow.Separator, c.Flow.Source, c.Flow.Target, c.Flow.Name))
		}
	case config.NamingIdentity:
		moved.Topics = append(moved.Topics, "topics have the same names")
	case config.NamingRename:
		for source, target := range c.Flow.Rename {
			moved.Topics = append(moved.Topics, fmt.Sprintf("%s is called %s", source, target))
		}
		slices.Sort(moved.Topics)
	}
	return moved
}
