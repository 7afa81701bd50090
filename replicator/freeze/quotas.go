package freeze

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceRate is the quota that is changed.
const produceRate = "producer_byte_rate"

// frozenRate is the rate of a frozen producer, in bytes per second. A broker takes no smaller one.
const frozenRate = 1

// exemptRate is milena's rate if it had no quota before, in bytes per second: no limit in practice, and exact as a float64.
const exemptRate = 1e15

// quotasPerRequest limits an AlterClientQuotas request.
const quotasPerRequest = 500

// Entity is whom a quota is for. A nil part is absent, an empty one the default for all that have no quota of their own.
type Entity struct {
	User     *string `json:"user,omitempty"`
	ClientID *string `json:"client_id,omitempty"`
}

func entity(user, clientID string) Entity { return Entity{User: &user, ClientID: &clientID} }

// String is the entity as "user alice, default client-id".
func (e Entity) String() string {
	var parts []string
	for _, part := range []struct {
		kind string
		name *string
	}{{"user", e.User}, {"client-id", e.ClientID}} {
		switch {
		case part.name == nil:
		case *part.name == "":
			parts = append(parts, "default "+part.kind)
		default:
			parts = append(parts, part.kind+" "+*part.name)
		}
	}
	return strings.Join(parts, ", ")
}

func (e Entity) equal(other Entity) bool {
	return equal(e.User, other.User) && equal(e.ClientID, other.ClientID)
}

func equal(a, b *string) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

// EntityQuota is the change of an entity's producer_byte_rate, in bytes per second.
type EntityQuota struct {
	Entity
	// Before is nil if the entity had none.
	Before *float64 `json:"before,omitempty"`
	Frozen float64  `json:"frozen"`
}

// quota is a producer_byte_rate that is set.
type quota struct {
	Entity
	rate float64
}

func find(all []quota, e Entity) *float64 {
	if i := slices.IndexFunc(all, func(q quota) bool { return q.equal(e) }); i >= 0 {
		return &all[i].rate
	}
	return nil
}

// effective returns the rate of a user's client, by the order in which brokers look for one; nil if none is set.
func effective(all []quota, user, clientID string) *float64 {
	fallback := ""
	for _, e := range []Entity{
		{&user, &clientID},
		{&user, &fallback},
		{&user, nil},
		{&fallback, &clientID},
		{&fallback, &fallback},
		{&fallback, nil},
		{nil, &clientID},
		{nil, &fallback},
	} {
		if rate := find(all, e); rate != nil {
			return rate
		}
	}
	return nil
}

// planQuotas plans a freeze by quotas.
func planQuotas(ctx context.Context, client *kgo.Client, o Options, p *Plan) error {
	all, err := describeQuotas(ctx, client)
	if errors.Is(err, kerr.ClusterAuthorizationFailed) {
		p.refuse("rights", "the quotas of cluster %s cannot be read; grant DESCRIBE_CONFIGS and ALTER_CONFIGS on the cluster to milena's user", o.Cluster)
		return nil
	}
	if err != nil {
		return fmt.Errorf("describe client quotas of cluster %s, which needs Kafka 2.6: %w", o.Cluster, err)
	}
	idle, err := longestIdle(ctx, client)
	if err != nil {
		return fmt.Errorf("describe configs of the brokers of cluster %s: %w", o.Cluster, err)
	}
	p.Memory.IdleSeconds = int64(idle.Seconds())
	p.planQuotas(o, all)
	if !p.OK() {
		return nil
	}
	switch err := alterQuotas(ctx, client, p.Memory.Quotas, true); {
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		p.refuse("rights", "milena may not change quotas of cluster %s; grant ALTER_CONFIGS on the cluster to milena's user", o.Cluster)
	case ctx.Err() != nil:
		return err
	case err != nil:
		p.refuse("rights", "cluster %s refuses the quotas: %v", o.Cluster, err)
	default:
		p.ok("rights", "cluster %s would accept the quotas (it was asked to validate them only)", o.Cluster)
	}
	return nil
}

