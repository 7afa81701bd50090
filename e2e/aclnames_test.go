package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// resourceTypes are the types of resources by their names in the ACLs of tests.
var resourceTypes = map[string]kmsg.ACLResourceType{
	"topic": kmsg.ACLResourceTypeTopic, "group": kmsg.ACLResourceTypeGroup, "cluster": kmsg.ACLResourceTypeCluster, "txn": kmsg.ACLResourceTypeTransactionalId,
}

// createACLs creates ACLs such as "ALLOW READ alice topic orders", and waits until the cluster lists them. A + after the name makes it a prefix.
func createACLs(t *testing.T, admin *kgo.Client, texts ...string) {
	t.Helper()
	request := kmsg.NewPtrCreateACLsRequest()
	for _, text := range texts {
		words := strings.Fields(text)
		operation, err := kmsg.ParseACLOperation(words[1])
		check(t, err)
		c := kmsg.NewCreateACLsRequestCreation()
		name, prefixed := strings.CutSuffix(words[4], "+")
		c.ResourceType, c.ResourceName, c.ResourcePatternType = resourceTypes[words[3]], name, kmsg.ACLResourcePatternTypeLiteral
		if prefixed {
			c.ResourcePatternType = kmsg.ACLResourcePatternTypePrefixed
		}
		c.Principal, c.Host, c.Operation, c.PermissionType = "User:"+words[2], "*", operation, kmsg.ACLPermissionTypeAllow
		if words[0] == "DENY" {
			c.PermissionType = kmsg.ACLPermissionTypeDeny
		}
		request.Creations = append(request.Creations, c)
	}
	answer, err := request.RequestWith(t.Context(), admin)
	check(t, err)
	for i, r := range answer.Results {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			t.Fatalf("%s: %v", texts[i], err)
		}
	}
	eventually(t, 10*time.Second, "the cluster lists the new ACLs", func() (bool, string) {
		all := describeACLs(t, admin)
		missing := slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return slices.Contains(all, text) })
		return len(missing) == 0, strings.Join(missing, ", ")
	})
}

// describeACLs are all ACLs of a cluster, of all resource types, in the format of createACLs, sorted.
func describeACLs(t *testing.T, admin *kgo.Client) []string {
	t.Helper()
	request := kmsg.NewPtrDescribeACLsRequest()
	request.ResourceType, request.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	request.Operation, request.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	answer, err := request.RequestWith(t.Context(), admin)
	check(t, err)
	check(t, kerr.ErrorForCode(answer.ErrorCode))
	var all []string
	for _, r := range answer.Resources {
		kind := strings.ToLower(r.ResourceType.String())
		for word, of := range resourceTypes {
			if of == r.ResourceType {
				kind = word
			}
		}
		name := r.ResourceName
		if r.ResourcePatternType == kmsg.ACLResourcePatternTypePrefixed {
			name += "+"
		}
		for _, b := range r.ACLs {
			all = append(all, fmt.Sprintf("%s %s %s %s %s", b.PermissionType, b.Operation, strings.TrimPrefix(b.Principal, "User:"), kind, name))
		}
	}
	slices.Sort(all)
	return all
}

// deleteACLs deletes all ACLs of a user for topics.
func deleteACLs(t *testing.T, admin *kgo.Client, saslClient string) {
	t.Helper()
	request := kmsg.NewPtrDeleteACLsRequest()
	f := kmsg.NewDeleteACLsRequestFilter()
	f.ResourceType, f.ResourcePatternType, f.Principal = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeAny, kmsg.StringPtr("User:"+saslClient)
	f.Operation, f.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	request.Filters = append(request.Filters, f)
	answer, err := request.RequestWith(t.Context(), admin)
	check(t, err)
	check(t, kerr.ErrorForCode(answer.Results[0].ErrorCode))
}

// withChanges is base without the removed and with the added ACLs, sorted and each once.
func withChanges(base, removed, added []string) []string {
	all := slices.Concat(base, added)
	all = slices.DeleteFunc(all, func(s string) bool { return slices.Contains(removed, s) })
	slices.Sort(all)
	return slices.Compact(all)
}
