package freeze

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A muted connection ends when its broker closes it, and so within the longest time of all brokers; one that does not say when may never do so.
func TestLongestIdle(t *testing.T) {
	t.Parallel()
	broker := func(values ...string) kmsg.DescribeConfigsResponseResource {
		r := kmsg.NewDescribeConfigsResponseResource()
		for _, v := range values {
			r.Configs = append(r.Configs, kmsg.DescribeConfigsResponseResourceConfig{Name: maxIdle, Value: &v})
		}
		return r
	}
	for want, brokers := range map[time.Duration][]kmsg.DescribeConfigsResponseResource{
		10 * time.Minute: {broker("60000"), broker("600000"), broker("30000")},
		time.Second:      {broker("1000")},
		0:                {broker("600000"), broker()},
	} {
		if got := longestOf(brokers); got != want {
			t.Errorf("%v, not %v", got, want)
		}
	}
	if got := longestOf([]kmsg.DescribeConfigsResponseResource{broker("600000"), broker("-1")}); got != 0 {
		t.Errorf("a broker never closes a connection, and it is %v", got)
	}
}

// Whoever takes a freeze by quotas back is told for how long producers may hang, and what ends that.
func TestMutedText(t *testing.T) {
	t.Parallel()
	if got := (Memory{Method: Quota, IdleSeconds: 600}).Muted(); !strings.Contains(got, "at most 10m0s (connections.max.idle.ms)") {
		t.Error(got)
	}
	if got := (Memory{Method: Quota}).Muted(); strings.Contains(got, "at most") || !strings.Contains(got, "hang") {
		t.Error(got)
	}
	if got := (Memory{Method: ACL}).Muted(); got != "" {
		t.Error(got)
	}
}

// Without what keeps a freeze, it is taken back with Kafka's own tools: what they have to remove is said.
func TestByHand(t *testing.T) {
	t.Parallel()
	rate := 5e6
	for want, m := range map[string]Memory{
		"kafka-acls.sh --remove for DENY WRITE to User:* on orders, payments": {Method: ACL, ACLs: []TopicACLs{
			{Topics: []string{"orders", "payments"}, Create: []Grant{{Deny: true, Operation: "WRITE", Principal: "User:*"}}},
		}},
		"kafka-configs.sh --alter --delete-config producer_byte_rate for default user, default client-id (before: none), user alice, client-id app (before: 5e+06 B/s)": {Method: Quota, Quotas: []EntityQuota{
			{entity("", ""), nil, frozenRate}, {entity("alice", "app"), &rate, frozenRate},
		}},
	} {
		if got := m.ByHand(); got != want {
			t.Errorf("%s\nnot %s", got, want)
		}
	}
}
