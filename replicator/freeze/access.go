package freeze

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
)

// everyone is the principal that stands for all.
const everyone = "User:*"

// access is what is known of who may do what with the topics of a cluster.
type access struct {
	bindings   []policy.ACL
	literal    map[string][]policy.ACL // by topic, `*` for all
	prefixed   []policy.ACL
	principals []string         // milena's
	rights     map[string]int32 // of milena, by topic, as bits of operations; a topic is missing if the brokers do not tell
	hidden     bool             // whether brokers may have allow.everyone.if.no.acl.found=true
	open       answer           // whether they have
	whole      bool             // whether nobody needs to write, so that WRITE can be denied to everyone
}

func newAccess(bindings []policy.ACL, principals []string) *access {
	a := &access{bindings: bindings, literal: map[string][]policy.ACL{}, principals: principals, rights: map[string]int32{}}
	for _, b := range bindings {
		if b.Prefixed {
			a.prefixed = append(a.prefixed, b)
			continue
		}
		a.literal[b.Name] = append(a.literal[b.Name], b)
	}
	return a
}

// covering returns the bindings that apply to a topic.
func (a *access) covering(topic string) []policy.ACL {
	all := slices.Concat(a.literal[topic], a.literal["*"])
	for _, b := range a.prefixed {
		if strings.HasPrefix(topic, b.Name) {
			all = append(all, b)
		}
	}
	return all
}

// writers returns the principals, without milena's, that an ACL allows to write to a topic from any host, sorted.
func (a *access) writers(topic string) []string {
	var all []string
	for _, b := range a.covering(topic) {
		if !b.Deny && (b.Operation == "WRITE" || b.Operation == "ALL") && !slices.Contains(a.principals, b.Principal) {
			all = append(all, b.Principal)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// answer is yes, no, or unknown.
type answer int

const (
	unknown answer = iota
	yes
	no
)

// topicOperations are the operations that a topic has.
func topicOperations() []kmsg.ACLOperation {
	return []kmsg.ACLOperation{
		kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationCreate, kmsg.ACLOperationDelete, kmsg.ACLOperationAlter,
		kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs,
	}
}

// granted returns the operations on a topic that ACLs allow milena, from any host and whatever is denied.
func (a *access) granted(topic string) (bits int32) {
	for _, b := range a.covering(topic) {
		if b.Deny || b.Principal != everyone && !slices.Contains(a.principals, b.Principal) {
			continue
		}
		if b.Operation == "ALL" {
			return math.MaxInt32
		}
		operation, _ := kmsg.ParseACLOperation(b.Operation)
		bits |= 1 << operation
		switch b.Operation { // what it implies: KIP-253
		case "READ", "WRITE", "DELETE", "ALTER":
			bits |= 1 << kmsg.ACLOperationDescribe
		case "ALTER_CONFIGS":
			bits |= 1 << kmsg.ACLOperationDescribeConfigs
		}
	}
	return bits
}

// superUser reports whether milena is a super user. Who may do what no ACL allows is one; who lacks an operation is none. Only topics with ACLs
// tell: without one, everyone may be allowed everything.
func (a *access) superUser() answer {
	if len(a.principals) == 0 {
		return unknown
	}
	result := unknown
	for topic, rights := range a.rights {
		if len(a.covering(topic)) == 0 {
			continue
		}
		if rights&^a.granted(topic) != 0 {
			return yes
		}
		for _, operation := range topicOperations() {
			if rights&(1<<operation) == 0 {
				result = no
			}
		}
	}
	return result
}

// everyoneAllowed reports whether everyone is allowed everything on topics that no ACL applies to. Milena's own rights on one tell, unless it is a
// super user.
func (a *access) everyoneAllowed(superUser answer) answer {
	if !a.hidden {
		return no
	}
	if superUser != no {
		return unknown
	}
	for topic, rights := range a.rights {
		if len(a.covering(topic)) == 0 {
			if rights != 0 {
				return yes
			}
			return no
		}
	}
	return unknown
}

// Grant is an ACL binding of a topic for any host.
type Grant struct {
	Deny      bool   `json:"deny,omitempty"`
	Operation string `json:"operation"`
	Principal string `json:"principal"`
}

// on is the binding of the grant on a topic, always of that name only.
func (g Grant) on(topic string) policy.ACL {
	return policy.ACL{Name: topic, Principal: g.Principal, Host: "*", Operation: g.Operation, Deny: g.Deny}
}

// TopicACLs are the ACLs that freeze some topics.
type TopicACLs struct {
	Topics []string `json:"topics"`
	// Create are created by Freeze and deleted by Thaw. Found exist already; they belong to the freeze and stay.
	Create []Grant `json:"create,omitempty"`
	Found  []Grant `json:"found,omitempty"`
}

// freezeWhole returns the grants that take away WRITE from everyone.
func (a *access) freezeWhole(topic string) []Grant {
	deny := Grant{Deny: true, Operation: "WRITE", Principal: everyone}
	if a.open == yes && len(a.covering(topic)) == 0 { // without the first, the second would take away everything
		return []Grant{{Operation: "ALL", Principal: everyone}, deny}
	}
	return []Grant{deny}
}

// freezeExcept returns the grants that take away WRITE from everyone but milena. They deny it to all who have it; where all have it because there
// is no ACL, they allow everything else instead.
func (a *access) freezeExcept(topic string) []Grant {
	var grants []Grant
	if len(a.covering(topic)) > 0 || a.open != yes {
		for _, principal := range a.writers(topic) {
			grants = append(grants, Grant{Deny: true, Operation: "WRITE", Principal: principal})
		}
		return grants
	}
	for _, operation := range topicOperations() {
		if operation != kmsg.ACLOperationWrite {
			grants = append(grants, Grant{Operation: operation.String(), Principal: everyone})
		}
	}
	for _, principal := range a.principals {
		grants = append(grants, Grant{Operation: "WRITE", Principal: principal})
	}
	return grants
}

// divide divides grants on a topic into those to create and those that exist.
func (a *access) divide(topic string, grants []Grant) TopicACLs {
	t := TopicACLs{Topics: []string{topic}}
	for _, g := range grants {
		if slices.Contains(a.literal[topic], g.on(topic)) {
			t.Found = append(t.Found, g)
			continue
		}
		t.Create = append(t.Create, g)
	}
	return t
}

// merge puts topics with the same grants together, so that the memory of many topics and principals stays small.
func merge(all []TopicACLs) []TopicACLs {
	var merged []TopicACLs
	index := map[string]int{}
	for _, t := range all {
		key := keyOf(t.Create) + "|" + keyOf(t.Found)
		i, ok := index[key]
		if !ok {
			index[key] = len(merged)
			merged = append(merged, t)
			continue
		}
		merged[i].Topics = append(merged[i].Topics, t.Topics...)
	}
	slices.SortFunc(merged, func(a, b TopicACLs) int { return cmp.Compare(a.Topics[0], b.Topics[0]) })
	return merged
}

func keyOf(grants []Grant) string {
	var key strings.Builder
	for _, g := range grants {
		key.WriteString(g.on("").String() + "\n")
	}
	return key.String()
}