// planQuotas decides which quotas are changed. The default of all users and client ids has precedence over the default of all users and over all
// quotas of client ids, so it alone stops whoever has no quota of a user; those are changed one by one.
func (p *Plan) planQuotas(o Options, all []quota) {
	users := usersOf(o.Principals)
	if slices.Contains(users, "ANONYMOUS") && len(o.ClientIDs) == 0 {
		p.refuse("principal", "all clients that do not log in to cluster %s are User:ANONYMOUS, milena too: name its client ids, so that they are not stopped", o.Cluster)
		return
	}
	everybody := entity("", "")
	p.Memory.Quotas = append(p.Memory.Quotas, EntityQuota{everybody, find(all, everybody), frozenRate})
	p.Memory.exempt(users, o.ClientIDs, all)
	var explicit []string
	for _, q := range all {
		if q.User == nil || q.equal(everybody) || q.ClientID == nil && *q.User == "" || isMilena(q.Entity, users, o.ClientIDs) {
			continue
		}
		explicit = append(explicit, fmt.Sprintf("%s (%g B/s)", q.Entity, q.rate))
		p.Memory.Quotas = append(p.Memory.Quotas, EntityQuota{q.Entity, &q.rate, frozenRate})
	}
	p.ok("quotas", "%s is set to %d B/s for all users and client ids of cluster %s, and instead of each quota of their own: %d", produceRate, frozenRate, o.Cluster, len(explicit))
	if len(explicit) > 0 {
		p.note("quotas of their own are changed too, and put back as they are: %s", named(explicit))
	}
	if len(users) == 0 {
		p.note("milena's principal on cluster %s is not known, so milena is throttled too: also the topics that it keeps there for itself", o.Cluster)
	}
	p.note("quotas are for the whole cluster %s: producers to other topics are stopped too", o.Cluster)
	p.note("a broker appends a request before it throttles: each connection of a producer may write one more, also after it connects again")
	p.note("a transaction that is open when its producer is throttled stays open until its transaction.timeout.ms: the switchover waits for that")
	p.note("after the freeze is taken back, %s", p.Memory.Muted())
}

// Muted says what becomes of the connections of throttled producers once the quotas are put back. It is empty for other freezes.
func (m Memory) Muted() string {
	switch {
	case m.Method != "" && m.Method != Quota:
		return ""
	case m.IdleSeconds > 0:
		return fmt.Sprintf("a producer that stays connected is muted for as long as it was throttled, at most %v (connections.max.idle.ms): start those again that hang", time.Duration(m.IdleSeconds)*time.Second)
	}
	return "a producer that stays connected is muted for as long as it was throttled, minutes for a small record and hours for a full batch: start those again that hang"
}

// exempt gives milena quotas of its own where none of its user has precedence over the defaults. They are the rates that it has.
func (m *Memory) exempt(users, clientIDs []string, all []quota) {
	for _, user := range users {
		if len(clientIDs) == 0 {
			clientIDs = []string{""}
		}
		for _, id := range clientIDs {
			own := entity(user, id)
			if find(all, own) != nil || id == "" && find(all, Entity{User: &user}) != nil {
				continue
			}
			rate := float64(exemptRate)
			if r := effective(all, user, id); r != nil {
				rate = *r
			}
			m.Quotas = append(m.Quotas, EntityQuota{own, nil, rate})
		}
	}
}

// isMilena reports whether a quota of a user is milena's only: it stays as it is. Where milena has client ids, others may log in as its user.
func isMilena(e Entity, users, clientIDs []string) bool {
	if !slices.Contains(users, *e.User) {
		return false
	}
	return len(clientIDs) == 0 || e.ClientID != nil && slices.Contains(clientIDs, *e.ClientID)
}

// usersOf returns the names of principals, by which quotas know them.
func usersOf(principals []string) (users []string) {
	for _, principal := range principals {
		_, name, _ := strings.Cut(principal, ":")
		users = append(users, name)
	}
	return users
}

// describeQuotas returns all producer_byte_rate that are set.
func describeQuotas(ctx context.Context, of kmsg.Requestor) ([]quota, error) {
	response, err := kmsg.NewPtrDescribeClientQuotasRequest().RequestWith(ctx, of)
	if err != nil {
		return nil, err
	}
	if err := codeError(response.ErrorCode, response.ErrorMessage); err != nil {
		return nil, err
	}
	var all []quota
	for _, entry := range response.Entries {
		var e Entity
		known := true
		for _, part := range entry.Entity {
			name := ""
			if part.Name != nil {
				name = *part.Name
			}
			switch part.Type {
			case "user":
				e.User = &name
			case "client-id":
				e.ClientID = &name
			default: // of an address: those are of connections
				known = false
			}
		}
		for _, v := range entry.Values {
			if known && v.Key == produceRate {
				all = append(all, quota{e, v.Value})
			}
		}
	}
	slices.SortFunc(all, func(a, b quota) int { return strings.Compare(a.String(), b.String()) })
	return all, nil
}

// alterQuotas sets the frozen rates, or asks whether it may.
func alterQuotas(ctx context.Context, client *kgo.Client, list []EntityQuota, validateOnly bool) error {
	return sendQuotas(ctx, client, list, validateOnly, func(q EntityQuota) kmsg.AlterClientQuotasRequestEntryOp {
		return quotaOp(&q.Frozen)
	})
}

func quotaOp(rate *float64) kmsg.AlterClientQuotasRequestEntryOp {
	op := kmsg.NewAlterClientQuotasRequestEntryOp()
	if op.Key, op.Remove = produceRate, rate == nil; rate != nil {
		op.Value = *rate
	}
	return op
}

