package plan

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
)

// examineQuotas looks for the quotas that apply to milena, as brokers choose them: of those that match user and client id, the most specific one.
func (d *doctor) examineQuotas(ctx context.Context) {
	for _, s := range d.on {
		if !s.knows(kmsg.DescribeClientQuotas) {
			continue // before 2.6
		}
		all, err := kadm.NewClient(s.client).DescribeClientQuotas(ctx, false, nil)
		if err != nil {
			d.notExamined(s, fmt.Sprintf("which quotas of cluster %s apply to milena", s.alias), "DESCRIBE_CONFIGS on the cluster", err)
			continue
		}
		for _, q := range applying(all, userOf(s.config), cmp.Or(s.config.ClientID, "milena")) {
			d.add(Finding{
				ID: Quota, Severity: SeverityNote, Cluster: s.alias,
				Meaning: fmt.Sprintf("%s=%v of %s applies to milena: brokers delay it beyond that.", q.key, q.value, q.entity),
				Mend:    "If the flow must be faster, raise the quota, give milena's user one of its own, or remove it:",
				Command: tool("kafka-configs.sh", s.config, "--alter --delete-config "+q.key+entityFlags(q.entity)),
			})
		}
	}
}

// userOf is the name of milena's user on a cluster as brokers know it, empty if only they do.
func userOf(c config.Cluster) string {
	switch {
	case c.SASL != nil:
		return c.SASL.Username // of PLAIN and SCRAM
	case c.TLS != nil && (c.TLS.Cert != "" || c.TLS.CertFile != ""):
		return "" // it follows from the certificate by rules of the brokers
	}
	return "ANONYMOUS"
}

// quota is one limit, and whom it is for.
type quota struct {
	key    string
	value  float64
	entity kadm.ClientQuotaEntity
}

// applying returns the quotas that brokers choose for a user and a client id, sorted by key. With an empty user, those of named users do not count.
func applying(all kadm.DescribedClientQuotas, user, id string) []quota {
	best, rank := make(map[string]quota), make(map[string]int)
	for _, q := range all {
		r, ok := precedence(q.Entity, user, id)
		if !ok {
			continue
		}
		for _, v := range q.Values {
			if before, known := rank[v.Key]; !known || r < before {
				rank[v.Key], best[v.Key] = r, quota{v.Key, v.Value, q.Entity}
			}
		}
	}
	var chosen []quota
	for _, q := range best {
		chosen = append(chosen, q)
	}
	slices.SortFunc(chosen, func(a, b quota) int { return strings.Compare(a.key, b.key) })
	return chosen
}

// precedence is the rank of an entity among those that match a user and a client id, the lowest first, in the order of Kafka's documentation. It returns
// false for one that does not match, or that is about addresses.
func precedence(entity kadm.ClientQuotaEntity, user, id string) (rank int, ok bool) {
	const named, byDefault, absent = 0, 1, 2
	kinds := map[string]int{"user": absent, "client-id": absent}
	for _, component := range entity {
		own := map[string]string{"user": user, "client-id": id}[component.Type]
		switch {
		case component.Type != "user" && component.Type != "client-id":
			return 0, false
		case component.Name == nil:
			kinds[component.Type] = byDefault
		case *component.Name == own:
			kinds[component.Type] = named
		default:
			return 0, false
		}
	}
	if kinds["user"] == absent && kinds["client-id"] == absent {
		return 0, false
	}
	return 3*kinds["user"] + kinds["client-id"], true
}

// entityFlags are the flags of kafka-configs.sh that name an entity.
func entityFlags(entity kadm.ClientQuotaEntity) string {
	flags := ""
	for _, component := range entity {
		kind := map[string]string{"user": "users", "client-id": "clients"}[component.Type]
		flags += " --entity-type " + kind
		if component.Name == nil {
			flags += " --entity-default"
		} else {
			flags += " --entity-name " + word(*component.Name)
		}
	}
	return flags
}
