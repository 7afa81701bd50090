package freeze

import (
	"cmp"
	"fmt"
	"strings"
)

// ByHand says how a freeze is taken back without what keeps it, for whoever has Kafka's own tools only. It names the first things, as a sentence has room for.
func (m Memory) ByHand() string {
	var list []string
	switch m.Method {
	case ACL:
		for _, of := range m.ACLs {
			for _, g := range of.Create {
				right := "ALLOW"
				if g.Deny {
					right = "DENY"
				}
				list = append(list, fmt.Sprintf("%s %s to %s on %s", right, g.Operation, g.Principal, named(of.Topics)))
			}
		}
		return "kafka-acls.sh --remove for " + strings.Join(list, "; ")
	case Quota:
		for _, q := range m.Quotas {
			list = append(list, fmt.Sprintf("%s (before: %s)", cmp.Or(q.Entity.String(), "all"), rateText(q.Before)))
		}
		return "kafka-configs.sh --alter --delete-config " + produceRate + " for " + named(list)
	case None:
	}
	return "nothing was changed"
}