// sendQuotas sends one change of each entity.
func sendQuotas(ctx context.Context, client *kgo.Client, list []EntityQuota, validateOnly bool, change func(EntityQuota) kmsg.AlterClientQuotasRequestEntryOp) error {
	for part := range slices.Chunk(list, quotasPerRequest) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		request := kmsg.NewPtrAlterClientQuotasRequest()
		request.ValidateOnly = validateOnly
		for _, q := range part {
			request.Entries = append(request.Entries, kmsg.AlterClientQuotasRequestEntry{Entity: q.parts(), Ops: []kmsg.AlterClientQuotasRequestEntryOp{change(q)}})
		}
		response, err := request.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		if len(response.Entries) != len(part) {
			return fmt.Errorf("%d results for %d quotas", len(response.Entries), len(part))
		}
		for i, e := range response.Entries {
			if err := codeError(e.ErrorCode, e.ErrorMessage); err != nil {
				return fmt.Errorf("quota of %s: %w", part[i].Entity, err)
			}
		}
	}
	return nil
}

// parts is the entity as requests have it.
func (e Entity) parts() (parts []kmsg.AlterClientQuotasRequestEntryEntity) {
	add := func(kind string, name *string) {
		if name == nil {
			return
		}
		part := kmsg.NewAlterClientQuotasRequestEntryEntity()
		if part.Type = kind; *name != "" {
			part.Name = name
		}
		parts = append(parts, part)
	}
	add("user", e.User)
	add("client-id", e.ClientID)
	return parts
}

// freezeQuotas sets the quotas: first milena's, so that it is not stopped in between.
func freezeQuotas(ctx context.Context, client *kgo.Client, m Memory) error {
	list := slices.Clone(m.Quotas)
	slices.SortStableFunc(list, func(a, b EntityQuota) int { return cmp.Compare(b.Frozen, a.Frozen) })
	if err := alterQuotas(ctx, client, list, false); err != nil {
		return fmt.Errorf("alter client quotas of cluster %s: %w", m.Cluster, err)
	}
	return waitSpread(ctx, client, m.Cluster, func(ctx context.Context, broker kmsg.Requestor) error {
		all, err := describeQuotas(ctx, broker)
		if err != nil {
			return err
		}
		return m.broken("quotas differ:", m.changed(all))
	})
}

// thawQuotas puts back what was before. A quota that somebody changed since stays as it is.
func thawQuotas(ctx context.Context, client *kgo.Client, m Memory) (notes []string, err error) {
	all, err := describeQuotas(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("describe client quotas of cluster %s: %w", m.Cluster, err)
	}
	var list []EntityQuota
	for _, q := range m.Quotas {
		switch now := find(all, q.Entity); {
		case now != nil && *now == q.Frozen:
			list = append(list, q)
		case now == nil && q.Before == nil, now != nil && q.Before != nil && *now == *q.Before:
			list = append(list, q) // the broker that was asked may be behind
		case now == nil:
			notes = append(notes, fmt.Sprintf("somebody removed the quota of %s on cluster %s since; it stays so (before the freeze: %g B/s)", q.Entity, m.Cluster, *q.Before))
		default:
			notes = append(notes, fmt.Sprintf("somebody changed the quota of %s on cluster %s to %g B/s since; it stays so (before the freeze: %s)", q.Entity, m.Cluster, *now, rateText(q.Before)))
		}
	}
	slices.SortStableFunc(list, func(a, b EntityQuota) int { return cmp.Compare(a.Frozen, b.Frozen) }) // milena's last
	err = sendQuotas(ctx, client, list, false, func(q EntityQuota) kmsg.AlterClientQuotasRequestEntryOp { return quotaOp(q.Before) })
	if err != nil {
		return notes, fmt.Errorf("alter client quotas of cluster %s: %w", m.Cluster, err)
	}
	return notes, nil
}

func rateText(rate *float64) string {
	if rate == nil {
		return "none"
	}
	return fmt.Sprintf("%g B/s", *rate)
}

// quotasHold checks that all quotas are in force, and that no other has precedence over them.
func quotasHold(ctx context.Context, client *kgo.Client, m Memory) error {
	all, err := describeQuotas(ctx, client)
	if err != nil {
		return fmt.Errorf("describe client quotas of cluster %s: %w", m.Cluster, err)
	}
	broken := m.changed(all)
	for _, q := range all {
		if m.overrides(q) {
			broken = append(broken, fmt.Sprintf("%s has %g B/s", q.Entity, q.rate))
		}
	}
	return m.broken("somebody changed quotas since:", broken)
}

// changed says which entities do not have the rate of the freeze.
func (m Memory) changed(all []quota) (changed []string) {
	for _, q := range m.Quotas {
		if now := find(all, q.Entity); now == nil || *now != q.Frozen {
			changed = append(changed, fmt.Sprintf("%s has %s", q.Entity, rateText(now)))
		}
	}
	return changed
}

// overrides reports whether a quota that the freeze does not have lets somebody but milena write.
func (m Memory) overrides(q quota) bool {
	if q.User == nil || q.ClientID == nil && *q.User == "" || q.rate <= frozenRate {
		return false
	}
	ours := slices.ContainsFunc(m.Quotas, func(f EntityQuota) bool { return f.equal(q.Entity) })
	return !ours && !isMilena(q.Entity, usersOf(m.Principals), m.ClientIDs)
}
